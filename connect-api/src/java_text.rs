//! Numbers and dates as Java writes and reads them, wherever their text is part of a contract. The text of a decimal number
//! (`BigDecimal.toString`) is the `Display` of [`Decimal`](crate::Decimal).

pub mod calendar;
mod digits;

pub use digits::{java_double, java_float};

/// The number that Java's `Double.parseDouble` reads from a text without blanks around it; `None` where Java throws.
/// Unlike Rust it knows no `inf`, and a trailing `d` or `f` is allowed. Hexadecimal numbers are not read.
pub fn parse_java_double(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, "NaN" | "Infinity") {
        return text.parse().ok();
    }
    let number = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let decimal = number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if decimal { number.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_java_does() {
        for (text, value) in [("1", 1.0), ("+5", 5.0), ("1d", 1.0), (".5", 0.5), ("5.", 5.0), ("1e3F", 1000.0)] {
            assert_eq!(parse_java_double(text), Some(value), "{text}");
        }
        assert!(parse_java_double("NaN").is_some_and(f64::is_nan));
        assert_eq!(parse_java_double("-Infinity"), Some(f64::NEG_INFINITY));
        for text in ["", "inf", "nan", "infinity", "0x10", "1_0", "d", "1dd", "e", "--1", "1e"] {
            assert_eq!(parse_java_double(text), None, "{text}");
        }
    }
}
