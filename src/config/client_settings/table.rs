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
    /// No effect, and nobody would miss it: it is about the JVM, or the runtime decides it anyway.
    Silent,
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
const JVM_CLASS: &str = "it names a Java class, and there is no JVM here";

/// The rule for a setting of this kind of client.
pub fn rule(kind: ClientKind, name: &str) -> Option<&'static Rule> {
    let own = match kind {
        ClientKind::Producer => PRODUCER,
        ClientKind::Consumer => CONSUMER,
        ClientKind::Admin => ADMIN,
    };
    own.iter().chain(COMMON).find(|rule| rule.java == name)
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
    rule_of("socket.connection.setup.timeout.max.ms", Action::Silent),
    // -1 is "never" in Java, 0 in librdkafka.
    number("connections.max.idle.ms", &["connections.max.idle.ms"], 0, MAX),
    rule_of("metric.reporters", Action::Silent),
    rule_of("metrics.sample.window.ms", Action::Silent),
    rule_of("metrics.num.samples", Action::Silent),
    rule_of("metrics.recording.level", Action::Silent),
    rule_of("auto.include.jmx.reporter", Action::Silent),
    rule_of("config.providers", Action::Dropped("variables are resolved before clients are made")),
    rule_of("security.providers", Action::Silent),
];

const PRODUCER: &[Rule] = &[
    rule_of("acks", Action::Word(&["all", "-1", "0", "1"])),
    number("batch.size", &["batch.size"], 1, MAX),
    number("linger.ms", &["linger.ms"], 0, 900_000),
    number("delivery.timeout.ms", &["delivery.timeout.ms"], 0, MAX),
    number("request.timeout.ms", &["request.timeout.ms", "socket.timeout.ms"], 10, 300_000),
    number("retries", &["retries"], 0, MAX),
    number("max.request.size", &["message.max.bytes"], 1000, 1_000_000_000),
    number("max.in.flight.requests.per.connection", &["max.in.flight.requests.per.connection"], 1, 1_000_000),
    rule_of("buffer.memory", Action::BufferMemory),
    rule_of("max.block.ms", Action::Dropped("a task waits for room as long as it must, and can still be stopped")),
    rule_of("enable.idempotence", Action::Boolean),
    rule_of("transactional.id", Action::Text),
    number("transaction.timeout.ms", &["transaction.timeout.ms"], 1000, MAX),
    rule_of("transaction.two.phase.commit.enable", Action::Refused("two-phase commit is not supported")),
    rule_of("compression.type", Action::Word(&["none", "gzip", "snappy", "lz4", "zstd"])),
    number("compression.gzip.level", &["compression.level"], -1, 9),
    number("compression.lz4.level", &["compression.level"], -1, 12),
    number("compression.zstd.level", &["compression.level"], -1, 12),
    rule_of("metadata.max.idle.ms", Action::Silent),
    rule_of("partitioner.class", Action::Refused(JVM_CLASS)),
    rule_of("partitioner.ignore.keys", Action::Dropped("records with a key always go to the partition of their key")),
    rule_of("partitioner.adaptive.partitioning.enable", Action::Silent),
    rule_of("partitioner.availability.timeout.ms", Action::Silent),
    rule_of("interceptor.classes", Action::Refused(JVM_CLASS)),
    rule_of("key.serializer", Action::Silent),
    rule_of("value.serializer", Action::Silent),
];

const CONSUMER: &[Rule] = &[
    rule_of("group.id", Action::Text),
    rule_of(
        "group.instance.id",
        Action::Dropped("sink tasks are assigned their partitions without a group membership"),
    ),
    rule_of("group.protocol", Action::Dropped("sink tasks are assigned their partitions without a group membership")),
    rule_of("group.remote.assignor", Action::Silent),
    rule_of("partition.assignment.strategy", Action::Silent),
    rule_of("session.timeout.ms", Action::Silent),
    rule_of("heartbeat.interval.ms", Action::Silent),
    rule_of("max.poll.interval.ms", Action::Silent),
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
    rule_of("enable.auto.commit", Action::Dropped("the runtime commits offsets, after the task has flushed")),
    rule_of("auto.commit.interval.ms", Action::Silent),
    rule_of("default.api.timeout.ms", Action::Silent),
    rule_of("exclude.internal.topics", Action::Silent),
    rule_of("interceptor.classes", Action::Refused(JVM_CLASS)),
    rule_of("key.deserializer", Action::Silent),
    rule_of("value.deserializer", Action::Silent),
];

const ADMIN: &[Rule] = &[rule_of("default.api.timeout.ms", Action::Silent), rule_of("retries", Action::Silent)];
