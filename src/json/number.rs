//! Numbers in JSON: the texts of decimal numbers. Those of floating point numbers are Java's, and have one home.

use connect_api::Decimal;
pub use connect_api::java_text::{java_double as double_text, java_float as float_text};
use num_bigint::{BigInt, BigUint, Sign};

/// Reads what `new BigDecimal(String)` reads, without Java's other digits: `12`, `-1.50`, `1e3`, `.5`. `None` where Java
/// throws: another form, or a scale that needs more than 32 bits.
pub fn parse_decimal(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix(['-', '+']) {
        Some(rest) => (mantissa.starts_with('-'), rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 || !(whole.bytes().chain(fraction.bytes())).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = i32::try_from(fraction.len() as i64 - exponent).ok()?;
    let mut digits = Vec::with_capacity(whole.len() + fraction.len());
    digits.extend_from_slice(whole.as_bytes());
    digits.extend_from_slice(fraction.as_bytes());
    let magnitude = BigUint::parse_bytes(&digits, 10)?;
    Some(Decimal { unscaled: BigInt::from_biguint(if negative { Sign::Minus } else { Sign::Plus }, magnitude), scale })
}

/// Whether the scale of a number in JSON form fits in 32 bits, without reading the digits.
pub(super) fn exponent_fits(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])),
        None => (text, Some(0)),
    };
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    exponent.is_some_and(|exponent| i32::try_from(fraction as i64 - exponent).is_ok())
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    if significant.len() > 10 {
        return None;
    }
    let exponent: i64 = if significant.is_empty() { 0 } else { significant.parse().ok()? };
    let exponent = if text.starts_with('-') { -exponent } else { exponent };
    i32::try_from(exponent).ok().map(i64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_as_java_reads_them() {
        let read = |text| parse_decimal(text).map(|number| (number.unscaled.to_string(), number.scale));
        assert_eq!(read("1.50"), Some(("150".to_owned(), 2)));
        assert_eq!(read("1e2"), Some(("1".to_owned(), -2)));
        assert_eq!(read("-.5"), Some(("-5".to_owned(), 1)));
        assert_eq!(read("1E-2147483648"), None);
        assert_eq!(read("1E2147483647"), Some(("1".to_owned(), -i32::MAX)));
        assert_eq!(read("1E2147483648"), None);
        assert_eq!(read("1.5E-2147483647"), None);
        assert_eq!(read("1E99999999999"), None);
        assert_eq!(read(""), None);
        assert_eq!(read("1e"), None);
        assert_eq!(read("1x"), None);
    }
}
