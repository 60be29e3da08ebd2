//! The notation of values and schemas in vectors, and back.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connect_api::schema::logical;
use connect_api::{Decimal, Props, Schema, SchemaAndValue, SchemaBuilder, SchemaRef, SchemaType, Struct, Value};
use connect_node::json::number::{double_text, float_text};
use serde_json::{Map, Value as Json, json};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The settings of a vector.
pub fn props(config: &Json) -> Props {
    let entries = config.as_object().into_iter().flatten();
    entries.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

pub fn bytes(json: &Json) -> Option<bytes::Bytes> {
    json.as_str().map(|text| STANDARD.decode(text).expect("base64 in a vector").into())
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// `{schema, value}`; the error names what connect-node's values cannot hold.
pub fn decode(json: &Json) -> Result<SchemaAndValue, String> {
    let schema = decode_schema(&json["schema"])?;
    let value = decode_value(schema.as_ref(), &json["value"])?;
    Ok(SchemaAndValue { schema, value })
}

/// Brings the entries of all maps in an order of their own, so that two encodings can be compared.
pub fn normalized(json: &Json) -> Json {
    match json {
        Json::Array(items) => items.iter().map(normalized).collect(),
        Json::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| {
                let mut value = normalized(value);
                if let (Json::Array(entries), "map") = (&mut value, name.as_str()) {
                    entries.sort_by_key(Json::to_string);
                }
                (name.clone(), value)
            });
            Json::Object(fields.collect())
        }
        other => other.clone(),
    }
}

pub fn encode(data: &SchemaAndValue) -> Json {
    json!({"schema": encode_schema(data.schema.as_deref()), "value": encode_value(data.schema.as_deref(), &data.value)})
}

pub fn decode_schema(json: &Json) -> Result<Option<SchemaRef>, String> {
    let Some(kind) = json["type"].as_str() else { return Ok(None) };
    let inner = |name: &str| match json.get(name) {
        Some(schema) => decode_schema(schema),
        None => Err(format!("{kind} without {name}")),
    };
    let mut builder = match kind {
        "array" => SchemaBuilder::array(inner("items")?),
        "map" => SchemaBuilder::map(inner("keys")?, inner("values")?),
        "struct" => {
            let mut builder = SchemaBuilder::new_struct();
            for field in json["fields"].as_array().into_iter().flatten() {
                let schema = decode_schema(&field["schema"])?.ok_or("field without schema")?;
                builder = builder.field(field["name"].as_str().unwrap_or_default(), schema);
            }
            builder
        }
        simple => SchemaBuilder::new(match simple {
            "int8" => SchemaType::Int8,
            "int16" => SchemaType::Int16,
            "int32" => SchemaType::Int32,
            "int64" => SchemaType::Int64,
            "float32" => SchemaType::Float32,
            "float64" => SchemaType::Float64,
            "boolean" => SchemaType::Boolean,
            "string" => SchemaType::String,
            "bytes" => SchemaType::Bytes,
            other => return Err(format!("unknown schema type {other}")),
        }),
    };
    if json["optional"] == json!(true) {
        builder = builder.optional();
    }
    if let Some(name) = json["name"].as_str() {
        builder = builder.name(name);
    }
    if let Some(version) = json["version"].as_i64() {
        builder = builder.version(version as i32);
    }
    if let Some(doc) = json["doc"].as_str() {
        builder = builder.doc(doc);
    }
    for (name, value) in json["params"].as_object().into_iter().flatten() {
        builder = builder.parameter(name, value.as_str().unwrap_or_default());
    }
    if !json["default"].is_null() {
        let schema = builder.clone().build();
        builder = builder.default_value(decode_value(Some(&schema), &json["default"])?);
    }
    Ok(Some(builder.build()))
}

pub fn encode_schema(schema: Option<&Schema>) -> Json {
    let Some(schema) = schema else { return Json::Null };
    let mut out = Map::new();
    let mut put = |name: &str, value: Json| out.insert(name.to_owned(), value);
    let kind = match schema.schema_type() {
        SchemaType::Int8 => "int8",
        SchemaType::Int16 => "int16",
        SchemaType::Int32 => "int32",
        SchemaType::Int64 => "int64",
        SchemaType::Float32 => "float32",
        SchemaType::Float64 => "float64",
        SchemaType::Boolean => "boolean",
        SchemaType::String => "string",
        SchemaType::Bytes => "bytes",
        SchemaType::Array(items) => {
            put("items", encode_schema(items.as_deref()));
            "array"
        }
        SchemaType::Map(keys, values) => {
            put("keys", encode_schema(keys.as_deref()));
            put("values", encode_schema(values.as_deref()));
            "map"
        }
        SchemaType::Struct(fields) => {
            let fields =
                fields.iter().map(|field| json!({"name": &*field.name, "schema": encode_schema(Some(&field.schema))}));
            put("fields", fields.collect());
            "struct"
        }
    };
    put("type", json!(kind));
    if schema.is_optional() {
        put("optional", json!(true));
    }
    if let Some(name) = schema.name() {
        put("name", json!(name));
    }
    if let Some(version) = schema.version() {
        put("version", json!(version));
    }
    if let Some(doc) = schema.doc() {
        put("doc", json!(doc));
    }
    if !schema.parameters().is_empty() {
        put("params", json!(schema.parameters().clone().into_iter().collect::<BTreeMap<_, _>>()));
    }
    if let Some(default) = schema.default_value() {
        put("default", encode_value(Some(schema), default));
    }
    Json::Object(out)
}

pub fn decode_value(schema: Option<&SchemaRef>, json: &Json) -> Result<Value, String> {
    let Some(tagged) = json.as_object() else { return Ok(Value::Null) };
    let (tag, content) = tagged.iter().next().ok_or("a value without a tag")?;
    let number = || content.as_i64().ok_or("no number");
    let text = || content.as_str().ok_or("no text");
    Ok(match tag.as_str() {
        "boolean" => Value::Boolean(content.as_bool().ok_or("no boolean")?),
        "int8" => Value::Int8(number()? as i8),
        "int16" => Value::Int16(number()? as i16),
        "int32" => Value::Int32(number()? as i32),
        "int64" => Value::Int64(text()?.parse().map_err(|_| "no int64")?),
        "float32" => Value::Float32(text()?.parse().map_err(|_| "no float32")?),
        "float64" => Value::Float64(text()?.parse().map_err(|_| "no float64")?),
        "string" => Value::text(text()?),
        "bytes" => Value::Bytes(bytes(content).ok_or("no bytes")?),
        "date" => Value::Date(number()? as i32),
        "time" => Value::Time(number()? as i32),
        "timestamp" => Value::Timestamp(text()?.parse().map_err(|_| "no timestamp")?),
        "decimal" => {
            let unscaled = content["unscaled"].as_str().and_then(|text| text.parse().ok()).ok_or("no decimal")?;
            Decimal { unscaled, scale: content["scale"].as_i64().ok_or("no scale")? as i32 }.into()
        }
        "array" => {
            let items = schema.and_then(|schema| schema.value_schema());
            let elements = content.as_array().ok_or("no array")?.iter();
            elements.map(|element| decode_value(items, element)).collect::<Result<Vec<_>, _>>()?.into()
        }
        "map" => {
            let keys = schema.and_then(|schema| schema.key_schema());
            let values = schema.and_then(|schema| schema.value_schema());
            let entries = content.as_array().ok_or("no map")?.iter();
            entries
                .map(|entry| Ok((decode_value(keys, &entry[0])?, decode_value(values, &entry[1])?)))
                .collect::<Result<Vec<_>, String>>()?
                .into()
        }
        "struct" => {
            let own = decode_schema(&json["struct_schema"])?;
            let schema = own.as_ref().or(schema).ok_or("a struct without a schema")?;
            let mut data = Struct::new(schema.clone());
            for field in schema.fields() {
                let value = decode_value(Some(&field.schema), &content[&*field.name])?;
                data.put(&field.name, value).map_err(|error| error.to_string())?;
            }
            data.into()
        }
        other => return Err(format!("values cannot hold a {other}")),
    })
}

pub fn encode_value(schema: Option<&Schema>, value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(flag) => json!({"boolean": flag}),
        Value::Int8(number) => json!({"int8": number}),
        Value::Int16(number) => json!({"int16": number}),
        Value::Int32(number) => json!({"int32": number}),
        Value::Int64(number) => json!({"int64": number.to_string()}),
        Value::Float32(number) => json!({"float32": float_text(*number)}),
        Value::Float64(number) => json!({"float64": double_text(*number)}),
        Value::String(text) => json!({"string": &**text}),
        Value::Bytes(bytes) => json!({"bytes": base64(bytes)}),
        Value::Decimal(number) => {
            json!({"decimal": {"unscaled": number.unscaled.to_string(), "scale": number.scale}})
        }
        Value::Date(days) => encode_instant(schema, i64::from(*days) * DAY_MS),
        Value::Time(millis) => encode_instant(schema, (*millis).into()),
        Value::Timestamp(millis) => encode_instant(schema, *millis),
        Value::Array(items) => {
            let schema = schema.and_then(Schema::value_schema).map(|schema| &**schema);
            json!({"array": items.iter().map(|item| encode_value(schema, item)).collect::<Vec<_>>()})
        }
        Value::Map(entries) => {
            let keys = schema.and_then(Schema::key_schema).map(|schema| &**schema);
            let values = schema.and_then(Schema::value_schema).map(|schema| &**schema);
            let entry = |(key, value)| json!([encode_value(keys, key), encode_value(values, value)]);
            json!({"map": entries.iter().map(|(key, value)| entry((key, value))).collect::<Vec<_>>()})
        }
        Value::Struct(data) => {
            let fields = data.schema().fields().iter().zip(data.values());
            let fields =
                fields.map(|(field, value)| (field.name.to_string(), encode_value(Some(&field.schema), value)));
            let mut out = json!({"struct": fields.collect::<Map<_, _>>()});
            if schema != Some(&**data.schema()) {
                out["struct_schema"] = encode_schema(Some(data.schema()));
            }
            out
        }
    }
}

/// A Java date object is written as a date or a time only where its schema can describe it so.
fn encode_instant(schema: Option<&Schema>, millis: i64) -> Json {
    match schema.and_then(Schema::name) {
        Some(logical::DATE) if millis % DAY_MS == 0 => json!({"date": millis / DAY_MS}),
        Some(logical::TIME) if (0..DAY_MS).contains(&millis) => json!({"time": millis}),
        _ => json!({"timestamp": millis.to_string()}),
    }
}
