//! Definitions of settings and their validation (Java: `ConfigDef`).
//!
//! ```
//! use connect_api::config_def::{ConfigDef, ConfigKey, Importance, Type, Validator};
//!
//! let definition = ConfigDef::new()
//!     .define(ConfigKey::new("topic", Type::String, Importance::High, "Where records go.").validator(Validator::non_empty()))
//!     .define(ConfigKey::new("batch.size", Type::Int, Importance::Low, "Records in one batch.").default_value(2000));
//! let props = [("topic".to_owned(), " lines ".to_owned())].into();
//! let config = definition.parse(&props).unwrap();
//! assert_eq!((config.string("topic"), config.int("batch.size")), ("lines", 2000));
//! ```

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::connector::Props;
use crate::errors::{ConnectError, Result};

mod key;
mod parsed;
#[cfg(test)]
mod tests;
mod validator;

pub use key::{ConfigKey, DefaultValue, ParsedValues, Recommender};
pub use parsed::{HIDDEN, ParsedConfig, ParsedValue, Password, parse_type};
pub use validator::Validator;

/// The type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// true or false.
    Boolean,
    /// Text.
    String,
    /// 32-bit integer.
    Int,
    /// 16-bit integer.
    Short,
    /// 64-bit integer.
    Long,
    /// Floating point number.
    Double,
    /// Comma-separated texts.
    List,
    /// Name of a plug-in class.
    Class,
    /// Text that is never shown.
    Password,
}

/// How much a setting matters to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Importance {
    /// Look at it first.
    High,
    /// Sometimes needed.
    Medium,
    /// Rarely needed.
    Low,
}

/// How wide a form should show a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// Not said.
    None,
    /// A number.
    Short,
    /// A word.
    Medium,
    /// A line.
    Long,
}

macro_rules! words {
    ($($enumeration:ident { $($variant:ident => $word:literal),* $(,)? })*) => {
        $(impl $enumeration {
            /// The word in Java's definitions and in REST answers.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($enumeration::$variant => $word,)*
                }
            }
        })*
    };
}

words! {
    Type {
        Boolean => "BOOLEAN", String => "STRING", Int => "INT", Short => "SHORT", Long => "LONG", Double => "DOUBLE",
        List => "LIST", Class => "CLASS", Password => "PASSWORD",
    }
    Importance { High => "HIGH", Medium => "MEDIUM", Low => "LOW" }
    Width { None => "NONE", Short => "SHORT", Medium => "MEDIUM", Long => "LONG" }
}

/// What is known of one setting after validation.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigValue {
    /// The setting.
    pub name: String,
    /// Its parsed value as text; `None` when absent or when it could not be parsed.
    pub value: Option<String>,
    /// Values that would fit.
    pub recommended_values: Vec<String>,
    /// One sentence for each thing that is wrong.
    pub errors: Vec<String>,
    /// Whether a form should show it.
    pub visible: bool,
}

impl ConfigValue {
    /// A setting without value and without errors.
    pub fn new(name: impl Into<String>) -> Self {
        ConfigValue {
            name: name.into(),
            value: None,
            recommended_values: Vec::new(),
            errors: Vec::new(),
            visible: true,
        }
    }
}

/// The definitions of settings, in the order in which they were defined. Cheap to clone.
#[derive(Clone, Default)]
pub struct ConfigDef {
    keys: Arc<Vec<ConfigKey>>,
}

impl ConfigDef {
    /// No settings.
    pub fn new() -> Self {
        ConfigDef::default()
    }

    /// Adds a setting. Panics when the name is taken or the default does not fit type and validator: mistakes of the
    /// programmer. Use [`ConfigDef::try_define`] where names come from users.
    pub fn define(self, key: ConfigKey) -> Self {
        match self.try_define(key) {
            Ok(definition) => definition,
            Err(error) => panic!("{error}"),
        }
    }

    /// Adds a setting; an error when the name is taken or the default does not fit type and validator.
    pub fn try_define(mut self, key: ConfigKey) -> Result<Self> {
        let fail = |why: String| Err(ConnectError::config(format!("cannot define the setting {}: {why}", key.name)));
        if self.key(&key.name).is_some() {
            return fail("it is defined already".to_owned());
        }
        let default = match &key.default_value {
            DefaultValue::Required => None,
            DefaultValue::Absent => Some(None),
            DefaultValue::Text(text) => match parse_type(key.setting_type, text) {
                Ok(value) => Some(Some(value)),
                Err(error) => return fail(format!("its default: {error}")),
            },
        };
        if let (Some(default), Some(validator)) = (default, &key.validator)
            && let Err(error) = validator.ensure_valid(&key.name, default.as_ref())
        {
            return fail(format!("its default: {error}"));
        }
        Arc::make_mut(&mut self.keys).push(key);
        Ok(self)
    }

    /// All settings in the order of their definition.
    pub fn keys(&self) -> &[ConfigKey] {
        &self.keys
    }

    /// The definition of a setting.
    pub fn key(&self, name: &str) -> Option<&ConfigKey> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The headings in the order in which they first occur.
    pub fn groups(&self) -> Vec<String> {
        let mut groups: Vec<String> = Vec::new();
        for group in self.keys.iter().filter_map(|key| key.group.as_ref()) {
            if !groups.contains(group) {
                groups.push(group.clone());
            }
        }
        groups
    }

    /// Adds the settings of `child` with `prefix` before their names, under the heading `group` (or `group: own
    /// heading`), numbered from `first_order` on. Validators and recommenders see the names without the prefix. (Java:
    /// `ConfigDef.embed`.)
    pub fn embed(self, prefix: &str, group: &str, first_order: i32, child: &ConfigDef) -> Result<Self> {
        (first_order..).zip(child.sorted_keys()).try_fold(self, |definition, (order, key)| {
            let mut key = key.clone();
            key.name.insert_str(0, prefix);
            key.group = Some(key.group.map_or_else(|| group.to_owned(), |own| format!("{group}: {own}")));
            key.order_in_group = order;
            key.dependents.iter_mut().for_each(|dependent| dependent.insert_str(0, prefix));
            key.validator = key.validator.map(|validator| without_prefix(prefix, validator));
            key.recommender = key.recommender.map(|inner| {
                let prefix = prefix.to_owned();
                Arc::new(EmbeddedRecommender { prefix, inner }) as Arc<dyn Recommender>
            });
            definition.try_define(key)
        })
    }

    /// By heading (none first), place under it, required before others, importance, name. (Java: `sortedConfigs`.)
    fn sorted_keys(&self) -> Vec<&ConfigKey> {
        let groups = self.groups();
        let mut keys: Vec<&ConfigKey> = self.keys.iter().collect();
        let heading = |key: &ConfigKey| groups.iter().position(|group| Some(group) == key.group.as_ref());
        keys.sort_by(|a, b| {
            (heading(a), a.order_in_group, !a.is_required(), a.importance, &a.name).cmp(&(
                heading(b),
                b.order_in_group,
                !b.is_required(),
                b.importance,
                &b.name,
            ))
        });
        keys
    }

    /// Checks a configuration and returns one value for each setting, in the order of definition, then one for each
    /// setting that some `dependents` name and nobody defined. Settings without a definition are ignored.
    ///
    /// Like Java, a validator also sees the absent value of a missing or unparsable setting, so two errors may stand
    /// there. Unlike Java, a setting that depends on two others is looked at once.
    pub fn validate(&self, props: &Props) -> Vec<ConfigValue> {
        let (parsed, mut values) = self.parse_all(props, true);
        let undefined = self.undefined_dependents();
        for (key, value) in self.keys.iter().zip(&mut values) {
            if let Some(recommender) = &key.recommender {
                value.recommended_values = recommender.valid_values(&key.name, &parsed);
                value.visible = recommender.visible(&key.name, &parsed);
            }
        }
        values.extend(undefined.into_iter().map(|name| ConfigValue {
            errors: vec![format!("{name} stands among the dependents of a setting, but is not defined")],
            visible: false,
            ..ConfigValue::new(name)
        }));
        values
    }

    /// The typed values of a configuration, or one error that names everything that is wrong with it.
    pub fn parse(&self, props: &Props) -> Result<ParsedConfig> {
        let (parsed, values) = self.parse_all(props, false);
        let errors: Vec<&str> = values.iter().flat_map(|value| &value.errors).map(String::as_str).collect();
        match errors.as_slice() {
            [] => Ok(ParsedConfig { values: parsed }),
            errors => Err(ConnectError::config(errors.join("; "))),
        }
    }

    fn parse_all(&self, props: &Props, check_unparsed: bool) -> (ParsedValues, Vec<ConfigValue>) {
        let mut parsed = BTreeMap::new();
        let mut values = Vec::with_capacity(self.keys.len());
        for key in self.keys.iter() {
            let mut errors = Vec::new();
            let result = match (props.get(&key.name), &key.default_value) {
                (Some(text), _) => parse_type(key.setting_type, text).map(Some),
                (None, DefaultValue::Required) => Err("it is required, but missing".to_owned()),
                (None, DefaultValue::Absent) => Ok(None),
                (None, DefaultValue::Text(text)) => parse_type(key.setting_type, text).map(Some),
            };
            let good = result.is_ok();
            let value = result.unwrap_or_else(|error| {
                errors.push(format!("{}: {error}", key.name));
                None
            });
            if let Some(validator) = &key.validator
                && (good || check_unparsed)
                && let Err(error) = validator.ensure_valid(&key.name, value.as_ref())
            {
                errors.push(format!("{}: {error}", key.name));
            }
            let text = value.as_ref().map(ToString::to_string);
            values.push(ConfigValue { value: text, errors, ..ConfigValue::new(&key.name) });
            parsed.insert(key.name.clone(), value);
        }
        (parsed, values)
    }

    fn undefined_dependents(&self) -> Vec<String> {
        let mut seen: HashSet<&str> = self.keys.iter().map(|key| key.name.as_str()).collect();
        let dependents = self.keys.iter().flat_map(|key| &key.dependents);
        dependents.filter(|name| seen.insert(name)).cloned().collect()
    }
}

fn without_prefix(prefix: &str, validator: Validator) -> Validator {
    let prefix = prefix.to_owned();
    Validator::new(validator.to_string(), move |name, value| {
        validator.ensure_valid(name.strip_prefix(prefix.as_str()).unwrap_or(name), value)
    })
}

struct EmbeddedRecommender {
    prefix: String,
    inner: Arc<dyn Recommender>,
}

impl EmbeddedRecommender {
    fn own<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(self.prefix.as_str()).unwrap_or(name)
    }

    fn own_values(&self, parsed: &ParsedValues) -> ParsedValues {
        let own = parsed.iter().filter_map(|(name, value)| {
            name.strip_prefix(self.prefix.as_str()).map(|name| (name.to_owned(), value.clone()))
        });
        own.collect()
    }
}

impl Recommender for EmbeddedRecommender {
    fn valid_values(&self, name: &str, parsed: &ParsedValues) -> Vec<String> {
        self.inner.valid_values(self.own(name), &self.own_values(parsed))
    }

    fn visible(&self, name: &str, parsed: &ParsedValues) -> bool {
        self.inner.visible(self.own(name), &self.own_values(parsed))
    }
}
