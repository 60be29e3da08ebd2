//! The settings that all connectors share, and the check of a whole connector configuration (Java: `ConnectorConfig`,
//! `SourceConnectorConfig`, `SinkConnectorConfig`, `AbstractHerder.validateConnectorConfig`).
//!
//! Nothing here knows which plug-ins are installed: [`PluginSettings`] answers that.

mod definitions;
mod nested;
mod restart;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use connect_api::{ConfigDef, ConfigKey, ConfigValue, ExactlyOnceSupport, Props};

use super::WorkerConfig;
use super::override_policy::OverridePolicy;

pub use definitions::shared_definition;
pub use restart::{OnFailure, definition as restart_definition};
pub use rules::null_error;

/// The setting that asks for versions of a connector's plug-in.
pub const CONNECTOR_VERSION: &str = "connector.plugin.version";

/// Whether a connector reads from elsewhere or writes to elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectorKind {
    /// It reads from elsewhere.
    Source,
    /// It writes to elsewhere.
    Sink,
}

/// A kind of plug-in that a connector configuration may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NestedKind {
    /// Of keys and values.
    Converter,
    /// Of headers.
    HeaderConverter,
    /// In `transforms`.
    Transformation,
    /// In `predicates`.
    Predicate,
}

/// What is known of a plug-in that a configuration names.
pub struct NestedPlugin {
    /// Its full class name.
    pub class: String,
    /// Its settings.
    pub definition: ConfigDef,
}

/// Which plug-ins are installed.
pub trait PluginSettings {
    /// The plug-in that this name or alias means; the error says why there is none.
    fn find(&self, kind: NestedKind, name: &str) -> Result<NestedPlugin, String>;

    /// The full class names of all plug-ins of a kind.
    fn classes(&self, kind: NestedKind) -> Vec<String>;
}

/// What the worker's own configuration has to do with a connector's.
#[derive(Debug, Clone, Default)]
pub struct WorkerDefaults {
    /// Class of the converter that is used when the connector names none.
    pub key_converter: Option<String>,
    /// The same for values.
    pub value_converter: Option<String>,
    /// The same for headers.
    pub header_converter: Option<String>,
    /// A sink may not read with this group.
    pub group_id: String,
    /// Whether sources may write transactions.
    pub exactly_once_enabled: bool,
    /// Which client settings may be overridden.
    pub client_override_policy: OverridePolicy,
}

impl From<&WorkerConfig> for WorkerDefaults {
    fn from(config: &WorkerConfig) -> Self {
        WorkerDefaults {
            key_converter: Some(config.key_converter.class.clone()),
            value_converter: Some(config.value_converter.class.clone()),
            header_converter: Some(config.header_converter.class.clone()),
            group_id: config.group_id.clone(),
            exactly_once_enabled: config.exactly_once_source == super::worker::ExactlyOnceSource::Enabled,
            client_override_policy: config.client_override_policy.clone(),
        }
    }
}

/// The connector that is configured: what its plug-in says.
pub struct ConnectorPlugin {
    /// Source or sink.
    pub kind: ConnectorKind,
    /// In which it is there.
    pub version: &'static str,
    /// Its own settings.
    pub definition: ConfigDef,
    /// What its own `validate` says of the configuration.
    pub values: Vec<ConfigValue>,
    /// What a source says of exactly-once delivery; `Unknown` for sinks.
    pub exactly_once_support: ExactlyOnceSupport,
    /// Whether a source can say where transactions end.
    pub can_define_transaction_boundaries: bool,
}

/// One setting of a checked configuration.
#[derive(Debug, Clone)]
pub struct ConfigInfo {
    /// Its definition; `None` when the plug-in returned a value for a setting that it does not define.
    pub definition: Option<ConfigKey>,
    /// Its value and what is wrong with it.
    pub value: ConfigValue,
}

/// A checked configuration: the answer of `PUT /connector-plugins/{p}/config/validate`.
#[derive(Debug, Clone)]
pub struct ConfigInfos {
    /// `connector.class` as it was written.
    pub name: String,
    /// How many errors there are, over all settings.
    pub error_count: usize,
    /// All headings.
    pub groups: Vec<String>,
    /// All settings: the shared ones, the plug-in's own, those of nested plug-ins.
    pub configs: Vec<ConfigInfo>,
}

impl ConfigInfos {
    /// Everything that is wrong, one sentence each; none when the connector may be created.
    pub fn errors(&self) -> impl Iterator<Item = &str> {
        self.configs.iter().flat_map(|info| &info.value.errors).map(String::as_str)
    }
}

/// Checks a whole connector configuration. The caller has found the plug-in by `connector.class` already. `nulls` are
/// settings that were sent as null; plug-ins see them as missing.
pub fn validate_connector(
    plugin: ConnectorPlugin,
    props: &Props,
    nulls: &[String],
    plugins: &dyn PluginSettings,
    worker: &WorkerDefaults,
) -> ConfigInfos {
    let shared = shared_definition(plugin.kind, Some(worker));
    let mut checked = Checked::default();
    checked.add(&shared, shared.validate(props));
    checked.version_is(plugin.version);
    nested::check_converters(&mut checked, props, plugins);
    nested::check_transforms(&mut checked, props, plugins);
    nested::check_predicates(&mut checked, props, plugins);
    restart::check(&mut checked, props);
    rules::refuse_nulls(&mut checked, nulls);
    checked.add(&plugin.definition, rules::with_nulls(&plugin.definition, plugin.values, props, nulls));
    match plugin.kind {
        ConnectorKind::Sink => rules::check_sink(&mut checked, props, worker),
        ConnectorKind::Source => rules::check_source(
            &mut checked,
            props,
            worker,
            plugin.exactly_once_support,
            plugin.can_define_transaction_boundaries,
        ),
    }
    rules::check_client_overrides(&mut checked, plugin.kind, props, worker);
    checked.into_infos(props.get("connector.class").cloned().unwrap_or_default())
}

/// The answer where the plug-in is not there in the version that `connector.plugin.version` asks for: only the settings that all connectors
/// share are checked (Java: `AbstractHerder.validateConnectorConfig`, KIP-891). `there` is the version that is there.
pub fn refuse_version(props: &Props, nulls: &[String], why: &str, there: &str) -> ConfigInfos {
    let shared = definitions::any_definition(None);
    let mut checked = Checked::default();
    checked.add(&shared, shared.validate(props));
    restart::check(&mut checked, props);
    rules::refuse_nulls(&mut checked, nulls);
    checked.error("connector.class", why);
    checked.error(CONNECTOR_VERSION, why);
    checked.version_is(there);
    checked.into_infos(props.get("connector.class").cloned().unwrap_or_default())
}

/// What was found so far. A later definition or value of the same name replaces the earlier one, but keeps its place.
#[derive(Default)]
struct Checked {
    order: Vec<String>,
    infos: BTreeMap<String, ConfigInfo>,
    groups: Vec<String>,
}

impl Checked {
    fn add(&mut self, definition: &ConfigDef, values: Vec<ConfigValue>) {
        for group in definition.groups() {
            if !self.groups.contains(&group) {
                self.groups.push(group);
            }
        }
        for mut value in values {
            let key = definition.key(&value.name).cloned();
            if key.is_none() && value.errors.is_empty() {
                value.errors.push(format!("{} is returned by validation, but not defined", value.name));
            }
            self.put(ConfigInfo { definition: key, value });
        }
    }

    fn put(&mut self, info: ConfigInfo) {
        let name = info.value.name.clone();
        if !self.infos.contains_key(&name) {
            self.order.push(name.clone());
        }
        self.infos.insert(name, info);
    }

    fn version_is(&mut self, version: &str) {
        if let Some(value) = self.value_mut(CONNECTOR_VERSION) {
            value.value.get_or_insert_with(|| version.to_owned());
            value.recommended_values = vec![version.to_owned()];
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.infos.get(name)?.value.value.as_deref()
    }

    fn value_mut(&mut self, name: &str) -> Option<&mut ConfigValue> {
        self.infos.get_mut(name).map(|info| &mut info.value)
    }

    fn error(&mut self, name: &str, why: impl Into<String>) {
        if let Some(value) = self.value_mut(name) {
            value.errors.push(format!("{name}: {}", why.into()));
        }
    }

    fn into_infos(mut self, name: String) -> ConfigInfos {
        let configs: Vec<ConfigInfo> = self.order.iter().filter_map(|name| self.infos.remove(name)).collect();
        let error_count = configs.iter().map(|info| info.value.errors.len()).sum();
        ConfigInfos { name, error_count, groups: self.groups, configs }
    }
}
