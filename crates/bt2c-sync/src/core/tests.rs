mod anything;
mod network;
mod streams;

use std::time::Duration;

use bt2c_proto::{Block, BlockHeader, Blocks, limits::FRAME_LIMIT};
use bt2c_security::Deed;

use self::network::{Behaviour, NODE, Network, id};
use super::*;
use crate::{
    ChainStore, MemoryStore, check_block,
    testing::{GENESIS_TIME, TestConsensus, places},
};

#[test]
fn a_new_node_fetches_the_chain_from_one_peer() {
    let mut network = Network::new(2);
    network.grow(1, 3000, 0);
    network.connect_all();
    network.run(Duration::from_secs(300));
    network.assert_one_tip();
    assert!(network.nodes[0].core.is_synced());
    assert_eq!(
        network.nodes[0].events.iter().filter(|event| matches!(event, Event::BlockAdded { .. })).count(),
        3000
    );
    network.assert_nobody_blamed();
}

#[test]
fn several_peers_share_the_work() {
    let mut network = Network::new(5);
    let chain = network.row(1, 3000, 0);
    for node in 1..5 {
        network.give(node, &chain);
    }
    network.connect_to(0, &[1, 2, 3, 4]);
    network.nodes[0].core.average_block = Some(10_000);
    network.fixed_answer = Some(100);
    network.run(Duration::from_secs(300));
    network.assert_one_tip();
    for node in 1..5 {
        assert!(network.nodes[node].served >= 3, "node {node} served {}", network.nodes[node].served);
    }
    network.assert_nobody_blamed();
}

#[test]
fn blocks_and_transactions_spread_and_are_relayed_once() {
    let mut network = Network::new(4);
    network.link(0, 1);
    network.link(1, 2);
    network.link(2, 3);
    network.link(3, 0);
    network.run(Duration::from_secs(1));
    let tip = network.nodes[0].store.tip();
    let transaction = network.test.transaction(1, GENESIS_TIME, 1);
    network.submit_transaction(0, transaction.clone());
    network.run(Duration::from_secs(1));
    for node in &network.nodes {
        assert!(node.core.pool().get(&transaction.hash).is_some());
    }
    let block = network.test.block(&tip, 1, 0, vec![transaction]);
    network.submit_block(0, block);
    network.run(Duration::from_secs(1));
    network.assert_one_tip();
    assert_eq!(network.nodes[3].store.tip().height.get(), 1);
    for node in &network.nodes {
        assert!(node.core.pool().is_empty(), "included transactions leave the pool");
    }
    // Four links: each object crosses each at most twice (once each way), usually once.
    assert!(network.pushes <= 12, "{} pushes", network.pushes);
    network.assert_nobody_blamed();
    assert_eq!(network.nodes[0].replies, [Ok(()), Ok(())]);
}

#[test]
fn a_missed_block_is_fetched_when_its_child_comes() {
    let mut network = Network::new(2);
    let row = network.row(1, 3, 0);
    network.connect_all();
    network.run(Duration::from_secs(1));
    network.give(1, &row);
    network.push(1, 0, row[2].clone());
    network.run(Duration::from_secs(5));
    network.assert_one_tip();
    network.assert_nobody_blamed();
}

#[test]
fn orphans_pushed_out_of_order_need_no_fetching() {
    let mut network = Network::new(2);
    let row = network.row(1, 3, 0);
    network.link(0, 1);
    network.nodes[1].behaviour = Behaviour::Silent;
    for block in [&row[1], &row[2], &row[0]] {
        network.push(1, 0, block.clone());
    }
    network.run(Duration::from_secs(5));
    assert_eq!(network.nodes[0].store.tip(), *places(&row).last().unwrap());
}

#[test]
fn two_halves_of_a_split_network_become_one_by_reorganisation() {
    for (left, right) in [(20, 35), (35, 20), (30, 30), (1, 1), (99, 100)] {
        let mut network = Network::new(2);
        let common = network.row(0, 150, 0);
        network.give(0, &common);
        network.give(1, &common);
        network.grow(0, left, 1);
        network.grow(1, right, 2);
        network.connect_all();
        network.run(Duration::from_secs(120));
        network.assert_one_tip();
        let reorganised = network.nodes.iter().flat_map(|node| &node.events);
        let count = reorganised.filter(|event| matches!(event, Event::Reorganised { .. })).count();
        assert_eq!(count, 1, "{left} {right}");
        network.assert_nobody_blamed();
    }
}

#[test]
fn a_reorganisation_travels_to_those_who_are_not_at_the_border() {
    let mut network = Network::new(4);
    let common = network.row(0, 20, 0);
    for node in 0..4 {
        network.give(node, &common);
    }
    let (left, right) = (network.row(0, 5, 1), network.row(2, 9, 2));
    network.give(0, &left);
    network.give(1, &left);
    network.give(2, &right);
    network.give(3, &right);
    network.link(0, 1);
    network.link(2, 3);
    network.run(Duration::from_secs(5));
    network.link(1, 2);
    network.run(Duration::from_secs(60));
    network.assert_one_tip();
    assert_eq!(network.nodes[0].store.tip().height.get(), 29);
}

#[test]
fn a_branch_that_leaves_too_deep_is_told_and_not_followed() {
    let mut network = Network::new(2);
    network.grow(0, 101, 1);
    network.grow(1, 150, 2);
    let before = network.nodes[0].store.tip();
    network.connect_all();
    network.run(Duration::from_secs(120));
    assert_eq!(network.nodes[0].store.tip(), before);
    let told =
        |event: &Event| matches!(event, Event::BranchTooDeep { below, .. } if *below == Height::new(1));
    assert_eq!(network.nodes[0].events.iter().filter(|event| told(event)).count(), 1, "and not again");
    network.assert_nobody_blamed();

    // One block less deep is followed.
    let mut network = Network::new(2);
    network.grow(0, 100, 1);
    network.grow(1, 150, 2);
    network.connect_all();
    network.run(Duration::from_secs(120));
    network.assert_one_tip();
}

#[test]
fn a_branch_that_falls_too_deep_while_it_is_fetched_is_given_up() {
    let mut network = Network::new(3);
    let common = network.row(0, 10, 0);
    network.give(0, &common);
    network.give(1, &common);
    network.grow(0, 90, 1);
    network.grow(1, 300, 2);
    network.fixed_answer = Some(1);
    network.nodes[2].behaviour = Behaviour::Silent;
    network.link(0, 1);
    network.run(Duration::from_secs(10));
    network.link(0, 2);
    // Meanwhile our own chain grows past the depth at which the other one may still win.
    let ours = network.row(0, 60, 1);
    for block in &ours {
        network.push(2, 0, block.clone());
        network.run(Duration::from_millis(500));
    }
    network.run(Duration::from_secs(600));
    assert_eq!(network.nodes[0].store.tip(), *places(&ours).last().unwrap());
    assert!(network.nodes[0].events.iter().any(|event| matches!(event, Event::BranchTooDeep { .. })));
    assert!(!network.nodes[0].events.iter().any(|event| matches!(event, Event::Reorganised { .. })));
    network.assert_nobody_blamed();
}

/// A new node with an honest peer that has 400 blocks, and others that misbehave.
fn among(liars: &[Behaviour]) -> Network {
    let mut network = Network::new(2 + liars.len());
    let chain = network.row(1, 400, 0);
    network.fixed_answer = Some(50);
    // So that no one of them is asked for all.
    network.nodes[NODE].core.average_block = Some(10_000);
    for node in 1..network.nodes.len() {
        network.give(node, &chain);
    }
    for (node, behaviour) in (2..).zip(liars) {
        network.nodes[node].behaviour = behaviour.clone();
    }
    let others: Vec<usize> = (1..network.nodes.len()).collect();
    network.connect_to(0, &others);
    network.run(Duration::from_secs(240));
    let honest = network.nodes[1].store.tip();
    assert_eq!(network.nodes[NODE].store.tip(), honest, "with {liars:?}");
    assert!(!network.blamed.contains(&1), "the honest peer is not blamed");
    network
}

#[test]
fn a_peer_that_never_answers_is_worked_around_and_closed() {
    let network = among(&[Behaviour::Silent]);
    assert!(network.closed.contains(&(2, CloseCode::Timeout)));
    assert!(network.blamed.is_empty());
    assert!(network.nodes[0].events.iter().any(|event| matches!(event, Event::Stalled { .. })));
}

#[test]
fn a_peer_that_answers_with_another_range_is_blamed() {
    let network = among(&[Behaviour::WrongRange]);
    assert_eq!(network.blamed, [2].into());
}

#[test]
fn a_peer_that_sends_invalid_bodies_is_blamed_and_its_hashes_are_not_condemned() {
    let network = among(&[Behaviour::WrongBodies]);
    assert_eq!(network.blamed, [2].into());
    let network = among(&[Behaviour::ForgedSeals]);
    assert_eq!(network.blamed, [2].into());
}

#[test]
fn a_peer_that_has_nothing_of_what_it_claims_is_passed_over() {
    let network = among(&[Behaviour::Empty, Behaviour::FalseHeight(1_000_000)]);
    assert_eq!(network.blamed, [2, 3].into(), "each for a height of its hello that it has no block at");
}

#[test]
fn who_sent_nothing_of_what_it_claimed_is_followed_after_others() {
    let mut network = Network::new(3);
    let chain = network.row(1, 40, 0);
    network.give(1, &chain);
    network.give(2, &chain);
    network.nodes[1].behaviour = Behaviour::Empty;
    network.connect_to(NODE, &[1, 2]);
    network.run(Duration::from_secs(30));
    assert_eq!(network.nodes[NODE].store.tip(), network.nodes[2].store.tip());
    assert!(network.blamed.is_empty());
    // While a block is stored both show the same better tip; the first would be followed, but for what it did not send.
    let more = network.row(2, 50, 0);
    network.push(2, NODE, more[0].clone());
    network.run(Duration::from_millis(4));
    for node in [1, 2] {
        network.nodes[node].behaviour = Behaviour::Honest;
        network.push(node, NODE, more[49].clone());
    }
    network.run(Duration::from_millis(60));
    assert_eq!(network.nodes[NODE].core.leader(), Some(id(2)));
}

#[test]
fn a_branch_that_never_follows_ours_is_given_up_after_a_few_searches() {
    let mut network = Network::new(2);
    let chain = network.row(1, 60, 0);
    network.give(1, &chain);
    network.give(NODE, &chain[..40]);
    network.nodes[1].behaviour = Behaviour::TwoFaced;
    network.link(NODE, 1);
    network.run(Duration::from_secs(600));
    assert!(network.nodes[NODE].core.is_synced(), "nobody else has more");
    assert!(network.nodes[1].served < 20, "{}", network.nodes[1].served);
}

#[test]
fn a_peer_that_answers_late_or_one_block_at_a_time_does_no_harm() {
    let network = among(&[Behaviour::Late(Duration::from_secs(20)), Behaviour::OneBlock]);
    assert!(network.blamed.is_empty());
    assert!(network.closed.is_empty());
}

#[test]
fn a_tip_that_does_not_exist_keeps_nobody_from_following_another() {
    for height in [39, 40, 41] {
        let mut network = Network::new(3);
        let chain = network.row(1, 40, 0);
        network.nodes[1].behaviour = Behaviour::FalseHash(height);
        for node in 0..3 {
            network.give(node, &chain);
        }
        network.link(0, 1);
        network.run(Duration::from_secs(60));
        assert!(network.nodes[0].core.is_synced(), "{height}");
        network.grow(2, 5, 0);
        network.link(0, 2);
        network.run(Duration::from_secs(60));
        assert_eq!(network.nodes[0].store.tip(), network.nodes[2].store.tip(), "{height}");
    }
}

#[test]
fn who_leads_and_says_that_it_has_pruned_what_follows_its_fork_holds_nothing_up() {
    let mut network = Network::new(3);
    let chain = network.row(1, 40, 0);
    network.give(0, &chain);
    network.give(2, &chain);
    // Higher by a block, on a branch that leaves ours where it says to keep nothing.
    network.give(1, &chain[..30]);
    network.grow(1, 11, 1);
    network.nodes[1].behaviour = Behaviour::FalseHash(41);
    network.nodes[1].first_block = Height::new(41);
    network.link(0, 1);
    network.run(Duration::from_secs(1));
    network.grow(2, 5, 0);
    network.link(0, 2);
    network.run(Duration::from_secs(60));
    assert_eq!(network.nodes[0].store.tip(), network.nodes[2].store.tip());
}

#[test]
fn who_says_that_it_keeps_nothing_of_a_near_height_is_asked_to_show_it() {
    let synced = |first_block: u64| {
        let mut network = Network::new(2);
        network.grow(1, 5, 0);
        network.nodes[1].behaviour = Behaviour::Empty;
        network.nodes[1].first_block = Height::new(first_block);
        network.link(0, 1);
        network.run(Duration::from_secs(5));
        (network.nodes[0].core.is_synced(), network.blamed.len())
    };
    assert_eq!(synced(3), (true, 1), "a height of its hello at which it has nothing");
    assert_eq!(synced(bt2c_proto::limits::MAX_INTEGER), (true, 0), "nothing could be asked of it");
}

#[test]
fn answers_that_nobody_asked_for_are_counted_and_dropped() {
    let mut network = Network::new(2);
    let row = network.row(1, 3, 0);
    network.link(0, 1);
    network.run(Duration::from_secs(1));
    network.answer_unasked(1, 0, row);
    network.run(Duration::from_secs(1));
    assert_eq!(network.nodes[0].core.counters().unasked_answers, 1);
    assert_eq!(network.nodes[0].store.tip().height, Height::GENESIS);
    network.assert_nobody_blamed();
}

#[test]
fn peers_on_a_shorter_branch_do_not_mislead() {
    // The shorter branch leaves at 100 and is 200 long: once followed, it could not be left again.
    let mut network = Network::new(5);
    let common = network.row(1, 100, 0);
    network.fixed_answer = Some(30);
    for node in 1..5 {
        network.give(node, &common);
    }
    let (long, short) = (network.row(1, 400, 1), network.row(2, 200, 2));
    network.give(1, &long);
    for node in 2..5 {
        network.give(node, &short);
    }
    network.connect_to(0, &[2, 3, 1, 4]);
    // Late once: preferred to who has less, all the same.
    network.nodes[0].core.peers.get_mut(&id(1)).unwrap().demerit();
    network.run(Duration::from_secs(240));
    assert_eq!(network.nodes[0].store.tip(), network.nodes[1].store.tip());
    network.assert_nobody_blamed();
}

#[test]
fn what_helpers_fetch_is_confirmed_by_a_slow_leader() {
    let mut network = Network::new(3);
    let chain = network.row(1, 3000, 0);
    network.give(1, &chain);
    network.give(2, &chain);
    // Both have the same tip, and the first is followed; it may be asked twice a minute.
    network.nodes[1].limit = Some(6);
    network.connect_to(0, &[1, 2]);
    network.run(Duration::from_secs(400));
    network.assert_one_tip();
    assert!(network.nodes[2].served > network.nodes[1].served);
}

#[test]
fn a_base_peer_is_asked_for_its_genesis_first_and_closed_if_it_is_another() {
    let mut network = Network::new(3);
    network.grow(1, 10, 0);
    network.nodes[1].base = true;
    network.nodes[2].base = true;
    network.nodes[2].behaviour = Behaviour::OtherGenesis;
    network.connect_to(0, &[1, 2]);
    network.run(Duration::from_secs(30));
    assert_eq!(network.nodes[0].store.tip(), network.nodes[1].store.tip());
    assert_eq!(network.closed, [(2, CloseCode::Genesis)]);
    assert_eq!(network.first_questions, [(0, 0), (0, 0)]);
    network.assert_nobody_blamed();
}

#[test]
fn no_peer_is_asked_faster_than_our_pace() {
    let mut network = Network::new(2);
    network.grow(1, 600, 0);
    network.fixed_answer = Some(5);
    network.connect_all();
    network.run(Duration::from_secs(60));
    // 120 requests are wanted: 32 at once, then 32 a minute.
    assert!((60..=66).contains(&network.nodes[1].served), "{}", network.nodes[1].served);
    network.run(Duration::from_secs(180));
    network.assert_one_tip();
}

#[test]
fn a_block_dated_ahead_is_taken_when_it_is_due() {
    for pushed in [true, false] {
        let mut network = Network::new(2);
        let tip = network.nodes[0].store.tip();
        let block = ahead(&network, 2);
        let due = network.test.earliest(block.header.timestamp);
        if pushed {
            network.link(0, 1);
            network.give(1, std::slice::from_ref(&block));
            network.push(1, 0, block);
        } else {
            network.give(1, std::slice::from_ref(&block));
            network.link(0, 1);
        }
        network.run(due.since(network.now) - Duration::from_secs(1));
        assert_eq!(network.nodes[0].store.tip(), tip);
        network.run(Duration::from_secs(3));
        network.assert_one_tip();
        network.assert_nobody_blamed();
    }
}

/// A block on the tip of node 0, dated so many slots ahead.
fn ahead(network: &Network, slots: u64) -> Block {
    let slot = network.now.since(Time::from_secs(GENESIS_TIME)).as_secs() / crate::testing::SLOT + slots;
    network.test.block(&network.nodes[0].store.tip(), slot, 0, Vec::new())
}

/// The same block without its seal.
fn unsealed(block: &Block) -> Block {
    let header = BlockHeader::new((*block.header).clone(), bt2c_proto::Blob::default());
    Block { header, ..block.clone() }
}

#[test]
fn an_unsealed_block_is_blamed_where_no_other_rule_can_be_asked() {
    let mut network = Network::new(3);
    network.connect_to(0, &[1, 2]);
    for node in [1, 2] {
        network.nodes[node].behaviour = Behaviour::Silent;
    }
    let early = unsealed(&ahead(&network, 2));
    let orphan = unsealed(&network.row(0, 2, 0)[1]);
    network.push(1, 0, early);
    network.push(2, 0, orphan);
    network.run(Duration::from_secs(1));
    assert_eq!(network.blamed, [1, 2].into());
    assert_eq!(network.nodes[0].core.orphans(), (0, 0));
}

#[test]
fn a_height_far_above_ours_is_shown_by_a_sealed_block_before_anything_is_fetched() {
    let mut network = Network::new(2);
    network.grow(1, 400, 0);
    network.nodes[1].behaviour = Behaviour::ForgedSeals;
    network.link(0, 1);
    network.run(Duration::from_secs(60));
    assert_eq!(network.first_questions, [(400, 400)]);
    assert_eq!(network.nodes[1].served, 1);
    assert_eq!(network.blamed, [1].into());
}

#[test]
fn what_is_pushed_is_checked_a_bounded_number_and_size_at_a_time() {
    let test = TestConsensus::new();
    let genesis = test.genesis_ref();
    let (now, peer) = (Time::from_secs(GENESIS_TIME + 80_000), Source::Peer(PeerId::from_bytes([1; 32])));
    let core = || Core::new(SyncConfig::default(), Arc::new(TestConsensus::new()), [genesis]);
    let busy_with = |blocks: u64, size| {
        let mut core = core();
        for slot in 1..=blocks {
            core.handle_new_block(now, peer, test.block(&genesis, slot, 0, Vec::new()), size);
        }
        core.counters().busy
    };
    assert_eq!(busy_with(70, 700), 6, "64 blocks");
    assert_eq!(busy_with(20, 1 << 20), 4, "16 MiB");
    let mut core = core();
    for number in 0..2003 {
        let transaction = test.transaction(number, GENESIS_TIME + 79_000, 1);
        core.handle_new_transaction(now, peer, transaction, 1000);
    }
    assert_eq!(core.counters().busy, 3, "2000 transactions");
}

#[test]
fn at_most_two_blocks_of_a_slot_are_taken_from_pushes_and_the_second_is_told() {
    let mut network = Network::new(2);
    network.link(0, 1);
    network.nodes[1].behaviour = Behaviour::Silent;
    let genesis = network.nodes[0].store.tip();
    for salt in 0..4 {
        let block = network.test.block(&genesis, 1, salt, Vec::new());
        network.push(1, 0, block);
        network.run(Duration::from_secs(1));
    }
    let equivocations =
        network.nodes[0].events.iter().filter(|event| matches!(event, Event::Equivocation { .. })).count();
    assert_eq!(equivocations, 1);
    assert_eq!(network.nodes[0].core.counters().slot_full, 2);
    network.assert_nobody_blamed();
}

#[test]
fn an_invalid_push_blames_its_senders_and_leaves_the_hash_open() {
    let mut network = Network::new(3);
    network.connect_to(0, &[1, 2]);
    for node in [1, 2] {
        network.nodes[node].behaviour = Behaviour::Silent;
    }
    let genesis = network.nodes[0].store.tip();
    let good = network.test.block(&genesis, 1, 0, vec![network.test.transaction(1, GENESIS_TIME, 1)]);
    let bad = Block { transactions: Vec::new(), ..good.clone() };
    network.push(1, 0, bad);
    network.push(2, 0, good.clone());
    network.run(Duration::from_secs(1));
    assert_eq!(network.blamed, [1].into());
    assert_eq!(network.nodes[0].store.tip().hash, good.hash());
}

#[test]
fn an_invalid_transaction_is_blamed_and_an_old_one_is_not() {
    let mut network = Network::new(3);
    network.connect_to(0, &[1, 2]);
    let mut forged = network.test.transaction(1, GENESIS_TIME, 1);
    forged.amount = 2;
    network.push_transaction(1, 0, forged);
    let stale = network.now.as_secs() - 90_000;
    network.push_transaction(2, 0, network.test.transaction(2, stale, 1));
    network.run(Duration::from_secs(1));
    assert_eq!(network.blamed, [1].into());
    assert!(network.nodes[0].core.pool().is_empty());
}

#[test]
fn a_failed_store_is_tried_again() {
    let mut network = Network::new(2);
    network.grow(1, 50, 0);
    network.nodes[0].failing_imports = 2;
    network.connect_all();
    network.run(Duration::from_secs(30));
    network.assert_one_tip();
    let failures = network.nodes[0].events.iter().filter(|event| matches!(event, Event::StoreFailed { .. }));
    assert_eq!(failures.count(), 2);
}

#[test]
fn orphans_are_bounded_and_shared_by_peer() {
    let mut network = Network::new(3);
    network.connect_to(0, &[1, 2]);
    for node in [1, 2] {
        network.nodes[node].behaviour = Behaviour::Silent;
    }
    let rows = [network.row(1, 90, 1), network.row(2, 3, 2)];
    for block in rows[1][1..].iter().chain(&rows[0][1..]) {
        let from = if rows[1].contains(block) { 2 } else { 1 };
        network.push(from, 0, block.clone());
    }
    network.run(Duration::from_secs(1));
    assert_eq!(network.nodes[0].core.orphans().0, 64);
    // The second peer's two orphans were not pushed out by the first one's.
    network.push(2, 0, rows[1][0].clone());
    network.run(Duration::from_secs(1));
    assert_eq!(network.nodes[0].store.tip(), BlockRef::from(&rows[1][2].header));

    let (test, mut core, _, now, _) = core_with_two([0, 0]);
    let peer = Source::Peer(PeerId::from_bytes([1; 32]));
    for block in test.row(&test.genesis_ref(), 30, 1).split_off(1) {
        core.handle_new_block(now, peer, block, 1 << 20);
    }
    assert_eq!(core.orphans(), (16, 16 << 20));
}

#[test]
fn the_network_ends_on_one_tip_for_many_seeds_and_shapes() {
    for seed in 0..40_u64 {
        let mut network = Network::new(6);
        let common = network.row(0, seed % 7 * 20, 0);
        for node in 0..6 {
            network.give(node, &common);
            let extra = (seed * 31 + node as u64 * 17) % 60;
            network.grow(node, extra, u8::try_from(node).unwrap());
        }
        for node in 0..6 {
            network.link(node, (node + 1) % 6);
        }
        network.link(0, 3);
        network.run(Duration::from_secs(300));
        network.assert_one_tip();
        network.assert_nobody_blamed();
    }
}

#[test]
fn nothing_is_asked_of_a_peer_that_is_closed_or_gone() {
    let test = TestConsensus::new();
    let mut core = Core::new(SyncConfig::default(), Arc::new(TestConsensus::new()), [test.genesis_ref()]);
    let now = Time::from_secs(GENESIS_TIME);
    let id = PeerId::from_bytes([1; 32]);
    let other = BlockHash::from_bytes([9; 32]);
    let facts = PeerFacts::new(id, Height::new(5), Some(other), Some(other));
    core.handle_peer_up(now, &facts);
    let actions: Vec<_> = std::iter::from_fn(|| core.poll_action()).collect();
    assert!(matches!(actions[..], [Action::Close { code: CloseCode::Genesis, .. }]), "{actions:?}");
    core.handle_peer_down(now, &id);
    core.handle_blocks(now, id, Blocks::whole(test.row(&test.genesis_ref(), 1, 0)), 700);
    assert!(core.poll_action().is_none());
    assert_eq!(core.poll_timeout(), None);
}

#[test]
fn a_wrong_body_does_not_stick_to_a_hash_that_others_confirm() {
    let test = TestConsensus::new();
    let genesis = test.genesis_ref();
    let mut core = Core::new(SyncConfig::default(), Arc::new(TestConsensus::new()), [genesis]);
    let row = test.row(&genesis, 3, 0);
    let tip = *places(&row).last().unwrap();
    let mut now = Time::from_secs(GENESIS_TIME + 1000);
    let up = |core: &mut Core, now, id| {
        let (height, hash, genesis) = (tip.height, Some(tip.hash), Some(genesis.hash));
        core.handle_peer_up(now, &PeerFacts::new(id, height, hash, genesis));
    };
    let drain = |core: &mut Core| -> Vec<Action> { std::iter::from_fn(|| core.poll_action()).collect() };
    let asked = |actions: &[Action], wanted: PeerId| {
        actions.iter().any(|action| matches!(action, Action::Request { peer, .. } if *peer == wanted))
    };
    let (honest, liar) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
    up(&mut core, now, honest);
    up(&mut core, now, liar);
    assert!(asked(&drain(&mut core), honest));
    // The honest one is late; the liar answers with the right hashes and wrong transactions, and leaves.
    now = now + Duration::from_secs(10);
    core.handle_timeout(now);
    assert!(asked(&drain(&mut core), liar));
    let mut wrong = row.clone();
    wrong.iter_mut().for_each(|block| block.transactions.push(test.transaction(1, GENESIS_TIME, 1)));
    core.handle_blocks(now, liar, Blocks::whole(wrong.clone()), 3000);
    let checks = drain(&mut core);
    let [Action::CheckBlocks { job, .. }] = checks[..] else { panic!("{checks:?}") };
    core.handle_peer_down(now, &liar);
    core.handle_blocks(now, honest, Blocks::whole(row), 3000);
    drain(&mut core);
    let results = wrong.iter().map(|block| crate::check_block(&test, block, false)).collect();
    core.handle_checked(now, job, results);
    assert!(asked(&drain(&mut core), honest), "the right bodies are asked for");
}

/// A core that knows of two peers with the same three blocks, and what it asked of whom first.
fn core_with_two(standings: [i32; 2]) -> (TestConsensus, Core, Vec<Block>, Time, Vec<PeerId>) {
    let test = TestConsensus::new();
    let genesis = test.genesis_ref();
    let mut core = Core::new(SyncConfig::default(), Arc::new(TestConsensus::new()), [genesis]);
    let row = test.row(&genesis, 3, 0);
    let tip = *places(&row).last().expect("three blocks");
    let now = Time::from_secs(GENESIS_TIME + 1000);
    for (n, standing) in (1..).zip(standings) {
        let facts = PeerFacts {
            standing,
            ..PeerFacts::new(PeerId::from_bytes([n; 32]), tip.height, Some(tip.hash), Some(genesis.hash))
        };
        core.handle_peer_up(now, &facts);
    }
    let asked = asked_of(&mut core);
    (test, core, row, now, asked)
}

fn asked_of(core: &mut Core) -> Vec<PeerId> {
    let asked = std::iter::from_fn(|| core.poll_action()).filter_map(|action| match action {
        Action::Request { peer, .. } => Some(peer),
        _ => None,
    });
    asked.collect()
}

#[test]
fn what_is_not_answered_in_time_is_asked_of_others_and_its_peer_is_asked_for_less() {
    let (first, second) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
    let (_, mut core, _, now, asked) = core_with_two([0, 0]);
    assert_eq!(asked, [first]);
    let later = |millis| now + Duration::from_millis(millis);
    let share = |core: &Core| core.peers[&first].range_blocks(1024, 64 << 20);
    let before = share(&core);
    core.handle_timeout(later(1999));
    assert_eq!(asked_of(&mut core), []);
    core.handle_timeout(later(2000));
    assert_eq!(asked_of(&mut core), [second]);
    assert!(share(&core) <= before / 2, "{} of {before}", share(&core));
}

/// How many answers of ten blocks, a tenth of a frame each, are waited for at once, of nine peers that have shown a hundred.
fn asked_with(window_blocks: u64, window_bytes: usize) -> usize {
    let test = TestConsensus::new();
    let genesis = test.genesis_ref();
    let row = test.row(&genesis, 100, 0);
    let config = SyncConfig { window_blocks, window_bytes, ..SyncConfig::default() };
    let mut core = Core::new(config, Arc::new(TestConsensus::new()), [genesis]);
    core.average_block = Some(FRAME_LIMIT / 10);
    let now = Time::from_secs(GENESIS_TIME + 10_000);
    for n in 1..=9 {
        let facts = PeerFacts::new(PeerId::from_bytes([n; 32]), Height::new(100), None, Some(genesis.hash));
        core.handle_peer_up(now, &facts);
    }
    let mut ranges = 0;
    while let Some(action) = core.poll_action() {
        match action {
            Action::Request { peer, range } if range.start_height == Height::new(100) => {
                core.handle_blocks(now, peer, Blocks::whole(vec![row[99].clone()]), FRAME_LIMIT / 10);
            }
            Action::Request { .. } => ranges += 1,
            _ => {}
        }
    }
    ranges
}

#[test]
fn no_more_is_asked_for_than_the_window_has_room_for() {
    assert_eq!(asked_with(1024, 64 * FRAME_LIMIT), 9, "there is room for all");
    assert_eq!(asked_with(30, 64 * FRAME_LIMIT), 3, "30 blocks");
    assert_eq!(asked_with(1024, 4 * FRAME_LIMIT), 4, "four frames");
}

#[test]
fn what_a_throttled_peer_owes_is_asked_of_others_in_time_and_its_connection_is_kept_for_three_minutes() {
    let (first, second) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
    let (_, mut core, _, now, asked) = core_with_two([0, 0]);
    assert_eq!(asked, [first]);
    let later = |secs| now + Duration::from_secs(secs);
    core.handle_throttled(later(1), &first, Duration::MAX);
    core.handle_throttled(later(2), &first, Duration::MAX);
    core.handle_timeout(later(10));
    let mut told = Vec::new();
    let mut asked = Vec::new();
    while let Some(action) = core.poll_action() {
        match action {
            Action::Request { peer, .. } => asked.push(peer),
            Action::Emit(event @ Event::Stalled { .. }) => told.push(event),
            _ => {}
        }
    }
    assert_eq!(asked, [second], "nobody waits for it");
    assert!(told.is_empty(), "and it is no stall: {told:?}");
    let closes = |core: &mut Core| {
        std::iter::from_fn(|| core.poll_action())
            .any(|action| matches!(action, Action::Close { peer, code: CloseCode::Timeout } if peer == first))
    };
    core.handle_timeout(later(240));
    assert!(!closes(&mut core), "an answer may come three minutes late, and a time-out from there");
    core.handle_timeout(later(241));
    assert!(closes(&mut core));
}

#[test]
fn of_peers_that_would_do_the_better_standing_is_asked_first() {
    let (first, second) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
    let asked = |standings| {
        // Who leads is asked first; what it does not answer is asked of the best of the others.
        let (_, mut core, _, now, asked) = core_with_two(standings);
        let third = PeerId::from_bytes([3; 32]);
        let tip = core.claims().next().expect("two claims");
        let genesis = Some(core.tip().hash);
        let facts = PeerFacts { standing: 5, ..PeerFacts::new(third, tip.1, tip.2, genesis) };
        core.handle_peer_up(now, &facts);
        core.handle_timeout(now + Duration::from_secs(10));
        (asked, asked_of(&mut core))
    };
    assert_eq!(asked([0, 0]), (vec![first], vec![PeerId::from_bytes([3; 32])]));
    assert_eq!(asked([0, 9]), (vec![first], vec![second]));
}

#[test]
fn whoever_answers_in_time_and_whoever_is_first_with_a_new_tip_is_credited() {
    let mut network = Network::new(2);
    network.grow(1, 30, 0);
    network.connect_all();
    network.run(Duration::from_secs(60));
    network.assert_one_tip();
    assert!(network.credited.contains(&(1, Deed::Answer)), "{:?}", network.credited);
    assert!(!network.credited.iter().any(|(_, deed)| *deed == Deed::Block), "{:?}", network.credited);

    let test = TestConsensus::new();
    let mut core = Core::new(SyncConfig::default(), Arc::new(TestConsensus::new()), [test.genesis_ref()]);
    let [block] = &test.row(&test.genesis_ref(), 1, 0)[..] else { panic!("one block") };
    let (now, peer) = (Time::from_secs(GENESIS_TIME + 1000), PeerId::from_bytes([1; 32]));
    core.handle_new_block(now, Source::Peer(peer), block.clone(), 700);
    let store = MemoryStore::new(test.genesis_block());
    let mut credited = Vec::new();
    while let Some(action) = core.poll_action() {
        match action {
            Action::CheckBlocks { job, blocks } => {
                let results =
                    blocks.iter().map(|block| check_block(&test, &block.block, block.sealed)).collect();
                core.handle_checked(now, job, results);
            }
            Action::Import(batch) => core.handle_imported(now, crate::import(&store, &test, &batch)),
            Action::Credit { peer, deed } => credited.push((peer, deed)),
            _ => {}
        }
    }
    assert_eq!(credited, [(peer, Deed::Block)]);
    let [decision] = &core.decisions_about(&block.hash())[..] else { panic!("one decision") };
    assert_eq!((decision.verdict, decision.from), (BlockVerdict::Main, Some(peer)));
}

#[test]
fn why_a_block_was_refused_is_remembered_with_its_sender() {
    let (test, mut core, row, now, _) = core_with_two([0, 0]);
    let peer = PeerId::from_bytes([1; 32]);
    let mut wrong = row[0].clone();
    wrong.transactions.push(test.transaction(1, GENESIS_TIME, 1));
    core.handle_new_block(now, Source::Peer(peer), wrong, 700);
    core.handle_new_block(now, Source::Peer(peer), row[2].clone(), 700);
    while let Some(action) = core.poll_action() {
        if let Action::CheckBlocks { job, blocks } = action {
            core.handle_checked(
                now,
                job,
                blocks.iter().map(|block| check_block(&test, &block.block, block.sealed)).collect(),
            );
        }
    }
    let verdict = |block: &Block| {
        let decisions = core.decisions_about(&block.hash());
        assert!(decisions.iter().all(|decision| !decision.evidence.is_empty() && decision.at == now));
        decisions.first().map(|decision| (decision.verdict, decision.from))
    };
    assert_eq!(verdict(&row[0]), Some((BlockVerdict::Invalid, Some(peer))));
    assert_eq!(verdict(&row[2]), Some((BlockVerdict::Orphan, Some(peer))));
    assert_eq!(verdict(&row[1]), None);
    assert_eq!(core.decisions().len(), 2);
}
