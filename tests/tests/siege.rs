//! A small siege, so that the large one of `cargo xtask siege` works when it is wanted.

use std::time::Duration;

use bt2c_tests::siege::{Mix, Siege, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_under_siege_keeps_its_honest_peers_and_gives_everything_back() {
    let report = run(Siege {
        node: env!("CARGO_BIN_EXE_besieged").into(),
        duration: Duration::from_secs(4),
        mix: Mix::of_all(40),
        before: Duration::from_millis(500),
        log: None,
        identities: 0,
    })
    .await
    .unwrap();
    assert!(report.is_ok(), "{report}");
}
