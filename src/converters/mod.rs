//! Between data with schemas and the bytes in a topic. One file for each converter; they use [`crate::json`] and
//! nothing else of this crate.

pub mod byte_array;
pub mod java_text;
pub mod json;
mod json_encoding;
mod json_reader;
mod json_schema;
mod json_writer;
pub mod numbers;
mod settings;
pub mod simple_header;
pub mod string;
pub mod values;
