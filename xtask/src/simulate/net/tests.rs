mod schedules;

use std::{io::ErrorKind, net::SocketAddr};

use bt2c_p2p::env::{Connection, Listener, Net, Stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    pipe::{SEND_BUFFER, WINDOW},
    *,
};

const PORT: u16 = 8336;
const MB: usize = 1_000_000;
const LONG: Duration = Duration::from_secs(600);

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::new(ip(last), PORT)
}

fn link(up: u32, down: u32) -> Link {
    Link { up: Bandwidth::mbit(up), down: Bandwidth::mbit(down), ..Link::PERFECT }
}

fn host(net: &SimNet, last: u8, link: Link) -> SimHost {
    net.add_host(HostSpec { link, ..HostSpec::new(ip(last), Region::Europe) }).unwrap()
}

async fn listen(host: &SimHost) -> Box<dyn Listener> {
    host.listen(SocketAddr::new(ip(0), PORT)).await.unwrap()
}

/// A connection from a host to a listening one: the two ends.
async fn connect(from: &SimHost, listener: &mut dyn Listener) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let dialled = from.dial(None, listener.local_addr()).await.unwrap();
    (dialled.stream, listener.accept().await.unwrap().stream)
}

/// Hosts 1 and 2 with these links, and a connection from 1 to 2.
async fn pair(net: &SimNet, one: Link, two: Link) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let (one, two) = (host(net, 1, one), host(net, 2, two));
    let mut listener = listen(&two).await;
    connect(&one, listener.as_mut()).await
}

fn write(mut stream: Box<dyn Stream>, bytes: usize) -> tokio::task::JoinHandle<Box<dyn Stream>> {
    TaskTracker::new().spawn(async move {
        stream.write_all(&vec![7; bytes]).await.unwrap();
        stream
    })
}

/// How long it takes until so many bytes are read.
async fn read(stream: &mut Box<dyn Stream>, bytes: usize) -> Duration {
    let start = now();
    stream.read_exact(&mut vec![0; bytes]).await.unwrap();
    start.elapsed()
}

fn assert_close(found: Duration, expected: Duration) {
    let (found, expected) = (found.as_secs_f64(), expected.as_secs_f64());
    assert!((found / expected - 1.0).abs() < 0.02, "{found} s, not {expected} s");
}

/// So many transfers of 1 MB at once, each over a connection of its own, all from host 1 to host 2: when each ends.
async fn transfers(count: usize, one: Link, two: Link) -> Vec<Duration> {
    let net = SimNet::with_latency(1, Duration::ZERO);
    let (one, two) = (host(&net, 1, one), host(&net, 2, two));
    let mut listener = listen(&two).await;
    let (mut readers, tracker) = (Vec::new(), TaskTracker::new());
    for _ in 0..count {
        let (from, mut to) = connect(&one, listener.as_mut()).await;
        drop(write(from, MB));
        readers.push(tracker.spawn(async move { read(&mut to, MB).await }));
    }
    let mut times = Vec::new();
    for reader in readers {
        times.push(reader.await.unwrap());
    }
    times
}

#[tokio::test(start_paused = true)]
async fn ten_transfers_over_one_link_take_ten_times_as_long_as_one() {
    let one = transfers(1, link(10, 10), Link::PERFECT).await;
    let ten = transfers(10, link(10, 10), Link::PERFECT).await;
    assert_close(one[0], Duration::from_millis(800));
    ten.into_iter().for_each(|time| assert_close(time, one[0] * 10));
}

#[tokio::test(start_paused = true)]
async fn ten_transfers_one_behind_the_other_take_ten_times_as_long_as_one() {
    let net = SimNet::with_latency(1, Duration::ZERO);
    let (from, mut to) = pair(&net, link(10, 10), Link::PERFECT).await;
    drop(write(from, 10 * MB));
    let start = now();
    for count in 1..=10 {
        read(&mut to, MB).await;
        assert_close(start.elapsed(), Duration::from_millis(800) * count);
    }
}

#[tokio::test(start_paused = true)]
async fn two_flows_have_half_the_rate_each_and_the_rest_goes_to_who_is_left() {
    let two = transfers(2, link(10, 10), Link::PERFECT).await;
    two.into_iter().for_each(|time| assert_close(time, Duration::from_millis(1600)));
    let net = SimNet::with_latency(1, Duration::ZERO);
    let (one, two) = (host(&net, 1, link(10, 10)), host(&net, 2, Link::PERFECT));
    let mut listener = listen(&two).await;
    let (from, mut to) = connect(&one, listener.as_mut()).await;
    let (other_from, mut other_to) = connect(&one, listener.as_mut()).await;
    drop((write(from, 2 * MB), write(other_from, MB / 2)));
    let start = now();
    read(&mut other_to, MB / 2).await;
    assert_close(start.elapsed(), Duration::from_millis(800));
    read(&mut to, 2 * MB).await;
    assert_close(start.elapsed(), Duration::from_millis(2000));
}

#[tokio::test(start_paused = true)]
async fn up_and_down_are_limits_of_their_own() {
    for (one, two, millis) in [
        (link(10, 1), link(1, 40), 800),
        (link(10, 1), link(1, 5), 1600),
        (link(80, 1), Link::PERFECT, 100),
        (Link::PERFECT, link(1, 20), 400),
    ] {
        let times = transfers(1, one, two).await;
        assert_close(times[0], Duration::from_millis(millis));
    }
    // Both ways at once do not disturb each other.
    let net = SimNet::with_latency(1, Duration::ZERO);
    let (mut a, mut b) = pair(&net, link(10, 20), Link::PERFECT).await;
    let start = now();
    let (bytes, mut got) = (vec![0; MB / 10], vec![0; MB / 10]);
    tokio::try_join!(a.write_all(&bytes), b.read_exact(&mut got)).unwrap();
    assert_close(start.elapsed(), Duration::from_millis(80));
    tokio::try_join!(b.write_all(&bytes), a.read_exact(&mut got)).unwrap();
    assert_close(start.elapsed(), Duration::from_millis(120));
}

#[tokio::test(start_paused = true)]
async fn what_a_flow_cannot_use_elsewhere_the_others_have() {
    let net = SimNet::with_latency(1, Duration::ZERO);
    let sender = host(&net, 1, link(9, 9));
    let mut ends = Vec::new();
    for (last, down) in [(2, 100), (3, 100), (4, 1)] {
        let receiver = host(&net, last, link(1, down));
        let mut listener = listen(&receiver).await;
        ends.push(connect(&sender, listener.as_mut()).await);
    }
    let tracker = TaskTracker::new();
    // 4, 4 and 1 Mbit/s.
    let transfers: Vec<_> = ends
        .into_iter()
        .zip([MB, MB, MB / 4])
        .map(|((from, mut to), bytes)| {
            drop(write(from, bytes));
            tracker.spawn(async move { read(&mut to, bytes).await })
        })
        .collect();
    for transfer in transfers {
        assert_close(transfer.await.unwrap(), Duration::from_secs(2));
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_after_the_latency_of_their_regions_and_not_before() {
    let net = SimNet::new(1);
    let one = net.add_host(HostSpec::new(ip(1), Region::Europe)).unwrap();
    let two = net.add_host(HostSpec::new(ip(2), Region::Oceania)).unwrap();
    let mut listener = listen(&two).await;
    let start = now();
    let (mut from, mut to) = connect(&one, listener.as_mut()).await;
    assert_eq!(start.elapsed(), Duration::from_millis(250));
    from.write_all(b"hello").await.unwrap();
    assert_eq!(read(&mut to, 5).await, Duration::from_millis(125));
    drop(from);
    let start = now();
    assert_eq!(to.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(start.elapsed(), Duration::from_millis(125));
    assert_eq!(to.write_all(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_second_message_waits_for_the_first_and_the_end_for_both() {
    let net = SimNet::with_latency(1, Duration::from_millis(100));
    let (mut from, mut to) = pair(&net, link(8, 8), Link::PERFECT).await;
    from.write_all(&[1; 100_000]).await.unwrap();
    from.write_all(&[2; 10_000]).await.unwrap();
    drop(from);
    let start = now();
    read(&mut to, 100_000).await;
    assert_close(start.elapsed(), Duration::from_millis(200));
    let mut rest = Vec::new();
    to.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [2; 10_000]);
    assert_close(start.elapsed(), Duration::from_millis(210));
}

/// When each of so many numbers arrives that leave 10 ms apart; asserts that they do so in order.
async fn arrivals(seed: u64, link: Link, count: u32) -> Vec<Duration> {
    let net = SimNet::with_latency(seed, Duration::from_millis(50));
    let (mut from, mut to) = pair(&net, link, Link::PERFECT).await;
    let start = now();
    drop(TaskTracker::new().spawn(async move {
        for number in 0..count {
            from.write_u32(number).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }));
    let mut times = Vec::new();
    for number in 0..count {
        assert_eq!(to.read_u32().await.unwrap(), number);
        times.push(start.elapsed());
    }
    times
}

fn delays(arrivals: &[Duration]) -> Vec<Duration> {
    (0_u32..).zip(arrivals).map(|(number, time)| *time - Duration::from_millis(10) * number).collect()
}

#[tokio::test(start_paused = true)]
async fn jitter_delays_and_keeps_order() {
    let jitter = Duration::from_millis(40);
    let times = arrivals(1, Link { jitter, ..Link::PERFECT }, 200).await;
    let delays = delays(&times);
    let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
    assert!(*least >= Duration::from_millis(50) && *most <= Duration::from_millis(91), "{least:?} {most:?}");
    assert!(*most - *least > jitter / 2, "{least:?} {most:?}");
}

#[tokio::test(start_paused = true)]
async fn loss_delays_and_loses_nothing() {
    let times = arrivals(1, Link { loss: 50_000, ..Link::PERFECT }, 400).await;
    let delays = delays(&times);
    // A loss costs 200 ms and a round trip of 100 ms; the 30 behind it wait for it.
    let on_time = delays.iter().filter(|delay| **delay == Duration::from_millis(50)).count();
    assert!((50..300).contains(&on_time), "{on_time}");
    assert!(delays.iter().any(|delay| *delay == Duration::from_millis(350)), "{delays:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_arrivals_and_another_seed_others() {
    for link in [Link::MOBILE, Link { up: Bandwidth::Unlimited, ..Link::MOBILE }] {
        let first = arrivals(1, link, 100).await;
        assert_eq!(first, arrivals(1, link, 100).await);
        assert_ne!(first, arrivals(2, link, 100).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_silent_and_what_it_destroyed_comes_after_it_is_healed() {
    for one in [Link::PERFECT, link(8, 8)] {
        let net = SimNet::with_latency(1, Duration::from_millis(20));
        let (mut from, mut to) = pair(&net, one, Link::PERFECT).await;
        from.write_all(b"before").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let cut = net.cut(&[ip(1)], &[ip(2)]);
        from.write_all(b"during").await.unwrap();
        assert!(timeout(LONG, to.read_u8()).await.is_err());
        net.heal_cut(&cut);
        let start = now();
        let mut got = [0; 12];
        to.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"beforeduring");
        assert_close(
            start.elapsed(),
            Duration::from_millis(if one.up == Bandwidth::Unlimited { 20 } else { 21 }),
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_a_cut_hides_is_seen_once_it_is_healed() {
    let net = SimNet::with_latency(1, Duration::from_millis(20));
    let (from, mut to) = pair(&net, Link::PERFECT, Link::PERFECT).await;
    net.cut(&[ip(1)], &[ip(2)]);
    drop(from);
    assert!(timeout(LONG, to.read_u8()).await.is_err());
    to.write_all(&[0; SEND_BUFFER]).await.unwrap();
    assert!(timeout(LONG, to.write_u8(1)).await.is_err());
    net.heal();
    assert_eq!(to.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(to.write_u8(1).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_one_way_cut_lets_the_other_way_pass_and_no_dial() {
    let net = SimNet::with_latency(1, Duration::from_millis(20));
    let (one, two) = (host(&net, 1, Link::PERFECT), host(&net, 2, Link::PERFECT));
    let mut listener = listen(&two).await;
    let (mut a, mut b) = connect(&one, listener.as_mut()).await;
    net.cut_one_way(&[ip(1)], &[ip(2)]);
    a.write_all(b"x").await.unwrap();
    b.write_all(b"y").await.unwrap();
    assert_eq!(a.read_u8().await.unwrap(), b'y');
    assert!(timeout(LONG, b.read_u8()).await.is_err());
    let mut listeners = [listen(&one).await, listener];
    assert!(timeout(LONG, one.dial(None, at(2))).await.is_err());
    assert!(timeout(LONG, two.dial(None, at(1))).await.is_err());
    let mut dial = one.dial(None, at(2));
    assert!(timeout(LONG, &mut dial).await.is_err());
    net.heal();
    assert_eq!(b.read_u8().await.unwrap(), b'x');
    dial.await.unwrap();
    assert!(listeners[1].accept().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn cuts_overlap_and_heal_one_by_one() {
    let net = SimNet::with_latency(1, Duration::from_millis(20));
    let (mut from, mut to) = pair(&net, Link::PERFECT, Link::PERFECT).await;
    let (first, _second) = (net.cut(&[ip(1)], &[ip(2)]), net.cut(&[ip(1), ip(3)], &[ip(2)]));
    from.write_u8(1).await.unwrap();
    net.heal_cut(&first);
    assert!(timeout(LONG, to.read_u8()).await.is_err());
    net.heal();
    assert_eq!(to.read_u8().await.unwrap(), 1);
}

fn behind(net: &SimNet, last: u8, nat: Nat) -> SimHost {
    let own = IpAddr::from([10, 0, 0, last]);
    net.add_host(HostSpec { nat, ..HostSpec::new(own, Region::Europe) }).unwrap()
}

#[tokio::test(start_paused = true)]
async fn hosts_behind_one_router_are_seen_at_one_address_and_take_no_dials() {
    let net = SimNet::new(1);
    let nat = Nat::Restricted { public: ip(100) };
    let (inner, other) = (behind(&net, 1, nat), behind(&net, 2, nat));
    let open = host(&net, 1, Link::PERFECT);
    let (mut inside, mut outside) = (listen(&inner).await, listen(&open).await);
    let mut seen = Vec::new();
    for host in [&inner, &other] {
        host.dial(None, at(1)).await.unwrap();
        seen.push(outside.accept().await.unwrap().remote);
    }
    assert!(seen.iter().all(|seen| seen.ip() == ip(100)) && seen[0].port() != seen[1].port(), "{seen:?}");
    // From outside neither the router's address nor the inner one leads in; from inside the inner one does.
    for remote in [SocketAddr::new(ip(100), PORT), seen[0], inside.local_addr()] {
        assert!(timeout(LONG, open.dial(None, remote)).await.is_err(), "{remote}");
    }
    other.dial(None, inside.local_addr()).await.unwrap();
    assert_eq!(inside.accept().await.unwrap().remote.ip(), IpAddr::from([10, 0, 0, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_mapped_port_leads_in_and_serves_one_host() {
    let net = SimNet::new(1);
    let nat = Nat::PortMapped { public: ip(100) };
    let (inner, other) = (behind(&net, 1, nat), behind(&net, 2, nat));
    let open = host(&net, 1, Link::PERFECT);
    let mut inside = listen(&inner).await;
    let taken = other.listen(SocketAddr::new(ip(0), PORT)).await.err().unwrap();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    let mapped = SocketAddr::new(ip(100), PORT);
    for (host, seen) in [(&open, ip(1)), (&other, ip(100))] {
        assert_eq!(host.dial(None, mapped).await.unwrap().remote, mapped);
        assert_eq!(inside.accept().await.unwrap().remote.ip(), seen);
    }
    drop(inside);
    assert!(timeout(LONG, open.dial(None, mapped)).await.is_err());
    assert!(other.listen(SocketAddr::new(ip(0), PORT)).await.is_ok());
    assert!(net.add_host(HostSpec::new(ip(100), Region::Europe)).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_crash_resets_the_other_ends_after_the_latency_and_a_restart_listens_again() {
    let net = SimNet::with_latency(1, Duration::from_millis(30));
    let (one, two) = (host(&net, 1, Link::PERFECT), host(&net, 2, Link::PERFECT));
    let mut listener = listen(&two).await;
    let (mut a, mut b) = connect(&one, listener.as_mut()).await;
    let unaccepted = one.dial(None, at(2)).await;
    b.write_all(b"last words").await.unwrap();
    net.crash(ip(2));
    assert_eq!(b.write_u8(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(two.dial(None, at(1)).await.unwrap_err().kind(), ErrorKind::NetworkDown);
    assert!(timeout(LONG / 2, listener.accept()).await.is_err());
    net.crash(ip(2));

    let mut words = [0; 10];
    a.read_exact(&mut words).await.unwrap();
    assert_eq!(a.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(a.write_u8(1).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let reset = unaccepted.unwrap().stream.read_u8().await.unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    assert_eq!(one.dial(None, at(2)).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);

    let again = net.restart(ip(2)).unwrap();
    let mut relisten = listen(&again).await;
    drop(listener);
    connect(&one, relisten.as_mut()).await;
    assert!(two.listen(at(2)).await.is_err(), "the first life is over");
    assert!(net.restart(ip(9)).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_reset_takes_the_latency_and_comes_in_the_midst_of_a_transfer() {
    let net = SimNet::with_latency(1, Duration::from_millis(30));
    let (from, mut to) = pair(&net, link(8, 8), Link::PERFECT).await;
    let writer = TaskTracker::new().spawn(async move {
        let mut from = from;
        from.write_all(&vec![0; MB]).await.unwrap_err().kind()
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    net.crash(ip(1));
    let (start, mut got) = (now(), Vec::new());
    assert_eq!(to.read_to_end(&mut got).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(start.elapsed(), Duration::from_millis(30));
    assert!((450_000..=500_000).contains(&got.len()), "{}", got.len());
    assert_eq!(writer.await.unwrap(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_a_slow_link_and_for_a_reader_that_does_not_read() {
    for (one, room) in [(link(1, 1), SEND_BUFFER), (Link::PERFECT, WINDOW)] {
        let net = SimNet::with_latency(1, Duration::ZERO);
        let (mut from, mut to) = pair(&net, one, Link::PERFECT).await;
        let start = now();
        from.write_all(&vec![0; room]).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        if one.up == Bandwidth::Unlimited {
            assert!(timeout(LONG, from.write_u8(1)).await.is_err());
            read(&mut to, room).await;
        }
        from.write_u8(1).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_learns_that_nobody_reads() {
    let net = SimNet::with_latency(1, Duration::from_millis(30));
    let (mut from, to) = pair(&net, Link::PERFECT, Link::PERFECT).await;
    from.write_all(&vec![0; WINDOW]).await.unwrap();
    let writer = TaskTracker::new().spawn(async move {
        let error = from.write_all(&vec![0; 4 * WINDOW]).await.unwrap_err();
        (error.kind(), now())
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let start = now();
    drop(to);
    assert_eq!(writer.await.unwrap(), (ErrorKind::BrokenPipe, start + Duration::from_millis(30)));
}

#[tokio::test(start_paused = true)]
async fn names_dials_to_nobody_and_traffic() {
    let net = SimNet::with_latency(1, Duration::from_millis(10));
    let (one, two) = (host(&net, 1, Link::PERFECT), host(&net, 2, link(1, 1)));
    net.set_name("seed.example", vec![ip(2)]);
    assert_eq!(one.resolve("seed.example".into()).await.unwrap(), [ip(2)]);
    assert_eq!(one.resolve("other.example".into()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(one.dial(None, at(2)).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(timeout(LONG, one.dial(None, at(77))).await.is_err());

    let mut listener = listen(&two).await;
    let (mut a, mut b) = connect(&one, listener.as_mut()).await;
    a.write_all(&[0; 1000]).await.unwrap();
    read(&mut b, 1000).await;
    b.write_all(&[0; 500]).await.unwrap();
    read(&mut a, 500).await;
    assert_eq!(net.traffic(ip(1)), Traffic { sent: 1000, received: 500 });
    assert_eq!(net.traffic(ip(2)), Traffic { sent: 500, received: 1000 });
    assert_eq!(net.traffic(ip(3)), Traffic::default());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_network_leaves_no_task_and_a_closed_connection_nothing() {
    let net = SimNet::with_latency(1, Duration::ZERO);
    let (from, to) = pair(&net, link(1, 1), Link::PERFECT).await;
    let mut from = write(from, 100_000).await.unwrap();
    assert_eq!(net.state.lock().sizes(), (1, 1));
    from.shutdown().await.unwrap();
    drop((from, to));
    assert_eq!(net.state.lock().sizes(), (0, 0));
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 1);
    drop(net);
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn connections_carry_the_address_of_the_other_side() {
    let net = SimNet::new(1);
    let (one, two) = (host(&net, 1, Link::PERFECT), host(&net, 2, Link::PERFECT));
    let mut listener = listen(&two).await;
    let Connection { remote, .. } = one.dial(None, at(2)).await.unwrap();
    assert_eq!((remote, listener.local_addr()), (at(2), at(2)));
    let seen = listener.accept().await.unwrap().remote;
    assert!(seen.ip() == ip(1) && seen.port() >= 32_768, "{seen}");
}
