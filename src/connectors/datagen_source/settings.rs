//! What a configuration asks for, and what is wrong with it. Validation and start take the same way.

use std::collections::BTreeMap;

use connect_api::config_def::parse_type;
use connect_api::{
    ByteString, ConfigDef, ConfigKey, ConfigValue, ConnectError, Importance, ParsedValue, Props, Result, Type,
    Validator,
};

use super::content::Field;
use super::field_settings::{self, Wrong};
use super::records::Recipe;
use super::templates;

pub const TOPIC: &str = "topic";
pub const TEMPLATE: &str = "template";
pub const FIELDS: &str = "fields";
pub const KEY_FIELD: &str = "key.field";
pub const RATE: &str = "rate";
pub const COUNT: &str = "count";
pub const SEED: &str = "seed";
pub const BATCH_SIZE: &str = "batch.size";
/// Of a field.
pub const TYPE: &str = "type";
/// Before the name of a field, in all of its settings.
const FIELD_PREFIX: &str = "field.";

/// The most fields of a record.
pub const MAX_FIELDS: usize = 100;
/// The longest name of a field.
pub const MAX_NAME_CHARS: usize = 100;
/// Records a second of one task; more than that has no rate but 0.
const MAX_RATE: f64 = 1e9;
const DEFAULT_RATE: i32 = 10;
const MAX_BATCH_SIZE: i32 = 10_000;
const DEFAULT_BATCH_SIZE: i32 = 500;

/// What tasks are to do.
pub struct Plan {
    pub topic: ByteString,
    /// Records a second of one task; 0 without bound.
    pub rate: f64,
    /// How many records each task makes; `None` without end.
    pub count: Option<i64>,
    /// Records in one batch, at most.
    pub batch_size: u64,
    pub recipe: Recipe,
}

/// All settings but those of fields, which nobody can list.
pub fn definition() -> ConfigDef {
    let key = ConfigKey::new;
    let templates = templates::names();
    ConfigDef::new()
        .define(
            key(TOPIC, Type::String, Importance::High, "The topic that the records go to.")
                .validator(Validator::non_empty()),
        )
        .define(
            key(TEMPLATE, Type::String, Importance::High, "Ready-made fields; settings of your own win over them.")
                .optional()
                .validator(Validator::one_of_or_absent(&templates)),
        )
        .define(
            key(
                FIELDS,
                Type::List,
                Importance::High,
                "The fields of a record, in order; each has a setting field.NAME.type. Without it those of the template.",
            )
            .optional()
            .validator(Validator::non_empty_list().and(field_names())),
        )
        .define(
            key(
                KEY_FIELD,
                Type::String,
                Importance::Medium,
                "The field that is also the key. Without it that of the template; when it is empty there is no key.",
            )
            .optional(),
        )
        .define(
            key(
                RATE,
                Type::Double,
                Importance::High,
                "How many records a second each task makes, on the average since its start; 0 as many as it can.",
            )
            .default_value(DEFAULT_RATE)
            .validator(Validator::between(0, MAX_RATE)),
        )
        .define(
            key(COUNT, Type::Long, Importance::Medium, "How many records each task makes; without it there is no end.")
                .optional()
                .validator(or_absent(Validator::at_least(1))),
        )
        .define(
            key(SEED, Type::Long, Importance::Medium, "The same seed makes the same records, another one others.")
                .default_value(0),
        )
        .define(
            key(BATCH_SIZE, Type::Int, Importance::Low, "How many records one batch has at most.")
                .default_value(DEFAULT_BATCH_SIZE)
                .validator(Validator::between(1, MAX_BATCH_SIZE)),
        )
}

/// A check that an absent value passes.
pub fn or_absent(validator: Validator) -> Validator {
    Validator::new(validator.to_string(), move |name, value| match value {
        Some(_) => validator.ensure_valid(name, value),
        None => Ok(()),
    })
}

fn field_names() -> Validator {
    let wanted =
        format!("a list of at most {MAX_FIELDS} names without dots and blanks, of at most {MAX_NAME_CHARS} characters");
    Validator::new(wanted.clone(), move |_, value| {
        let Some(ParsedValue::List(names)) = value else { return Ok(()) };
        let bad = |name: &&String| {
            name.contains(|c: char| c == '.' || c.is_whitespace() || c.is_control())
                || name.chars().count() > MAX_NAME_CHARS
        };
        match names.iter().find(bad) {
            Some(name) => Err(format!("the value must be {wanted}, but has the name {name:?}")),
            None if names.len() > MAX_FIELDS => Err(format!("the value must be {wanted}, but has {}", names.len())),
            None => Ok(()),
        }
    })
}

/// The elements of a list.
pub fn list(text: &str) -> Vec<String> {
    match parse_type(Type::List, text) {
        Ok(ParsedValue::List(elements)) => elements,
        // Every text is a list.
        _ => Vec::new(),
    }
}

/// The name of a setting of a field.
pub fn of_field(field: &str, setting: &str) -> String {
    format!("{FIELD_PREFIX}{field}.{setting}")
}

/// The field that a setting belongs to, and its name there.
pub fn setting_of_field(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(FIELD_PREFIX)?.split_once('.')
}

/// A configuration that is being looked at.
struct Examined {
    /// Of all settings that are defined, and of those of fields that are wrong: without a definition a good value would
    /// count as a mistake of the connector.
    values: Vec<ConfigValue>,
    fields: Vec<Field>,
    key: Option<usize>,
    props: Props,
}

/// One value for each setting, and for each one of a field that is wrong.
pub fn validate(props: &Props) -> Vec<ConfigValue> {
    examine(props).values
}

/// What a good configuration asks for; else one error that says everything that is wrong.
pub fn plan(props: &Props) -> Result<Plan> {
    let examined = examine(props);
    let errors: Vec<&str> = examined.values.iter().flat_map(|value| &value.errors).map(String::as_str).collect();
    if !errors.is_empty() {
        return Err(ConnectError::config(errors.join("; ")));
    }
    let config = definition().parse(&examined.props)?;
    // Any 64 bits are a seed.
    let recipe = Recipe::new(config.long(SEED) as u64, examined.fields, examined.key)?;
    Ok(Plan {
        topic: config.string(TOPIC).into(),
        rate: config.double(RATE),
        count: config.opt_long(COUNT),
        batch_size: u64::try_from(config.int(BATCH_SIZE)).unwrap_or(1).min(recipe.largest_batch()),
        recipe,
    })
}

fn examine(props: &Props) -> Examined {
    let props = templates::completed(props);
    let values = definition().validate(&props);
    let mut examined = Examined { values, fields: Vec::new(), key: None, props };
    if examined.is_good(FIELDS) {
        examined.examine_fields();
    }
    examined
}

impl Examined {
    fn is_good(&self, name: &str) -> bool {
        self.values.iter().all(|value| value.name != name || value.errors.is_empty())
    }

    fn complain(&mut self, name: &str, why: &str) {
        let error = format!("{name}: {why}");
        match self.values.iter_mut().find(|value| value.name == name) {
            Some(value) => value.errors.push(error),
            None => {
                let value = self.props.get(name).cloned();
                self.values.push(ConfigValue { value, errors: vec![error], ..ConfigValue::new(name) });
            }
        }
    }

    fn examine_fields(&mut self) {
        let Some(names) = self.props.get(FIELDS).map(|text| list(text)) else {
            // A template that is not known has its own error.
            if self.is_good(TEMPLATE) {
                self.complain(FIELDS, &format!("name at least one field, or choose a {TEMPLATE}"));
            }
            return;
        };
        let mut settings = self.settings_by_field(&names);
        for name in &names {
            match field_settings::field(name, &settings.remove(name).unwrap_or_default()) {
                Ok(field) => self.fields.push(field),
                Err(wrong) => {
                    for Wrong { setting, why } in wrong {
                        self.complain(&of_field(name, &setting), &why);
                    }
                }
            }
        }
        let key = self.props.get(KEY_FIELD).map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        if let Some(key) = key {
            self.key = names.iter().position(|name| *name == key);
            if self.key.is_none() {
                self.complain(KEY_FIELD, &format!("{key:?} is none of the {FIELDS} {}", names.join(", ")));
            }
        }
    }

    /// The settings of each field by their names there; complains about those of none.
    fn settings_by_field(&mut self, names: &[String]) -> BTreeMap<String, Props> {
        let mut settings: BTreeMap<String, Props> = BTreeMap::new();
        let mut lost = Vec::new();
        for (name, text) in self.props.range(FIELD_PREFIX.to_owned()..) {
            if !name.starts_with(FIELD_PREFIX) {
                break;
            }
            match setting_of_field(name) {
                Some((field, setting)) if names.iter().any(|name| name == field) => {
                    settings.entry(field.to_owned()).or_default().insert(setting.to_owned(), text.clone());
                }
                Some((field, _)) => lost.push((name.clone(), format!("{field:?} is none of the {FIELDS}"))),
                None => lost.push((name.clone(), "settings of fields are called field.NAME.SETTING".to_owned())),
            }
        }
        for (name, why) in lost {
            self.complain(&name, &why);
        }
        settings
    }
}

#[cfg(test)]
mod tests;
