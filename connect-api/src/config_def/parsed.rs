//! Texts of a configuration, parsed to the type of their setting.

use std::collections::BTreeMap;
use std::fmt;

use super::Type;
use crate::java_text::{java_double, parse_java_double};

/// What is shown in place of a secret.
pub const HIDDEN: &str = "[hidden]";

/// A secret. Debug and Display hide it, so that it cannot slip into a log or an answer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Password(String);

impl Password {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Password(secret.into())
    }

    /// The secret itself, for the code that must send it.
    pub fn value(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// The value of one setting.
#[derive(Debug, Clone, PartialEq)]
pub enum ParsedValue {
    /// Of [`Type::Boolean`].
    Boolean(bool),
    /// Of [`Type::String`].
    String(String),
    /// Of [`Type::Int`].
    Int(i32),
    /// Of [`Type::Short`].
    Short(i16),
    /// Of [`Type::Long`].
    Long(i64),
    /// Of [`Type::Double`].
    Double(f64),
    /// Of [`Type::List`].
    List(Vec<String>),
    /// Of [`Type::Class`].
    Class(String),
    /// Of [`Type::Password`].
    Password(Password),
}

/// The value as REST shows it: lists joined with commas, secrets hidden, floating point numbers in Java's form. (Java:
/// `ConfigDef.convertToString`.)
impl fmt::Display for ParsedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParsedValue::Boolean(value) => write!(f, "{value}"),
            ParsedValue::String(value) | ParsedValue::Class(value) => f.write_str(value),
            ParsedValue::Int(value) => write!(f, "{value}"),
            ParsedValue::Short(value) => write!(f, "{value}"),
            ParsedValue::Long(value) => write!(f, "{value}"),
            ParsedValue::Double(value) => f.write_str(&java_double(*value)),
            ParsedValue::List(values) => f.write_str(&values.join(",")),
            ParsedValue::Password(secret) => write!(f, "{secret}"),
        }
    }
}

/// Parses the text of a setting as Java's `ConfigDef.parseType` does: blanks around it do not count, booleans are the
/// words true and false in any letter case, lists are split at commas with the blanks around them, an empty text is
/// the empty list. The error says what was expected.
///
/// A class must look like a class name; whether there is such a plug-in is for the registry to say. Hexadecimal
/// floating point numbers, which Java accepts, are refused.
pub fn parse_type(setting_type: Type, text: &str) -> Result<ParsedValue, String> {
    let text = java_trim(text);
    // A refused secret must not show up in the error; no other type comes from secrets, so those may be quoted.
    let wrong = |expected: &str| format!("{text:?} is not {expected}");
    match setting_type {
        Type::Boolean if text.eq_ignore_ascii_case("true") => Ok(ParsedValue::Boolean(true)),
        Type::Boolean if text.eq_ignore_ascii_case("false") => Ok(ParsedValue::Boolean(false)),
        Type::Boolean => Err(wrong("true or false")),
        Type::String => Ok(ParsedValue::String(text.to_owned())),
        Type::Int => text.parse().map(ParsedValue::Int).map_err(|_| wrong("an integer of 32 bits")),
        Type::Short => text.parse().map(ParsedValue::Short).map_err(|_| wrong("an integer of 16 bits")),
        Type::Long => text.parse().map(ParsedValue::Long).map_err(|_| wrong("an integer of 64 bits")),
        Type::Double => parse_java_double(text).map(ParsedValue::Double).ok_or_else(|| wrong("a number")),
        Type::List => Ok(ParsedValue::List(split_list(text))),
        Type::Class if is_class_name(text) => Ok(ParsedValue::Class(text.to_owned())),
        Type::Class => Err(wrong("the name of a class")),
        Type::Password => Ok(ParsedValue::Password(Password::new(text))),
    }
}

/// Java's `String.trim`: everything up to U+0020 counts as blank, and nothing else.
pub(super) fn java_trim(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}

fn split_list(trimmed: &str) -> Vec<String> {
    if trimmed.is_empty() {
        return Vec::new();
    }
    // The class \s of Java's regular expressions.
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r');
    let parts: Vec<&str> = trimmed.split(',').collect();
    let last = parts.len() - 1;
    // Only blanks beside a comma are eaten; those at the outer ends were trimmed by other rules.
    let inner = |(i, part): (usize, &&str)| {
        let part = if i > 0 { part.trim_start_matches(blank) } else { part };
        if i < last { part.trim_end_matches(blank).to_owned() } else { part.to_owned() }
    };
    parts.iter().enumerate().map(inner).collect()
}

fn is_class_name(text: &str) -> bool {
    text.split('.').all(|part| {
        let mut chars = part.chars();
        chars.next().is_some_and(|first| first.is_alphabetic() || first == '_' || first == '$')
            && chars.all(|c| c.is_alphanumeric() || c == '_' || c == '$')
    })
}

/// All settings of a configuration, each of the type that its definition says. Made by
/// [`ConfigDef::parse`](super::ConfigDef::parse).
///
/// Each getter panics when there is no definition of that name and type, or when an absent value without default is
/// read through a getter that does not return an option: mistakes in the plug-in, not in the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParsedConfig {
    pub(super) values: BTreeMap<String, Option<ParsedValue>>,
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident, $optional:ident: $type:ty = $pattern:pat => $value:expr;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(&self, name: &str) -> $type {
                self.$optional(name).unwrap_or_else(|| panic!("setting {name} has no value and no default"))
            }

            /// The same, or `None` when the setting is absent and has no default.
            pub fn $optional(&self, name: &str) -> Option<$type> {
                match self.get(name) {
                    None => None,
                    Some($pattern) => Some($value),
                    Some(_) => panic!(concat!("setting {} is not defined as ", stringify!($name)), name),
                }
            }
        )*
    };
}

impl ParsedConfig {
    /// The value of any type; `None` when it is absent and has no default.
    pub fn get(&self, name: &str) -> Option<&ParsedValue> {
        match self.values.get(name) {
            Some(value) => value.as_ref(),
            None => panic!("there is no definition of the setting {name}"),
        }
    }

    /// All settings in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&ParsedValue>)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_ref()))
    }

    getters! {
        /// A boolean.
        bool, opt_bool: bool = ParsedValue::Boolean(value) => *value;
        /// A text.
        string, opt_string: &str = ParsedValue::String(value) => value;
        /// A 32-bit integer.
        int, opt_int: i32 = ParsedValue::Int(value) => *value;
        /// A 16-bit integer.
        short, opt_short: i16 = ParsedValue::Short(value) => *value;
        /// A 64-bit integer.
        long, opt_long: i64 = ParsedValue::Long(value) => *value;
        /// A floating point number.
        double, opt_double: f64 = ParsedValue::Double(value) => *value;
        /// A list of texts.
        list, opt_list: &[String] = ParsedValue::List(value) => value;
        /// The name of a class.
        class, opt_class: &str = ParsedValue::Class(value) => value;
        /// A secret.
        password, opt_password: &Password = ParsedValue::Password(value) => value;
    }
}
