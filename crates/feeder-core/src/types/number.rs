//! Booleans and numbers (Postgres documentation, sections 8.1, 8.2 and 8.6; OIDs from `pg_type.dat`).

use pgoutput::Oid;

use super::Reader;
use crate::config::NumericMapping;

/// Digits of a `money`, which is a 64-bit number of cents.
pub(super) const MONEY_PRECISION: u8 = 19;
/// Decimal places of a `money` under `lc_monetary = C`, which sessions are pinned to.
pub(super) const MONEY_SCALE: u8 = 2;

pub(super) fn reader(oid: Oid, type_modifier: i32, numeric: NumericMapping) -> Option<Reader> {
    Some(match oid.get() {
        16 => Reader::Bool,
        20 => Reader::Int8,
        21 => Reader::Int2,
        23 => Reader::Int4,
        // oid, xid, cid
        26 | 28 | 29 => Reader::Oid,
        // xid8
        5069 => Reader::Uint8,
        700 => Reader::Float4,
        701 => Reader::Float8,
        790 => Reader::Money,
        1700 => numeric_reader(type_modifier, numeric),
        _ => return None,
    })
}

/// A `numeric(p, s)` has the modifier `((p << 16) | (s & 0x7ff)) + 4`, the scale being an 11-bit two's complement
/// (Postgres source, `numeric.c`, `make_numeric_typmod`).
fn numeric_reader(type_modifier: i32, unbounded: NumericMapping) -> Reader {
    let Some(packed) = type_modifier
        .checked_sub(4)
        .and_then(|packed| u32::try_from(packed).ok())
    else {
        return match unbounded {
            NumericMapping::Varchar => Reader::NumericText,
            NumericMapping::Decimal { precision, scale } => Reader::Decimal { precision, scale },
            NumericMapping::Float64 => Reader::NumericFloat,
        };
    };
    let precision = i32::try_from((packed >> 16) & 0xffff).unwrap_or(i32::MAX);
    let raw_scale = i32::try_from(packed & 0x7ff).unwrap_or(i32::MAX);
    let scale = if raw_scale > 0x3ff {
        raw_scale - 0x800
    } else {
        raw_scale
    };
    // `numeric(5, -2)` has up to seven digits before the point, `numeric(3, 5)` five after it (Postgres 15 and newer).
    let digits = if scale < 0 {
        precision - scale
    } else {
        precision.max(scale)
    };
    match (u8::try_from(digits), u8::try_from(scale.max(0))) {
        (Ok(precision @ 1..=38), Ok(scale)) => Reader::Decimal { precision, scale },
        _ => Reader::NumericText,
    }
}
