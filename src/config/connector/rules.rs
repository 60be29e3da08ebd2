//! Rules over several settings of a connector.

use connect_api::config_def::{HIDDEN, parse_type};
use connect_api::{ConfigDef, ConfigKey, ConfigValue, ExactlyOnceSupport, ParsedValue, Props, Type};
use fancy_regex::Regex;

use super::{Checked, ConfigInfo, ConnectorKind, WorkerDefaults};
use crate::config::client_settings::{ClientKind, client_settings, definition, is_secret, is_security};
use crate::config::worker::with_prefix;

const TOPICS: &str = "topics";
const TOPICS_REGEX: &str = "topics.regex";
const DEAD_LETTER_QUEUE: &str = "errors.deadletterqueue.topic.name";

/// What is wrong with a null.
pub fn null_error(name: &str) -> String {
    format!("{name} is null; leave the setting out or give it a text")
}

/// A null is an error of every setting that is not the plug-in's own, known or not, whatever else is wrong with it (Java:
/// `AbstractHerder.addNullValuedErrors`).
pub fn refuse_nulls(checked: &mut Checked, nulls: &[String]) {
    for name in nulls {
        let known = checked.infos.get(name).cloned();
        let definition = known.as_ref().and_then(|info| info.definition.clone());
        let mut value = null_value(name, definition.as_ref());
        value.errors.push(null_error(name));
        if let Some(ConfigInfo { value: known, .. }) = known {
            (value.recommended_values, value.visible) = (known.recommended_values, known.visible);
        }
        checked.put(ConfigInfo { definition, value });
    }
}

/// The value of a setting that was sent as null: it is neither missing nor at its default.
fn null_value(name: &str, definition: Option<&ConfigKey>) -> ConfigValue {
    let refused = definition.and_then(|key| key.validator.as_ref()?.ensure_valid(name, None).err());
    let errors = refused.map(|why| format!("{name}: {why}"));
    ConfigValue { errors: errors.into_iter().collect(), ..ConfigValue::new(name) }
}

/// What a plug-in says of its settings, where nulls are nulls: it saw them as missing. What its own check adds stays.
pub fn with_nulls(
    definition: &ConfigDef,
    mut values: Vec<ConfigValue>,
    props: &Props,
    nulls: &[String],
) -> Vec<ConfigValue> {
    if nulls.is_empty() {
        return values;
    }
    let as_missing = definition.validate(props);
    for value in values.iter_mut().filter(|value| nulls.contains(&value.name)) {
        let missing = as_missing.iter().find(|missing| missing.name == value.name);
        let own = std::mem::take(&mut value.errors);
        let own = own.into_iter().filter(|error| !missing.is_some_and(|missing| missing.errors.contains(error)));
        let null = null_value(&value.name, definition.key(&value.name));
        (value.value, value.errors) = (null.value, null.errors.into_iter().chain(own).collect());
    }
    values
}

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
            let mut info = overridden(client, &full_name, name, text);
            if !worker.client_override_policy.allows(name) {
                let policy = worker.client_override_policy.name();
                info.value.errors.push(format!("{full_name}: the worker's override policy {policy} does not allow it"));
            }
            // One by one, so that the error stands where it belongs; what belongs together is checked below.
            let alone = Props::from([(name.clone(), text.clone())]);
            if !is_security(name)
                && info.value.errors.is_empty()
                && let Err(error) = client_settings(client, &alone)
            {
                info.value.errors.push(format!("{prefix}{error}"));
            }
            checked.put(info);
        }
        check_security(checked, client, &prefix, &overrides);
    }
}

/// An override with its definition; none for a setting that Java's client does not know. Where the text is of another type
/// Java answers 500; here it is an error of the setting.
fn overridden(client: ClientKind, full_name: &str, name: &str, text: &str) -> ConfigInfo {
    let mut value = ConfigValue::new(full_name);
    let Some(key) = definition(client, name) else {
        let shown = if is_secret(name) { HIDDEN } else { text };
        return ConfigInfo { definition: None, value: ConfigValue { value: Some(shown.to_owned()), ..value } };
    };
    match parse_type(key.setting_type, text) {
        Ok(parsed) => value.value = Some(if is_secret(name) { HIDDEN.to_owned() } else { parsed.to_string() }),
        Err(error) => value.errors.push(format!("{full_name}: {error}")),
    }
    let definition = Some(ConfigKey { name: full_name.to_owned(), ..key });
    ConfigInfo { definition, value }
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
