//! What the proxy does wrong.

use serde_json::{Value, json};

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    // In TLS.
    AnyAlpn,
    NoClientCertificate,
    Organisation,
    TwoCertificates,
    OtherLabel,
    Expired,
    Tickets,
    OldTls,
    // In hello and in the form of messages.
    SpeaksFirst,
    OtherTip,
    NoSender,
    OtherSender,
    FloatTimestamp,
    WhiteSpace,
    ThrottledToAll,
    // In answers.
    OtherPong,
    LongFrame,
    FloatPong,
    TooManyPeers,
    NamedPeers,
    ReversedBlocks,
    OtherRoot,
    LostTransaction,
    RepeatedTip,
    LosesQuestions,
    EndsOnUnknownType,
    EndsOnUnknownField,
    WantsSender,
    // In what goes beyond the base protocol.
    OtherStream,
    EndlessStream,
    NeverCancels,
    HeadersFromTwo,
    TooManyHeaders,
    // In what is refused.
    BansStrangers,
    OtherCode,
    KeepsLongFrame,
    KeepsSecondHello,
    KeepsInvertedRange,
    Patient,
}

/// What becomes of a frame from the checker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Up {
    Pass,
    Swallow,
    End,
}

impl Fault {
    /// What becomes of the `number`th frame that the checker sends.
    pub(crate) fn up(self, number: usize, body: &[u8]) -> Up {
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        let kind = message["type"].as_str().unwrap_or_default();
        let known = ["hello", "ping", "pong", "get_peers", "peers", "get_blocks", "blocks"].contains(&kind);
        let (start, end) = (&message["data"]["start_height"], &message["data"]["end_height"]);
        match self {
            Self::LosesQuestions if kind == "get_peers" && number % 2 == 1 => Up::Swallow,
            Self::EndsOnUnknownType if !known => Up::End,
            Self::EndsOnUnknownField if message.as_object().is_some_and(|fields| fields.len() > 4) => Up::End,
            Self::WantsSender if message["sender"].is_null() => Up::End,
            Self::NeverCancels if kind == "get_blocks" && message["data"]["stream"] == true => Up::Swallow,
            Self::KeepsSecondHello if kind == "hello" && number > 0 => Up::Swallow,
            Self::KeepsInvertedRange if start.as_u64() > end.as_u64() => Up::Swallow,
            _ => Up::Pass,
        }
    }

    /// What the checker gets in place of a frame from the node.
    pub(crate) fn down(self, body: Vec<u8>) -> Vec<Vec<u8>> {
        let text = String::from_utf8(body).expect("the node sends UTF-8");
        let mut message: Value = serde_json::from_str(&text).expect("the node sends JSON");
        let kind = message["type"].as_str().expect("the node sends envelopes").to_owned();
        if let Some(changed) = self.respelled(&text, &message) {
            return vec![changed.into_bytes()];
        }
        if self == Self::ThrottledToAll && kind == "hello" {
            let sender = &message["sender"];
            let data = r#"{"type":"get_peers","retry_after_ms":1}"#;
            let more = format!(r#"{{"type":"throttled","data":{data},"timestamp":1,"sender":{sender}}}"#);
            return vec![text.into_bytes(), more.into_bytes()];
        }
        if !self.change(&kind, &mut message["data"]) {
            return vec![text.into_bytes()];
        }
        vec![message.to_string().into_bytes()]
    }

    /// The same message in other bytes.
    fn respelled(self, text: &str, message: &Value) -> Option<String> {
        let (head, sender) = text.rsplit_once(r#","sender":"#)?;
        let timestamp = &message["timestamp"];
        Some(match self {
            Self::NoSender if message["type"] != "hello" => format!("{head}}}"),
            Self::OtherSender if message["type"] != "hello" => format!(r#"{head},"sender":"somebody"}}"#),
            Self::FloatTimestamp => {
                let head = head.strip_suffix(&timestamp.to_string())?;
                format!(r#"{head}{timestamp}.0,"sender":{sender}"#)
            }
            Self::WhiteSpace => format!(r#"{head}, "sender":{sender}"#),
            Self::LongFrame if message["type"] == "pong" => text.to_owned() + &" ".repeat(1 << 20),
            _ => return None,
        })
    }

    /// Changes what a message says; whether it did.
    fn change(self, kind: &str, data: &mut Value) -> bool {
        match (self, kind) {
            (Self::OtherTip, "hello") => data["last_block_hash"] = json!("5a".repeat(32)),
            (Self::OtherPong, "pong") => {
                data["timestamp"] = json!(data["timestamp"].as_u64().unwrap() / 2 + 1)
            }
            (Self::FloatPong, "pong") => data["timestamp"] = json!(1.5),
            (Self::TooManyPeers, "peers") => data["peers"] = json!(vec!["192.0.2.1:8336"; 20]),
            (Self::NamedPeers, "peers") => data["peers"] = json!(["seed.example.org:8336"]),
            (Self::OtherCode, "disconnect") => data["code"] = json!("full"),
            (Self::OtherStream, "blocks") if !data["request_id"].is_null() => data["request_id"] = json!(8),
            (Self::EndlessStream, "blocks") if data["done"] == true => {
                data.as_object_mut().unwrap().remove("done");
            }
            (Self::HeadersFromTwo, "headers") if data["headers"][0].is_object() => {
                data["headers"].as_array_mut().unwrap().remove(0);
            }
            (Self::TooManyHeaders, "headers") => {
                let first = data["headers"][0].clone();
                data["headers"].as_array_mut().unwrap().resize(5, first);
            }
            (_, "blocks") => return self.change_blocks(data["blocks"].as_array_mut().unwrap()),
            _ => return false,
        }
        true
    }

    fn change_blocks(self, blocks: &mut Vec<Value>) -> bool {
        match self {
            Self::ReversedBlocks => blocks.reverse(),
            Self::OtherRoot if blocks.len() > 1 => blocks[1]["merkle_root"] = json!("5a".repeat(32)),
            Self::LostTransaction if blocks.len() > 1 => {
                blocks[1]["transactions"].as_array_mut().unwrap().pop();
            }
            Self::RepeatedTip if blocks.is_empty() => blocks.push(genesis()),
            _ => return false,
        }
        true
    }
}

/// A block that reads well, of whatever network.
fn genesis() -> Value {
    let file: Value = serde_json::from_str(bt2c_proto::vectors::CHAIN).unwrap();
    serde_json::from_str(file["blocks"][0]["canonical"].as_str().unwrap()).unwrap()
}
