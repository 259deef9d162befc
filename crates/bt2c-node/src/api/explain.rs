//! `GET /explain/{subject}`: what was decided about a peer, an address or a block, and why.

use axum::{
    Json,
    extract::{Path, State as Extract},
};
use bt2c_p2p::{Decision, Explanation};
use bt2c_proto::{BlockHash, Height, PeerId, limits::MAX_INTEGER};
use bt2c_security::Subject;
use bt2c_sync::BlockDecision;
use serde::{Deserialize, Serialize};

use super::{ApiError, BanView, State};

/// Answer to `GET /explain/{subject}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainView {
    /// What was asked about, in its canonical form.
    pub subject: String,
    /// What is known of an identity or an address range; 64 hex digits may name one.
    pub peer: Option<PeerExplanation>,
    /// What is known of a block; a height or 64 hex digits may name one.
    pub block: Option<BlockExplanation>,
}

/// What is known of an identity or an address range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerExplanation {
    /// Whether such a peer is connected.
    pub connected: bool,
    /// Whether the allow-list covers it.
    pub allowed: bool,
    /// Bans in force that keep it, or part of it, out.
    pub bans: Vec<BanView>,
    /// Points of offences that still count; 100 ban.
    pub points: u32,
    /// Its own standing, −100 to 100; of an address, that of its address group.
    pub score: i32,
    /// What was decided about it, latest first.
    pub decisions: Vec<DecisionView>,
}

/// One decision, or several alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionView {
    /// `refused`, `closed`, `evicted`, `charged`, `banned`, `unbanned`.
    pub decision: String,
    /// Whom it was about.
    pub about: Vec<String>,
    /// The name of the rule.
    pub rule: String,
    /// What the rule says.
    pub meaning: String,
    /// The message or the count that showed it, the last time.
    pub evidence: String,
    /// When it was first decided, in seconds since the Unix epoch.
    pub first: u64,
    /// When it was last decided.
    pub last: u64,
    /// How often.
    pub times: u64,
    /// When it ends by itself.
    pub until: Option<u64>,
}

/// What is known of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockExplanation {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height, if it is stored or was seen.
    pub height: Option<Height>,
    /// Whether it is stored.
    pub stored: bool,
    /// Whether it is on the main chain.
    pub on_main_chain: bool,
    /// What was decided about it, latest first.
    pub decisions: Vec<BlockDecisionView>,
}

/// What was decided about a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDecisionView {
    /// `invalid`, `unjudged`, `orphan`, `main`, `branch`, `reverted`.
    pub verdict: String,
    /// What showed it.
    pub evidence: String,
    /// Who sent it.
    pub from: Option<PeerId>,
    /// When it was last decided, in seconds since the Unix epoch.
    pub at: u64,
    /// How often.
    pub times: u64,
}

impl From<Explanation> for PeerExplanation {
    fn from(told: Explanation) -> Self {
        Self {
            connected: told.connected,
            allowed: told.allowed,
            bans: told.bans.iter().map(BanView::from).collect(),
            points: told.points,
            score: told.standing,
            decisions: told.decisions.into_iter().map(DecisionView::from).collect(),
        }
    }
}

impl From<Decision> for DecisionView {
    fn from(decision: Decision) -> Self {
        Self {
            decision: decision.kind.name().to_owned(),
            about: decision.about.iter().map(Subject::to_string).collect(),
            rule: decision.rule.into_owned(),
            meaning: decision.meaning.to_owned(),
            evidence: decision.evidence.into_owned(),
            first: decision.first.as_secs(),
            last: decision.last.as_secs(),
            times: decision.times,
            until: decision.until.map(|until| until.as_secs()),
        }
    }
}

impl From<BlockDecision> for BlockDecisionView {
    fn from(decision: BlockDecision) -> Self {
        Self {
            verdict: decision.verdict.name().to_owned(),
            evidence: decision.evidence,
            from: decision.from,
            at: decision.at.as_secs(),
            times: decision.times,
        }
    }
}

/// `GET /explain/{subject}`.
pub(super) async fn explain(
    Extract(state): Extract<State>,
    Path(subject): Path<String>,
) -> Result<Json<ExplainView>, ApiError> {
    let whom = subject.parse::<Subject>().ok();
    let hash =
        match (subject.parse::<BlockHash>(), subject.parse::<u64>()) {
            (Ok(hash), _) => Some(hash),
            (_, Ok(height)) if height <= MAX_INTEGER => {
                let place = state.node.main_block(Height::new(height)).await;
                Some(place.map_err(|error| ApiError::internal(error.to_string()))?.ok_or_else(|| {
                    ApiError::not_found("no block at that height on this node's main chain")
                })?)
            }
            _ => None,
        };
    if whom.is_none() && hash.is_none() {
        return Err(ApiError::bad_request(
            "name an IP address, a network, a PeerId, or a block by its hash or height",
        ));
    }
    let mut view =
        ExplainView { subject: whom.map_or(subject, |whom| whom.to_string()), peer: None, block: None };
    if let Some(whom) = whom {
        view.peer = state.node.p2p().explain(whom).await.map(PeerExplanation::from);
    }
    if let Some(hash) = hash {
        view.block = block(&state, hash).await.map_err(|error| ApiError::internal(error.to_string()))?;
    }
    // 64 hex digits name an identity or a block: what is not known as a block is taken for the former.
    if view.block.is_none() && whom.is_none() {
        return Err(ApiError::not_found("nothing is known of such a block"));
    }
    Ok(Json(view))
}

async fn block(state: &State, hash: BlockHash) -> Result<Option<BlockExplanation>, bt2c_sync::StoreError> {
    let decisions = state.node.sync().explain_block(hash).await;
    let stored = state.node.block_place(hash).await?;
    let height =
        stored.as_ref().map(|(place, _)| place.height).or_else(|| decisions.first().map(|one| one.height));
    if height.is_none() {
        return Ok(None);
    }
    Ok(Some(BlockExplanation {
        hash,
        height,
        stored: stored.is_some(),
        on_main_chain: stored.is_some_and(|(_, main)| main),
        decisions: decisions.into_iter().map(BlockDecisionView::from).collect(),
    }))
}
