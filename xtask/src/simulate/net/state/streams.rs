//! What the ends of a connection do.

use std::{io, task::Waker};

use tokio::{io::ReadBuf, time::Instant};

use super::State;
use crate::simulate::net::{
    flows::PipeId,
    pipe::{Progress, Signal, wait, wake},
};

impl State {
    pub(in super::super) fn read(
        &mut self,
        (conn, side): PipeId,
        now: Instant,
        buf: &mut ReadBuf<'_>,
        waker: &Waker,
    ) -> Progress {
        let Some(conn) = self.conns.get_mut(&conn).filter(|conn| !conn.dead[side]) else {
            return Progress::Failed(io::ErrorKind::ConnectionReset);
        };
        let pipe = &mut conn.pipes[1 - side];
        let progress = pipe.take(now, buf);
        match progress {
            Progress::Done(len) => self.hosts[pipe.route.to].traffic.received += len as u64,
            Progress::Until(_) | Progress::Wait => wait(&mut pipe.reader, waker),
            Progress::Failed(_) => {}
        }
        progress
    }

    pub(in super::super) fn write(
        &mut self,
        id: PipeId,
        now: Instant,
        bytes: &[u8],
        waker: &Waker,
    ) -> Progress {
        let (number, side) = id;
        let Some(conn) = self.conns.get_mut(&number).filter(|conn| !conn.dead[side]) else {
            return Progress::Failed(io::ErrorKind::ConnectionReset);
        };
        let refusal = conn.pipes[1 - side].refusal;
        let pipe = &mut conn.pipes[side];
        if pipe.end != Signal::None || refusal.is_known(now) {
            return Progress::Failed(io::ErrorKind::BrokenPipe);
        }
        let taken = pipe.put(bytes);
        if taken == 0 && !bytes.is_empty() {
            wait(&mut pipe.writer, waker);
            return match refusal {
                Signal::Arrives(at) => Progress::Until(at),
                Signal::None | Signal::Held => Progress::Wait,
            };
        }
        self.pump(id, now);
        Progress::Done(taken)
    }

    /// Nothing more will be written.
    pub(in super::super) fn shut(&mut self, (number, side): PipeId, now: Instant) {
        let Some(conn) = self.conns.get_mut(&number) else { return };
        if conn.pipes[side].end == Signal::None {
            conn.pipes[side].end = Signal::Held;
            self.pump((number, side), now);
        }
    }

    /// One side of a connection is dropped.
    pub(in super::super) fn close(&mut self, number: u64, side: usize, now: Instant) {
        let Some(conn) = self.conns.get_mut(&number) else { return };
        conn.closed[side] = true;
        if conn.closed[1 - side] {
            self.stop_flow((number, 0), now);
            self.stop_flow((number, 1), now);
            self.conns.remove(&number);
            return;
        }
        conn.pipes[1 - side].forget_sent();
        let out = &mut conn.pipes[side];
        for signal in [&mut out.end, &mut out.refusal] {
            if *signal == Signal::None {
                *signal = Signal::Held;
            }
        }
        wake(&mut conn.pipes[1 - side].writer);
        self.pump((number, side), now);
    }

    /// Lets leave what can leave.
    pub(super) fn pump(&mut self, id: PipeId, now: Instant) {
        let Some(conn) = self.conns.get_mut(&id.0) else { return };
        let pipe = &mut conn.pipes[id.1];
        if pipe.frozen {
            return;
        }
        let from = &mut self.hosts[pipe.route.from];
        if !pipe.is_limited() {
            while pipe.next_len().is_some() {
                from.traffic.sent += pipe.launch(now, &mut from.rng) as u64;
            }
        }
        pipe.launch_signals(now, &mut from.rng);
        if pipe.flow.is_none() && pipe.next_len().is_some() {
            self.start_flow(id, now);
        }
    }
}
