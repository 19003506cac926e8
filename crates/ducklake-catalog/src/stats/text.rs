//! The text form of statistics (DuckLake specification, `ducklake_file_column_stats`): the text that
//! DuckDB's cast to VARCHAR gives, save for booleans, which are `0` and `1`.

use std::fmt::LowerExp;

use uuid::Uuid;

use super::calendar::{MICROS_PER_DAY, parse_date, parse_time, render_date, render_time};
use crate::{LakeType, StatValue};

/// The longest string bound that is stored. Longer ones are left out (never cut off, which would
/// narrow the range): catalog rows are read by every query.
const MAX_STRING_BYTES: usize = 1024;

/// The first microsecond of the first day that DuckDB can have in a timestamp, 290309-12-22 BC.
const FIRST_TIMESTAMP: i64 = -9_223_372_022_400_000_000;

/// Whether a value is one of the type. An integer must also be in the type's range.
pub(crate) fn fits(value: &StatValue, ty: &LakeType) -> bool {
    match (value, ty) {
        (StatValue::Int(value), ty) => match ty.integer() {
            Some((64, true)) => true,
            Some((64, false)) => *value >= 0,
            Some((bits, true)) => {
                let limit = 1_i64 << (bits - 1);
                (-limit..limit).contains(value)
            }
            Some((bits, false)) => (0..1_i64 << bits).contains(value),
            None => false,
        },
        (StatValue::Decimal { scale, .. }, LakeType::Decimal { scale: of_type, .. }) => {
            scale == of_type
        }
        (StatValue::Bool(_), LakeType::Boolean)
        | (StatValue::Float32(_), LakeType::Float32)
        | (StatValue::Float64(_), LakeType::Float64)
        | (StatValue::Utf8(_), LakeType::Varchar | LakeType::Json)
        | (StatValue::Date(_), LakeType::Date)
        | (StatValue::Time(_), LakeType::Time)
        | (StatValue::Timestamp(_), LakeType::Timestamp)
        | (StatValue::TimestampTz(_), LakeType::TimestampTz)
        | (StatValue::Uuid(_), LakeType::Uuid) => true,
        _ => false,
    }
}

/// The text of a value, or `None` when the catalog cannot hold it, so that the bound is unknown.
pub(crate) fn render(value: &StatValue) -> Option<String> {
    Some(match value {
        StatValue::Bool(value) => if *value { "1" } else { "0" }.to_owned(),
        StatValue::Int(value) => value.to_string(),
        StatValue::Float32(value) => return render_float(*value, f64::from(*value)),
        StatValue::Float64(value) => return render_float(*value, *value),
        StatValue::Decimal { value, scale } => render_decimal(*value, *scale),
        // Postgres text cannot hold a NUL.
        StatValue::Utf8(value) if value.len() > MAX_STRING_BYTES || value.contains('\0') => {
            return None;
        }
        StatValue::Utf8(value) => value.clone(),
        StatValue::Date(i32::MAX) => INFINITY.to_owned(),
        StatValue::Date(days) if *days == -i32::MAX => NEGATIVE_INFINITY.to_owned(),
        StatValue::Date(i32::MIN) => return None,
        StatValue::Date(days) => render_date(i64::from(*days)),
        StatValue::Time(micros) if (0..=MICROS_PER_DAY).contains(micros) => render_time(*micros),
        StatValue::Time(_) => return None,
        StatValue::Timestamp(micros) => return render_timestamp(*micros, ""),
        StatValue::TimestampTz(micros) => return render_timestamp(*micros, UTC),
        StatValue::Uuid(bytes) => Uuid::from_bytes(*bytes).hyphenated().to_string(),
    })
}

/// The canonical text of a value of type `ty`; `None` when the text is not understood, or the type
/// cannot hold it.
pub(crate) fn canonical_bound(text: &str, ty: &LakeType) -> Option<String> {
    let value = parse(text, ty)?;
    if let (StatValue::Decimal { value, .. }, LakeType::Decimal { precision, .. }) = (&value, ty)
        && value.unsigned_abs() >= 10_u128.checked_pow(u32::from(*precision))?
    {
        return None;
    }
    render(&value)
}

/// A timestamp with any offset, such as `2024-01-01 00:00:00+05:45`, in UTC.
pub(crate) fn shift_to_utc(text: &str) -> Option<String> {
    if matches!(text, INFINITY | NEGATIVE_INFINITY) {
        return Some(text.to_owned());
    }
    let (_, time) = text.rsplit_once(' ')?;
    let length = time.len() - time.find(['+', '-'])?;
    let (local, offset) = text.split_at_checked(text.len().checked_sub(length)?)?;
    let (is_east, digits) = match offset.strip_prefix('+') {
        Some(digits) => (true, digits),
        None => (false, offset.strip_prefix('-')?),
    };
    let clock = match digits.len() {
        2 => format!("{digits}:00:00"),
        5 => format!("{digits}:00"),
        _ => digits.to_owned(),
    };
    let offset = parse_time(&clock)?;
    let local = parse_timestamp(local, "")?;
    let micros = if is_east {
        local.checked_sub(offset)?
    } else {
        local.checked_add(offset)?
    };
    render_timestamp(micros, UTC)
}

/// Reads a bound of a column of type `ty`; `None` when it is not understood.
pub(super) fn parse(text: &str, ty: &LakeType) -> Option<StatValue> {
    let value = match ty {
        LakeType::Boolean => StatValue::Bool(match text {
            "0" | "false" => false,
            "1" | "true" => true,
            _ => return None,
        }),
        LakeType::Float32 => StatValue::Float32(text.parse().ok()?),
        LakeType::Float64 => StatValue::Float64(text.parse().ok()?),
        LakeType::Decimal { scale, .. } => StatValue::Decimal {
            value: parse_decimal(text, *scale)?,
            scale: *scale,
        },
        LakeType::Varchar | LakeType::Json => StatValue::Utf8(text.to_owned()),
        LakeType::Date => StatValue::Date(match text {
            INFINITY => i32::MAX,
            NEGATIVE_INFINITY => -i32::MAX,
            text => i32::try_from(parse_date(text)?).ok()?,
        }),
        LakeType::Time => StatValue::Time(parse_time(text)?),
        LakeType::Timestamp => StatValue::Timestamp(parse_timestamp(text, "")?),
        LakeType::TimestampTz => StatValue::TimestampTz(parse_timestamp(text, UTC)?),
        LakeType::Uuid => StatValue::Uuid(Uuid::try_parse(text).ok()?.into_bytes()),
        ty if ty.integer().is_some() => StatValue::Int(text.parse().ok()?),
        _ => return None,
    };
    let is_nan = match value {
        StatValue::Float32(value) => value.is_nan(),
        StatValue::Float64(value) => value.is_nan(),
        _ => false,
    };
    (!is_nan && fits(&value, ty)).then_some(value)
}

const INFINITY: &str = "infinity";
const NEGATIVE_INFINITY: &str = "-infinity";
const UTC: &str = "+00";

/// The shortest digits that read back as the same number, in fixed form for exponents from -4 to 15,
/// else as `1e+16`.
fn render_float<F: LowerExp>(value: F, wide: f64) -> Option<String> {
    if wide.is_nan() {
        return None;
    }
    if wide.is_infinite() {
        return Some(if wide > 0.0 { "inf" } else { "-inf" }.to_owned());
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits = mantissa.replace('.', "");
    if !(-4..16).contains(&exponent) {
        let sign_of_exponent = if exponent < 0 { '-' } else { '+' };
        return Some(format!(
            "{sign}{mantissa}e{sign_of_exponent}{:02}",
            exponent.abs()
        ));
    }
    let Ok(whole_digits) = usize::try_from(exponent + 1) else {
        let zeros = usize::try_from(-exponent - 1).ok()?;
        return Some(format!("{sign}0.{}{digits}", "0".repeat(zeros)));
    };
    if whole_digits == 0 {
        return Some(format!("{sign}0.{digits}"));
    }
    let digits = format!("{digits:0<whole_digits$}");
    let (whole, fraction) = digits.split_at_checked(whole_digits)?;
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    Some(format!("{sign}{whole}.{fraction}"))
}

fn render_decimal(value: i128, scale: u8) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    let scale = usize::from(scale);
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

fn parse_decimal(text: &str, scale: u8) -> Option<i128> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let scale = usize::from(scale);
    let has_digits_only = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if fraction.len() > scale
        || !has_digits_only(whole)
        || !has_digits_only(fraction)
        || whole.len() + fraction.len() == 0
    {
        return None;
    }
    let value: i128 = format!("{whole}{fraction:0<scale$}").parse().ok()?;
    Some(if is_negative { -value } else { value })
}

fn render_timestamp(micros: i64, zone: &str) -> Option<String> {
    if micros == i64::MAX {
        return Some(INFINITY.to_owned());
    }
    if micros == -i64::MAX {
        return Some(NEGATIVE_INFINITY.to_owned());
    }
    if micros < FIRST_TIMESTAMP {
        return None;
    }
    let date = render_date(micros.div_euclid(MICROS_PER_DAY));
    let time = render_time(micros.rem_euclid(MICROS_PER_DAY));
    Some(format!("{date} {time}{zone}"))
}

fn parse_timestamp(text: &str, zone: &str) -> Option<i64> {
    match text {
        INFINITY => return Some(i64::MAX),
        NEGATIVE_INFINITY => return Some(-i64::MAX),
        _ => {}
    }
    let (date, time) = text.strip_suffix(zone)?.rsplit_once(' ')?;
    let time = parse_time(time)?;
    if time == MICROS_PER_DAY {
        return None;
    }
    parse_date(date)?
        .checked_mul(MICROS_PER_DAY)?
        .checked_add(time)
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
