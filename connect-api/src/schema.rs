//! Schemas describe data; they are immutable and shared.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use bytestring::ByteString;

use crate::errors::{ConnectError, Result};
use crate::value::Value;

pub mod logical;
#[cfg(test)]
mod tests;
mod validation;
pub(crate) use validation::within;

pub use logical::Logical;

/// A shared schema.
pub type SchemaRef = Arc<Schema>;

/// The physical type (Java: `Schema.Type`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaType {
    /// 8-bit signed integer.
    Int8,
    /// 16-bit signed integer.
    Int16,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// 32-bit IEEE 754.
    Float32,
    /// 64-bit IEEE 754.
    Float64,
    /// true or false.
    Boolean,
    /// UTF-8 text.
    String,
    /// Bytes.
    Bytes,
    /// Elements of one schema. `None`: nothing is said of them; they may be of any kind. Only data whose types were guessed
    /// comes so, as a header such as `[1, "a"]` does.
    Array(Option<SchemaRef>),
    /// Keys of one schema and values of another; `None` as for [`SchemaType::Array`].
    Map(Option<SchemaRef>, Option<SchemaRef>),
    /// Named fields.
    Struct(Vec<Field>),
}

/// A named part of a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: ByteString,
    /// What it holds.
    pub schema: SchemaRef,
}

/// Describes data. Built with [`SchemaBuilder`].
///
/// Comparing two references to one and the same schema costs nothing; keep a schema and clone its reference instead of
/// building it anew for each record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub(crate) schema_type: SchemaType,
    pub(crate) optional: bool,
    pub(crate) default: Option<Value>,
    pub(crate) name: Option<ByteString>,
    /// Follows from the name.
    pub(crate) logical: Option<Logical>,
    pub(crate) version: Option<i32>,
    pub(crate) doc: Option<ByteString>,
    pub(crate) parameters: BTreeMap<String, String>,
}

macro_rules! constants {
    ($($name:ident $optional_name:ident $variant:ident),* $(,)?) => {
        $(
            #[doc = concat!("A required ", stringify!($variant), ".")]
            pub static $name: LazyLock<SchemaRef> = LazyLock::new(|| SchemaBuilder::new(SchemaType::$variant).build());
            #[doc = concat!("An optional ", stringify!($variant), ".")]
            pub static $optional_name: LazyLock<SchemaRef> =
                LazyLock::new(|| SchemaBuilder::new(SchemaType::$variant).optional().build());
        )*
    };
}

constants! {
    INT8 OPTIONAL_INT8 Int8,
    INT16 OPTIONAL_INT16 Int16,
    INT32 OPTIONAL_INT32 Int32,
    INT64 OPTIONAL_INT64 Int64,
    FLOAT32 OPTIONAL_FLOAT32 Float32,
    FLOAT64 OPTIONAL_FLOAT64 Float64,
    BOOLEAN OPTIONAL_BOOLEAN Boolean,
    STRING OPTIONAL_STRING String,
    BYTES OPTIONAL_BYTES Bytes,
}

impl SchemaType {
    /// The name that Java gives it, in capitals.
    pub fn name(&self) -> &'static str {
        match self {
            SchemaType::Int8 => "INT8",
            SchemaType::Int16 => "INT16",
            SchemaType::Int32 => "INT32",
            SchemaType::Int64 => "INT64",
            SchemaType::Float32 => "FLOAT32",
            SchemaType::Float64 => "FLOAT64",
            SchemaType::Boolean => "BOOLEAN",
            SchemaType::String => "STRING",
            SchemaType::Bytes => "BYTES",
            SchemaType::Array(_) => "ARRAY",
            SchemaType::Map(..) => "MAP",
            SchemaType::Struct(_) => "STRUCT",
        }
    }
}

impl Schema {
    /// The physical type.
    pub fn schema_type(&self) -> &SchemaType {
        &self.schema_type
    }

    /// Whether a null is allowed.
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    /// The value that stands for an absent one.
    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_ref()
    }

    /// The name; logical types are known by it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The logical type. As in Java, the name alone decides, whatever the physical type.
    pub fn logical(&self) -> Option<Logical> {
        self.logical
    }

    /// The version.
    pub fn version(&self) -> Option<i32> {
        self.version
    }

    /// The documentation.
    pub fn doc(&self) -> Option<&str> {
        self.doc.as_deref()
    }

    /// Free settings, sorted by name.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// What the keys of a map are (Java: `keySchema`); nothing for other types, and where the schema does not say it.
    pub fn key_schema(&self) -> Option<&SchemaRef> {
        match &self.schema_type {
            SchemaType::Map(keys, _) => keys.as_ref(),
            _ => None,
        }
    }

    /// What the elements of an array or the values of a map are (Java: `valueSchema`); nothing for other types, and where the
    /// schema does not say it.
    pub fn value_schema(&self) -> Option<&SchemaRef> {
        match &self.schema_type {
            SchemaType::Array(values) | SchemaType::Map(_, values) => values.as_ref(),
            _ => None,
        }
    }

    /// The fields of a struct; none for other types.
    pub fn fields(&self) -> &[Field] {
        match &self.schema_type {
            SchemaType::Struct(fields) => fields,
            _ => &[],
        }
    }

    /// A field of a struct and its index.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields().iter().enumerate().find(|(_, field)| &*field.name == name)
    }
}

/// Builds a schema (Java: `SchemaBuilder`).
#[derive(Debug, Clone)]
pub struct SchemaBuilder(Schema);

impl SchemaBuilder {
    /// A required schema of this type.
    pub fn new(schema_type: SchemaType) -> Self {
        SchemaBuilder(Schema {
            schema_type,
            optional: false,
            default: None,
            name: None,
            logical: None,
            version: None,
            doc: None,
            parameters: BTreeMap::new(),
        })
    }

    /// The type, name, version, documentation and parameters of another schema, required and without default.
    pub fn like(schema: &Schema) -> Self {
        SchemaBuilder(Schema { optional: false, default: None, ..schema.clone() })
    }

    /// A list.
    pub fn array(elements: impl Into<Option<SchemaRef>>) -> Self {
        Self::new(SchemaType::Array(elements.into()))
    }

    /// A map.
    pub fn map(keys: impl Into<Option<SchemaRef>>, values: impl Into<Option<SchemaRef>>) -> Self {
        Self::new(SchemaType::Map(keys.into(), values.into()))
    }

    /// A struct; add fields with [`SchemaBuilder::field`].
    pub fn new_struct() -> Self {
        Self::new(SchemaType::Struct(Vec::new()))
    }

    /// Allows null.
    pub fn optional(mut self) -> Self {
        self.0.optional = true;
        self
    }

    /// The value that stands for an absent one.
    pub fn default_value(mut self, value: impl Into<Value>) -> Self {
        self.0.default = Some(value.into());
        self
    }

    /// Names the schema.
    pub fn name(mut self, name: impl Into<ByteString>) -> Self {
        let name = name.into();
        self.0.logical = Logical::of_name(&name);
        self.0.name = Some(name);
        self
    }

    /// Sets the version.
    pub fn version(mut self, version: i32) -> Self {
        self.0.version = Some(version);
        self
    }

    /// Documents the schema.
    pub fn doc(mut self, doc: impl Into<ByteString>) -> Self {
        self.0.doc = Some(doc.into());
        self
    }

    /// Sets a free setting.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.parameters.insert(name.into(), value.into());
        self
    }

    /// Adds a field to a struct. Panics for another type: a mistake of the programmer.
    pub fn field(mut self, name: impl Into<ByteString>, schema: SchemaRef) -> Self {
        match &mut self.0.schema_type {
            SchemaType::Struct(fields) => fields.push(Field { name: name.into(), schema }),
            other => panic!("{other:?} has no fields"),
        }
        self
    }

    /// The finished schema. Panics where [`SchemaBuilder::try_build`] returns an error; use that one when names or defaults
    /// come from data.
    pub fn build(self) -> SchemaRef {
        match self.try_build() {
            Ok(schema) => schema,
            Err(error) => panic!("{error}"),
        }
    }

    /// The finished schema; an error of kind Data when a field has no name or the name of another one, or when the
    /// default does not fit.
    pub fn try_build(self) -> Result<SchemaRef> {
        let mut names = HashSet::new();
        for field in self.0.fields() {
            if field.name.is_empty() {
                return Err(ConnectError::data("a field of a struct needs a name"));
            }
            if !names.insert(&field.name) {
                return Err(ConnectError::data(format!("the struct has two fields named {}", field.name)));
            }
        }
        if let Some(default) = &self.0.default {
            self.0
                .validate(default)
                .map_err(|error| ConnectError::data(format!("the default does not fit: {error}")))?;
        }
        Ok(Arc::new(self.0))
    }
}
