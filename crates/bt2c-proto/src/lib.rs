//! BT2C wire protocol.
mod address;
mod block;
mod bounded;
mod genesis;
mod hash;
mod hex;
mod ids;
pub mod limits;
mod merkle;
mod net;
mod numbers;
mod serde_text;
mod time;
mod transaction;

pub use address::{Address, AddressError};
pub use block::{Block, BlockHeader, HeaderContent};
pub use bounded::{Blob, BlobError, Text, TextTooLong};
pub use genesis::{Genesis, GenesisError, Validator};
pub use hash::{BlockHash, Hasher, MerkleRoot, TxHash};
pub use hex::HexError;
pub use ids::{MAX_NODE_ID_LEN, Network, NetworkError, NodeId, NodeIdError, PeerId};
pub use merkle::merkle_root;
pub use net::{AddrError, Host, IpUnit, Netgroup, PeerAddr, Subnet, canonical, is_global, parse_wire_addr};
pub use numbers::Height;
pub use time::Time;
pub use transaction::Transaction;
