//! What handles ask of the actor.

use bt2c_proto::{Frame, PeerAddr, PeerId, Time};
use tokio::sync::oneshot;

use super::{Actor, answer};
use crate::{
    manager::{
        dialing::Wanted,
        ingress::{Inventory, Request},
    },
    peer::PeerInfo,
    reason::CloseReason,
};

impl Actor {
    pub(super) fn handle_request(&mut self, request: Request) {
        let now = self.now();
        match request {
            Request::Connect { addr, reply } => self.connect(now, addr, reply),
            Request::Disconnect { peer, code, reply } => {
                let connection = self.core.connection_of(&peer);
                connection.into_iter().for_each(|connection| self.core.close(connection, code));
                answer(reply, connection.is_some());
            }
            Request::Broadcast { frame, reply } => {
                let peers = self.tasks.values().filter_map(|task| task.peer.as_ref());
                answer(reply, peers.filter(|peer| peer.send(frame.clone()).is_ok()).count());
            }
            Request::Relay { inventory, frame } => self.relay(inventory, &frame),
            Request::Seen { inventory, peer } => {
                let connection = self.core.connection_of(&peer);
                connection.into_iter().for_each(|connection| self.seen.note(inventory, connection));
            }
            Request::Report { peer, offence, evidence } => {
                self.core.handle_judged(now, peer, offence, &evidence)
            }
            Request::Credit { peer, deed } => self.core.handle_deed(now, peer, deed),
            Request::Explain { subject, reply } => answer(reply, self.core.explain(now, subject)),
            Request::Decisions { reply } => answer(reply, self.core.decisions()),
            Request::Peers { reply } => answer(reply, self.peers(now)),
            Request::Known { reply } => answer(reply, self.core.known()),
            Request::Bans { reply } => answer(reply, self.core.parts().0.bans(now)),
            Request::Ban { subject, duration, reason, reply } => {
                answer(reply, self.core.ban(now, subject, duration, &reason));
            }
            Request::Unban { subject, reply } => answer(reply, self.core.unban(now, &subject)),
            Request::Allow { subject } => self.core.parts().0.allow(subject),
            Request::Disallow { subject, reply } => answer(reply, self.core.parts().0.disallow(&subject)),
            Request::SetTls { tls } => self.workshop.tls = tls,
            Request::IsBanned { ip, reply } => answer(reply, self.core.parts().0.is_banned(now, ip).cloned()),
        }
    }

    fn connect(&mut self, now: Time, addr: PeerAddr, reply: oneshot::Sender<Result<PeerId, CloseReason>>) {
        match self.core.connect(now, addr) {
            Err(reason) => answer(reply, Err(reason)),
            Ok(Wanted::Connected(peer)) => answer(reply, Ok(peer)),
            Ok(Wanted::Dialled(connection)) => {
                self.carry_out_all();
                if let Some(task) = self.tasks.get_mut(&connection) {
                    task.waiting.push(reply);
                }
            }
        }
    }

    fn peers(&self, now: Time) -> Vec<PeerInfo> {
        let peers = self.core.open().filter_map(|(connection, id)| {
            let peer = self.tasks.get(&connection)?.peer.clone()?;
            Some(PeerInfo { peer, score: self.core.score(now, &id) })
        });
        peers.collect()
    }

    fn relay(&mut self, inventory: Inventory, frame: &Frame) {
        let open = self.core.open().map(|(connection, _)| connection);
        let targets = self.seen.relay(inventory, open);
        let peers = targets.iter().filter_map(|connection| self.tasks.get(connection)?.peer.as_ref());
        let sent = peers.filter(|peer| peer.send(frame.clone()).is_ok()).count();
        self.handle.shared.metrics.relayed.inc_by(sent as u64);
    }
}
