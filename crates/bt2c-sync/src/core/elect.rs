//! Whom to follow: the peer whose branch is the best that is not merely claimed.

use std::{cmp::Reverse, time::Duration};

use bt2c_p2p::Inventory;
use bt2c_proto::{BlockHash, Defence, PeerId, Time, limits::FRAME_LIMIT};

use super::{
    Action, Core, PeerState,
    peers::Claim,
    pursuit::{Pursuit, Stage},
};

/// How long those who claim much more than others are waited for to show it, before somebody else's branch is followed:
/// longer than a round trip, and a block, take over most lines.
pub(super) const SHOW_WITHIN: Duration = Duration::from_secs(1);

impl Core {
    /// Whether a peer says it has a better chain than ours, and may be asked for it.
    pub(super) fn is_candidate(&self, state: &PeerState) -> Option<Claim> {
        let claim = state.claim.filter(|_| state.usable())?;
        // Asked of every peer at every input, and mostly of peers that have what we have: the cheap question first.
        if !self.consensus.better(claim.tip(), self.tip().tip()) {
            return None;
        }
        let new = claim.hash.is_none_or(|hash| !self.recent.contains(&hash) && !self.is_arriving(&hash));
        new.then_some(claim)
    }

    /// Whether a block is about to be stored without being asked for.
    fn is_arriving(&self, hash: &BlockHash) -> bool {
        let storing = |hash: BlockHash| {
            // What is claimed is a tip, so of a batch only the end can be meant.
            let last = self.importing.as_ref().and_then(|importing| importing.batch.last());
            last.is_some_and(|block| block.place.hash == hash) || self.pushes.contains(&hash)
        };
        storing(*hash) || self.orphans.parent_of(hash).is_some_and(storing)
    }

    /// Whether a peer has the bodies of its branch from what follows our tip on.
    pub(super) fn keeps_what_we_lack(&self, state: &PeerState) -> bool {
        state.keeps(self.tip().height.get() + 1)
    }

    pub(super) fn has_candidates(&self) -> bool {
        self.peers.values().any(|state| self.is_candidate(state).is_some())
    }

    /// A height so far above ours that it has to be shown before it is believed.
    pub(super) fn is_far(&self, claim: Claim, state: &PeerState) -> bool {
        let answer = (FRAME_LIMIT / self.average_block().max(1)).max(1) as u64;
        let near = self.tip().height.get().saturating_add(answer);
        claim.height > near && claim.height > state.proven && self.config.defences.has(Defence::HeightProof)
    }

    /// Chooses the peer whose branch is followed.
    pub(super) fn elect(&mut self, now: Time) {
        if self.importing.is_some() && self.pursuit.is_none() {
            return;
        }
        self.search_exhausted();
        let mut shown = Vec::new();
        let mut highest_far = 0;
        for (peer, state) in &self.peers {
            let may_lead = state.muted_until <= now && self.keeps_what_we_lack(state);
            let Some(claim) = self.is_candidate(state).filter(|_| may_lead) else { continue };
            if self.is_far(claim, state) {
                if self.may_show(now, state, claim) {
                    highest_far = highest_far.max(claim.height);
                }
            } else {
                shown.push((*peer, claim.height, state.is_late(), state.demerits, state.standing));
            }
        }
        let top = shown.iter().map(|(_, height, ..)| *height).max().unwrap_or(0);
        let class = top.saturating_sub(self.config.max_reorg_depth);
        shown.retain(|(_, height, ..)| *height >= class);
        let best = shown
            .iter()
            .min_by_key(|(peer, height, late, demerits, standing)| {
                (*late, *demerits, Reverse(*height), Reverse(*standing), *peer)
            })
            .map(|(peer, ..)| *peer);
        match (&mut self.pursuit, best) {
            (None, Some(leader)) => {
                if highest_far <= top.saturating_add(self.config.max_reorg_depth) {
                    self.start_pursuit(leader);
                }
            }
            (None, None) => {}
            (Some(pursuit), Some(best)) => {
                let stays = shown.iter().any(|(peer, _, late, ..)| *peer == pursuit.leader && !late);
                if !stays && pursuit.leader != best {
                    let before = pursuit.leader;
                    pursuit.follow(best);
                    if matches!(pursuit.stage, Stage::Forking(_) | Stage::Locating) {
                        self.pursuit = None;
                        self.start_pursuit(best);
                    }
                    // Its stream may go on for ever, and is no longer what decides.
                    self.cancel(before);
                }
            }
            (Some(_), None) => self.end_pursuit(),
        }
    }

    /// Whether a peer that claims a far height is about to show it: it was just asked, or will be now.
    fn may_show(&self, now: Time, state: &PeerState, claim: Claim) -> bool {
        match state.request {
            Some(request) => !request.late && now.since(request.sent) < SHOW_WITHIN,
            None => state.pace.ready_at() <= now && self.wants_proof(claim),
        }
    }

    /// A leader whose branch is here up to the height that it claims, and whose claim is a better one still, has changed
    /// its branch, or claims what it does not have: its fork is looked for again, a few times.
    fn search_exhausted(&mut self) {
        let Some(pursuit) = self.pursuit.as_ref().filter(|_| self.importing.is_none()) else { return };
        let Some(state) = self.peers.get(&pursuit.leader) else { return };
        let Some(claim) = self.is_candidate(state) else { return };
        if matches!(pursuit.stage, Stage::Fetching) && claim.height <= pursuit.cursor.height.get() {
            self.search_fork(claim.height);
        }
    }

    fn start_pursuit(&mut self, leader: PeerId) {
        for state in self.peers.values_mut() {
            state.diverged = false;
        }
        let tip = self.tip();
        let claimed = self.peers.get(&leader).and_then(|state| state.claim).map_or(0, |claim| claim.height);
        self.pursuit = Some(Pursuit::new(leader, tip));
        if claimed <= tip.height.get() {
            // As long as ours, and another tip: they differ there.
            self.search_fork(claimed);
        }
    }

    /// Nobody has a better chain: tells the others of the tip, if it was fetched and not pushed to all.
    fn end_pursuit(&mut self) {
        if self.importing.is_some() {
            return;
        }
        self.pursuit = None;
        let tip = self.tip();
        if let Some(block) = self.fetched_tip.take().filter(|block| block.place.hash == tip.hash) {
            let inventory = Inventory::Block(tip.hash);
            for (&peer, state) in &self.peers {
                if state.claim.is_some_and(|claim| claim.hash == Some(tip.hash)) {
                    self.actions.push_back(Action::MarkSeen { peer, inventory });
                }
            }
            self.actions.push_back(Action::RelayBlock { hash: tip.hash, bytes: block.bytes });
        }
    }
}
