//! Peers that stream blocks and tell headers, and what becomes of those that do it badly.

use std::collections::BTreeMap;

use bt2c_proto::{Blocks, Height};

use super::{
    network::{Behaviour, NODE, Network},
    *,
};

/// Bytes a second of a line of 20 Mbit/s.
const LINE: u64 = 2_500_000;

/// A new node and peers that have the same chain of `count` blocks; all know everything.
fn modern(peers: usize, count: u64) -> Network {
    let mut network = Network::new(1 + peers);
    let chain = network.row(1, count, 0);
    for node in 0..=peers {
        network.nodes[node].modern = true;
        network.nodes[node].line = Some(LINE);
        if node != NODE {
            network.give(node, &chain);
        }
    }
    network
}

/// How long it takes until the node is at its first peer's tip.
fn time_to_sync(network: &mut Network, limit: Duration) -> Option<Duration> {
    let (start, goal) = (network.now, network.nodes[1].store.tip());
    while network.now.since(start) < limit {
        network.run(Duration::from_millis(50));
        if network.nodes[NODE].store.tip() == goal {
            return Some(network.now.since(start));
        }
    }
    None
}

#[test]
fn one_request_brings_the_whole_chain() {
    let mut network = modern(1, 3000);
    network.link(0, 1);
    network.run(Duration::from_secs(60));
    network.assert_one_tip();
    assert_eq!(network.nodes[1].served, 2, "one block that shows its height, and all");
    assert!(network.nodes[0].core.is_synced());
    network.assert_nobody_blamed();
}

#[test]
fn a_chain_longer_than_the_window_comes_in_one_stream() {
    let mut network = modern(1, 400);
    network.configure(NODE, |config| config.window_blocks = 50);
    network.link(0, 1);
    network.run(Duration::from_secs(60));
    network.assert_one_tip();
    assert_eq!(network.nodes[1].served, 2);
}

#[test]
fn peers_with_lines_of_their_own_bring_it_in_less_time() {
    let time = |peers: usize| {
        let mut network = modern(peers, 6000);
        network.nodes[NODE].core.average_block = Some(400);
        let others: Vec<usize> = (1..=peers).collect();
        for node in &others {
            network.nodes[*node].line = Some(100_000);
        }
        network.connect_to(NODE, &others);
        let time = time_to_sync(&mut network, Duration::from_secs(600)).expect("it ends");
        network.assert_nobody_blamed();
        let contributions: BTreeMap<_, _> = network.nodes[NODE].core.contributions().collect();
        assert_eq!(contributions.values().map(|sent| sent.blocks).sum::<u64>(), 6000);
        assert!(contributions.len() == peers, "{contributions:?}");
        time
    };
    let (one, four) = (time(1), time(4));
    assert!(four * 5 < one * 2, "{four:?} with four, {one:?} with one");
}

#[test]
fn several_quick_peers_are_asked_as_little_as_one() {
    let mut network = modern(4, 4000);
    network.configure(NODE, |config| (config.window_blocks, config.batch_blocks) = (400, 50));
    network.connect_to(NODE, &[1, 2, 3, 4]);
    let time = time_to_sync(&mut network, Duration::from_secs(60)).expect("it ends");
    assert!(time < Duration::from_secs(30), "{time:?}");
    let asked: usize = network.nodes[1..].iter().map(|node| node.served).sum();
    assert!(asked < 20, "{asked} requests");
    network.assert_nobody_blamed();
}

#[test]
fn who_has_pruned_is_asked_for_what_it_keeps() {
    let mut network = modern(2, 6000);
    network.nodes[1].line = Some(100_000);
    network.nodes[2].first_block = Height::new(2000);
    network.connect_to(NODE, &[2]);
    network.run(Duration::from_secs(10));
    // Nothing but whether it has what it claims: what follows ours, it does not keep.
    assert_eq!((network.nodes[2].served, network.nodes[NODE].store.tip().height), (1, Height::GENESIS));
    assert_eq!(network.nodes[NODE].core.bottleneck(), Some(Bottleneck::Peers));
    assert!(!network.nodes[NODE].core.is_synced());
    network.connect_to(NODE, &[1]);
    time_to_sync(&mut network, Duration::from_secs(600)).expect("it ends");
    let contributions: BTreeMap<_, _> = network.nodes[NODE].core.contributions().collect();
    assert_eq!(contributions.len(), 2, "it helps with the rest: {contributions:?}");
    assert!(network.nodes[NODE].core.peers.values().all(|state| state.demerits == 0));
    network.assert_nobody_blamed();
}

#[test]
fn what_is_taken_over_from_a_slow_leader_fits_the_window() {
    let mut network = modern(2, 12_000);
    network.configure(NODE, |config| config.window_bytes = 2 * FRAME_LIMIT);
    network.nodes[1].behaviour = Behaviour::Trickles(Duration::from_secs(1));
    network.nodes[2].line = Some(10_000_000);
    network.connect_to(NODE, &[1]);
    network.run(Duration::from_secs(3));
    network.connect_to(NODE, &[2]);
    let mut most = 0;
    for _ in 0..1000 {
        network.run(Duration::from_millis(10));
        most = most.max(network.nodes[NODE].core.pursuit.as_ref().map_or(0, Pursuit::bytes));
    }
    assert!((FRAME_LIMIT..2 * FRAME_LIMIT + FRAME_LIMIT / 4).contains(&most), "{most} bytes");
}

#[test]
fn the_fork_is_found_with_one_question() {
    for (ours, theirs) in [(20, 35), (1, 1), (99, 100), (30, 80)] {
        let mut network = Network::new(2);
        network.nodes.iter_mut().for_each(|node| node.modern = true);
        let common = network.row(0, 150, 0);
        network.give(0, &common);
        network.give(1, &common);
        network.grow(0, ours, 1);
        network.grow(1, theirs, 2);
        network.connect_all();
        network.run(Duration::from_secs(10));
        network.assert_one_tip();
        network.assert_nobody_blamed();
        let served: usize = network.nodes.iter().map(|node| node.served).sum();
        assert!(served <= 3, "{ours} {theirs}: {served} questions for blocks");
    }
}

#[test]
fn a_branch_that_headers_show_to_leave_too_deep_is_told_and_not_followed() {
    let mut network = Network::new(2);
    network.nodes.iter_mut().for_each(|node| node.modern = true);
    network.grow(0, 101, 1);
    network.grow(1, 150, 2);
    let before = network.nodes[0].store.tip();
    network.connect_all();
    network.run(Duration::from_secs(60));
    assert_eq!(network.nodes[0].store.tip(), before);
    assert!(network.nodes[0].events.iter().any(|event| matches!(event, Event::BranchTooDeep { .. })));
    network.assert_nobody_blamed();
}

/// A new node with an honest peer and others that misbehave, all with the same chain: one that takes blocks for small, and
/// one that takes them for so large that it asks for headers.
fn among(liars: &[Behaviour]) -> Network {
    among_blocks_of(400, liars);
    among_blocks_of(20_000, liars)
}

fn among_blocks_of(size: usize, liars: &[Behaviour]) -> Network {
    let mut network = modern(1 + liars.len(), 600);
    network.nodes[NODE].core.average_block = Some(size);
    for (node, behaviour) in (2..).zip(liars) {
        network.nodes[node].behaviour = behaviour.clone();
    }
    let mut others: Vec<usize> = (1..network.nodes.len()).collect();
    others.reverse();
    network.connect_to(NODE, &others);
    let time = time_to_sync(&mut network, Duration::from_secs(240));
    assert!(time.is_some_and(|time| time < Duration::from_secs(30)), "{time:?} with {liars:?}");
    assert!(!network.blamed.contains(&1), "the honest peer is not blamed");
    network
}

#[test]
fn who_withholds_the_bodies_of_good_headers_is_worked_around_and_not_blamed() {
    let mut network = among(&[Behaviour::Withholds]);
    assert!(network.blamed.is_empty());
    network.run(Duration::from_secs(120));
    assert!(network.closed.contains(&(2, CloseCode::Timeout)));
}

#[test]
fn who_streams_what_was_not_asked_for_is_blamed() {
    assert_eq!(among(&[Behaviour::Overshoots]).blamed, [2].into());
}

#[test]
fn who_tells_headers_of_nobodys_chain_is_blamed() {
    let mut network = modern(2, 600);
    network.nodes[NODE].core.average_block = Some(20_000);
    network.nodes[1].behaviour = Behaviour::StrayHeaders;
    network.connect_to(NODE, &[1, 2]);
    assert!(time_to_sync(&mut network, Duration::from_secs(60)).is_some());
    assert_eq!(network.blamed, [1].into());
}

#[test]
fn who_streams_invalid_bodies_is_blamed() {
    assert_eq!(among(&[Behaviour::WrongBodies]).blamed, [2].into());
}

#[test]
fn who_trickles_keeps_nobody_waiting_and_is_no_liar() {
    for time in [50, 400, 900, 1000, 1900] {
        let network = among(&[Behaviour::Trickles(Duration::from_millis(time))]);
        assert!(network.blamed.is_empty());
    }
    let network = among(&[Behaviour::Trickles(Duration::from_secs(1))]);
    let alone = modern(1, 600);
    assert!(network.nodes[NODE].store.tip() == alone.nodes[1].store.tip());
}

#[test]
fn who_stops_at_the_last_block_answers_late_or_not_at_all_does_no_harm() {
    let late = Behaviour::Late(Duration::from_secs(20));
    for liar in [Behaviour::StopsShort, late, Behaviour::Silent] {
        let network = among(std::slice::from_ref(&liar));
        assert!(network.blamed.is_empty(), "{liar:?}");
    }
}

#[test]
fn who_answers_twice_is_heard_once() {
    let network = among(&[Behaviour::Twice]);
    assert!(network.blamed.is_empty() || network.blamed == [2].into(), "{:?}", network.blamed);
}

#[test]
fn seven_of_eight_that_misbehave_hold_nothing_up_for_long() {
    let alone = {
        let mut network = modern(1, 3000);
        network.link(NODE, 1);
        time_to_sync(&mut network, Duration::from_secs(60)).expect("it ends")
    };
    let liars = [
        Behaviour::Silent,
        Behaviour::Withholds,
        Behaviour::WrongBodies,
        Behaviour::StopsShort,
        Behaviour::Trickles(Duration::from_secs(1)),
        Behaviour::Overshoots,
        Behaviour::FalseHeight(1_000_000),
    ];
    for first in 0..liars.len() {
        let mut network = modern(8, 3000);
        let mut others: Vec<usize> = (2..9).collect();
        others.rotate_left(first);
        others.insert(first, 1);
        for (node, behaviour) in (2..).zip(&liars) {
            network.nodes[node].behaviour = behaviour.clone();
        }
        network.connect_to(NODE, &others);
        let time = time_to_sync(&mut network, Duration::from_secs(300));
        // Who is silent costs the first wait.
        assert!(
            time.is_some_and(|time| time <= alone * 3 + Duration::from_secs(6)),
            "{time:?}, alone {alone:?}, {first}"
        );
        assert!(!network.blamed.contains(&1));
    }
}

#[test]
fn what_holds_it_up_is_said() {
    let told = |network: &Network| -> Vec<Bottleneck> {
        let progress = network.nodes[NODE].events.iter().filter_map(|event| match event {
            Event::SyncProgress(progress) => progress.bottleneck,
            _ => None,
        });
        progress.collect()
    };
    let mut network = modern(1, 6000);
    network.nodes[1].line = Some(100_000);
    network.link(NODE, 1);
    network.run(Duration::from_secs(15));
    assert!(told(&network).contains(&Bottleneck::Bandwidth), "{:?}", told(&network));
    let status = network.nodes[NODE].core.bottleneck();
    assert_eq!(status, Some(Bottleneck::Bandwidth));

    let mut network = Network::new(2);
    network.grow(1, 600, 0);
    network.fixed_answer = Some(5);
    network.connect_all();
    network.run(Duration::from_secs(60));
    assert_eq!(told(&network).last(), Some(&Bottleneck::Limits), "{:?}", told(&network));

    let mut network = modern(1, 50);
    network.nodes[NODE].failing_imports = 3;
    network.link(NODE, 1);
    network.run(Duration::from_secs(12));
    assert_eq!(told(&network).last(), Some(&Bottleneck::Disk), "{:?}", told(&network));

    let mut network = modern(1, 50);
    network.nodes[1].behaviour = Behaviour::Silent;
    network.link(NODE, 1);
    network.run(Duration::from_secs(20));
    assert_eq!(told(&network).last(), Some(&Bottleneck::Peers), "{:?}", told(&network));
}

#[test]
fn enough_is_enough_until_some_of_it_is_stored() {
    let mut network = modern(1, 400);
    network.configure(NODE, |config| config.window_blocks = 100);
    network.nodes[NODE].failing_imports = usize::MAX;
    network.link(NODE, 1);
    network.run(Duration::from_secs(1));
    assert!(network.nodes[NODE].core.is_saturated());
    // Who sends it is not blamed for what we do not take.
    network.run(Duration::from_secs(300));
    assert!(network.closed.is_empty() && network.blamed.is_empty());
    network.nodes[NODE].failing_imports = 0;
    network.run(Duration::from_secs(60));
    network.assert_one_tip();
    assert_eq!(network.nodes[NODE].store.tip().height, Height::new(400));
}

#[test]
fn who_never_shows_its_height_is_waited_for_a_second_whoever_else_was_not_asked() {
    let test = TestConsensus::new();
    let genesis = test.genesis_ref();
    let mut core = Core::new(SyncConfig::default(), Arc::new(TestConsensus::new()), [genesis]);
    let row = test.row(&genesis, 300, 0);
    let now = Time::from_secs(GENESIS_TIME + 10_000);
    let up = |core: &mut Core, number, height, hash| {
        let facts = PeerFacts {
            streams: true,
            tells_headers: true,
            ..PeerFacts::new(PeerId::from_bytes([number; 32]), Height::new(height), hash, Some(genesis.hash))
        };
        core.handle_peer_up(now, &facts);
    };
    let asked = |core: &mut Core| -> Vec<u64> {
        let asked = std::iter::from_fn(|| core.poll_action()).filter_map(|action| match action {
            Action::Request { range, .. } => Some(range.start_height.get()),
            _ => None,
        });
        asked.collect()
    };
    up(&mut core, 1, 300, Some(row[299].hash()));
    up(&mut core, 2, 1_000_000_000, None);
    assert_eq!(asked(&mut core), [300, 1_000_000_000], "each shows what it claims");
    core.handle_blocks(now, PeerId::from_bytes([1; 32]), Blocks::whole(vec![row[299].clone()]), 8192);
    // What this one claims is shown already: it is not asked.
    up(&mut core, 3, 300, Some(row[299].hash()));
    assert_eq!(asked(&mut core), [0_u64; 0]);
    let due = now + Duration::from_secs(1);
    assert_eq!(core.poll_timeout(), Some(due));
    core.handle_timeout(due);
    assert_eq!(asked(&mut core).first(), Some(&1));
}
