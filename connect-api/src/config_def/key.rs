//! One setting: what it is called, what it takes, how a form shows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Importance, ParsedValue, Type, Validator, Width};

/// What a setting is when the configuration does not name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultValue {
    /// It must be named.
    Required,
    /// It stays absent.
    Absent,
    /// It has this text.
    Text(String),
}

/// What is known of the other settings when a [`Recommender`] is asked; `None` for absent or unparsable ones.
pub type ParsedValues = BTreeMap<String, Option<ParsedValue>>;

/// Says which values fit, given the other settings (Java: `ConfigDef.Recommender`).
pub trait Recommender: Send + Sync {
    /// The values that fit; none when everything might.
    fn valid_values(&self, name: &str, parsed: &ParsedValues) -> Vec<String>;

    /// Whether a form should show the setting.
    fn visible(&self, _name: &str, _parsed: &ParsedValues) -> bool {
        true
    }
}

/// The definition of one setting (Java: `ConfigDef.ConfigKey`). REST shows all of its fields but the last two.
#[derive(Clone)]
pub struct ConfigKey {
    /// What users write.
    pub name: String,
    /// What its text is parsed to.
    pub setting_type: Type,
    /// What holds when users write nothing.
    pub default_value: DefaultValue,
    /// How much it matters.
    pub importance: Importance,
    /// What it does, in a sentence.
    pub documentation: String,
    /// Under which heading a form shows it.
    pub group: Option<String>,
    /// Its place under the heading; -1 where there is none.
    pub order_in_group: i32,
    /// How wide a form shows it.
    pub width: Width,
    /// What a form calls it.
    pub display_name: String,
    /// Settings whose recommendations depend on this one.
    pub dependents: Vec<String>,
    /// What a good value is, beyond its type.
    pub validator: Option<Validator>,
    /// Which values fit, given the other settings.
    pub recommender: Option<Arc<dyn Recommender>>,
}

/// Checks and recommendations are code and not shown.
impl std::fmt::Debug for ConfigKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ConfigKey");
        shown.field("name", &self.name).field("setting_type", &self.setting_type);
        shown.field("importance", &self.importance).field("group", &self.group).finish_non_exhaustive()
    }
}

impl ConfigKey {
    /// A required setting without a group.
    pub fn new(name: &str, setting_type: Type, importance: Importance, documentation: &str) -> Self {
        ConfigKey {
            name: name.to_owned(),
            setting_type,
            default_value: DefaultValue::Required,
            importance,
            documentation: documentation.to_owned(),
            group: None,
            order_in_group: -1,
            width: Width::None,
            display_name: name.to_owned(),
            dependents: Vec::new(),
            validator: None,
            recommender: None,
        }
    }

    /// It may be absent and then has no value (a default of null in Java).
    pub fn optional(mut self) -> Self {
        self.default_value = DefaultValue::Absent;
        self
    }

    /// It may be absent and then has this text.
    pub fn default_value(mut self, text: impl ToString) -> Self {
        self.default_value = DefaultValue::Text(text.to_string());
        self
    }

    /// Puts it under a heading of a form.
    pub fn group(mut self, group: &str, order_in_group: i32, width: Width, display_name: &str) -> Self {
        self.group = Some(group.to_owned());
        self.order_in_group = order_in_group;
        self.width = width;
        self.display_name = display_name.to_owned();
        self
    }

    /// What a good value is, beyond its type.
    pub fn validator(mut self, validator: Validator) -> Self {
        self.validator = Some(validator);
        self
    }

    /// Settings whose recommendations depend on this one.
    pub fn dependents(mut self, names: &[&str]) -> Self {
        self.dependents = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Which values fit, given the other settings.
    pub fn recommender(mut self, recommender: impl Recommender + 'static) -> Self {
        self.recommender = Some(Arc::new(recommender));
        self
    }

    /// Whether users must write it.
    pub fn is_required(&self) -> bool {
        self.default_value == DefaultValue::Required
    }

    /// The text of the default as REST shows it: parsed and written again, `None` where there is none, secrets hidden.
    pub fn default_text(&self) -> Option<String> {
        match &self.default_value {
            DefaultValue::Text(text) => Some(match super::parse_type(self.setting_type, text) {
                Ok(value) => value.to_string(),
                // Cannot happen for a defined key: `define` checks defaults.
                Err(_) => text.clone(),
            }),
            _ => None,
        }
    }
}
