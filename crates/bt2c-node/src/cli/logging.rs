//! Where log lines go: standard error, as text or JSON, around a progress bar if there is one.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use super::output::{colours, visible};
use crate::config::LogFormat;

/// Sets up the process's logs; lines appear above `bar`.
pub(super) fn init(filter: &str, format: LogFormat, bar: &ProgressBar) -> Result<()> {
    let filter = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(colours(&io::stderr()))
        .with_writer(AboveBar(bar.clone()));
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_target(true).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("logs cannot be set up: {error}"))
}

/// What is logged, from its text form.
pub(super) fn parse_filter(filter: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(filter).with_context(|| {
        format!("log filter {filter:?} is none: write error, warn, info, debug or trace, or by module info,bt2c_p2p=debug")
    })
}

/// A bar for a terminal; elsewhere one that shows nothing, for logs tell the progress there.
pub(super) fn progress_bar() -> ProgressBar {
    if io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() }
}

#[derive(Clone)]
struct AboveBar(ProgressBar);

impl<'a> MakeWriter<'a> for AboveBar {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { bar: &self.0, text: Vec::new() }
    }
}

/// Collects one line and writes it when it is complete.
struct Line<'a> {
    bar: &'a ProgressBar,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        // Without standard error there is nobody to tell.
        self.bar.suspend(|| drop(io::stderr().write_all(visible(&text).as_bytes())));
    }
}
