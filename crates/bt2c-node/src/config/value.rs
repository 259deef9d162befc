//! Values of configuration keys: as they stand in a file, a variable or a flag, and as the types they become.

use std::{
    fmt,
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use super::duration::{format_duration, parse_duration};

/// A value before it has a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Raw {
    Integer(u64),
    Bool(bool),
    Text(String),
    List(Vec<String>),
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Bool,
    Text,
    List,
}

impl Kind {
    /// The value of an environment variable for a key of this kind; lists are separated by commas.
    pub(crate) fn read_variable(self, text: &str) -> Result<Raw, ValueError> {
        match self {
            Self::Integer => text.parse().map(Raw::Integer).map_err(|_| self.mismatch(&format!("{text:?}"))),
            Self::Bool => text.parse().map(Raw::Bool).map_err(|_| self.mismatch(&format!("{text:?}"))),
            Self::Text => Ok(Raw::Text(text.to_owned())),
            Self::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(Raw::List(items.map(str::to_owned).collect()))
            }
        }
    }

    fn mismatch(self, found: &str) -> ValueError {
        let expected = match self {
            Self::Integer => "a whole number, 0 or above, without quotes",
            Self::Bool => "true or false",
            Self::Text => "a text in quotes",
            Self::List => "a list of texts in quotes, such as [\"a\", \"b\"]",
        };
        ValueError(format!("expected {expected}, found {found}").into())
    }
}

/// Shows a value as TOML spells it.
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Text(text) => toml::Value::from(text.as_str()).fmt(f),
            Self::List(items) => toml::Value::from(items.clone()).fmt(f),
        }
    }
}

/// Why a value does not fit its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(crate) Box<str>);

/// A type that a key can have.
pub(crate) trait Setting: Sized {
    const KIND: Kind;

    fn read(raw: &Raw) -> Result<Self, ValueError>;

    fn show(&self) -> Raw;
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            const KIND: Kind = Kind::Integer;

            fn read(raw: &Raw) -> Result<Self, ValueError> {
                let Raw::Integer(value) = raw else { return Err(Self::KIND.mismatch(&raw.to_string())) };
                <$type>::try_from(*value).map_err(|_| {
                    ValueError(format!("{value} is outside {} to {}", <$type>::MIN, <$type>::MAX).into())
                })
            }

            fn show(&self) -> Raw {
                Raw::Integer(u64::try_from(*self).expect("configured numbers fit 64 bits"))
            }
        }
    )*};
}

integers!(u8, u32, u64, usize);

macro_rules! positive_integers {
    ($($type:ty: $inner:ty),*) => {$(
        impl Setting for $type {
            const KIND: Kind = Kind::Integer;

            fn read(raw: &Raw) -> Result<Self, ValueError> {
                let value = <$inner>::read(raw)?;
                Self::new(value).ok_or_else(|| ValueError("0 is below the least possible value, 1".into()))
            }

            fn show(&self) -> Raw {
                Raw::Integer(self.get().into())
            }
        }
    )*};
}

positive_integers!(NonZeroU16: u16, NonZeroU32: u32);

impl Setting for u16 {
    const KIND: Kind = Kind::Integer;

    fn read(raw: &Raw) -> Result<Self, ValueError> {
        let value = u32::read(raw)?;
        Self::try_from(value).map_err(|_| ValueError(format!("{value} is outside 0 to {}", Self::MAX).into()))
    }

    fn show(&self) -> Raw {
        Raw::Integer((*self).into())
    }
}

impl Setting for bool {
    const KIND: Kind = Kind::Bool;

    fn read(raw: &Raw) -> Result<Self, ValueError> {
        match raw {
            Raw::Bool(value) => Ok(*value),
            other => Err(Self::KIND.mismatch(&other.to_string())),
        }
    }

    fn show(&self) -> Raw {
        Raw::Bool(*self)
    }
}

impl Setting for Duration {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw) -> Result<Self, ValueError> {
        parse_duration(text(raw)?).map_err(|error| ValueError(error.to_string().into()))
    }

    fn show(&self) -> Raw {
        Raw::Text(format_duration(*self))
    }
}

impl Setting for PathBuf {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw) -> Result<Self, ValueError> {
        text(raw).map(Self::from)
    }

    fn show(&self) -> Raw {
        Raw::Text(self.display().to_string())
    }
}

fn text(raw: &Raw) -> Result<&str, ValueError> {
    match raw {
        Raw::Text(text) => Ok(text),
        Raw::Integer(number) => Err(ValueError(
            format!(
                "expected a text in quotes, found the number {number}; durations have a unit: \"{number}s\""
            )
            .into(),
        )),
        other => Err(Kind::Text.mismatch(&other.to_string())),
    }
}

/// Types whose configured form is their text form.
pub(crate) trait TextSetting: FromStr<Err: fmt::Display> + fmt::Display {
    /// What to write instead, where the type's own errors do not tell.
    const HINT: &str = "";
}

impl TextSetting for String {}

impl TextSetting for SocketAddr {
    const HINT: &str = ": write ip:port or [v6]:port, such as 127.0.0.1:8338";
}

impl TextSetting for bt2c_proto::Network {}
impl TextSetting for bt2c_proto::NodeId {}
impl TextSetting for bt2c_proto::PeerAddr {}
impl TextSetting for bt2c_sync::Checkpoint {}

impl<T: TextSetting> Setting for T {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw) -> Result<Self, ValueError> {
        parse(text(raw)?)
    }

    fn show(&self) -> Raw {
        Raw::Text(self.to_string())
    }
}

fn parse<T: TextSetting>(text: &str) -> Result<T, ValueError> {
    text.parse().map_err(|error| ValueError(format!("{text:?}: {error}{}", T::HINT).into()))
}

/// An address of a flag.
pub(crate) fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|error| format!("{error}{}", SocketAddr::HINT))
}

impl<T: TextSetting> Setting for Vec<T> {
    const KIND: Kind = Kind::List;

    fn read(raw: &Raw) -> Result<Self, ValueError> {
        match raw {
            Raw::List(items) => items.iter().map(|item| parse(item)).collect(),
            other => Err(Self::KIND.mismatch(&other.to_string())),
        }
    }

    fn show(&self) -> Raw {
        Raw::List(self.iter().map(T::to_string).collect())
    }
}

/// The empty text stands for none.
impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw) -> Result<Self, ValueError> {
        if text(raw)?.is_empty() { Ok(None) } else { T::read(raw).map(Some) }
    }

    fn show(&self) -> Raw {
        self.as_ref().map_or_else(|| Raw::Text(String::new()), T::show)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_checked_against_their_type() {
        assert_eq!(u8::read(&Raw::Integer(255)), Ok(255));
        assert!(u8::read(&Raw::Integer(256)).unwrap_err().to_string().contains("outside 0 to 255"));
        assert!(NonZeroU32::read(&Raw::Integer(0)).is_err());
        assert!(usize::read(&Raw::Text("7".into())).unwrap_err().to_string().contains("whole number"));
    }

    #[test]
    fn a_bare_number_for_a_duration_is_refused_with_the_unit_that_is_missing() {
        let error = Duration::read(&Raw::Integer(30)).unwrap_err().to_string();
        assert!(error.contains("\"30s\""), "{error}");
    }

    #[test]
    fn lists_come_read_variables_with_commas() {
        let raw = Kind::List.read_variable("127.0.0.1:1, [::1]:2,").unwrap();
        let addrs = Vec::<SocketAddr>::read(&raw).unwrap();
        assert_eq!(addrs.len(), 2);
        assert_eq!(addrs.show(), Raw::List(vec!["127.0.0.1:1".into(), "[::1]:2".into()]));
    }

    #[test]
    fn the_empty_text_is_none() {
        assert_eq!(Option::<SocketAddr>::read(&Raw::Text(String::new())), Ok(None));
        assert!(Option::<SocketAddr>::read(&Raw::Text("x".into())).is_err());
    }

    #[test]
    fn values_are_shown_as_toml() {
        assert_eq!(Raw::Text("a\"b".into()).to_string().parse::<toml::Value>().unwrap(), "a\"b".into());
        assert_eq!(Raw::List(vec![]).to_string(), "[]");
    }
}
