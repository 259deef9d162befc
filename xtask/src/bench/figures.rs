//! What all benchmarks share: clocks, medians, memory, directories, tables.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::layers;
pub(super) use crate::table::new_table as table;

/// How long some work takes.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(super) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let start = Instant::now();
    let made = work()?;
    Ok((start.elapsed(), made))
}

/// The middle one; of an even number, the lower of the two. 0 of none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// So many a second.
pub(super) fn rate(count: u64, time: Duration) -> f64 {
    as_float(count) / time.as_secs_f64().max(1e-9)
}

/// Near enough for people.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
pub(super) fn as_float(count: u64) -> f64 {
    count as f64
}

/// The most memory that this process ever had resident, in bytes; none where the system does not tell.
pub(super) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Seconds that this process has spent on all cores together; none where the system does not tell.
pub(super) fn processor_time() -> Option<f64> {
    /// What Linux counts them in, on every architecture that it shows to programs.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may hold anything; behind it come the third field and those after it.
    let fields = stat.rsplit_once(')')?.1;
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>().ok()?;
    Some(as_float(ticks) / TICKS_PER_SECOND)
}

/// Bytes in MiB, for people.
pub(super) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / (1 << 20))
}

/// Where chains and profiles are kept, inside the build's directory.
pub(super) fn directory(root: &Path) -> Result<PathBuf> {
    let dir = layers::metadata(root)?.target_directory.join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// A directory of one run, on the disk that is measured, removed when the run is over.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// An empty directory below `bench`.
    pub(super) fn new(bench: &Path, name: &str) -> Result<Self> {
        let dir = bench.join(format!("{name}-{}", std::process::id()));
        // Left by a process of the same number that was killed.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self(dir))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the build's directory, where it disturbs nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median([4.0, 1.0, 3.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median([]).abs() < f64::EPSILON);
    }

    #[test]
    fn a_process_knows_its_peak_memory_and_its_time() {
        if cfg!(target_os = "linux") {
            assert!(peak_memory().unwrap() > 1 << 20);
            let before = processor_time().unwrap();
            let mut sum = 0_u64;
            while processor_time().unwrap() < before + 0.02 {
                sum = std::hint::black_box(sum.wrapping_add(1));
            }
        }
    }
}
