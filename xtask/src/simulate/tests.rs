use super::*;

fn outcome(name: &str, nodes: usize, seconds: u64, seed: u64) -> Outcome {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
    play(scenario, Setup { nodes, duration: Duration::from_secs(seconds), seed }).unwrap()
}

#[test]
fn a_small_network_meets_every_expectation_and_the_same_seed_gives_the_same_trace() {
    let small = [
        ("smoke", 6, 120),
        ("partition", 5, 600),
        ("churn", 12, 300),
        ("crash-restart", 5, 300),
        ("slow-links", 6, 120),
        ("clock-skew", 7, 120),
    ];
    assert!(SCENARIOS.iter().all(|scenario| small.iter().any(|(name, ..)| *name == scenario.name)));
    for (name, nodes, seconds) in small {
        let first = outcome(name, nodes, seconds, 7);
        for expectation in &first.expectations {
            assert!(expectation.met, "{name}: {}: {}", expectation.name, expectation.found);
        }
        assert!(first.messages > 200, "{name} left a trace of {} messages", first.messages);
        assert_eq!(first.trace, outcome(name, nodes, seconds, 7).trace, "{name}");
    }
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(outcome("smoke", 6, 120, 1).trace, outcome("smoke", 6, 120, 2).trace);
}

#[test]
fn bad_numbers_and_names_are_refused_with_what_is_possible() {
    let args = |scenarios: &[&str], nodes| Args {
        scenarios: scenarios.iter().map(|&name| name.to_owned()).collect(),
        list: false,
        nodes,
        seed: 1,
        duration: None,
    };
    let error = run(&args(&["nope"], None)).unwrap_err().to_string();
    assert!(error.contains("--list"), "{error}");
    let error = run(&args(&["smoke"], Some(1))).unwrap_err().to_string();
    assert!(error.contains("5 to 64"), "{error}");
    assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
    assert!(["10", "m", "", "1.5s"].iter().all(|text| parse_duration(text).is_err()));
}
