//! Definitions of settings and their validation (Java: `ConfigDef`).

use crate::connector::Props;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// The definitions of settings.
#[derive(Clone, Default)]
pub struct ConfigDef {}

impl ConfigDef {
    /// No settings.
    pub fn new() -> Self {
        ConfigDef::default()
    }

    /// Checks a configuration and returns one value for each setting.
    pub fn validate(&self, _props: &Props) -> Vec<ConfigValue> {
        Vec::new()
    }
}
