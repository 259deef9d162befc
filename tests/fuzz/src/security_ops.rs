//! The security manager under any sequence of attempts, offences, operators' words, restarts and time.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use arbitrary::{Result, Unstructured};
use bt2c_proto::{PeerId, Time};
use bt2c_security::{
    Attempt, Ban, Deed, MAX_EVIDENCE, MAX_REASON, MAX_STANDING, Offence, SecurityAction, SecurityConfig,
    SecurityManager, Subject,
};

use crate::NOW;

/// Few bans, so that the table fills.
const MAX_BANS: usize = 4;

/// Plays what the bytes say.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let mut run = Run::new();
    while !input.is_empty() && run.step(&mut input).is_ok() {
        run.settle();
    }
}

struct Run {
    security: SecurityManager,
    now: Time,
    allowed: Vec<Subject>,
    /// The bans that must be in force, by what was announced and lifted.
    expected: BTreeMap<Subject, Ban>,
    /// What was written last.
    file: Option<Vec<u8>>,
    standings: Option<Vec<u8>>,
    /// Counts steps, to look at one address after the other.
    steps: usize,
}

impl Run {
    fn new() -> Self {
        Self {
            security: SecurityManager::new(config()),
            now: NOW,
            allowed: Vec::new(),
            expected: BTreeMap::new(),
            file: None,
            standings: None,
            steps: 0,
        }
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=11)? {
            0 => self.attempt(ip(input)?),
            1 => {
                let (ip, why) = (ip(input)?, *input.choose(&Offence::ALL)?);
                self.security.record_failed_attempt(self.now, ip, why);
            }
            2 | 3 => self.report(input)?,
            4 => self.now = self.now + Duration::from_millis(input.int_in_range(0..=100_000_000)?),
            5 => self.wake(),
            6 => self.ban(input)?,
            7 => self.unban(subject(input)?),
            8 => self.allow(subject(input)?),
            9 => {
                let subject = subject(input)?;
                let known = self.allowed.contains(&subject);
                assert_eq!(self.security.disallow(&subject), known);
                self.allowed.retain(|allowed| *allowed != subject);
            }
            10 => self.quota(input)?,
            _ => self.restart(),
        }
        Ok(())
    }

    /// Several at once, or the limit is never reached.
    fn attempt(&mut self, ip: IpAddr) {
        let banned = self.security.is_banned(self.now, ip).is_some();
        for number in 0..40 {
            let attempt = self.security.admit_attempt(self.now, ip);
            assert!(
                number > 0 || banned == (attempt == Attempt::Banned),
                "banned: {banned}, but {attempt:?}"
            );
            assert!(attempt == Attempt::Admit || !self.security.is_allowed(ip, None));
        }
    }

    fn report(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (ip, peer, offence) = (ip(input)?, peer(input)?, *input.choose(&Offence::ALL)?);
        let (named, evidence): (bool, &str) = (input.arbitrary()?, input.arbitrary()?);
        let peer = named.then_some(peer);
        let allowed = self.security.is_allowed(ip, peer.as_ref());
        let ban = self.security.report(self.now, ip, peer, offence, evidence);
        if let Some(ban) = &ban {
            assert!(
                !allowed && offence.points() > 0,
                "{ban:?} for {offence} of one that is allowed: {allowed}"
            );
        }
        Ok(())
    }

    fn ban(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (subject, seconds) = (subject(input)?, input.int_in_range(1..=200_000)?);
        let duration = input.arbitrary::<bool>()?.then(|| Duration::from_secs(seconds));
        let full = self.live().len() >= MAX_BANS && !self.live().contains_key(&subject);
        let exempt = self.allowed.iter().any(|allowed| allowed.covers(&subject));
        let ban = self.security.ban(self.now, subject, duration, "operator", input.arbitrary()?);
        assert_eq!(ban.is_none(), full || exempt, "{subject}: full {full}, exempt {exempt}");
        if ban.is_some() {
            self.expected.remove(&subject); // an operator's word replaces what was
        }
        Ok(())
    }

    fn unban(&mut self, subject: Subject) {
        let known = self.live().contains_key(&subject);
        assert_eq!(self.security.unban(self.now, &subject), known);
        self.expected.remove(&subject);
    }

    fn allow(&mut self, subject: Subject) {
        self.security.allow(subject);
        if !self.allowed.contains(&subject) {
            self.allowed.push(subject);
        }
    }

    fn quota(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (ip, peer) = (ip(input)?, peer(input)?);
        let mut quota = self.security.session_quota(self.now, ip, Some(&peer));
        for _ in 0..input.int_in_range(0..=30)? {
            quota.request(self.now);
        }
        self.security.reward(self.now, ip, peer, Deed::Answer);
        let limited = self.security.is_rate_limited(self.now, ip);
        assert!(!limited || !self.security.is_allowed(ip, None));
        Ok(())
    }

    /// What was written is read by a new manager; what was not is forgotten.
    fn restart(&mut self) {
        self.security.flush(self.now);
        self.settle();
        let mut again = SecurityManager::new(config());
        if let Some(file) = &self.file {
            again.load_bans(self.now, file).expect("what we wrote is read");
        }
        if let Some(file) = &self.standings {
            again.load_reputation(self.now, file).expect("what we wrote is read");
        }
        self.allowed.iter().for_each(|subject| again.allow(*subject));
        assert_eq!(again.bans(self.now), self.security.bans(self.now), "bans outlive a restart");
        self.security = again;
    }

    fn wake(&mut self) {
        let Some(at) = self.security.poll_timeout() else { return };
        self.now = self.now.max(at);
        self.security.handle_timeout(self.now);
        let next = self.security.poll_timeout();
        assert!(
            next.is_none_or(|at| at > self.now),
            "it wants to be woken at {next:?}, and it is {}",
            self.now
        );
    }

    fn live(&self) -> BTreeMap<Subject, Ban> {
        self.security.bans(self.now).into_iter().map(|ban| (ban.subject, ban)).collect()
    }

    fn settle(&mut self) {
        while let Some(action) = self.security.poll_action() {
            match action {
                SecurityAction::Persist(bytes) => self.file = Some(bytes),
                SecurityAction::Banned(ban) => {
                    assert!(!ban.reason.is_empty() && ban.reason.chars().count() <= MAX_REASON);
                    assert!(ban.evidence.chars().count() <= MAX_EVIDENCE);
                    assert!(ban.since <= self.now && ban.until > ban.since, "a ban without an end: {ban:?}");
                    let exempt = self.allowed.iter().any(|allowed| allowed.covers(&ban.subject));
                    assert!(!exempt, "{} is allowed and banned", ban.subject);
                    self.expected.insert(ban.subject, ban);
                }
                SecurityAction::Unbanned { subject, .. } => {
                    let known = self.expected.remove(&subject);
                    assert!(known.is_none_or(|ban| !ban.is_live(self.now)), "{subject} was let go early");
                }
                SecurityAction::Charged { offence, evidence, .. } => {
                    assert!(evidence.chars().count() <= MAX_EVIDENCE, "{offence}");
                }
                SecurityAction::Standing(subject, standing) => {
                    assert!(standing.abs() <= MAX_STANDING, "{subject}: {standing}");
                }
                SecurityAction::BanMissed(subject) => {
                    assert!(self.live().len() >= MAX_BANS, "{subject} was not banned though there is room");
                }
                SecurityAction::PersistReputation(file) => self.standings = Some(file),
            }
        }
        let now = self.now;
        self.expected.retain(|_, ban| ban.is_live(now));
        assert_eq!(self.live(), self.expected, "exactly those are banned that were, until it ends");
        assert!(self.expected.len() <= MAX_BANS);
        self.steps += 1;
        let address = ADDRESSES[self.steps % ADDRESSES.len()].parse().expect("an address");
        let banned = self.security.is_banned(now, address).is_some();
        let allowed = self.security.is_allowed(address, None);
        let found = self.expected.keys().any(|subject| subject.matches(address, None));
        assert_eq!(banned, found && !allowed, "{address}: banned {found}, allowed {allowed}");
    }
}

fn config() -> SecurityConfig {
    let mut config = SecurityConfig::default();
    config.max_bans = MAX_BANS;
    config
}

const ADDRESSES: [&str; 8] = [
    "192.0.2.1",
    "192.0.2.2",
    "::ffff:192.0.2.2",
    "198.51.100.7",
    "2001:db8::1",
    "2001:db8::ffff",
    "2001:db8:0:1::1",
    "2001:db8:1::1",
];

/// One of few addresses, some of which are the same in another spelling.
fn ip(input: &mut Unstructured<'_>) -> Result<IpAddr> {
    Ok(input.choose(&ADDRESSES)?.parse().expect("an address"))
}

fn peer(input: &mut Unstructured<'_>) -> Result<PeerId> {
    Ok(PeerId::from_bytes([input.int_in_range(0..=3)?; 32]))
}

fn subject(input: &mut Unstructured<'_>) -> Result<Subject> {
    Ok(match input.int_in_range(0..=3)? {
        0 => peer(input)?.into(),
        1 => input
            .choose(&[
                "192.0.2.0/24",
                "198.51.100.0/22",
                "2001:db8::/48",
                "2001:db8::/32",
                "2001:db8::1/128",
            ])?
            .parse()
            .expect("a network"),
        _ => ip(input)?.into(),
    })
}
