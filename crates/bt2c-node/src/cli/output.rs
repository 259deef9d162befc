//! How results are shown: JSON for programs, aligned tables for people, colours on terminals only.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use anyhow::Result;
use bt2c_proto::Time;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// Writes a line to standard output. A reader that went away (`| head`) is no failure.
pub(crate) fn line(text: impl Display) -> Result<()> {
    finish(writeln!(io::stdout(), "{text}"))
}

/// Writes text that ends its own lines.
pub(crate) fn text(text: &str) -> Result<()> {
    finish(io::stdout().write_all(text.as_bytes()))
}

/// Prints indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    line(visible(&serde_json::to_string_pretty(value)?))
}

fn finish(outcome: io::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Whether a terminal may take a character for a command, or show what follows it in another order: C1 controls and the
/// directional overrides. C0 controls are not among them, for lines and colours need those; [`cell`] hides them too.
const fn deceives(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text in which such characters are written as JSON escapes them, so that JSON stays the same JSON.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escape(text, deceives)
}

/// One value among others, from whoever it came: no control reaches the terminal, not even a line break.
fn cell(text: &str) -> Cow<'_, str> {
    escape(text, |c| c.is_control() || deceives(c))
}

fn escape(text: &str, hides: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hides) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if hides(c) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// An error and its causes on one line, each after a colon. A cause that its effect already tells is not told again:
/// the texts of our errors are complete by themselves, those of other crates need their causes.
pub(crate) fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    cell(&text.replace('\n', " ")).into_owned()
}

/// A table without lines; the columns named in `right` hold numbers.
pub(crate) fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let rows = rows.iter().map(|row| row.iter().map(|text| cell(text)).collect::<Vec<_>>());
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.iter().map(|name| name.to_uppercase()))
        .add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Names and values, one pair a line, the values aligned.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    pairs.iter().map(|(name, value)| format!("{name:width$}{}\n", cell(value))).collect()
}

/// A number in groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A size in the unit that leaves one to three digits before the point.
pub(crate) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (1_000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    let tenths = bytes.saturating_mul(10) / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// Whether a stream shows colours: a terminal, unless NO_COLOR is set.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A colour, or the plain text where colours are off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    pub(crate) fn bold(self, text: impl Display) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn dim(self, text: impl Display) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn good(self, text: impl Display) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn bad(self, text: impl Display) -> String {
        self.wrap("31", text)
    }

    fn wrap(self, code: &str, text: impl Display) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// A moment as `2026-01-31 12:00:00 UTC`.
pub(crate) fn moment(unix_seconds: u64) -> String {
    Time::from_secs(unix_seconds).to_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_where_their_text_does() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["long".into(), "100".into()]];
        assert_eq!(table(&["name", "n"], &[1], rows), "NAME    N\na       1\nlong  100\n");
    }

    #[test]
    fn numbers_and_sizes_are_short() {
        assert_eq!(
            (grouped(0), grouped(999), grouped(1_234_567)),
            ("0".into(), "999".into(), "1 234 567".into())
        );
        assert_eq!(
            (size(999), size(1_234), size(5_000_000)),
            ("999 B".into(), "1.2 kB".into(), "5.0 MB".into())
        );
    }

    #[test]
    fn causes_are_told_once_and_on_one_line() {
        let told = anyhow::anyhow!("no\nroom").context("file x: no\nroom").context("export");
        assert_eq!(causes(&told), "export: file x: no room");
        assert_eq!(causes(&anyhow::anyhow!("alone")), "alone");
    }

    #[test]
    fn what_deceives_a_terminal_is_shown_as_an_escape() {
        let hostile = "a\u{1b}[2J\u{9b}2J\u{202e}b\u{2066}\nc\u{7f}é";
        let shown = "a\\u001b[2J\\u009b2J\\u202eb\\u2066\\u000ac\\u007fé";
        assert_eq!(cell(hostile), shown);
        assert_eq!(table(&["x"], &[], vec![vec![hostile.to_owned()]]), format!("X\n{shown}\n"));
        assert_eq!(pairs(&[("x", hostile.to_owned())]), format!("x  {shown}\n"));
        assert_eq!(causes(&anyhow::anyhow!("\u{9b}\u{1b}c")), "\\u009b\\u001bc");
        let json = serde_json::to_string(hostile).unwrap();
        assert!(!visible(&json).contains(|c: char| c.is_control() || deceives(c)));
        assert_eq!(serde_json::from_str::<String>(&visible(&json)).unwrap(), hostile);
    }

    #[test]
    fn paint_is_plain_off_terminals() {
        assert_eq!(Paint(false).bad("x"), "x");
        assert_ne!(Paint(true).bad("x"), "x");
    }
}
