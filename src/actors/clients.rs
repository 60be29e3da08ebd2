//! Which client settings the tasks of a connector and the internal topics get: the worker's, overridden by the connector's.

use std::time::Duration;

use connect_api::{ConnectError, Props, Result};

use crate::backend::{ClientSettings, Isolation};
use crate::config::WorkerConfig;
use crate::config::client_settings::{self, ClientKind};
use crate::config::worker::with_prefix;
use crate::pipeline::Reset;

/// Bytes of records of one task that may wait for acknowledgement, unless `buffer.memory` says otherwise (Java's default).
const BUFFER_MEMORY_BYTES: usize = 32 * 1024 * 1024;

/// Records in one `put`, unless `max.poll.records` says otherwise (Java's default).
const MAX_POLL_RECORDS: usize = 500;

/// How often a sink looks for new topics and partitions, unless `metadata.max.age.ms` says otherwise. Java's default is five
/// minutes; a search is one or two small requests, and whoever adds a topic waits for it.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// The producer of a source task.
pub struct SourceProducer {
    /// Tasks with equal settings share a client.
    pub settings: ClientSettings,
    /// Bytes that may wait for acknowledgement.
    pub max_bytes: usize,
}

/// The consumer of a sink task.
pub struct SinkConsumer {
    /// Its settings.
    pub settings: ClientSettings,
    /// Which records it sees.
    pub isolation: Isolation,
    /// The group that its offsets are committed to.
    pub group: String,
    /// Where a partition without a committed offset begins.
    pub reset: Reset,
    /// Records in one `put`.
    pub max_poll_records: usize,
    /// How often new topics and partitions are looked for.
    pub refresh_interval: Duration,
}

/// Settings of the clients of the internal topics: the worker's own, without prefix. The client id makes them clients of their own: what is
/// purged when a task is suspended or abandoned must never be a record of an internal topic.
pub fn internal(config: &WorkerConfig, kind: ClientKind) -> Result<ClientSettings> {
    let mut settings = client_settings::client_settings(kind, &config.client)?.settings;
    settings.insert("client.id".into(), format!("{}-internal", client_id_base(config)));
    if kind == ClientKind::Producer {
        // A claim, a status, a transaction is waited for; those that wait meanwhile go together anyway.
        settings.entry("linger.ms".into()).or_insert_with(|| "0".into());
    }
    Ok(settings)
}

/// What the ids of the worker's clients begin with (Java: `ConnectUtils.clientIdBase`).
fn client_id_base(config: &WorkerConfig) -> String {
    match config.client_id.trim() {
        "" => config.group_id.clone(),
        client_id => format!("{}-{client_id}", config.group_id),
    }
}

/// What every client of the worker begins with: how to reach the brokers, and nothing that would make two clients one.
pub fn connection(config: &WorkerConfig) -> Result<ClientSettings> {
    let mut settings = client_settings::client_settings(ClientKind::Admin, &config.client)?.settings;
    settings.remove("client.id");
    Ok(settings)
}

/// The producer of the source tasks of a connector.
pub fn source_producer(config: &WorkerConfig, connector: &Props) -> Result<SourceProducer> {
    let mut made = of_connector(config, ClientKind::Producer, connector)?;
    made.settings.entry("client.id".into()).or_insert_with(|| format!("{}-sources", client_id_base(config)));
    let max_bytes =
        made.buffer_memory_bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(BUFFER_MEMORY_BYTES);
    Ok(SourceProducer { settings: made.settings, max_bytes })
}

/// The consumer of a sink task.
pub fn sink_consumer(config: &WorkerConfig, connector: &Props) -> Result<SinkConsumer> {
    let mut made = of_connector(config, ClientKind::Consumer, connector)?;
    let name = connector.get("name").map(String::as_str).unwrap_or_default();
    let reset = match made.settings.remove("auto.offset.reset").as_deref() {
        None | Some("earliest" | "beginning" | "smallest") => Reset::Earliest,
        Some("latest" | "end" | "largest") => Reset::Latest,
        Some("error") => Reset::None,
        Some(other) => {
            let message = format!("auto.offset.reset is {other:?}; it may be earliest, latest or none");
            return Err(ConnectError::config(message));
        }
    };
    let isolation = match made.settings.remove("isolation.level").as_deref() {
        Some("read_committed") => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    };
    let group = made.settings.remove("group.id").unwrap_or_else(|| format!("connect-{name}"));
    // No name of the connector: equal settings share clients.
    made.settings.entry("client.id".into()).or_insert_with(|| format!("{}-sinks", client_id_base(config)));
    let max_poll_records = made.max_poll_records.unwrap_or(MAX_POLL_RECORDS);
    let max_age = made.settings.get("metadata.max.age.ms").and_then(|text| text.parse().ok());
    let refresh_interval = max_age.map_or(REFRESH_INTERVAL, Duration::from_millis);
    Ok(SinkConsumer { settings: made.settings, isolation, group, reset, max_poll_records, refresh_interval })
}

/// The worker's settings for this kind of client and over them the connector's overrides. What was overridden without effect is logged; what the
/// worker's file says was, when the worker started.
///
/// An override that the worker's policy does not allow is an error here, too: the policy may be newer than the configuration.
fn of_connector(config: &WorkerConfig, kind: ClientKind, connector: &Props) -> Result<client_settings::ClientSettings> {
    let prefix = format!("{}override.", kind.prefix());
    let policy = &config.client_override_policy;
    if let Some(name) = with_prefix(connector, &prefix).into_keys().find(|name| !policy.allows(name)) {
        let message = format!("{prefix}{name}: the worker's override policy {} does not allow it", policy.name());
        return Err(ConnectError::config(message));
    }
    let made = client_settings::client_settings(kind, &config.client_props_of(kind, connector))?;
    for warning in &made.warnings {
        let setting = format!("{prefix}{}", warning.name);
        if connector.contains_key(&setting) {
            let connector = connector.get("name").map(String::as_str).unwrap_or_default();
            tracing::warn!(connector, setting, "{}", warning.why);
        }
    }
    Ok(made)
}

/// `tasks.max`: 1 unless it is set.
pub fn tasks_max(connector: &Props) -> Result<usize> {
    let Some(text) = connector.get("tasks.max") else { return Ok(1) };
    match text.trim().parse::<i32>() {
        Ok(number @ 1..) => Ok(number.unsigned_abs() as usize),
        _ => Err(ConnectError::config(format!("tasks.max is {text:?}; it has to be an integer from 1 on"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(settings: &[(&str, &str)]) -> WorkerConfig {
        let converter = "org.apache.kafka.connect.storage.StringConverter";
        let needed = [("bootstrap.servers", "a:1"), ("key.converter", converter), ("value.converter", converter)];
        WorkerConfig::from_props(props(&[&needed[..], settings].concat())).unwrap()
    }

    fn props(settings: &[(&str, &str)]) -> Props {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_login_of_the_worker_is_for_its_own_brokers() {
        let jaas =
            r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="hunter2";"#;
        let login = [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN"), ("sasl.jaas.config", jaas)];
        let holds_it = |config: &WorkerConfig, connector: &Props| {
            source_producer(config, connector).unwrap().settings.values().any(|value| value.contains("hunter2"))
        };
        let config = worker(&login);
        assert!(holds_it(&config, &Props::new()));
        assert!(!holds_it(&config, &props(&[("producer.override.bootstrap.servers", "c:3")])));
        let config = worker(&[&login[..], &[("producer.bootstrap.servers", "c:3")]].concat());
        assert!(!holds_it(&config, &Props::new()));
    }

    #[test]
    fn a_policy_that_is_newer_than_the_configuration_holds() {
        let config = worker(&[("connector.client.config.override.policy", "None")]);
        let error = source_producer(&config, &props(&[("producer.override.linger.ms", "9")])).err().unwrap();
        assert!(error.message().contains("producer.override.linger.ms") && error.message().contains("None"), "{error}");
        assert!(sink_consumer(&config, &props(&[("consumer.override.max.poll.records", "9")])).is_err());
        assert!(source_producer(&config, &props(&[("consumer.override.max.poll.records", "9")])).is_ok());
    }

    /// Whose effective settings are equal: anything of the connector's name in them would make each sink a client.
    #[test]
    fn sinks_share_their_client() {
        let config = worker(&[]);
        let settings = |name: &str, more: &[(&str, &str)]| {
            let consumer = sink_consumer(&config, &props(&[&[("name", name)], more].concat())).unwrap();
            (consumer.settings, consumer.isolation)
        };
        assert_eq!(settings("one", &[]), settings("two", &[]));
        assert_eq!(settings("one", &[]), settings("two", &[("consumer.override.max.poll.records", "7")]));
        assert_ne!(settings("one", &[]), settings("two", &[("consumer.override.client.id", "mine")]));
        assert_ne!(settings("one", &[]), settings("two", &[("consumer.override.isolation.level", "read_committed")]));
    }

    /// A task that stops may purge its client: the internal topics must not be on it, whatever the worker file says.
    #[test]
    fn sources_share_no_client_with_the_internal_topics() {
        for client_id in [None, Some("mine")] {
            let mut props = Props::from([("bootstrap.servers".to_owned(), "localhost:9092".to_owned())]);
            for converter in ["key.converter", "value.converter"] {
                props.insert(converter.into(), "org.apache.kafka.connect.storage.StringConverter".into());
            }
            props.extend(client_id.map(|id| ("client.id".to_owned(), id.to_owned())));
            let config = WorkerConfig::from_props(props).unwrap();
            let source = source_producer(&config, &Props::new()).unwrap().settings;
            let internal = internal(&config, ClientKind::Producer).unwrap();
            assert_ne!(source.get("client.id"), internal.get("client.id"));
            assert!(!connection(&config).unwrap().contains_key("client.id"));
            let base = client_id.map_or("connect-cluster".to_owned(), |id| format!("connect-cluster-{id}"));
            assert_eq!(internal["client.id"], format!("{base}-internal"));
        }
    }
}
