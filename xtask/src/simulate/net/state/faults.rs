//! Cuts and crashes.

use std::net::IpAddr;

use tokio::time::Instant;

use super::{Conn, Cut, State};
use crate::simulate::net::{
    flows::PipeId,
    pipe::{Signal, wake},
};

impl State {
    pub(in super::super) fn cut(&mut self, pairs: &[(&[IpAddr], &[IpAddr])], now: Instant) -> Vec<u64> {
        let mut numbers = Vec::new();
        for (from, to) in pairs {
            let number = self.number();
            let cut = Cut { from: from.iter().copied().collect(), to: to.iter().copied().collect() };
            self.cuts.insert(number, cut);
            numbers.push(number);
        }
        self.apply_cuts(now);
        numbers
    }

    pub(in super::super) fn heal(&mut self, healed: impl Fn(u64) -> bool, now: Instant) {
        self.cuts.retain(|number, _| !healed(*number));
        self.apply_cuts(now);
    }

    fn apply_cuts(&mut self, now: Instant) {
        self.catch_up(now);
        let ids: Vec<_> = self.conns.keys().flat_map(|number| [(*number, 0), (*number, 1)]).collect();
        for (number, side) in ids {
            let Some(conn) = self.conns.get(&number) else { continue };
            let frozen = self.is_cut(conn.hosts[side], conn.hosts[1 - side]);
            if frozen == conn.pipes[side].frozen {
                continue;
            }
            self.stop_flow((number, side), now);
            if let Some(conn) = self.conns.get_mut(&number) {
                if frozen {
                    conn.pipes[side].freeze(now);
                } else {
                    conn.pipes[side].frozen = false;
                }
            }
            self.pump((number, side), now);
        }
    }

    /// Ends a host's life: its listeners vanish and its streams are reset.
    pub(in super::super) fn crash(&mut self, host: usize, now: Instant) {
        if self.hosts[host].life.is_multiple_of(2) {
            return;
        }
        self.hosts[host].life += 1;
        let ports = self.listeners.range((host, 0)..=(host, u16::MAX)).map(|((_, port), _)| *port);
        let mut waiting = Vec::new();
        for port in ports.collect::<Vec<_>>() {
            waiting.extend(self.remove_listener(host, port));
        }
        let ends = |(number, conn): (&u64, &Conn)| {
            let number = *number;
            let hosts = conn.hosts;
            [0, 1].into_iter().filter(move |side| hosts[*side] == host).map(move |side| (number, side))
        };
        for id in self.conns.iter().flat_map(ends).collect::<Vec<_>>() {
            self.kill(id, now);
        }
        for (conn, _) in waiting {
            self.close(conn, 1, now);
        }
    }

    fn kill(&mut self, (number, side): PipeId, now: Instant) {
        self.stop_flow((number, side), now);
        let Some(conn) = self.conns.get_mut(&number) else { return };
        conn.dead[side] = true;
        let [zero, one] = &mut conn.pipes;
        let (out, back) = if side == 0 { (zero, one) } else { (one, zero) };
        out.forget_unsent();
        if !matches!(out.end, Signal::Arrives(_)) {
            (out.end, out.reset) = (Signal::Held, true);
        }
        if out.refusal == Signal::None {
            out.refusal = Signal::Held;
        }
        back.forget_sent();
        [&mut out.writer, &mut back.reader].into_iter().for_each(wake);
        self.pump((number, side), now);
    }
}
