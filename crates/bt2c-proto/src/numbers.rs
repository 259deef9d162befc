//! Integers of the wire: 0 to 2^53−1 in plain digits, so that every JSON library reads the same value.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{bounded::string_instead_of, limits::MAX_INTEGER};

/// A block's height; the genesis block has height 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Height(u64);

impl Height {
    /// The height of the genesis block.
    pub const GENESIS: Self = Self(0);

    /// The height as a wire integer, capped at 2^53−1.
    pub const fn new(value: u64) -> Self {
        Self(if value > MAX_INTEGER { MAX_INTEGER } else { value })
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The height `count` above, capped at 2^53−1.
    pub const fn saturating_add(self, count: u64) -> Self {
        Self::new(self.0.saturating_add(count))
    }

    /// The height `count` below, at least 0.
    pub const fn saturating_sub(self, count: u64) -> Self {
        Self(self.0.saturating_sub(count))
    }

    /// The height one above.
    pub const fn next(self) -> Self {
        self.saturating_add(1)
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Height {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Height {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        integer(deserializer).map(Self)
    }
}

/// A wire integer where a type is called for and not a function, as in an `Option`.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct WireInteger(#[serde(deserialize_with = "integer")] pub(crate) u64);

/// `deserialize_with` for a wire integer.
pub(crate) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an integer from 0 to 2^53-1")
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
            if value > MAX_INTEGER {
                return Err(E::custom(format_args!("integer {value} is above 2^53-1")));
            }
            Ok(value)
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<u64, E> {
            Err(string_instead_of(&self))
        }
    }

    deserializer.deserialize_any(Visitor)
}

/// `deserialize_with` for an optional wire integer, of a narrower type if need be.
pub(crate) fn narrow<'de, T: TryFrom<u64>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let Some(WireInteger(value)) = Option::deserialize(deserializer)? else { return Ok(None) };
    T::try_from(value).map(Some).map_err(|_| de::Error::custom(format_args!("integer {value} is too large")))
}

/// `deserialize_with` for `true` or `false`; null reads as `false`.
pub(crate) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_unit<E: de::Error>(self) -> Result<bool, E> {
            Ok(false)
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<bool, E> {
            Err(string_instead_of(&self))
        }
    }

    deserializer.deserialize_any(Visitor)
}

/// `deserialize_with` for an envelope's advisory timestamp: whole seconds, or a float that is cut to them.
pub(crate) fn lenient_timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("seconds since the Unix epoch")
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
            if value > MAX_INTEGER {
                return Err(E::custom("timestamp is above 2^53-1"));
            }
            Ok(Some(value))
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
            // 2^53, the first value outside; exactly representable.
            if !(0.0..9_007_199_254_740_992.0).contains(&value) {
                return Err(E::custom("timestamp is outside 0 to 2^53-1"));
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the range was checked on the line above; cutting the fraction is meant"
            )]
            Ok(Some(value as u64))
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
            Err(string_instead_of(&self))
        }
    }

    deserializer.deserialize_any(Visitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_plain_digits_up_to_the_last_exact_one() {
        let read = serde_json::from_str::<Height>;
        assert_eq!(read("9007199254740991").unwrap().get(), MAX_INTEGER);
        for text in ["9007199254740992", "-1", "1.0", "1e3", "-0", "\"1\"", "null"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn heights_saturate() {
        assert_eq!(Height::new(u64::MAX).next().get(), MAX_INTEGER);
        assert_eq!(Height::GENESIS.saturating_sub(1), Height::GENESIS);
    }
}
