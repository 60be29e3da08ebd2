//! Vectors of validation: whole connector configurations, and single texts of each type.

use connect_api::config_def::parse_type;
use connect_api::{ConfigDef, ConfigKey, Importance, ParsedValue, Type};
use connect_node::actors::handle::{ConfigInfo, ConfigInfos};
use connect_node::actors::validation::validated;
use connect_node::config::connector::WorkerDefaults;
use connect_node::config::override_policy::OverridePolicy;
use connect_node::plugins::Registry;
use serde_json::{Value as Json, json};

/// As the recording worker was set up.
fn worker() -> WorkerDefaults {
    let json = || Some("org.apache.kafka.connect.json.JsonConverter".to_owned());
    WorkerDefaults {
        key_converter: json(),
        value_converter: json(),
        header_converter: Some("org.apache.kafka.connect.storage.SimpleHeaderConverter".into()),
        group_id: "connect-cluster".into(),
        exactly_once_enabled: false,
        client_override_policy: OverridePolicy::All,
    }
}

/// A connector configuration. Where Java throws, any error will do: an error of the setting is better than none of the request.
pub fn check(vector: &Json) -> Result<(), String> {
    let config = vector["config"].as_object().into_iter().flatten();
    let config = config.map(|(name, text)| (name.clone(), text.as_str().map(str::to_owned))).collect();
    let expect = &vector["expect"];
    match (validated(&Registry::built_in(), &worker(), &config), expect["error"].is_string()) {
        (Err(_), true) => Ok(()),
        (Err(error), false) => Err(error.to_string()),
        (Ok(infos), true) if infos.error_count > 0 => Ok(()),
        (Ok(_), true) => Err(format!("expected {expect}, but nothing is wrong")),
        (Ok(infos), false) => {
            let different = differences(expect, &infos);
            if different.is_empty() { Ok(()) } else { Err(different.join("; ")) }
        }
    }
}

/// Versions of nested plug-ins belong to the JVM: each is here in one version, and asking for another has no effect.
fn is_isolation(name: &str) -> bool {
    name.ends_with(".plugin.version") && name != "connector.plugin.version"
}

fn differences(expect: &Json, infos: &ConfigInfos) -> Vec<String> {
    let mut different = Vec::new();
    if expect["name"] != infos.name {
        different.push(format!("name {:?}, not {}", infos.name, expect["name"]));
    }
    // Those of converters come in the order of a hash map.
    let sorted = |groups: &Json| {
        let mut groups: Vec<String> = groups.as_array().into_iter().flatten().map(Json::to_string).collect();
        groups.sort();
        groups
    };
    if sorted(&expect["groups"]) != sorted(&json!(infos.groups)) {
        different.push(format!("groups {:?}, not {}", infos.groups, expect["groups"]));
    }
    let recorded: Vec<&Json> = expect["configs"].as_array().into_iter().flatten().collect();
    let is = |config: &Json, info: &ConfigInfo| config["name"] == info.value.name.as_str();
    let compared = infos.configs.iter().filter(|info| !is_isolation(&info.value.name));
    for info in compared.clone().filter(|info| !recorded.iter().any(|config| is(config, info))) {
        different.push(format!("{} is not recorded", info.value.name));
    }
    for config in recorded.into_iter().filter(|config| !is_isolation(config["name"].as_str().unwrap_or_default())) {
        match compared.clone().find(|info| is(config, info)) {
            Some(info) => different.extend(setting_differences(config, info)),
            None => different.push(format!("{} is missing", config["name"])),
        }
    }
    different
}

fn setting_differences(expect: &Json, info: &ConfigInfo) -> Vec<String> {
    let ConfigInfo { definition, value } = info;
    let mut found = json!({
        "name": value.name, "value": value.value, "errors": value.errors.len(), "visible": value.visible,
        "unknown_key": definition.is_none(),
    });
    // Recorded only where it is not the usual.
    let mut expect = expect.clone();
    let usual = json!({"visible": true, "unknown_key": false});
    for (field, usual) in usual.as_object().into_iter().flatten() {
        if expect[field].is_null() {
            expect[field] = usual.clone();
        }
    }
    // There may be more plug-ins here.
    let mut recommended = value.recommended_values.clone();
    if let Some(recorded) = expect["recommended_values"].as_array() {
        recommended.retain(|class| recorded.iter().any(|recorded| recorded == class.as_str()));
        found["recommended_values"] = json!(recommended);
    }
    if let (Some(recorded), Some(key)) = (expect["definition"].as_object(), definition) {
        let shown = json!({
            "type": key.setting_type.as_str(), "required": key.is_required(), "default_value": key.default_text(),
            "importance": key.importance.as_str(), "group": key.group, "order_in_group": key.order_in_group,
            "width": key.width.as_str(), "dependents": key.dependents,
        });
        found["definition"] = recorded.keys().map(|field| (field.clone(), shown[field].clone())).collect();
    }
    let fields = found.as_object().into_iter().flatten();
    let differs = |(field, found): (&String, &Json)| {
        (expect[field] != *found).then(|| format!("{}: {field} is {found}, not {}", info.value.name, expect[field]))
    };
    fields.filter_map(differs).collect()
}

const TYPES: &[Type] = &[
    Type::Boolean,
    Type::String,
    Type::Int,
    Type::Short,
    Type::Long,
    Type::Double,
    Type::List,
    Type::Class,
    Type::Password,
];

/// The recording machine looked classes up in its class path, which of the recorded texts holds this one only.
const RECORDED_CLASS: &str = "java.lang.String";

/// Single texts of a type, or a configuration of all types.
pub fn check_types(vector: &Json) -> Result<(), String> {
    if vector["op"] != "parse" {
        return check_all_types(vector);
    }
    let (word, text) = (vector["type"].as_str().unwrap_or_default(), vector["text"].as_str().unwrap_or_default());
    let setting_type = TYPES.iter().find(|known| known.as_str() == word).ok_or_else(|| format!("no type {word}"))?;
    let expect = &vector["expect"];
    match parse_type(*setting_type, text) {
        Ok(ParsedValue::Class(name)) if name != RECORDED_CLASS && expect["error"] == "config" => Ok(()),
        Ok(value) if same_value(&value, &expect["value"]) && expect["rendered"] == value.to_string() => Ok(()),
        Err(_) if expect["error"] == "config" => Ok(()),
        other => Err(format!("expected {expect}, got {other:?}")),
    }
}

fn same_value(value: &ParsedValue, recorded: &Json) -> bool {
    match value {
        ParsedValue::Boolean(value) => *recorded == *value,
        ParsedValue::Int(value) => *recorded == *value,
        ParsedValue::Short(value) => *recorded == *value,
        ParsedValue::List(value) => *recorded == json!(value),
        ParsedValue::Password(secret) => *recorded == secret.value(),
        other => *recorded == other.to_string(),
    }
}

fn check_all_types(vector: &Json) -> Result<(), String> {
    let definition = TYPES.iter().fold(ConfigDef::new(), |definition, setting_type| {
        let key = |kind: &str| {
            let name = format!("{kind}.{}", setting_type.as_str().to_ascii_lowercase());
            ConfigKey::new(&name, *setting_type, Importance::High, "Of this type.")
        };
        definition.define(key("opt").optional()).define(key("req"))
    });
    let props = super::notation::props(&vector["config"]);
    let values = definition.validate(&props);
    for expected in vector["expect"]["configs"].as_array().into_iter().flatten() {
        let value = values.iter().find(|value| expected["name"] == value.name.as_str());
        let value = value.ok_or_else(|| format!("{} is missing", expected["name"]))?;
        // This recording shows Java's list objects, whose text has brackets; REST has none.
        let text = expected["value"].as_str().map(|text| text.trim_matches(['[', ']']));
        if text != value.value.as_deref() || expected["errors"] != value.errors.len() {
            return Err(format!("expected {expected}, got {value:?}"));
        }
    }
    Ok(())
}
