use connect_api::Validator;
use serde_json::Value as Json;

use super::*;

/// The class path of the recording machine, as far as the vectors need it.
struct Recorded;

const TRANSFORMS: &str = "org.apache.kafka.connect.transforms.";

fn string(name: &str) -> ConfigKey {
    ConfigKey::new(name, connect_api::Type::String, connect_api::Importance::Medium, "Text.")
}

fn pattern() -> Validator {
    Validator::text("a regular expression", |text| fancy_regex::Regex::new(text).is_ok())
}

fn transform(class: &str) -> Option<ConfigDef> {
    let high = |name: &str| ConfigKey { importance: connect_api::Importance::High, ..string(name) };
    let boolean = |name: &str| ConfigKey { setting_type: connect_api::Type::Boolean, ..string(name) };
    let definition = ConfigDef::new();
    Some(match class.strip_prefix(TRANSFORMS)? {
        "RegexRouter" => definition.define(high("regex").validator(pattern())).define(high("replacement")),
        "Filter" => definition,
        "HoistField$Value" => definition.define(string("field")),
        "InsertField$Value" => {
            let fields =
                ["offset.field", "partition.field", "static.field", "static.value", "timestamp.field", "topic.field"];
            fields
                .iter()
                .fold(definition, |definition, field| definition.define(string(field).optional()))
                .define(boolean("replace.null.with.default").default_value(true))
        }
        "Cast$Value" => {
            let spec = Validator::new("types", |_, value| match value {
                Some(connect_api::ParsedValue::List(spec)) if !spec.iter().any(|part| part.contains("int99")) => Ok(()),
                _ => Err("no types".to_owned()),
            });
            definition
                .define(ConfigKey { setting_type: connect_api::Type::List, ..high("spec") }.validator(spec))
                .define(boolean("replace.null.with.default").default_value(true))
        }
        _ => return None,
    })
}

impl PluginSettings for Recorded {
    fn find(&self, kind: NestedKind, name: &str) -> Result<NestedPlugin, String> {
        let known = |classes: &[(&str, ConfigDef)]| {
            let found = classes.iter().find(|(class, _)| *class == name || class.rsplit('.').next() == Some(name));
            found
                .map(|(class, definition)| NestedPlugin { class: (*class).to_owned(), definition: definition.clone() })
                .ok_or_else(|| format!("there is no {name}"))
        };
        let boolean = |name: &str| ConfigKey { setting_type: connect_api::Type::Boolean, ..string(name) };
        let kind_of_converter = string("converter.type").validator(Validator::one_of(&["key", "value", "header"]));
        let json = ConfigDef::new()
            .define(kind_of_converter.clone())
            .define(
                string("decimal.format")
                    .default_value("BASE64")
                    .validator(Validator::one_of(&["BASE64", "NUMERIC"]))
                    .group("Serialization", 0, connect_api::Width::Medium, "x"),
            )
            .define(boolean("replace.null.with.default").default_value(true))
            .define(string("schema.content").optional())
            .define(string("schemas.cache.size").default_value(1000))
            .define(boolean("schemas.enable").default_value(true).group("Schemas", 0, connect_api::Width::Medium, "x"));
        let text = ConfigDef::new()
            .define(kind_of_converter.clone())
            .define(string("converter.encoding").default_value("UTF-8"));
        let pattern_definition = ConfigDef::new().define(string("pattern").validator(pattern()));
        match kind {
            NestedKind::Transformation => {
                let full = if name.contains('.') { name.to_owned() } else { format!("{TRANSFORMS}{name}") };
                let definition = transform(&full).ok_or_else(|| format!("there is no {name}"))?;
                Ok(NestedPlugin { class: full, definition })
            }
            NestedKind::Predicate => {
                known(&[("org.apache.kafka.connect.transforms.predicates.TopicNameMatches", pattern_definition)])
            }
            NestedKind::HeaderConverter => {
                known(&[("org.apache.kafka.connect.storage.SimpleHeaderConverter", ConfigDef::new())])
            }
            NestedKind::Converter => known(&[
                ("org.apache.kafka.connect.json.JsonConverter", json),
                ("org.apache.kafka.connect.storage.StringConverter", text),
            ]),
        }
    }

    fn classes(&self, _kind: NestedKind) -> Vec<String> {
        vec![format!("{TRANSFORMS}Cast$Value")]
    }
}

fn worker() -> WorkerDefaults {
    WorkerDefaults {
        key_converter: Some("org.apache.kafka.connect.json.JsonConverter".into()),
        value_converter: Some("org.apache.kafka.connect.json.JsonConverter".into()),
        header_converter: Some("org.apache.kafka.connect.storage.SimpleHeaderConverter".into()),
        group_id: "connect-cluster".into(),
        exactly_once_enabled: false,
        client_override_policy: OverridePolicy::All,
    }
}

/// The file connectors, as far as validation sees them.
fn validate(props: &Props) -> ConfigInfos {
    validate_with_nulls(props, &[])
}

fn validate_with_nulls(props: &Props, nulls: &[String]) -> ConfigInfos {
    let high = |name: &str| ConfigKey { importance: connect_api::Importance::High, ..string(name) };
    let file = ConfigDef::new().define(high("file").optional());
    let is_source = props["connector.class"].contains("FileStreamSource");
    let (kind, definition) = if is_source {
        let batch = ConfigKey { setting_type: connect_api::Type::Int, ..string("batch.size") };
        let topic = high("topic").validator(Validator::non_empty());
        (ConnectorKind::Source, file.define(topic).define(batch.default_value(2000)))
    } else {
        (ConnectorKind::Sink, file)
    };
    let exactly_once_support = match (kind, props.contains_key("file")) {
        (ConnectorKind::Sink, _) => ExactlyOnceSupport::Unknown,
        (_, true) => ExactlyOnceSupport::Supported,
        (_, false) => ExactlyOnceSupport::Unsupported,
    };
    let values = definition.validate(props);
    let plugin = ConnectorPlugin {
        kind,
        version: "4.3.0",
        definition,
        values,
        exactly_once_support,
        can_define_transaction_boundaries: false,
    };
    validate_connector(plugin, props, nulls, &Recorded, &worker())
}

/// What the recording says of settings that are left out on purpose: versions of nested plug-ins, which belong to the JVM.
fn compared(name: &str) -> bool {
    !name.ends_with(".plugin.version") || name == CONNECTOR_VERSION
}

fn differences(expect: &Json, infos: &ConfigInfos) -> Vec<String> {
    let mut different = Vec::new();
    let groups: Vec<&str> = expect["groups"].as_array().expect("groups").iter().filter_map(Json::as_str).collect();
    if groups != infos.groups {
        different.push(format!("groups {:?}, not {groups:?}", infos.groups));
    }
    let recorded: Vec<&Json> = expect["configs"].as_array().expect("configs").iter().collect();
    let name_of = |config: &Json| config["name"].as_str().expect("a name").to_owned();
    for info in infos.configs.iter().filter(|info| compared(&info.value.name)) {
        if !recorded.iter().any(|config| name_of(config) == info.value.name) {
            different.push(format!("{} is not recorded", info.value.name));
        }
    }
    for config in recorded.into_iter().filter(|config| compared(&name_of(config))) {
        let name = name_of(config);
        let Some(info) = infos.configs.iter().find(|info| info.value.name == name) else {
            different.push(format!("{name} is missing"));
            continue;
        };
        if config["value"].as_str() != info.value.value.as_deref() {
            different.push(format!("{name} has the value {:?}, not {}", info.value.value, config["value"]));
        }
        if config["errors"] != info.value.errors.len() {
            different.push(format!("{name} has the errors {:?}, not {}", info.value.errors, config["errors"]));
        }
        different.extend(definition_differences(config, info));
    }
    different
}

fn definition_differences(config: &Json, info: &ConfigInfo) -> Vec<String> {
    let (Some(expect), Some(key)) = (config["definition"].as_object(), &info.definition) else { return Vec::new() };
    let found = serde_json::json!({
        "type": key.setting_type.as_str(), "required": key.is_required(), "default_value": key.default_text(),
        "importance": key.importance.as_str(), "group": key.group, "order_in_group": key.order_in_group,
        "width": key.width.as_str(), "dependents": key.dependents,
    });
    let differs = |(field, value): (&String, &Json)| {
        (found[field] != *value).then(|| format!("{}: {field} is {}, not {value}", key.name, found[field]))
    };
    expect.iter().filter_map(differs).collect()
}

/// Where ours is told apart from Java on purpose, with the reason.
const OTHERWISE: &[(&str, &str)] = &[
    ("plugin version range", "the caller has looked at the version"),
    ("client override bad", "Java throws; here the error stands at the setting"),
];

fn check(recorded: &str) {
    let vectors: Vec<Json> = serde_json::from_str(recorded).expect("JSON");
    let mut failures = Vec::new();
    for vector in &vectors {
        let label = vector["label"].as_str().expect("a label");
        if OTHERWISE.iter().any(|(other, _)| *other == label) {
            continue;
        }
        let config = vector["config"].as_object().expect("a configuration");
        let props = config.iter().filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect();
        let nulls: Vec<String> =
            config.iter().filter(|(_, text)| text.is_null()).map(|(name, _)| name.clone()).collect();
        let infos = validate_with_nulls(&props, &nulls);
        assert_eq!(vector["expect"]["name"], infos.name, "{label}");
        let different = differences(&vector["expect"], &infos);
        if !different.is_empty() {
            failures.push(format!("{label}:\n    {}", different.join("\n    ")));
        }
    }
    assert!(vectors.len() > 20, "the recording is cut short");
    assert!(failures.is_empty(), "{} of {} differ:\n{}", failures.len(), vectors.len(), failures.join("\n"));
}

#[test]
fn sources_are_checked_like_the_recorded_java_worker() {
    check(include_str!("../../../tests/vectors/validate/FileStreamSource.json"));
}

#[test]
fn sinks_are_checked_like_the_recorded_java_worker() {
    check(include_str!("../../../tests/vectors/validate/FileStreamSink.json"));
}

/// Types, defaults, headings and places are those of the Java classes.
#[test]
fn definitions_are_those_of_java() {
    let recorded: Json =
        serde_json::from_str(include_str!("../../../tests/vectors/connector-configdefs.json")).expect("JSON");
    for (name, definition) in [
        ("SourceConnectorConfig", shared_definition(ConnectorKind::Source, None)),
        ("SinkConnectorConfig", shared_definition(ConnectorKind::Sink, None)),
    ] {
        let expected: Vec<&Json> = recorded[name].as_array().expect("definitions").iter().collect();
        let found: Vec<Json> = definition
            .keys()
            .iter()
            .map(|key| {
                serde_json::json!({
                    "name": key.name, "type": key.setting_type.as_str(), "required": key.is_required(),
                    "default": key.default_text(), "importance": key.importance.as_str(), "group": key.group,
                    "order": key.order_in_group, "width": key.width.as_str(), "dependents": key.dependents,
                })
            })
            .collect();
        for expected in &expected {
            let found = found.iter().find(|found| found["name"] == expected["name"]);
            let found = found.unwrap_or_else(|| panic!("{} is missing", expected["name"]));
            for (field, value) in found.as_object().expect("an object") {
                assert_eq!(&expected[field], value, "{field} of {}", expected["name"]);
            }
        }
        assert_eq!(found.len(), expected.len());
    }
}

fn props(pairs: &[(&str, &str)]) -> Props {
    let base = [("name", "n"), ("connector.class", "FileStreamSink"), ("topics", "t")];
    base.iter().chain(pairs).map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
}

/// Which settings have errors.
fn errors_in(pairs: &[(&str, &str)]) -> Vec<String> {
    let infos = validate(&props(pairs));
    let wrong = infos.configs.iter().filter(|info| !info.value.errors.is_empty());
    wrong.map(|info| info.value.name.clone()).collect()
}

#[test]
fn names_overrides_and_groups_have_rules() {
    let none: [&str; 0] = [];
    assert_eq!(errors_in(&[]), none);
    assert_eq!(errors_in(&[("name", "a\tb")]), ["name"]);
    assert_eq!(errors_in(&[("name", "a/b%c\\d")]), none);
    assert_eq!(errors_in(&[("name", "cluster")]), ["name"]);
    assert_eq!(errors_in(&[("consumer.override.group.id", "connect-cluster")]), ["name"]);
    assert_eq!(errors_in(&[("consumer.override.fetch.min.bytes", "x")]), ["consumer.override.fetch.min.bytes"]);
    assert_eq!(errors_in(&[("consumer.override.interceptor.classes", "x")]), ["consumer.override.interceptor.classes"]);
    assert_eq!(errors_in(&[("producer.override.linger.ms", "x")]), none, "a sink without a queue has no producer");
    assert_eq!(errors_in(&[("topics", "a,,b")]), ["topics"]);
    // Also of those that no client knows, such as the settings of an interceptor.
    for name in ["sasl.jaas.config", "my.interceptor.password"] {
        let secret = validate(&props(&[(&format!("consumer.override.{name}"), "hunter2")]));
        assert!(secret.configs.iter().any(|info| info.value.name.ends_with(name)), "{name}");
        assert!(secret.configs.iter().all(|info| !format!("{:?}", info.value).contains("hunter2")), "{name}");
    }
}

/// As answered by a Java worker.
#[test]
fn nulls_are_errors_but_for_the_plug_ins_own() {
    let errors = |name: &str| {
        let mut props = props(&[]);
        props.remove(name);
        let infos = validate_with_nulls(&props, &[name.to_owned()]);
        let info = infos.configs.iter().find(|info| info.value.name == name).expect("the setting");
        assert_eq!(info.value.value, None, "{name}");
        (info.definition.is_some(), info.value.errors.len(), infos.error_count)
    };
    assert_eq!(errors("tasks.max"), (true, 2, 2));
    assert_eq!(errors("name"), (true, 1, 1));
    assert_eq!(errors("key.converter"), (true, 1, 1));
    assert_eq!(errors("unknown"), (false, 1, 1));
    assert_eq!(errors("file"), (true, 0, 0));
}

#[test]
fn exactly_once_needs_worker_and_connector() {
    let source = |extra: &[(&str, &str)]| {
        let mut all = props(extra);
        all.insert("connector.class".into(), "FileStreamSource".into());
        all.insert("topic".into(), "t".into());
        validate(&all).error_count
    };
    assert_eq!(source(&[("exactly.once.support", "REQUIRED"), ("file", "/x")]), 1, "switched off at the worker");
    assert_eq!(source(&[("exactly.once.support", "required")]), 2, "and standard input cannot");
    assert_eq!(source(&[("transaction.boundary", "connector")]), 0, "has no meaning here");
}
