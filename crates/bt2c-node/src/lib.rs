//! The BT2C node: P2PNode, the command line, the control API and metrics.
