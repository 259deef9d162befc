//! How far a long command is: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{logging::progress_bar, output::grouped};

/// How often a line is written where there is no terminal: a short command writes none.
const EVERY: Duration = Duration::from_secs(10);

/// Shows on standard error how many blocks are done.
pub(super) struct Progress {
    bar: ProgressBar,
    /// `None` on a terminal.
    lines: Option<Lines>,
}

impl Progress {
    /// Of this many blocks, or of nobody knows how many.
    pub(super) fn new(what: &'static str, blocks: Option<u64>) -> Self {
        let template = match blocks {
            Some(_) => "{msg} {bar:30} {human_pos} of {human_len} blocks, {per_sec}, {eta} left",
            None => "{msg} {human_pos} blocks, {per_sec}",
        };
        let style = ProgressStyle::with_template(template).expect("the templates are constants");
        let bar = progress_bar().with_style(style).with_message(what);
        if let Some(blocks) = blocks {
            bar.set_length(blocks);
        }
        let lines = (!io::stderr().is_terminal()).then_some(Lines { what, blocks, told: Duration::ZERO });
        Self { bar, lines }
    }

    /// So many are done.
    pub(super) fn at(&mut self, done: u64) {
        self.bar.set_position(done);
        if let Some(line) = self.lines.as_mut().and_then(|lines| lines.at(self.bar.elapsed(), done)) {
            // Without standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// The bar goes.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// What is written where there is no terminal.
struct Lines {
    what: &'static str,
    blocks: Option<u64>,
    /// When the last line was written, since the start.
    told: Duration,
}

impl Lines {
    fn at(&mut self, elapsed: Duration, done: u64) -> Option<String> {
        if elapsed < self.told + EVERY {
            return None;
        }
        self.told = elapsed;
        let of = self.blocks.map(|blocks| format!(" of {}", grouped(blocks))).unwrap_or_default();
        let pace = done / elapsed.as_secs().max(1);
        Some(format!("{}: {}{of} blocks, {}/s", self.what, grouped(done), grouped(pace)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_every_ten_seconds_and_not_before() {
        let mut lines = Lines { what: "checking", blocks: Some(50_000), told: Duration::ZERO };
        let at = Duration::from_secs;
        assert_eq!(lines.at(at(9), 9000), None);
        assert_eq!(lines.at(at(10), 10_000).unwrap(), "checking: 10 000 of 50 000 blocks, 1 000/s");
        assert_eq!(lines.at(at(19), 19_000), None);
        assert_eq!(lines.at(at(40), 20_000).unwrap(), "checking: 20 000 of 50 000 blocks, 500/s");
        let mut lines = Lines { what: "importing", blocks: None, told: Duration::ZERO };
        assert_eq!(lines.at(at(12), 1200).unwrap(), "importing: 1 200 blocks, 100/s");
    }
}
