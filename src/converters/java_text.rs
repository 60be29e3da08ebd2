//! Values as Java's `Object.toString` writes them.

use std::fmt::Write;

use connect_api::java_text::calendar::civil_date;
use connect_api::{ConnectError, Result, Struct, Value};

/// Values nested deeper than this have no text form.
const MAX_DEPTH: usize = 1000;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Appends the text that Java's `toString` gives for a value, in time zone UTC. Bytes have none: Java prints an
/// address, which helps nobody, so they are an error here.
pub fn write(out: &mut String, value: &Value) -> Result<()> {
    write_at(out, value, 0)
}

fn write_at(out: &mut String, value: &Value, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(ConnectError::data(format!("the value is nested deeper than {MAX_DEPTH} levels")));
    }
    match value {
        Value::String(text) => out.push_str(text),
        Value::Bytes(_) => {
            return Err(ConnectError::data(
                "bytes have no text form; use the ByteArrayConverter or convert them before",
            ));
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_at(out, item, depth + 1)?;
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_at(out, key, depth + 1)?;
                out.push('=');
                write_at(out, value, depth + 1)?;
            }
            out.push('}');
        }
        Value::Struct(data) => write_struct(out, data, depth)?,
        Value::Date(days) => write_date(out, i64::from(*days) * DAY_MS),
        Value::Time(millis) => write_date(out, (*millis).into()),
        Value::Timestamp(millis) => write_date(out, *millis),
        // Writing to a text cannot fail; the others have Java's form anyway.
        plain => drop(write!(out, "{plain}")),
    }
    Ok(())
}

/// `Struct{a=1,b=x}`; fields without a value are left out.
fn write_struct(out: &mut String, data: &Struct, depth: usize) -> Result<()> {
    out.push_str("Struct{");
    let mut first = true;
    for (field, value) in data.schema().fields().iter().zip(data.values()).filter(|(_, value)| !value.is_null()) {
        if !first {
            out.push(',');
        }
        first = false;
        out.push_str(&field.name);
        out.push('=');
        write_at(out, value, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

/// `Thu Jan 01 00:00:00 UTC 1970`, as `java.util.Date` prints it: in the Julian calendar before 15 October 1582.
fn write_date(out: &mut String, millis: i64) {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, of_day) = (millis.div_euclid(DAY_MS), millis.rem_euclid(DAY_MS) / 1000);
    let (year, month, day) = civil_date(days);
    // Java knows no year 0: it prints the year of the era.
    let year = if year <= 0 { 1 - year } else { year };
    out.push_str(&format!(
        "{} {} {day:02} {:02}:{:02}:{:02} UTC {year}",
        WEEKDAYS[days.rem_euclid(7) as usize],
        MONTHS[month as usize - 1],
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Value) -> String {
        let mut out = String::new();
        write(&mut out, &value).unwrap();
        out
    }

    #[test]
    fn dates_have_javas_text() {
        assert_eq!(text(Value::Timestamp(0)), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(text(Value::Timestamp(951_827_696_789)), "Tue Feb 29 12:34:56 UTC 2000");
        assert_eq!(text(Value::Date(-141_427)), "Fri Oct 15 00:00:00 UTC 1582");
        assert_eq!(text(Value::Date(-141_428)), "Thu Oct 04 00:00:00 UTC 1582");
        assert_eq!(text(Value::Time(3_600_000)), "Thu Jan 01 01:00:00 UTC 1970");
        // 1 January of the year 1 in the Julian calendar was a Saturday.
        assert_eq!(text(Value::Date(-719_164)), "Sat Jan 01 00:00:00 UTC 1");
        assert_eq!(text(Value::Date(-719_165)), "Fri Dec 31 00:00:00 UTC 1");
    }

    #[test]
    fn containers_have_javas_text() {
        assert_eq!(text(vec![Value::Int8(1), Value::Null].into()), "[1, null]");
        assert_eq!(
            text(vec![(Value::text("a"), Value::Float32(1.0)), (Value::Null, Value::Null)].into()),
            "{a=1.0, null=null}"
        );
    }

    #[test]
    fn bytes_and_bottomless_values_are_refused() {
        assert!(write(&mut String::new(), &Value::Bytes(connect_api::Bytes::new())).is_err());
        let deep = (0..2000).fold(Value::Null, |value, _| vec![value].into());
        assert!(write(&mut String::new(), &deep).is_err());
    }
}
