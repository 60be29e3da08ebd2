//! Bytes to [`Json`]. It keeps its own stack, so that the depth of a document cannot exhaust that of the thread.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use num_bigint::{BigInt, BigUint, Sign};

use super::{Json, MAX_DEPTH, MAX_NAME_BYTES, MAX_NUMBER_CHARACTERS, MAX_STRING_BYTES, Object, number};

/// Why bytes are no JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    /// The byte at which it was noticed, from 0.
    pub offset: usize,
    /// What was wrong there.
    pub problem: &'static str,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON: {} at byte {}", self.problem, self.offset)
    }
}

impl std::error::Error for ReadError {}

/// An array or object whose end has not come yet.
enum Open {
    Array(Vec<Json>),
    /// With the name of the field whose value comes next.
    Object(Vec<(ByteString, Json)>, ByteString),
}

/// What begins at a position.
enum Begin {
    Value(Json),
    Array,
    Object,
}

pub(super) fn read(bytes: &Bytes) -> Result<Option<Json>, ReadError> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    // Java looks for the mark in the first four bytes, where there are so many.
    let at = if bytes.len() > BYTE_ORDER_MARK.len() && bytes.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    let mut reader = Reader { bytes, at };
    reader.skip_blanks();
    if reader.peek().is_none() { Ok(None) } else { reader.document().map(Some) }
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Json, ReadError> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            let mut done = match self.begin(open.is_empty())? {
                Begin::Value(value) => value,
                Begin::Array if self.closes(b']') => Json::Array(Vec::new()),
                Begin::Object if self.closes(b'}') => Json::Object(Object::new()),
                _ if open.len() + 1 > MAX_DEPTH => return self.fail("arrays and objects are nested too deep"),
                Begin::Array => {
                    open.push(Open::Array(Vec::new()));
                    continue;
                }
                Begin::Object => {
                    let name = self.name()?;
                    open.push(Open::Object(Vec::new(), name));
                    continue;
                }
            };
            if open.len() + 1 > MAX_DEPTH && matches!(done, Json::Array(_) | Json::Object(_)) {
                return self.fail("arrays and objects are nested too deep");
            }
            loop {
                match open.pop() {
                    None => return Ok(done),
                    Some(Open::Array(mut items)) => {
                        items.push(done);
                        match self.token() {
                            Some(b',') => {
                                open.push(Open::Array(items));
                                break;
                            }
                            Some(b']') => done = Json::Array(items),
                            _ => return self.fail("a comma or ] is missing"),
                        }
                    }
                    Some(Open::Object(mut fields, name)) => {
                        fields.push((name, done));
                        match self.token() {
                            Some(b',') => {
                                let name = self.name()?;
                                open.push(Open::Object(fields, name));
                                break;
                            }
                            Some(b'}') => done = Json::Object(Object::from_read(fields)),
                            _ => return self.fail("a comma or } is missing"),
                        }
                    }
                }
            }
        }
    }

    fn begin(&mut self, at_root: bool) -> Result<Begin, ReadError> {
        Ok(match self.token() {
            Some(b'[') => Begin::Array,
            Some(b'{') => Begin::Object,
            Some(b'"') => Begin::Value(Json::String(self.string(MAX_STRING_BYTES)?)),
            Some(b't') => Begin::Value(self.word(b"true", Json::Boolean(true))?),
            Some(b'f') => Begin::Value(self.word(b"false", Json::Boolean(false))?),
            Some(b'n') => Begin::Value(self.word(b"null", Json::Null)?),
            Some(b'-' | b'0'..=b'9') => Begin::Value(self.number(at_root)?),
            Some(_) => return self.fail("no value begins like this"),
            None => return self.fail("the end came too early"),
        })
    }

    /// The name of a field and the colon behind it.
    fn name(&mut self) -> Result<ByteString, ReadError> {
        if self.token() != Some(b'"') {
            return self.fail("the name of a field is missing");
        }
        let name = self.string(MAX_NAME_BYTES)?;
        if self.token() != Some(b':') {
            return self.fail("a colon is missing");
        }
        Ok(name)
    }

    /// A word whose first letter was taken.
    fn word(&mut self, word: &[u8], value: Json) -> Result<Json, ReadError> {
        let start = self.at - 1;
        if !self.bytes[start..].starts_with(word) {
            return self.fail("only true, false and null may stand without quotes");
        }
        self.at = start + word.len();
        match self.peek() {
            Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x7f) || !byte.is_ascii() => {
                self.fail("only true, false and null may stand without quotes")
            }
            _ => Ok(value),
        }
    }

    /// A number whose first character was taken.
    fn number(&mut self, at_root: bool) -> Result<Json, ReadError> {
        let start = self.at - 1;
        let negative = self.bytes[start] == b'-';
        let mut digits = start + usize::from(negative);
        self.at = digits;
        if self.skip_digits() == 0 {
            return self.fail("a digit is missing");
        }
        // Kafka's reader allows zeros in front; they do not count.
        while self.bytes[digits] == b'0' && digits + 1 < self.at {
            digits += 1;
        }
        let whole = self.at;
        let mut characters = whole - digits;
        if self.peek() == Some(b'.') {
            self.at += 1;
            match self.skip_digits() {
                0 => return self.fail("a digit is missing"),
                count => characters += count,
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'-' | b'+')) {
                self.at += 1;
            }
            match self.skip_digits() {
                0 => return self.fail("a digit is missing"),
                count => characters += count,
            }
        }
        if characters > MAX_NUMBER_CHARACTERS {
            return self.fail("a number has too many characters");
        }
        if at_root && self.peek().is_some_and(|byte| !is_blank(byte)) {
            return self.fail("something stands right behind a number");
        }
        if self.at == whole { Ok(self.integer(negative, digits)) } else { self.fraction(start, digits, negative) }
    }

    fn integer(&self, negative: bool, digits: usize) -> Json {
        let digits = &self.bytes[digits..self.at];
        let small = digits.iter().try_fold(0i64, |number, digit| {
            let digit = i64::from(digit - b'0');
            let number = number.checked_mul(10)?;
            if negative { number.checked_sub(digit) } else { number.checked_add(digit) }
        });
        match small {
            Some(number) => Json::Integer(number),
            None => {
                // Only digits stand here, so it is a number.
                let magnitude = BigUint::parse_bytes(digits, 10).unwrap_or_default();
                Json::BigInteger(BigInt::from_biguint(if negative { Sign::Minus } else { Sign::Plus }, magnitude))
            }
        }
    }

    fn fraction(&self, start: usize, digits: usize, negative: bool) -> Result<Json, ReadError> {
        let text = if digits == start + usize::from(negative) {
            self.slice(start, self.at)?
        } else {
            let sign = if negative { "-" } else { "" };
            format!("{sign}{}", self.slice(digits, self.at)?).into()
        };
        match number::exponent_fits(&text) {
            true => Ok(Json::Fraction(text)),
            false => self.fail("the exponent of a number is too great"),
        }
    }

    /// The text behind a quote that was taken, and the closing quote.
    fn string(&mut self, max_bytes: usize) -> Result<ByteString, ReadError> {
        let start = self.at;
        self.skip_plain();
        if self.at - start > max_bytes {
            return self.fail("a text is too long");
        }
        if self.peek() == Some(b'"') {
            let text = self.slice(start, self.at)?;
            self.at += 1;
            return Ok(text);
        }
        let mut text = String::from(&*self.slice(start, self.at)?);
        loop {
            match self.take() {
                Some(b'"') => return Ok(text.into()),
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => {
                    self.at -= 1;
                    return self.fail("a control character must be escaped");
                }
                None => return self.fail("a text does not end"),
            }
            let start = self.at;
            self.skip_plain();
            text.push_str(&self.slice(start, self.at)?);
            if text.len() > max_bytes {
                return self.fail("a text is too long");
            }
        }
    }

    /// The character that stands for an escape whose backslash was taken.
    fn escape(&mut self) -> Result<char, ReadError> {
        Ok(match self.take() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.hexadecimal()?;
                if !(0xd800..0xdc00).contains(&unit) {
                    return Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                let behind = self.at;
                if self.bytes[behind..].starts_with(b"\\u") {
                    self.at += 2;
                    let low = self.hexadecimal()?;
                    if (0xdc00..0xe000).contains(&low) {
                        let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    self.at = behind;
                }
                char::REPLACEMENT_CHARACTER
            }
            _ => return self.fail("there is no such escape"),
        })
    }

    fn hexadecimal(&mut self) -> Result<u32, ReadError> {
        let mut unit = 0;
        for _ in 0..4 {
            match self.take().and_then(|byte| char::from(byte).to_digit(16)) {
                Some(digit) => unit = unit << 4 | digit,
                None => return self.fail("four hexadecimal digits are missing"),
            }
        }
        Ok(unit)
    }

    /// A slice of the same memory, or an error where it is no UTF-8.
    fn slice(&self, from: usize, to: usize) -> Result<ByteString, ReadError> {
        match ByteString::try_from(self.bytes.slice(from..to)) {
            Ok(text) => Ok(text),
            Err(_) => Err(ReadError { offset: from, problem: "a text is not UTF-8" }),
        }
    }

    fn skip_plain(&mut self) {
        let rest = &self.bytes[self.at..];
        self.at += rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ').unwrap_or(rest.len());
    }

    fn skip_digits(&mut self) -> usize {
        let count = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(is_blank) {
            self.at += 1;
        }
    }

    /// Whether the next token is this one; it is taken then.
    fn closes(&mut self, end: u8) -> bool {
        self.skip_blanks();
        let closes = self.peek() == Some(end);
        self.at += usize::from(closes);
        closes
    }

    fn token(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.take()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn fail<T>(&self, problem: &'static str) -> Result<T, ReadError> {
        Err(ReadError { offset: self.at, problem })
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
