//! The limits that hold for everything a peer sends, each with its reason.

/// Largest integer of the wire: 2^53−1, the last one that a double represents exactly (RFC 8259, section 6).
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Largest frame body until both hellos are in: a hello needs a few hundred bytes.
pub const HELLO_FRAME_LIMIT: usize = 16 * 1024;

/// Largest frame body of an established connection: a full block and its envelope.
pub const FRAME_LIMIT: usize = 1024 * 1024;

/// Deepest nesting of a message; ours need six levels.
pub const MAX_DEPTH: usize = 16;

/// Longest string of a message in bytes once its escapes are resolved: a transaction's payload, the longest field,
/// has a 16-bit length in the hash.
pub const MAX_STRING: usize = 64 * 1024;

/// Longest transaction payload in bytes, from the 16-bit length in the hash.
pub const MAX_PAYLOAD: usize = u16::MAX as usize;

/// Largest canonical form of a block in bytes, so that it fits a frame with its envelope.
pub const MAX_BLOCK_BYTES: usize = 1_000_000;

/// Most addresses that may be asked for or sent at once.
pub const MAX_PEERS: usize = 1000;

/// How many addresses a `get_peers` without a count asks for.
pub const DEFAULT_PEERS: usize = 10;

/// Most blocks in one message. The smallest valid block is above 700 bytes, so a frame never holds more.
pub const MAX_BLOCKS: usize = 1536;

/// Most headers that may be asked for or sent at once.
pub const MAX_HEADERS: usize = 2000;

/// Most hashes of a locator: twenty near the tip and then every other power of two need fewer up to any height.
pub const MAX_LOCATOR: usize = 64;

/// Most transactions in one block. The smallest valid transaction is above 900 bytes, so a block never holds more.
pub const MAX_TRANSACTIONS: usize = 1200;

/// Longest decoded public key or signature in bytes: an RSA-4096 SubjectPublicKeyInfo has 550.
pub const MAX_BLOB: usize = 1024;

/// Most entries of a hello's `features`.
pub const MAX_FEATURES: usize = 32;

/// Longest entry of a hello's `features`, and longest network name, in bytes.
pub const MAX_FEATURE_LEN: usize = 64;

/// Longest `user_agent` and `reason` in bytes.
pub const MAX_TEXT: usize = 256;
