//! The JSON form of schemas: reading them.

use connect_api::{ConnectError, Result, SchemaBuilder, SchemaRef, SchemaType, Value};

use super::json::Options;
use super::json_reader::{check_nulls, read_value};
use crate::json::{Json, Object};

/// How deep the schemas of an envelope may be nested. Java bounds the depth of JSON alone, at 1000; a schema is read and
/// its data converted by functions that call themselves, and a record must not exhaust the stack.
pub(super) const MAX_SCHEMA_DEPTH: usize = 100;

/// Remembers schemas so that equal JSON gives the same shared schema.
#[derive(Debug)]
pub(super) struct SchemaReader {
    known: RecentlyUsed<Json, Option<SchemaRef>>,
}

impl SchemaReader {
    pub(super) fn new(size: usize) -> Self {
        SchemaReader { known: RecentlyUsed::new(size) }
    }

    /// The schema that JSON describes; `None` for null: schemaless.
    pub(super) fn schema(&mut self, json: &Json, options: Options) -> Result<Option<SchemaRef>> {
        if let Some(schema) = self.known.get(|known| known == json) {
            return Ok(schema.clone());
        }
        let schema = read_optional_schema(json, options, 0)?;
        self.known.insert(json.clone(), schema.clone());
        Ok(schema)
    }
}

/// A few things in the order in which they were last used; the one not used for longest makes room for a new one.
#[derive(Debug)]
pub(super) struct RecentlyUsed<K, V> {
    size: usize,
    /// The last used one stands behind.
    entries: Vec<(K, V)>,
}

impl<K, V> RecentlyUsed<K, V> {
    pub(super) fn new(size: usize) -> Self {
        RecentlyUsed { size, entries: Vec::new() }
    }

    /// Looks at each entry, the last used one first: topics mostly have one schema.
    pub(super) fn get(&mut self, is_wanted: impl Fn(&K) -> bool) -> Option<&V> {
        let place = self.entries.iter().rposition(|(key, _)| is_wanted(key))?;
        self.entries[place..].rotate_left(1);
        self.entries.last().map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.size == 0 {
            return;
        }
        if self.entries.len() == self.size {
            self.entries.remove(0);
        }
        self.entries.push((key, value));
    }
}

fn read_optional_schema(json: &Json, options: Options, depth: usize) -> Result<Option<SchemaRef>> {
    match json {
        Json::Null => Ok(None),
        Json::Object(fields) => read_schema(fields, options, depth).map(Some),
        _ => Err(ConnectError::data("a schema must be null or a JSON object with 'type'")),
    }
}

fn read_schema(json: &Object, options: Options, depth: usize) -> Result<SchemaRef> {
    if depth >= MAX_SCHEMA_DEPTH {
        return Err(ConnectError::data(format!("schemas are nested deeper than {MAX_SCHEMA_DEPTH} levels")));
    }
    let Some(kind) = json.get("type").and_then(Json::as_str) else {
        return Err(ConnectError::data("a schema must have 'type' with a string"));
    };
    let inner = |name: &str| match json.get(name).map(|json| read_optional_schema(json, options, depth + 1)) {
        Some(Ok(Some(schema))) => Ok(schema),
        Some(Err(error)) => Err(error),
        Some(Ok(None)) | None => Err(ConnectError::data(format!("a schema of type {kind} must have '{name}'"))),
    };
    let mut builder = match kind {
        "boolean" => SchemaBuilder::new(SchemaType::Boolean),
        "int8" => SchemaBuilder::new(SchemaType::Int8),
        "int16" => SchemaBuilder::new(SchemaType::Int16),
        "int32" => SchemaBuilder::new(SchemaType::Int32),
        "int64" => SchemaBuilder::new(SchemaType::Int64),
        "float" => SchemaBuilder::new(SchemaType::Float32),
        "double" => SchemaBuilder::new(SchemaType::Float64),
        "bytes" => SchemaBuilder::new(SchemaType::Bytes),
        "string" => SchemaBuilder::new(SchemaType::String),
        "array" => SchemaBuilder::array(inner("items")?),
        "map" => SchemaBuilder::map(inner("keys")?, inner("values")?),
        "struct" => read_fields(json, options, depth)?,
        other => {
            return Err(ConnectError::data(format!(
                "'{other}' is no type of a schema; known are boolean, int8, int16, int32, int64, float, double, bytes, \
                 string, array, map and struct"
            )));
        }
    };
    if json.get("optional") == Some(&Json::Boolean(true)) {
        builder = builder.optional();
    }
    if let Some(name) = json.get("name").and_then(Json::as_str) {
        builder = builder.name(name);
    }
    if let Some(version @ (Json::Integer(_) | Json::BigInteger(_))) = json.get("version") {
        builder = builder.version(version.to_i64_wrapping() as i32);
    }
    if let Some(doc) = json.get("doc").and_then(Json::as_str) {
        builder = builder.doc(doc);
    }
    if let Some(Json::Object(parameters)) = json.get("parameters") {
        for (name, value) in parameters.iter() {
            let Json::String(value) = value else {
                return Err(ConnectError::data(format!("parameter '{name}' of a schema must be a string")));
            };
            builder = builder.parameter(&**name, &**value);
        }
    }
    if let Some(default) = json.get("default") {
        let schema = builder.clone().build();
        let default = read_value(&schema, default, options)?;
        check_nulls(&schema, &default)?;
        if let Value::Struct(_) = default {
            // A struct carries its schema, and a schema with this default would be another one; Java refuses it too.
            return Err(ConnectError::data("a schema of type struct cannot have a 'default'"));
        }
        if !default.is_null() {
            builder = builder.default_value(default);
        }
    }
    Ok(builder.build())
}

fn read_fields(json: &Object, options: Options, depth: usize) -> Result<SchemaBuilder> {
    let Some(Json::Array(fields)) = json.get("fields") else {
        return Err(ConnectError::data("a schema of type struct must have 'fields' with an array"));
    };
    let mut names = std::collections::HashSet::with_capacity(fields.len());
    let mut builder = SchemaBuilder::new_struct();
    for field in fields {
        let Some((field, name)) = field.as_object().and_then(|field| Some((field, field.get("field")?.as_str()?)))
        else {
            return Err(ConnectError::data("a field of a struct must have 'field' with its name"));
        };
        if name.is_empty() || !names.insert(name) {
            return Err(ConnectError::data(format!("a struct has a field '{name}' twice, or one without a name")));
        }
        builder = builder.field(name, read_schema(field, options, depth + 1)?);
    }
    Ok(builder)
}
