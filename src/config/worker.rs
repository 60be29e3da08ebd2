//! The configuration of a worker (Java: `DistributedConfig`).
//!
//! The keys, their types and defaults are Java's, with two differences: the group and the three topics have the names as defaults
//! that Kafka's example file gives them, and there are keys of our own (`worker.fence.timeout.ms`,
//! `task.callback.timeout.ms`, `cluster.*`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use connect_api::{ConnectError, ParsedConfig, Props, Result};

use super::client_settings::{self, ClientKind, Problem, Standing};
use super::environment;
use super::override_policy::OverridePolicy;
use super::properties;

mod definition;
mod gossip;
pub mod table;

use definition::definition;
pub use gossip::{GossipConfig, SECRET_MIN_BYTES};

/// A group of settings with its own plug-in class.
#[derive(Debug, Clone, PartialEq)]
pub struct ConverterConfig {
    /// The class as it was written: a full name or an alias.
    pub class: String,
    /// Its settings, without the prefix.
    pub props: Props,
}

/// One of the three internal topics.
#[derive(Debug, Clone, PartialEq)]
pub struct StorageTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it is created with; `None` leaves it to the broker.
    pub partitions: Option<i32>,
    /// How many replicas it is created with; `None` leaves it to the broker.
    pub replication_factor: Option<i16>,
    /// Topic settings that it is created with, beyond those that the store demands.
    pub settings: Props,
}

/// An address that the REST server listens at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Host name or address; `None` listens everywhere.
    pub host: Option<String>,
    /// 0 lets the system choose.
    pub port: u16,
}

/// `exactly.once.source.support`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExactlyOnceSource {
    /// Offsets of sources are written after their records.
    Disabled,
    /// As disabled, but other workers may be enabled already.
    Preparing,
    /// Records and offsets of sources are written in one transaction.
    Enabled,
}

/// The configuration of a worker.
#[derive(Clone, PartialEq)]
pub struct WorkerConfig {
    /// Brokers, separated by commas.
    pub bootstrap_servers: String,
    /// The name of the cluster of workers; also names the transactional id of its config topic.
    pub group_id: String,
    /// The client id; empty when it is not set.
    pub client_id: String,
    /// Configurations of connectors and tasks; always one partition.
    pub config_storage: StorageTopic,
    /// Source offsets.
    pub offset_storage: StorageTopic,
    /// States of connectors and tasks.
    pub status_storage: StorageTopic,
    /// For record keys, unless the connector names one.
    pub key_converter: ConverterConfig,
    /// For record values, unless the connector names one.
    pub value_converter: ConverterConfig,
    /// For headers, unless the connector names one.
    pub header_converter: ConverterConfig,
    /// How often offsets are committed.
    pub offset_flush_interval: Duration,
    /// How long one commit may take.
    pub offset_flush_timeout: Duration,
    /// How long all tasks together may take to stop.
    pub task_shutdown_graceful_timeout: Duration,
    /// Where the REST server listens; at least one.
    pub listeners: Vec<Listener>,
    /// Where the endpoints below `/admin` are served: `None` with all others, empty nowhere.
    pub admin_listeners: Option<Vec<Listener>>,
    /// What other workers and users call this one.
    pub rest_advertised_host_name: Option<String>,
    /// Which port they use.
    pub rest_advertised_port: Option<u16>,
    /// Whether sources may write transactions.
    pub exactly_once_source: ExactlyOnceSource,
    /// Whether topics of sources are created as their `topic.creation.*` settings say.
    pub topic_creation_enable: bool,
    /// Whether the topics that a connector used are recorded.
    pub topic_tracking_enable: bool,
    /// Whether that record may be reset.
    pub topic_tracking_allow_reset: bool,
    /// Which client settings connectors may override.
    pub client_override_policy: OverridePolicy,
    /// For how long a worker that lost sight of the cluster may still act; no other worker takes its tasks over earlier.
    pub worker_fence_timeout: Duration,
    /// How long the connectors and tasks of a worker that vanished wait for its return; all workers need the same.
    pub scheduled_rebalance_max_delay: Duration,
    /// After which time a callback of a plug-in counts as hanging.
    pub task_callback_timeout: Duration,
    /// How workers find each other and notice each other's death.
    pub gossip: GossipConfig,
    /// Client settings of the worker's own clients: those for the internal topics.
    pub client: Props,
    /// For the producers of source tasks: `producer.*` without the prefix, over those of the worker's own clients.
    pub producer: Props,
    /// The same for the consumers of sink tasks: `consumer.*`.
    pub consumer: Props,
    /// The same for the admin clients of connectors: `admin.*`.
    pub admin: Props,
    /// Everything as it was written.
    pub props: Props,
    /// Keys that nobody knows; worth one warning, since they may be misspelt.
    pub unknown_keys: Vec<String>,
    /// Settings that were left out although Java demands them, with the values that they have.
    pub defaulted: Vec<(&'static str, String)>,
    /// What does not have the effect that it would have in Java: one sentence each, to be logged once.
    pub warnings: Vec<String>,
}

/// Without `props` and the client settings: they hold secrets.
impl fmt::Debug for WorkerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group_id", &self.group_id)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

impl WorkerConfig {
    /// The Java names of the settings that a connector's client is made with: the worker's for this kind of client, and over
    /// them the connector's own (`producer.override.*` and so on). Translate them with
    /// [`client_settings`](super::client_settings::client_settings). Whose connector goes to other brokers brings its own login: the
    /// worker's is not for them.
    pub fn client_props_of(&self, kind: ClientKind, connector: &Props) -> Props {
        let settings = match kind {
            ClientKind::Producer => &self.producer,
            ClientKind::Consumer => &self.consumer,
            ClientKind::Admin => &self.admin,
        };
        let own = with_prefix(connector, &format!("{}override.", kind.prefix()));
        let apart = own.contains_key("bootstrap.servers");
        over(settings, own, apart)
    }

    /// Reads a `.properties` file as Java does, Latin-1, with `\uXXXX` for everything else; without a file, nothing. What the environment
    /// says (see [`environment`]) wins over it.
    pub fn load(path: Option<&Path>, variables: &BTreeMap<String, String>) -> Result<Self> {
        let mut props = path.map(read_props).transpose()?.unwrap_or_default();
        let from_environment = environment::worker_settings(variables);
        let names: Vec<&str> = from_environment.keys().map(String::as_str).collect();
        if !names.is_empty() {
            tracing::info!(settings = names.join(", "), "taken from the environment");
        }
        props.extend(from_environment);
        let place = path.map_or("the environment".to_owned(), |path| path.display().to_string());
        Self::from_props(props)
            .map_err(|error| ConnectError::config(format!("the worker configuration {place}: {error}")))
    }

    /// Reads a `.properties` file alone.
    pub fn read(path: &Path) -> Result<Self> {
        Self::load(Some(path), &BTreeMap::new())
    }

    /// Types the settings; the error names everything that is wrong with them.
    pub fn from_props(props: Props) -> Result<Self> {
        let definition = definition();
        let config = definition.parse(&props)?;
        let (clients, mut problems, client_warnings) = check_clients(&props);
        for setting in table::asked_for(&props, Standing::Refused) {
            let value = props.get(setting.name).map_or("", |value| value.trim());
            problems.push(format!("{}={value} cannot be used: {}", setting.name, setting.note));
        }
        if !problems.is_empty() {
            return Err(ConnectError::config(problems.join("; ")));
        }
        let not_yet = table::asked_for(&props, Standing::NotYet)
            .map(|setting| format!("{} has no effect yet: {}", setting.name, setting.note));
        let warnings = not_yet.chain(client_warnings).collect();
        let storage = |which: &str, partitions: Option<i32>| storage_topic(&config, &props, which, partitions);
        let converter = |name: &str| ConverterConfig {
            class: config.class(name).to_owned(),
            props: with_prefix(&props, &format!("{name}.")),
        };
        let duration = |name: &str| Duration::from_millis(u64::try_from(config.long(name)).unwrap_or(0));
        let listeners = parse_listeners("listeners", config.list("listeners"))?;
        let admin_listeners =
            config.opt_list("admin.listeners").map(|urls| parse_listeners("admin.listeners", urls)).transpose()?;
        Ok(WorkerConfig {
            bootstrap_servers: without_empty(config.list("bootstrap.servers")).join(","),
            group_id: config.string("group.id").to_owned(),
            client_id: config.string("client.id").to_owned(),
            config_storage: storage("config", Some(1)),
            offset_storage: storage("offset", None),
            status_storage: storage("status", None),
            key_converter: converter("key.converter"),
            value_converter: converter("value.converter"),
            header_converter: converter("header.converter"),
            offset_flush_interval: duration("offset.flush.interval.ms"),
            offset_flush_timeout: duration("offset.flush.timeout.ms"),
            task_shutdown_graceful_timeout: duration("task.shutdown.graceful.timeout.ms"),
            listeners,
            admin_listeners,
            rest_advertised_host_name: config.opt_string("rest.advertised.host.name").map(str::to_owned),
            rest_advertised_port: config.opt_int("rest.advertised.port").and_then(|port| u16::try_from(port).ok()),
            exactly_once_source: match config.string("exactly.once.source.support").to_ascii_lowercase().as_str() {
                "enabled" => ExactlyOnceSource::Enabled,
                "preparing" => ExactlyOnceSource::Preparing,
                _ => ExactlyOnceSource::Disabled,
            },
            topic_creation_enable: config.bool("topic.creation.enable"),
            topic_tracking_enable: config.bool("topic.tracking.enable"),
            topic_tracking_allow_reset: config.bool("topic.tracking.allow.reset"),
            client_override_policy: OverridePolicy::from_props(&props).map_err(ConnectError::config)?,
            worker_fence_timeout: duration("worker.fence.timeout.ms"),
            scheduled_rebalance_max_delay: Duration::from_millis(
                config.int("scheduled.rebalance.max.delay.ms").unsigned_abs().into(),
            ),
            task_callback_timeout: duration("task.callback.timeout.ms"),
            gossip: gossip::parse(&config)?,
            client: clients.worker,
            producer: clients.producer,
            consumer: clients.consumer,
            admin: clients.admin,
            unknown_keys: table::unknown(&props),
            defaulted: defaulted(&config, &props),
            warnings,
            props,
        })
    }
}

/// The settings whose names begin with the prefix, without it (Java: `originalsWithPrefix`).
pub fn with_prefix(props: &Props, prefix: &str) -> Props {
    let stripped = |(name, text): (&String, &String)| Some((name.strip_prefix(prefix)?.to_owned(), text.clone()));
    props.iter().filter_map(stripped).collect()
}

/// Topics are looked for, and offsets committed, at the worker's brokers.
const OTHER_BROKERS_OF_SINKS: &str =
    "sinks cannot read from other brokers than the worker's yet; run a worker beside those";

/// The settings of all clients, in Java's names.
struct Clients {
    worker: Props,
    producer: Props,
    consumer: Props,
    admin: Props,
}

/// What the worker's clients are made with, what cannot be honoured, and what is worth a warning.
fn check_clients(props: &Props) -> (Clients, Vec<String>, Vec<String>) {
    let worker: Props = props
        .iter()
        .filter(|(name, _)| table::is_client(name))
        .map(|(name, text)| (name.clone(), text.clone()))
        .collect();
    let clients = Clients {
        producer: of_connectors(&worker, props, "producer."),
        consumer: of_connectors(&worker, props, "consumer."),
        admin: of_connectors(&worker, props, "admin."),
        worker,
    };
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    if clients.consumer.get("bootstrap.servers") != clients.worker.get("bootstrap.servers") {
        problems.push(format!("consumer.bootstrap.servers: {OTHER_BROKERS_OF_SINKS}"));
    }
    let (_, of_worker) = client_settings::translate(ClientKind::Admin, &clients.worker);
    for (prefix, kind, settings) in [
        ("", ClientKind::Admin, &clients.worker),
        ("producer.", ClientKind::Producer, &clients.producer),
        ("consumer.", ClientKind::Consumer, &clients.consumer),
        ("admin.", ClientKind::Admin, &clients.admin),
    ] {
        let (made, refused) = client_settings::translate(kind, settings);
        // What is wrong at the top level is named there.
        let own = |problem: &&Problem| prefix.is_empty() || !of_worker.contains(*problem);
        problems.extend(refused.iter().filter(own).map(|problem| format!("{prefix}{problem}")));
        let said = |warning: &&Problem| prefix.is_empty() || props.contains_key(&format!("{prefix}{}", warning.name));
        warnings.extend(made.warnings.iter().filter(said).map(|warning| format!("{prefix}{warning}")));
    }
    (clients, problems, warnings)
}

/// What connectors' clients of a kind get: the worker's own settings and over them those with the prefix. Clients that go to other brokers or
/// have a protocol of their own take no security from the worker. (In Java producers and consumers take the brokers alone from the top level.)
fn of_connectors(worker: &Props, props: &Props, prefix: &str) -> Props {
    let mut own = with_prefix(props, prefix);
    // `admin.listeners` is about REST.
    own.retain(|name, _| !name.starts_with("listeners"));
    let apart = own.contains_key("security.protocol") || own.contains_key("bootstrap.servers");
    let mut settings = over(worker, own.clone(), apart);
    if !own.contains_key("client.id") {
        // The top level's names the worker's own clients.
        settings.remove("client.id");
    }
    settings
}

/// `own` settings over `others`, of which clients that stand `apart` take no security: the brokers that they go to must not see it.
fn over(others: &Props, own: Props, apart: bool) -> Props {
    let inherits = |name: &str| !(apart && client_settings::is_security(name));
    let inherited = others.iter().filter(|(name, _)| inherits(name)).map(|(name, text)| (name.clone(), text.clone()));
    inherited.chain(own).collect()
}

/// The settings that Java demands and this program has defaults for.
fn defaulted(config: &ParsedConfig, props: &Props) -> Vec<(&'static str, String)> {
    let demanded = ["group.id", "config.storage.topic", "offset.storage.topic", "status.storage.topic"];
    let absent = demanded.into_iter().filter(|name| !props.contains_key(*name));
    absent.map(|name| (name, config.string(name).to_owned())).collect()
}

fn read_props(path: &Path) -> Result<Props> {
    let failed = |error: &dyn fmt::Display| {
        ConnectError::config(format!("cannot read the worker configuration {}: {error}", path.display()))
    };
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    properties::from_latin1(&bytes).map_err(|error| failed(&error))
}

fn storage_topic(config: &ParsedConfig, props: &Props, which: &str, partitions: Option<i32>) -> StorageTopic {
    let prefix = format!("{which}.storage.");
    let mut settings = with_prefix(props, &prefix);
    // What the store itself decides, or what is no topic setting.
    settings
        .retain(|name, _| !["topic", "partitions", "replication.factor", "cleanup.policy"].contains(&name.as_str()));
    StorageTopic {
        name: config.string(&format!("{prefix}topic")).to_owned(),
        partitions: partitions.or_else(|| Some(config.int(&format!("{prefix}partitions"))).filter(|&count| count > 0)),
        replication_factor: Some(config.short(&format!("{prefix}replication.factor"))).filter(|&count| count > 0),
        settings,
    }
}

fn without_empty(elements: &[String]) -> Vec<&str> {
    elements.iter().map(String::as_str).filter(|element| !element.is_empty()).collect()
}

fn parse_listeners(key: &str, urls: &[String]) -> Result<Vec<Listener>> {
    without_empty(urls)
        .into_iter()
        .map(|url| {
            parse_listener(url).map_err(|why| ConnectError::config(format!("{key}: {url:?} is no listener: {why}")))
        })
        .collect()
}

fn parse_listener(url: &str) -> std::result::Result<Listener, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("it must have the form http://host:port")?;
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => return Err("HTTPS is not served; put a proxy in front of an http listener"),
        _ => return Err("the scheme must be http"),
    }
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or("the port is missing")?;
    let port = port.parse().map_err(|_| "the port must be a number up to 65535")?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(Listener { host: Some(host).filter(|host| !host.is_empty()).map(str::to_owned), port })
}

#[cfg(test)]
mod tests;
