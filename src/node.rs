//! A running worker: what `main`, the quickstart and the tests start. Wires all rooms and decides nothing.
//!
//! Threads: one for all actors, two for REST, a few for pumps, and those of plug-ins that block. What blocks in one of these places
//! never stops another.

mod signals;

use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, oneshot};
use tracing::Instrument;

use crate::actors::advertised;
use crate::actors::clients;
use crate::actors::cluster::Place;
use crate::actors::deps::Deps;
use crate::actors::handle::HerderHandle;
use crate::actors::herder::{HerderParts, Identity, Stop, Stopped};
use crate::actors::pump::{self, Pumps};
use crate::actors::shutdown::Shutdown;
use crate::actors::supervision;
use crate::actors::worker::Worker;
use crate::backend::{self, Backend};
use crate::config::worker::Listener;
use crate::config::{StandaloneConfig, WorkerConfig};
use crate::metrics::Metrics;
use crate::plugins::Registry;
use crate::rest::{self, RestState};
use crate::storage::offset_file::FileOffsetStore;

/// Threads that answer REST requests.
const REST_THREADS: usize = 2;

/// A worker that runs in this process.
pub struct Node {
    herder: HerderHandle,
    shutdown: Shutdown,
    stopped: Stopped,
    actors: JoinHandle<()>,
    address: SocketAddr,
    url: String,
    /// `task.shutdown.graceful.timeout.ms`.
    graceful: Duration,
    /// Dropped last: REST answers until everything else has ended.
    _rest: Background,
    _pumps: Background,
}

/// A runtime whose end waits for nothing: a callback of a plug-in that never returns must not keep the process.
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Node {
    /// Opens the listeners and starts everything. Returns before Kafka has answered: until then REST says what it waits for.
    pub fn start(config: WorkerConfig, registry: Registry) -> Result<Node> {
        Node::start_with(config, None, None, registry)
    }

    /// Starts a worker on a cluster that the caller has opened, whatever `bootstrap.servers` says.
    pub fn start_on(cluster: Arc<dyn Backend>, config: WorkerConfig, registry: Registry) -> Result<Node> {
        Node::start_with(config, Some(cluster), None, registry)
    }

    /// Starts a standalone worker: its internal topics are in memory, and its source offsets in a file that it alone may use.
    pub fn start_standalone(config: StandaloneConfig, registry: Registry) -> Result<Node> {
        let offset_file = FileOffsetStore::open(&config.offset_file)?;
        Node::start_with(config.worker, None, Some(offset_file), registry)
    }

    fn start_with(
        config: WorkerConfig,
        cluster: Option<Arc<dyn Backend>>,
        offset_file: Option<FileOffsetStore>,
        registry: Registry,
    ) -> Result<Node> {
        supervision::install_panic_hook();
        tell_of(&config);
        check_converters(&config, &registry)?;
        let listeners = config.listeners.iter().map(bind).collect::<Result<Vec<_>>>()?;
        let address = listeners.first().context("listeners is empty")?.local_addr()?;
        let mut identity = identity(&config, address);
        if offset_file.is_none() && !backend::is_of_one_process(&config.bootstrap_servers) {
            identity.gossip = Some(gossip_place(&config, address, &identity)?);
        }
        let metrics = Metrics::new();
        let settings = clients::connection(&config)?;
        let open = || backend::open(&config.bootstrap_servers, &settings);
        let backend = cluster
            .map_or_else(open, Ok)
            .map_err(|error| anyhow!("bootstrap.servers={}: {error}", config.bootstrap_servers))?;
        let offset_file = offset_file.map(Arc::new);
        let standalone = offset_file.is_some();
        let internal = match &offset_file {
            None => backend.clone(),
            Some(_) => backend::open(&unique_memory(), &settings)?,
        };
        let pumps = pump::pump_runtime()?;
        let rest = Builder::new_multi_thread().worker_threads(REST_THREADS).thread_name("rest").enable_all().build()?;
        let (herder, requests) = HerderHandle::channel();
        let (shutdown, stopped) = (Shutdown::default(), Stopped::default());
        let parts = HerderParts {
            identity: identity.clone(),
            requests: Arc::new(Mutex::new(requests)),
            shutdown: shutdown.clone(),
            stopped: stopped.clone(),
        };
        for listener in listeners {
            let state = RestState::new(herder.clone(), registry.clone(), &*identity.rest_url, metrics.clone());
            serve(&rest, listener, state)?;
        }
        let graceful = config.task_shutdown_graceful_timeout;
        let pump_threads = Pumps::new(pumps.handle().clone());
        let deps = Arc::new(Deps { config, backend, internal, offset_file, registry, metrics, pumps: pump_threads });
        let ended = stopped.clone();
        let actors = thread::Builder::new().name("actors".into()).spawn(move || run_actors(deps, parts, ended))?;
        if !standalone {
            check_advertised(&rest, &identity);
        }
        let url = identity.rest_url;
        Ok(Node {
            herder,
            shutdown,
            stopped,
            actors,
            address,
            url,
            graceful,
            _rest: Background(Some(rest)),
            _pumps: Background(Some(pumps)),
        })
    }

    /// Whether an orderly end was asked for; also asks for it, from any thread.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Asks the herder.
    pub fn herder(&self) -> &HerderHandle {
        &self.herder
    }

    /// Where the first listener listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The advertised URL of the REST API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it has ended by itself.
    pub fn is_running(&self) -> bool {
        !self.actors.is_finished()
    }

    /// Asks for an orderly end, which cannot be lost; [`Node::wait`] tells when it is over.
    pub fn shut_down(&self) {
        self.shutdown.ask();
    }

    /// Waits until the worker has ended. An error says why it ended without being asked to.
    pub fn wait(self) -> Result<()> {
        self.actors.join().map_err(|_| anyhow!("the thread of the actors panicked"))?;
        match self.stopped.get() {
            Some(Stop::Asked) => Ok(()),
            Some(Stop::Failed(reason)) => Err(anyhow!(reason)),
            None => Err(anyhow!("the worker ended without a reason")),
        }
    }
}

/// What of a configuration may not be as somebody thinks.
fn tell_of(config: &WorkerConfig) {
    for key in &config.unknown_keys {
        tracing::warn!(key, "unknown worker setting; it has no effect");
    }
    for (key, value) in &config.defaulted {
        tracing::info!(key, value, "not set; this is its default");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

/// Answers on a socket until the process ends: nobody shuts it down, and others may ask for this worker to the last.
fn serve(rest: &Runtime, listener: TcpListener, state: RestState) -> Result<()> {
    listener.set_nonblocking(true)?;
    let _entered = rest.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    rest.spawn(rest::serve(listener, state, std::future::pending()));
    Ok(())
}

/// In the background: others ask for this worker at that address, which nobody else would tell it.
fn check_advertised(rest: &Runtime, identity: &Identity) {
    let (identity, span) = (identity.clone(), worker_span(identity));
    rest.spawn(async move { advertised::check(&identity).await }.instrument(span));
}

/// What all lines of the log that are about this worker begin with.
fn worker_span(identity: &Identity) -> tracing::Span {
    tracing::error_span!("worker", worker = identity.worker_id)
}

fn run_actors(deps: Arc<Deps>, parts: HerderParts, stopped: Stopped) {
    // For this thread, and for the pumps of its actors.
    let _worker = worker_span(&parts.identity).entered();
    actix::System::new().block_on(async move {
        let (ends, ended) = oneshot::channel();
        let worker = supervision::start_watched(
            |_| Worker::new(deps, parts),
            move |panic| {
                if let Some(panic) = panic {
                    stopped.set(Stop::Failed(format!("the worker actor crashed: {}", panic.message)));
                }
                drop(ends);
            },
        );
        // It is never sent to: the end of the channel is the message.
        let _: Result<(), _> = ended.await;
        drop(worker);
    });
}

/// A cluster in memory that nobody else in this process has.
fn unique_memory() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("memory:standalone-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The converters that connectors get unless they name others. Java makes them when it starts as well.
fn check_converters(config: &WorkerConfig, registry: &Registry) -> Result<()> {
    for (setting, found) in [
        ("key.converter", registry.find_converter(&config.key_converter.class)),
        ("value.converter", registry.find_converter(&config.value_converter.class)),
        ("header.converter", registry.find_header_converter(&config.header_converter.class)),
    ] {
        found.with_context(|| format!("{setting} cannot be used"))?;
    }
    Ok(())
}

fn bind(listener: &Listener) -> Result<TcpListener> {
    let host = listener.host.as_deref().unwrap_or("0.0.0.0");
    let addresses = (host, listener.port).to_socket_addrs();
    let addresses: Vec<_> = addresses.with_context(|| format!("listeners: {host} cannot be resolved"))?.collect();
    TcpListener::bind(&*addresses).with_context(|| format!("cannot listen on {host}:{}", listener.port))
}

/// What others call this worker (Java: `RestServer.advertisedUrl`).
fn identity(config: &WorkerConfig, address: SocketAddr) -> Identity {
    let listened = config.listeners.first().and_then(|listener| listener.host.clone());
    let listened = listened.filter(|host| host != "0.0.0.0" && host != "::");
    let host = config.rest_advertised_host_name.clone().or(listened).unwrap_or_else(host_name);
    let port = config.rest_advertised_port.unwrap_or(address.port());
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    let process = format!("{:016x}", fastrand::u64(..));
    Identity { worker_id: format!("{host}:{port}"), rest_url: format!("http://{host}:{port}/"), gossip: None, process }
}

/// Gossip listens at the address and the port number of REST, and is advertised like it, unless the settings say otherwise.
fn gossip_place(config: &WorkerConfig, rest: SocketAddr, identity: &Identity) -> Result<Place> {
    let advertised = |port: u16| {
        let host = identity.worker_id.rsplit_once(':').map_or(&*identity.worker_id, |(host, _)| host);
        format!("{host}:{port}")
    };
    let (listen, own) = match &config.gossip.listener {
        None => (rest, identity.worker_id.clone()),
        Some(listener) => {
            let listen = udp_address(listener)?;
            (listen, advertised(listen.port()))
        }
    };
    Ok(Place { listen, advertised: config.gossip.advertised_listener.clone().unwrap_or(own) })
}

/// Where a listener of gossip is; a port that the system chooses is chosen here, since the others have to be told.
fn udp_address(listener: &Listener) -> Result<SocketAddr> {
    let host = listener.host.as_deref().unwrap_or("0.0.0.0");
    let addresses = (host, listener.port).to_socket_addrs();
    let addresses: Vec<_> =
        addresses.with_context(|| format!("cluster.listener: {host} cannot be resolved"))?.collect();
    let socket = UdpSocket::bind(&*addresses);
    Ok(socket
        .with_context(|| format!("cluster.listener: cannot listen on {host}:{} (UDP)", listener.port))?
        .local_addr()?)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
