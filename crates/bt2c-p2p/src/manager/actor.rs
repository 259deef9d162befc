//! The task that owns the manager's core: turns requests, notes and time into its inputs, and its actions into deeds.
//!
//! It never waits for a session: commands go into small channels, and a session that does not take them is ended.

mod requests;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use bt2c_proto::{PeerId, Time};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    core::{Action, Core},
    ingress::{Handle, Request},
    seen::Seen,
    state_files::Saver,
};
use crate::{
    config::P2PConfig,
    env::{Connection, Env},
    event::Event,
    peer::{ConnectionId, Direction, LinkStats, Peer},
    reason::CloseReason,
    session::{
        Command, Link, Note,
        handshake::{Deadlines, Origin, Workshop},
        queue::Outbox,
    },
};

/// Commands that may wait for a session; it takes them at once, so a full channel means that it is stuck.
const COMMANDS: usize = 16;

/// Where the actor's inputs come from.
pub(super) struct Inputs {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) notes: mpsc::Receiver<Note>,
    pub(super) accepted: mpsc::Receiver<Connection>,
    pub(super) stop: CancellationToken,
}

/// A connection's task, as the actor sees it.
struct Task {
    commands: mpsc::Sender<Command>,
    outbox: Arc<Outbox>,
    stats: Arc<LinkStats>,
    addr: Option<SocketAddr>,
    direction: Direction,
    peer: Option<Peer>,
    /// Who asked for this connection and waits for its outcome.
    waiting: Vec<oneshot::Sender<Result<PeerId, CloseReason>>>,
}

/// The actor.
pub(super) struct Actor {
    config: Arc<P2PConfig>,
    env: Env,
    core: Core,
    workshop: Workshop,
    handle: Handle,
    tracker: TaskTracker,
    tasks: BTreeMap<ConnectionId, Task>,
    seen: Seen,
    resolved: (mpsc::Sender<Resolved>, mpsc::Receiver<Resolved>),
    saver: Saver,
}

/// The outcome of a name's look-up.
struct Resolved {
    name: Box<str>,
    port: u16,
    ips: Vec<std::net::IpAddr>,
}

/// Names that may be looked up at once; discovery asks for few.
const LOOKUPS: usize = 16;

impl Actor {
    pub(super) fn new(
        config: Arc<P2PConfig>,
        env: Env,
        core: Core,
        workshop: Workshop,
        handle: Handle,
        tracker: TaskTracker,
    ) -> Self {
        let saver = Saver::new(config.data_dir.clone(), &env, tracker.clone());
        Self {
            saver,
            config,
            env,
            core,
            workshop,
            handle,
            tracker,
            tasks: BTreeMap::new(),
            seen: Seen::new(),
            resolved: mpsc::channel(LOOKUPS),
        }
    }

    pub(super) async fn run(mut self, mut inputs: Inputs) {
        self.core.start(self.now());
        loop {
            self.carry_out_all();
            let timeout = self.core.poll_timeout().map(|at| self.env.clock.sleep_until(at));
            tokio::select! {
                biased;
                () = inputs.stop.cancelled() => break,
                Some(note) = inputs.notes.recv() => self.handle_note(note),
                Some(request) = inputs.requests.recv() => self.handle_request(request),
                Some(connection) = inputs.accepted.recv() => self.accept(connection),
                Some(Resolved { name, port, ips }) = self.resolved.1.recv() => {
                    self.core.handle_resolved(self.env.clock.now(), &name, port, &ips);
                }
                () = self.saver.saved() => {}
                () = async { timeout.expect("guarded").await }, if timeout.is_some() => {
                    self.core.handle_timeout(self.env.clock.now());
                }
            }
        }
        self.stop(inputs).await;
    }

    fn now(&self) -> Time {
        self.env.clock.now()
    }

    /// Ends every connection, answers whoever waits, writes the state.
    async fn stop(mut self, mut inputs: Inputs) {
        let snapshots = self.core.stop(self.now());
        self.workshop.shared.shutdown.cancel();
        while !self.tasks.is_empty() {
            let Some(note) = inputs.notes.recv().await else { break };
            if let Note::Closed { .. } = note {
                self.handle_note(note);
                // What the core wants now (more dials, mostly) is not done any more; ends are still told.
                while let Some(action) = self.core.poll_action() {
                    if matches!(action, Action::Down { .. } | Action::Failed { .. }) {
                        self.carry_out(action);
                    }
                }
            }
        }
        self.saver.finish(snapshots).await;
    }

    fn accept(&mut self, connection: Connection) {
        let remote = connection.remote;
        match self.core.handle_accept(self.now(), remote) {
            Ok(id) => self.spawn(id, Origin::Accepted(connection), Some(remote), Direction::Inbound),
            Err(code) => {
                self.handle.shared.metrics.count_closed(CloseReason::Refused(code));
                tracing::debug!(%remote, %code, "refused");
            }
        }
    }

    fn spawn(&mut self, id: ConnectionId, origin: Origin, addr: Option<SocketAddr>, direction: Direction) {
        let (commands, commands_in) = mpsc::channel(COMMANDS);
        let (outbox, stats) = (Arc::new(Outbox::new()), Arc::new(LinkStats::default()));
        let link = Link {
            connection: id,
            commands: commands_in,
            stats: Arc::clone(&stats),
            outbox: Arc::clone(&outbox),
        };
        let now = self.now();
        let hello = now + self.config.connection_timeout;
        let tls = match direction {
            Direction::Inbound => hello.min(now + self.config.tls_timeout),
            Direction::Outbound => hello,
        };
        let workshop = self.workshop.clone();
        self.tracker.spawn(workshop.run(origin, link, Deadlines { tls, hello }));
        let task = Task { commands, outbox, stats, addr, direction, peer: None, waiting: Vec::new() };
        self.tasks.insert(id, task);
    }

    fn handle_note(&mut self, note: Note) {
        let now = self.now();
        match note {
            Note::Secured { connection, remote, certificate, reply } => {
                if let Some(task) = self.tasks.get_mut(&connection) {
                    task.addr = Some(remote);
                }
                answer(reply, self.core.handle_secured(now, connection, remote, &certificate));
            }
            Note::Clock { connection, ahead } => self.core.handle_clock(connection, ahead),
            Note::Hello { connection, hello } => self.core.handle_hello(now, connection, hello),
            Note::Message { connection, message } => self.core.handle_message(now, connection, message),
            Note::Report { connection, offence, evidence } => {
                self.core.handle_report(now, connection, offence, &evidence);
            }
            Note::Rtt { connection, rtt } => self.core.handle_rtt(connection, rtt),
            Note::Probed { connection, alive } => self.core.handle_probed(now, connection, alive),
            Note::Idle { connection } => self.core.handle_idle(now, connection),
            Note::Closed { connection, reason, fault } => {
                self.handle.shared.metrics.count_closed(reason);
                let peer = self.core.peer_of(connection);
                self.core.handle_closed(now, connection, reason, fault);
                self.carry_out_all();
                if let Some(task) = self.tasks.remove(&connection) {
                    // Whoever wanted the peer has it if only this connection to it had to go.
                    let replaced = reason.is_replaced();
                    let other = peer.filter(|peer| replaced && self.core.connection_of(peer).is_some());
                    task.waiting.into_iter().for_each(|waiting| answer(waiting, other.ok_or(reason)));
                }
            }
        }
    }

    fn carry_out_all(&mut self) {
        while let Some(action) = self.core.poll_action() {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Dial { connection, addr } => {
                let known = addr.socket_addr();
                self.spawn(connection, Origin::Dial(addr), known, Direction::Outbound);
            }
            Action::Admit { connection, peer, standing, hello } => {
                self.admit(connection, peer, standing, *hello)
            }
            Action::Refuse { connection, refusal } => self.command(connection, Command::Refuse(refusal)),
            Action::Close { connection, code } => self.command(connection, Command::Close(code)),
            Action::Probe { connection } => self.command(connection, Command::Probe),
            Action::Send { connection, message } => {
                if let Some(peer) = self.tasks.get(&connection).and_then(|task| task.peer.as_ref()) {
                    // A peer whose queue is full does not get an answer; it is about to be found too slow.
                    let _ = peer.send(self.workshop.local.frame(&message, self.now()));
                }
            }
            Action::Down { connection, reason } => {
                if let Some(peer) = self.tasks.get_mut(&connection).and_then(|task| task.peer.take()) {
                    self.handle.shared.metrics.count_peer(peer.direction(), false);
                    self.emit(Event::PeerDown { peer, reason });
                }
            }
            Action::Failed { connection, addr, direction, peer, reason } => {
                tracing::debug!(%addr, %direction, %reason, "no session");
                self.emit(Event::Failed { connection, addr, direction, peer, reason });
            }
            Action::Unreached { addr, reason } => {
                tracing::warn!(%addr, %reason, "cannot connect to a peer that the operator named");
            }
            Action::StaleCertificate { peer, error } => {
                tracing::warn!(%peer, %error, "a peer met before shows a certificate outside its dates; let in all the same");
            }
            Action::ClockOff { peers, ahead } => tracing::warn!(
                peers,
                ahead_s = ahead,
                "this machine's clock seems to be wrong: at most outbound peers it is later by that (negative: earlier); \
                 set it, or blocks come too early or too late"
            ),
            Action::BanMissed => drop(self.handle.shared.metrics.bans_missed.inc()),
            Action::Resolve { name, port } => self.resolve(name, port),
            Action::Persist(file, bytes) => self.saver.save(file, bytes),
            Action::Banned(ban) => {
                self.handle.shared.metrics.bans.inc();
                tracing::warn!(subject = %ban.subject, reason = %ban.reason, evidence = %ban.evidence, until = %ban.until.to_utc(), "banned");
                self.emit(Event::Banned(ban));
            }
            Action::Unbanned(subject) => self.emit(Event::Unbanned(subject)),
            Action::Charged(offence) => self.handle.shared.metrics.count_offence(offence),
        }
    }

    fn admit(&mut self, connection: ConnectionId, id: PeerId, standing: i32, hello: bt2c_proto::Hello) {
        let now = self.now();
        let Some(task) = self.tasks.get_mut(&connection) else { return };
        let Some(addr) = task.addr else { return };
        let (outbox, stats) = (Arc::clone(&task.outbox), Arc::clone(&task.stats));
        let peer = Peer::new(connection, id, addr, task.direction, hello, now, standing, outbox, stats);
        task.peer = Some(peer.clone());
        task.waiting.drain(..).for_each(|waiting| answer(waiting, Ok(id)));
        self.handle.shared.metrics.count_peer(peer.direction(), true);
        // The session opens before anyone hears of the peer, so that what they send comes after the hello.
        self.command(connection, Command::Admit(peer.clone()));
        self.emit(Event::PeerUp(peer));
    }

    fn command(&mut self, connection: ConnectionId, command: Command) {
        let Some(task) = self.tasks.get_mut(&connection) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = task.commands.try_send(command) {
            // Without its sender the session ends.
            task.commands = mpsc::channel(1).0;
        }
    }

    fn emit(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.handle.shared.events.send(event);
    }

    fn resolve(&self, name: Box<str>, port: u16) {
        let (net, results) = (Arc::clone(&self.env.net), self.resolved.0.clone());
        let deadline = self.env.clock.sleep_until(self.now() + self.config.connection_timeout);
        let stop = self.workshop.shared.shutdown.clone();
        self.tracker.spawn(async move {
            let ips = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                found = net.resolve(name.clone()) => found.unwrap_or_default(),
                () = deadline => Vec::new(),
            };
            // The actor is gone only at a stop.
            let _ = results.send(Resolved { name, port, ips }).await;
        });
    }
}

/// Answers, unless nobody waits for it any more.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    let _ = reply.send(value);
}
