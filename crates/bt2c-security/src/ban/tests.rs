use proptest::prelude::*;

use super::*;

const START: Time = Time::from_secs(1_712_352_000);
const HOUR: Duration = Duration::from_secs(3600);
const TERMS: BanTerms = BanTerms { first: HOUR, longest: Duration::from_secs(24 * 3600), capacity: 3 };

fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn punish(table: &mut BanTable, now: Time, text: &str) -> Option<(Ban, bool)> {
    table.punish(now, subject(text), "protocol", "proof")
}

#[test]
fn each_repetition_doubles_up_to_a_day() {
    let (mut table, mut now) = (BanTable::new(TERMS), START);
    for hours in [1, 2, 4, 8, 16, 24, 24] {
        let (ban, is_new) = punish(&mut table, now, "192.0.2.1").unwrap();
        assert!(is_new);
        assert_eq!(ban.until, now + HOUR * hours);
        now = ban.until + HOUR;
        assert_eq!(table.expire(now), [subject("192.0.2.1")]);
    }
    now = now + TERMS.longest;
    assert_eq!(
        punish(&mut table, now, "192.0.2.1").unwrap().0.until,
        now + HOUR,
        "a day without is a fresh start"
    );
}

#[test]
fn a_live_ban_is_neither_longer_nor_new_when_more_connections_fail() {
    let mut table = BanTable::new(TERMS);
    let (first, _) = punish(&mut table, START, "192.0.2.1").unwrap();
    assert_eq!(punish(&mut table, START + HOUR / 2, "192.0.2.1"), Some((first.clone(), false)));
    // Its time is over, but nobody has called `expire` yet.
    let (second, is_new) = punish(&mut table, first.until, "192.0.2.1").unwrap();
    assert_eq!((second.until, is_new), (first.until + HOUR * 2, true));
}

#[test]
fn an_operators_word_replaces_a_ban_and_counts_as_no_strike() {
    let mut table = BanTable::new(TERMS);
    punish(&mut table, START, "192.0.2.1");
    let set = table.set(START, subject("192.0.2.1"), HOUR * 100, "spam", "").unwrap();
    assert_eq!(table.by_ip(START, ip("192.0.2.1")), Some(&set));
    table.expire(set.until);
    let (ban, _) = punish(&mut table, set.until, "192.0.2.1").unwrap();
    assert_eq!(ban.until, set.until + HOUR * 2, "the one strike before is still known");
}

#[test]
fn lifting_a_ban_forgets_it() {
    let mut table = BanTable::new(TERMS);
    punish(&mut table, START, "192.0.2.1");
    assert!(table.remove(START, &subject("192.0.2.1")));
    assert!(!table.remove(START, &subject("192.0.2.1")));
    assert_eq!(table.next_expiry(), None);
    assert_eq!(punish(&mut table, START, "192.0.2.1").unwrap().0.until, START + HOUR);
}

#[test]
fn a_full_table_drops_the_newcomer_and_keeps_every_live_ban() {
    let mut table = BanTable::new(TERMS);
    for text in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        assert!(punish(&mut table, START, text).is_some());
    }
    assert_eq!(punish(&mut table, START, "192.0.2.4"), None);
    assert_eq!(table.set(START, subject("192.0.2.4"), HOUR * 9, "", ""), None);
    assert!(table.set(START, subject("192.0.2.3"), HOUR * 9, "", "").is_some(), "no newcomer");
    assert_eq!(table.live(START).count(), 3);
    // What has expired makes room, called for or not.
    assert!(punish(&mut table, START + HOUR, "192.0.2.4").is_some());
    assert_eq!(table.live(START + HOUR).count(), 2);
}

#[test]
fn what_is_remembered_of_ended_bans_is_bounded_too() {
    let (mut table, mut now) = (BanTable::new(TERMS), START);
    for last in 1..100 {
        punish(&mut table, now, &format!("192.0.2.{last}"));
        now = now + HOUR;
        table.expire(now);
        assert!(table.past.len() <= TERMS.capacity);
    }
}

#[test]
fn an_address_is_found_in_every_network_around_it() {
    let mut table = BanTable::new(BanTerms { capacity: 10, ..TERMS });
    for (text, hours) in [("192.0.2.0/24", 5), ("192.0.2.1", 1), ("2001:db8:7::/48", 2), ("2001:db8::1", 1)] {
        table.set(START, subject(text), HOUR * hours, text, "").unwrap();
    }
    let reason = |text| table.by_ip(START, ip(text)).map(|ban| ban.reason.as_str());
    assert_eq!(reason("192.0.2.1"), Some("192.0.2.0/24"), "the longest one counts");
    assert_eq!(reason("::ffff:192.0.2.77"), Some("192.0.2.0/24"));
    assert_eq!(reason("2001:db8:7:ffff::1"), Some("2001:db8:7::/48"));
    assert_eq!(reason("2001:db8::ffff"), Some("2001:db8::1"));
    assert_eq!(reason("192.0.3.1"), None);
    assert_eq!(reason("2001:db8:8::1"), None);
}

#[test]
fn text_is_clipped_and_cannot_take_over_a_terminal() {
    let mut table = BanTable::new(TERMS);
    let evidence = format!("\u{1b}[2Jéé\n{}", "x".repeat(1000));
    let ban = table.set(START, subject("192.0.2.1"), HOUR, &"r".repeat(1000), &evidence).unwrap();
    assert_eq!(ban.reason.chars().count(), MAX_REASON);
    assert_eq!(ban.evidence.chars().count(), MAX_EVIDENCE);
    assert!(!ban.evidence.chars().any(char::is_control) && ban.evidence.contains("éé"));
}

#[test]
fn the_file_keeps_bans_and_strikes() {
    let mut table = BanTable::new(TERMS);
    punish(&mut table, START, "192.0.2.1");
    table.expire(START + HOUR);
    let now = START + HOUR;
    punish(&mut table, now, "2001:db8::1");
    let json = table.encode(now);
    let mut again = BanTable::new(TERMS);
    again.decode(now, &json).unwrap();
    assert_eq!(again.encode(now), json);
    assert!(again.live(now).eq(table.live(now)));
    assert_eq!(punish(&mut again, now, "192.0.2.1").unwrap().0.until, now + HOUR * 2);
    // Read after its bans ended.
    let mut late = BanTable::new(TERMS);
    late.decode(now + HOUR, &json).unwrap();
    assert_eq!(late.live(now + HOUR).count(), 0);
    assert_eq!(punish(&mut late, now + HOUR, "2001:db8::1").unwrap().0.until, now + HOUR * 3);
}

#[test]
fn the_format_of_the_file_is_this() {
    let mut table = BanTable::new(TERMS);
    punish(&mut table, START, "192.0.2.1");
    let expected = r#"{
  "version": 1,
  "bans": [
    {
      "subject": "192.0.2.1",
      "reason": "protocol",
      "evidence": "proof",
      "since": 1712352000000,
      "until": 1712355600000,
      "strikes": 1
    }
  ],
  "past": []
}
"#;
    assert_eq!(String::from_utf8(table.encode(START)).unwrap(), expected);
}

#[test]
fn a_newer_file_is_refused_by_name_and_a_damaged_one_adds_nothing() {
    let mut table = BanTable::new(TERMS);
    let error = table.decode(START, br#"{"version": 2, "shape": "unknown"}"#).unwrap_err();
    assert!(matches!(error, BansFileError::Version(2)));
    for json in [
        &b""[..],
        b"[]",
        br#"{"version": 1}"#,
        br#"{"version": 1, "past": [], "bans": [{"subject": "nobody"}]}"#,
        br#"{"version": 1, "bans": [], "past": [{"subject": "1.2.3.4", "strikes": -1, "until": 1}]}"#,
    ] {
        assert!(matches!(table.decode(START, json).unwrap_err(), BansFileError::Damaged(_)));
    }
    assert_eq!((table.live.len(), table.past.len()), (0, 0));
}

/// What can happen to a table; times are minutes, subjects a few that overlap.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Punish(usize),
    Set(usize, u64),
    Remove(usize),
    Expire,
    Restart,
}

const SUBJECTS: [&str; 6] =
    ["192.0.2.1", "192.0.2.2", "192.0.2.0/24", "2001:db8::1", "2001:db8::/48", "10.0.0.0/8"];
const ADDRESSES: [&str; 5] = ["192.0.2.1", "::ffff:192.0.2.2", "192.0.2.3", "2001:db8::5", "2001:db8:0:1::"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u64..2000).prop_map(Step::Wait),
        (0..SUBJECTS.len()).prop_map(Step::Punish),
        ((0..SUBJECTS.len()), 1_u64..3000).prop_map(|(who, minutes)| Step::Set(who, minutes)),
        (0..SUBJECTS.len()).prop_map(Step::Remove),
        Just(Step::Expire),
        Just(Step::Restart),
    ]
}

/// The table by the book: every ban ever, looked through from end to end.
#[derive(Default)]
struct Naive(Vec<(Subject, Time)>);

impl Naive {
    fn live(&self, now: Time) -> BTreeSet<(Subject, Time)> {
        self.0.iter().copied().filter(|(_, until)| now < *until).collect()
    }

    fn put(&mut self, subject: Subject, until: Time) {
        self.lift(&subject);
        self.0.push((subject, until));
    }

    fn lift(&mut self, subject: &Subject) {
        self.0.retain(|(known, _)| known != subject);
    }
}

proptest! {
    #[test]
    fn it_bans_exactly_whom_a_naive_list_bans(steps in proptest::collection::vec(step(), 1..80)) {
        let (mut table, mut naive, mut now) = (BanTable::new(TERMS), Naive::default(), START);
        for step in steps {
            let room = |naive: &Naive, who: &Subject| {
                let live = naive.live(now);
                live.len() < TERMS.capacity || live.iter().any(|(known, _)| known == who)
            };
            match step {
                Step::Wait(minutes) => now = now + Duration::from_secs(minutes * 60),
                Step::Punish(who) => {
                    let who = subject(SUBJECTS[who]);
                    let known = naive.live(now).into_iter().find(|(known, _)| *known == who);
                    let ban = table.punish(now, who, "r", "e");
                    prop_assert_eq!(ban.is_some(), room(&naive, &who));
                    if let Some((ban, is_new)) = ban {
                        prop_assert_eq!(is_new, known.is_none());
                        let lasts = ban.until.since(now);
                        prop_assert!(!is_new || (HOUR..=TERMS.longest).contains(&lasts));
                        prop_assert!(known.is_none_or(|(_, until)| until == ban.until));
                        naive.put(who, ban.until);
                    }
                }
                Step::Set(who, minutes) => {
                    let (who, lasts) = (subject(SUBJECTS[who]), Duration::from_secs(minutes * 60));
                    let ban = table.set(now, who, lasts, "r", "e");
                    prop_assert_eq!(ban.is_some(), room(&naive, &who));
                    if ban.is_some() {
                        naive.put(who, now + lasts);
                    }
                }
                Step::Remove(who) => {
                    let who = subject(SUBJECTS[who]);
                    let live = naive.live(now).iter().any(|(known, _)| *known == who);
                    prop_assert_eq!(table.remove(now, &who), live);
                    naive.lift(&who);
                }
                Step::Expire => {
                    table.expire(now);
                    prop_assert!(table.next_expiry().is_none_or(|next| now < next));
                }
                Step::Restart => {
                    let json = table.encode(now);
                    table = BanTable::new(TERMS);
                    table.decode(now, &json).unwrap();
                }
            }
            let live: BTreeSet<_> = table.live(now).map(|ban| (ban.subject, ban.until)).collect();
            prop_assert_eq!(&live, &naive.live(now));
            prop_assert!(table.live.len() <= TERMS.capacity && table.past.len() <= TERMS.capacity);
            for address in ADDRESSES {
                let longest = live.iter().filter(|(who, _)| who.matches(ip(address), None)).map(|(_, u)| *u).max();
                prop_assert_eq!(table.by_ip(now, ip(address)).map(|ban| ban.until), longest);
            }
        }
    }
}
