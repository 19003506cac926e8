//! Values from the binary send format of their type to their output text.
//!
//! Each function appends what the output function of the type (`*_out` in Postgres) gives for the
//! value that the send function (`*_send`) sent, in a session with `DateStyle` ISO,
//! `IntervalStyle` postgres, `TimeZone` UTC, `extra_float_digits` 1 or more, `bytea_output` hex,
//! `lc_monetary` C and `client_encoding` UTF8. Bytes that are no value of the type are an error,
//! and nothing is appended then.
//!
//! What is appended is at most eight bytes per byte of input plus a constant, except for
//! [`numeric`].

mod datetime;
mod float;
mod network;
mod quote;

use std::fmt::{Arguments, Write};

pub use datetime::{date, interval, time, timestamp, timestamptz, timetz};
pub use float::{float4, float8};
pub use network::{cidr, inet, macaddr, macaddr8};
pub use quote::{array_element, record_field};

use super::{ValueError, ValueErrorKind, binary};
use crate::Lsn;
use crate::reader::Cursor;

fn put(dst: &mut String, text: Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = dst.write_fmt(text);
}

/// A `bool`: `t` or `f`.
pub fn bool(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    dst.push(if binary::bool(raw)? { 't' } else { 'f' });
    Ok(())
}

/// An `int2`.
pub fn int2(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    put(dst, format_args!("{}", binary::int2(raw)?));
    Ok(())
}

/// An `int4`.
pub fn int4(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    put(dst, format_args!("{}", binary::int4(raw)?));
    Ok(())
}

/// An `int8`.
pub fn int8(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    put(dst, format_args!("{}", binary::int8(raw)?));
    Ok(())
}

/// An `oid`.
pub fn oid(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    put(dst, format_args!("{}", binary::oid(raw)?));
    Ok(())
}

/// A `xid8`, or any other unsigned number of 64 bits.
pub fn uint8(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    put(dst, format_args!("{}", binary::uint8(raw)?));
    Ok(())
}

/// A `numeric`, with as many decimal places as the value was given; see [`binary::numeric_text`]
/// for how long it can be.
pub fn numeric(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    binary::numeric_text(raw, dst)
}

/// A `money`, such as `-$1,234.56` (`cash_out`).
pub fn money(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    let cents = binary::money(raw)?;
    let sign = if cents < 0 { "-" } else { "" };
    let size = cents.unsigned_abs();
    let units = size / 100;
    let mut group = 1;
    while units / group >= 1000 {
        group *= 1000;
    }
    put(dst, format_args!("{sign}${}", units / group));
    while group > 1 {
        group /= 1000;
        put(dst, format_args!(",{:03}", units / group % 1000));
    }
    put(dst, format_args!(".{:02}", size % 100));
    Ok(())
}

/// A `bytea`: `\x`, then hexadecimal digits.
pub fn bytea(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    dst.reserve(raw.len().saturating_mul(2).saturating_add(2));
    dst.push_str("\\x");
    hex(raw, dst);
    Ok(())
}

fn hex(raw: &[u8], dst: &mut String) {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    dst.extend(
        raw.iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xF)]),
    );
}

/// A `uuid`: lower case, with hyphens.
pub fn uuid(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    for (position, byte) in binary::uuid(raw)?.into_iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            dst.push('-');
        }
        hex(&[byte], dst);
    }
    Ok(())
}

/// A `bit`: one digit per bit (`bit_out`).
pub fn bit(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    bits(raw, dst).ok_or(ValueError::new("bit", ValueErrorKind::Malformed))
}

/// A `varbit`, as [`bit`].
pub fn varbit(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    bits(raw, dst).ok_or(ValueError::new("varbit", ValueErrorKind::Malformed))
}

fn bits(raw: &[u8], dst: &mut String) -> Option<()> {
    let mut cursor = Cursor::new(raw);
    let count = usize::try_from(cursor.i32()?).ok()?;
    let bytes = cursor.take(count.div_ceil(8))?;
    if !cursor.is_empty() {
        return None;
    }
    // The bits that fill up the last byte are no part of the value.
    dst.extend(
        bytes
            .iter()
            .flat_map(|byte| (0..8).map(move |position| byte << position & 0x80 != 0))
            .map(|set| if set { '1' } else { '0' })
            .take(count),
    );
    Some(())
}

/// A `pg_lsn`, such as `16/B374D848`.
pub fn pg_lsn(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    let position = raw
        .try_into()
        .map_err(|_| ValueError::new("pg_lsn", ValueErrorKind::Malformed))?;
    put(
        dst,
        format_args!("{}", Lsn::new(u64::from_be_bytes(position))),
    );
    Ok(())
}

/// A `text` or any other type that is sent as text: `varchar`, `bpchar`, `name`, `json`, `xml`,
/// enums.
pub fn text(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    dst.push_str(binary::text(raw)?);
    Ok(())
}

/// A `jsonb`.
pub fn jsonb(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    dst.push_str(binary::jsonb(raw)?);
    Ok(())
}
