//! Checks a connector's configuration before it is written. Runs code of the plug-in, so it runs apart from all actors, and with a
//! deadline.

use std::sync::Arc;
use std::time::Duration;

use connect_api::{ExactlyOnceSupport, Props};

use super::connector_pump;
use super::deps::Deps;
use super::handle::{HerderError, HerderResult};
use super::supervision;
use crate::config::WorkerConfig;
use crate::config::connector::{
    ConnectorKind, ConnectorPlugin, NestedKind, NestedPlugin, PluginSettings, WorkerDefaults, validate_connector,
};
use crate::pipeline::{Failure, Phase, Topics};
use crate::plugins::{LookupError, Plugin, PluginKind, Registry};
use crate::storage::records::RawConfig;

/// How long a plug-in may take to check a configuration; below the time limit of the request, so that its answer says why.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(60);

/// The configuration to be written, or what is wrong with it.
pub async fn check(deps: &Arc<Deps>, config: RawConfig) -> HerderResult<RawConfig> {
    let validating = deps.clone();
    let validate = move || {
        let errors = errors(&validating.registry, &validating.config, &config)?;
        if errors.is_empty() { Ok(config) } else { Err(HerderError::BadRequest(listed(&errors))) }
    };
    let validation = deps.pumps.runtime().spawn_blocking(move || supervision::catch(validate));
    match tokio::time::timeout(VALIDATION_TIMEOUT, validation).await {
        Ok(Ok(Ok(checked))) => checked,
        Ok(Ok(Err(panic))) => Err(failed(&panic.into_failure(Phase::Configure))),
        Ok(Err(_)) => Err(HerderError::Internal("the validation was cancelled; try again".into())),
        Err(_) => Err(HerderError::Internal(format!(
            "the connector did not finish checking its configuration within {} s",
            VALIDATION_TIMEOUT.as_secs()
        ))),
    }
}

/// Everything that is wrong with a configuration, one sentence each.
fn errors(registry: &Registry, worker: &WorkerConfig, config: &RawConfig) -> HerderResult<Vec<String>> {
    let nulls = config.iter().filter(|(_, value)| value.is_none());
    let mut errors: Vec<_> =
        nulls.map(|(name, _)| format!("{name} is null; leave the setting out or give it a text")).collect();
    let props: Props = config.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
    let Some(class) = props.get("connector.class") else {
        let message = "connector.class is missing: name the class of the connector, for example FileStreamSource";
        return Err(HerderError::BadRequest(message.into()));
    };
    let plugin = registry.find(class).map_err(|error| HerderError::BadRequest(format!("connector.class: {error}")))?;
    let checked =
        validate_connector(described(plugin, &props)?, &props, &Installed(registry), &WorkerDefaults::from(worker));
    errors.extend(checked.errors().map(str::to_owned));
    errors.extend(not_built(&props));
    // Java's patterns can do more than those that are matched here.
    if errors.is_empty() && matches!(plugin.kind, PluginKind::Sink(..)) {
        errors.extend(Topics::from_props(&props).err().map(|error| error.to_string()));
    }
    Ok(errors)
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
    Ok(ConnectorPlugin { kind, definition, values, exactly_once_support, can_define_transaction_boundaries })
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
        let definition = match plugin.kind {
            PluginKind::Converter(make) => make().config(),
            PluginKind::HeaderConverter(make) => make().config(),
            PluginKind::Transformation(make) => make().config(),
            PluginKind::Predicate(make) => make().config(),
            PluginKind::Source(..) | PluginKind::Sink(..) => return Err(format!("{name} is a connector")),
        };
        Ok(NestedPlugin { class: plugin.class.to_owned(), definition })
    }

    fn classes(&self, kind: NestedKind) -> Vec<String> {
        let fits = |plugin: &&Plugin| match kind {
            NestedKind::Converter => matches!(plugin.kind, PluginKind::Converter(_)),
            NestedKind::HeaderConverter => matches!(plugin.kind, PluginKind::HeaderConverter(_)),
            NestedKind::Transformation => matches!(plugin.kind, PluginKind::Transformation(_)),
            NestedKind::Predicate => matches!(plugin.kind, PluginKind::Predicate(_)),
        };
        self.0.iter().filter(fits).map(|plugin| plugin.class.to_owned()).collect()
    }
}

/// Settings of Kafka Connect that change what is delivered and are not built yet, with the values that ask for nothing. A
/// connector that relies on them must not run as if they were there.
const NOT_BUILT: &[(&str, &[&str])] = &[
    ("errors.tolerance", &["", "none"]),
    ("errors.retry.timeout", &["", "0"]),
    ("errors.deadletterqueue.topic.name", &[""]),
    ("exactly.once.support", &["", "requested"]),
    ("transaction.boundary", &["", "poll"]),
    ("offsets.storage.topic", &[""]),
    ("topic.creation.groups", &[""]),
];

/// One sentence for each setting of [`NOT_BUILT`] that asks for something.
pub fn not_built(props: &Props) -> Vec<String> {
    let asked = NOT_BUILT.iter().filter(|(name, neutral)| {
        props.get(*name).is_some_and(|value| !neutral.iter().any(|neutral| value.trim().eq_ignore_ascii_case(neutral)))
    });
    let named = asked.map(|(name, _)| *name);
    let creation = props.keys().map(String::as_str).filter(|name| name.starts_with("topic.creation.default."));
    named
        .chain(creation)
        .map(|name| {
            format!("{name} is not supported by this version of connect-node, and it would change what is delivered")
        })
        .collect()
}

fn failed(failure: &Failure) -> HerderError {
    HerderError::Internal(format!("the validation {}", failure.trace()))
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
