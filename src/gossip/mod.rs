//! Gossip: who else lives, and what they say of themselves. It proposes; whoever uses it asks elsewhere before it acts.
//!
//! [chitchat](https://docs.rs/chitchat) does it, over UDP. Nobody without the key of the cluster can take part: each datagram is sealed,
//! see [`Keys`]. docs/gossip.md says how and what for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use chitchat::transport::Transport;
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, ProtocolVersion, spawn_chitchat,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

mod counters;
mod driver;
mod facts;
mod loopback;
mod pulse;
mod replay;
mod seal;
mod seeds;
mod transport;
mod view;
mod wire;

pub use counters::GossipCounters;
pub use facts::{FACT_MAX_BYTES, FactTooLarge, Facts};
pub use pulse::SILENCE_MS;
pub use seal::Keys;
pub use seeds::SEEDS_MAX;
pub use transport::SealedTransport;
pub use view::View;

use driver::{Driver, Texts};
use pulse::Pulse;
use seal::Seal;
use transport::Shared;

/// Milliseconds between two rounds, in each of which a worker speaks to three others.
pub const GOSSIP_INTERVAL_MS: u64 = 100;
/// Milliseconds between two heartbeats of a worker that was not heard often yet. They weigh as much as five intervals that were seen.
pub const INITIAL_INTERVAL_MS: u64 = 200;
/// A worker is suspected after so many mean intervals without a heartbeat. docs/gossip.md has what was measured.
pub const PHI_THRESHOLD: f64 = 8.0;
/// Intervals that the mean is taken of, beside those five. Few: in a large or busy cluster heartbeats come so often that their mean alone
/// would suspect a worker after a short hiccup.
pub const WINDOW_SAMPLES: usize = 10;
/// Longer intervals do not count for the mean.
const INTERVAL_MAX: Duration = Duration::from_secs(4);
/// How long the state of a dead worker is kept. Half of it, its id stands in the digest, and others are told of it.
const DEAD_GRACE: Duration = Duration::from_secs(60);
/// No fact is ever removed, so nothing waits for this.
const DELETION_GRACE: Duration = Duration::from_secs(60);
/// Workers of one cluster. Each message begins with a digest that names all of them and has to fit in a datagram of
/// 65,507 bytes: 128 of the longest ids take 41 kB without compression, and the rest is left for those that died in the last 30 s. Beyond it
/// workers would fall silent without a word, so a join is to be refused before.
pub const NODES_MAX: usize = 128;
/// Bytes of a worker id: a host name of DNS, a colon and a port.
pub const ID_MAX_BYTES: usize = 264;
/// Clusters are told apart by the seal; this is only chitchat's own name for it.
const CLUSTER: &str = "connect-node";
/// How long chitchat may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How fast gossip is, and how soon it suspects. The default is what the constants of this module say.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// See [`GOSSIP_INTERVAL_MS`].
    pub gossip_interval: Duration,
    /// See [`INITIAL_INTERVAL_MS`].
    pub initial_interval: Duration,
    /// See [`PHI_THRESHOLD`].
    pub phi_threshold: f64,
    /// See [`WINDOW_SAMPLES`].
    pub window_samples: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            gossip_interval: Duration::from_millis(GOSSIP_INTERVAL_MS),
            initial_interval: Duration::from_millis(INITIAL_INTERVAL_MS),
            phi_threshold: PHI_THRESHOLD,
            window_samples: WINDOW_SAMPLES,
        }
    }
}

/// What gossip is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Unique in the cluster, at most [`ID_MAX_BYTES`].
    pub worker_id: String,
    /// The name of the cluster.
    pub group_id: String,
    /// Must rise with each start of the worker: milliseconds since 1970 at its start.
    pub generation: u64,
    /// Where to listen, UDP. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// What others send to: `host:port`. It is looked up once. Port 0 is the one that is listened at.
    pub advertised: String,
    /// Where others may be: `host:port`. See [`Gossip::set_seeds`].
    pub seeds: Vec<String>,
    /// The keys of the cluster.
    pub keys: Keys,
    /// The default is for everything but experiments.
    pub timing: Timing,
}

/// Gossip that runs, until it is stopped or dropped.
pub struct Gossip {
    handle: Arc<ChitchatHandle>,
    address: SocketAddr,
    shared: Arc<Shared>,
    said: watch::Sender<Texts>,
    seeds: watch::Sender<Vec<String>>,
    view: watch::Receiver<View>,
    tasks: JoinSet<()>,
}

impl Gossip {
    /// Listens and begins to speak. Its tasks run on the runtime that this is called from.
    ///
    /// Fails when the address is taken or not known, or when a fact is too large.
    pub async fn start(settings: Settings, facts: Facts) -> anyhow::Result<Gossip> {
        Self::start_over(settings, facts, |transport| Box::new(transport)).await
    }

    /// The same with something around the transport, for tests and benchmarks: losses, cuts.
    pub async fn start_over(
        settings: Settings,
        facts: Facts,
        around: impl FnOnce(SealedTransport) -> Box<dyn Transport>,
    ) -> anyhow::Result<Gossip> {
        let id = &settings.worker_id;
        ensure!((1..=ID_MAX_BYTES).contains(&id.len()), "the worker id {id:?} has no byte or more than {ID_MAX_BYTES}");
        let texts = facts.texts()?;
        let seal = Arc::new(Seal::new(&settings.group_id, settings.keys.clone())?);
        let shared = Arc::new(Shared { seal, counters: Arc::default(), pulse: Pulse::new() });
        let (transport, listen, receiving) = SealedTransport::bind(settings.listen, shared.clone()).await?;
        let address = advertised(&settings.advertised, listen).await?;
        let initial = texts.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
        let mut tasks = JoinSet::new();
        tasks.spawn(receiving);
        let handle = spawn_chitchat(chitchat_config(&settings, listen, address), initial, &*around(transport)).await?;
        let handle = Arc::new(handle);
        let (said, to_say) = watch::channel(texts);
        let (show, view) = watch::channel(View::default());
        let (seeds, seeds_received) = watch::channel(bounded(settings.seeds));
        let live = handle.with_chitchat(|node| node.live_nodes_watcher()).await;
        let counters = shared.counters.clone();
        tasks.spawn(Driver::new(handle.clone(), settings.worker_id, to_say, live, show, counters).run());
        tasks.spawn(seeds::run(handle.clone(), address, seeds_received));
        Ok(Gossip { handle, address, shared, said, seeds, view, tasks })
    }

    /// The address that others send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says what has changed, and that the owner is alive. A fact that is too large is refused, and with it the others of this call.
    pub fn say(&self, facts: &Facts) -> Result<(), FactTooLarge> {
        self.alive();
        self.said.send_replace(facts.texts()?);
        Ok(())
    }

    /// The owner is alive. After [`SILENCE_MS`] without this or [`say`](Self::say) nothing is sent any more, so that others see this
    /// worker dead; the owner is to call one of them each second. It goes on with the next call.
    pub fn alive(&self) {
        self.shared.pulse.beat();
    }

    /// The living peers, at each moment. It is closed when gossip has ended, which without [`stop`](Self::stop) it does only when its
    /// socket or a task of it breaks; the log says why.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Replaces the addresses where others may be: `host:port`, at most [`SEEDS_MAX`]. New ones are spoken to at once, later those that are not
    /// live. This worker's own among them does no harm.
    pub fn set_seeds(&self, seeds: Vec<String>) {
        let seeds = bounded(seeds);
        self.seeds.send_if_modified(|current| {
            let is_new = *current != seeds;
            *current = seeds;
            is_new
        });
    }

    /// Replaces the keys; see [`Keys::replacing`].
    pub fn set_keys(&self, keys: Keys) {
        self.shared.seal.set_keys(keys);
    }

    /// What happened to datagrams.
    pub fn counters(&self) -> Arc<GossipCounters> {
        self.shared.counters.clone()
    }

    /// Ends all tasks and gives the port back. Say that it is leaving before: this alone looks like death to others.
    pub async fn stop(mut self) {
        // An error says that chitchat has ended by itself.
        let ended = self.handle.initiate_shutdown().is_err()
            || timeout(STOP_TIMEOUT, self.handle.termination_watcher()).await.is_ok();
        if !ended {
            tracing::warn!("gossip did not end within {STOP_TIMEOUT:?} and is aborted");
            self.handle.abort();
        }
        self.tasks.shutdown().await;
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        // First the task that would report the end of chitchat.
        self.tasks.abort_all();
        self.handle.abort();
    }
}

/// No more seeds than are used.
fn bounded(mut seeds: Vec<String>) -> Vec<String> {
    if seeds.len() > SEEDS_MAX {
        tracing::warn!(count = seeds.len(), "of the addresses for gossip {SEEDS_MAX} are used");
        seeds.truncate(SEEDS_MAX);
    }
    seeds
}

/// What others send to, of the family that this worker listens with if it has one.
async fn advertised(text: &str, listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    let found =
        seeds::resolve(text).await.context("gossip has to know its own address (cluster.advertised.listener)")?;
    let same = found.iter().find(|address| address.is_ipv4() == listen.is_ipv4());
    let mut address = *same.or(found.first()).with_context(|| format!("{text} has no address"))?;
    if address.port() == 0 {
        address.set_port(listen.port());
    }
    Ok(address)
}

fn chitchat_config(settings: &Settings, listen: SocketAddr, address: SocketAddr) -> ChitchatConfig {
    let timing = &settings.timing;
    let is_staying = |state: &NodeState| state.get(facts::LEAVING) != Some(facts::YES);
    ChitchatConfig {
        chitchat_id: ChitchatId::new(settings.worker_id.as_str(), settings.generation, address),
        cluster_id: CLUSTER.to_owned(),
        gossip_interval: timing.gossip_interval,
        listen_addr: listen,
        // The task `seeds` speaks to them, since they may change.
        seed_nodes: Vec::new(),
        failure_detector_config: FailureDetectorConfig::new(
            timing.phi_threshold,
            timing.window_samples,
            INTERVAL_MAX,
            timing.initial_interval,
            DEAD_GRACE,
        ),
        marked_for_deletion_grace_period: DELETION_GRACE,
        catchup_callback: None,
        extra_liveness_predicate: Some(Box::new(is_staying)),
        protocol_version: ProtocolVersion::V1,
    }
}

#[cfg(test)]
mod tests;
