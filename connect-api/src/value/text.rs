//! Values as text, in the form of Java's `toString`. Where that form says nothing (bytes) or depends on the time zone of the
//! machine (dates), ours does not.

use std::fmt;

use super::{Decimal, Value};
use crate::java_text::calendar::gregorian_date;
use crate::java_text::{java_double, java_float};
use crate::structs::Struct;

const MS_PER_DAY: i64 = 86_400_000;

/// Bytes are hexadecimal digits; dates and times have their ISO 8601 form in UTC.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Boolean(value) => write!(f, "{value}"),
            Value::Int8(value) => write!(f, "{value}"),
            Value::Int16(value) => write!(f, "{value}"),
            Value::Int32(value) => write!(f, "{value}"),
            Value::Int64(value) => write!(f, "{value}"),
            Value::Float32(value) => f.write_str(&java_float(*value)),
            Value::Float64(value) => f.write_str(&java_double(*value)),
            Value::String(value) => f.write_str(value),
            Value::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Value::Array(elements) => {
                separated(f, ("[", ", ", "]"), elements.iter(), |f, element| write!(f, "{element}"))
            }
            Value::Map(entries) => {
                separated(f, ("{", ", ", "}"), entries.iter(), |f, (key, value)| write!(f, "{key}={value}"))
            }
            Value::Struct(value) => write!(f, "{value}"),
            Value::Decimal(value) => write!(f, "{value}"),
            Value::Date(days) => write_date(f, i64::from(*days)),
            Value::Time(ms) => write_time(f, i64::from(*ms)),
            Value::Timestamp(ms) => {
                write_date(f, ms.div_euclid(MS_PER_DAY))?;
                f.write_str("T")?;
                write_time(f, ms.rem_euclid(MS_PER_DAY))?;
                f.write_str("Z")
            }
        }
    }
}

/// Absent fields are left out.
impl fmt::Display for Struct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.schema().fields().iter().zip(self.values()).filter(|(_, value)| !value.is_null());
        separated(f, ("Struct{", ",", "}"), fields, |f, (field, value)| write!(f, "{}={value}", field.name))
    }
}

fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    (open, separator, close): (&str, &str, &str),
    parts: impl Iterator<Item = T>,
    mut write_part: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    f.write_str(open)?;
    for (i, part) in parts.enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        write_part(f, part)?;
    }
    f.write_str(close)
}

/// Plain unless that would hide digits: a negative scale, or more than five zeros behind the point.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.unscaled.magnitude().to_string();
        let exponent = digits.len() as i64 - 1 - i64::from(self.scale);
        if self.scale >= 0 && exponent >= -6 {
            return f.write_str(&self.to_plain_string());
        }
        f.write_str(if self.unscaled.sign() == num_bigint::Sign::Minus { "-" } else { "" })?;
        let (first, rest) = digits.split_at(1);
        f.write_str(first)?;
        if !rest.is_empty() {
            write!(f, ".{rest}")?;
        }
        if exponent != 0 { write!(f, "E{exponent:+}") } else { Ok(()) }
    }
}

impl Decimal {
    /// All digits without an exponent (Java: `BigDecimal.toPlainString`). As long as the scale says: check scales that come
    /// from outside first.
    pub fn to_plain_string(&self) -> String {
        let digits = self.unscaled.magnitude().to_string();
        let sign = if self.unscaled.sign() == num_bigint::Sign::Minus { "-" } else { "" };
        let scale = self.scale.unsigned_abs() as usize;
        if self.scale <= 0 {
            let zeros = if digits == "0" { 0 } else { scale };
            return format!("{sign}{digits}{}", "0".repeat(zeros));
        }
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        format!("{sign}{whole}.{fraction}")
    }
}

fn write_date(f: &mut fmt::Formatter<'_>, days: i64) -> fmt::Result {
    let (year, month, day) = gregorian_date(days);
    write!(f, "{year:04}-{month:02}-{day:02}")
}

fn write_time(f: &mut fmt::Formatter<'_>, ms: i64) -> fmt::Result {
    let (seconds, ms) = (ms.div_euclid(1000), ms.rem_euclid(1000));
    write!(
        f,
        "{:02}:{:02}:{:02}.{ms:03}",
        seconds.div_euclid(3600),
        seconds.rem_euclid(3600) / 60,
        seconds.rem_euclid(60)
    )
}
