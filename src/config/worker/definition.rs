//! The definitions of the worker's settings: types, defaults and checks, which are Java's but for what
//! `tests.rs` beside this file lists.

use connect_api::{ConfigDef, ConfigKey, Importance, ParsedValue, Props, Type, Validator};

use crate::config::override_policy::OverridePolicy;

/// All settings of the worker that have an effect of their own.
pub fn definition() -> ConfigDef {
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
    super::gossip::define(rest(timeouts(converters(definition))))
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

/// Compaction leaves records alone for a minute (`min.compaction.lag.ms`), which has to be longer than anybody waits for a lease of somebody else.
const FENCE_MAX_MS: i32 = 30_000;

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
            .validator(Validator::between(100, FENCE_MAX_MS)),
        )
        .define(
            ConfigKey::new(
                "scheduled.rebalance.max.delay.ms",
                Type::Int,
                Importance::Low,
                "How long the connectors and tasks of a worker that vanished wait for its return, before others take them.",
            )
            .default_value(0)
            .validator(Validator::at_least(0)),
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
        .define(
            key("rest.advertised.listener", Type::String, "The protocol that other workers use: http.")
                .optional()
                .validator(Validator::text("http: HTTPS is not served", |text| {
                    text.is_empty() || text.eq_ignore_ascii_case("http")
                })),
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
            .validator(override_policy()),
        )
        .define(
            key(
                "connector.client.config.override.allowlist",
                Type::List,
                "Which client settings connectors may override where the policy is Allowlist.",
            )
            .default_value(""),
        )
        .define(
            key("rest.extension.classes", Type::List, "Classes that guard or extend the REST server; must be empty.")
                .default_value(""),
        )
        .define(key("config.providers", Type::List, "Names of config providers.").default_value(""))
}

fn override_policy() -> Validator {
    Validator::text("All, None, Principal or Allowlist, or one of their classes in Kafka Connect", |text| {
        let name = "connector.client.config.override.policy".to_owned();
        OverridePolicy::from_props(&Props::from([(name, text.to_owned())])).is_ok()
    })
}
