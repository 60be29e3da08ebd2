//! `${name}` in scenarios.

use serde_json::Value;

/// Names and values of a run.
#[derive(Debug, Clone)]
pub struct Variables(pub Vec<(&'static str, String)>);

impl Variables {
    /// Puts values in place of `${name}` in all texts and keys.
    pub fn expand(&self, value: &Value) -> Value {
        map_texts(value, &|text| self.expand_text(text))
    }

    pub fn expand_text(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            out.push_str(before);
            let known =
                self.0.iter().find(|(name, _)| from[2..].strip_prefix(name).is_some_and(|tail| tail.starts_with('}')));
            match known {
                Some((name, value)) => {
                    out.push_str(value);
                    rest = &from[name.len() + 3..];
                }
                None => {
                    out.push_str("${");
                    rest = &from[2..];
                }
            }
        }
        out + rest
    }

    /// The reverse: puts `${name}` where a value occurs, longer values first.
    pub fn fold(&self, value: &Value) -> Value {
        map_texts(value, &|text| self.fold_text(text))
    }

    pub fn fold_text(&self, text: &str) -> String {
        let mut variables: Vec<_> = self.0.iter().filter(|(_, value)| !value.is_empty()).collect();
        variables.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        variables.iter().fold(text.to_owned(), |text, (name, value)| text.replace(value, &format!("${{{name}}}")))
    }
}

fn map_texts(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.iter().map(|item| map_texts(item, change)).collect(),
        Value::Object(fields) => fields.iter().map(|(key, item)| (change(key), map_texts(item, change))).collect(),
        other => other.clone(),
    }
}

#[test]
fn expand_and_fold_are_inverse() {
    let variables = Variables(vec![("p", "rc1-x".into()), ("dir", "/tmp/rc1-x".into()), ("none", String::new())]);
    let value = serde_json::json!({"${p}-a": ["${dir}/in", "a${p}b${p}", "${unknown} ${", 1, null]});
    let expanded = variables.expand(&value);
    assert_eq!(expanded, serde_json::json!({"rc1-x-a": ["/tmp/rc1-x/in", "arc1-xbrc1-x", "${unknown} ${", 1, null]}));
    assert_eq!(variables.fold(&expanded), value);
}
