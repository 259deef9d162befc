//! Listeners, dials, and who answers at an address.

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, task::Waker, time::Duration};

use tokio::time::Instant;

use super::{Conn, Listening, State};
use crate::simulate::net::{
    link::Nat,
    pipe::{Pipe, wait, wake},
};

/// Connections that wait to be accepted at one listener.
const BACKLOG: usize = 128;

/// What becomes of a dial.
#[derive(Debug)]
pub(in super::super) enum Dial {
    /// Nobody answers, ever.
    Silent,
    /// Nobody answers until something heals.
    Cut,
    /// An answer comes after this time.
    Answer(Duration),
}

impl State {
    pub(in super::super) fn listen(
        &mut self,
        host: usize,
        life: u64,
        port: u16,
        declared: Option<Arc<[u8]>>,
    ) -> io::Result<(u64, SocketAddr)> {
        self.check_alive(host, life)?;
        let spec = self.hosts[host].spec;
        let port = if port == 0 { self.port(spec.public()) } else { port };
        let public = SocketAddr::new(spec.public(), port);
        let forwarded = matches!(spec.nat, Nat::PortMapped { .. });
        if self.listeners.contains_key(&(host, port)) || forwarded && self.forwards.contains_key(&public) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if forwarded {
            self.forwards.insert(public, host);
        }
        let number = self.number();
        let listening = Listening { number, declared, queue: VecDeque::new(), waker: None };
        self.listeners.insert((host, port), listening);
        Ok((number, SocketAddr::new(spec.ip, port)))
    }

    pub(in super::super) fn unlisten(&mut self, host: usize, port: u16, number: u64, now: Instant) {
        if self.listeners.get(&(host, port)).is_none_or(|listening| listening.number != number) {
            return;
        }
        for (conn, _) in self.remove_listener(host, port) {
            self.close(conn, 1, now);
        }
    }

    pub(super) fn remove_listener(&mut self, host: usize, port: u16) -> VecDeque<(u64, SocketAddr)> {
        if let Nat::PortMapped { public } = self.hosts[host].spec.nat {
            self.forwards.remove(&SocketAddr::new(public, port));
        }
        self.listeners.remove(&(host, port)).map(|listening| listening.queue).unwrap_or_default()
    }

    pub(in super::super) fn accept(
        &mut self,
        host: usize,
        port: u16,
        number: u64,
        waker: &Waker,
    ) -> Option<(u64, SocketAddr)> {
        let listening = self.listeners.get_mut(&(host, port)).filter(|found| found.number == number)?;
        let next = listening.queue.pop_front();
        if next.is_none() {
            wait(&mut listening.waker, waker);
        }
        next
    }

    /// Which host answers at an address, for this dialler.
    fn answering(&self, from: usize, remote: SocketAddr) -> Option<usize> {
        let Some(&host) = self.by_ip.get(&remote.ip()) else { return self.forwards.get(&remote).copied() };
        let (a, b) = (&self.hosts[from].spec, &self.hosts[host].spec);
        (b.nat == Nat::Open || a.public() == b.public()).then_some(host)
    }

    pub(in super::super) fn dial(&mut self, from: usize, life: u64, remote: SocketAddr) -> io::Result<Dial> {
        self.check_alive(from, life)?;
        let Some(to) = self.answering(from, remote) else { return Ok(Dial::Silent) };
        if self.is_cut(from, to) || self.is_cut(to, from) {
            return Ok(Dial::Cut);
        }
        let there = self.route(from, to).delay(0, &mut self.hosts[from].rng);
        let back = self.route(to, from).delay(0, &mut self.hosts[to].rng);
        Ok(Dial::Answer(there + back))
    }

    /// Completes a dial once its answer has had its time; `None` if something has been cut meanwhile.
    pub(in super::super) fn connect(
        &mut self,
        from: usize,
        life: u64,
        remote: SocketAddr,
        declared: Option<Arc<[u8]>>,
        now: Instant,
    ) -> io::Result<Option<u64>> {
        self.check_alive(from, life)?;
        let Some(to) = self.answering(from, remote) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        if self.is_cut(from, to) || self.is_cut(to, from) {
            return Ok(None);
        }
        let listening = self.listeners.get(&(to, remote.port()));
        let Some(listening) = listening.filter(|listening| listening.queue.len() < BACKLOG) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let declared = [declared, listening.declared.clone()];
        let pipes = [Pipe::new(self.route(from, to), now), Pipe::new(self.route(to, from), now)];
        let conn = Conn { hosts: [from, to], pipes, declared, closed: [false; 2], dead: [false; 2] };
        let number = self.number();
        self.conns.insert(number, conn);
        let spec = self.hosts[from].spec;
        // Inside one router's network, and to itself, a host is seen by its own address.
        let inside = spec.public() != remote.ip() && spec.public() == self.hosts[to].spec.public();
        let seen = if inside { spec.ip } else { spec.public() };
        let seen = SocketAddr::new(seen, self.port(spec.public()));
        if let Some(listening) = self.listeners.get_mut(&(to, remote.port())) {
            listening.queue.push_back((number, seen));
            wake(&mut listening.waker);
        }
        Ok(Some(number))
    }
}
