//! Days and times in settings, in UTC: `2026-01-31`, `2026-01-31T23:59:59Z`, `2026-01-31T23:59:59.999Z`. From 1600 on, so that
//! Java's change of the calendar is out of reach, to 9999, behind which ISO 8601 has no four digits.

use std::ops::RangeInclusive;

use connect_api::java_text::calendar::{civil_date, days_from_civil};

const YEARS: RangeInclusive<i64> = 1600..=9999;
const MS_PER_DAY: i64 = 86_400_000;

/// 1600-01-01 and 9999-12-31, in days since 1970.
pub const DAYS: (i64, i64) = (-135_140, 2_932_896);
/// The first and the last millisecond of [`DAYS`], since 1970.
pub const MILLISECONDS: (i64, i64) = (DAYS.0 * MS_PER_DAY, (DAYS.1 + 1) * MS_PER_DAY - 1);

/// Days since 1970.
pub fn day(text: &str) -> Option<i64> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let date = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
    let days = days_from_civil(date.0, date.1, date.2);
    // A 31 June is counted on to July.
    (YEARS.contains(&date.0) && civil_date(days) == date).then_some(days)
}

/// Milliseconds since 1970; of a day, those of its start.
pub fn millisecond(text: &str) -> Option<i64> {
    let Some((date, time)) = text.split_once('T') else { return Some(day(text)? * MS_PER_DAY) };
    let time = time.strip_suffix('Z')?;
    let (time, ms) = match time.split_once('.') {
        Some((time, ms)) => (time, digits(ms, 3)?),
        None => (time, 0),
    };
    let (hour, rest) = time.split_once(':')?;
    let (minute, second) = rest.split_once(':')?;
    let (hour, minute, second) = (digits(hour, 2)?, digits(minute, 2)?, digits(second, 2)?);
    (hour < 24 && minute < 60 && second < 60).then_some(())?;
    Some(day(date)? * MS_PER_DAY + ((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_times_of_iso_8601() {
        for (text, expected) in [
            ("1970-01-01", 0),
            ("1970-01-02T00:00:00Z", MS_PER_DAY),
            ("2024-02-29", 19_782 * MS_PER_DAY),
            ("2026-01-01T00:00:00Z", 1_767_225_600_000),
            ("2026-11-24T23:59:59.007Z", 1_795_564_799_007),
            ("1600-01-01", MILLISECONDS.0),
            ("9999-12-31T23:59:59.999Z", MILLISECONDS.1),
        ] {
            assert_eq!(millisecond(text), Some(expected), "{text}");
        }
        assert_eq!((day("1600-01-01"), day("9999-12-31")), (Some(DAYS.0), Some(DAYS.1)));
    }

    #[test]
    fn nothing_else_is_a_time() {
        for text in [
            "",
            "now",
            "0",
            "2026",
            "2026-1-1",
            "2026-13-01",
            "2026-00-10",
            "2023-02-29",
            "1599-12-31",
            "-2026-01-01",
            "+026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+01:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00.1Z",
            "2026-01-01T00:00Z",
            "2026-01-01 00:00:00Z",
            "2026-01-0é",
        ] {
            assert_eq!(millisecond(text), None, "{text}");
        }
        assert_eq!(day("2026-01-01T00:00:00Z"), None);
    }
}
