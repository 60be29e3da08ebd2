//! Rules over several settings of a connector.

use connect_api::config_def::parse_type;
use connect_api::{ConfigKey, ConfigValue, ExactlyOnceSupport, Importance, ParsedValue, Props, Type};
use fancy_regex::Regex;

use super::{Checked, ConfigInfo, ConnectorKind, WorkerDefaults};
use crate::config::client_settings::{ClientKind, client_settings, is_secret};
use crate::config::worker::with_prefix;

const TOPICS: &str = "topics";
const TOPICS_REGEX: &str = "topics.regex";
const DEAD_LETTER_QUEUE: &str = "errors.deadletterqueue.topic.name";

/// Sinks read either `topics` or what `topics.regex` matches, never their own dead letter queue, and never in the group of
/// the workers.
pub fn check_sink(checked: &mut Checked, props: &Props, worker: &WorkerDefaults) {
    let text = |name: &str| props.get(name).map_or("", |text| text.trim());
    let (topics, pattern, queue) = (text(TOPICS), text(TOPICS_REGEX), text(DEAD_LETTER_QUEUE));
    if topics.is_empty() == pattern.is_empty() {
        let why = if topics.is_empty() {
            "one of topics and topics.regex is needed"
        } else {
            "only one of topics and topics.regex may be set"
        };
        checked.error(TOPICS, why);
        checked.error(TOPICS_REGEX, why);
    }
    if !queue.is_empty() {
        let why = || format!("the dead letter queue {queue} would be read, too");
        let listed = matches!(parse_type(Type::List, topics), Ok(ParsedValue::List(names)) if names.iter().any(|name| name == queue));
        if listed {
            checked.error(TOPICS, why());
        }
        if !pattern.is_empty() && matches_whole(pattern, queue) {
            checked.error(TOPICS_REGEX, why());
        }
    }
    let group = props.get("consumer.override.group.id").map(|group| group.trim().to_owned());
    let group = group.unwrap_or_else(|| format!("connect-{}", text("name")));
    if group == worker.group_id {
        checked.error("name", format!("its consumer group {group} would be the group of the workers"));
    }
}

/// Java's `Pattern.matches`. A pattern that is none, or takes too long, matches nothing: the first is an error elsewhere.
fn matches_whole(pattern: &str, text: &str) -> bool {
    Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(text).unwrap_or(false))
}

/// What an exactly-once source needs from the worker and from its plug-in.
pub fn check_source(
    checked: &mut Checked,
    props: &Props,
    worker: &WorkerDefaults,
    support: ExactlyOnceSupport,
    can_define_boundaries: bool,
) {
    let is = |name: &str, word: &str| props.get(name).is_some_and(|text| text.trim().eq_ignore_ascii_case(word));
    if is("exactly.once.support", "required") {
        if !worker.exactly_once_enabled {
            checked.error(
                "exactly.once.support",
                "it cannot be required: the worker has exactly.once.source.support switched off",
            );
        }
        match support {
            ExactlyOnceSupport::Supported => {}
            ExactlyOnceSupport::Unsupported => {
                checked.error("exactly.once.support", "the connector does not support it with this configuration");
            }
            ExactlyOnceSupport::Unknown => {
                checked.error("exactly.once.support", "the connector does not say whether it supports it");
            }
        }
    }
    if worker.exactly_once_enabled && is("transaction.boundary", "connector") && !can_define_boundaries {
        checked.error("transaction.boundary", "the connector cannot say where transactions end");
    }
}

/// The overrides of the clients that the connector uses: a source has a producer, and an admin client where it has
/// `topic.creation.*`; a sink has a consumer, and all three where it has a dead letter queue. Others have no effect and are
/// not shown.
pub fn check_client_overrides(checked: &mut Checked, kind: ConnectorKind, props: &Props, worker: &WorkerDefaults) {
    let has_queue = props.get(DEAD_LETTER_QUEUE).is_some_and(|text| !text.trim().is_empty());
    let creates_topics = props.keys().any(|name| name.starts_with("topic.creation."));
    let clients: &[ClientKind] = match kind {
        ConnectorKind::Source if creates_topics => &[ClientKind::Producer, ClientKind::Admin],
        ConnectorKind::Source => &[ClientKind::Producer],
        ConnectorKind::Sink if has_queue => &[ClientKind::Consumer, ClientKind::Producer, ClientKind::Admin],
        ConnectorKind::Sink => &[ClientKind::Consumer],
    };
    for &client in clients {
        let prefix = format!("{}override.", client.prefix());
        let overrides = with_prefix(props, &prefix);
        for (name, text) in &overrides {
            let full_name = format!("{prefix}{name}");
            let value = match is_secret(name) {
                true => connect_api::config_def::HIDDEN.to_owned(),
                false => text.trim().to_owned(),
            };
            let key = ConfigKey::new(&full_name, Type::String, Importance::Medium, "A setting of the Kafka client.");
            let mut info = ConfigInfo {
                definition: Some(key.optional()),
                value: ConfigValue { value: Some(value), ..ConfigValue::new(&full_name) },
            };
            if !worker.client_override_policy.allows(name) {
                let policy = worker.client_override_policy.name();
                info.value.errors.push(format!("{full_name}: the worker's override policy {policy} does not allow it"));
            }
            // One by one, so that the error stands where it belongs; what belongs together is checked below.
            let alone = Props::from([(name.clone(), text.clone())]);
            if !is_security(name)
                && let Err(error) = client_settings(client, &alone)
            {
                info.value.errors.push(format!("{prefix}{error}"));
            }
            checked.put(info);
        }
        check_security(checked, client, &prefix, &overrides);
    }
}

/// Security settings complete what the worker says; only what cannot be right in any case is refused here.
fn check_security(checked: &mut Checked, client: ClientKind, prefix: &str, overrides: &Props) {
    let security: Props = overrides
        .iter()
        .filter(|(name, _)| is_security(name))
        .map(|(name, text)| (name.clone(), text.clone()))
        .collect();
    if let (Some(_), Err(error)) = (security.get("security.protocol"), client_settings(client, &security)) {
        checked.error(&format!("{prefix}security.protocol"), error.to_string());
    }
}

fn is_security(name: &str) -> bool {
    name == "security.protocol" || name.starts_with("ssl.") || name.starts_with("sasl.")
}
