//! Gossip under attack and under loss; docs/gossip.md has the figures.
//!
//! Without `--loss`, three workers, and one of them gets bad datagrams: random, truncated, huge, forged and replayed ones. With `--loss`, workers whose
//! messages are lost at random; one is killed now and then. Both print how often a living worker was taken for dead.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chitchat::transport::{Transport, TransportExt};
use clap::Parser;
use connect_node::gossip::{Facts, Gossip, Keys, SealedTransport, Settings, Timing, View};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const GROUP: &str = "bench";
const SECRET: &str = "a secret of sixteen bytes or more";
/// How often views are looked at. A worker that was taken for dead comes back after two heartbeats, which is longer.
const LOOK: Duration = Duration::from_millis(10);
/// How long a worker that was started may need to be seen by all.
const SETTLE: Duration = Duration::from_secs(20);
/// How often the attacker sends, in batches.
const BURST: Duration = Duration::from_millis(1);

#[derive(Parser)]
struct Options {
    /// How long.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Bad datagrams in a second.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// The share of messages that are lost, each way.
    #[arg(long)]
    loss: Option<f64>,
    /// Workers.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Seconds between two kills; 0: none.
    #[arg(long, default_value_t = 15)]
    kill_every: u64,
    /// Threads that burn CPU meanwhile.
    #[arg(long, default_value_t = 0)]
    burners: usize,
    #[arg(long)]
    interval_ms: Option<u64>,
    #[arg(long)]
    initial_ms: Option<u64>,
    #[arg(long)]
    phi: Option<f64>,
    #[arg(long)]
    window: Option<usize>,
}

impl Options {
    fn timing(&self) -> Timing {
        let default = Timing::default();
        Timing {
            gossip_interval: self.interval_ms.map_or(default.gossip_interval, Duration::from_millis),
            initial_interval: self.initial_ms.map_or(default.initial_interval, Duration::from_millis),
            phi_threshold: self.phi.unwrap_or(default.phi_threshold),
            window_samples: self.window.unwrap_or(default.window_samples),
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome {
    let options = Options::parse();
    let burning = Arc::new(AtomicBool::new(true));
    for _ in 0..options.burners {
        let burning = burning.clone();
        std::thread::spawn(move || while burning.load(Ordering::Relaxed) {});
    }
    let mut bench = Bench::default();
    for number in 0..options.nodes {
        bench.start(&options, number).await?;
    }
    let (cpu, start) = (cpu_seconds()?, Instant::now());
    let attacker = match options.loss {
        None => Some(Attacker::start(&bench, options.rate).await?),
        Some(_) => None,
    };
    bench.watch(&options).await?;
    burning.store(false, Ordering::Relaxed);
    let seconds = start.elapsed().as_secs_f64();
    println!("seconds {seconds:.1}, CPU of the process {:.2} s", cpu_seconds()? - cpu);
    if let Some(attacker) = attacker {
        let (sent, cpu) = attacker.stop()?;
        println!("bad datagrams sent {sent} ({:.0}/s), CPU of the attacker {cpu:.2} s of it", sent as f64 / seconds);
    }
    bench.report();
    Ok(())
}

#[derive(Default)]
struct Bench {
    nodes: BTreeMap<usize, Gossip>,
    false_suspicions: u64,
    /// Milliseconds from a kill until all others saw it.
    deaths_ms: Vec<u128>,
    /// Milliseconds from a start until all saw it.
    joins_ms: Vec<u128>,
}

fn name(number: usize) -> String {
    format!("worker-{number}.connect.example:8083")
}

impl Bench {
    async fn start(&mut self, options: &Options, number: usize) -> Outcome {
        let begun = Instant::now();
        let settings = Settings {
            worker_id: name(number),
            group_id: GROUP.to_owned(),
            generation: SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64,
            listen: "127.0.0.1:0".parse()?,
            advertised: "127.0.0.1:0".to_owned(),
            seeds: self.nodes.values().map(|node| node.address().to_string()).collect(),
            keys: Keys::from_secret(SECRET, GROUP),
            timing: options.timing(),
        };
        let loss = options.loss.unwrap_or(0.0);
        let around = |transport: SealedTransport| -> Box<dyn Transport> { transport.drop_message(loss) };
        let facts = Facts { nonce: 1, version: "0.1.0".to_owned(), ..Facts::default() };
        self.nodes.insert(number, Gossip::start_over(settings, facts, around).await?);
        while !self.all_seen() {
            if begun.elapsed() > SETTLE {
                return Err(format!("{} is not seen by all", name(number)).into());
            }
            self.look().await;
        }
        self.joins_ms.push(begun.elapsed().as_millis());
        Ok(())
    }

    async fn look(&self) {
        self.nodes.values().for_each(Gossip::alive);
        tokio::time::sleep(LOOK).await;
    }

    fn sees(&self, view: &View, own: usize) -> usize {
        self.nodes.keys().filter(|number| **number != own && view.peers.contains_key(&name(**number))).count()
    }

    fn all_seen(&self) -> bool {
        let others = self.nodes.len() - 1;
        self.nodes.iter().all(|(number, node)| self.sees(&node.view().borrow(), *number) == others)
    }

    /// Counts living workers that vanish from views, and kills one now and then.
    async fn watch(&mut self, options: &Options) -> Outcome {
        let start = Instant::now();
        let mut last_kill = Instant::now();
        let mut absent: BTreeMap<(usize, usize), ()> = BTreeMap::new();
        while start.elapsed() < Duration::from_secs(options.seconds) {
            self.look().await;
            for (own, node) in &self.nodes {
                let view = node.view();
                for other in self.nodes.keys().filter(|other| *other != own) {
                    let is_seen = view.borrow().peers.contains_key(&name(*other));
                    if is_seen {
                        absent.remove(&(*own, *other));
                    } else if absent.insert((*own, *other), ()).is_none() {
                        self.false_suspicions += 1;
                        println!("{:.1} s: {own} takes {other} for dead", start.elapsed().as_secs_f64());
                    }
                }
            }
            if options.kill_every > 0 && last_kill.elapsed() >= Duration::from_secs(options.kill_every) {
                self.kill(options).await?;
                last_kill = Instant::now();
            }
        }
        Ok(())
    }

    async fn kill(&mut self, options: &Options) -> Outcome {
        let count = self.nodes.len();
        // The attacker speaks to number 0.
        let number = 1 + self.deaths_ms.len() % (count - 1);
        let killed = Instant::now();
        drop(self.nodes.remove(&number));
        while self.nodes.values().any(|node| node.view().borrow().peers.contains_key(&name(number))) {
            if killed.elapsed() > SETTLE {
                return Err("a dead worker is not seen dead".into());
            }
            self.look().await;
        }
        self.deaths_ms.push(killed.elapsed().as_millis());
        self.start(options, number).await
    }

    fn report(&mut self) {
        self.deaths_ms.sort_unstable();
        self.joins_ms.sort_unstable();
        let middle = |times: &[u128]| times.get(times.len() / 2).copied().unwrap_or(0);
        println!(
            "false suspicions {}; deaths {}, seen after ms: median {} longest {}; starts seen after ms: median {} longest {}",
            self.false_suspicions,
            self.deaths_ms.len(),
            middle(&self.deaths_ms),
            self.deaths_ms.last().unwrap_or(&0),
            middle(&self.joins_ms),
            self.joins_ms.last().unwrap_or(&0),
        );
        for (number, node) in &self.nodes {
            let counters: Vec<_> = node.counters().all().into_iter().filter(|(_, count)| *count > 0).collect();
            println!("{number}: {counters:?}");
        }
    }
}

/// A thread that sends bad datagrams to worker 0.
struct Attacker {
    going: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<std::io::Result<f64>>,
}

impl Attacker {
    /// Overhears one datagram to begin with: worker 1 takes the attacker for a seed.
    async fn start(bench: &Bench, rate: u64) -> Outcome<Attacker> {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
        let (target, speaker) = (bench.nodes[&0].address(), &bench.nodes[&1]);
        speaker.set_seeds(vec![socket.local_addr()?.to_string()]);
        let mut overheard = vec![0; 65_536];
        let length = tokio::time::timeout(SETTLE, socket.recv(&mut overheard)).await??;
        overheard.truncate(length);
        speaker.set_seeds(vec![]);
        let (going, sent) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let socket = socket.into_std()?;
        let thread = std::thread::spawn({
            let (going, sent) = (going.clone(), sent.clone());
            move || attack(&socket, target, &overheard, rate, &going, &sent)
        });
        Ok(Attacker { going, sent, thread })
    }

    fn stop(self) -> Outcome<(u64, f64)> {
        self.going.store(false, Ordering::Relaxed);
        let cpu = self.thread.join().map_err(|_| "the attacker panicked")??;
        Ok((self.sent.load(Ordering::Relaxed), cpu))
    }
}

fn attack(
    socket: &UdpSocket,
    target: SocketAddr,
    overheard: &[u8],
    rate: u64,
    going: &AtomicBool,
    sent: &AtomicU64,
) -> std::io::Result<f64> {
    let mut random = fastrand::Rng::new();
    let mut noise = vec![0; 65_507];
    random.fill(&mut noise);
    // What the header says is right, so that the seal has to be computed: the counter is one that was never used.
    let mut forged = overheard.to_vec();
    forged[29..37].copy_from_slice(&(1u64 << 40).to_le_bytes());
    let mut huge = noise.clone();
    huge[..38].copy_from_slice(&forged[..38]);
    huge[38..46].copy_from_slice(&(65_507u64 - 46).to_le_bytes());
    let start = Instant::now();
    let mut count = 0;
    while going.load(Ordering::Relaxed) {
        while (count as f64) < start.elapsed().as_secs_f64() * rate as f64 {
            let datagram = match count % 6 {
                0 => &noise[..random.usize(0..1400)],
                1 => &overheard[..random.usize(0..overheard.len())],
                2 => &noise[..],
                3 => &huge[..],
                4 => &forged[..],
                _ => overheard,
            };
            // No room in the kernel: it is lost, as some are.
            let _ = socket.send_to(datagram, target);
            count += 1;
        }
        sent.store(count, Ordering::Relaxed);
        std::thread::sleep(BURST);
    }
    let stat = std::fs::read_to_string("/proc/thread-self/stat")?;
    Ok(ticks(&stat).unwrap_or(0.0))
}

/// User and system time so far, in steps of 10 ms.
fn ticks(stat: &str) -> Option<f64> {
    let fields = stat.rsplit_once(") ")?.1;
    let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<f64>().ok()).sum::<Option<f64>>()?;
    Some(ticks / 100.0)
}

fn cpu_seconds() -> Outcome<f64> {
    Ok(ticks(&std::fs::read_to_string("/proc/self/stat")?).ok_or("no times in /proc/self/stat")?)
}
