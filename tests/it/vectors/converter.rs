//! Vectors of converters: bytes to data and back, for keys, values and headers.

use connect_api::{ConnectError, Props, SchemaAndValue, Value};
use connect_node::plugins::{PluginKind, Registry};
use serde_json::{Value as Json, json};

use super::{check_error, notation};

/// What a converter made of an input.
enum Output {
    Bytes(Option<bytes::Bytes>),
    Data(SchemaAndValue),
}

pub fn check(vector: &Json) -> Result<(), String> {
    let expected = &vector["expect"];
    let input = match notation::decode(&vector["input"]) {
        Ok(input) => input,
        // What cannot be made cannot be handed to a converter either; Java refuses it.
        Err(_) if expected["error"].is_string() => return Ok(()),
        Err(problem) => return Err(problem),
    };
    match (convert(vector, input), expected["error"].as_str()) {
        (Err(error), Some(kind)) => check_error(kind, &error),
        (Err(error), None) => Err(format!("expected {expected}, got {:?}: {}", error.kind(), with_causes(&error))),
        (Ok(Output::Bytes(bytes)), _) => {
            let got = bytes.as_ref().map(|bytes| notation::base64(bytes));
            let same = expected["error"].is_null() && json!(got) == expected["bytes"];
            let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            if same { Ok(()) } else { Err(format!("expected {expected}, got {text:?}")) }
        }
        (Ok(Output::Data(data)), _) => check_data(expected, &data),
    }
}

pub fn check_parse_string(vector: &Json) -> Result<(), String> {
    let data = vector["text"].as_str().map_or(SchemaAndValue::NULL, connect_node::converters::values::parse_string);
    check_data(&vector["expect"], &data)
}

fn with_causes(error: &ConnectError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn check_data(expected: &Json, data: &SchemaAndValue) -> Result<(), String> {
    if let Some(depth) = expected["nesting_depth"].as_u64() {
        let got = nesting_depth(&data.value);
        return if got == depth { Ok(()) } else { Err(format!("expected depth {depth}, got {got}")) };
    }
    let wanted = match expected["null_result"].as_bool() {
        Some(true) => json!({"schema": null, "value": null}),
        _ => expected.clone(),
    };
    let got = notation::encode(data);
    match notation::normalized(&got) == notation::normalized(&wanted) {
        true => Ok(()),
        false => Err(format!("expected {expected}, got {got}")),
    }
}

fn nesting_depth(value: &Value) -> u64 {
    let mut depth = 0;
    let mut inner = value;
    while let Value::Array(items) = inner {
        depth += 1;
        match items.first() {
            Some(item) => inner = item,
            None => break,
        }
    }
    depth
}

fn convert(vector: &Json, input: SchemaAndValue) -> Result<Output, ConnectError> {
    let text = |name: &str| vector[name].as_str().unwrap_or_default();
    let mut props: Props = notation::props(&vector["config"]);
    let (class, topic, header) = (text("converter"), text("topic"), text("header"));
    let bytes = notation::bytes(&vector["input"]["bytes"]);
    let is_key = vector["is_key"].as_bool().unwrap_or(false);
    let registry = Registry::built_in();
    let mut plugins = registry.iter().filter(|plugin| plugin.class == class);
    match text("op") {
        op @ ("fromConnectData" | "toConnectData") => {
            let make = plugins.find_map(|plugin| match plugin.kind {
                PluginKind::Converter(make) => Some(make),
                _ => None,
            });
            let mut converter = make.ok_or_else(|| ConnectError::fatal(format!("no converter {class}")))?();
            props.insert("converter.type".to_owned(), if is_key { "key" } else { "value" }.to_owned());
            converter.configure(&props, is_key)?;
            match op {
                "toConnectData" => converter.to_connect_data(topic, &[], bytes.as_ref()).map(Output::Data),
                _ => converter.from_connect_data(topic, &[], input.schema.as_deref(), &input.value).map(Output::Bytes),
            }
        }
        op @ ("fromConnectHeader" | "toConnectHeader") => {
            let make = plugins.find_map(|plugin| match plugin.kind {
                PluginKind::HeaderConverter(make) => Some(make),
                _ => None,
            });
            let mut converter = make.ok_or_else(|| ConnectError::fatal(format!("no header converter {class}")))?();
            props.insert("converter.type".to_owned(), "header".to_owned());
            converter.configure(&props)?;
            match op {
                "toConnectHeader" => converter.to_connect_header(topic, header, bytes.as_ref()).map(Output::Data),
                _ => converter.from_connect_header(topic, header, &input).map(Output::Bytes),
            }
        }
        other => panic!("no such operation: {other}"),
    }
}
