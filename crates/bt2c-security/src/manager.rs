//! The one place that turns offences into scores, limits and bans.

use std::{collections::BTreeSet, collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

use bt2c_proto::{Defence, IpUnit, PeerId, Time};

use crate::{
    ban::{Ban, BanTable, BanTerms, BansFileError},
    certificate::{CertificateError, PeerCertificate},
    config::SecurityConfig,
    handshakes::Handshakes,
    ledger::{AttemptCount, Ledger},
    offence::{BAN_THRESHOLD, Offence},
    quota::SessionQuota,
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
    handshakes: Handshakes,
    actions: VecDeque<SecurityAction>,
    /// When the bans are to be written, if they changed since they were last.
    persist_at: Option<Time>,
    last_persisted: Time,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityAction {
    /// Replace `bans.json` by these bytes.
    Persist(Vec<u8>),
    /// Close every connection that the ban's subject matches, with the code `banned` where it can be told.
    Banned(Ban),
    /// A ban ended or was lifted.
    Unbanned(Subject),
    /// Count this offence: it was charged, by whomever it was found.
    Charged(Offence),
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
            handshakes: Handshakes::new(),
            actions: VecDeque::new(),
            persist_at: None,
            last_persisted: Time::from_millis(0),
        }
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
            self.actions.push_back(SecurityAction::Unbanned(*subject));
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
            AttemptCount::OverWithStrangers => Attempt::OverLimit,
            AttemptCount::Over => {
                let evidence = format!("more than {} connections a minute", self.config.attempts_per_minute);
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
    /// banned; returned is the ban of the IP.
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
        self.actions.push_back(SecurityAction::Charged(offence));
        let points = offence.points();
        if points == 0 {
            return None;
        }
        let unit = IpUnit::of(ip);
        let by_ip = self.ledger.charge_ip(now, unit, points, &self.config);
        let by_peer = peer.map_or(0, |peer| self.ledger.charge_peer(now, peer, points));
        if by_ip.max(by_peer) < BAN_THRESHOLD || !self.config.defences.has(Defence::Bans) {
            return None;
        }
        self.ledger.settle(unit, peer.as_ref());
        let ban = self.punish(now, self.range_to_ban(now, ip), offence, evidence);
        let peer_ban = peer.and_then(|peer| self.punish(now, peer.into(), offence, evidence));
        ban.or(peer_ban)
    }

    /// A peer's standing, for display: 0 is clean, each point of an offence counts down.
    pub fn score(&self, now: Time, peer: &PeerId) -> i32 {
        i32::try_from(self.ledger.peer_points(now, peer)).map_or(i32::MIN, |points| -points)
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
        [self.persist_at, self.bans.next_expiry(), self.ledger.next_sweep()].into_iter().flatten().min()
    }

    /// Does what is due: ends bans, forgets what wore off, hands out changes to be written.
    pub fn handle_timeout(&mut self, now: Time) {
        for subject in self.bans.expire(now) {
            self.actions.push_back(SecurityAction::Unbanned(subject));
            self.changed(now);
        }
        if self.ledger.next_sweep().is_some_and(|due| due <= now) {
            self.ledger.sweep(now, &self.config);
        }
        if self.persist_at.is_some_and(|due| due <= now) {
            self.flush(now);
        }
    }

    /// Hands out changes that are not written yet without waiting for their time: for a clean stop.
    pub fn flush(&mut self, now: Time) {
        if self.persist_at.take().is_some() {
            self.last_persisted = now;
            self.actions.push_back(SecurityAction::Persist(self.bans.encode(now)));
        }
    }

    fn punish(&mut self, now: Time, subject: Subject, offence: Offence, evidence: &str) -> Option<Ban> {
        if self.exempt(&subject) {
            return None;
        }
        let (ban, is_new) = self.bans.punish(now, subject, offence.name(), evidence)?;
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

/// Reason of a ban by hand for which none was given.
const OPERATOR: &str = "operator";

/// Bans are written at most this often, however fast offenders come.
const PERSIST_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
