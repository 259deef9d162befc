//! The golden vectors of `vectors/` (described in its README), checked against this crate.
//!
//! Their expected values were computed by another implementation, so agreement here is agreement between two.

mod chain;
mod messages;

use serde::{Deserialize, de::DeserializeOwned};

/// A text, spelled out or as pieces that are each repeated.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Pieces(Vec<(String, usize)>),
}

impl Text {
    fn spelled_out(&self) -> String {
        match self {
            Self::Whole(text) => text.clone(),
            Self::Pieces(pieces) => pieces.iter().map(|(piece, times)| piece.repeat(*times)).collect(),
        }
    }
}

fn load<T: DeserializeOwned>(file: &str) -> T {
    serde_json::from_str(file).expect("a vector file has the form that its README describes")
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).expect("lower-case hex")
}
