use super::*;

const START: Time = Time::from_secs(1_712_352_000);
const MINUTE: Duration = Duration::from_secs(60);

fn unit(i: u32) -> IpUnit {
    IpUnit::of(std::net::Ipv4Addr::from_bits(0x0a00_0000 + i).into())
}

fn peer(i: u32) -> PeerId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&i.to_be_bytes());
    PeerId::from_bytes(bytes)
}

#[test]
fn points_wear_off_at_one_a_minute() {
    let mut score = Score::default();
    assert_eq!(score.charge(START, 20), 20);
    assert_eq!(score.charge(START + MINUTE * 5, 20), 35);
    assert_eq!(score.points(START + MINUTE * 39), 1);
    assert_eq!(score.points(START + MINUTE * 40), 0);
    assert_eq!(score.charge(START + MINUTE * 400, 100), 100, "what was clean long ago is no credit");
}

#[test]
fn failures_count_within_their_window_only() {
    let (mut ledger, config) = (Ledger::new(), SecurityConfig::default());
    let mut fail = |minute: u32| ledger.failure(START + MINUTE * minute, unit(1), &config);
    assert_eq!([0, 1, 2, 3].map(&mut fail), [false; 4]);
    assert_eq!([10, 11, 12].map(&mut fail), [false; 3], "the first ones left the window meanwhile");
    assert!(fail(12));
    assert!(!fail(12), "counted from anew");
}

#[test]
fn what_wore_off_is_forgotten_and_what_did_not_is_kept() {
    let (mut ledger, config) = (Ledger::new(), SecurityConfig::default());
    assert_eq!(ledger.next_sweep(), None);
    ledger.attempt(START, unit(1), &config);
    ledger.charge_ip(START, unit(2), 30, &config);
    ledger.charge_peer(START, peer(2), 30, 0);
    let lease = Arc::clone(ledger.requests(START, unit(3), &config));
    assert_eq!(ledger.next_sweep(), Some(START + SWEEP_INTERVAL));
    ledger.sweep(START + MINUTE * 5, &config);
    assert_eq!(ledger.ips.keys().copied().collect::<Vec<_>>(), [unit(2), unit(3)]);
    ledger.sweep(START + MINUTE * 30, &config);
    assert_eq!(ledger.ips.keys().copied().collect::<Vec<_>>(), [unit(3)]);
    assert!(ledger.peers.is_empty());
    drop(lease);
    ledger.sweep(START + MINUTE * 31, &config);
    assert_eq!(ledger.ips.len(), 1, "its bucket may be in debt still");
    ledger.sweep(START + MINUTE * 35, &config);
    assert_eq!(ledger.next_sweep(), None);
}

#[test]
fn when_the_table_is_full_newcomers_share_one_record() {
    let (mut ledger, config) = (Ledger::new(), SecurityConfig::default());
    for i in 0..u32::try_from(MAX_IPS).unwrap() {
        assert_eq!(ledger.attempt(START, unit(i), &config), AttemptCount::Within);
    }
    let newcomers = 1_000_000..1_000_200;
    let within = newcomers
        .clone()
        .filter(|i| ledger.attempt(START, unit(*i), &config) == AttemptCount::Within)
        .count();
    assert_eq!(within, 100);
    assert_eq!(ledger.attempt(START, unit(1_000_500), &config), AttemptCount::Over);
    assert!(
        (0..10).all(|_| !ledger.failure(START, unit(1_000_000), &config)),
        "they are not blamed for each other"
    );
    assert_eq!(ledger.charge_ip(START, unit(1_000_000), 60, &config), 60);
    assert_eq!(ledger.charge_ip(START, unit(1_000_001), 60, &config), 60);
    assert_eq!(ledger.attempt(START, unit(7), &config), AttemptCount::Within, "the known have their own");
    assert_eq!(ledger.ips.len(), MAX_IPS);
    // Once the others are idle, a newcomer finds room.
    let later = START + MINUTE * 10;
    assert_eq!(ledger.attempt(later, unit(1_000_000), &config), AttemptCount::Within);
    assert_eq!((ledger.ips.len(), ledger.strangers.is_none()), (1, true));
}

#[test]
fn scores_of_peers_are_bounded() {
    let mut ledger = Ledger::new();
    for i in 0..10_000 {
        assert_eq!(ledger.charge_peer(START, peer(i), 20, 0), (20, 0));
    }
    assert_eq!(ledger.peers.len(), MAX_PEERS);
    assert_eq!(ledger.charge_peer(START, peer(0), 20, -20), (40, 0));
    assert_eq!(ledger.charge_peer(START + MINUTE * 50, peer(20_000), 20, -5), (20, -5));
    assert_eq!(ledger.peers.len(), 1);
}
