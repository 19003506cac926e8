//! Dates and times in `DateStyle` ISO, intervals in `IntervalStyle` postgres (Postgres
//! documentation, "Date/Time Output" and "Interval Output"; `EncodeDateTime`, `EncodeInterval`).

use super::put;
use crate::reader::Cursor;
use crate::value::calendar::{self, DATE_INFINITY, MICROS_PER_DAY, MICROS_PER_SECOND};
use crate::value::{ValueError, ValueErrorKind, binary};

/// A `date`.
pub fn date(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    match binary::date(raw)? {
        DATE_INFINITY => dst.push_str("infinity"),
        days if days == -DATE_INFINITY => dst.push_str("-infinity"),
        days => {
            let era = write_date(i64::from(days), dst);
            dst.push_str(era);
        }
    }
    Ok(())
}

/// A `time`.
pub fn time(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    write_time(binary::time(raw)?, dst);
    Ok(())
}

/// `TZDISP_LIMIT`: offsets from UTC are below it.
const ZONE_LIMIT: u32 = 16 * 3600;

/// A `timetz`: the time, then its offset from UTC.
pub fn timetz(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    let fail = |kind| ValueError::new("timetz", kind);
    let malformed = fail(ValueErrorKind::Malformed);
    let (time, zone) = raw.split_first_chunk::<8>().ok_or(malformed)?;
    let micros = i64::from_be_bytes(*time);
    let zone = i32::from_be_bytes(zone.try_into().map_err(|_| malformed)?);
    if !(0..=MICROS_PER_DAY).contains(&micros) || zone.unsigned_abs() >= ZONE_LIMIT {
        return Err(fail(ValueErrorKind::OutOfRange));
    }
    write_time(micros, dst);
    // Seconds west of UTC, which are shown as an offset to the east (`EncodeTimezone`).
    let sign = if zone <= 0 { '+' } else { '-' };
    let size = zone.unsigned_abs();
    let (hours, minutes, seconds) = (size / 3600, size / 60 % 60, size % 60);
    put(dst, format_args!("{sign}{hours:02}"));
    if minutes != 0 || seconds != 0 {
        put(dst, format_args!(":{minutes:02}"));
    }
    if seconds != 0 {
        put(dst, format_args!(":{seconds:02}"));
    }
    Ok(())
}

/// A `timestamp`, up to the end of the year 294276.
pub fn timestamp(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    instant(raw, "", dst).map_err(|kind| ValueError::new("timestamp", kind))
}

/// A `timestamptz` in UTC, otherwise as [`timestamp`].
pub fn timestamptz(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    instant(raw, "+00", dst).map_err(|kind| ValueError::new("timestamptz", kind))
}

fn instant(raw: &[u8], offset: &str, dst: &mut String) -> Result<(), ValueErrorKind> {
    // Counted from 2000-01-01: since 1970, the last thirty years do not fit 64 bits.
    let pg_micros = raw.try_into().map_err(|_| ValueErrorKind::Malformed)?;
    match i64::from_be_bytes(pg_micros) {
        i64::MAX => dst.push_str("infinity"),
        i64::MIN => dst.push_str("-infinity"),
        pg_micros => {
            let (days, micros) = calendar::split_timestamp(pg_micros)?;
            let era = write_date(days, dst);
            dst.push(' ');
            write_time(micros, dst);
            dst.push_str(offset);
            dst.push_str(era);
        }
    }
    Ok(())
}

/// Gives what stands at the end of the value for the era.
fn write_date(unix_days: i64, dst: &mut String) -> &'static str {
    let (year, month, day) = calendar::civil(unix_days);
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    put(dst, format_args!("{year:04}-{month:02}-{day:02}"));
    era
}

fn write_time(micros: i64, dst: &mut String) {
    let seconds = micros / MICROS_PER_SECOND;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    put(dst, format_args!("{hours:02}:{minutes:02}:"));
    write_seconds(seconds % 60, micros % MICROS_PER_SECOND, dst);
}

/// Two digits, then the decimal places without zeros at the end (`AppendSeconds`).
fn write_seconds(seconds: i64, micros: i64, dst: &mut String) {
    put(dst, format_args!("{seconds:02}"));
    if micros == 0 {
        return;
    }
    put(dst, format_args!(".{micros:06}"));
    let kept = dst.trim_end_matches('0').len();
    dst.truncate(kept);
}

/// An `interval`.
///
/// Before Postgres 17 there was no infinity. What stands for it since then was the greatest and
/// the least interval, which are shown as `infinity` and `-infinity` here all the same.
pub fn interval(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    let (micros, days, months) =
        parse_interval(raw).ok_or(ValueError::new("interval", ValueErrorKind::Malformed))?;
    match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => dst.push_str("infinity"),
        (i64::MIN, i32::MIN, i32::MIN) => dst.push_str("-infinity"),
        _ => write_interval(micros, days, months, dst),
    }
    Ok(())
}

fn parse_interval(raw: &[u8]) -> Option<(i64, i32, i32)> {
    let mut cursor = Cursor::new(raw);
    let micros = i64::from_be_bytes(cursor.fixed()?);
    let (days, months) = (cursor.i32()?, cursor.i32()?);
    cursor.is_empty().then_some((micros, days, months))
}

fn write_interval(micros: i64, days: i32, months: i32, dst: &mut String) {
    let mut empty = true;
    // Whether the part before was negative: only then does a positive one show its sign.
    let mut after_negative = false;
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        let space = if empty { "" } else { " " };
        let plus = if after_negative && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        put(dst, format_args!("{space}{plus}{value} {unit}{plural}"));
        empty = false;
        after_negative = value < 0;
    }
    if micros == 0 && !empty {
        return;
    }
    if !empty {
        dst.push(' ');
    }
    if micros < 0 {
        dst.push('-');
    } else if after_negative {
        dst.push('+');
    }
    let seconds = (micros / MICROS_PER_SECOND).abs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    put(dst, format_args!("{hours:02}:{minutes:02}:"));
    write_seconds(seconds % 60, (micros % MICROS_PER_SECOND).abs(), dst);
}
