//! The configuration of a worker (Java: `DistributedConfig`).
//!
//! The keys, their types and defaults are Java's, with two differences: the group and the three topics have the names as defaults
//! that Kafka's example file gives them, and there are keys of our own (`worker.fence.timeout.ms`,
//! `task.callback.timeout.ms`).

use std::fmt;
use std::path::Path;
use std::time::Duration;

use connect_api::{
    ConfigDef, ConfigKey, ConnectError, Importance, ParsedConfig, ParsedValue, Props, Result, Type, Validator,
};

use super::client_settings::ClientKind;
use super::properties;

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
    /// Which client settings connectors may override: All, None or Principal.
    pub client_override_policy: String,
    /// Names of the config providers, in order.
    pub config_providers: Vec<String>,
    /// For how long a worker that lost sight of the cluster may still act; no other worker takes its tasks over earlier.
    pub worker_fence_timeout: Duration,
    /// After which time a callback of a plug-in counts as hanging.
    pub task_callback_timeout: Duration,
    /// Client settings of the worker's own clients: those for the internal topics.
    pub client: Props,
    /// `producer.*` without the prefix: for the producers of source tasks.
    pub producer: Props,
    /// `consumer.*` without the prefix: for the consumers of sink tasks.
    pub consumer: Props,
    /// The client settings of the top level and `admin.*` without the prefix: for the admin clients of connectors.
    pub admin: Props,
    /// Everything as it was written.
    pub props: Props,
    /// Keys that nobody knows; worth one warning, since they may be misspelt.
    pub unknown_keys: Vec<String>,
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

/// Client settings at the top level, for the worker's own clients, beside all of `ssl.*` and `sasl.*`.
const CLIENT_KEYS: &[&str] = &[
    "client.dns.lookup",
    "metadata.max.age.ms",
    "send.buffer.bytes",
    "receive.buffer.bytes",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.connection.setup.timeout.max.ms",
    "retry.backoff.ms",
    "retry.backoff.max.ms",
    "request.timeout.ms",
    "connections.max.idle.ms",
    "security.protocol",
    "metadata.recovery.strategy",
    "metadata.recovery.rebootstrap.trigger.ms",
];

/// Keys of Java's worker that have no meaning here: there is no group membership, no signing of requests between workers,
/// no class path, no JMX.
const MEANINGLESS_KEYS: &[&str] = &[
    "key.converter.plugin.version",
    "value.converter.plugin.version",
    "plugin.path",
    "plugin.discovery",
    "metrics.sample.window.ms",
    "metrics.num.samples",
    "metrics.recording.level",
    "metric.reporters",
    "header.converter.plugin.version",
    "rest.advertised.listener",
    "access.control.allow.origin",
    "access.control.allow.methods",
    "response.http.headers.config",
    "session.timeout.ms",
    "rebalance.timeout.ms",
    "heartbeat.interval.ms",
    "worker.sync.timeout.ms",
    "worker.unsync.backoff.ms",
    "connect.protocol",
    "scheduled.rebalance.max.delay.ms",
    "inter.worker.key.ttl.ms",
    "inter.worker.key.generation.algorithm",
    "inter.worker.key.size",
    "inter.worker.signature.algorithm",
    "inter.worker.verification.algorithms",
];

/// What follows one of these belongs to a plug-in, a client or a topic.
const PREFIXES: &[&str] = &[
    "producer.",
    "consumer.",
    "admin.",
    "key.converter.",
    "value.converter.",
    "header.converter.",
    "config.providers.",
    "config.storage.",
    "offset.storage.",
    "status.storage.",
    "ssl.",
    "sasl.",
    "listeners.https.",
    "admin.listeners.https.",
    "metrics.context.",
    "connector.client.config.override.",
];

fn definition() -> ConfigDef {
    let key = ConfigKey::new;
    let definition = ConfigDef::new()
        .define(
            key(
                "bootstrap.servers",
                Type::List,
                Importance::High,
                "Brokers to begin with: host:port, separated by commas.",
            )
            .validator(some_elements()),
        )
        .define(
            key("group.id", Type::String, Importance::High, "The name of the cluster of workers.")
                .default_value("connect-cluster")
                .validator(Validator::non_empty()),
        )
        .define(
            key("client.id", Type::String, Importance::Low, "Names this worker in the logs of brokers.")
                .default_value(""),
        );
    let definition = storage(definition, "config", "connect-configs", None);
    let definition = storage(definition, "offset", "connect-offsets", Some(25));
    let definition = storage(definition, "status", "connect-status", Some(5));
    rest(timeouts(converters(definition)))
}

/// One internal topic; without `partitions` it always has one.
fn storage(definition: ConfigDef, which: &str, topic: &str, partitions: Option<i32>) -> ConfigDef {
    let key = |name: &str, setting_type, importance, documentation| {
        ConfigKey::new(&format!("{which}.storage.{name}"), setting_type, importance, documentation)
    };
    let topic = key("topic", Type::String, Importance::High, "The name of the internal topic.").default_value(topic);
    let replicas =
        key("replication.factor", Type::Short, Importance::Low, "How many replicas the topic gets when it is created.");
    let definition = definition
        .define(topic.validator(Validator::non_empty()))
        .define(replicas.default_value(3).validator(count_or_default()));
    let Some(partitions) = partitions else { return definition };
    let count = key("partitions", Type::Int, Importance::Low, "How many partitions the topic gets when it is created.");
    definition.define(count.default_value(partitions).validator(count_or_default()))
}

/// Repeated elements do no harm here, and a worker should not refuse to start for one.
fn some_elements() -> Validator {
    Validator::new("a list of at least one element", |_, value| match value {
        Some(ParsedValue::List(elements)) if elements.iter().all(String::is_empty) => {
            Err("must have at least one element".to_owned())
        }
        _ => Ok(()),
    })
}

fn count_or_default() -> Validator {
    const WANTED: &str = "at least 1, or -1 for the default of the broker";
    Validator::new(WANTED, |_, value| match value {
        Some(ParsedValue::Int(-1 | 1..) | ParsedValue::Short(-1 | 1..)) => Ok(()),
        _ => Err(format!("must be {WANTED}")),
    })
}

fn converters(definition: ConfigDef) -> ConfigDef {
    let key = |name: &str, documentation: &str| ConfigKey::new(name, Type::Class, Importance::High, documentation);
    definition
        .define(key("key.converter", "Between record keys and bytes."))
        .define(key("value.converter", "Between record values and bytes."))
        .define(
            ConfigKey::new("header.converter", Type::Class, Importance::Low, "Between header values and bytes.")
                .default_value("org.apache.kafka.connect.storage.SimpleHeaderConverter"),
        )
}

fn timeouts(definition: ConfigDef) -> ConfigDef {
    let key = |name: &str, default: i64, documentation: &str| {
        ConfigKey::new(name, Type::Long, Importance::Low, documentation)
            .default_value(default)
            .validator(Validator::at_least(0))
    };
    definition
        .define(key("offset.flush.interval.ms", 60_000, "How often offsets are committed."))
        .define(key("offset.flush.timeout.ms", 5_000, "How long one commit of offsets may take."))
        .define(key("task.shutdown.graceful.timeout.ms", 5_000, "How long all tasks together may take to stop."))
        .define(
            key(
                "worker.fence.timeout.ms",
                1_000,
                "For how long a worker that lost sight of the cluster may still act.",
            )
            .validator(Validator::at_least(100)),
        )
        .define(
            key("task.callback.timeout.ms", 3_600_000, "After which time a callback of a plug-in counts as hanging.")
                .validator(Validator::at_least(1)),
        )
}

fn rest(definition: ConfigDef) -> ConfigDef {
    let key = |name: &str, setting_type, documentation: &str| {
        ConfigKey::new(name, setting_type, Importance::Low, documentation)
    };
    definition
        .define(
            key("listeners", Type::List, "Where the REST server listens: http://host:port, separated by commas.")
                .default_value("http://:8083")
                .validator(some_elements()),
        )
        .define(
            key("admin.listeners", Type::List, "Where /admin is served: not set with everything else, empty nowhere.")
                .optional(),
        )
        .define(key("rest.advertised.host.name", Type::String, "What other workers call this one.").optional())
        .define(key("rest.advertised.port", Type::Int, "Which port other workers use.").optional().validator(
            Validator::new("a port", |_, value| match value {
                None | Some(ParsedValue::Int(1..=65_535)) => Ok(()),
                _ => Err("must be a port from 1 to 65535".to_owned()),
            }),
        ))
        .define(
            key("exactly.once.source.support", Type::String, "Whether sources may write transactions.")
                .default_value("disabled")
                .validator(Validator::one_of_ignoring_case(&["disabled", "preparing", "enabled"])),
        )
        .define(
            key("topic.creation.enable", Type::Boolean, "Whether topics of sources are created.").default_value(true),
        )
        .define(key("topic.tracking.enable", Type::Boolean, "Whether used topics are recorded.").default_value(true))
        .define(
            key("topic.tracking.allow.reset", Type::Boolean, "Whether that record may be reset.").default_value(true),
        )
        .define(
            key(
                "connector.client.config.override.policy",
                Type::String,
                "Which client settings connectors may override.",
            )
            .default_value("All")
            .validator(Validator::one_of(&["All", "None", "Principal"])),
        )
        .define(
            key(
                "rest.extension.classes",
                Type::List,
                "Java classes that guard or extend the REST server; must be empty.",
            )
            .default_value("")
            .validator(no_rest_extensions()),
        )
        .define(key("config.providers", Type::List, "Names of config providers.").default_value(""))
}

/// Such a class may be what asks for passwords: going on without it would open the REST server to everybody.
fn no_rest_extensions() -> Validator {
    Validator::new("empty", |_, value| match value {
        Some(ParsedValue::List(classes)) if !classes.is_empty() => Err(format!(
            "{} cannot be loaded: there is no JVM. Guard the REST server with a proxy and leave this out",
            classes.join(", ")
        )),
        _ => Ok(()),
    })
}

impl WorkerConfig {
    /// The Java names of the settings that a connector's client is made with: the worker's for this kind of client, and over
    /// them the connector's own (`producer.override.*` and so on). Translate them with
    /// [`client_settings`](super::client_settings::client_settings).
    pub fn client_props_of(&self, kind: ClientKind, connector: &Props) -> Props {
        let mut settings = match kind {
            ClientKind::Producer => self.producer.clone(),
            ClientKind::Consumer => self.consumer.clone(),
            ClientKind::Admin => self.admin.clone(),
        };
        settings.extend(with_prefix(connector, &format!("{}override.", kind.prefix())));
        settings
    }

    /// Reads a `.properties` file as Java does: Latin-1, with `\uXXXX` for everything else.
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.display();
        let bytes = std::fs::read(path)
            .map_err(|error| ConnectError::config(format!("cannot read the worker configuration {place}: {error}")))?;
        let props = properties::from_latin1(&bytes)
            .map_err(|error| ConnectError::config(format!("cannot read the worker configuration {place}: {error}")))?;
        Self::from_props(props)
            .map_err(|error| ConnectError::config(format!("the worker configuration {place}: {error}")))
    }

    /// Types the settings; the error names everything that is wrong with them.
    pub fn from_props(props: Props) -> Result<Self> {
        let definition = definition();
        let config = definition.parse(&props)?;
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
            client_override_policy: config.string("connector.client.config.override.policy").to_owned(),
            config_providers: config.list("config.providers").to_vec(),
            worker_fence_timeout: duration("worker.fence.timeout.ms"),
            task_callback_timeout: duration("task.callback.timeout.ms"),
            client: client_props(&props),
            producer: with_bootstrap(&props, "producer."),
            consumer: with_bootstrap(&props, "consumer."),
            admin: admin_props(&props),
            unknown_keys: unknown_keys(&definition, &props),
            props,
        })
    }
}

/// The settings whose names begin with the prefix, without it (Java: `originalsWithPrefix`).
pub fn with_prefix(props: &Props, prefix: &str) -> Props {
    let stripped = |(name, text): (&String, &String)| Some((name.strip_prefix(prefix)?.to_owned(), text.clone()));
    props.iter().filter_map(stripped).collect()
}

/// As in Java, producers and consumers of connectors take the brokers from the top level, but no security: that must be
/// said for each kind of client (`producer.security.protocol`), since it may differ from the worker's own.
fn with_bootstrap(props: &Props, prefix: &str) -> Props {
    let mut settings = with_prefix(props, prefix);
    if let Some(brokers) = props.get("bootstrap.servers") {
        settings.entry("bootstrap.servers".to_owned()).or_insert_with(|| brokers.clone());
    }
    settings
}

/// As in Java, admin clients of connectors take all client settings from the top level.
fn admin_props(props: &Props) -> Props {
    let mut settings = client_props(props);
    // `admin.listeners` is about REST.
    settings.extend(with_prefix(props, "admin.").into_iter().filter(|(name, _)| !name.starts_with("listeners")));
    settings
}

fn client_props(props: &Props) -> Props {
    let is_client = |name: &str| {
        ["bootstrap.servers", "client.id"].contains(&name)
            || CLIENT_KEYS.contains(&name)
            || name.starts_with("ssl.")
            || name.starts_with("sasl.")
    };
    props.iter().filter(|(name, _)| is_client(name)).map(|(name, text)| (name.clone(), text.clone())).collect()
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

fn unknown_keys(definition: &ConfigDef, props: &Props) -> Vec<String> {
    let known = |name: &str| {
        definition.key(name).is_some()
            || CLIENT_KEYS.contains(&name)
            || MEANINGLESS_KEYS.contains(&name)
            || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    props.keys().filter(|name| !known(name)).cloned().collect()
}

#[cfg(test)]
mod tests;
