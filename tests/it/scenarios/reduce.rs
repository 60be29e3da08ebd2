//! Answers with more than scenarios compare (plug-in listings, definitions, validations) are cut down first.
//!
//! In the expectations such answers stand in their reduced form.

use serde_json::{Map, Value, json};

use super::compare::{differences, lacking, sorted};

/// How an answer is compared (`check.mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Exact,
    Plugins,
    Definitions,
    Validation,
}

impl Mode {
    pub fn parse(text: &str) -> Result<Mode, String> {
        match text {
            "exact" => Ok(Mode::Exact),
            "plugins" => Ok(Mode::Plugins),
            "configdefs" => Ok(Mode::Definitions),
            "validate" => Ok(Mode::Validation),
            other => Err(format!("the mode {other:?} is unknown")),
        }
    }

    /// The reduced form of a successful answer. What is wrong with its shape goes to `problems`.
    pub fn reduce(self, body: &Value, check: &Value, problems: &mut Vec<String>) -> Value {
        match self {
            Mode::Exact => body.clone(),
            Mode::Plugins => plugins(body, check, problems),
            Mode::Definitions => definitions(body, check, problems),
            Mode::Validation => validation(body, check, problems),
        }
    }

    /// Differences between reduced forms. Other workers may have more plug-ins, settings and groups.
    pub fn differences(self, expected: &Value, actual: &Value) -> Vec<String> {
        match self {
            Mode::Exact => differences(expected, actual, "body"),
            Mode::Plugins => lacking(&only_core(expected), actual, "the list of plug-ins"),
            Mode::Definitions => entries(expected, actual, |name, expected, actual| {
                differences(expected, actual, &format!("config {name}"))
            }),
            Mode::Validation => validation_differences(expected, actual),
        }
    }
}

fn is_core(class: &str) -> bool {
    class.starts_with("org.apache.kafka.connect.") && !class.starts_with("org.apache.kafka.connect.mirror.")
}

/// The classes that every worker has, of a list of classes or of `type class` texts.
fn only_core(list: &Value) -> Value {
    let core = |item: &&Value| item.as_str().and_then(|text| text.split(' ').next_back()).is_some_and(is_core);
    list.as_array().into_iter().flatten().filter(core).cloned().collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Texts like `sink org.example.Sink`.
fn plugins(body: &Value, check: &Value, problems: &mut Vec<String>) -> Value {
    let entry = |entry: &Value| {
        let mut keys: Vec<_> = entry.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
        keys.sort_unstable();
        if keys != ["class", "type", "version"] {
            problems.push(format!("an entry of the plug-in list has the keys {keys:?}"));
        }
        if check["types"].is_array() && !list(&check["types"]).contains(&entry["type"]) {
            problems.push(format!("the type {} is not expected in this list", entry["type"]));
        }
        Value::String(format!("{} {}", entry["type"].as_str().unwrap_or("?"), entry["class"].as_str().unwrap_or("?")))
    };
    sorted(list(body).iter().map(entry))
}

/// Whether a scenario looks at a setting. Settings of Java's plug-in isolation are left out always.
fn looked_at(name: &str, check: &Value) -> bool {
    let named = || list(&check["only"]).iter().filter_map(Value::as_str).any(|pattern| fits(pattern, name));
    !is_isolation(name) && (!check["only"].is_array() || named())
}

fn is_isolation(name: &str) -> bool {
    name.ends_with("plugin.version")
}

/// Shell patterns with `*` and `?`.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.chars().next() {
        None => name.is_empty(),
        Some('*') => {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.into_iter().any(|at| fits(&pattern[1..], &name[at..]))
        }
        Some(wanted) => {
            let mut rest = name.chars();
            rest.next().is_some_and(|got| wanted == '?' || wanted == got)
                && fits(&pattern[wanted.len_utf8()..], rest.as_str())
        }
    }
}

/// The compared part of a definition; wording and order numbers only have to be there.
fn definition(entry: &Value, problems: &mut Vec<String>) -> Value {
    let name = entry["name"].as_str().unwrap_or("?");
    for field in ["documentation", "display_name"] {
        if entry[field].as_str().is_none_or(|text| text.trim().is_empty()) {
            problems.push(format!("{name}.{field} is no text"));
        }
    }
    if !entry["order_in_group"].is_i64() {
        problems.push(format!("{name}.order_in_group is no integer"));
    }
    let compared = ["type", "required", "default_value", "importance", "group", "width", "dependents"];
    let value = |field: &str| match entry.get(field) {
        None => "<missing>".into(),
        Some(Value::Array(items)) => sorted(items.iter().cloned()),
        Some(value) => value.clone(),
    };
    Value::Object(compared.iter().map(|field| ((*field).to_owned(), value(field))).collect())
}

fn definitions(body: &Value, check: &Value, problems: &mut Vec<String>) -> Value {
    let mut out = Map::new();
    for entry in list(body) {
        let name = entry["name"].as_str().unwrap_or("?");
        if looked_at(name, check) {
            out.insert(name.to_owned(), definition(entry, problems));
        }
    }
    Value::Object(out)
}

fn validation(body: &Value, check: &Value, problems: &mut Vec<String>) -> Value {
    let (mut configs, mut errors_in, mut names, mut texts) = (Map::new(), vec![], vec![], 0);
    for entry in list(&body["configs"]) {
        let (described, value) = (&entry["definition"], &entry["value"]);
        let name = value["name"].as_str().unwrap_or("?");
        if described.is_object() && described["name"] != value["name"] {
            problems.push(format!("the definition of {name} has another name"));
        }
        let errors = list(&value["errors"]);
        texts += errors.len();
        if !value["errors"].is_array() || errors.iter().any(|error| error.as_str().is_none_or(|e| e.trim().is_empty()))
        {
            problems.push(format!("the errors of {name} are no list of texts"));
        }
        if is_isolation(name) {
            continue;
        }
        names.push(Value::from(name));
        if !errors.is_empty() {
            errors_in.push(Value::from(name));
        }
        if looked_at(name, check) {
            let get = |key: &str| value.get(key).cloned().unwrap_or_else(|| "<missing>".into());
            let described = if described.is_object() { definition(described, problems) } else { Value::Null };
            let reduced = json!({
                "definition": described,
                "value": get("value"),
                "recommended_values": get("recommended_values"),
                "visible": get("visible"),
            });
            configs.insert(name.to_owned(), reduced);
        }
    }
    if body["error_count"] != texts {
        problems.push(format!("error_count is {}, but there are {texts} error texts", body["error_count"]));
    }
    json!({
        "name": body["name"],
        "has_errors": body["error_count"] != 0,
        "groups": body["groups"],
        "errors_in": errors_in,
        "names": names,
        "configs": configs,
    })
}

fn validation_differences(expected: &Value, actual: &Value) -> Vec<String> {
    let same = ["name", "has_errors", "errors_in"];
    let mut found: Vec<_> =
        same.iter().flat_map(|key| differences(&expected[key], &actual[key], &format!("body.{key}"))).collect();
    found.extend(lacking(&expected["groups"], &actual["groups"], "body.groups"));
    found.extend(lacking(&expected["names"], &actual["names"], "body.configs"));
    found.extend(entries(&expected["configs"], &actual["configs"], |name, expected, actual| {
        let at = |key: &str| format!("configs[{name}].{key}");
        let mut found: Vec<_> = ["definition", "value", "visible"]
            .iter()
            .flat_map(|key| differences(&expected[key], &actual[key], &at(key)))
            .collect();
        let (wanted, got, at) =
            (&expected["recommended_values"], &actual["recommended_values"], at("recommended_values"));
        let core = only_core(wanted);
        found.extend(if list(&core).is_empty() { differences(wanted, got, &at) } else { lacking(&core, got, &at) });
        found
    }));
    found
}

/// Compares the entries of a map that are expected; further ones are fine.
fn entries(expected: &Value, actual: &Value, compare: impl Fn(&str, &Value, &Value) -> Vec<String>) -> Vec<String> {
    let expected = expected.as_object().into_iter().flatten();
    expected
        .flat_map(|(name, expected)| match actual.get(name) {
            Some(actual) => compare(name, expected, actual),
            None => vec![format!("config {name} is missing")],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mode: Mode, body: Value, check: Value, expected: Value, found: &[&str]) {
        let mut problems = vec![];
        let reduced = mode.reduce(&body, &check, &mut problems);
        problems.extend(mode.differences(&expected, &reduced));
        assert_eq!(problems, found);
    }

    #[test]
    fn patterns() {
        assert!(
            fits("a.*", "a.b.c")
                && fits("*", "")
                && fits("a?c", "abc")
                && fits("*.b", "a.b")
                && fits("\u{fc}*", "\u{fc}x")
        );
        assert!(!fits("a.*", "b.a.") && !fits("a?c", "ac") && !fits("", "a") && !fits("a", "ab"));
    }

    #[test]
    fn plugin_lists_may_hold_more_and_lack_nothing() {
        let entry = |class: &str| json!({"class": class, "type": "sink", "version": "1"});
        let body = json!([entry("x.Own"), entry("org.apache.kafka.connect.file.FileStreamSinkConnector")]);
        let known = json!([
            "sink org.apache.kafka.connect.file.FileStreamSinkConnector",
            "source org.apache.kafka.connect.mirror.M"
        ]);
        let types = json!({"types": ["sink"]});
        check(Mode::Plugins, body.clone(), types.clone(), known, &[]);
        let more = json!(["sink org.apache.kafka.connect.New"]);
        check(
            Mode::Plugins,
            body.clone(),
            types,
            more,
            &["the list of plug-ins lacks [\"sink org.apache.kafka.connect.New\"]"],
        );
        let types = json!({"types": ["source"]});
        check(Mode::Plugins, body, types, json!([]), &["the type \"sink\" is not expected in this list"; 2]);
        let body = json!([{"class": "c", "type": "sink"}]);
        check(
            Mode::Plugins,
            body,
            json!({}),
            json!([]),
            &["an entry of the plug-in list has the keys [\"class\", \"type\"]"],
        );
    }

    fn setting(name: &str) -> Value {
        json!({"name": name, "type": "INT", "required": true, "default_value": null, "importance": "HIGH",
               "group": null, "width": "NONE", "dependents": ["b", "a"], "documentation": "d", "display_name": "n",
               "order_in_group": -1})
    }

    fn reduced() -> Value {
        json!({"type": "INT", "required": true, "default_value": null, "importance": "HIGH", "group": null,
               "width": "NONE", "dependents": ["a", "b"]})
    }

    #[test]
    fn definitions_are_compared_but_for_wording() {
        let body = json!([setting("x.a"), setting("y"), setting("x.plugin.version")]);
        check(Mode::Definitions, body.clone(), json!({"only": ["x.*"]}), json!({"x.a": reduced()}), &[]);
        check(Mode::Definitions, body, json!({}), json!({"z": reduced()}), &["config z is missing"]);
        let mut changed = setting("y");
        (changed["type"], changed["documentation"], changed["order_in_group"]) = ("LONG".into(), "".into(), "1".into());
        let found = [
            "y.documentation is no text",
            "y.order_in_group is no integer",
            "config y.type: expected \"INT\", got \"LONG\"",
        ];
        check(Mode::Definitions, json!([changed]), json!({}), json!({"y": reduced()}), &found);
    }

    #[test]
    fn validations_are_compared_by_errors_and_values() {
        let entry = |name: &str, errors: Value| {
            json!({"definition": setting(name), "value": {"name": name, "value": "1", "recommended_values": [],
                   "errors": errors, "visible": true}})
        };
        let body = json!({"name": "c", "error_count": 1, "groups": ["g", "h"],
                          "configs": [entry("a", json!([])), entry("b", json!(["bad"]))]});
        let expected = json!({"name": "c", "has_errors": true, "groups": ["g"], "errors_in": ["b"], "names": ["a"],
                              "configs": {"a": {"definition": reduced(), "value": "1", "recommended_values": [],
                                                "visible": true}}});
        check(Mode::Validation, body.clone(), json!({"only": ["a"]}), expected.clone(), &[]);
        let mut wrong = body;
        wrong["error_count"] = 2.into();
        wrong["configs"][0]["value"]["value"] = "2".into();
        let found = ["error_count is 2, but there are 1 error texts", "configs[a].value: expected \"1\", got \"2\""];
        check(Mode::Validation, wrong, json!({}), expected, &found);
    }
}
