//! Field types that are bounded while they are read: lists by count, text and blobs by length, objects by being objects.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::limits::MAX_BLOB;

/// `deserialize_with` for a list of at most `MAX` entries; the first one too many is an error before it is parsed.
pub(crate) fn list<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    filtered::<MAX, T, T, D>(deserializer, Some)
}

/// A list of at most `MAX` entries, of which only those are kept that `keep` makes something of: what is dropped never
/// takes room, however short it was.
pub(crate) fn filtered<'de, const MAX: usize, T, U, D>(
    deserializer: D,
    keep: fn(T) -> Option<U>,
) -> Result<Vec<U>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Visitor<T, U, const MAX: usize>(fn(T) -> Option<U>);

    impl<'de, T: Deserialize<'de>, U, const MAX: usize> de::Visitor<'de> for Visitor<T, U, MAX> {
        type Value = Vec<U>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX} entries")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<U>, A::Error> {
            let mut entries = Vec::new();
            for _ in 0..MAX {
                match seq.next_element()? {
                    Some(entry) => entries.extend((self.0)(entry)),
                    None => return Ok(entries),
                }
            }
            match seq.next_element::<TooMany>() {
                Ok(None) => Ok(entries),
                _ => Err(de::Error::invalid_length(MAX + 1, &self)),
            }
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<Vec<U>, E> {
            Err(string_instead_of(&self))
        }
    }

    /// Fails on sight, so that an entry beyond the limit costs nothing.
    struct TooMany;

    impl<'de> Deserialize<'de> for TooMany {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(de::Error::custom("too many entries"))
        }
    }

    deserializer.deserialize_any(Visitor::<T, U, MAX>(keep))
}

/// The error for a string where something else belongs. The one that serde makes quotes the string: up to 18 times its
/// length while it is written, and the peer's words in our log. It is made before a visitor is asked unless the visitor
/// asks for `any`, which is why the visitors here do.
pub(crate) fn string_instead_of<E: de::Error>(expected: &dyn de::Expected) -> E {
    E::invalid_type(de::Unexpected::Other("string"), expected)
}

/// `deserialize_with` for a struct that must be spelled as a JSON object. Derived code alone also takes an array of the
/// values in the order of the fields, which no other implementation would.
pub(crate) fn object<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Visitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(de::value::MapAccessDeserializer::new(map))
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<T, E> {
            Err(string_instead_of(&self))
        }
    }

    deserializer.deserialize_any(Visitor(PhantomData))
}

/// A `T` read by [`object`], where a type is called for and not a function: as an entry of a list, in an `Option`.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer).map(Self)
    }
}

/// A text of at most `MAX` bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<const MAX: usize>(Box<str>);

impl<const MAX: usize> Text<MAX> {
    /// The text, cut at a character boundary if it is longer than `MAX` bytes.
    pub fn cut(text: &str) -> Self {
        Self(text[..text.floor_char_boundary(MAX)].into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> std::str::FromStr for Text<MAX> {
    type Err = TextTooLong;

    fn from_str(text: &str) -> Result<Self, TextTooLong> {
        if text.len() > MAX {
            return Err(TextTooLong { found: text.len(), limit: MAX });
        }
        Ok(Self(text.into()))
    }
}

/// A text above its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("text has {found} bytes, more than {limit}")]
pub struct TextTooLong {
    /// Length of the text in bytes.
    pub found: usize,
    /// The limit in bytes.
    pub limit: usize,
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::serde_text::deserialize(deserializer)
    }
}

/// Bytes of at most [`MAX_BLOB`], written in base64 (standard alphabet, padding, no stray trailing bits): public keys
/// and signatures.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Blob(Box<[u8]>);

impl Blob {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes that are no [`Blob`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// More bytes than [`MAX_BLOB`].
    #[error("{0} bytes, more than {MAX_BLOB}")]
    TooLong(usize),
    /// Text that is not base64.
    #[error("not base64 with padding")]
    Base64,
}

impl TryFrom<&[u8]> for Blob {
    type Error = BlobError;

    fn try_from(bytes: &[u8]) -> Result<Self, BlobError> {
        if bytes.len() > MAX_BLOB {
            return Err(BlobError::TooLong(bytes.len()));
        }
        Ok(Self(bytes.into()))
    }
}

impl std::str::FromStr for Blob {
    type Err = BlobError;

    fn from_str(text: &str) -> Result<Self, BlobError> {
        if text.len() > MAX_BLOB.div_ceil(3) * 4 {
            return Err(BlobError::TooLong(text.len() / 4 * 3));
        }
        // The decoder takes several padded texts in a row; only the end may be padded.
        if text.trim_end_matches('=').contains('=') {
            return Err(BlobError::Base64);
        }
        let bytes = data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| BlobError::Base64)?;
        Self::try_from(bytes.as_slice())
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        data_encoding::BASE64.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

crate::serde_text::impl_serde_text!(Blob);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Three(#[serde(deserialize_with = "list::<3, _, _>")] Vec<u8>);

    #[test]
    fn a_list_may_be_full_but_not_longer() {
        assert_eq!(serde_json::from_str::<Three>("[1,2,3]").unwrap().0, [1, 2, 3]);
        assert!(serde_json::from_str::<Three>("[1,2,3,4]").is_err());
    }

    #[test]
    fn what_a_list_does_not_keep_still_counts() {
        fn odd<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
            filtered::<3, u8, u8, D>(deserializer, |number| (number % 2 == 1).then_some(number))
        }

        #[derive(Deserialize)]
        struct Odd(#[serde(deserialize_with = "odd")] Vec<u8>);

        assert_eq!(serde_json::from_str::<Odd>("[1,2,3]").unwrap().0, [1, 3]);
        assert!(serde_json::from_str::<Odd>("[2,2,2,2]").is_err());
    }

    #[test]
    fn a_string_where_none_belongs_is_refused_without_its_words() {
        for error in [
            serde_json::from_str::<Three>(r#""secret""#).map(drop).unwrap_err(),
            serde_json::from_str::<Object<Three>>(r#""secret""#).map(drop).unwrap_err(),
            serde_json::from_str::<crate::Height>(r#""secret""#).map(drop).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(
                error.starts_with("invalid type: string, expected a") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_object_is_no_array_of_its_values() {
        #[derive(Deserialize)]
        struct Point {
            x: u8,
            y: u8,
        }
        let Object(point) = serde_json::from_str::<Object<Point>>("{\"y\":2,\"x\":1}").unwrap();
        assert_eq!((point.x, point.y), (1, 2));
        assert!(serde_json::from_str::<Object<Point>>("[1,2]").is_err());
    }

    #[test]
    fn blobs_have_one_spelling() {
        assert_eq!("AQI=".parse::<Blob>().unwrap().as_bytes(), [1, 2]);
        for text in ["AQI", "AQJ=", "AQI=\n", "-_-_", "AQI=AQI=", "===="] {
            assert!(text.parse::<Blob>().is_err(), "{text}");
        }
        assert!("A".repeat(4 * MAX_BLOB).parse::<Blob>().is_err());
    }

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(Text::<3>::cut("aéé").as_str(), "aé");
        assert!("abcd".parse::<Text<3>>().is_err());
    }
}
