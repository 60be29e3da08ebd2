//! In which encoding JSON stands in bytes: Java's reader (Jackson) guesses it from the first four, as RFC 4627 had it.

use connect_api::{Bytes, ConnectError, Result};

use super::string::decode_utf16;

/// The same JSON in UTF-8, without a copy where it is so already. A byte order mark of UTF-8 stays.
pub(super) fn in_utf8(bytes: &Bytes) -> Result<Bytes> {
    let (first, second) = match bytes.as_ref() {
        [first, second, ..] => (*first, *second),
        _ => return Ok(bytes.clone()),
    };
    if first != 0 && second != 0 && first < 0xfe {
        return Ok(bytes.clone());
    }
    match bytes.as_ref() {
        [0, 0, 0xfe, 0xff, rest @ ..] => utf32(rest, u32::from_be_bytes),
        [0xff, 0xfe, 0, 0, rest @ ..] => utf32(rest, u32::from_le_bytes),
        [0, 0, 0xff, 0xfe, ..] | [0xfe, 0xff, 0, 0, ..] => Err(unknown()),
        [0xfe, 0xff, _, _, ..] => Ok(decode_utf16(&bytes[2..], u16::from_be_bytes).into_bytes()),
        [0xff, 0xfe, _, _, ..] => Ok(decode_utf16(&bytes[2..], u16::from_le_bytes).into_bytes()),
        [0, 0, 0, _, ..] => utf32(bytes, u32::from_be_bytes),
        [_, 0, 0, 0, ..] => utf32(bytes, u32::from_le_bytes),
        [0, _, 0, 0, ..] | [0, 0, _, 0, ..] => Err(unknown()),
        [0, ..] => Ok(decode_utf16(bytes, u16::from_be_bytes).into_bytes()),
        [_, 0, ..] => Ok(decode_utf16(bytes, u16::from_le_bytes).into_bytes()),
        _ => Ok(bytes.clone()),
    }
}

fn utf32(bytes: &[u8], unit: fn([u8; 4]) -> u32) -> Result<Bytes> {
    let units = bytes.chunks_exact(4);
    if !units.remainder().is_empty() {
        return Err(unknown());
    }
    let chars = units.map(|four| char::from_u32(unit([four[0], four[1], four[2], four[3]])).ok_or_else(unknown));
    Ok(chars.collect::<Result<String>>()?.into())
}

fn unknown() -> ConnectError {
    ConnectError::data("the bytes of the record are not JSON in UTF-8, nor in UTF-16 or UTF-32")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<String> {
        in_utf8(&Bytes::copy_from_slice(bytes)).ok().map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    #[test]
    fn the_first_bytes_tell_the_encoding() {
        for (bytes, text) in [
            (&b"{\"a\":1}"[..], Some("{\"a\":1}")),
            (b"1", Some("1")),
            (b"", Some("")),
            (b"\0{\0}", Some("{}")),
            (b"{\0}\0", Some("{}")),
            (b"1\0", Some("1")),
            (b"\0\0\0{\0\0\0}", Some("{}")),
            (b"{\0\0\0}\0\0\0", Some("{}")),
            (b"\xfe\xff\0{\0}", Some("{}")),
            (b"\xff\xfe{\0}\0", Some("{}")),
            (b"\0\0\xfe\xff\0\0\0{", Some("{")),
            (b"\xff\xfe\0\0{\0\0\0", Some("{")),
            (b"\"\0=\xd8\0\xde\"\0", Some("\"😀\"")),
            (b"\0{\0\0", None),
            (b"\0\0\0{\0", None),
            (b"\0\0\0{\0\x11\0\0", None),
        ] {
            assert_eq!(read(bytes).as_deref(), text, "{bytes:?}");
        }
    }

    #[test]
    fn utf8_is_not_copied() {
        let bytes = Bytes::from_static(b"{\"name\":\"value\"}");
        assert_eq!(in_utf8(&bytes).unwrap().as_ptr(), bytes.as_ptr());
    }
}
