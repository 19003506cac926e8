//! Days and microseconds, in the ranges of Postgres (documentation, "Date/Time Types").

use super::ValueErrorKind;

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(super) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// Days from 1970-01-01 to 2000-01-01.
pub(super) const PG_EPOCH_UNIX_DAYS: i64 = 10_957;

/// 4714-11-24 BC (Julian day 0), the first date and the first day of timestamps.
const FIRST_DAY: i64 = -2_440_588;
/// 5874897-12-31, the last date.
const LAST_DAY: i64 = 2_145_042_905;

/// 294276-12-31, the last day of timestamps.
const LAST_TIMESTAMP_DAY: i64 = 106_762_939;

/// What stands for `infinity` in a date; its negation for `-infinity`.
pub(super) const DATE_INFINITY: i32 = i32::MAX;
/// What stands for `infinity` in a timestamp; its negation for `-infinity`.
pub(super) const TIMESTAMP_INFINITY: i64 = i64::MAX;

/// Days since 1970-01-01 of a day in the proleptic Gregorian calendar. Year 0 is 1 BC.
/// `None` when there is no such day.
pub(super) fn unix_days(year: i64, month: u32, day: u32) -> Option<i64> {
    if day == 0 || day > days_in_month(year, month)? {
        return None;
    }
    // Years begin in March here, so that the leap day comes last.
    let (year, month) = if month > 2 {
        (year, i64::from(month) - 3)
    } else {
        (year - 1, i64::from(month) + 9)
    };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Year, month and day of a day since 1970-01-01, for any day of Postgres. Year 0 is 1 BC.
pub(super) const fn civil(unix_days: i64) -> (i64, i64, i64) {
    // As in `unix_days`, years begin in March.
    let days = unix_days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

/// Days since 1970-01-01 and microseconds of the day of a finite timestamp in microseconds since
/// 2000-01-01, in the range of Postgres (`IS_VALID_TIMESTAMP`).
pub(super) fn split_timestamp(pg_micros: i64) -> Result<(i64, i64), ValueErrorKind> {
    let unix_days = PG_EPOCH_UNIX_DAYS + pg_micros.div_euclid(MICROS_PER_DAY);
    if (FIRST_DAY..=LAST_TIMESTAMP_DAY).contains(&unix_days) {
        Ok((unix_days, pg_micros.rem_euclid(MICROS_PER_DAY)))
    } else {
        Err(ValueErrorKind::OutOfRange)
    }
}

const fn days_in_month(year: i64, month: u32) -> Option<u32> {
    Some(match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => return None,
    })
}

/// A finite date, checked against the range of Postgres.
pub(super) fn date(unix_days: i64) -> Result<i32, ValueErrorKind> {
    if !(FIRST_DAY..=LAST_DAY).contains(&unix_days) {
        return Err(ValueErrorKind::OutOfRange);
    }
    i32::try_from(unix_days).map_err(|_| ValueErrorKind::OutOfRange)
}

/// A finite timestamp: the start of a day plus microseconds, which may be negative or exceed a day.
pub(super) fn timestamp(unix_days: i64, micros: i64) -> Result<i64, ValueErrorKind> {
    unix_days
        .checked_mul(MICROS_PER_DAY)
        .and_then(|start| start.checked_add(micros))
        // Postgres goes on for thirty years after the last microsecond that fits, and that one
        // stands for infinity.
        .filter(|value| *value != TIMESTAMP_INFINITY && *value >= FIRST_DAY * MICROS_PER_DAY)
        .ok_or(ValueErrorKind::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        assert_eq!(unix_days(1970, 1, 1), Some(0));
        assert_eq!(unix_days(2000, 1, 1), Some(PG_EPOCH_UNIX_DAYS));
        assert_eq!(unix_days(2000, 2, 29), Some(PG_EPOCH_UNIX_DAYS + 59));
        assert_eq!(unix_days(-4713, 11, 24), Some(FIRST_DAY));
        assert_eq!(unix_days(5_874_897, 12, 31), Some(LAST_DAY));
        assert_eq!(unix_days(294_276, 12, 31), Some(LAST_TIMESTAMP_DAY));
        assert_eq!(civil(FIRST_DAY), (-4713, 11, 24));
        assert_eq!(civil(LAST_DAY), (5_874_897, 12, 31));
    }

    #[test]
    fn days_that_do_not_exist() {
        for (year, month, day) in [
            (2001, 2, 29),
            (1900, 2, 29),
            (2000, 2, 30),
            (2000, 4, 31),
            (2000, 0, 1),
            (2000, 13, 1),
            (2000, 1, 0),
        ] {
            assert_eq!(unix_days(year, month, day), None, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let mut expected = unix_days(-400, 1, 1).unwrap();
        for year in -400..400 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month).unwrap() {
                    assert_eq!(unix_days(year, month, day), Some(expected));
                    assert_eq!(civil(expected), (year, i64::from(month), i64::from(day)));
                    expected += 1;
                }
            }
        }
    }
}
