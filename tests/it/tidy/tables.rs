//! What is allowed: the picture of ARCHITECTURE.md as data. A change here is a change of the architecture.

/// Each room and what it may use. `*`: everything, only to wire it together. A path allows what is below it.
pub const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["*"]),
    ("node", &["*"]),
    ("quickstart", &["node", "actors", "plugins", "config"]),
    ("topics", &["backend"]),
    ("standalone", &["node", "actors", "plugins", "config"]),
    ("hand_back", &["actors", "storage", "backend", "config", "cluster", "connect_api"]),
    ("evict", &["actors"]),
    ("rest", &["actors", "plugins", "metrics", "connect_api"]),
    ("actors", &["cluster", "gossip", "plugins", "pipeline", "storage", "backend", "config", "metrics", "connect_api"]),
    ("pipeline", &["storage", "backend", "metrics", "connect_api"]),
    ("storage", STORAGE),
    ("plugins", &["connectors", "converters", "transforms", "connect_api"]),
    ("connectors", &["connect_api"]),
    ("converters", &["json", "connect_api"]),
    ("transforms", &["connect_api"]),
    ("config", &["connect_api"]),
    ("backend", &["connect_api"]),
    ("cluster", &[]),
    ("gossip", &[]),
    ("simulation", &["cluster"]),
    ("json", &["connect_api"]),
    ("metrics", &[]),
    ("logging", &[]),
];

/// Of `cluster`, the storage knows the plain values that stand in records, and no rule.
const STORAGE: &[&str] = &[
    "backend",
    "json",
    "connect_api",
    "cluster::Incarnation",
    "cluster::Member",
    "cluster::MemberState",
    "cluster::NO_SET",
    "cluster::Nonce",
    "cluster::Register",
    "cluster::RegisterFields",
    "cluster::Unit",
    "cluster::WorkerId",
];

/// Parts of rooms that only `main` may name, and whether tests may, too.
pub const PRIVATE: &[(&str, bool)] =
    &[("backend::kafka", false), ("backend::memory", true), ("backend::embedded", true), ("backend::open", true)];

/// Crates that may be named in few places only.
pub const CRATES: &[(&str, &[&str])] = &[
    ("actix", &["src/actors/", "src/node.rs", "src/main.rs"]),
    ("actix_rt", &["src/actors/", "src/node.rs", "src/main.rs"]),
    ("warp", &["src/rest/"]),
    ("rdkafka", &["src/backend/kafka/"]),
    ("rdkafka_sys", &["src/backend/kafka/"]),
    ("redb", &["src/backend/embedded/"]),
    ("chitchat", &["src/gossip/"]),
    ("chacha20poly1305", &["src/gossip/"]),
    ("hkdf", &["src/gossip/"]),
    ("sha2", &["src/gossip/"]),
    ("bincode", &["src/gossip/wire.rs", "src/backend/embedded/"]),
];

/// Calls of C that must not be used, and why.
pub const FORBIDDEN_CALLS: &[(&str, &str)] = &[
    ("rd_kafka_ListOffsets", "see src/backend/kafka/native/offsets.rs: librdkafka 2.12.1 crashes in it"),
    (
        "rd_kafka_DeleteRecords",
        "it looks for leaders as rd_kafka_ListOffsets does, and librdkafka 2.12.1 crashes in that",
    ),
];

/// Crates that the plug-in interface must not make a part of itself.
pub const NOT_IN_CONNECT_API: &[&str] =
    &["actix", "warp", "rdkafka", "chitchat", "bincode", "tokio", "hyper", "serde_json", "tracing", "connect_node"];

/// Functions that are too long, with their length: file, name, lines. It may only get shorter.
pub const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Test files that sleep: file, how many calls, why no condition can be awaited.
pub const SLEEPS: &[(&str, usize, &str)] = &[
    ("src/actors/supervision.rs", 1, "no time at all: lets the messages of a stopped actor be handled"),
    ("src/cluster/assignment/tests.rs", 1, "a measurement for the docs, which asserts nothing"),
    ("src/actors/herder/tests/many.rs", 1, "between two looks: looking is work of the herder that is measured"),
    ("src/node/signals.rs", 1, "paused time: the moments at which signals come"),
    (
        "src/pipeline/sink/tests/rig.rs",
        4,
        "paused time: what must not happen in a while, and polls of a task that a test scripts",
    ),
    ("src/pipeline/source/tests.rs", 2, "paused time: what must not happen in a while, and polls"),
    ("src/storage/tests/config.rs", 3, "paused time: when aborted records are looked for, and that they are not"),
    ("src/storage/tests/log.rs", 1, "paused time: an outage of a minute"),
    ("src/storage/tests/transactions.rs", 3, "paused time: the delays themselves are what is tested"),
    ("tests/it/rest/connections.rs", 1, "a client that is slow on purpose"),
    (
        "tests/it/scenarios/runner.rs",
        5,
        "polls a worker over HTTP and files of a connector, each bounded; a step that waits",
    ),
    ("tests/it/storage.rs", 2, "polls a real broker that deletes a topic, up to a deadline"),
    ("tests/it/support/node.rs", 3, "polls a worker over HTTP, each bounded; windows in which records are counted"),
    (
        "tests/it/support/broker.rs",
        1,
        "polls the port of a child process, at most START_TIMEOUT; nothing can be awaited",
    ),
    (
        "tests/it/support/process.rs",
        2,
        "polls conditions in other processes, with a bound; lets a random time pass before a kill",
    ),
    ("tests/it/support/faulty.rs", 2, "a plug-in that is slow on purpose"),
];

/// Test files with tests that do not run by default: file, how many, who runs them and when.
pub const IGNORED: &[(&str, usize, &str)] = &[
    ("src/cluster/assignment/tests.rs", 1, "a measurement for the docs, which asserts nothing"),
    ("src/actors/herder/tests/many.rs", 1, "a measurement, which asserts nothing; run when a start became slow"),
    ("tests/it/guards/mod.rs", 1, "builds the program for each guard; run after a change of one, and before a release"),
    ("tests/it/scenarios.rs", 1, "needs a running worker that the caller names, for example Kafka's own"),
];
