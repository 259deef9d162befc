//! The configuration file as a list of keys, values and lines.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::value::{Raw, ValueError};

/// A key of the file with its value, and the line on which it stands.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) value: Result<Raw, ValueError>,
}

/// A text that is no TOML, with the line at which it stops being any.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// Reads a file's keys in the order of their lines.
pub(crate) fn parse(text: &str) -> Result<Vec<Entry>, SyntaxError> {
    let table = DeTable::parse(text).map_err(|error| SyntaxError {
        line: line_of(text, error.span()),
        message: error.message().to_owned(),
    })?;
    let mut entries: Vec<Entry> = table
        .get_ref()
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().clone().into_owned(),
            line: line_of(text, Some(key.span())),
            value: raw(value.get_ref()),
        })
        .collect();
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start).min(text.len());
    1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count()
}

fn raw(value: &DeValue<'_>) -> Result<Raw, ValueError> {
    let unfit = || Err(ValueError(format!("no key takes a value of type {}", value.type_str()).into()));
    match value {
        DeValue::String(text) => Ok(Raw::Text(text.clone().into_owned())),
        DeValue::Boolean(value) => Ok(Raw::Bool(*value)),
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
            .map(Raw::Integer)
            .map_err(|_| ValueError(format!("{} is outside 0 to {}", number.as_str(), u64::MAX).into())),
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.clone().into_owned()),
                other => {
                    Err(ValueError(format!("lists hold texts in quotes, not a {}", other.type_str()).into()))
                }
            })
            .collect::<Result<_, _>>()
            .map(Raw::List),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => unfit(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_know_their_lines() {
        let entries = parse("# hello\na = 1\n\nb = [\n  \"x\",\n]\nc = 1.5\n").unwrap();
        let lines: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.line)).collect();
        assert_eq!(lines, [("a", 2), ("b", 4), ("c", 7)]);
        assert_eq!(entries[0].value, Ok(Raw::Integer(1)));
        assert_eq!(entries[1].value, Ok(Raw::List(vec!["x".into()])));
        assert!(entries[2].value.is_err());
    }

    #[test]
    fn syntax_errors_and_double_keys_name_their_line() {
        assert_eq!(parse("a = 1\nb = = 2\n").unwrap_err().line, 2);
        assert_eq!(parse("a = 1\nb = 2\na = 3\n").unwrap_err().line, 3);
        assert!(parse("a = -1").unwrap()[0].value.is_err());
    }
}
