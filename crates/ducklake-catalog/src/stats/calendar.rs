//! Days and microseconds to and from the proleptic Gregorian calendar, as DuckDB spells them.

pub(super) const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Days since 1970-01-01 to `2024-02-29` or `0044-03-15 (BC)`.
pub(super) fn render_date(days: i64) -> String {
    let (year, month, day) = civil_from_days(days);
    if year > 0 {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        // There is no year zero: the one before 1 is 1 BC.
        format!("{:04}-{month:02}-{day:02} (BC)", 1 - year)
    }
}

/// The inverse of [`render_date`]; `None` for anything else.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    let (date, is_bc) = match text.strip_suffix(" (BC)") {
        Some(date) => (date, true),
        None => (text, false),
    };
    let mut parts = date.split('-');
    let year: i64 = parse_digits(parts.next()?)?;
    let month: i64 = parse_digits(parts.next()?)?;
    let day: i64 = parse_digits(parts.next()?)?;
    if parts.next().is_some() || year == 0 || year > 10_000_000 {
        return None;
    }
    let year = if is_bc { 1 - year } else { year };
    let days = days_from_civil(year, month, day);
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

/// Microseconds since midnight to `12:00:00` or `12:00:00.5`; 24:00:00 is a time.
pub(super) fn render_time(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let clock = format!("{hours:02}:{minutes:02}:{seconds:02}");
    if fraction == 0 {
        return clock;
    }
    let fraction = format!("{fraction:06}");
    format!("{clock}.{}", fraction.trim_end_matches('0'))
}

/// The inverse of [`render_time`].
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let mut parts = clock.split(':');
    let hours: i64 = parse_digits(parts.next()?)?;
    let minutes: i64 = parse_digits(parts.next()?)?;
    let seconds: i64 = parse_digits(parts.next()?)?;
    if parts.next().is_some() || hours > 24 || minutes > 59 || seconds > 59 {
        return None;
    }
    let fraction = match fraction {
        None => 0,
        Some(digits) if (1..=6).contains(&digits.len()) => parse_digits(&format!("{digits:0<6}"))?,
        Some(_) => return None,
    };
    let micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
    (micros <= MICROS_PER_DAY).then_some(micros)
}

/// Digits only, where `parse` alone would take a sign.
fn parse_digits(text: &str) -> Option<i64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// Year, month and day of a day; years count through zero. The algorithm is the well-known one that
/// counts from 1 March of a 400-year era.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_spelled_as_duckdb_spells_them() {
        for (days, text) in [
            (0, "1970-01-01"),
            (19_782, "2024-02-29"),
            (-719_162, "0001-01-01"),
            (-719_163, "0001-12-31 (BC)"),
            (-735_160, "0044-03-15 (BC)"),
            (3_789_391, "12345-01-01"),
            (2_147_483_646, "5881580-07-10"),
        ] {
            assert_eq!(render_date(days), text);
            assert_eq!(parse_date(text), Some(days));
        }
        for text in [
            "2023-02-29",
            "2024-13-01",
            "0000-01-01",
            "2024-1",
            "2024-01-01-01",
            "+024-01-01",
            "",
            "a",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn times_drop_trailing_zeros_of_the_fraction_only() {
        for (micros, text) in [
            (0, "00:00:00"),
            (36_000_000_000, "10:00:00"),
            (43_200_500_000, "12:00:00.5"),
            (86_399_999_999, "23:59:59.999999"),
            (1, "00:00:00.000001"),
            (MICROS_PER_DAY, "24:00:00"),
        ] {
            assert_eq!(render_time(micros), text);
            assert_eq!(parse_time(text), Some(micros));
        }
        for text in [
            "24:00:00.000001",
            "1:2",
            "00:60:00",
            "00:00:00.",
            "00:00:00.1234567",
            "-1:00:00",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_date_reads_back(days in any::<i32>()) {
            let days = i64::from(days);
            prop_assert_eq!(parse_date(&render_date(days)), Some(days));
        }

        #[test]
        fn every_time_reads_back(micros in 0..=MICROS_PER_DAY) {
            prop_assert_eq!(parse_time(&render_time(micros)), Some(micros));
        }
    }
}
