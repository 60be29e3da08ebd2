//! Floating point numbers as Java writes and reads them, wherever their text is part of a contract.

/// The text of a double in the form of Java's `Double.toString`: `1.0`, `1.0E10`, `NaN`, `-Infinity`. The digits are the
/// fewest that give the same number again (as Java does since 19; older ones sometimes write one digit more).
pub fn java_double(value: f64) -> String {
    if value.is_finite() { java_form(&format!("{value:e}")) } else { not_finite(value) }
}

/// The text of a float in the form of Java's `Float.toString`.
pub fn java_float(value: f32) -> String {
    if value.is_finite() { java_form(&format!("{value:e}")) } else { not_finite(value.into()) }
}

fn not_finite(value: f64) -> String {
    match (value.is_nan(), value < 0.0) {
        (true, _) => "NaN",
        (_, true) => "-Infinity",
        _ => "Infinity",
    }
    .to_owned()
}

/// From Rust's scientific form (`-1.25e3`) to Java's: plain from 0.001 up to 10,000,000, scientific outside, always with a
/// digit on both sides of the point.
fn java_form(scientific: &str) -> String {
    let (sign, number) = scientific.strip_prefix('-').map_or(("", scientific), |number| ("-", number));
    // Rust's `{:e}` always writes an exponent, and a valid one.
    let (mantissa, exponent) = number.split_once('e').unwrap_or((number, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zero = whole == "0";
    if !zero && !(-3..7).contains(&exponent) {
        let fraction = if fraction.is_empty() { "0" } else { fraction };
        return format!("{sign}{whole}.{fraction}E{exponent}");
    }
    let digits = format!("{whole}{fraction}");
    if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    }
    let point = exponent as usize + 1;
    let padded = format!("{digits:0<point$}");
    let (before, after) = padded.split_at(point);
    format!("{sign}{before}.{}", if after.is_empty() { "0" } else { after })
}

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
    fn writes_as_java_does() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (0.001, "0.001"),
            (0.000999, "9.99E-4"),
            (0.012, "0.012"),
            (100.0, "100.0"),
            (1234567.0, "1234567.0"),
            (9999999.5, "9999999.5"),
            (10000000.0, "1.0E7"),
            (1e10, "1.0E10"),
            (1.25e-7, "1.25E-7"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(java_double(value), text);
        }
        assert_eq!(java_float(0.3), "0.3");
        assert_eq!(java_float(16777216.0), "1.6777216E7");
    }

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
