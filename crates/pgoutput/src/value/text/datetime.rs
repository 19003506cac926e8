//! Dates and times in `DateStyle` ISO (Postgres documentation, "Date/Time Output").

use crate::reader::Cursor;
use crate::value::calendar::{
    self, DATE_INFINITY, MICROS_PER_DAY, MICROS_PER_SECOND, TIMESTAMP_INFINITY,
};
use crate::value::{ValueError, ValueErrorKind};

const MALFORMED: ValueErrorKind = ValueErrorKind::Malformed;

/// A `date`: days since 1970-01-01. `infinity` is `i32::MAX`, `-infinity` is `-i32::MAX`.
pub fn date(raw: &[u8]) -> Result<i32, ValueError> {
    let days = match raw {
        b"infinity" => return Ok(DATE_INFINITY),
        b"-infinity" => return Ok(-DATE_INFINITY),
        _ => read_date(raw),
    };
    days.and_then(calendar::date)
        .map_err(|kind| ValueError::new("date", kind))
}

fn read_date(raw: &[u8]) -> Result<i64, ValueErrorKind> {
    let mut cursor = Cursor::new(raw);
    let date = DateFields::read(&mut cursor).ok_or(MALFORMED)?;
    let bc = cursor.eat_all(b" BC");
    if !cursor.is_empty() {
        return Err(MALFORMED);
    }
    date.unix_days(bc).ok_or(MALFORMED)
}

/// A `time`: microseconds since midnight, up to and including 24:00:00.
pub fn time(raw: &[u8]) -> Result<i64, ValueError> {
    let mut cursor = Cursor::new(raw);
    time_of_day(&mut cursor)
        .filter(|_| cursor.is_empty())
        .filter(|micros| *micros <= MICROS_PER_DAY)
        .ok_or(ValueError::new("time", MALFORMED))
}

/// A `timestamp`: microseconds since 1970-01-01 00:00:00. `infinity` is `i64::MAX`, `-infinity` is
/// `-i64::MAX`. From 294247-01-10 04:00:54.775807 on, values are out of range.
pub fn timestamp(raw: &[u8]) -> Result<i64, ValueError> {
    instant(raw, |_| Some(0)).map_err(|kind| ValueError::new("timestamp", kind))
}

/// A `timestamptz` with any offset from UTC: microseconds since 1970-01-01 00:00:00 UTC, otherwise
/// as [`timestamp`].
pub fn timestamptz(raw: &[u8]) -> Result<i64, ValueError> {
    instant(raw, offset).map_err(|kind| ValueError::new("timestamptz", kind))
}

fn instant(
    raw: &[u8],
    read_offset: impl FnOnce(&mut Cursor<'_>) -> Option<i64>,
) -> Result<i64, ValueErrorKind> {
    match raw {
        b"infinity" => return Ok(TIMESTAMP_INFINITY),
        b"-infinity" => return Ok(-TIMESTAMP_INFINITY),
        _ => {}
    }
    let mut cursor = Cursor::new(raw);
    let date = DateFields::read(&mut cursor).ok_or(MALFORMED)?;
    if !cursor.eat(b' ') {
        return Err(MALFORMED);
    }
    let micros = time_of_day(&mut cursor)
        .filter(|micros| *micros < MICROS_PER_DAY)
        .ok_or(MALFORMED)?;
    let offset = read_offset(&mut cursor).ok_or(MALFORMED)?;
    let bc = cursor.eat_all(b" BC");
    if !cursor.is_empty() {
        return Err(MALFORMED);
    }
    calendar::timestamp(date.unix_days(bc).ok_or(MALFORMED)?, micros - offset)
}

/// The fields of a date, not yet checked against the calendar.
struct DateFields {
    year: u32,
    month: u32,
    day: u32,
}

impl DateFields {
    /// `YYYY-MM-DD`; years have four digits or more.
    fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let year = cursor.number(4, 7)?;
        let month = hyphen_two_digits(cursor)?;
        let day = hyphen_two_digits(cursor)?;
        Some(Self { year, month, day })
    }

    fn unix_days(&self, bc: bool) -> Option<i64> {
        if self.year == 0 {
            return None;
        }
        let year = i64::from(self.year);
        calendar::unix_days(if bc { 1 - year } else { year }, self.month, self.day)
    }
}

fn hyphen_two_digits(cursor: &mut Cursor<'_>) -> Option<u32> {
    if cursor.eat(b'-') {
        cursor.number(2, 2)
    } else {
        None
    }
}

/// `:MM`, below 60.
fn sixtieths(cursor: &mut Cursor<'_>) -> Option<i64> {
    if !cursor.eat(b':') {
        return None;
    }
    cursor
        .number(2, 2)
        .filter(|number| *number < 60)
        .map(i64::from)
}

/// `HH:MM:SS` with up to six decimal places, in microseconds. The caller limits the sum.
fn time_of_day(cursor: &mut Cursor<'_>) -> Option<i64> {
    let hours = i64::from(cursor.number(2, 2)?);
    let minutes = sixtieths(cursor)?;
    let seconds = sixtieths(cursor)?;
    let fraction = if cursor.eat(b'.') { micros(cursor)? } else { 0 };
    Some((hours * 3600 + minutes * 60 + seconds) * MICROS_PER_SECOND + fraction)
}

/// One to six decimal places, in microseconds.
fn micros(cursor: &mut Cursor<'_>) -> Option<i64> {
    let before = cursor.len();
    let digits = i64::from(cursor.number(1, 6)?);
    let missing = 6_usize.saturating_sub(before - cursor.len());
    Some((0..missing).fold(digits, |value, _| value * 10))
}

/// `+HH`, `+HH:MM` or `+HH:MM:SS`, below 16 hours, in microseconds east of UTC.
fn offset(cursor: &mut Cursor<'_>) -> Option<i64> {
    let sign = match cursor.u8()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = i64::from(cursor.number(2, 2).filter(|hours| *hours < 16)?);
    let minutes = if cursor.peek() == Some(b':') {
        sixtieths(cursor)?
    } else {
        0
    };
    let seconds = if cursor.peek() == Some(b':') {
        sixtieths(cursor)?
    } else {
        0
    };
    Some(sign * (hours * 3600 + minutes * 60 + seconds) * MICROS_PER_SECOND)
}
