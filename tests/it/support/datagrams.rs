//! UDP relays between workers, one in front of each: what they say to each other can be cut off and lost. A worker has to be sent to, and to answer,
//! through the relays alone; so a relay passes on under the address of the sender's own one.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

/// A datagram of IPv4 is not longer.
const DATAGRAM_MAX_BYTES: usize = 65_507;

/// The relays of workers, which are known by their numbers. They end with the test's runtime.
pub struct Datagrams(Arc<Network>);

struct Network {
    sockets: Vec<UdpSocket>,
    /// Where the workers listen, and send from; 0 while that is not known.
    workers: Vec<AtomicU16>,
    rules: Mutex<Rules>,
    lost: AtomicUsize,
}

/// What does not come through.
#[derive(Default)]
struct Rules {
    mute: BTreeSet<usize>,
    deaf: BTreeSet<usize>,
    /// Of a hundred datagrams.
    loss: usize,
    random: fastrand::Rng,
}

impl Datagrams {
    /// For so many workers, for now without anybody behind them.
    pub async fn start(count: usize) -> Datagrams {
        let mut network =
            Network { sockets: Vec::new(), workers: Vec::new(), rules: Default::default(), lost: Default::default() };
        for _ in 0..count {
            network.sockets.push(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
            network.workers.push(AtomicU16::new(0));
        }
        let network = Arc::new(network);
        for to in 0..count {
            let network = network.clone();
            tokio::spawn(async move { network.pass(to).await });
        }
        Datagrams(network)
    }

    /// What the workers have to advertise.
    pub fn addresses(&self) -> Vec<String> {
        self.0.sockets.iter().map(|socket| socket.local_addr().unwrap().to_string()).collect()
    }

    /// Where a worker listens.
    pub fn pass_on_to(&self, worker: usize, port: u16) {
        self.0.workers[worker].store(port, Ordering::Relaxed);
    }

    /// Nobody hears it.
    pub fn mute(&self, worker: usize) {
        self.0.rules.lock().unwrap().mute.insert(worker);
    }

    /// It hears nobody.
    pub fn deafen(&self, worker: usize) {
        self.0.rules.lock().unwrap().deaf.insert(worker);
    }

    /// So many of a hundred datagrams do not arrive; the same ones for the same seed and order.
    pub fn lose(&self, loss: usize, seed: u64) {
        let mut rules = self.0.rules.lock().unwrap();
        (rules.loss, rules.random) = (loss, fastrand::Rng::with_seed(seed));
    }

    pub fn heal(&self) {
        *self.0.rules.lock().unwrap() = Rules::default();
    }

    /// How many did not arrive so far.
    pub fn lost(&self) -> usize {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl Network {
    /// What comes to the relay of a worker, without end.
    async fn pass(&self, to: usize) {
        let mut datagram = vec![0; DATAGRAM_MAX_BYTES];
        loop {
            let (length, sender) =
                self.sockets[to].recv_from(&mut datagram).await.expect("a socket of its own is read");
            // Others on this machine are no workers of this group.
            let Some(from) = self.worker_at(sender) else { continue };
            if self.rules.lock().unwrap().loses(from, to) {
                self.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let receiver = (Ipv4Addr::LOCALHOST, self.workers[to].load(Ordering::Relaxed));
            // Who is down gets nothing, as on any network.
            _ = self.sockets[from].send_to(&datagram[..length], receiver).await;
        }
    }

    fn worker_at(&self, address: SocketAddr) -> Option<usize> {
        self.workers.iter().position(|port| port.load(Ordering::Relaxed) == address.port())
    }
}

impl Rules {
    fn loses(&mut self, from: usize, to: usize) -> bool {
        self.mute.contains(&from) || self.deaf.contains(&to) || self.random.usize(0..100) < self.loss
    }
}

#[test]
fn the_share_is_lost_and_the_seed_says_which() {
    let lost = |seed| {
        let mut rules = Rules { loss: 33, random: fastrand::Rng::with_seed(seed), ..Rules::default() };
        (0..1000).filter(|_| rules.loses(0, 1)).collect::<Vec<_>>()
    };
    assert_eq!(lost(7), lost(7));
    assert_ne!(lost(7), lost(8));
    assert!((250..420).contains(&lost(7).len()), "{}", lost(7).len());
}

#[tokio::test]
async fn a_cut_is_of_one_worker_and_of_one_way() {
    let workers = [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await];
    let [one, other] = workers.map(Result::unwrap);
    let relays = Datagrams::start(2).await;
    for (number, worker) in [&one, &other].into_iter().enumerate() {
        relays.pass_on_to(number, worker.local_addr().unwrap().port());
    }
    let addresses = relays.addresses();
    let mut datagram = [0; 10];
    let mut arrives = async |from: &UdpSocket, to: &UdpSocket, at: &str| {
        from.send_to(b"x", at).await.unwrap();
        to.recv_from(&mut datagram).await.unwrap().1.to_string()
    };
    assert_eq!(arrives(&one, &other, &addresses[1]).await, addresses[0], "it comes from where it is to be answered");
    for cut in [Datagrams::mute, |relays: &Datagrams, _| relays.deafen(1)] {
        let before = relays.lost();
        cut(&relays, 0);
        one.send_to(b"lost", &addresses[1]).await.unwrap();
        while relays.lost() == before {
            tokio::task::yield_now().await;
        }
        assert_eq!(arrives(&other, &one, &addresses[0]).await, addresses[1], "the other way is open");
        relays.heal();
        assert_eq!(arrives(&one, &other, &addresses[1]).await, addresses[0]);
        assert_eq!(relays.lost(), before + 1);
    }
}
