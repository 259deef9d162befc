use std::time::Duration;

use bt2c_proto::Defence;

use super::*;

/// A scenario in the smallest form that it takes, without TLS: attacks and faults are no others with it.
fn small(name: &str, seed: u64) -> (&'static Scenario, Setup) {
    let scenario = scenario(name).unwrap();
    let setup = Setup {
        nodes: scenario.nodes.1,
        duration: Duration::from_secs(scenario.seconds.1),
        tls: false,
        ..scenario.setup(seed)
    };
    (scenario, setup)
}

fn assert_met(name: &str, outcome: &Outcome) {
    let unmet: Vec<_> = outcome.unmet().collect();
    assert!(unmet.is_empty(), "{name}: {unmet:?}");
    assert!(outcome.messages > 200, "{name} left a trace of {} messages", outcome.messages);
}

#[test]
fn every_scenario_has_a_name_of_its_own_and_attacks_have_defences() {
    let names: std::collections::BTreeSet<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), SCENARIOS.len());
    let defended: std::collections::BTreeSet<_> =
        SCENARIOS.iter().flat_map(|scenario| scenario.defences.iter().copied()).collect();
    assert_eq!(defended, Defence::ALL.into(), "each defence has a scenario that fails without it");
}

/// Plays each of these twice: expectations and trace.
fn play_small(names: &[&str]) {
    for name in names {
        let (scenario, setup) = small(name, 7);
        let first = play(scenario, setup.clone()).unwrap();
        assert_met(name, &first);
        assert_eq!(first.trace, play(scenario, setup).unwrap().trace, "{name}");
    }
}

#[test]
fn honest_networks_meet_every_expectation_the_same_way_twice() {
    play_small(&["smoke", "flash-crowd", "slow-links", "honest-soak", "any-limits"]);
}

#[test]
fn long_chains_are_fetched_the_same_way_twice() {
    play_small(&["long-sync"]);
}

#[test]
fn networks_with_faults_meet_every_expectation_the_same_way_twice() {
    play_small(&["churn", "partition", "reorg", "clock-skew", "crash-restart", "disk-full"]);
}

#[test]
fn attacked_networks_meet_every_expectation_the_same_way_twice() {
    play_small(&["eclipse", "sybil", "address-poison", "stall", "withhold", "false-height"]);
}

#[test]
fn networks_that_are_lied_to_and_flooded_meet_every_expectation_the_same_way_twice() {
    play_small(&[
        "slowloris",
        "handshake-flood",
        "json-bomb",
        "block-spam",
        "transaction-flood",
        "ban-evasion",
    ]);
}

#[test]
fn encrypted_connections_give_the_same_trace_twice_and_another_seed_another_one() {
    let setup = |seed| Setup { tls: true, ..small("smoke", seed).1 };
    let trace = |seed| {
        let outcome = play(scenario("smoke").unwrap(), setup(seed)).unwrap();
        assert_met("smoke", &outcome);
        outcome.trace
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}

#[test]
fn an_attack_succeeds_without_its_defence() {
    for (name, defence) in [("stall", Defence::StallTimeout), ("json-bomb", Defence::Bans)] {
        let (scenario, setup) = small(name, 1);
        let outcome = play(scenario, Setup { without: Some(defence), ..setup }).unwrap();
        assert!(outcome.unmet().count() > 0, "{name} holds without {defence}");
    }
}

#[test]
fn a_failing_schedule_shrinks_to_what_it_takes_and_replays_as_it_was() {
    let (scenario, setup) = small("ban-evasion", 1);
    let setup = Setup { without: Some(Defence::BanRanges), ..setup };
    let shrunk = shrink(scenario, &setup, |_, _| {}).unwrap();
    let steps = shrunk.schedule.steps();
    assert!(steps.len() <= 10, "{}", shrunk.schedule);
    assert!(steps.len() < scenario.plan(&setup).schedule.steps().len());
    let outcome = replay(scenario, setup.clone(), &shrunk.schedule.to_string()).unwrap();
    let mut unmet = outcome.unmet().map(|unmet| (&unmet.name, &unmet.found));
    assert!(unmet.any(|unmet| unmet == (&shrunk.expectation, &shrunk.found)), "{:?}", outcome.expectations);
    let test = shrunk.test(scenario, &setup);
    assert!(test.contains(&shrunk.schedule.to_string().lines().next().unwrap().to_owned()), "{test}");
    assert!(test.contains("without: Some(\"ban-ranges\".parse().unwrap())"), "{test}");
    let error = shrink(scenario, &Setup { without: None, ..setup }, |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("nothing to shrink"), "{error}");
}

#[test]
fn settings_reach_every_node() {
    let (scenario, setup) = small("smoke", 1);
    let settings = vec![("max_connections".to_owned(), "2".to_owned())];
    let outcome = play(scenario, Setup { settings, ..setup.clone() }).unwrap();
    assert!(outcome.unmet().any(|unmet| unmet.name == "every node has found peers"));
    let settings = vec![("max_connections".to_owned(), "none".to_owned())];
    let error = format!("{:#}", play(scenario, Setup { settings, ..setup }).unwrap_err());
    assert!(error.contains("max_connections=none"), "{error}");
}

#[test]
fn a_report_holds_what_happened() {
    let (scenario, setup) = small("partition", 3);
    let played = Job { scenario, setup, cores: None }.play().unwrap();
    let run = &played.run;
    assert_eq!((run.scenario.as_str(), run.seed, run.nodes), ("partition", 3, 4));
    assert_eq!(run.hosts.len(), 4);
    assert!(!run.links.is_empty() && run.links.iter().all(|(from, to)| from != to && *to < 4));
    assert_eq!(run.timeline.iter().filter(|moment| moment.kind == "cut").count(), 1);
    assert_eq!(run.samples.at_s.len(), run.samples.peers_mean.len());
    assert_eq!(run.samples.up.last(), Some(&4));
    let bytes: u64 = run.traffic.bytes["new_block"].iter().sum();
    assert!(bytes > 10_000, "{bytes} bytes of blocks");
    let spread = run.propagation.iter().find(|spread| spread.nodes == 4).unwrap();
    assert!(spread.delays_ms.iter().flatten().is_sorted(), "{spread:?}");
    let dir = tempfile::tempdir().unwrap();
    let report = tables::report("a test".to_owned(), vec![played.clone()]);
    report.write(dir.path()).unwrap();
    let read = report::Report::read(dir.path()).unwrap();
    assert_eq!(read.summary, report.summary);
    let page = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("\"scenario\":\"partition\""));
}

#[test]
fn reports_of_seed_ranges_are_joined_and_two_traces_of_one_seed_are_told() {
    let played = |seed| {
        let (scenario, setup) = small("reorg", seed);
        Job { scenario, setup, cores: None }.play().unwrap()
    };
    let (one, two) = (played(1), played(2));
    let report =
        |played: &[&Played]| tables::report("part".to_owned(), played.iter().copied().cloned().collect());
    let joined = tables::merge("merge".to_owned(), vec![report(&[&two]), report(&[&one, &two])]).unwrap();
    let seeds: Vec<_> = joined.summary.iter().map(|summary| (summary.seed, summary.run)).collect();
    assert_eq!(seeds, [(1, Some(0)), (2, Some(1))]);
    let mut other = two.clone();
    other.summary.trace = one.summary.trace.clone();
    let error = tables::merge("merge".to_owned(), vec![report(&[&two]), report(&[&other])]).unwrap_err();
    assert!(error.to_string().contains("reorg with seed 2 has two traces"), "{error}");
}

#[test]
fn a_schedule_that_names_nobody_is_refused() {
    let (scenario, setup) = small("smoke", 1);
    let error = replay(scenario, setup, "1 join 99").unwrap_err().to_string();
    assert!(error.contains("host 99"), "{error}");
}
