//! Who is connected, as the manager's events tell it, and who is being answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bt2c_p2p::{ConnectionId, Peer};
use bt2c_proto::{Feature, Height, PeerId};
use tokio::sync::{broadcast::error::RecvError, mpsc};

use super::Actor;
use crate::{
    core::PeerFacts,
    serve::{QUESTIONS, Question, Server},
};

/// Ended connections that are remembered, for messages of theirs that are still in a channel.
const ENDED: usize = 256;

/// The connected peers.
#[derive(Default)]
pub(crate) struct Peers {
    pub(super) up: BTreeMap<PeerId, Connected>,
    ended: BTreeSet<ConnectionId>,
}

pub(super) struct Connected {
    pub(super) peer: Peer,
    /// Leads to the task that answers it, once it has asked something.
    questions: Option<mpsc::Sender<Question>>,
}

impl Actor {
    pub(super) async fn handle_peers(&mut self, event: Result<bt2c_p2p::Event, RecvError>) {
        match event {
            Ok(bt2c_p2p::Event::PeerUp(peer)) => self.peer_up(&peer),
            Ok(bt2c_p2p::Event::PeerDown { peer, .. }) => self.peer_down(&peer),
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => self.start_over().await,
            // The manager has stopped, and so will this, by whoever stops both.
            Err(RecvError::Closed) => self.stop.cancelled().await,
        }
    }

    /// Learns anew who is connected.
    pub(super) async fn start_over(&mut self) {
        let now: Vec<Peer> = self.p2p.peers().await.into_iter().map(|info| info.peer).collect();
        let gone: Vec<Peer> = self
            .peers
            .up
            .values()
            .map(|connected| connected.peer.clone())
            .filter(|peer| now.iter().all(|other| other.connection() != peer.connection()))
            .collect();
        for peer in &gone {
            self.peer_down(peer);
        }
        for peer in &now {
            self.peer_up(peer);
        }
    }

    pub(super) fn peer_up(&mut self, peer: &Peer) {
        let known = self.peers.up.get(&peer.id());
        // Of two connections of one peer, the newer has the greater number, and is the one that stays.
        if known.is_some_and(|known| known.peer.connection() >= peer.connection())
            || self.peers.ended.contains(&peer.connection())
        {
            return;
        }
        self.peers.up.insert(peer.id(), Connected { peer: peer.clone(), questions: None });
        let hello = peer.hello();
        let ours = &self.p2p.local().features;
        let shares = |feature: Feature| ours.contains(&feature) && hello.knows(feature);
        let facts = PeerFacts {
            id: peer.id(),
            height: hello.block_height,
            hash: hello.last_block_hash,
            genesis: hello.genesis_hash,
            standing: peer.standing(),
            streams: shares(Feature::BlockStream),
            tells_headers: shares(Feature::Headers),
            requests_per_minute: hello.limits.map(|limits| limits.requests_per_minute),
            first_block: hello.first_block.unwrap_or(Height::GENESIS),
        };
        self.core.handle_peer_up(self.now(), &facts);
    }

    fn peer_down(&mut self, peer: &Peer) {
        self.peers.ended.insert(peer.connection());
        while self.peers.ended.len() > ENDED {
            self.peers.ended.pop_first();
        }
        if self.peers.up.get(&peer.id()).is_some_and(|known| known.peer.connection() == peer.connection()) {
            self.peers.up.remove(&peer.id());
            self.core.handle_peer_down(self.now(), &peer.id());
        }
    }

    /// Hands a question to the task that answers this peer.
    pub(super) fn serve(&mut self, id: PeerId, question: Question) {
        let Some(Connected { peer, questions }) = self.peers.up.get_mut(&id) else { return };
        let sender = questions.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(QUESTIONS);
            let server = Server {
                store: Arc::clone(&self.store),
                compute: Arc::clone(&self.env.compute),
                clock: Arc::clone(&self.env.clock),
                node_id: self.p2p.local().node_id.clone(),
                metrics: Arc::clone(&self.metrics),
                stop: self.stop.clone(),
            };
            self.tasks.spawn(server.run(peer.clone(), receiver));
            sender
        });
        if sender.try_send(question).is_err() {
            self.metrics.unserved.inc();
        }
    }
}
