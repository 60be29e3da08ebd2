//! The settings that all connectors share, with Java's types, defaults, headings and places.

use connect_api::{ConfigDef, ConfigKey, Importance, ParsedValue, Type, Validator, Width};
use fancy_regex::Regex;

use super::{ConnectorKind, WorkerDefaults};

const COMMON: &str = "Common";
const TRANSFORMS: &str = "Transforms";
const PREDICATES: &str = "Predicates";
const ERROR_HANDLING: &str = "Error Handling";
const TOPIC_CREATION: &str = "Topic Creation";
const EXACTLY_ONCE: &str = "Exactly Once Support";
const OFFSETS_TOPIC: &str = "offsets.topic";

/// The settings that all connectors of a kind share. With a worker, the converters have its own as defaults, as the answer
/// of a validation shows them; the bare definitions have none.
pub fn shared_definition(kind: ConnectorKind, worker: Option<&WorkerDefaults>) -> ConfigDef {
    let definition = any_definition(worker);
    match kind {
        ConnectorKind::Source => source(definition),
        ConnectorKind::Sink => sink(definition),
    }
}

/// The settings that all connectors share, of whatever kind.
pub fn any_definition(worker: Option<&WorkerDefaults>) -> ConfigDef {
    error_handling(nested(common(worker)))
}

fn common(worker: Option<&WorkerDefaults>) -> ConfigDef {
    use Importance::*;
    let key = ConfigKey::new;
    let definition = ConfigDef::new()
        .define(
            key("name", Type::String, High, "The name of the connector, unique in the cluster.")
                .validator(Validator::non_empty_without_control_chars())
                .group(COMMON, 1, Width::Medium, "Connector name"),
        )
        .define(key("connector.class", Type::String, High, "The class of the connector, or its simple name.").group(
            COMMON,
            2,
            Width::Long,
            "Connector class",
        ))
        .define(plugin_version("connector", 3).group(COMMON, 3, Width::Medium, "Connector version"))
        .define(
            key("tasks.max", Type::Int, High, "How many tasks the work is split into at most.")
                .default_value(1)
                .validator(Validator::at_least(1))
                .group(COMMON, 4, Width::Short, "Tasks"),
        )
        .define(
            key("tasks.max.enforce", Type::Boolean, Low, "Whether it is an error to make more tasks than that.")
                .default_value(true)
                .group(COMMON, 5, Width::Short, "Enforce the number of tasks"),
        );
    let converters = [
        ("key.converter", "Key converter", worker.and_then(|worker| worker.key_converter.as_ref())),
        ("value.converter", "Value converter", worker.and_then(|worker| worker.value_converter.as_ref())),
        ("header.converter", "Header converter", worker.and_then(|worker| worker.header_converter.as_ref())),
    ];
    (6..).step_by(2).zip(converters).fold(definition, |definition, (order, (name, display, class))| {
        let key = key(name, Type::Class, Low, "The class of the converter; the worker's when it is not set.")
            .optional()
            .group(COMMON, order, Width::Short, display);
        let key = class.map_or(key.clone(), |class| key.default_value(class));
        definition.define(key).define(plugin_version(name, order + 1))
    })
}

/// There is one version of each plug-in. A connector is refused where it does not fit; those of nested plug-ins have no effect.
fn plugin_version(of: &str, order: i32) -> ConfigKey {
    let (name, importance) = (format!("{of}.plugin.version"), Importance::Low);
    let importance = if of == "connector" { Importance::Medium } else { importance };
    ConfigKey::new(&name, Type::String, importance, "Has no effect: each plug-in is there in one version.")
        .optional()
        .group(COMMON, order, Width::Short, "Plug-in version")
}

fn nested(definition: ConfigDef) -> ConfigDef {
    let key = ConfigKey::new;
    definition
        .define(
            key("transforms", Type::List, Importance::Low, "Names of the transformations, in their order.")
                .default_value("")
                .validator(Validator::list())
                .group(TRANSFORMS, 12, Width::Long, "Transformations"),
        )
        .define(
            key("predicates", Type::List, Importance::Low, "Names of the predicates that transformations use.")
                .default_value("")
                .validator(Validator::list())
                .group(PREDICATES, 13, Width::Long, "Predicates"),
        )
        .define(
            key("config.action.reload", Type::String, Importance::Low, "What to do when a secret has expired.")
                .default_value("restart")
                .validator(Validator::one_of(&["none", "restart"]))
                .group(COMMON, 14, Width::Medium, "Reload action"),
        )
}

fn error_handling(definition: ConfigDef) -> ConfigDef {
    let key = |name: &str, setting_type, documentation: &str| {
        ConfigKey::new(name, setting_type, Importance::Medium, documentation)
    };
    let group = |key: ConfigKey, order, width, display: &str| key.group(ERROR_HANDLING, order, width, display);
    let retry =
        key("errors.retry.timeout", Type::Long, "For how many milliseconds a failed step is retried; -1 is forever.")
            .default_value(0);
    let delay = key("errors.retry.delay.max.ms", Type::Long, "The longest pause between two tries, in milliseconds.")
        .default_value(60_000);
    let tolerance = key("errors.tolerance", Type::String, "Whether records that cannot be handled are skipped.")
        .default_value("none")
        .validator(Validator::one_of(&["none", "all"]));
    let log = key("errors.log.enable", Type::Boolean, "Whether skipped records are logged.").default_value(false);
    let messages =
        key("errors.log.include.messages", Type::Boolean, "Whether the log shows their content.").default_value(false);
    definition
        .define(group(retry, 1, Width::Medium, "Retry timeout"))
        .define(group(delay, 2, Width::Medium, "Longest retry delay"))
        .define(group(tolerance, 3, Width::Short, "Error tolerance"))
        .define(group(log, 4, Width::Short, "Log errors"))
        .define(group(messages, 5, Width::Short, "Log record content"))
}

fn source(definition: ConfigDef) -> ConfigDef {
    use Importance::*;
    let key = ConfigKey::new;
    definition
        .define(
            key("topic.creation.groups", Type::List, Low, "Names of the groups of topics that are created alike.")
                .default_value("")
                .validator(Validator::list())
                .group(TOPIC_CREATION, 1, Width::Long, "Topic groups"),
        )
        .define(
            key("exactly.once.support", Type::String, Medium, "Whether the connector must deliver exactly once.")
                .default_value("requested")
                .validator(Validator::one_of_ignoring_case(&["required", "requested"]))
                .group(EXACTLY_ONCE, 2, Width::Short, "Exactly-once support"),
        )
        .define(
            key("transaction.boundary", Type::String, Medium, "When a transaction of an exactly-once source ends.")
                .default_value("poll")
                .validator(Validator::one_of_ignoring_case(&["interval", "poll", "connector"]))
                .group(EXACTLY_ONCE, 3, Width::Short, "Transaction boundary"),
        )
        .define(
            key("transaction.boundary.interval.ms", Type::Long, Low, "The interval, where that is the boundary.")
                .optional()
                .validator(Validator::new("at least 0", |_, value| match value {
                    Some(ParsedValue::Long(ms)) if *ms < 0 => Err("must be at least 0".to_owned()),
                    _ => Ok(()),
                }))
                .group(EXACTLY_ONCE, 4, Width::Short, "Transaction interval"),
        )
        .define(
            key("offsets.storage.topic", Type::String, Low, "A topic of its own for the offsets of this connector.")
                .optional()
                .validator(Validator::non_empty())
                .group(OFFSETS_TOPIC, 1, Width::Long, "Offsets topic"),
        )
}

fn sink(definition: ConfigDef) -> ConfigDef {
    use Importance::*;
    let key = ConfigKey::new;
    definition
        .define(
            key("topics", Type::List, High, "The topics to read.")
                .default_value("")
                .validator(Validator::list())
                .group(COMMON, 4, Width::Long, "Topics"),
        )
        .define(
            key("topics.regex", Type::String, High, "A pattern that the names of the topics to read match.")
                .default_value("")
                .validator(Validator::text("a regular expression", |text| Regex::new(text).is_ok()))
                .group(COMMON, 4, Width::Long, "Pattern of topics"),
        )
        .define(
            key("errors.deadletterqueue.topic.name", Type::String, Medium, "Where skipped records go; empty nowhere.")
                .default_value("")
                .group(ERROR_HANDLING, 6, Width::Medium, "Dead letter queue"),
        )
        .define(
            key("errors.deadletterqueue.topic.replication.factor", Type::Short, Medium, "Its replicas when created.")
                .default_value(3)
                .group(ERROR_HANDLING, 7, Width::Medium, "Replicas of the dead letter queue"),
        )
        .define(
            key(
                "errors.deadletterqueue.context.headers.enable",
                Type::Boolean,
                Medium,
                "Whether headers say what failed.",
            )
            .default_value(false)
            .group(ERROR_HANDLING, 8, Width::Medium, "Headers in the dead letter queue"),
        )
}
