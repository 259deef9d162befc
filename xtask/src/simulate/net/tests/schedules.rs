//! Any schedule of writes and cuts: nothing is lost, nothing overtakes, and the same schedule gives the same times.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// This connection's dialler writes so many bytes, in a task of its own.
    Write(usize, usize),
    Wait(u64),
    Cut,
    CutOneWay(bool),
    Heal,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize, 1..60_000_usize).prop_map(|(conn, bytes)| Step::Write(conn, bytes)),
        3 => (0..400_u64).prop_map(Step::Wait),
        1 => Just(Step::Cut),
        1 => any::<bool>().prop_map(Step::CutOneWay),
        2 => Just(Step::Heal),
    ];
    proptest::collection::vec(step, 1..30)
}

fn links() -> impl Strategy<Value = [Link; 3]> {
    let bandwidth = || prop_oneof![Just(Bandwidth::Unlimited), (1..50_u32).prop_map(Bandwidth::mbit)];
    let link = (bandwidth(), bandwidth(), 0..30_u64, prop_oneof![Just(0), Just(20_000)])
        .prop_map(|(up, down, jitter, loss)| Link { up, down, jitter: Duration::from_millis(jitter), loss });
    [link.clone(), link.clone(), link]
}

/// What the bytes of a connection are: no stretch of it looks like another one nearby.
fn pattern(conn: usize, from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| ((at / 251 + at + conn * 7) % 251).to_le_bytes()[0]).collect()
}

/// Two connections from host 1 to host 2 and one from 3 to 2: when the last byte of each arrives.
async fn play(links: [Link; 3], steps: &[Step]) -> Vec<Duration> {
    let net = SimNet::with_latency(1, Duration::from_millis(20));
    let [one, two, three] = [1, 2, 3].map(|last| host(&net, last, links[usize::from(last) - 1]));
    let mut listener = listen(&two).await;
    let (start, tracker) = (now(), TaskTracker::new());
    let (mut writers, mut readers, mut written) = (Vec::new(), Vec::new(), [0; 3]);
    for (conn, from) in [&one, &one, &three].into_iter().enumerate() {
        let (mut from, mut to) = connect(from, listener.as_mut()).await;
        let (sender, mut chunks) = tokio::sync::mpsc::channel::<Vec<u8>>(64);
        writers.push(sender);
        tracker.spawn(async move {
            while let Some(chunk) = chunks.recv().await {
                from.write_all(&chunk).await.unwrap();
            }
        });
        readers.push(tracker.spawn(async move {
            let mut got = Vec::new();
            to.read_to_end(&mut got).await.unwrap();
            assert!(got == pattern(conn, 0, got.len()), "bytes of {conn} are not what was written");
            (got.len(), start.elapsed())
        }));
    }
    for step in steps {
        match *step {
            Step::Write(conn, len) => {
                writers[conn].try_send(pattern(conn, written[conn], len)).unwrap();
                written[conn] += len;
            }
            Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::Cut => drop(net.cut(&[ip(1)], &[ip(2), ip(3)])),
            Step::CutOneWay(true) => drop(net.cut_one_way(&[ip(3)], &[ip(2)])),
            Step::CutOneWay(false) => drop(net.cut_one_way(&[ip(2)], &[ip(1), ip(3)])),
            Step::Heal => net.heal(),
        }
    }
    net.heal();
    drop(writers);
    let mut times = Vec::new();
    for (conn, reader) in readers.into_iter().enumerate() {
        let (len, time) = reader.await.unwrap();
        assert_eq!(len, written[conn]);
        times.push(time);
    }
    let all = u64::try_from(written.iter().sum::<usize>()).unwrap();
    assert_eq!(net.traffic(ip(2)), Traffic { sent: 0, received: all });
    assert!(net.traffic(ip(1)).sent + net.traffic(ip(3)).sent >= all);
    assert_eq!(net.state.lock().sizes(), (0, 0));
    times
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_cut_all_bytes_arrive_in_order_and_at_repeatable_times(links in links(), steps in steps()) {
        let run = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(play(links, &steps))
        };
        prop_assert_eq!(run(), run());
    }
}
