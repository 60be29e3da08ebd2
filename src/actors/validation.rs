//! Checks a connector's configuration, before it is written or only to say what is wrong, and says which settings plug-ins
//! have. All of this is code of plug-ins, so it runs apart from all actors, and with a deadline.

use std::sync::Arc;
use std::time::Duration;

use connect_api::{ConfigDef, ConfigKey, ExactlyOnceSupport, Props};

use super::connector_pump;
use super::deps::Deps;
use super::handle::{ConfigInfos, HerderError, HerderResult};
use super::pump::{CALLS_MAX, CallError};
use crate::config::connector::{
    CONNECTOR_VERSION, ConnectorKind, ConnectorPlugin, NestedKind, NestedPlugin, PluginSettings, WorkerDefaults,
    null_error, refuse_version, shared_definition, validate_connector,
};
use crate::pipeline::{Failure, Phase, Topics};
use crate::plugins::version::VersionRange;
use crate::plugins::{LookupError, Plugin, PluginKind, Registry};
use crate::storage::records::{RawConfig, with_values};

/// The setting that names the connector's class.
const CONNECTOR_CLASS: &str = "connector.class";

/// How long a plug-in may take to check a configuration; below the time limit of the request, so that its answer says why.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(60);

/// The configuration to be written, or what is wrong with it.
pub async fn check(deps: &Arc<Deps>, config: RawConfig) -> HerderResult<RawConfig> {
    call(deps, move |deps| {
        let errors = errors(deps, &config)?;
        if errors.is_empty() { Ok(config) } else { Err(HerderError::BadRequest(listed(&errors))) }
    })
    .await
}

/// What is known of a configuration: the answer of `PUT /connector-plugins/{p}/config/validate`. What connect-node does not
/// do yet is no error here, since it says what Java says.
pub async fn validate(deps: &Arc<Deps>, plugin: &str, config: RawConfig) -> HerderResult<ConfigInfos> {
    // Java compares the ends of the names.
    let short = |name: &str| name.strip_suffix("Connector").filter(|rest| !rest.is_empty()).unwrap_or(name).to_owned();
    if let Some(Some(class)) = config.get(CONNECTOR_CLASS)
        && !short(class).ends_with(&short(plugin))
    {
        return Err(HerderError::BadRequest(format!(
            "the setting {CONNECTOR_CLASS} is {class:?}, which is not the plug-in {plugin:?} of the path"
        )));
    }
    call(deps, move |deps| validated(&deps.registry, &(&deps.config).into(), &config)).await
}

/// The settings of a plug-in of any kind, a connector's own first and then those that all connectors share.
pub async fn plugin_definition(deps: &Arc<Deps>, name: &str, version: Option<&str>) -> HerderResult<Vec<ConfigKey>> {
    let plugin = find_any(&deps.registry, name)?;
    if let Some(version) = version.filter(|version| ![plugin.version, "latest"].contains(version)) {
        return Err(HerderError::BadRequest(format!(
            "{} is not there in the version {version:?}; ask for {}, for latest or for none",
            plugin.class, plugin.version
        )));
    }
    call(deps, move |_| {
        let definition = definition(&plugin)?;
        let shared = match plugin.kind {
            PluginKind::Source(..) => shared_definition(ConnectorKind::Source, None),
            PluginKind::Sink(..) => shared_definition(ConnectorKind::Sink, None),
            _ => ConfigDef::new(),
        };
        let others = shared.keys().iter().filter(|key| definition.key(&key.name).is_none());
        Ok(definition.keys().iter().chain(others).cloned().collect())
    })
    .await
}

fn find_any(registry: &Registry, name: &str) -> HerderResult<Plugin> {
    if registry.find_task_class(name).is_ok() {
        return Err(HerderError::BadRequest(format!(
            "{name} is the class of a task, which has no settings of its own"
        )));
    }
    let found = [
        registry.find(name),
        registry.find_converter(name),
        registry.find_header_converter(name),
        registry.find_transformation(name),
        registry.find_predicate(name),
    ];
    for found in found {
        match found {
            Ok(plugin) => return Ok(*plugin),
            Err(LookupError::Unknown { .. }) => {}
            Err(error @ LookupError::Ambiguous { .. }) => return Err(HerderError::BadRequest(error.to_string())),
        }
    }
    Err(HerderError::NotFound(format!(
        "there is no plug-in {name:?}; GET /connector-plugins lists those that are installed"
    )))
}

/// Runs code of plug-ins apart from all actors.
async fn call<T: Send + 'static>(
    deps: &Arc<Deps>,
    code: impl FnOnce(&Deps) -> HerderResult<T> + Send + 'static,
) -> HerderResult<T> {
    let shared = deps.clone();
    let called = deps.pumps.call(VALIDATION_TIMEOUT, move || code(&shared)).await;
    called.unwrap_or_else(|error| {
        Err(match error {
            CallError::Panicked(panic) => failed(&panic.into_failure(Phase::Configure)),
            CallError::Late => HerderError::Internal(format!(
                "the plug-in did not finish checking the configuration within {} s",
                VALIDATION_TIMEOUT.as_secs()
            )),
            CallError::Busy => HerderError::Unavailable(format!(
                "{CALLS_MAX} configurations are being checked, or hang while they are, and this one waited in vain; try again later"
            )),
            CallError::Stopping => HerderError::Unavailable("the worker is stopping".into()),
        })
    })
}

/// Everything that is wrong with a configuration that is to be written, one sentence each.
fn errors(deps: &Deps, config: &RawConfig) -> HerderResult<Vec<String>> {
    let checked = validated(&deps.registry, &(&deps.config).into(), config)?;
    let mut errors: Vec<String> = checked.errors().map(str::to_owned).collect();
    // A plug-in's own setting may be null as far as validation goes, but there is no such configuration to start it with.
    let own =
        nulls(config).into_iter().map(|name| null_error(&name)).filter(|error| !checked.errors().any(|e| e == error));
    errors.extend(own);
    let props = with_values(config);
    errors.extend(not_built(&props));
    // Java's patterns can do more than those that are matched here.
    let plugin = props.get(CONNECTOR_CLASS).and_then(|class| deps.registry.find(class).ok());
    if errors.is_empty() && plugin.is_some_and(|plugin| matches!(plugin.kind, PluginKind::Sink(..))) {
        errors.extend(Topics::from_props(&props).err().map(|error| error.to_string()));
    }
    Ok(errors)
}

/// Checks a configuration. Calls code of plug-ins on this thread.
pub fn validated(registry: &Registry, worker: &WorkerDefaults, config: &RawConfig) -> HerderResult<ConfigInfos> {
    let props = with_values(config);
    let Some(class) = props.get(CONNECTOR_CLASS) else {
        let message = "connector.class is missing: name the class of the connector, for example FileStreamSource";
        return Err(HerderError::BadRequest(message.into()));
    };
    let plugin = registry.find(class);
    let plugin = plugin.map_err(|error| HerderError::BadRequest(format!("{CONNECTOR_CLASS}: {error}")))?;
    if let Some(wanted) = props.get(CONNECTOR_VERSION)
        && let Err(why) = is_there(plugin, wanted)
    {
        return Ok(refuse_version(&props, &nulls(config), &why, plugin.version));
    }
    let described = described(plugin, &props)?;
    Ok(validate_connector(described, &props, &nulls(config), &Installed(registry), worker))
}

/// Whether a plug-in has a version that fits. What was taken over runs all the same: that it ran elsewhere in another version is no reason to
/// stop it.
fn is_there(plugin: &Plugin, wanted: &str) -> Result<(), String> {
    let range = VersionRange::parse(wanted).map_err(|error| error.to_string())?;
    if range.contains(plugin.version) {
        return Ok(());
    }
    Err(format!("{} is there in version {}, which is not in {wanted:?}", plugin.class, plugin.version))
}

fn nulls(config: &RawConfig) -> Vec<String> {
    config.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.clone()).collect()
}

fn described(plugin: &Plugin, props: &Props) -> HerderResult<ConnectorPlugin> {
    let connector = connector_pump::make(plugin).map_err(|failure| failed(&failure))?;
    let kind = if matches!(plugin.kind, PluginKind::Source(..)) { ConnectorKind::Source } else { ConnectorKind::Sink };
    let (exactly_once_support, can_define_transaction_boundaries) = match plugin.kind {
        PluginKind::Source(make, _) => {
            let source = make();
            (source.exactly_once_support(props), source.can_define_transaction_boundaries(props))
        }
        _ => (ExactlyOnceSupport::Unknown, false),
    };
    let (definition, values) = (connector.config(), connector.validate(props));
    let version = plugin.version;
    Ok(ConnectorPlugin { kind, version, definition, values, exactly_once_support, can_define_transaction_boundaries })
}

/// The settings that a plug-in itself defines.
fn definition(plugin: &Plugin) -> HerderResult<ConfigDef> {
    Ok(match plugin.kind {
        PluginKind::Converter(make) => make().config(),
        PluginKind::HeaderConverter(make) => make().config(),
        PluginKind::Transformation(make) => make().config(),
        PluginKind::Predicate(make) => make().config(),
        PluginKind::Source(..) | PluginKind::Sink(..) => {
            connector_pump::make(plugin).map_err(|failure| failed(&failure))?.config()
        }
    })
}

/// The registry as the validation sees it.
struct Installed<'a>(&'a Registry);

impl PluginSettings for Installed<'_> {
    fn find(&self, kind: NestedKind, name: &str) -> Result<NestedPlugin, String> {
        let found: Result<&Plugin, LookupError> = match kind {
            NestedKind::Converter => self.0.find_converter(name),
            NestedKind::HeaderConverter => self.0.find_header_converter(name),
            NestedKind::Transformation => self.0.find_transformation(name),
            NestedKind::Predicate => self.0.find_predicate(name),
        };
        let plugin = found.map_err(|error| error.to_string())?;
        let definition = definition(plugin).map_err(|error| error.to_string())?;
        Ok(NestedPlugin { class: plugin.class.to_owned(), definition })
    }

    fn classes(&self, kind: NestedKind) -> Vec<String> {
        let fits = |plugin: &&Plugin| match kind {
            NestedKind::Converter => matches!(plugin.kind, PluginKind::Converter(_)),
            NestedKind::HeaderConverter => matches!(plugin.kind, PluginKind::HeaderConverter(_)),
            NestedKind::Transformation => matches!(plugin.kind, PluginKind::Transformation(_)),
            NestedKind::Predicate => matches!(plugin.kind, PluginKind::Predicate(_)),
        };
        let mut classes: Vec<String> = self.0.iter().filter(fits).map(|plugin| plugin.class.to_owned()).collect();
        // As Java lists them.
        classes.sort();
        classes
    }
}

/// Settings of Kafka Connect that change what is delivered and are not built yet, with the values that ask for nothing. A
/// connector that relies on them must not run as if they were there.
const NOT_BUILT: &[(&str, &[&str])] = &[
    ("consumer.override.bootstrap.servers", &[""]),
    ("errors.tolerance", &["", "none"]),
    ("errors.retry.timeout", &["", "0"]),
    ("errors.deadletterqueue.topic.name", &[""]),
    ("exactly.once.support", &["", "requested"]),
    ("transaction.boundary", &["", "poll"]),
    ("offsets.storage.topic", &[""]),
    ("topic.creation.groups", &[""]),
];

/// The same for settings that change only what is logged: a connector runs without them.
const NOT_LOGGED: &[(&str, &[&str])] =
    &[("errors.log.enable", &["", "false"]), ("errors.log.include.messages", &["", "false"])];

/// The settings that ask for something.
fn asked(props: &Props, settings: &[(&'static str, &[&str])]) -> Vec<&'static str> {
    let asks = |(name, neutral): &&(&'static str, &[&str])| {
        props.get(*name).is_some_and(|value| !neutral.iter().any(|neutral| value.trim().eq_ignore_ascii_case(neutral)))
    };
    settings.iter().filter(asks).map(|(name, _)| *name).collect()
}

/// Settings that have no effect yet, and of which only the log would tell.
pub fn without_effect(props: &Props) -> Vec<&'static str> {
    asked(props, NOT_LOGGED)
}

/// One sentence for each setting of [`NOT_BUILT`] that asks for something.
pub fn not_built(props: &Props) -> Vec<String> {
    let creation = props.keys().map(String::as_str).filter(|name| name.starts_with("topic.creation.default."));
    asked(props, NOT_BUILT)
        .into_iter()
        .chain(creation)
        .map(|name| {
            format!("{name} is not supported by this version of connect-node, and it would change what is delivered")
        })
        .collect()
}

/// The answer says what failed; the backtrace is for the log.
fn failed(failure: &Failure) -> HerderError {
    tracing::error!(trace = failure.trace(), "code of a plug-in failed while a configuration was checked");
    HerderError::Internal(format!(
        "code of the plug-in failed while its configuration was checked: {}",
        failure.message
    ))
}

fn listed(errors: &[String]) -> String {
    let mut text = format!("Connector configuration is invalid and contains the following {} error(s):", errors.len());
    for error in errors {
        text.push('\n');
        text.push_str(error);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn props(pairs: &[(&str, &str)]) -> Props {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_not_built_is_named_and_what_asks_for_nothing_is_not() {
        assert!(not_built(&props(&[("errors.tolerance", " None "), ("topics", "a")])).is_empty());
        let asked = props(&[("errors.tolerance", "all"), ("topic.creation.default.partitions", "3")]);
        let errors = not_built(&asked);
        assert_eq!(errors.len(), 2);
        assert!(errors[0].starts_with("errors.tolerance "), "{errors:?}");
    }
}
