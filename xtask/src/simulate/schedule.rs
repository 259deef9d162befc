//! What happens to a network from outside, and when: a list that can be printed, read again, and cut down.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bt2c_p2p::env::DiskFault;

/// What happens to a network from outside. Hosts are named by their numbers in the [`Plan`](super::Plan).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A host appears, or a stopped one starts again on what its disk holds.
    Join(usize),
    /// A node stops with a goodbye.
    Leave(usize),
    /// A host is killed: no goodbye, no last write; its peers see resets.
    Crash(usize),
    /// A host loses its power: like a crash, and of what was not synced the disk keeps any part.
    PowerLoss(usize),
    /// A host that crashed or lost its power starts again on what its disk holds.
    Restart(usize),
    /// Nothing passes between two sides.
    Cut(Vec<usize>, Vec<usize>),
    /// Nothing passes from one side to the other.
    CutOneWay(Vec<usize>, Vec<usize>),
    /// All cuts are healed.
    Heal,
    /// A host's disk fails like this from now on; `None`: it is well again.
    Disk(usize, Option<DiskFault>),
    /// A wallet gives a transaction to this host's node.
    Transact(usize),
    /// Nobody proposes blocks any more.
    Rest,
}

impl Step {
    /// What kind of step it is, in one word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Join(_) => "join",
            Self::Leave(_) => "leave",
            Self::Crash(_) => "crash",
            Self::PowerLoss(_) => "power-loss",
            Self::Restart(_) => "restart",
            Self::Cut(..) => "cut",
            Self::CutOneWay(..) => "cut-one-way",
            Self::Heal => "heal",
            Self::Disk(..) => "disk",
            Self::Transact(_) => "transact",
            Self::Rest => "rest",
        }
    }

    /// The one host that it is about; `None` if it is about several, or none.
    pub const fn host(&self) -> Option<usize> {
        match self {
            Self::Join(host)
            | Self::Leave(host)
            | Self::Crash(host)
            | Self::PowerLoss(host)
            | Self::Restart(host)
            | Self::Disk(host, _)
            | Self::Transact(host) => Some(*host),
            Self::Cut(..) | Self::CutOneWay(..) | Self::Heal | Self::Rest => None,
        }
    }

    /// The step for a network without these hosts; `None` if nothing is left of it.
    pub fn without(&self, gone: &[usize]) -> Option<Self> {
        let rest = |hosts: &[usize]| -> Vec<_> {
            hosts.iter().copied().filter(|host| !gone.contains(host)).collect()
        };
        if self.host().is_some_and(|host| gone.contains(&host)) {
            return None;
        }
        match self {
            Self::Cut(from, to) | Self::CutOneWay(from, to) => {
                let (from, to) = (rest(from), rest(to));
                if from.is_empty() || to.is_empty() {
                    return None;
                }
                Some(match self {
                    Self::Cut(..) => Self::Cut(from, to),
                    _ => Self::CutOneWay(from, to),
                })
            }
            _ => Some(self.clone()),
        }
    }

    fn hosts(&self) -> Vec<usize> {
        match self {
            Self::Cut(from, to) | Self::CutOneWay(from, to) => from.iter().chain(to).copied().collect(),
            _ => self.host().into_iter().collect(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        self.host().iter().try_for_each(|host| write!(f, " {host}"))?;
        match self {
            Self::Cut(from, to) | Self::CutOneWay(from, to) => {
                from.iter().try_for_each(|host| write!(f, " {host}"))?;
                f.write_str(" |")?;
                to.iter().try_for_each(|host| write!(f, " {host}"))
            }
            Self::Disk(_, fault) => write!(f, " {}", fault_name(*fault)),
            _ => Ok(()),
        }
    }
}

const FAULTS: [(Option<DiskFault>, &str); 3] =
    [(Some(DiskFault::Full), "full"), (Some(DiskFault::FailedSync), "failed-sync"), (None, "well")];

fn fault_name(fault: Option<DiskFault>) -> &'static str {
    FAULTS.iter().find(|(known, _)| *known == fault).map_or("", |(_, name)| name)
}

impl FromStr for Step {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let host = || rest.trim().parse().with_context(|| format!("{kind} takes the number of a host"));
        let sides = || -> Result<(Vec<usize>, Vec<usize>)> {
            let (from, to) = rest.split_once('|').with_context(|| format!("{kind} takes HOST… | HOST…"))?;
            Ok((numbers(from)?, numbers(to)?))
        };
        Ok(match kind {
            "join" => Self::Join(host()?),
            "leave" => Self::Leave(host()?),
            "crash" => Self::Crash(host()?),
            "power-loss" => Self::PowerLoss(host()?),
            "restart" => Self::Restart(host()?),
            "transact" => Self::Transact(host()?),
            "cut" => sides().map(|(from, to)| Self::Cut(from, to))?,
            "cut-one-way" => sides().map(|(from, to)| Self::CutOneWay(from, to))?,
            "heal" => Self::Heal,
            "rest" => Self::Rest,
            "disk" => {
                let (host, fault) = rest.trim().split_once(' ').context("disk takes HOST FAULT")?;
                let fault = FAULTS.iter().find(|(_, name)| *name == fault.trim());
                let (fault, _) = fault.context("a disk is full, failed-sync or well")?;
                Self::Disk(host.parse().context("disk takes the number of a host")?, *fault)
            }
            _ => bail!("{kind:?} is no step"),
        })
    }
}

fn numbers(text: &str) -> Result<Vec<usize>> {
    let numbers =
        text.split_whitespace().map(|word| word.parse().with_context(|| format!("{word:?} is no host")));
    let numbers: Vec<_> = numbers.collect::<Result<_>>()?;
    ensure!(!numbers.is_empty(), "a side of a cut has no host");
    Ok(numbers)
}

/// A step and its moment, counted from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// When.
    pub at: Duration,
    /// What.
    pub step: Step,
}

/// Steps in the order in which they happen.
///
/// Its text form has a step a line, after the time in seconds: `12.500 crash 3`. Empty lines, and what follows a `#`, do
/// not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    steps: Vec<Timed>,
}

impl Schedule {
    /// The steps, by time; those of one moment in the order in which they were added.
    pub fn steps(&self) -> &[Timed] {
        &self.steps
    }

    /// Adds a step. Times count in milliseconds.
    pub fn add(&mut self, at: Duration, step: Step) {
        let at = Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        let place = self.steps.partition_point(|timed| timed.at <= at);
        self.steps.insert(place, Timed { at, step });
    }

    /// The highest number of a host that a step names.
    pub fn highest_host(&self) -> Option<usize> {
        self.steps.iter().flat_map(|timed| timed.step.hosts()).max()
    }
}

impl FromIterator<Timed> for Schedule {
    fn from_iter<T: IntoIterator<Item = Timed>>(steps: T) -> Self {
        let mut schedule = Self::default();
        steps.into_iter().for_each(|timed| schedule.add(timed.at, timed.step));
        schedule
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|timed| {
            let (seconds, millis) = (timed.at.as_secs(), timed.at.subsec_millis());
            writeln!(f, "{seconds}.{millis:03} {}", timed.step)
        })
    }
}

impl FromStr for Schedule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut steps = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let parsed =
                parse_line(line).with_context(|| format!("line {} of the schedule: {line:?}", number + 1));
            steps.push(parsed?);
        }
        Ok(steps.into_iter().collect())
    }
}

fn parse_line(line: &str) -> Result<Timed> {
    let (at, step) = line.split_once(' ').context("expected a time in seconds and a step")?;
    let (seconds, millis) = at.split_once('.').unwrap_or((at, ""));
    ensure!(
        millis.len() <= 3 && millis.bytes().all(|digit| digit.is_ascii_digit()),
        "{at:?} is no time in seconds"
    );
    let seconds: u32 = seconds.parse().with_context(|| format!("{at:?} is no time in seconds"))?;
    let millis: u64 =
        format!("{millis:0<3}").parse().with_context(|| format!("{at:?} is no time in seconds"))?;
    Ok(Timed { at: Duration::from_millis(u64::from(seconds) * 1000 + millis), step: step.parse()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0.000 join 0\n0.000 join 1\n1.500 cut 0 2 | 1\n2.000 cut-one-way 0 | 1 2\n3.000 heal\n\
        4.000 disk 1 full\n5.000 disk 1 failed-sync\n6.000 disk 1 well\n7.000 power-loss 1\n8.000 restart 1\n\
        9.000 transact 0\n10.000 leave 1\n11.000 crash 0\n12.000 rest\n";

    #[test]
    fn a_schedule_is_printed_as_it_is_read_whatever_the_order_of_its_lines() {
        let schedule: Schedule = TEXT.parse().unwrap();
        assert_eq!(schedule.to_string(), TEXT);
        let mut lines: Vec<_> = TEXT.lines().collect();
        lines.reverse();
        lines.swap(12, 13);
        let shuffled = format!("# a comment\n\n{}", lines.join("  # why\n"));
        assert_eq!(shuffled.parse::<Schedule>().unwrap(), schedule);
        assert_eq!(schedule.highest_host(), Some(2));
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for line in [
            "x join 1",
            "1 jump 1",
            "1 join",
            "1 join x",
            "1 cut 1",
            "1 cut 1 |",
            "1 disk 1 sad",
            "1.0000 heal",
            "1",
        ] {
            let error = format!("{:#}", format!("0 heal\n{line}").parse::<Schedule>().unwrap_err());
            assert!(error.starts_with(&format!("line 2 of the schedule: {line:?}")), "{error}");
        }
    }

    #[test]
    fn steps_lose_the_hosts_that_are_gone() {
        let step: Step = "cut 0 1 | 2 3".parse().unwrap();
        assert_eq!(step.without(&[0, 3]).unwrap().to_string(), "cut 1 | 2");
        assert_eq!(step.without(&[2, 3]), None);
        assert_eq!("crash 1".parse::<Step>().unwrap().without(&[1]), None);
        assert_eq!(Step::Heal.without(&[1]), Some(Step::Heal));
    }
}
