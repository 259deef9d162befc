//! The text form of 32-byte values: 64 lower-case hex digits, one spelling only.

/// Why a text is not a 32-byte value in lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 lower-case hex digits, found {found} characters or another alphabet")]
pub struct HexError {
    /// Length of the text, in bytes.
    pub found: usize,
}

pub(crate) fn decode32(text: &str) -> Result<[u8; 32], HexError> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return Err(HexError { found: text.len() });
    }
    data_encoding::HEXLOWER
        .decode_mut(text.as_bytes(), &mut bytes)
        .map_err(|_| HexError { found: text.len() })?;
    Ok(bytes)
}

pub(crate) fn encode32(bytes: &[u8; 32], buffer: &mut [u8; 64]) {
    data_encoding::HEXLOWER.encode_mut(bytes, buffer);
}

/// Gives a `struct Name([u8; 32])` its constructor, text form, ordering helpers and serde form.
macro_rules! impl_hex32 {
    ($name:ident) => {
        impl $name {
            /// The value of these 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight hex digits, for people.
            pub fn short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::hex::HexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::hex::decode32(text).map(Self)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut buffer = [0; 64];
                $crate::hex::encode32(&self.0, &mut buffer);
                f.pad(std::str::from_utf8(&buffer).expect("hex digits are ASCII"))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        $crate::serde_text::impl_serde_text!($name);
    };
}

pub(crate) use impl_hex32;
