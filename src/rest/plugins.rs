//! `/connector-plugins`.

use connect_api::{ConfigKey, ConfigValue};
use serde::Serialize;

use super::body;
use super::error::Answer;
use super::root::ok;
use super::routes::Call;
use crate::actors::handle::{ConfigInfo, HerderRequest};
use crate::plugins::{Plugin, PluginKind};

/// One entry of the listing (Java: `PluginInfo`).
#[derive(Serialize)]
struct PluginInfo {
    class: &'static str,
    #[serde(rename = "type")]
    plugin_type: &'static str,
    version: &'static str,
}

/// The installed connectors; with `?connectorsOnly=false` all plug-ins (KIP-769).
pub(super) async fn list(call: Call) -> Answer {
    ok(&listing(call.state.registry.iter(), call.query.flag("connectorsOnly", true)))
}

/// In Java's order: by type, in each type by class.
fn listing<'a>(plugins: impl Iterator<Item = &'a Plugin>, connectors_only: bool) -> Vec<PluginInfo> {
    let mut ranked: Vec<_> = plugins.map(|plugin| (rank(&plugin.kind), plugin)).collect();
    ranked.retain(|((_, _, connector), _)| *connector || !connectors_only);
    ranked.sort_by_key(|((place, _, _), plugin)| (*place, plugin.class));
    ranked
        .into_iter()
        .map(|((_, plugin_type, _), plugin)| PluginInfo { class: plugin.class, plugin_type, version: plugin.version })
        .collect()
}

/// Place in the listing, name of the type, whether it is a connector.
fn rank(kind: &PluginKind) -> (u8, &'static str, bool) {
    match kind {
        PluginKind::Sink(..) => (0, "sink", true),
        PluginKind::Source(..) => (1, "source", true),
        PluginKind::Transformation(..) => (2, "transformation", false),
        PluginKind::Predicate(..) => (3, "predicate", false),
        PluginKind::Converter(..) => (4, "converter", false),
        PluginKind::HeaderConverter(..) => (5, "header_converter", false),
    }
}

/// A setting as REST shows it (Java: `ConfigKeyInfo`).
#[derive(Serialize)]
struct Definition<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    setting_type: &'static str,
    required: bool,
    default_value: Option<String>,
    importance: &'static str,
    documentation: &'a str,
    group: Option<&'a str>,
    order_in_group: i32,
    width: &'static str,
    display_name: &'a str,
    dependents: &'a [String],
}

impl<'a> From<&'a ConfigKey> for Definition<'a> {
    fn from(key: &'a ConfigKey) -> Self {
        Definition {
            name: &key.name,
            setting_type: key.setting_type.as_str(),
            required: key.is_required(),
            default_value: key.default_text(),
            importance: key.importance.as_str(),
            documentation: &key.documentation,
            group: key.group.as_deref(),
            order_in_group: key.order_in_group,
            width: key.width.as_str(),
            display_name: &key.display_name,
            dependents: &key.dependents,
        }
    }
}

/// The value of a setting as REST shows it (Java: `ConfigValueInfo`).
#[derive(Serialize)]
struct CheckedValue<'a> {
    name: &'a str,
    value: Option<&'a str>,
    recommended_values: &'a [String],
    errors: &'a [String],
    visible: bool,
}

impl<'a> From<&'a ConfigValue> for CheckedValue<'a> {
    fn from(value: &'a ConfigValue) -> Self {
        CheckedValue {
            name: &value.name,
            value: value.value.as_deref(),
            recommended_values: &value.recommended_values,
            errors: &value.errors,
            visible: value.visible,
        }
    }
}

/// One entry of a validation (Java: `ConfigInfo`).
#[derive(Serialize)]
struct CheckedSetting<'a> {
    definition: Option<Definition<'a>>,
    value: CheckedValue<'a>,
}

impl<'a> From<&'a ConfigInfo> for CheckedSetting<'a> {
    fn from(info: &'a ConfigInfo) -> Self {
        CheckedSetting { definition: info.definition.as_ref().map(Definition::from), value: (&info.value).into() }
    }
}

/// The settings of one plug-in of any kind (KIP-769); `?version=` asks for one version (KIP-891).
pub(super) async fn config(call: Call) -> Answer {
    let (plugin, version) = (call.plugin().to_owned(), call.query.all("version").next().map(str::to_owned));
    let keys = call.state.herder.ask(|reply| HerderRequest::PluginDefinition(plugin, version, reply)).await?;
    ok(&keys.iter().map(Definition::from).collect::<Vec<_>>())
}

/// What is wrong with a configuration, and what all its settings are. Errors of the configuration are no errors of the request.
pub(super) async fn validate(call: Call) -> Answer {
    #[derive(Serialize)]
    struct Checked<'a> {
        name: &'a str,
        error_count: usize,
        groups: &'a [String],
        configs: Vec<CheckedSetting<'a>>,
    }
    let (plugin, config) = (call.plugin().to_owned(), body::connector_config(&call.body)?.0);
    let infos = call.state.herder.ask(|reply| HerderRequest::Validate { plugin, config, reply }).await?;
    let configs = infos.configs.iter().map(CheckedSetting::from).collect();
    ok(&Checked { name: &infos.name, error_count: infos.error_count, groups: &infos.groups, configs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_come_before_sources_and_connectors_before_the_rest() {
        let plugin = |class, kind| Plugin { class, task_class: None, version: "1", kind };
        let plugins = [
            plugin("h", PluginKind::HeaderConverter(|| unreachable!())),
            plugin("c", PluginKind::Converter(|| unreachable!())),
            plugin("p", PluginKind::Predicate(|| unreachable!())),
            plugin("t", PluginKind::Transformation(|| unreachable!())),
            plugin("so", PluginKind::Source(|| unreachable!(), || unreachable!())),
            plugin("si2", PluginKind::Sink(|| unreachable!(), || unreachable!())),
            plugin("si1", PluginKind::Sink(|| unreachable!(), || unreachable!())),
        ];
        let names = |only| listing(plugins.iter(), only).iter().map(|p| (p.plugin_type, p.class)).collect::<Vec<_>>();
        let connectors = [("sink", "si1"), ("sink", "si2"), ("source", "so")];
        let others = [("transformation", "t"), ("predicate", "p"), ("converter", "c"), ("header_converter", "h")];
        assert_eq!(names(true), connectors);
        assert_eq!(names(false), [&connectors[..], &others[..]].concat());
    }
}
