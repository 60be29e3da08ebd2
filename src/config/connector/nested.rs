//! Plug-ins that a connector configuration names: converters, transformations, predicates. Their settings are checked along.

use connect_api::config_def::ParsedValues;
use connect_api::{ConfigDef, ConfigKey, Importance, ParsedValue, Props, Recommender, Type, Width};

use super::{Checked, NestedKind, NestedPlugin, PluginSettings};
use crate::config::worker::with_prefix;

/// Converters that the connector itself names; the worker's own are checked when it starts.
pub fn check_converters(checked: &mut Checked, props: &Props, plugins: &dyn PluginSettings) {
    for (name, kind, converter_type) in [
        ("key.converter", NestedKind::Converter, "key"),
        ("value.converter", NestedKind::Converter, "value"),
        ("header.converter", NestedKind::HeaderConverter, "header"),
    ] {
        if let Some(value) = checked.value_mut(name) {
            value.recommended_values = plugins.classes(kind);
        }
        let Some(class) = checked.value(name).map(str::to_owned) else { continue };
        let plugin = match plugins.find(kind, &class) {
            Ok(plugin) => plugin,
            Err(why) => {
                refuse_class(checked, name, &class, &why, &plugins.classes(kind));
                continue;
            }
        };
        if let Some(value) = checked.value_mut(name) {
            value.value = Some(plugin.class);
        }
        if props.contains_key(name) {
            let mut own = with_prefix(props, &format!("{name}."));
            own.entry("converter.type".to_owned()).or_insert_with(|| converter_type.to_owned());
            own.remove("plugin.version");
            add_prefixed(checked, &format!("{name}."), &plugin.definition, &own);
        }
    }
}

/// The settings of a converter keep their own headings.
fn add_prefixed(checked: &mut Checked, prefix: &str, definition: &ConfigDef, own: &Props) {
    for group in definition.groups() {
        if !checked.groups.contains(&group) {
            checked.groups.push(group);
        }
    }
    for mut value in definition.validate(own) {
        let key = definition.key(&value.name).cloned().map(|mut key| {
            key.name.insert_str(0, prefix);
            key
        });
        value.name.insert_str(0, prefix);
        checked.put(super::ConfigInfo { definition: key, value });
    }
}

/// A class that does not exist cannot be parsed in Java, so its value is null; one that exists and is no such plug-in keeps
/// it. Here only two kinds of the latter are known: those of the JDK, and the outer ones of nested plug-ins.
fn refuse_class(checked: &mut Checked, name: &str, class: &str, why: &str, classes: &[String]) {
    let nested_in = |plugin: &String| plugin.strip_prefix(class).is_some_and(|rest| rest.starts_with('$'));
    if let Some(value) = checked.value_mut(name) {
        let exists = class.starts_with("java.") || classes.iter().any(nested_in);
        value.value = exists.then(|| class.to_owned());
    }
    checked.error(name, why);
}

/// `transforms.<alias>.*`.
pub fn check_transforms(checked: &mut Checked, props: &Props, plugins: &dyn PluginSettings) {
    for alias in aliases(props, "transforms") {
        let prefix = format!("transforms.{alias}.");
        let group = format!("Transforms: {alias}");
        let with_predicate = |definition: ConfigDef| {
            definition
                .try_define(
                    ConfigKey::new(
                        "predicate",
                        Type::String,
                        Importance::Medium,
                        "The predicate that chooses the records.",
                    )
                    .optional(),
                )?
                .try_define(
                    ConfigKey::new("negate", Type::Boolean, Importance::Medium, "Whether the other records are meant.")
                        .default_value(false),
                )
        };
        let found = props
            .get(&format!("{prefix}type"))
            .map(|class| plugins.find(NestedKind::Transformation, class))
            .map(|found| {
                let plugin = found?;
                let definition = with_predicate(plugin.definition).map_err(|error| error.to_string())?;
                Ok(NestedPlugin { definition, ..plugin })
            });
        add_nested(checked, props, &prefix, &group, plugins.classes(NestedKind::Transformation), found);
        let given = |setting: &str| props.contains_key(&format!("{prefix}{setting}"));
        if given("negate") && !given("predicate") {
            checked.error(&format!("{prefix}type"), "negate says nothing without a predicate");
        }
    }
}

/// `predicates.<alias>.*`.
pub fn check_predicates(checked: &mut Checked, props: &Props, plugins: &dyn PluginSettings) {
    for alias in aliases(props, "predicates") {
        let prefix = format!("predicates.{alias}.");
        let found = props.get(&format!("{prefix}type")).map(|class| plugins.find(NestedKind::Predicate, class));
        let classes = plugins.classes(NestedKind::Predicate);
        add_nested(checked, props, &prefix, &format!("Predicates: {alias}"), classes, found);
    }
}

/// The names in a list, each once; none when the list is wrong beyond repetitions.
fn aliases(props: &Props, list: &str) -> Vec<String> {
    let Some(Ok(ParsedValue::List(mut names))) =
        props.get(list).map(|text| connect_api::config_def::parse_type(Type::List, text))
    else {
        return Vec::new();
    };
    names.retain(|name| !name.is_empty());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

struct Classes(Vec<String>);

impl Recommender for Classes {
    fn valid_values(&self, _name: &str, _parsed: &ParsedValues) -> Vec<String> {
        self.0.clone()
    }
}

/// `type`, `plugin.version` and, when the class is usable, its own settings.
fn add_nested(
    checked: &mut Checked,
    props: &Props,
    prefix: &str,
    group: &str,
    classes: Vec<String>,
    found: Option<Result<NestedPlugin, String>>,
) {
    let type_name = format!("{prefix}type");
    let definition = ConfigDef::new()
        .define(
            ConfigKey::new(&type_name, Type::Class, Importance::High, "The class of the plug-in.")
                .recommender(Classes(classes.clone()))
                .group(group, 0, Width::Long, "Class"),
        )
        .define(
            ConfigKey::new(
                &format!("{prefix}plugin.version"),
                Type::String,
                Importance::High,
                "Has no effect: each plug-in is there in one version.",
            )
            .optional()
            .group(group, 1, Width::Long, "Plug-in version"),
        );
    let embedded = |plugin: NestedPlugin| match definition.clone().embed(prefix, group, 2, &plugin.definition) {
        Ok(definition) => (definition, Ok(plugin.class)),
        Err(error) => (definition.clone(), Err(error.to_string())),
    };
    let (definition, class) = match found {
        Some(Ok(plugin)) => embedded(plugin),
        Some(Err(why)) => (definition, Err(why)),
        // The missing type is an error of its own.
        None => (definition, Ok(String::new())),
    };
    checked.add(&definition, definition.validate(props));
    match class {
        Ok(class) if class.is_empty() => {}
        Ok(class) => {
            if let Some(value) = checked.value_mut(&type_name) {
                value.value = Some(class);
            }
        }
        // An unparsable name already has its error.
        Err(why) => {
            if let Some(class) = checked.value(&type_name).map(str::to_owned) {
                refuse_class(checked, &type_name, &class, &why, &classes);
            }
        }
    }
}
