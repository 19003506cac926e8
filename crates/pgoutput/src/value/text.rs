//! Values from the output text of their type.
//!
//! Only the spellings that Postgres prints are accepted, not all that it reads.

mod array;
mod bytea;
mod datetime;
mod money;
mod record;

use std::num::IntErrorKind;
use std::str::FromStr;

pub use array::{TextArray, array};
pub use bytea::bytea;
pub use datetime::{date, time, timestamp, timestamptz};
pub use money::money;
pub use record::{TextRecord, record};

use super::{ValueError, ValueErrorKind, decimal};
use crate::reader::Cursor;

/// A `bool`: `t` or `f`.
pub fn bool(raw: &[u8]) -> Result<bool, ValueError> {
    match raw {
        b"t" => Ok(true),
        b"f" => Ok(false),
        _ => Err(ValueError::new("bool", ValueErrorKind::Malformed)),
    }
}

/// An `int2`.
pub fn int2(raw: &[u8]) -> Result<i16, ValueError> {
    integer(raw, "int2")
}

/// An `int4`.
pub fn int4(raw: &[u8]) -> Result<i32, ValueError> {
    integer(raw, "int4")
}

/// An `int8`.
pub fn int8(raw: &[u8]) -> Result<i64, ValueError> {
    integer(raw, "int8")
}

/// An `oid`.
pub fn oid(raw: &[u8]) -> Result<u32, ValueError> {
    integer(raw, "oid")
}

/// A `xid8`, or any other unsigned number of 64 bits.
pub fn uint8(raw: &[u8]) -> Result<u64, ValueError> {
    integer(raw, "uint8")
}

fn integer<T: FromStr<Err = std::num::ParseIntError>>(
    raw: &[u8],
    type_name: &'static str,
) -> Result<T, ValueError> {
    let malformed = ValueError::new(type_name, ValueErrorKind::Malformed);
    if raw.first() == Some(&b'+') {
        return Err(malformed);
    }
    let digits = std::str::from_utf8(raw).map_err(|_| malformed)?;
    digits
        .parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
                ValueError::new(type_name, ValueErrorKind::OutOfRange)
            }
            _ => malformed,
        })
}

/// A `float4`, with `NaN`, `Infinity` and `-Infinity`.
pub fn float4(raw: &[u8]) -> Result<f32, ValueError> {
    let value: f32 = match raw {
        b"NaN" => f32::NAN,
        b"Infinity" => f32::INFINITY,
        b"-Infinity" => f32::NEG_INFINITY,
        _ => finite(raw, "float4", |value: &f32| value.is_finite())?,
    };
    Ok(value)
}

/// A `float8`, with `NaN`, `Infinity` and `-Infinity`.
pub fn float8(raw: &[u8]) -> Result<f64, ValueError> {
    let value: f64 = match raw {
        b"NaN" => f64::NAN,
        b"Infinity" => f64::INFINITY,
        b"-Infinity" => f64::NEG_INFINITY,
        _ => finite(raw, "float8", |value: &f64| value.is_finite())?,
    };
    Ok(value)
}

fn finite<T: FromStr>(
    raw: &[u8],
    type_name: &'static str,
    is_finite: impl FnOnce(&T) -> bool,
) -> Result<T, ValueError> {
    let malformed = ValueError::new(type_name, ValueErrorKind::Malformed);
    // The parser of the standard library also takes names of infinity and a leading plus.
    let numeric = raw
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e'));
    if !numeric || raw.first() == Some(&b'+') {
        return Err(malformed);
    }
    let value = std::str::from_utf8(raw)
        .map_err(|_| malformed)?
        .parse()
        .map_err(|_| malformed)?;
    if is_finite(&value) {
        Ok(value)
    } else {
        Err(ValueError::new(type_name, ValueErrorKind::OutOfRange))
    }
}

const NUMERIC: &str = "numeric";

/// A `numeric` as an integer of units of `10^-scale`.
///
/// `precision` is the greatest number of decimal digits of the result; 38 at most, more is taken as
/// 38. Never rounds: a digit other than zero beyond the scale is
/// [`Inexact`](ValueErrorKind::Inexact), too many digits are
/// [`OutOfRange`](ValueErrorKind::OutOfRange). `NaN` and the infinities have kinds of their own.
pub fn numeric(raw: &[u8], precision: u8, scale: u8) -> Result<i128, ValueError> {
    decimal(raw, precision, scale).map_err(|kind| ValueError::new(NUMERIC, kind))
}

fn decimal(raw: &[u8], precision: u8, scale: u8) -> Result<i128, ValueErrorKind> {
    match raw {
        b"NaN" => return Err(ValueErrorKind::NotANumber),
        b"Infinity" => return Err(ValueErrorKind::Infinity),
        b"-Infinity" => return Err(ValueErrorKind::NegativeInfinity),
        _ => {}
    }
    let number = DecimalText::parse(raw).ok_or(ValueErrorKind::Malformed)?;
    let scale = usize::from(scale);
    let (kept, beyond) = number
        .fraction
        .split_at_checked(scale)
        .unwrap_or((number.fraction, &[]));
    let mut magnitude: u128 = 0;
    for digit in number.whole.iter().chain(kept) {
        magnitude = magnitude
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u128::from(digit - b'0')))
            .ok_or(ValueErrorKind::OutOfRange)?;
    }
    if beyond.iter().any(|digit| *digit != b'0') {
        return Err(ValueErrorKind::Inexact);
    }
    let missing = u32::try_from(scale - kept.len()).map_err(|_| ValueErrorKind::OutOfRange)?;
    decimal::finish(
        number.negative,
        decimal::scale_up(magnitude, missing)?,
        precision,
    )
}

/// Appends a `numeric` as it is, after a check of its form. Appends nothing on an error.
pub fn numeric_text(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    let malformed = ValueError::new(NUMERIC, ValueErrorKind::Malformed);
    let special = matches!(raw, b"NaN" | b"Infinity" | b"-Infinity");
    if !special && DecimalText::parse(raw).is_none() {
        return Err(malformed);
    }
    dst.push_str(std::str::from_utf8(raw).map_err(|_| malformed)?);
    Ok(())
}

/// `-?[0-9]+(\.[0-9]+)?`, taken apart.
struct DecimalText<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> DecimalText<'a> {
    fn parse(raw: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(raw);
        let negative = cursor.eat(b'-');
        let whole = cursor.digit_run()?;
        let fraction = if cursor.eat(b'.') {
            cursor.digit_run()?
        } else {
            &[]
        };
        cursor.is_empty().then_some(Self {
            negative,
            whole,
            fraction,
        })
    }
}

/// A `uuid`: its sixteen bytes.
pub fn uuid(raw: &[u8]) -> Result<[u8; 16], ValueError> {
    hyphenated(raw).ok_or(ValueError::new("uuid", ValueErrorKind::Malformed))
}

fn hyphenated(raw: &[u8]) -> Option<[u8; 16]> {
    let mut cursor = Cursor::new(raw);
    let mut bytes = [0; 16];
    for (position, byte) in bytes.iter_mut().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) && !cursor.eat(b'-') {
            return None;
        }
        *byte = cursor.hex_byte()?;
    }
    cursor.is_empty().then_some(bytes)
}

fn utf8<'a>(raw: &'a [u8], type_name: &'static str) -> Result<&'a str, ValueError> {
    std::str::from_utf8(raw).map_err(|_| ValueError::new(type_name, ValueErrorKind::InvalidUtf8))
}

/// A `text`, or any other type taken as its output text.
pub fn text(raw: &[u8]) -> Result<&str, ValueError> {
    utf8(raw, "text")
}

/// A `json`, as the application wrote it.
pub fn json(raw: &[u8]) -> Result<&str, ValueError> {
    utf8(raw, "json")
}

/// A `jsonb`, as Postgres prints it.
pub fn jsonb(raw: &[u8]) -> Result<&str, ValueError> {
    utf8(raw, "jsonb")
}
