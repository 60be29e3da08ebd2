//! One line for each setting of a Java client (4.3) that has nothing to do with security.

use super::ClientKind;

/// What becomes of a setting.
pub enum Action {
    /// The same name, any text.
    Text,
    /// The same name, one of these words, in lower case.
    Word(&'static [&'static str]),
    /// A number under these names, brought into librdkafka's range: Java's "forever" is larger.
    Number {
        /// librdkafka's names.
        names: &'static [&'static str],
        /// Smallest value of all these names.
        min: i64,
        /// Largest value of all these names.
        max: i64,
    },
    /// The same name, true or false.
    Boolean,
    /// Size of a socket buffer.
    SocketBuffer(&'static str),
    /// Bound of bytes that wait to be sent.
    BufferMemory,
    /// Size of a batch.
    MaxPollRecords,
    /// Where to begin without a committed offset.
    OffsetReset,
    /// librdkafka's one level of compression, where the records are compressed so; its largest.
    CompressionLevel(&'static str, i64),
    /// No effect, for this reason, and nobody would miss it.
    Silent(&'static str),
    /// Always the first of these words; with another than these the log says why.
    Fixed(&'static [&'static str], &'static str),
    /// No effect; the log says why.
    Dropped(&'static str),
    /// An error, since going on without it would do something else than was asked for.
    Refused(&'static str),
}

/// A setting and what becomes of it.
pub struct Rule {
    /// Java's name.
    pub java: &'static str,
    /// What becomes of it.
    pub action: Action,
}

const fn rule_of(java: &'static str, action: Action) -> Rule {
    Rule { java, action }
}

const fn number(java: &'static str, names: &'static [&'static str], min: i64, max: i64) -> Rule {
    Rule { java, action: Action::Number { names, min, max } }
}

const MAX: i64 = i32::MAX as i64;
const DAY_MS: i64 = 86_400_000;
/// Of classes that a user names.
pub const JVM_CLASS: &str = "it names a Java class, and there is no JVM here";
const METRICS: &str = "it is about Java's metrics; those of the worker are at GET /metrics";
const SERIALIZERS: &str = "converters make bytes and read them";
const NO_GROUP: &str = "sink tasks are assigned their partitions without a membership of a consumer group";
const PARTITIONER: &str =
    "it is about Java's partitioner for records without a key; they are spread at random, batch by batch";
const ALL_DURABLE: &str = "records are always written idempotently, and acknowledged by all replicas that are in sync";
const REQUESTS: &str = "requests of the worker have time limits of their own";
const SHARE: &str = "it is about share groups, which Kafka Connect does not use";

/// The rules of this kind of client, its own first.
pub fn rules(kind: ClientKind) -> impl Iterator<Item = &'static Rule> {
    let own = match kind {
        ClientKind::Producer => PRODUCER,
        ClientKind::Consumer => CONSUMER,
        ClientKind::Admin => ADMIN,
    };
    own.iter().chain(COMMON.iter().filter(|rule| own.iter().all(|of_kind| of_kind.java != rule.java)))
}

/// The rule for a setting of this kind of client.
pub fn rule(kind: ClientKind, name: &str) -> Option<&'static Rule> {
    rules(kind).find(|rule| rule.java == name)
}

const COMMON: &[Rule] = &[
    rule_of("bootstrap.servers", Action::Text),
    rule_of("bootstrap.controllers", Action::Refused("clients talk to brokers only")),
    rule_of("client.id", Action::Text),
    rule_of("client.dns.lookup", Action::Word(&["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"])),
    rule_of("enable.metrics.push", Action::Boolean),
    rule_of("metadata.recovery.strategy", Action::Word(&["none", "rebootstrap"])),
    number("metadata.recovery.rebootstrap.trigger.ms", &["metadata.recovery.rebootstrap.trigger.ms"], 0, MAX),
    number("metadata.max.age.ms", &["metadata.max.age.ms"], 1, DAY_MS),
    rule_of("send.buffer.bytes", Action::SocketBuffer("socket.send.buffer.bytes")),
    rule_of("receive.buffer.bytes", Action::SocketBuffer("socket.receive.buffer.bytes")),
    number("reconnect.backoff.ms", &["reconnect.backoff.ms"], 0, 3_600_000),
    number("reconnect.backoff.max.ms", &["reconnect.backoff.max.ms"], 0, 3_600_000),
    number("retry.backoff.ms", &["retry.backoff.ms"], 1, 300_000),
    number("retry.backoff.max.ms", &["retry.backoff.max.ms"], 1, 300_000),
    number("request.timeout.ms", &["socket.timeout.ms"], 10, 300_000),
    number("socket.connection.setup.timeout.ms", &["socket.connection.setup.timeout.ms"], 1000, MAX),
    rule_of(
        "socket.connection.setup.timeout.max.ms",
        Action::Silent("librdkafka has one such time, and it does not grow"),
    ),
    // -1 is "never" in Java, 0 in librdkafka.
    number("connections.max.idle.ms", &["connections.max.idle.ms"], 0, MAX),
    rule_of("metric.reporters", Action::Silent(METRICS)),
    rule_of("metrics.sample.window.ms", Action::Silent(METRICS)),
    rule_of("metrics.num.samples", Action::Silent(METRICS)),
    rule_of("metrics.recording.level", Action::Silent(METRICS)),
    rule_of("auto.include.jmx.reporter", Action::Silent(METRICS)),
    rule_of("config.providers", Action::Dropped("variables are resolved before clients are made")),
];

const PRODUCER: &[Rule] = &[
    rule_of("acks", Action::Fixed(&["all", "-1"], ALL_DURABLE)),
    number("batch.size", &["batch.size"], 1, MAX),
    number("linger.ms", &["linger.ms"], 0, 900_000),
    number("delivery.timeout.ms", &["delivery.timeout.ms"], 0, MAX),
    number("request.timeout.ms", &["request.timeout.ms", "socket.timeout.ms"], 10, 300_000),
    // Writing idempotently needs at least one.
    number("retries", &["retries"], 1, MAX),
    number("max.request.size", &["message.max.bytes"], 1000, 1_000_000_000),
    // More than five, and a broker cannot write idempotently.
    number("max.in.flight.requests.per.connection", &["max.in.flight.requests.per.connection"], 1, 5),
    rule_of("buffer.memory", Action::BufferMemory),
    rule_of("max.block.ms", Action::Dropped("a task waits for room as long as it must, and can still be stopped")),
    rule_of("enable.idempotence", Action::Fixed(&["true"], ALL_DURABLE)),
    rule_of("transactional.id", Action::Dropped("the runtime names its transactions itself")),
    number("transaction.timeout.ms", &["transaction.timeout.ms"], 1000, MAX),
    rule_of("transaction.two.phase.commit.enable", Action::Refused("two-phase commit is not supported")),
    rule_of("compression.type", Action::Word(&["none", "gzip", "snappy", "lz4", "zstd"])),
    rule_of("compression.gzip.level", Action::CompressionLevel("gzip", 9)),
    rule_of("compression.lz4.level", Action::CompressionLevel("lz4", 12)),
    rule_of("compression.zstd.level", Action::CompressionLevel("zstd", 12)),
    rule_of("metadata.max.idle.ms", Action::Silent("topics are forgotten with the task that wrote to them")),
    rule_of("partitioner.class", Action::Refused(JVM_CLASS)),
    rule_of("partitioner.ignore.keys", Action::Dropped("records with a key always go to the partition of their key")),
    rule_of("partitioner.adaptive.partitioning.enable", Action::Silent(PARTITIONER)),
    rule_of("partitioner.availability.timeout.ms", Action::Silent(PARTITIONER)),
    rule_of("interceptor.classes", Action::Refused(JVM_CLASS)),
    rule_of("key.serializer", Action::Silent(SERIALIZERS)),
    rule_of("value.serializer", Action::Silent(SERIALIZERS)),
];

const CONSUMER: &[Rule] = &[
    rule_of("group.id", Action::Text),
    rule_of("group.instance.id", Action::Silent(NO_GROUP)),
    rule_of("group.protocol", Action::Silent(NO_GROUP)),
    rule_of("group.remote.assignor", Action::Silent(NO_GROUP)),
    rule_of("partition.assignment.strategy", Action::Silent(NO_GROUP)),
    rule_of("session.timeout.ms", Action::Silent(NO_GROUP)),
    rule_of("heartbeat.interval.ms", Action::Silent(NO_GROUP)),
    rule_of("max.poll.interval.ms", Action::Silent("`task.callback.timeout.ms` is the bound of a callback")),
    rule_of("client.rack", Action::Text),
    rule_of("auto.offset.reset", Action::OffsetReset),
    rule_of("isolation.level", Action::Word(&["read_uncommitted", "read_committed"])),
    number("fetch.min.bytes", &["fetch.min.bytes"], 1, 100_000_000),
    number("fetch.max.bytes", &["fetch.max.bytes"], 0, 2_147_483_135),
    number("fetch.max.wait.ms", &["fetch.wait.max.ms"], 0, 300_000),
    number("max.partition.fetch.bytes", &["max.partition.fetch.bytes"], 1, 1_000_000_000),
    rule_of("max.poll.records", Action::MaxPollRecords),
    rule_of("check.crcs", Action::Boolean),
    rule_of("allow.auto.create.topics", Action::Boolean),
    rule_of("enable.auto.commit", Action::Fixed(&["false"], "the runtime commits offsets, after the task has flushed")),
    rule_of("auto.commit.interval.ms", Action::Silent("the runtime commits offsets, after the task has flushed")),
    rule_of("default.api.timeout.ms", Action::Silent(REQUESTS)),
    rule_of(
        "exclude.internal.topics",
        Action::Silent("it is about subscriptions to patterns of topics, which are resolved by the runtime"),
    ),
    rule_of("share.acknowledgement.mode", Action::Silent(SHARE)),
    rule_of("share.acquire.mode", Action::Silent(SHARE)),
    rule_of("interceptor.classes", Action::Refused(JVM_CLASS)),
    rule_of("key.deserializer", Action::Silent(SERIALIZERS)),
    rule_of("value.deserializer", Action::Silent(SERIALIZERS)),
];

const ADMIN: &[Rule] =
    &[rule_of("default.api.timeout.ms", Action::Silent(REQUESTS)), rule_of("retries", Action::Silent(REQUESTS))];

/// Settings that, where the user leaves them out, are not what a Java client of a worker has: Java's value, the one here, and why.
pub const OTHER_DEFAULTS: &[(&str, &str, &str, &str)] = &[
    (
        "reconnect.backoff.ms",
        "50",
        "500 (100 for consumers, 50 for producers)",
        "librdkafka takes half of it and does not let it grow: 50 would hammer brokers that are down",
    ),
    ("request.timeout.ms", "30000", "60000 (30000 for what producers write)", "librdkafka's"),
    ("metadata.max.age.ms", "300000", "900000, refreshed every 300000", "librdkafka's"),
    ("socket.connection.setup.timeout.ms", "10000", "30000", "librdkafka's"),
    ("connections.max.idle.ms", "540000", "0: never", "librdkafka's; the broker closes what is idle"),
    ("send.buffer.bytes", "131072", "-1: the system decides", "librdkafka's"),
    ("receive.buffer.bytes", "65536", "-1: the system decides", "librdkafka's"),
    ("batch.size", "16384", "1000000", "librdkafka's; larger batches are what makes it fast"),
    (
        "fetch.max.wait.ms",
        "500",
        "100",
        "sinks share consumers, and a partition that is new waits for the request that is under way",
    ),
    (
        "fetch.max.bytes",
        "52428800",
        "4194304",
        "all records of an answer stay in memory until the last sink has taken its own",
    ),
    ("delivery.timeout.ms", "120000", "2147483647", "Kafka Connect sets the same: a task waits as long as it takes"),
];
