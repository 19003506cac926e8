//! Values from the binary send format of their type.
//!
//! The formats are those of the `*_send` functions of Postgres. Bytes left over or missing make a
//! value malformed.

mod array;
mod record;

pub use array::{BinaryArray, array};
pub use record::{BinaryRecord, record};

use super::calendar::{
    self, DATE_INFINITY, MICROS_PER_DAY, PG_EPOCH_UNIX_DAYS, TIMESTAMP_INFINITY,
};
use super::{ValueError, ValueErrorKind, decimal};
use crate::reader::Cursor;

fn exactly<const N: usize>(raw: &[u8], type_name: &'static str) -> Result<[u8; N], ValueError> {
    raw.try_into()
        .map_err(|_| ValueError::new(type_name, ValueErrorKind::Malformed))
}

/// A `bool`: one byte, 0 or 1.
pub fn bool(raw: &[u8]) -> Result<bool, ValueError> {
    match raw {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(ValueError::new("bool", ValueErrorKind::Malformed)),
    }
}

/// An `int2`.
pub fn int2(raw: &[u8]) -> Result<i16, ValueError> {
    exactly(raw, "int2").map(i16::from_be_bytes)
}

/// An `int4`.
pub fn int4(raw: &[u8]) -> Result<i32, ValueError> {
    exactly(raw, "int4").map(i32::from_be_bytes)
}

/// An `int8`.
pub fn int8(raw: &[u8]) -> Result<i64, ValueError> {
    exactly(raw, "int8").map(i64::from_be_bytes)
}

/// An `oid`.
pub fn oid(raw: &[u8]) -> Result<u32, ValueError> {
    exactly(raw, "oid").map(u32::from_be_bytes)
}

/// A `xid8`, or any other unsigned number of 64 bits.
pub fn uint8(raw: &[u8]) -> Result<u64, ValueError> {
    exactly(raw, "uint8").map(u64::from_be_bytes)
}

/// A `money`, in cents, or whatever the last decimal place of `lc_monetary` is.
pub fn money(raw: &[u8]) -> Result<i64, ValueError> {
    exactly(raw, "money").map(i64::from_be_bytes)
}

/// A `float4`.
pub fn float4(raw: &[u8]) -> Result<f32, ValueError> {
    exactly(raw, "float4").map(f32::from_be_bytes)
}

/// A `float8`.
pub fn float8(raw: &[u8]) -> Result<f64, ValueError> {
    exactly(raw, "float8").map(f64::from_be_bytes)
}

const NUMERIC_POSITIVE: u16 = 0x0000;
const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_NAN: u16 = 0xC000;
const NUMERIC_INFINITY: u16 = 0xD000;
const NUMERIC_NEGATIVE_INFINITY: u16 = 0xF000;
const NUMERIC_MAX_DISPLAY_SCALE: u16 = 0x3FFF;
/// Digits are groups of four decimal digits.
const GROUP_BASE: u16 = 10_000;
const GROUP_DIGITS: i32 = 4;

enum Numeric<'a> {
    Finite(FiniteNumeric<'a>),
    NotANumber,
    Infinity,
    NegativeInfinity,
}

/// `digits[i]` stands for `digits[i] * 10000^(weight - i)`.
struct FiniteNumeric<'a> {
    negative: bool,
    weight: i32,
    display_scale: u16,
    /// All below 10000; the first is not zero.
    groups: Groups<'a>,
}

/// Reads the digits of a numeric one after the other.
struct Groups<'a>(Cursor<'a>);

impl Iterator for Groups<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        self.0.u16()
    }
}

fn parse_numeric(raw: &[u8]) -> Option<Numeric<'_>> {
    let mut cursor = Cursor::new(raw);
    // Unsigned, as `numeric_recv` has it: a number can have 36,864 groups.
    let count = usize::from(cursor.u16()?);
    let mut weight = i32::from(cursor.i16()?);
    let sign = cursor.u16()?;
    let display_scale = cursor.u16()?;
    if cursor.len() != count * size_of::<u16>() {
        return None;
    }
    let negative = match sign {
        NUMERIC_POSITIVE => false,
        NUMERIC_NEGATIVE => true,
        // The server fills weight and display scale of these with leftovers of its own encoding.
        NUMERIC_NAN => return Some(Numeric::NotANumber),
        NUMERIC_INFINITY => return Some(Numeric::Infinity),
        NUMERIC_NEGATIVE_INFINITY => return Some(Numeric::NegativeInfinity),
        _ => return None,
    };
    if display_scale > NUMERIC_MAX_DISPLAY_SCALE || Groups(cursor).any(|group| group >= GROUP_BASE)
    {
        return None;
    }
    while cursor.eat_all(&[0, 0]) {
        weight -= 1;
    }
    Some(Numeric::Finite(FiniteNumeric {
        negative,
        weight,
        display_scale,
        groups: Groups(cursor),
    }))
}

const NUMERIC: &str = "numeric";

/// A `numeric` as an integer of units of `10^-scale`.
///
/// `precision` is the greatest number of decimal digits of the result; 38 at most, more is taken as
/// 38. Never rounds: a digit other than zero beyond the scale is
/// [`Inexact`](ValueErrorKind::Inexact), too many digits are
/// [`OutOfRange`](ValueErrorKind::OutOfRange). `NaN` and the infinities have kinds of their own.
pub fn numeric(raw: &[u8], precision: u8, scale: u8) -> Result<i128, ValueError> {
    let fail = |kind| ValueError::new(NUMERIC, kind);
    let finite = match parse_numeric(raw) {
        Some(Numeric::Finite(finite)) => finite,
        Some(Numeric::NotANumber) => return Err(fail(ValueErrorKind::NotANumber)),
        Some(Numeric::Infinity) => return Err(fail(ValueErrorKind::Infinity)),
        Some(Numeric::NegativeInfinity) => return Err(fail(ValueErrorKind::NegativeInfinity)),
        None => return Err(fail(ValueErrorKind::Malformed)),
    };
    let mut magnitude: u128 = 0;
    // The power of ten, in units of the result, that the current group is multiplied with.
    let mut exponent = finite.weight * GROUP_DIGITS + i32::from(scale);
    for group in finite.groups {
        let units = group_units(group, exponent).map_err(fail)?;
        magnitude = magnitude
            .checked_add(units)
            .ok_or_else(|| fail(ValueErrorKind::OutOfRange))?;
        exponent -= GROUP_DIGITS;
    }
    decimal::finish(finite.negative, magnitude, precision).map_err(fail)
}

/// `group * 10^exponent`, if that is a whole number.
fn group_units(group: u16, exponent: i32) -> Result<u128, ValueErrorKind> {
    let group = u128::from(group);
    if exponent >= 0 {
        return decimal::scale_up(group, exponent.unsigned_abs());
    }
    if group == 0 {
        return Ok(0);
    }
    // A divisor beyond the table is greater than any group.
    let divisor = decimal::power_of_ten(exponent.unsigned_abs()).ok_or(ValueErrorKind::Inexact)?;
    if group % divisor == 0 {
        Ok(group / divisor)
    } else {
        Err(ValueErrorKind::Inexact)
    }
}

/// Appends a `numeric` as Postgres prints it, with as many decimal places as the value was given,
/// or `NaN`, `Infinity`, `-Infinity`. Appends nothing on an error.
///
/// The result can be far longer than the input: up to 131,072 digits before the point and 16,383
/// after it.
pub fn numeric_text(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    match parse_numeric(raw) {
        Some(Numeric::Finite(finite)) => write_numeric(finite, dst),
        Some(Numeric::NotANumber) => dst.push_str("NaN"),
        Some(Numeric::Infinity) => dst.push_str("Infinity"),
        Some(Numeric::NegativeInfinity) => dst.push_str("-Infinity"),
        None => return Err(ValueError::new(NUMERIC, ValueErrorKind::Malformed)),
    }
    Ok(())
}

fn write_numeric(mut number: FiniteNumeric<'_>, dst: &mut String) {
    // Without groups the number is zero, which has no sign.
    let mut groups = number.groups.by_ref().peekable();
    if number.negative && groups.peek().is_some() {
        dst.push('-');
    }
    if number.weight < 0 || groups.peek().is_none() {
        dst.push('0');
    } else {
        for position in 0..=number.weight {
            let digits = group_digits(groups.next().unwrap_or(0));
            let leading = if position == 0 {
                digits
                    .iter()
                    .take_while(|digit| **digit == '0')
                    .count()
                    .min(3)
            } else {
                0
            };
            dst.extend(digits.iter().skip(leading));
        }
    }
    if number.display_scale == 0 {
        return;
    }
    dst.push('.');
    let mut left = usize::from(number.display_scale);
    let mut position = -1;
    while left > 0 {
        let group = if position > number.weight {
            0
        } else {
            groups.next().unwrap_or(0)
        };
        let digits = group_digits(group);
        dst.extend(digits.iter().take(left));
        left = left.saturating_sub(digits.len());
        position -= 1;
    }
}

fn group_digits(group: u16) -> [char; 4] {
    [1000, 100, 10, 1].map(|unit| char::from_digit(u32::from(group / unit % 10), 10).unwrap_or('0'))
}

/// A `date`: days since 1970-01-01. `infinity` is `i32::MAX`, `-infinity` is `-i32::MAX`.
pub fn date(raw: &[u8]) -> Result<i32, ValueError> {
    match i32::from_be_bytes(exactly(raw, "date")?) {
        i32::MAX => Ok(DATE_INFINITY),
        i32::MIN => Ok(-DATE_INFINITY),
        days => calendar::date(i64::from(days) + PG_EPOCH_UNIX_DAYS)
            .map_err(|kind| ValueError::new("date", kind)),
    }
}

/// A `time`: microseconds since midnight, up to and including 24:00:00.
pub fn time(raw: &[u8]) -> Result<i64, ValueError> {
    let micros = i64::from_be_bytes(exactly(raw, "time")?);
    if (0..=MICROS_PER_DAY).contains(&micros) {
        Ok(micros)
    } else {
        Err(ValueError::new("time", ValueErrorKind::OutOfRange))
    }
}

/// A `timestamp`: microseconds since 1970-01-01 00:00:00. `infinity` is `i64::MAX`, `-infinity` is
/// `-i64::MAX`. From 294247-01-10 04:00:54.775807 on, values are out of range.
pub fn timestamp(raw: &[u8]) -> Result<i64, ValueError> {
    instant(raw, "timestamp")
}

/// A `timestamptz`: microseconds since 1970-01-01 00:00:00 UTC, otherwise as [`timestamp`].
pub fn timestamptz(raw: &[u8]) -> Result<i64, ValueError> {
    instant(raw, "timestamptz")
}

fn instant(raw: &[u8], type_name: &'static str) -> Result<i64, ValueError> {
    match i64::from_be_bytes(exactly(raw, type_name)?) {
        i64::MAX => Ok(TIMESTAMP_INFINITY),
        i64::MIN => Ok(-TIMESTAMP_INFINITY),
        micros => calendar::timestamp(PG_EPOCH_UNIX_DAYS, micros)
            .map_err(|kind| ValueError::new(type_name, kind)),
    }
}

/// A `uuid`: its sixteen bytes.
pub fn uuid(raw: &[u8]) -> Result<[u8; 16], ValueError> {
    exactly(raw, "uuid")
}

/// A `bytea`, which is sent as it is.
pub const fn bytea(raw: &[u8]) -> &[u8] {
    raw
}

/// A `text` or any other type that is sent as text: `varchar`, `bpchar`, `name`, enums.
pub fn text(raw: &[u8]) -> Result<&str, ValueError> {
    super::text::text(raw)
}

/// A `json`, which is sent as text.
pub fn json(raw: &[u8]) -> Result<&str, ValueError> {
    super::text::json(raw)
}

/// A `jsonb`: a version byte, then text.
pub fn jsonb(raw: &[u8]) -> Result<&str, ValueError> {
    match raw.split_first() {
        Some((1, json)) => super::text::jsonb(json),
        Some(_) => Err(ValueError::new("jsonb", ValueErrorKind::UnknownVersion)),
        None => Err(ValueError::new("jsonb", ValueErrorKind::Malformed)),
    }
}
