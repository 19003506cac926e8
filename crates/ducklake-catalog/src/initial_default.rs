//! The value that a new column has in the rows that are there: `ducklake_column.initial_default`.
//!
//! The catalog keeps it as text, and DuckDB casts that text to the column's type for every file that
//! lacks the column. So it must be spelled as DuckDB spells the value: Postgres' `0044-03-15 BC` would
//! silently be a day of our era.

use serde::de::IgnoredAny;

use crate::LakeType;
use crate::stats::{canonical_bound, shift_to_utc};

/// A text that cannot be the value of a new column in the rows that are there. It does not quote the
/// text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no initial default for a column of type {ty}: {reason}")]
pub struct InvalidDefault {
    /// The column's type.
    pub ty: LakeType,
    reason: &'static str,
}

/// The spelling of a value that DuckDB casts to it. See
/// [`ColumnDef::with_initial_default`](crate::ColumnDef::with_initial_default) for what is taken.
pub(crate) fn spell(text: &str, ty: &LakeType) -> Result<String, InvalidDefault> {
    let invalid = |reason| InvalidDefault {
        ty: ty.clone(),
        reason,
    };
    let spelled = match ty {
        LakeType::Varchar if text.contains('\0') => return Err(invalid("it contains a NUL")),
        LakeType::Varchar => Some(text.to_owned()),
        // DuckDB fails every query of a column with text that is no JSON.
        LakeType::Json => serde_json::from_str::<IgnoredAny>(text)
            .is_ok()
            .then(|| text.to_owned()),
        LakeType::Blob => spell_blob(text),
        LakeType::Boolean => match text {
            "t" | "true" => Some("true".to_owned()),
            "f" | "false" => Some("false".to_owned()),
            _ => None,
        },
        LakeType::Float32 | LakeType::Float64 if text.eq_ignore_ascii_case("nan") => {
            Some("nan".to_owned())
        }
        LakeType::UInt64 => text.parse::<u64>().ok().map(|value| value.to_string()),
        LakeType::Date | LakeType::Timestamp => canonical_bound(&era(text), ty),
        LakeType::TimestampTz => {
            shift_to_utc(&era(text)).and_then(|text| canonical_bound(&text, ty))
        }
        LakeType::Int8
        | LakeType::Int16
        | LakeType::Int32
        | LakeType::Int64
        | LakeType::UInt8
        | LakeType::UInt16
        | LakeType::UInt32
        | LakeType::Float32
        | LakeType::Float64
        | LakeType::Decimal { .. }
        | LakeType::Time
        | LakeType::Uuid => canonical_bound(text, ty),
        // DuckDB: "Default value for LIST type not supported".
        LakeType::List(_) | LakeType::Struct(_) | LakeType::Map(..) => {
            return Err(invalid("DuckDB reads none of a nested type"));
        }
        LakeType::Int128
        | LakeType::UInt128
        | LakeType::TimeTz
        | LakeType::TimestampS
        | LakeType::TimestampMs
        | LakeType::TimestampNs
        | LakeType::Interval
        | LakeType::Variant
        | LakeType::Geometry
        | LakeType::Other(_) => return Err(invalid("its text form is not known")),
    };
    spelled.ok_or_else(|| invalid("the text is no value of it"))
}

/// `\x00ff` to `\x00\xFF`: DuckDB takes any other character of the text for its byte.
fn spell_blob(text: &str) -> Option<String> {
    let digits = text.strip_prefix("\\x")?;
    let is_hex = digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| {
        let mut spelled = String::with_capacity(digits.len() * 2);
        for (index, digit) in digits.chars().enumerate() {
            if index % 2 == 0 {
                spelled.push_str("\\x");
            }
            spelled.push(digit.to_ascii_uppercase());
        }
        spelled
    })
}

/// `0044-03-15 12:00:00 BC` to `0044-03-15 (BC) 12:00:00`.
fn era(text: &str) -> String {
    let Some(unsuffixed) = text.strip_suffix(" BC") else {
        return text.to_owned();
    };
    match unsuffixed.split_once(' ') {
        Some((date, time)) => format!("{date} (BC) {time}"),
        None => format!("{unsuffixed} (BC)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_postgres_and_of_duckdb_become_those_of_duckdb() {
        let decimal = LakeType::Decimal {
            precision: 6,
            scale: 2,
        };
        for (ty, given, spelled) in [
            (LakeType::Boolean, "t", "true"),
            (LakeType::Boolean, "false", "false"),
            (LakeType::Int8, "-128", "-128"),
            (
                LakeType::Int64,
                "9223372036854775807",
                "9223372036854775807",
            ),
            (
                LakeType::UInt64,
                "18446744073709551615",
                "18446744073709551615",
            ),
            (LakeType::Float32, "0.1", "0.1"),
            (LakeType::Float64, "1e+300", "1e+300"),
            (LakeType::Float64, "NaN", "nan"),
            (LakeType::Float64, "-Infinity", "-inf"),
            (decimal.clone(), "1.5", "1.50"),
            (decimal, "-1234.56", "-1234.56"),
            (LakeType::Varchar, "it's \"NULL\"\n\\", "it's \"NULL\"\n\\"),
            (LakeType::Varchar, "", ""),
            (LakeType::Json, "{\"a\": [1, null]}", "{\"a\": [1, null]}"),
            (LakeType::Blob, "\\x00ff61", "\\x00\\xFF\\x61"),
            (LakeType::Blob, "\\x", ""),
            (LakeType::Date, "0044-03-15 BC", "0044-03-15 (BC)"),
            (LakeType::Date, "-infinity", "-infinity"),
            (LakeType::Time, "24:00:00", "24:00:00"),
            (
                LakeType::Timestamp,
                "2024-01-01 12:00:00.500000",
                "2024-01-01 12:00:00.5",
            ),
            (
                LakeType::Timestamp,
                "0044-03-15 12:00:00 BC",
                "0044-03-15 (BC) 12:00:00",
            ),
            (LakeType::Timestamp, "infinity", "infinity"),
            (
                LakeType::TimestampTz,
                "2024-01-01 00:30:00+02",
                "2023-12-31 22:30:00+00",
            ),
            (
                LakeType::TimestampTz,
                "2024-01-01 00:30:00-05:45",
                "2024-01-01 06:15:00+00",
            ),
            (
                LakeType::TimestampTz,
                "2024-01-01 00:30:00+00",
                "2024-01-01 00:30:00+00",
            ),
            (
                LakeType::TimestampTz,
                "0044-03-15 12:00:00+00 BC",
                "0044-03-15 (BC) 12:00:00+00",
            ),
            (
                LakeType::Uuid,
                "00000000-0000-0000-0000-00000000000A",
                "00000000-0000-0000-0000-00000000000a",
            ),
        ] {
            assert_eq!(spell(given, &ty).as_deref(), Ok(spelled), "{ty} {given:?}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let decimal = LakeType::Decimal {
            precision: 4,
            scale: 2,
        };
        for (ty, text) in [
            (LakeType::Boolean, "yes"),
            (LakeType::Int8, "128"),
            (LakeType::Int32, "nextval('s')"),
            (LakeType::UInt64, "-1"),
            (LakeType::Float64, ""),
            (decimal.clone(), "1.555"),
            (decimal.clone(), "100.00"),
            (decimal, "NaN"),
            (LakeType::Varchar, "a\0"),
            (LakeType::Json, "{a}"),
            (LakeType::Blob, "abc"),
            (LakeType::Blob, "\\x0"),
            (LakeType::Date, "2024-02-30"),
            (LakeType::Date, "now"),
            (LakeType::Time, "25:00:00"),
            (LakeType::Timestamp, "2024-01-01 00:00:00+02"),
            (LakeType::TimestampTz, "2024-01-01 00:00:00"),
            (LakeType::TimestampTz, "2024-01-01 00:00:00+99"),
            (LakeType::Uuid, "00000000-zz"),
            (LakeType::list(LakeType::Int8), "[1]"),
            (LakeType::Interval, "1 day"),
            (LakeType::TimeTz, "10:00:00+02"),
        ] {
            let error = spell(text, &ty).unwrap_err();
            assert_eq!(error.ty, ty);
            assert!(
                text.is_empty() || !error.to_string().contains(text),
                "{error}"
            );
        }
    }
}
