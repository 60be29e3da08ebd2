//! `org.apache.kafka.connect.storage.StringConverter`: text in a chosen encoding, for keys, values and headers.

use std::sync::LazyLock;

use connect_api::converter::RawHeader;
use connect_api::{
    ByteString, Bytes, ConfigDef, ConfigKey, ConnectError, Converter, Header, HeaderConverter, Importance, Props,
    Result, Schema, SchemaAndValue, Type, Value, Width, schema,
};

use super::{java_text, settings};

/// Java's class name.
pub const CLASS: &str = "org.apache.kafka.connect.storage.StringConverter";

/// Setting: the name of the encoding, `UTF-8` unless set.
pub const ENCODING_CONFIG: &str = "converter.encoding";

/// The encodings that every Java platform must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Encoding {
    #[default]
    Utf8,
    Latin1,
    Ascii,
    /// Written big-endian behind a byte order mark; read as the mark says, big-endian without one.
    Utf16,
    Utf16Be,
    Utf16Le,
}

impl Encoding {
    /// Names and aliases are those of `java.nio.charset.Charset`, in any case.
    fn named(name: &str) -> Option<Encoding> {
        Some(match name.to_ascii_lowercase().as_str() {
            "utf-8" | "utf8" | "unicode-1-1-utf-8" => Encoding::Utf8,
            "iso-8859-1" | "iso8859-1" | "iso8859_1" | "iso_8859-1" | "iso_8859_1" | "iso_8859-1:1987" | "latin1"
            | "l1" | "8859_1" | "cp819" | "ibm819" | "ibm-819" | "819" | "iso-ir-100" | "csisolatin1" => {
                Encoding::Latin1
            }
            "us-ascii" | "ascii" | "ascii7" | "iso646-us" | "iso_646.irv:1983" | "iso_646.irv:1991"
            | "ansi_x3.4-1968" | "ansi_x3.4-1986" | "iso-ir-6" | "us" | "ibm367" | "cp367" | "646" | "csascii"
            | "default" => Encoding::Ascii,
            "utf-16" | "utf_16" | "utf16" | "unicode" | "unicodebig" => Encoding::Utf16,
            "utf-16be" | "utf_16be" | "x-utf-16be" | "iso-10646-ucs-2" | "unicodebigunmarked" => Encoding::Utf16Be,
            "utf-16le" | "utf_16le" | "x-utf-16le" | "unicodelittleunmarked" => Encoding::Utf16Le,
            _ => return None,
        })
    }

    fn encode(self, text: ByteString) -> Bytes {
        /// Characters beyond `limit` have no form in the encoding; Java writes a question mark for each.
        fn single_bytes(text: &str, limit: u32) -> Bytes {
            text.chars().map(|char| if u32::from(char) <= limit { u32::from(char) as u8 } else { b'?' }).collect()
        }
        match self {
            Encoding::Utf8 => text.into_bytes(),
            Encoding::Latin1 => single_bytes(&text, 0xff),
            Encoding::Ascii => single_bytes(&text, 0x7f),
            // Java writes no mark in front of nothing.
            Encoding::Utf16 if text.is_empty() => Bytes::new(),
            Encoding::Utf16 => std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect(),
            Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        }
    }

    fn decode(self, bytes: &Bytes) -> ByteString {
        match self {
            Encoding::Utf8 => decode_utf8(bytes),
            Encoding::Latin1 => bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into(),
            Encoding::Ascii => bytes
                .iter()
                .map(|&byte| if byte.is_ascii() { char::from(byte) } else { char::REPLACEMENT_CHARACTER })
                .collect::<String>()
                .into(),
            Encoding::Utf16 => match bytes.as_ref() {
                [0xfe, 0xff, rest @ ..] => decode_utf16(rest, u16::from_be_bytes),
                [0xff, 0xfe, rest @ ..] => decode_utf16(rest, u16::from_le_bytes),
                rest => decode_utf16(rest, u16::from_be_bytes),
            },
            Encoding::Utf16Be => decode_utf16(bytes, u16::from_be_bytes),
            Encoding::Utf16Le => decode_utf16(bytes, u16::from_le_bytes),
        }
    }
}

/// Valid text is a slice of the same memory. Elsewhere one replacement character stands for each malformed part, cut as
/// Java cuts it: like the Unicode standard recommends, except that a surrogate in three bytes is one part.
pub(super) fn decode_utf8(bytes: &Bytes) -> ByteString {
    if let Ok(text) = ByteString::try_from(bytes.clone()) {
        return text;
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    let mut rest = bytes.as_ref();
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return text.into();
            }
            Err(error) => error,
        };
        let (valid, malformed) = rest.split_at(error.valid_up_to());
        text.push_str(&String::from_utf8_lossy(valid));
        text.push(char::REPLACEMENT_CHARACTER);
        let skip = match malformed {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
            [0xed, 0xa0..=0xbf, ..] => 2,
            _ => error.error_len().unwrap_or(malformed.len()),
        };
        rest = &malformed[skip..];
    }
}

/// One replacement character stands for a lone low surrogate, for a high one with whatever follows it, and for a torn unit at the
/// end, as in Java.
pub(super) fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> ByteString {
    let pairs = bytes.chunks_exact(2);
    let torn = !pairs.remainder().is_empty();
    let mut units = pairs.map(|pair| unit([pair[0], pair[1]]));
    let mut text = String::with_capacity(bytes.len());
    while let Some(first) = units.next() {
        // Only a high surrogate takes what follows with it, be it half a unit.
        let is_high = (0xd800..0xdc00).contains(&first);
        let second = if is_high { units.next() } else { None };
        let decoded = char::decode_utf16(std::iter::once(first).chain(second)).next();
        text.push(decoded.and_then(|char| char.ok()).unwrap_or(char::REPLACEMENT_CHARACTER));
        if is_high && second.is_none() {
            return text.into();
        }
    }
    if torn {
        text.push(char::REPLACEMENT_CHARACTER);
    }
    text.into()
}

/// See the head of this file. What is read has an optional STRING schema; what is written may be of any type and is
/// written in Java's text form.
#[derive(Debug, Default)]
pub struct StringConverter {
    encoding: Encoding,
}

/// Java: `StringConverterConfig`. As there, an unknown encoding is found only when the converter is configured.
fn definition() -> ConfigDef {
    let encoding = ConfigKey::new(ENCODING_CONFIG, Type::String, Importance::High, "The encoding of the text.");
    settings::definition().define(ConfigKey { width: Width::Medium, ..encoding.default_value("UTF-8") })
}

impl StringConverter {
    fn set(&mut self, props: &Props, converter_type: &str) -> Result<()> {
        let config = settings::parse(&definition(), props, converter_type)?;
        let name = config.string(ENCODING_CONFIG);
        self.encoding = Encoding::named(name).ok_or_else(|| {
            ConnectError::config(format!(
                "{ENCODING_CONFIG} is '{name}'; known are UTF-8, ISO-8859-1, US-ASCII, UTF-16, UTF-16BE and UTF-16LE"
            ))
        })?;
        Ok(())
    }

    fn write(&self, value: &Value) -> Result<Option<Bytes>> {
        Ok(match value {
            Value::Null => None,
            Value::String(text) => Some(self.encoding.encode(text.clone())),
            other => {
                let mut text = String::new();
                java_text::write(&mut text, other)?;
                Some(self.encoding.encode(text.into()))
            }
        })
    }

    fn read(&self, bytes: Option<&Bytes>) -> SchemaAndValue {
        let value = bytes.map_or(Value::Null, |bytes| Value::String(self.encoding.decode(bytes)));
        SchemaAndValue::new(LazyLock::force(&schema::OPTIONAL_STRING).clone(), value)
    }
}

impl Converter for StringConverter {
    fn config(&self) -> ConfigDef {
        definition()
    }

    fn configure(&mut self, props: &Props, is_key: bool) -> Result<()> {
        self.set(props, settings::key_or_value(is_key))
    }

    fn from_connect_data(
        &mut self,
        _topic: &str,
        _headers: &[Header],
        _schema: Option<&Schema>,
        value: &Value,
    ) -> Result<Option<Bytes>> {
        self.write(value)
    }

    fn to_connect_data(
        &mut self,
        _topic: &str,
        _headers: &[RawHeader],
        bytes: Option<&Bytes>,
    ) -> Result<SchemaAndValue> {
        Ok(self.read(bytes))
    }
}

impl HeaderConverter for StringConverter {
    fn config(&self) -> ConfigDef {
        definition()
    }

    fn configure(&mut self, props: &Props) -> Result<()> {
        self.set(props, settings::HEADER)
    }

    fn from_connect_header(&mut self, _topic: &str, _key: &str, value: &SchemaAndValue) -> Result<Option<Bytes>> {
        self.write(&value.value)
    }

    fn to_connect_header(&mut self, _topic: &str, _key: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        Ok(self.read(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(encoding: &str) -> StringConverter {
        let mut converter = StringConverter::default();
        converter.set(&Props::from([(ENCODING_CONFIG.to_owned(), encoding.to_owned())]), "key").unwrap();
        converter
    }

    fn read(encoding: &str, bytes: &[u8]) -> Value {
        configured(encoding).read(Some(&Bytes::copy_from_slice(bytes))).value
    }

    #[test]
    fn text_passes_without_a_copy_in_both_directions() {
        let converter = StringConverter::default();
        let bytes = Bytes::from("a line of a file".to_owned());
        let read = converter.read(Some(&bytes)).value;
        assert_eq!(read.as_str().unwrap().as_ptr(), bytes.as_ptr());
        assert_eq!(converter.write(&read).unwrap().unwrap().as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn malformed_text_is_replaced_part_by_part() {
        assert_eq!(read("UTF-8", b"\xffa"), Value::text("\u{fffd}a"));
        assert_eq!(read("UTF-8", b"\xe2\x82"), Value::text("\u{fffd}"));
        assert_eq!(read("UTF-8", b"\xed\xa0\x80x"), Value::text("\u{fffd}x"));
        assert_eq!(read("UTF-8", b"\xed\xa0x"), Value::text("\u{fffd}x"));
        assert_eq!(read("UTF-8", b"\xe0\x80\x80"), Value::text("\u{fffd}\u{fffd}\u{fffd}"));
        for (bytes, text) in [
            (&b"\xd8\x00\x00\x61\x00"[..], "\u{fffd}\u{fffd}"),
            (b"\xd8\x00\x00\x61\x00\x62", "\u{fffd}b"),
            (b"\xdc\x00\x00\x61", "\u{fffd}a"),
            (b"\xd8\x00", "\u{fffd}"),
            (b"\xd8\x00\xd8\x00\xdc\x00", "\u{fffd}\u{fffd}"),
            (b"\xd8\x00\x00", "\u{fffd}"),
            (b"\xd8\x3d\xde\x00\xff", "😀\u{fffd}"),
        ] {
            assert_eq!(read("UTF-16", bytes), Value::text(text), "{bytes:?}");
        }
        assert_eq!(read("us-ascii", b"\x80a"), Value::text("\u{fffd}a"));
    }

    #[test]
    fn encodings_write_what_they_read() {
        for encoding in ["utf8", "UTF-16", "UTF-16BE", "UTF-16LE"] {
            let converter = configured(encoding);
            let bytes = converter.write(&Value::text("aé😀")).unwrap();
            assert_eq!(converter.read(bytes.as_ref()).value, Value::text("aé😀"), "{encoding}");
        }
    }

    #[test]
    fn unknown_encodings_are_refused() {
        let error = StringConverter::default()
            .set(&Props::from([(ENCODING_CONFIG.to_owned(), "bogus".to_owned())]), "key")
            .unwrap_err();
        assert!(error.message().contains("converter.encoding"));
    }
}
