//! How everything that came was written, over all connections.

use bt2c_proto::{Envelope, Frame, Hello, Message, NodeId, Time};

/// What was noticed in the form of messages; judged at the end.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// How many messages came.
    pub(super) messages: usize,
    /// Bodies' bytes of the largest of them.
    pub(super) largest: usize,
    /// Messages without one of the four fields, or from somebody else.
    pub(super) envelope: Vec<String>,
    /// Messages that say what they may in other bytes than the page's.
    pub(super) spelling: Vec<String>,
    /// Messages of types that were not to be sent to us.
    pub(super) types: Vec<String>,
}

/// Faults of a kind that are remembered.
const REMEMBERED: usize = 8;

impl Form {
    /// Notes a message. `remote` is the hello of its sender, once it is in; `extended` whether ours had `features`.
    pub(super) fn note(
        &mut self,
        body: &[u8],
        envelope: &Envelope<'_>,
        message: Option<&Message>,
        remote: Option<&Hello>,
        extended: bool,
    ) {
        self.messages += 1;
        self.largest = self.largest.max(body.len());
        let name = super::client::name(envelope.kind);
        let Some(kind) = envelope.kind else {
            return push(&mut self.types, name.to_owned());
        };
        if !kind.is_base() && !extended {
            push(&mut self.types, format!("{name} to a peer without features"));
        }
        let (Some(timestamp), Some(sender)) = (envelope.timestamp, envelope.sender.as_deref()) else {
            return push(&mut self.envelope, format!("{name} without timestamp or sender"));
        };
        if let Some(remote) = remote.filter(|remote| remote.node_id.as_str() != sender) {
            push(&mut self.envelope, format!("{name} of {sender:?} on a connection of {}", remote.node_id));
        }
        // Whoever offers features may write fields that this page does not have yet.
        let newer = remote.and_then(|remote| remote.features.as_ref()).is_some_and(|offer| !offer.is_empty());
        let (Some(message), Ok(sender), false) = (message, sender.parse::<NodeId>(), newer) else { return };
        let Ok(written) = Frame::encode(message, &sender, Time::from_secs(timestamp)) else { return };
        let written = written.body();
        if written != body {
            let at = written.iter().zip(body).take_while(|(page, came)| page == came).count();
            push(&mut self.spelling, format!("{name} differs at byte {at}: {}", around(body, at)));
        }
    }
}

fn push(faults: &mut Vec<String>, fault: String) {
    if faults.len() < REMEMBERED && !faults.contains(&fault) {
        faults.push(fault);
    }
}

/// Some bytes before and after a place, as text.
fn around(body: &[u8], at: usize) -> String {
    let range = at.saturating_sub(16)..body.len().min(at + 24);
    format!("…{}…", String::from_utf8_lossy(&body[range]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(body: &str) -> Form {
        let mut form = Form::default();
        let envelope = Envelope::split(body.as_bytes()).unwrap();
        let message = envelope.message().unwrap();
        form.note(body.as_bytes(), &envelope, message.as_ref(), None, false);
        form
    }

    #[test]
    fn one_spelling_is_right() {
        let good = r#"{"type":"ping","data":{"timestamp":1},"timestamp":2,"sender":"a"}"#;
        let form = noted(good);
        assert!(form.envelope.is_empty() && form.spelling.is_empty() && form.types.is_empty());
        for bad in [good.replace(":2", ": 2"), good.replace(":2", ":2.0"), good.replace("ping", "pin\\u0067")]
        {
            assert_eq!(noted(&bad).spelling.len(), 1, "{bad}");
        }
    }

    #[test]
    fn envelopes_are_complete_and_types_known() {
        assert_eq!(noted(r#"{"type":"ping","data":{"timestamp":1}}"#).envelope.len(), 1);
        assert_eq!(noted(r#"{"type":"pang","data":{},"timestamp":2,"sender":"a"}"#).types.len(), 1);
        let throttled =
            r#"{"type":"throttled","data":{"type":"x","retry_after_ms":1},"timestamp":2,"sender":"a"}"#;
        assert_eq!(noted(throttled).types.len(), 1);
    }
}
