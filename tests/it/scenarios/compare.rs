//! What may differ between two workers, and how the rest is compared.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Hides what differs between workers and runs, and sorts all lists.
pub fn normalise(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let hidden =
                fields.iter().map(|(key, value)| (key.clone(), hide(key, value).unwrap_or_else(|| normalise(value))));
            Value::Object(hidden.collect())
        }
        Value::Array(items) => sorted(items.iter().map(normalise)),
        other => other.clone(),
    }
}

/// The mark in place of a hidden value that looks as it should.
fn hide(key: &str, value: &Value) -> Option<Value> {
    let text = |mark: &str, fits: bool| fits.then(|| mark.into());
    match (key, value) {
        ("commit" | "kafka_cluster_id" | "trace" | "message" | "documentation", Value::String(s)) => {
            text("<text>", !s.trim().is_empty())
        }
        ("version", Value::String(s)) => text("<version>", !s.trim().is_empty()),
        ("worker_id", Value::String(s)) => text("<worker>", is_host_port(s)),
        ("last_modified", Value::Number(n)) => text("<time>", n.as_i64().is_some_and(|ms| ms > 0)),
        _ => None,
    }
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A list in an order that depends on its entries alone.
pub fn sorted(items: impl Iterator<Item = Value>) -> Value {
    let mut items: Vec<Value> = items.collect();
    items.sort_by_cached_key(canonical);
    Value::Array(items)
}

/// JSON with sorted keys.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> =
                fields.iter().map(|(key, value)| format!("{key:?}:{}", canonical(value))).collect();
            fields.sort();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// One text for each difference. Lists are compared in the order of their canonical form; an expected `message` of null
/// fits everything.
pub fn differences(expected: &Value, actual: &Value, path: &str) -> Vec<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            let keys: BTreeSet<_> = expected.keys().chain(actual.keys()).collect();
            keys.into_iter().flat_map(|key| field(expected, actual, key, &format!("{path}.{key}"))).collect()
        }
        (Value::Array(wanted), Value::Array(got)) if wanted.len() != got.len() => {
            vec![format!(
                "{path}: expected {} entries {}, got {} {}",
                wanted.len(),
                short(expected),
                got.len(),
                short(actual)
            )]
        }
        (Value::Array(expected), Value::Array(actual)) => {
            let (Value::Array(expected), Value::Array(actual)) =
                (sorted(expected.iter().cloned()), sorted(actual.iter().cloned()))
            else {
                unreachable!("a sorted list is a list");
            };
            let pairs = expected.iter().zip(&actual).enumerate();
            pairs.flat_map(|(at, (expected, actual))| differences(expected, actual, &format!("{path}[{at}]"))).collect()
        }
        _ if expected == actual => vec![],
        _ => vec![format!("{path}: expected {}, got {}", short(expected), short(actual))],
    }
}

fn field(expected: &Map<String, Value>, actual: &Map<String, Value>, key: &str, path: &str) -> Vec<String> {
    match (expected.get(key), actual.get(key)) {
        (Some(Value::Null), Some(_)) if key == "message" => vec![],
        (Some(expected), Some(actual)) => differences(expected, actual, path),
        (Some(expected), None) => vec![format!("{path} is missing, expected {}", short(expected))],
        (None, actual) => vec![format!("{path} is not expected, got {}", short(actual.unwrap_or(&Value::Null)))],
    }
}

/// What `actual` lacks of `expected`; both are lists of texts.
pub fn lacking(expected: &Value, actual: &Value, what: &str) -> Vec<String> {
    let texts = |value: &Value| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let missing: Vec<_> = texts(expected).difference(&texts(actual)).cloned().collect();
    if missing.is_empty() { vec![] } else { vec![format!("{what} lacks {missing:?}")] }
}

/// JSON for a message, cut where it gets long.
pub fn short(value: &Value) -> String {
    const LENGTH_MAX: usize = 160;
    let text = value.to_string();
    match text.char_indices().nth(LENGTH_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(expected: Value, actual: Value, found: &[&str]) {
        assert_eq!(differences(&expected, &normalise(&actual), "body"), found);
    }

    #[test]
    fn hidden_values_must_look_right() {
        check(json!({"message": "<text>"}), json!({"message": "oh"}), &[]);
        check(json!({"message": "<text>"}), json!({"message": " "}), &[r#"body.message: expected "<text>", got " ""#]);
        check(json!({"message": null}), json!({"message": 5}), &[]);
        check(json!({"worker_id": "<worker>"}), json!({"worker_id": "h:8083"}), &[]);
        check(
            json!({"worker_id": "<worker>"}),
            json!({"worker_id": "h"}),
            &[r#"body.worker_id: expected "<worker>", got "h""#],
        );
        check(json!({"version": null}), json!({"version": null}), &[]);
        check(
            json!({"version": "<version>"}),
            json!({"version": null}),
            &[r#"body.version: expected "<version>", got null"#],
        );
        check(json!({"last_modified": "<time>"}), json!({"last_modified": 1}), &[]);
        check(
            json!({"last_modified": "<time>"}),
            json!({"last_modified": 0}),
            &[r#"body.last_modified: expected "<time>", got 0"#],
        );
        check(json!({"commit": {"trace": "<text>"}}), json!({"commit": {"trace": "x"}}), &[]);
    }

    #[test]
    fn lists_have_no_order_but_a_length() {
        check(json!([{"a": 1, "b": 2}, "x"]), json!(["x", {"b": 2, "a": 1}]), &[]);
        check(json!([1]), json!([1, 1]), &["body: expected 1 entries [1], got 2 [1,1]"]);
        check(json!([1, 2]), json!([3, 1]), &["body[1]: expected 2, got 3"]);
    }

    #[test]
    fn fields_are_neither_missing_nor_added_nor_changed() {
        check(
            json!({"a": 1, "b": 1, "c": 1, "d": "1"}),
            json!({"b": 1, "c": 1.0, "d": 1, "e": true}),
            &[
                "body.a is missing, expected 1",
                "body.c: expected 1, got 1.0",
                "body.d: expected \"1\", got 1",
                "body.e is not expected, got true",
            ],
        );
        check(json!({}), json!([]), &["body: expected {}, got []"]);
    }

    #[test]
    fn supersets_lack_nothing() {
        assert!(lacking(&json!(["a"]), &json!(["b", "a"]), "list").is_empty());
        assert_eq!(lacking(&json!(["a", "c"]), &json!(["b", "a"]), "list"), ["list lacks [\"c\"]"]);
        assert_eq!(lacking(&json!(["a"]), &json!(null), "list"), ["list lacks [\"a\"]"]);
    }
}
