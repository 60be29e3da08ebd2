//! Nodes on loopback sockets, and what strangers may do to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often counters are looked at.
const LOOK: Duration = Duration::from_millis(5);
const GROUP: &str = "connect-cluster";
const SECRET: &str = "a secret of sixteen bytes or more";

fn settings(id: &str, seeds: &[&Gossip]) -> Settings {
    Settings {
        worker_id: id.to_owned(),
        group_id: GROUP.to_owned(),
        generation: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64,
        listen: "127.0.0.1:0".parse().unwrap(),
        advertised: "127.0.0.1:0".to_owned(),
        seeds: seeds.iter().map(|gossip| gossip.address().to_string()).collect(),
        keys: Keys::from_secret(SECRET, GROUP),
        timing: Timing { gossip_interval: Duration::from_millis(50), ..Timing::default() },
    }
}

fn facts(nonce: u64) -> Facts {
    Facts { nonce, version: "0.1.0".to_owned(), status_ends: vec![1, 2, 3], ..Facts::default() }
}

async fn start(id: &str, nonce: u64, seeds: &[&Gossip]) -> Gossip {
    Gossip::start(settings(id, seeds), facts(nonce)).await.unwrap()
}

/// Waits until the view of others is so, while all owners speak.
async fn until(nodes: &[&Gossip], whose: &Gossip, is_so: impl Fn(&View) -> bool) {
    let mut view = whose.view();
    let waiting = async {
        while !is_so(&view.borrow_and_update()) {
            nodes.iter().for_each(|node| node.alive());
            // A second is when the owners have to speak again.
            if let Ok(changed) = timeout(Duration::from_secs(1), view.changed()).await {
                changed.expect("gossip goes on as long as it is held");
            }
        }
    };
    let outcome = timeout(PATIENCE, waiting).await;
    assert!(outcome.is_ok(), "{:?}, counters {:?}", whose.view().borrow(), whose.counters().all());
}

fn ids(view: &View) -> Vec<&str> {
    view.peers.keys().map(String::as_str).collect()
}

/// Waits until a counter is at least so high.
async fn counted(nodes: &[&Gossip], counter: impl Fn() -> u64, at_least: u64) {
    let mut look = tokio::time::interval(LOOK);
    let counting = async {
        while counter() < at_least {
            nodes.iter().for_each(|node| node.alive());
            look.tick().await;
        }
    };
    assert!(timeout(PATIENCE, counting).await.is_ok(), "{} of {at_least}", counter());
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[tokio::test]
async fn three_nodes_see_each_other_and_what_they_say() {
    let a = start("a", 1, &[]).await;
    let (b, c) = (start("b", 2, &[&a]).await, start("c", 3, &[&a]).await);
    let all = [&a, &b, &c];
    until(&all, &a, |view| ids(view) == ["b", "c"]).await;
    until(&all, &b, |view| ids(view) == ["a", "c"]).await;
    until(&all, &c, |view| ids(view) == ["a", "b"] && view.peers["b"] == facts(2)).await;
    let changed = Facts { leased: true, incarnation: Some(7), load: 4, config_end: 99, ..facts(2) };
    b.say(&changed).unwrap();
    until(&all, &c, |view| view.peers["b"] == changed).await;
    assert_eq!(a.counters().dropped(), 0, "{:?}", a.counters().all());
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn who_has_another_key_or_another_cluster_or_no_seal_sees_nobody() {
    let a = start("a", 1, &[]).await;
    let b = start("b", 2, &[&a]).await;
    let other_key = Settings { keys: Keys::from_secret("another secret, as long", GROUP), ..settings("key", &[&a]) };
    let other_key = Gossip::start(other_key, facts(3)).await.unwrap();
    let group = "other".to_owned();
    let other_cluster =
        Settings { keys: Keys::from_secret(SECRET, "other"), group_id: group, ..settings("cluster", &[&a]) };
    let other_cluster = Gossip::start(other_cluster, facts(4)).await.unwrap();
    let all = [&a, &b, &other_key, &other_cluster];
    let counters = a.counters();
    counted(&all, || get(&counters.wrong_key), 2).await;
    counted(&all, || get(&counters.foreign_cluster), 2).await;
    until(&all, &a, |view| ids(view) == ["b"]).await;
    assert_eq!(counters.dropped(), get(&counters.wrong_key) + get(&counters.foreign_cluster), "{:?}", counters.all());
    assert_eq!(*other_key.view().borrow(), View::default());
    assert_eq!(*other_cluster.view().borrow(), View::default());
    // With the key it is one of them.
    other_key.set_keys(Keys::from_secret(SECRET, GROUP));
    until(&all, &a, |view| ids(view) == ["b", "key"]).await;
}

#[tokio::test]
async fn bad_datagrams_change_counters_only() {
    let a = start("a", 1, &[]).await;
    let b = start("b", 2, &[&a]).await;
    // A datagram to begin with: b takes the attacker for a seed.
    let attacker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    b.set_seeds(vec![a.address().to_string(), attacker.local_addr().unwrap().to_string()]);
    let mut good = vec![0; 65_536];
    let length = timeout(PATIENCE, attacker.recv(&mut good)).await.expect("a new seed is spoken to").unwrap();
    good.truncate(length);
    let changed = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    let of = |counters: &GossipCounters, name: &str| {
        counters.all().iter().find(|(counter, _)| *counter == name).map(|(_, count)| *count).expect("there is one")
    };
    let counters = a.counters();
    let cases = [
        ("truncated", good[..20].to_vec()),
        ("truncated", good[..length - 1].to_vec()),
        ("truncated", vec![]),
        ("foreign_version", vec![255; 1000]),
        ("malformed", vec![1; 1000]),
        ("malformed", vec![1; 65_507]),
        ("malformed", [good.clone(), vec![0]].concat()),
        // Lengths that nobody has.
        ("malformed", changed(38, &u64::MAX.to_le_bytes())),
        ("malformed", changed(38, &(1u64 << 60).to_le_bytes())),
        ("foreign_cluster", changed(1, &[good[1] ^ 1])),
        ("wrong_key", changed(9, &[good[9] ^ 1])),
        ("forged", changed(length - 1, &[good[length - 1] ^ 1])),
        ("received", good.clone()),
        ("replayed", good.clone()),
        ("replayed", good.clone()),
    ];
    for (number, (name, datagram)) in cases.iter().enumerate() {
        let (before, dropped) = (of(&counters, name), counters.dropped());
        // Alone, so that it finds room in the kernel.
        attacker.send_to(datagram, a.address()).await.unwrap();
        counted(&[&a, &b], || of(&counters, name), before + 1).await;
        assert_eq!(counters.dropped(), dropped + u64::from(*name != "received"), "{number}: {:?}", counters.all());
    }
    until(&[&a, &b], &a, |view| ids(view) == ["b"]).await;
    until(&[&a, &b], &b, |view| ids(view) == ["a"]).await;
}

#[tokio::test]
async fn sealed_nonsense_is_counted_and_does_not_stop_the_rest() {
    let (a, b) = (start("a", 1, &[]).await, start("b", 2, &[]).await);
    let stranger = Seal::new(GROUP, Keys::from_secret(SECRET, GROUP)).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for message in [&b"junk"[..], &[0; 40_000], &[]] {
        socket.send_to(&stranger.seal(message).unwrap()[0], a.address()).await.unwrap();
    }
    let counters = a.counters();
    counted(&[&a, &b], || get(&counters.undecodable), 3).await;
    b.set_seeds(vec![a.address().to_string()]);
    until(&[&a, &b], &a, |view| ids(view) == ["b"]).await;
}

#[tokio::test]
async fn a_restart_is_seen_under_the_same_id() {
    let a = start("a", 1, &[]).await;
    let b = start("b", 2, &[&a]).await;
    until(&[&a, &b], &a, |view| ids(view) == ["b"]).await;
    let (again, address) = (settings("b", &[&a]), b.address());
    b.stop().await;
    let again = Settings { listen: address, generation: again.generation + 1, ..again };
    let b = Gossip::start(again, facts(22)).await.expect("stop gives the port back");
    until(&[&a, &b], &a, |view| view.peers.get("b").is_some_and(|facts| facts.nonce == 22)).await;
    until(&[&a, &b], &b, |view| ids(view) == ["a"]).await;
}

#[tokio::test]
async fn who_says_that_it_leaves_is_gone_though_it_goes_on_to_speak() {
    let a = start("a", 1, &[]).await;
    let b = start("b", 2, &[&a]).await;
    until(&[&a, &b], &a, |view| ids(view) == ["b"]).await;
    b.say(&Facts { leaving: true, ..facts(2) }).unwrap();
    until(&[&a, &b], &a, |view| view.peers.is_empty()).await;
    b.say(&facts(2)).unwrap();
    until(&[&a, &b], &a, |view| ids(view) == ["b"]).await;
}

#[tokio::test]
async fn who_is_dead_is_seen_so() {
    let a = start("a", 1, &[]).await;
    let b = start("b", 2, &[&a]).await;
    until(&[&a, &b], &a, |view| ids(view) == ["b"]).await;
    drop(b);
    until(&[&a], &a, |view| view.peers.is_empty()).await;
}

#[tokio::test]
async fn a_fact_that_is_too_large_is_refused_and_later_ones_arrive() {
    let a = start("a", 1, &[]).await;
    let b = start("b", 2, &[&a]).await;
    let large = Facts { rest_url: "x".repeat(FACT_MAX_BYTES + 1), load: 77, ..facts(2) };
    assert_eq!(b.say(&large), Err(FactTooLarge { fact: "rest_url", bytes: FACT_MAX_BYTES + 1 }));
    let later = Facts { load: 5, rest_url: "x".repeat(FACT_MAX_BYTES), ..facts(2) };
    b.say(&later).unwrap();
    until(&[&a, &b], &a, |view| view.peers.get("b") == Some(&later)).await;
    assert!(Gossip::start(settings("c", &[]), large).await.is_err());
}

#[tokio::test]
async fn seeds_may_come_later_and_be_names() {
    let (a, b) = (start("a", 1, &[]).await, start("b", 2, &[]).await);
    b.set_seeds(vec!["no.such.host.invalid:1".to_owned(), format!("localhost:{}", a.address().port())]);
    until(&[&a, &b], &b, |view| ids(view) == ["a"]).await;
    until(&[&a, &b], &a, |view| ids(view) == ["b"]).await;
}

/// Around the transport: sends nothing while the switch is on.
struct Cut<T>(T, Arc<AtomicBool>);

#[async_trait]
impl Transport for Cut<SealedTransport> {
    async fn open(&self, listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        Ok(Box::new(Cut(self.0.open(listen).await?, self.1.clone())))
    }
}

#[async_trait]
impl Socket for Cut<Box<dyn Socket>> {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.0.local_addr()
    }

    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        if self.1.load(Ordering::Relaxed) {
            return Ok(SendOutcome { num_bytes_sent: 0 });
        }
        self.0.send(to, envelope).await
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        self.0.recv().await
    }
}

#[tokio::test]
async fn who_cannot_be_heard_is_dead_and_comes_back() {
    let a = start("a", 1, &[]).await;
    let cut = Arc::new(AtomicBool::new(false));
    let around = |transport| -> Box<dyn Transport> { Box::new(Cut(transport, cut.clone())) };
    let b = Gossip::start_over(settings("b", &[&a]), facts(2), around).await.unwrap();
    let all = [&a, &b];
    until(&all, &a, |view| ids(view) == ["b"]).await;
    until(&all, &b, |view| ids(view) == ["a"]).await;
    cut.store(true, Ordering::Relaxed);
    until(&all, &a, |view| view.peers.is_empty()).await;
    // It still hears: a speaks to the dead now and then.
    cut.store(false, Ordering::Relaxed);
    until(&all, &a, |view| ids(view) == ["b"]).await;
    until(&all, &b, |view| ids(view) == ["a"]).await;
}

#[tokio::test]
async fn an_owner_that_is_stuck_is_dead_for_others() {
    let a = start("a", 1, &[]).await;
    let b = start("b", 2, &[&a]).await;
    until(&[&a, &b], &a, |view| ids(view) == ["b"]).await;
    // From here on the owner of b says nothing.
    until(&[&a], &a, |view| view.peers.is_empty()).await;
    assert!(get(&b.counters().silenced) > 0);
    until(&[&a, &b], &a, |view| ids(view) == ["b"]).await;
}

#[tokio::test]
async fn it_works_over_ipv6() {
    let six = |settings: Settings| Settings {
        listen: "[::1]:0".parse().unwrap(),
        advertised: "[::1]:0".to_owned(),
        ..settings
    };
    let Ok(a) = Gossip::start(six(settings("a", &[])), facts(1)).await else {
        // A machine without IPv6.
        return;
    };
    let b = Gossip::start(six(settings("b", &[&a])), facts(2)).await.unwrap();
    until(&[&a, &b], &a, |view| ids(view) == ["b"]).await;
    until(&[&a, &b], &b, |view| ids(view) == ["a"]).await;
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why() {
    let a = start("a", 1, &[]).await;
    let refused = async |settings: Settings| match Gossip::start(settings, facts(2)).await {
        Ok(_) => panic!("it starts"),
        Err(error) => format!("{error:#}"),
    };
    let taken = refused(Settings { listen: a.address(), ..settings("b", &[]) }).await;
    assert!(taken.contains(&a.address().to_string()) && taken.contains("UDP"), "{taken}");
    let unknown = Settings { advertised: "no.such.host.invalid:1".to_owned(), ..settings("b", &[]) };
    let unknown = refused(unknown).await;
    assert!(unknown.contains("no.such.host.invalid") && unknown.contains("cluster.advertised.listener"), "{unknown}");
    assert!(refused(settings(&"x".repeat(ID_MAX_BYTES + 1), &[])).await.contains("worker id"));
}

#[test]
fn the_digest_of_the_most_and_longest_nodes_leaves_room_in_a_datagram() {
    use chitchat::Serializable;
    let longest = ChitchatId::new("x".repeat(ID_MAX_BYTES), 1, "[::1]:1".parse().unwrap());
    // Behind the id of each node stand its heartbeat and two versions, as numbers of eight bytes.
    let digest = NODES_MAX * (longest.serialized_len() + 3 * 8);
    assert!(digest < wire::MESSAGE_MAX_BYTES * 2 / 3, "{digest}");
}
