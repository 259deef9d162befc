//! What BT2C nodes say to each other, and the objects they say it about.
//!
//! This crate is pure: it opens no socket, reads no clock and draws no randomness. It holds
//! - identities and addresses as types that cannot be malformed ([`PeerId`], [`NodeId`], [`PeerAddr`], [`Address`]),
//! - chain objects with their hashes and canonical bytes ([`Block`], [`Transaction`], [`Genesis`]),
//! - the messages ([`Message`]) and how they are framed ([`Frame`], [`FrameCodec`]) and split ([`Envelope`]),
//! - the limits that hold for everything a peer sends ([`limits`]).
//!
//! A frame goes through three steps, each of which can end it: [`FrameCodec`] checks its length before reading it,
//! [`Envelope::split`] checks depth, strings and the outer fields, and [`Envelope::message`] parses `data` on demand.
//!
//! ```
//! use bt2c_proto::{Envelope, Frame, FrameCodec, Message, NodeId, Ping, Time};
//! use bytes::BytesMut;
//! use tokio_util::codec::Decoder;
//!
//! let sender: NodeId = "alice".parse()?;
//! let ping = Message::Ping(Ping { timestamp: 1_712_352_000 });
//! let frame = Frame::encode(&ping, &sender, Time::from_secs(1_712_352_000))?;
//!
//! let mut received = BytesMut::from(frame.bytes().as_ref());
//! let body = FrameCodec::new().decode(&mut received)?.expect("the frame is complete");
//! let envelope = Envelope::split(&body)?;
//! assert_eq!(envelope.sender.as_deref(), Some("alice"));
//! assert_eq!(envelope.message()?, Some(ping));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod block;
mod bounded;
mod close;
mod defences;
mod envelope;
mod error;
mod frame;
mod genesis;
mod hash;
mod hello;
mod hex;
mod ids;
pub mod limits;
mod merkle;
mod message;
mod net;
mod numbers;
mod scan;
mod serde_text;
mod time;
mod transaction;
#[cfg(feature = "vectors")]
pub mod vectors;

pub use address::{Address, AddressError};
pub use block::{Block, BlockHeader, HeaderContent};
pub use bounded::{Blob, BlobError, Text, TextTooLong};
pub use close::{CloseCode, UnknownCloseCode};
pub use defences::{Defence, DefenceError, Defences};
pub use envelope::Envelope;
pub use error::{FrameError, ParseError};
pub use frame::{BLOCKS_FRAME_OVERHEAD, Frame, FrameCodec};
pub use genesis::{Genesis, GenesisError, Validator};
pub use hash::{BlockHash, Hasher, MerkleRoot, TxHash};
pub use hello::{Feature, Hello, Limits, Version, VersionError};
pub use hex::HexError;
pub use ids::{MAX_NODE_ID_LEN, Network, NetworkError, NodeId, NodeIdError, PeerId};
pub use merkle::merkle_root;
pub use message::{
    Blocks, Cancel, Disconnect, GetBlocks, GetHeaders, GetPeers, Headers, Message, MessageKind, NewBlock,
    NewTransaction, Peers, Ping, Throttled,
};
pub use net::{AddrError, Host, IpUnit, Netgroup, PeerAddr, Subnet, canonical, is_global, parse_wire_addr};
pub use numbers::Height;
pub use time::Time;
pub use transaction::Transaction;
