//! The one place that turns offences into scores, limits and bans.

use std::{collections::BTreeSet, collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

use bt2c_proto::{Defence, IpUnit, PeerId, Time};

use crate::{
    ban::{Ban, BanTable, BanTerms, BansFileError, MAX_EVIDENCE, clip},
    certificate::{CertificateError, PeerCertificate},
    config::SecurityConfig,
    handshakes::Handshakes,
    ledger::{AttemptCount, Ledger},
    offence::{BAN_THRESHOLD, Offence},
    quota::SessionQuota,
    reputation::{Deed, MAX_STANDING, Reputation, ReputationFileError},
    subject::Subject,
};

/// Limits, scores and bans of everyone outside.
///
/// A pure core: it is told what happened and when; [`poll_action`](Self::poll_action) says what to do about it, to be
/// called until it returns `None` after every other call; [`poll_timeout`](Self::poll_timeout) says when
/// [`handle_timeout`](Self::handle_timeout) is due next. All tables are bounded. Those on the allow-list are never
/// limited, scored or banned.
#[derive(Debug)]
pub struct SecurityManager {
    config: SecurityConfig,
    allowed: BTreeSet<Subject>,
    bans: BanTable,
    ledger: Ledger,
    reputation: Reputation,
    handshakes: Handshakes,
    actions: VecDeque<SecurityAction>,
    /// When the bans are to be written, if they changed since they were last.
    persist_at: Option<Time>,
    last_persisted: Time,
    /// When the standings are to be written, if they changed since they were last.
    persist_reputation_at: Option<Time>,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityAction {
    /// Replace `bans.json` by these bytes.
    Persist(Vec<u8>),
    /// Replace `reputation.json` by these bytes.
    PersistReputation(Vec<u8>),
    /// The standing of an identity or an address group changed to this.
    Standing(Subject, i32),
    /// Close every connection that the ban's subject matches, with the code `banned` where it can be told.
    Banned(Ban),
    /// Count this: it was not banned, for the table is full.
    BanMissed(Subject),
    /// A ban ended by itself, or was lifted by hand.
    Unbanned {
        /// Whose.
        subject: Subject,
        /// Whether it was lifted.
        by_hand: bool,
    },
    /// Count this offence: it was charged, by whomever it was found.
    Charged {
        /// Which.
        offence: Offence,
        /// To whom.
        ip: IpAddr,
        /// To whom, if that is known.
        peer: Option<PeerId>,
        /// What shows it.
        evidence: Box<str>,
    },
}

/// What becomes of an inbound connection, before any byte is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Go on to TLS.
    Admit,
    /// Close it: its IP is banned.
    Banned,
    /// Close it: too many attempts. The IP may have been banned for it just now, which is an action.
    OverLimit,
}

impl SecurityManager {
    /// A manager without bans.
    pub fn new(config: SecurityConfig) -> Self {
        let terms = BanTerms {
            first: config.ban_duration,
            longest: config.ban_duration_max,
            capacity: config.max_bans,
        };
        Self {
            allowed: config.allow.iter().copied().collect(),
            config,
            bans: BanTable::new(terms),
            ledger: Ledger::new(),
            reputation: Reputation::default(),
            handshakes: Handshakes::new(),
            actions: VecDeque::new(),
            persist_at: None,
            last_persisted: Time::from_millis(0),
            persist_reputation_at: None,
        }
    }

    /// Takes up the standings of a file that [`SecurityAction::PersistReputation`] wrote.
    ///
    /// # Errors
    /// The file is damaged or was written by a later edition; nothing is changed then.
    pub fn load_reputation(&mut self, now: Time, json: &[u8]) -> Result<(), ReputationFileError> {
        self.reputation.decode(now, json)?;
        self.tell_standings(now);
        Ok(())
    }

    /// Adds the bans of a file that [`SecurityAction::Persist`] wrote.
    ///
    /// # Errors
    /// The file is damaged or was written by a later edition; nothing is added then.
    pub fn load_bans(&mut self, now: Time, json: &[u8]) -> Result<(), BansFileError> {
        self.bans.decode(now, json)
    }

    /// Takes one request from the bucket of this IP; whether there was none left.
    pub fn is_rate_limited(&mut self, now: Time, ip: IpAddr) -> bool {
        !self.is_allowed(ip, None) && !self.ledger.requests(now, IpUnit::of(ip), &self.config).take(now)
    }

    /// The ban that keeps this address out, if any; of several, the one that lasts longest.
    pub fn is_banned(&self, now: Time, ip: IpAddr) -> Option<&Ban> {
        self.bans.by_ip(now, ip).filter(|_| !self.is_allowed(ip, None))
    }

    /// The ban that keeps this identity out, if any.
    pub fn is_peer_banned(&self, now: Time, peer: &PeerId) -> Option<&Ban> {
        self.bans.by_peer(now, peer).filter(|_| !self.allowed.contains(&Subject::Peer(*peer)))
    }

    /// Bans an address (an IPv6 one with its /64) by hand; without a duration for the configured one.
    ///
    /// `None` when it is on the allow-list or the table is full.
    pub fn ban_ip(&mut self, now: Time, ip: IpAddr, duration: Option<Duration>) -> Option<Ban> {
        self.ban(now, Subject::of_ip(ip), duration, OPERATOR, "")
    }

    /// Bans by hand, in the place of a ban that is live; without a duration for the configured one.
    ///
    /// `None` when the subject is on the allow-list or the table is full.
    pub fn ban(
        &mut self,
        now: Time,
        subject: Subject,
        duration: Option<Duration>,
        reason: &str,
        evidence: &str,
    ) -> Option<Ban> {
        if self.exempt(&subject) {
            return None;
        }
        let duration = duration.unwrap_or(self.config.ban_duration);
        let ban = self.bans.set(now, subject, duration, reason, evidence)?;
        self.announce(now, &ban);
        Some(ban)
    }

    /// Lifts a ban; whether there was one of exactly this subject.
    pub fn unban(&mut self, now: Time, subject: &Subject) -> bool {
        let lifted = self.bans.remove(now, subject);
        if lifted {
            self.actions.push_back(SecurityAction::Unbanned { subject: *subject, by_hand: true });
            self.changed(now);
        }
        lifted
    }

    /// Every ban in force, by subject.
    pub fn bans(&self, now: Time) -> Vec<Ban> {
        self.bans.live(now).cloned().collect()
    }

    /// Puts a subject on the allow-list.
    pub fn allow(&mut self, subject: Subject) {
        self.allowed.insert(subject);
    }

    /// Takes a subject off the allow-list; whether it was on it.
    pub fn disallow(&mut self, subject: &Subject) -> bool {
        self.allowed.remove(subject)
    }

    /// Whether the allow-list covers a peer at this address, with this identity if it is known yet.
    pub fn is_allowed(&self, ip: IpAddr, peer: Option<&PeerId>) -> bool {
        self.allowed.iter().any(|subject| subject.matches(ip, peer))
    }

    /// Judges an inbound connection before anything is spent on it, and counts it.
    pub fn admit_attempt(&mut self, now: Time, ip: IpAddr) -> Attempt {
        if self.is_allowed(ip, None) {
            return Attempt::Admit;
        }
        if self.bans.by_ip(now, ip).is_some() {
            return Attempt::Banned;
        }
        match self.ledger.attempt(now, IpUnit::of(ip), &self.config) {
            AttemptCount::Within => Attempt::Admit,
            AttemptCount::Over => Attempt::OverLimit,
            AttemptCount::Flood => {
                let limit = self.config.attempts_per_minute;
                let evidence = format!("100 connections a minute beyond the limit of {limit}");
                self.report(now, ip, None, Offence::AttemptExcess, &evidence);
                Attempt::OverLimit
            }
        }
    }

    /// Takes the TLS handshake of an inbound connection out of the budgets; whether there was one left. Refusing it is no
    /// offence of theirs. One that is `exempt` is counted, but let in.
    pub fn admit_handshake(&mut self, now: Time, ip: IpAddr, exempt: bool) -> bool {
        self.handshakes.take(now, ip, exempt, &self.config)
    }

    /// Counts an inbound attempt whose time was over before the remote had finished TLS and hello; the ban, if there were
    /// too many. One is no fault, for lines are slow and break.
    pub fn record_unfinished_attempt(&mut self, now: Time, ip: IpAddr) -> Option<Ban> {
        if self.is_allowed(ip, None) || !self.handshakes.unfinished(now, ip, &self.config) {
            return None;
        }
        let (count, window) = (self.config.unfinished_attempts, self.config.failed_window);
        let evidence = format!("more than {count} handshakes within {window:?} that it did not finish");
        self.report(now, ip, None, Offence::FailedAttempts, &evidence)
    }

    /// Counts an inbound attempt that failed by the remote's fault (`why`) in TLS or hello; the ban, if it was one too
    /// many. Not for our refusals, for dates, or for our own dials.
    pub fn record_failed_attempt(&mut self, now: Time, ip: IpAddr, why: Offence) -> Option<Ban> {
        if self.is_allowed(ip, None) || !self.ledger.failure(now, IpUnit::of(ip), &self.config) {
            return None;
        }
        let (count, window) = (self.config.failed_attempts, self.config.failed_window);
        let evidence = format!("{count} failed attempts within {window:?}, the last one: {why}");
        self.report(now, ip, None, Offence::FailedAttempts, &evidence)
    }

    /// Charges an offence to the IP and, where it is known, the identity. At [`BAN_THRESHOLD`] points of either both are
    /// banned, and of an identity with a bad record sooner: at half of them at worst. Returned is the ban of the IP.
    ///
    /// The caller closes the connection at which the offence happened if the protocol says so; others of the same subject
    /// are closed by [`SecurityAction::Banned`].
    pub fn report(
        &mut self,
        now: Time,
        ip: IpAddr,
        peer: Option<PeerId>,
        offence: Offence,
        evidence: &str,
    ) -> Option<Ban> {
        if self.is_allowed(ip, peer.as_ref()) {
            return None;
        }
        let evidence: Box<str> = clip(evidence, MAX_EVIDENCE).into();
        self.actions.push_back(SecurityAction::Charged { offence, ip, peer, evidence: evidence.clone() });
        let standing = peer.map_or(0, |peer| self.score(now, &peer));
        if let Some(peer) = peer {
            self.reputation.punish(now, peer, offence);
        }
        self.reputation_changed(now);
        let points = offence.points();
        if points == 0 {
            return None;
        }
        let unit = IpUnit::of(ip);
        let by_ip = self.ledger.charge_ip(now, unit, points, &self.config);
        let (by_peer, record) =
            peer.map_or((0, 0), |peer| self.ledger.charge_peer(now, peer, points, standing));
        let is_due = by_ip >= BAN_THRESHOLD || by_peer >= threshold(record);
        if !is_due || !self.config.defences.has(Defence::Bans) {
            return None;
        }
        self.ledger.settle(unit, peer.as_ref());
        self.reputation.disgrace(now, ip);
        self.reputation_changed(now);
        let ban = self.punish(now, self.range_to_ban(now, ip), offence, &evidence);
        if ban.is_none() {
            // Live bans are not given up for it, so it is at least slowed down.
            self.ledger.hold_off(now, unit, &self.config);
        }
        let peer_ban = peer.and_then(|peer| self.punish(now, peer.into(), offence, &evidence));
        ban.or(peer_ban)
    }

    /// A peer did something useful, which raises its standing.
    pub fn reward(&mut self, now: Time, ip: IpAddr, peer: PeerId, deed: Deed) {
        self.reputation.reward(now, ip, peer, deed);
        self.reputation_changed(now);
    }

    /// A peer's own standing, from −[`MAX_STANDING`](crate::MAX_STANDING) to [`MAX_STANDING`](crate::MAX_STANDING); a
    /// stranger's is 0. A point wears off in ten minutes.
    pub fn score(&self, now: Time, peer: &PeerId) -> i32 {
        self.reputation.of(now, &Subject::Peer(*peer))
    }

    /// The standing of an address group ([`Subject::group_of_ip`]).
    pub fn group_score(&self, now: Time, ip: IpAddr) -> i32 {
        self.reputation.of(now, &Subject::group_of_ip(ip))
    }

    /// What speaks for a peer at an address, both of the above together: whom to prefer among equals.
    pub fn standing(&self, now: Time, ip: IpAddr, peer: Option<&PeerId>) -> i32 {
        self.reputation.of_peer_at(now, ip, peer)
    }

    /// The points of offences that wear off at one a minute; at [`BAN_THRESHOLD`] an IP is banned.
    pub fn points(&self, now: Time, ip: IpAddr, peer: Option<&PeerId>) -> u32 {
        let by_peer = peer.map_or(0, |peer| self.ledger.peer_points(now, peer));
        self.ledger.ip_points(now, IpUnit::of(ip)).max(by_peer)
    }

    /// Holds a certificate to the rules. Of a peer that is `known`, met before, stale dates are accepted: warn about what
    /// [`PeerCertificate::check_dates`] says.
    ///
    /// # Errors
    /// The rule that is broken; its [`offence`](CertificateError::offence) is the price.
    pub fn verify_peer_certificate(
        &self,
        now: Time,
        der: &[u8],
        known: bool,
    ) -> Result<PeerCertificate, CertificateError> {
        let certificate = PeerCertificate::parse(der)?;
        if !known {
            certificate.check_dates(now)?;
        }
        Ok(certificate)
    }

    /// The limits of a new connection. All connections of one IP share its bucket of requests, which only delays; what a
    /// connection does over its own limits is its own.
    pub fn session_quota(&mut self, now: Time, ip: IpAddr, peer: Option<&PeerId>) -> SessionQuota {
        if self.is_allowed(ip, peer) {
            return SessionQuota::unlimited();
        }
        let shared = Arc::clone(self.ledger.requests(now, IpUnit::of(ip), &self.config));
        SessionQuota::new(now, &self.config, shared)
    }

    /// What to do next; to be called until it returns `None`.
    pub fn poll_action(&mut self) -> Option<SecurityAction> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        let times = [
            self.persist_at,
            self.persist_reputation_at,
            self.bans.next_expiry(),
            self.ledger.next_sweep(),
            self.reputation.next_sweep(),
        ];
        times.into_iter().flatten().min()
    }

    /// Does what is due: ends bans, forgets what wore off, hands out changes to be written.
    pub fn handle_timeout(&mut self, now: Time) {
        for subject in self.bans.expire(now) {
            self.actions.push_back(SecurityAction::Unbanned { subject, by_hand: false });
            self.changed(now);
        }
        if self.ledger.next_sweep().is_some_and(|due| due <= now) {
            self.ledger.sweep(now, &self.config);
        }
        if self.reputation.next_sweep().is_some_and(|due| due <= now) {
            self.reputation.sweep(now);
            self.tell_standings(now);
        }
        if self.persist_at.is_some_and(|due| due <= now) {
            self.flush_bans(now);
        }
        if self.persist_reputation_at.is_some_and(|due| due <= now) {
            self.flush_reputation(now);
        }
    }

    /// Hands out changes that are not written yet without waiting for their time: for a clean stop.
    pub fn flush(&mut self, now: Time) {
        self.flush_bans(now);
        self.flush_reputation(now);
    }

    fn flush_reputation(&mut self, now: Time) {
        if self.persist_reputation_at.take().is_some() {
            self.actions.push_back(SecurityAction::PersistReputation(self.reputation.encode(now)));
        }
    }

    /// Tells of standings that changed, and has them written with those that change soon after.
    fn reputation_changed(&mut self, now: Time) {
        if self.reputation.has_changed() {
            self.persist_reputation_at.get_or_insert(now + REPUTATION_GATHERED);
            self.tell_standings(now);
        }
    }

    fn tell_standings(&mut self, now: Time) {
        while let Some((subject, standing)) = self.reputation.poll_changed(now) {
            self.actions.push_back(SecurityAction::Standing(subject, standing));
        }
    }

    fn flush_bans(&mut self, now: Time) {
        if self.persist_at.take().is_some() {
            self.last_persisted = now;
            self.actions.push_back(SecurityAction::Persist(self.bans.encode(now)));
        }
    }

    fn punish(&mut self, now: Time, subject: Subject, offence: Offence, evidence: &str) -> Option<Ban> {
        if self.exempt(&subject) {
            return None;
        }
        let Some((ban, is_new)) = self.bans.punish(now, subject, offence.name(), evidence) else {
            self.actions.push_back(SecurityAction::BanMissed(subject));
            return None;
        };
        if is_new {
            self.announce(now, &ban);
        }
        Some(ban)
    }

    /// The IPv4 address or IPv6 /64; on a repeat the whole IPv6 /48, for whoever has that has 65,536 times a /64.
    fn range_to_ban(&self, now: Time, ip: IpAddr) -> Subject {
        if !self.config.defences.has(Defence::BanRanges) {
            return Subject::Net(ip.to_canonical().into());
        }
        let unit = Subject::of_ip(ip);
        match Subject::site_of_ip(ip) {
            Some(site) if !self.bans.is_live(now, &unit) && self.bans.strikes(now, &site) > 0 => site,
            _ => unit,
        }
    }

    fn exempt(&self, subject: &Subject) -> bool {
        self.allowed.iter().any(|allowed| allowed.covers(subject))
    }

    fn announce(&mut self, now: Time, ban: &Ban) {
        self.actions.push_back(SecurityAction::Banned(ban.clone()));
        self.changed(now);
    }

    /// Schedules a write: at once after a quiet time, otherwise when the interval since the last one is over.
    fn changed(&mut self, now: Time) {
        self.persist_at.get_or_insert(now.max(self.last_persisted + PERSIST_INTERVAL));
    }
}

/// The points at which an identity is banned that had that standing before: who has a bad record is believed less.
const fn threshold(standing: i32) -> u32 {
    let bad = if standing < 0 { standing.unsigned_abs() } else { 0 };
    BAN_THRESHOLD - bad * BAN_THRESHOLD / (2 * MAX_STANDING.unsigned_abs())
}

/// Changes of standings are gathered for this long before they are written: they are many, and worth little alone.
const REPUTATION_GATHERED: Duration = Duration::from_secs(60);

/// Reason of a ban by hand for which none was given.
const OPERATOR: &str = "operator";

/// Bans are written at most this often, however fast offenders come.
const PERSIST_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
