//! BT2C chain synchronisation: plan, fetch, import, serve; chain store and consensus.
