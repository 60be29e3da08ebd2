//! `/connector-plugins`.

use serde::Serialize;

use super::error::Answer;
use super::root::ok;
use super::routes::Call;
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
