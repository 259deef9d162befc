//! BT2C peer-to-peer manager: handshake, sessions, slots, routing, gossip and transports.
