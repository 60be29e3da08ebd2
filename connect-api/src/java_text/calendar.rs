//! The calendar of `java.util.GregorianCalendar` in UTC: Julian before 15 October 1582.

/// 15 October 1582, in days since 1970.
pub const FIRST_GREGORIAN_DAY: i64 = -141_427;

/// Year, month (from 1) and day of a day since 1970: Gregorian from 15 October 1582 on, Julian before. Year 0 is the one before 1.
pub fn civil_date(days: i64) -> (i64, i64, i64) {
    if days >= FIRST_GREGORIAN_DAY {
        return gregorian_date(days);
    }
    let days = days + 719_470;
    let (era, of_era) = (days.div_euclid(1_461), days.rem_euclid(1_461));
    let year = (of_era - of_era / 1_460) / 365;
    from_march(era * 4 + year, of_era - 365 * year)
}

/// The same in the Gregorian calendar alone, as ISO 8601 has it.
pub fn gregorian_date(days: i64) -> (i64, i64, i64) {
    // Days since 1 March of year 0, in eras of 400 years: years begin with March, so that a leap day comes last.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    from_march(era * 400 + year, of_era - (365 * year + year / 4 - year / 100))
}

/// From a year that begins with March and its day.
fn from_march(year: i64, of_year: i64) -> (i64, i64, i64) {
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

/// The day since 1970 of a date, the inverse of [`civil_date`]. Months and days beyond their range count on, as in a
/// lenient `GregorianCalendar`; so do the ten days that were left out in October 1582.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years begin with March, so that a leap day comes last.
    let year = year + (month - 3).div_euclid(12);
    let month = (month - 3).rem_euclid(12);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let julian = year * 365 + year.div_euclid(4) + of_year;
    let gregorian = julian - year.div_euclid(100) + year.div_euclid(400) - 719_468;
    if gregorian >= FIRST_GREGORIAN_DAY { gregorian } else { julian - 719_470 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse() {
        for days in (-800_000..800_000).step_by(97).chain(FIRST_GREGORIAN_DAY - 3..FIRST_GREGORIAN_DAY + 3) {
            let (year, month, day) = civil_date(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(days_from_civil(2019, 13, 1), days_from_civil(2020, 1, 1));
    }

    #[test]
    fn ten_days_are_left_out_in_1582() {
        assert_eq!(civil_date(FIRST_GREGORIAN_DAY), (1582, 10, 15));
        assert_eq!(civil_date(FIRST_GREGORIAN_DAY - 1), (1582, 10, 4));
        assert_eq!(gregorian_date(FIRST_GREGORIAN_DAY - 1), (1582, 10, 14));
        assert_eq!(gregorian_date(11_016), (2000, 2, 29));
    }
}
