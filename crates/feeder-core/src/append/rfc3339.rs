//! Points in time as RFC 3339 text, exact to the microsecond.

/// Microseconds since 1970-01-01 00:00:00 UTC of RFC 3339 text with an offset.
///
/// # Errors
/// What is wrong with it; never the text (I14).
pub(crate) fn instant(text: &str) -> Result<i64, &'static str> {
    let (micros, rest) = local(text.as_bytes())?;
    let offset = match rest {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(*h1, *h2)?, two(*m1, *m2)?);
            if hours > 23 || minutes > 59 {
                return Err("an offset out of range");
            }
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        [] => return Err("a time without an offset"),
        _ => return Err(NOT),
    };
    Ok(micros - offset * 1_000_000)
}

/// Microseconds since 1970-01-01 00:00:00 of RFC 3339 text without an offset.
///
/// # Errors
/// What is wrong with it; never the text (I14).
pub(crate) fn wall_clock(text: &str) -> Result<i64, &'static str> {
    match local(text.as_bytes())? {
        (micros, []) => Ok(micros),
        _ => Err("a time with an offset"),
    }
}

const NOT: &str = "text that is no RFC 3339 time";

/// The part before the offset, and the offset.
fn local(text: &[u8]) -> Result<(i64, &[u8]), &'static str> {
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        o1,
        o2,
        b'-',
        d1,
        d2,
        b'T' | b't' | b' ',
        h1,
        h2,
        b':',
        m1,
        m2,
        b':',
        s1,
        s2,
        rest @ ..,
    ] = text
    else {
        return Err(NOT);
    };
    let year = two(*y1, *y2)? * 100 + two(*y3, *y4)?;
    let (month, day) = (two(*o1, *o2)?, two(*d1, *d2)?);
    let (hour, minute, second) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
    if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return Err("a date that does not exist");
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err("a time of day that the lake cannot hold");
    }
    let (fraction, rest) = fraction(rest)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Ok((seconds * 1_000_000 + fraction, rest))
}

/// Microseconds of a fraction. Digits beyond must be zeros: a value is never another one.
fn fraction(text: &[u8]) -> Result<(i64, &[u8]), &'static str> {
    let [b'.', digits @ ..] = text else {
        return Ok((0, text));
    };
    let length = digits
        .iter()
        .take_while(|digit| digit.is_ascii_digit())
        .count();
    let (digits, rest) = digits.split_at(length);
    if digits.is_empty() {
        return Err(NOT);
    }
    if digits.iter().skip(6).any(|digit| *digit != b'0') {
        return Err("a time that is finer than a microsecond");
    }
    let micros = (0..6).fold(0, |micros, index| {
        let digit = digits.get(index).map_or(0, |digit| i64::from(digit - b'0'));
        micros * 10 + digit
    });
    Ok((micros, rest))
}

fn two(tens: u8, ones: u8) -> Result<i64, &'static str> {
    if tens.is_ascii_digit() && ones.is_ascii_digit() {
        Ok(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    } else {
        Err(NOT)
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, counted in years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_exact() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("2024-02-29T12:00:00+00:00", 1_709_208_000_000_000),
            ("2024-02-29T13:00:00.5+01:00", 1_709_208_000_500_000),
            ("2024-02-29t06:30:00.000001-05:30", 1_709_208_000_000_001),
            ("2000-03-01 00:00:00z", 951_868_800_000_000),
            ("0000-03-01T00:00:00Z", -62_162_035_200_000_000),
            ("9999-12-31T23:59:59.999999000Z", 253_402_300_799_999_999),
        ] {
            assert_eq!(instant(text), Ok(micros), "{text}");
        }
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for text in [
            "",
            "2024-02-29",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-02-29T24:00:00Z",
            "2024-02-29T23:59:60Z",
            "2024-02-29T12:00:00",
            "2024-02-29T12:00:00.Z",
            "2024-02-29T12:00:00+1:00",
            "2024-02-29T12:00:00+24:00",
            "2024-02-29T12:00:00Z ",
            "+024-02-29T12:00:00Z",
            "2024-02-29T12:00:00.0000001Z",
        ] {
            instant(text).unwrap_err();
        }
    }

    #[test]
    fn a_wall_clock_has_no_offset() {
        assert_eq!(wall_clock("1970-01-01T00:00:01"), Ok(1_000_000));
        wall_clock("1970-01-01T00:00:01Z").unwrap_err();
    }

    #[test]
    fn days_agree_with_the_clock_of_the_standard_library() {
        for seconds in (0..4_000_000_000_i64).step_by(86_400 * 7 + 12_345) {
            let text = crate::clock::utc_text(seconds * 1_000_000);
            assert_eq!(instant(&text), Ok(seconds * 1_000_000), "{text}");
        }
    }
}
