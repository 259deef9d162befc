//! The golden vectors as they stand in the crate's `vectors/`: JSON, in the forms that the README there describes.

/// Messages in the one form to send.
pub const MESSAGES: &str = include_str!("../vectors/messages.json");

/// Bodies that must be understood.
pub const TOLERATED: &str = include_str!("../vectors/tolerated.json");

/// Frames and bodies that must end the connection.
pub const REFUSED: &str = include_str!("../vectors/refused.json");

/// Chain objects with their hashes.
pub const CHAIN: &str = include_str!("../vectors/chain.json");

/// Certificates, and what they say or break.
pub const CERTIFICATES: &str = include_str!("../vectors/certificates.json");
