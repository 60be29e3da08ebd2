//! What the settings of all converters have in common (Java: `ConverterConfig`).

use connect_api::{ConfigDef, ConfigKey, Importance, ParsedConfig, Props, Result, Type, Validator};

/// Setting: what the converter is for. The runtime sets it, users need not.
const TYPE_CONFIG: &str = "converter.type";

/// What a converter is for when it converts headers.
pub(super) const HEADER: &str = "header";

/// The settings that every converter but the one for simple headers has; others are added to them.
pub(super) fn definition() -> ConfigDef {
    let converter_type =
        ConfigKey::new(TYPE_CONFIG, Type::String, Importance::Low, "What is converted; set by the worker.");
    ConfigDef::new().define(converter_type.validator(Validator::one_of(&["key", "value", HEADER])))
}

/// What a converter of records is for.
pub(super) fn key_or_value(is_key: bool) -> &'static str {
    if is_key { "key" } else { "value" }
}

/// The settings of a converter with the type that the runtime says; that of `props` does not count.
pub(super) fn parse(definition: &ConfigDef, props: &Props, converter_type: &str) -> Result<ParsedConfig> {
    let mut props = props.clone();
    props.insert(TYPE_CONFIG.to_owned(), converter_type.to_owned());
    definition.parse(&props)
}
