//! The messages: the nine of the base protocol, and those that are sent to peers who know more.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    block::{Block, BlockHeader},
    bounded::{self, Object, Text},
    close::CloseCode,
    envelope::Envelope,
    error::ParseError,
    hash::BlockHash,
    hello::Hello,
    limits::{DEFAULT_PEERS, MAX_BLOCKS, MAX_HEADERS, MAX_LOCATOR, MAX_PEERS, MAX_TEXT},
    net::{WireAddr, canonical},
    numbers::{Height, WireInteger, flag, integer, narrow},
    transaction::Transaction,
};

/// Declares [`MessageKind`] with the wire name of each.
macro_rules! message_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// The `type` of a message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum MessageKind {
            $($(#[$doc])* $kind,)*
        }

        impl MessageKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// The kind of that wire name, if it is known here.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$kind),)*
                    _ => None,
                }
            }
        }
    };
}

message_kinds! {
    /// First message each way.
    Hello = "hello",
    /// Are you there?
    Ping = "ping",
    /// Yes.
    Pong = "pong",
    /// Asks for addresses.
    GetPeers = "get_peers",
    /// Answers with addresses.
    Peers = "peers",
    /// Asks for blocks by height.
    GetBlocks = "get_blocks",
    /// Answers with blocks.
    Blocks = "blocks",
    /// Pushes a block.
    NewBlock = "new_block",
    /// Pushes a transaction.
    NewTransaction = "new_transaction",
    /// Says why a connection is about to be closed; only to peers whose hello carried `features`.
    Disconnect = "disconnect",
    /// Says that an answer is delayed; only to peers whose hello carried `features`.
    Throttled = "throttled",
    /// Ends a stream of blocks; feature `block-stream`.
    Cancel = "cancel",
    /// Asks for headers by locator; feature `headers`.
    GetHeaders = "get_headers",
    /// Answers with headers; feature `headers`.
    Headers = "headers",
}

impl MessageKind {
    /// Whether the message is part of the base protocol, which every peer understands.
    pub const fn is_base(self) -> bool {
        !matches!(self, Self::Disconnect | Self::Throttled | Self::Cancel | Self::GetHeaders | Self::Headers)
    }

    /// Whether the message is a request that the request limit counts.
    pub const fn is_request(self) -> bool {
        matches!(self, Self::GetPeers | Self::GetBlocks | Self::GetHeaders)
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A message of the protocol, typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Message {
    /// See [`Hello`].
    Hello(Box<Hello>),
    /// Are you there?
    Ping(Ping),
    /// The answer to a ping, with its timestamp.
    Pong(Ping),
    /// Asks for addresses.
    GetPeers(GetPeers),
    /// Answers [`Message::GetPeers`].
    Peers(Peers),
    /// Asks for blocks.
    GetBlocks(GetBlocks),
    /// Answers [`Message::GetBlocks`].
    Blocks(Blocks),
    /// A block that the sender holds valid.
    NewBlock(NewBlock),
    /// A transaction that the sender holds valid.
    NewTransaction(NewTransaction),
    /// Why the sender is about to close the connection.
    Disconnect(Disconnect),
    /// An answer will come late.
    Throttled(Throttled),
    /// No more of a stream is wanted.
    Cancel(Cancel),
    /// Asks for headers.
    GetHeaders(GetHeaders),
    /// Answers [`Message::GetHeaders`].
    Headers(Headers),
}

/// Data of `ping` and `pong`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Chosen by the asker, echoed in the answer; by custom seconds since the Unix epoch.
    #[serde(deserialize_with = "integer")]
    pub timestamp: u64,
}

/// Data of `get_peers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetPeers {
    /// How many addresses are wanted: 1 to [`MAX_PEERS`], 10 if missing.
    #[serde(default = "default_count", deserialize_with = "count")]
    pub count: u64,
}

const fn default_count() -> u64 {
    DEFAULT_PEERS as u64
}

fn count<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(Option::<WireInteger>::deserialize(deserializer)?
        .map_or_else(default_count, |WireInteger(count)| count))
}

/// Data of `peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// At most [`MAX_PEERS`] addresses. Entries that are no IP literal with a port are dropped on receipt.
    #[serde(serialize_with = "canonical_addresses", deserialize_with = "addresses")]
    pub peers: Vec<SocketAddr>,
}

/// Writes addresses as any host understands them, without an IPv6 scope.
fn canonical_addresses<S: serde::Serializer>(addrs: &[SocketAddr], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(addrs.iter().copied().map(canonical))
}

/// Reads addresses, bounded by the number of entries and not of those that are kept.
fn addresses<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    bounded::filtered::<MAX_PEERS, WireAddr, SocketAddr, D>(deserializer, |WireAddr(addr)| addr)
}

/// Data of `get_blocks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetBlocks {
    /// Lowest height wanted.
    pub start_height: Height,
    /// Highest height wanted, inclusive.
    pub end_height: Height,
    /// Whether the answer may be more than one message: feature `block-stream`. Then there is a `request_id`.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "flag")]
    pub stream: bool,
    /// Stands in every message of the answer: feature `block-stream`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "narrow")]
    pub request_id: Option<u32>,
}

impl GetBlocks {
    /// Asks for what one message holds of the blocks from `start_height` to `end_height`, inclusive.
    pub const fn range(start_height: Height, end_height: Height) -> Self {
        Self { start_height, end_height, stream: false, request_id: None }
    }

    /// Asks for all of them, in as many messages as it takes.
    pub const fn stream(request_id: u32, start_height: Height, end_height: Height) -> Self {
        Self { start_height, end_height, stream: true, request_id: Some(request_id) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Data of `blocks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// Contiguous and ascending from the requested start; may stop early; empty means none of them.
    #[serde(deserialize_with = "bounded::list::<MAX_BLOCKS, _, _>")]
    pub blocks: Vec<Block>,
    /// In the messages of a stream, the request that it answers: feature `block-stream`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "narrow")]
    pub request_id: Option<u32>,
    /// Whether this is the last message of a stream.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "flag")]
    pub done: bool,
}

impl Blocks {
    /// A whole answer in one message.
    pub const fn whole(blocks: Vec<Block>) -> Self {
        Self { blocks, request_id: None, done: false }
    }

    /// Whether another message of the same answer follows.
    pub const fn goes_on(&self) -> bool {
        self.request_id.is_some() && !self.done
    }
}

/// Data of `new_block`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewBlock {
    /// The block.
    pub block: Block,
}

/// Data of `new_transaction`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTransaction {
    /// The transaction.
    #[serde(deserialize_with = "bounded::object")]
    pub transaction: Transaction,
}

/// Data of `disconnect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnect {
    /// The cause.
    pub code: CloseCode,
    /// The cause in words, for the operator's log.
    pub reason: Text<MAX_TEXT>,
}

/// Data of `throttled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttled {
    /// The type of the delayed request.
    #[serde(rename = "type")]
    pub kind: Text<MAX_TEXT>,
    /// The delayed request's id, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "narrow")]
    pub request_id: Option<u32>,
    /// Milliseconds until the answer.
    #[serde(deserialize_with = "integer")]
    pub retry_after_ms: u64,
}

/// Data of `cancel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The stream's request.
    #[serde(deserialize_with = "integer_32")]
    pub request_id: u32,
}

fn integer_32<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    narrow(deserializer)?.ok_or_else(|| serde::de::Error::custom("request_id is null"))
}

/// Data of `get_headers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetHeaders {
    /// Hashes of blocks of the asker's main chain, highest first, ever sparser downwards: at most [`MAX_LOCATOR`]. The
    /// answer starts above the first of them that is on the other side's main chain.
    #[serde(deserialize_with = "bounded::list::<MAX_LOCATOR, _, _>")]
    pub locator: Vec<BlockHash>,
    /// How many headers are wanted: 1 to [`MAX_HEADERS`].
    #[serde(deserialize_with = "integer")]
    pub count: u64,
}

/// Data of `headers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers {
    /// Each the child of the one before, the first a child of the block that both sides share; may stop early; empty if
    /// there is nothing above it.
    #[serde(deserialize_with = "headers")]
    pub headers: Vec<BlockHeader>,
}

fn headers<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<BlockHeader>, D::Error> {
    bounded::filtered::<MAX_HEADERS, Object<BlockHeader>, BlockHeader, D>(deserializer, |Object(header)| {
        Some(header)
    })
}

impl Message {
    /// The message's type.
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Hello(_) => MessageKind::Hello,
            Self::Ping(_) => MessageKind::Ping,
            Self::Pong(_) => MessageKind::Pong,
            Self::GetPeers(_) => MessageKind::GetPeers,
            Self::Peers(_) => MessageKind::Peers,
            Self::GetBlocks(_) => MessageKind::GetBlocks,
            Self::Blocks(_) => MessageKind::Blocks,
            Self::NewBlock(_) => MessageKind::NewBlock,
            Self::NewTransaction(_) => MessageKind::NewTransaction,
            Self::Disconnect(_) => MessageKind::Disconnect,
            Self::Throttled(_) => MessageKind::Throttled,
            Self::Cancel(_) => MessageKind::Cancel,
            Self::GetHeaders(_) => MessageKind::GetHeaders,
            Self::Headers(_) => MessageKind::Headers,
        }
    }
}

impl Envelope<'_> {
    /// Parses `data`; `None` if the type is unknown here.
    ///
    /// # Errors
    /// [`ParseError::Data`], [`ParseError::Invalid`] or [`ParseError::HelloEnvelope`].
    pub fn message(&self) -> Result<Option<Message>, ParseError> {
        let Some(kind) = self.kind else { return Ok(None) };
        let message = parse_data(kind, self.data).map_err(|source| ParseError::Data { kind, source })?;
        match &message {
            Message::Hello(hello)
                if self.timestamp.is_none() || self.sender.as_deref() != Some(hello.node_id.as_str()) =>
            {
                return Err(ParseError::HelloEnvelope);
            }
            Message::GetPeers(request) if request.count == 0 || request.count > MAX_PEERS as u64 => {
                return Err(ParseError::Invalid { kind, what: "count is outside 1 to 1000" });
            }
            Message::GetBlocks(request) if request.start_height > request.end_height => {
                return Err(ParseError::Invalid { kind, what: "start_height is above end_height" });
            }
            Message::GetBlocks(request) if request.stream && request.request_id.is_none() => {
                return Err(ParseError::Invalid { kind, what: "a stream needs a request_id" });
            }
            Message::Blocks(answer) if answer.goes_on() && answer.blocks.is_empty() => {
                return Err(ParseError::Invalid { kind, what: "no blocks, and not done" });
            }
            Message::GetHeaders(request) if request.count == 0 || request.count > MAX_HEADERS as u64 => {
                return Err(ParseError::Invalid { kind, what: "count is outside 1 to 2000" });
            }
            _ => {}
        }
        Ok(Some(message))
    }
}

fn parse_data(kind: MessageKind, data: &str) -> serde_json::Result<Message> {
    Ok(match kind {
        MessageKind::Hello => Message::Hello(serde_json::from_str(data)?),
        MessageKind::Ping => Message::Ping(serde_json::from_str(data)?),
        MessageKind::Pong => Message::Pong(serde_json::from_str(data)?),
        MessageKind::GetPeers => Message::GetPeers(serde_json::from_str(data)?),
        MessageKind::Peers => Message::Peers(serde_json::from_str(data)?),
        MessageKind::GetBlocks => Message::GetBlocks(serde_json::from_str(data)?),
        MessageKind::Blocks => Message::Blocks(serde_json::from_str(data)?),
        MessageKind::NewBlock => Message::NewBlock(serde_json::from_str(data)?),
        MessageKind::NewTransaction => Message::NewTransaction(serde_json::from_str(data)?),
        MessageKind::Disconnect => Message::Disconnect(serde_json::from_str(data)?),
        MessageKind::Throttled => Message::Throttled(serde_json::from_str(data)?),
        MessageKind::Cancel => Message::Cancel(serde_json::from_str(data)?),
        MessageKind::GetHeaders => Message::GetHeaders(serde_json::from_str(data)?),
        MessageKind::Headers => Message::Headers(serde_json::from_str(data)?),
    })
}
