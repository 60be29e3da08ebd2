use serde_json::Value as Json;

use super::*;

fn props(pairs: &[(&str, &str)]) -> Props {
    pairs.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
}

fn key(name: &str, setting_type: Type) -> ConfigKey {
    ConfigKey::new(name, setting_type, Importance::High, "Says nothing.")
}

fn type_named(word: &str) -> Type {
    let all = [
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
    all.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(word)).expect("a type of the recording")
}

/// The recording machine looked classes up in its class path, which for the recorded texts holds this one only.
const RECORDED_CLASS: &str = "java.lang.String";

fn recorded_parse(setting_type: Type, text: &str) -> std::result::Result<ParsedValue, String> {
    match parse_type(setting_type, text)? {
        ParsedValue::Class(name) if name != RECORDED_CLASS => Err(format!("{name} is no class here")),
        value => Ok(value),
    }
}

fn same_value(value: &ParsedValue, recorded: &Json) -> bool {
    match value {
        ParsedValue::Boolean(value) => *recorded == *value,
        ParsedValue::Int(value) => *recorded == *value,
        ParsedValue::Short(value) => *recorded == *value,
        ParsedValue::List(value) => *recorded == Json::from(value.clone()),
        ParsedValue::Password(secret) => *recorded == secret.value(),
        other => *recorded == other.to_string(),
    }
}

#[test]
fn parses_like_the_recorded_java_worker() {
    let recorded: Vec<Json> =
        serde_json::from_str(include_str!("../../../tests/vectors/validate/ConfigDef.parseType.json")).expect("JSON");
    let mut failures = Vec::new();
    for vector in &recorded {
        let expect = &vector["expect"];
        let good = if vector["op"] == "parse" {
            let setting_type = type_named(vector["type"].as_str().expect("a type"));
            match recorded_parse(setting_type, vector["text"].as_str().expect("a text")) {
                Ok(value) => same_value(&value, &expect["value"]) && expect["rendered"] == value.to_string(),
                Err(_) => expect["error"] == "config",
            }
        } else {
            validates_all_types(vector)
        };
        if !good {
            failures.push(vector.to_string());
        }
    }
    assert!(recorded.len() > 100, "the recording is cut short");
    assert!(failures.is_empty(), "{} of {} differ:\n{}", failures.len(), recorded.len(), failures.join("\n"));
}

fn validates_all_types(vector: &Json) -> bool {
    let words = ["boolean", "string", "int", "short", "long", "double", "list", "class", "password"];
    let definition = words.iter().fold(ConfigDef::new(), |definition, word| {
        definition
            .define(key(&format!("opt.{word}"), type_named(word)).optional())
            .define(key(&format!("req.{word}"), type_named(word)))
    });
    let config = vector["config"].as_object().expect("a configuration");
    let config = config.iter().map(|(name, text)| (name.clone(), text.as_str().expect("a text").to_owned())).collect();
    let values = definition.validate(&config);
    vector["expect"]["configs"].as_array().expect("values").iter().all(|expected| {
        let value = values.iter().find(|value| expected["name"] == value.name.as_str()).expect("the setting");
        // This recording shows Java's list objects, whose text has brackets; REST has none.
        let text = expected["value"].as_str().map(|text| text.trim_matches(['[', ']']));
        text == value.value.as_deref() && expected["errors"] == value.errors.len()
    })
}

#[test]
fn an_unparsable_number_with_a_range_has_two_errors_in_validate_and_one_in_parse() {
    let definition = ConfigDef::new().define(key("tasks.max", Type::Int).validator(Validator::at_least(1)));
    assert_eq!(definition.validate(&props(&[("tasks.max", "x")]))[0].errors.len(), 2);
    assert_eq!(definition.validate(&props(&[("tasks.max", "0")]))[0].errors.len(), 1);
    assert_eq!(definition.validate(&props(&[("tasks.max", "0")]))[0].value.as_deref(), Some("0"));
    let error = definition.parse(&props(&[("tasks.max", "x")])).unwrap_err();
    assert_eq!(error.message(), "tasks.max: \"x\" is not an integer of 32 bits");
}

#[test]
fn parse_names_every_mistake() {
    let definition =
        ConfigDef::new().define(key("a", Type::Int)).define(key("b", Type::Boolean)).define(key("c", Type::String));
    let error = definition.parse(&props(&[("a", "1.5"), ("b", "yes")])).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Config);
    for name in ["a: ", "b: ", "c: "] {
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn validators() {
    let list = |text: &str| parse_type(Type::List, text).ok();
    let text = |text: &str| parse_type(Type::String, text).ok();
    let int = |number: i32| Some(ParsedValue::Int(number));
    for (validator, value, good) in [
        (Validator::at_least(1), int(1), true),
        (Validator::at_least(1), int(0), false),
        (Validator::at_least(1), None, false),
        (Validator::between(0, 7), int(8), false),
        (Validator::one_of(&["none", "all"]), text("all"), true),
        (Validator::one_of(&["none", "all"]), text("ALL"), false),
        (Validator::one_of(&["none", "all"]), None, false),
        (Validator::one_of_or_absent(&["none", "all"]), None, true),
        (Validator::one_of_ignoring_case(&["none", "all"]), text("ALL"), true),
        (Validator::non_empty(), text(""), false),
        (Validator::non_empty(), None, true),
        (Validator::non_empty_without_control_chars(), text("a/b"), true),
        (Validator::non_empty_without_control_chars(), text("a\u{85}b"), false),
        (Validator::list(), list(""), true),
        (Validator::list(), list("a,,b"), false),
        (Validator::list(), list("a,b,a"), false),
        (Validator::non_empty_list(), list(""), false),
        (Validator::list_of(&["a", "b"]), list("b"), true),
        (Validator::list_of(&["a", "b"]), list("c"), false),
        (Validator::at_least(1).and(Validator::between(0, 5)), int(6), false),
    ] {
        assert_eq!(validator.ensure_valid("x", value.as_ref()).is_ok(), good, "{validator}: {value:?}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let definition = ConfigDef::new()
        .define(key("secret", Type::Password).validator(Validator::text("long", |secret| secret.len() > 20)));
    let [value] = &definition.validate(&props(&[("secret", "hunter2")]))[..] else { panic!("one setting") };
    assert_eq!(value.value.as_deref(), Some(HIDDEN));
    assert!(!format!("{value:?}").contains("hunter2"));
    let config =
        ConfigDef::new().define(key("secret", Type::Password)).parse(&props(&[("secret", "hunter2")])).unwrap();
    assert_eq!(config.password("secret").value(), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}

struct Cities;

impl Recommender for Cities {
    fn valid_values(&self, name: &str, parsed: &ParsedValues) -> Vec<String> {
        assert_eq!(name, "city");
        match parsed.get("country") {
            Some(Some(ParsedValue::String(country))) => vec![format!("capital of {country}")],
            _ => Vec::new(),
        }
    }

    fn visible(&self, _name: &str, parsed: &ParsedValues) -> bool {
        parsed.get("country").is_some_and(Option::is_some)
    }
}

#[test]
fn embedded_settings_keep_their_rules() {
    let child = ConfigDef::new()
        .define(key("city", Type::String).optional().recommender(Cities).group("Place", 2, Width::Medium, "City"))
        .define(key("country", Type::String).optional().dependents(&["city"]).group(
            "Place",
            1,
            Width::Short,
            "Country",
        ))
        .define(key("zip", Type::Int).default_value(1));
    let definition = ConfigDef::new().embed("home.", "Home", 5, &child).unwrap();
    let shown: Vec<_> =
        definition.keys().iter().map(|key| (key.name.as_str(), key.group.as_deref(), key.order_in_group)).collect();
    let place = Some("Home: Place");
    assert_eq!(shown, [("home.zip", Some("Home"), 5), ("home.country", place, 6), ("home.city", place, 7)]);
    assert_eq!(definition.key("home.country").unwrap().dependents, ["home.city"]);

    let values = definition.validate(&props(&[("home.country", "Chile")]));
    assert_eq!(values[2].recommended_values, ["capital of Chile"]);
    assert!(!definition.validate(&props(&[]))[2].visible);
    assert!(definition.clone().embed("home.", "Home", 0, &child).is_err(), "names are taken");
}

#[test]
fn undefined_dependents_are_errors() {
    let definition = ConfigDef::new().define(key("a", Type::String).optional().dependents(&["ghost"]));
    let values = definition.validate(&props(&[]));
    assert_eq!((values[1].name.as_str(), values[1].errors.len(), values[1].visible), ("ghost", 1, false));
}

#[test]
#[should_panic(expected = "cannot define the setting n: its default")]
fn bad_defaults_are_mistakes_of_the_programmer() {
    let _ = ConfigDef::new().define(key("n", Type::Int).default_value("many"));
}
