//! What a person is told when a peer they named was not connected to.

use bt2c_p2p::{CloseReason, HandshakeFailure};
use bt2c_proto::{CloseCode, PeerAddr};

/// Why there is no connection, and what to do about it.
pub(super) fn failure(addr: &PeerAddr, reason: CloseReason) -> String {
    match reason {
        CloseReason::Handshake(failure) => handshake(addr, failure),
        CloseReason::Local(code) | CloseReason::Refused(code) => ours(addr, code),
        CloseReason::Remote(code) => theirs(addr, code),
        CloseReason::Ended => format!(
            "{addr} ended the connection without a word: it may be full, may have banned this node, or be no BT2C node"
        ),
        CloseReason::Io(kind) => format!("the connection to {addr} broke ({kind}): try again"),
    }
}

fn handshake(addr: &PeerAddr, failure: HandshakeFailure) -> String {
    match failure {
        HandshakeFailure::Resolve => {
            format!("the name in {addr} does not resolve: check its spelling, or give an IP")
        }
        HandshakeFailure::Dial(kind) => format!(
            "nothing answers at {addr} ({kind}): check address and port, and that a node listens there"
        ),
        HandshakeFailure::Timeout => {
            format!("{addr} did not answer in time: check address and port, and firewalls on the way")
        }
        HandshakeFailure::Tls => {
            format!("{addr} does not speak BT2C's TLS: another program may listen there")
        }
        HandshakeFailure::Certificate => {
            format!(
                "{addr} shows a certificate that breaks a rule of the protocol: it is no BT2C node of this version"
            )
        }
        HandshakeFailure::Dates => {
            format!(
                "the certificate of {addr} is not valid now: check this machine's clock, then that node's"
            )
        }
        HandshakeFailure::Pin => format!(
            "{addr} has another identity than the one before the @: check that PeerId with its operator"
        ),
    }
}

/// We did not want it.
fn ours(addr: &PeerAddr, code: CloseCode) -> String {
    match code {
        CloseCode::SelfConnection => format!("{addr} is this node itself: name another one"),
        CloseCode::Banned => {
            format!("{addr} is banned here: see `bt2c-node bans`, and lift it with `bt2c-node unban`")
        }
        CloseCode::Full => format!("no slot is free for {addr}: disconnect a peer, or raise max_connections"),
        CloseCode::Timeout => {
            format!("{addr} connected, but said nothing in time: another program may listen there")
        }
        _ => either(addr, code)
            .unwrap_or_else(|| format!("this node closed the connection to {addr}: {}", code.name())),
    }
}

/// They did not want it.
fn theirs(addr: &PeerAddr, code: CloseCode) -> String {
    match code {
        CloseCode::SelfConnection => format!("{addr} is this node itself: name another one"),
        CloseCode::Banned => {
            format!("{addr} has banned this node: ask its operator, or wait until the ban ends")
        }
        CloseCode::Full => format!("{addr} has no free slot: try again later, or name another node"),
        CloseCode::Shutdown => format!("{addr} is stopping: try again once it runs"),
        _ => either(addr, code).unwrap_or_else(|| format!("{addr} closed the connection: {}", code.name())),
    }
}

/// The two do not fit, whoever noticed first.
fn either(addr: &PeerAddr, code: CloseCode) -> Option<String> {
    Some(match code {
        CloseCode::Network => format!("{addr} is a node of another network: check --network here and there"),
        CloseCode::Genesis => {
            format!("{addr} is on another genesis: compare `bt2c-node genesis show` here and there")
        }
        CloseCode::Version => {
            format!("{addr} speaks another version of the protocol: upgrade the older of the two")
        }
        CloseCode::Label => {
            format!(
                "the node_id of {addr} or of this node is taken by another node: choose another with --node-id"
            )
        }
        CloseCode::Replaced => format!("{addr} is connected already: see `bt2c-node peers`"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn failures_are_sentences_with_the_address_and_a_way_on() {
        let addr: PeerAddr = "192.0.2.1:8338".parse().unwrap();
        let mut reasons = vec![CloseReason::Ended, CloseReason::Io(ErrorKind::ConnectionReset)];
        reasons.extend(
            [
                HandshakeFailure::Resolve,
                HandshakeFailure::Dial(ErrorKind::ConnectionRefused),
                HandshakeFailure::Timeout,
                HandshakeFailure::Tls,
                HandshakeFailure::Certificate,
                HandshakeFailure::Dates,
                HandshakeFailure::Pin,
            ]
            .map(CloseReason::Handshake),
        );
        for code in [
            CloseCode::Network,
            CloseCode::Genesis,
            CloseCode::Version,
            CloseCode::SelfConnection,
            CloseCode::Label,
            CloseCode::Replaced,
            CloseCode::Full,
            CloseCode::Banned,
        ] {
            reasons.extend([CloseReason::Local(code), CloseReason::Remote(code), CloseReason::Refused(code)]);
        }
        for reason in reasons {
            let text = failure(&addr, reason);
            assert!(text.contains("192.0.2.1:8338") && text.contains(": "), "{reason}: {text}");
            assert!(!text.contains(&reason.to_string()), "{reason}: {text}");
        }
        assert_eq!(
            failure(&addr, CloseReason::Remote(CloseCode::Idle)),
            "192.0.2.1:8338 closed the connection: idle"
        );
    }
}
