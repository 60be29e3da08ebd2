//! What becomes of every setting of a Java worker: one line each. docs/settings.md is checked against it.

use connect_api::Props;

use crate::config::client_settings::{self, ClientKind, Standing};

/// A setting of the worker that is not about its Kafka clients.
pub struct Setting {
    /// Java's name.
    pub name: &'static str,
    /// What becomes of it.
    pub standing: Standing,
    /// For `NotYet` and `Refused`: values that ask for nothing, in any letter case. None: no value asks for anything.
    pub neutral: &'static [&'static str],
    /// Why, or what to do instead.
    pub note: &'static str,
}

const fn honoured(name: &'static str, note: &'static str) -> Setting {
    Setting { name, standing: Standing::Honoured, neutral: &[], note }
}

const fn no_effect(name: &'static str, note: &'static str) -> Setting {
    Setting { name, standing: Standing::NoEffect, neutral: &[], note }
}

const fn not_yet(name: &'static str, neutral: &'static [&'static str], note: &'static str) -> Setting {
    Setting { name, standing: Standing::NotYet, neutral, note }
}

const fn refused(name: &'static str, neutral: &'static [&'static str], note: &'static str) -> Setting {
    Setting { name, standing: Standing::Refused, neutral, note }
}

const NO_GROUP: &str = "workers form no consumer group, and nothing is rebalanced";
const UNSIGNED: &str = "workers forward no requests, so none is signed";
const NO_JARS: &str = "plug-ins are part of the program; jars are not loaded";
const NO_JMX: &str = "metrics are at GET /metrics";
const ONE_VERSION: &str = "the program has one version of each plug-in";
const REMOVED: &str = "Kafka Connect removed it in 3.0";

/// All of them, in the order of Java's documentation; [`entry`] knows the clients' as well.
pub const TABLE: &[Setting] = &[
    honoured("bootstrap.servers", "repeated or empty elements do no harm"),
    honoured(
        "group.id",
        "may be left out: see above. Names the workers' transactions on the config topic. A worker whose topics are used by a living worker of another group ends, \
         and says by whom",
    ),
    honoured("client.id", "part of the client ids of the worker's Kafka clients"),
    honoured("config.storage.topic", "may be left out: see above"),
    honoured(
        "config.storage.replication.factor",
        "further `config.storage.` settings are those of the topic at its creation",
    ),
    honoured("offset.storage.topic", "may be left out: see above"),
    honoured("offset.storage.partitions", ""),
    honoured(
        "offset.storage.replication.factor",
        "further `offset.storage.` settings are those of the topic at its creation",
    ),
    honoured("status.storage.topic", "may be left out: see above"),
    honoured("status.storage.partitions", ""),
    honoured(
        "status.storage.replication.factor",
        "further `status.storage.` settings are those of the topic at its creation",
    ),
    honoured("key.converter", "its own settings follow as `key.converter.`"),
    honoured("value.converter", "its own settings follow as `value.converter.`"),
    honoured("header.converter", "its own settings follow as `header.converter.`"),
    honoured("offset.flush.interval.ms", "not negative"),
    honoured("offset.flush.timeout.ms", "not negative"),
    honoured("task.shutdown.graceful.timeout.ms", "not negative"),
    honoured(
        "connector.client.config.override.policy",
        "All, None, Principal or Allowlist, also by Java's class names; other classes are refused",
    ),
    honoured("connector.client.config.override.allowlist", "of the policy Allowlist (KIP-1188)"),
    honoured("listeners", "http only; https is refused: put a proxy in front"),
    honoured("rest.advertised.host.name", ""),
    honoured("rest.advertised.port", "1 to 65535"),
    honoured("rest.advertised.listener", "http; https is refused, since there is no such listener"),
    refused(
        "exactly.once.source.support",
        &["disabled", "preparing"],
        "`enabled` is refused: sources with transactions are not there yet. Leave it out; delivery is at least once. \
         `preparing` is as `disabled`: the config topic is always written in transactions",
    ),
    refused(
        "config.providers",
        &[""],
        "variables like ${file:...} would reach connectors unresolved: there are no config providers yet. Write the values \
         themselves, or use environment variables for the worker's own settings",
    ),
    refused(
        "rest.extension.classes",
        &[""],
        "it may be what asks for passwords, and there is no JVM to load it. Guard the REST server with a proxy and leave it out",
    ),
    not_yet("admin.listeners", &[""], "nothing is served below /admin that could be moved to listeners of its own"),
    not_yet(
        "access.control.allow.origin",
        &[""],
        "answers carry no CORS headers: browsers of other origins are turned away",
    ),
    not_yet("access.control.allow.methods", &[""], "answers carry no CORS headers"),
    not_yet("response.http.headers.config", &[""], "answers carry no headers of your own; let a proxy add them"),
    not_yet(
        "topic.creation.enable",
        &["true", "false"],
        "topics of sources are created by the broker (auto.create.topics.enable); a connector with `topic.creation.` \
         settings is refused",
    ),
    honoured("topic.tracking.enable", ""),
    honoured("topic.tracking.allow.reset", ""),
    no_effect(
        "offset.storage.file.filename",
        "it is a setting of the standalone mode; offsets are in `offset.storage.topic`",
    ),
    no_effect("key.converter.plugin.version", ONE_VERSION),
    no_effect("value.converter.plugin.version", ONE_VERSION),
    no_effect("header.converter.plugin.version", ONE_VERSION),
    no_effect("plugin.path", NO_JARS),
    no_effect("plugin.discovery", NO_JARS),
    no_effect("metrics.sample.window.ms", NO_JMX),
    no_effect("metrics.num.samples", NO_JMX),
    no_effect("metrics.recording.level", NO_JMX),
    no_effect("metric.reporters", NO_JMX),
    no_effect("auto.include.jmx.reporter", NO_JMX),
    no_effect("session.timeout.ms", NO_GROUP),
    no_effect("rebalance.timeout.ms", NO_GROUP),
    no_effect("heartbeat.interval.ms", NO_GROUP),
    no_effect("worker.sync.timeout.ms", NO_GROUP),
    no_effect("worker.unsync.backoff.ms", NO_GROUP),
    no_effect("connect.protocol", NO_GROUP),
    honoured(
        "scheduled.rebalance.max.delay.ms",
        "default 0, not 300000: what a dead worker ran goes on elsewhere at once",
    ),
    no_effect("inter.worker.key.ttl.ms", UNSIGNED),
    no_effect("inter.worker.key.generation.algorithm", UNSIGNED),
    no_effect("inter.worker.key.size", UNSIGNED),
    no_effect("inter.worker.signature.algorithm", UNSIGNED),
    no_effect("inter.worker.verification.algorithms", UNSIGNED),
    no_effect("rest.host.name", REMOVED),
    no_effect("rest.port", REMOVED),
    no_effect("internal.key.converter", REMOVED),
    no_effect("internal.value.converter", REMOVED),
    honoured(
        "worker.fence.timeout.ms",
        "our own: for how long a worker that lost sight of the cluster may still act. 100 to 30000, and the same for all workers of a group: another one is refused",
    ),
    honoured("task.callback.timeout.ms", "our own: after which time a callback of a plug-in counts as hanging"),
    honoured(
        "cluster.listener",
        "our own: where gossip listens, UDP, as host:port; without it, at the host and port of the REST listener",
    ),
    honoured(
        "cluster.advertised.listener",
        "our own: what other workers send gossip to, as host:port; without it, the advertised host and port of REST",
    ),
    honoured("cluster.seeds", "our own: where other workers may be, beside those that the config topic names"),
    honoured(
        "cluster.secret",
        "our own: what the key of the gossip is made of, at least 16 bytes, the same at all workers; without it, the \
         session key in the config topic",
    ),
];

/// What follows one of these belongs to a plug-in, a client or a topic.
const PREFIXES: &[&str] = &[
    "producer.",
    "consumer.",
    "admin.",
    "key.converter.",
    "value.converter.",
    "header.converter.",
    "internal.key.converter.",
    "internal.value.converter.",
    "config.providers.",
    "config.storage.",
    "offset.storage.",
    "status.storage.",
    "listeners.https.",
    "admin.listeners.https.",
    "metrics.context.",
];

/// What becomes of a setting, and the note; `None` for one that nobody knows.
pub fn entry(name: &str) -> Option<(Standing, String)> {
    match TABLE.iter().find(|setting| setting.name == name) {
        Some(setting) => Some((setting.standing, setting.note.to_owned())),
        None => client_settings::standing(ClientKind::Admin, name).filter(|_| is_client(name)),
    }
}

/// Whether a setting of the top level is about the worker's own Kafka clients.
pub fn is_client(name: &str) -> bool {
    const OF_WORKER: &[&str] = &["bootstrap.servers", "client.id"];
    let own = TABLE.iter().any(|setting| setting.name == name);
    OF_WORKER.contains(&name) || !own && client_settings::standing(ClientKind::Admin, name).is_some()
}

/// The settings that nobody knows.
pub fn unknown(props: &Props) -> Vec<String> {
    let known = |name: &str| entry(name).is_some() || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    props.keys().filter(|name| !known(name)).cloned().collect()
}

/// Settings of this standing that ask for something, each with its note.
pub fn asked_for(props: &Props, standing: Standing) -> impl Iterator<Item = &'static Setting> {
    TABLE.iter().filter(move |setting| {
        let asks = |text: &String| !setting.neutral.iter().any(|neutral| text.trim().eq_ignore_ascii_case(neutral));
        setting.standing == standing && props.get(setting.name).is_some_and(asks)
    })
}
