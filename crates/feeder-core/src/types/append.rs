//! One value from the wire into its column.

use std::fmt;

use parquet_writer::{ColumnBuilder, WriteError};
use pgoutput::Datum;
use pgoutput::value::{self, ValueError, ValueErrorKind};

use super::{Reader, array, composite, json, output};

/// Memory that is used again for every value.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    text: String,
}

/// Why a value was not appended; never the value (I14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueProblem {
    /// The lake's type does not have the value.
    Unrepresentable(String),
    /// It is not what its relation says it is, or a defect of ours.
    Malformed(String),
    /// It is of a composite type that was altered, of which no relation tells.
    Altered,
}

impl fmt::Display for ValueProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unrepresentable(problem) | Self::Malformed(problem) => problem,
            Self::Altered => "its composite type has other attributes than those that are known",
        })
    }
}

impl ValueProblem {
    pub(super) fn unrepresentable(problem: &str) -> Self {
        Self::Unrepresentable(problem.to_owned())
    }
}

impl From<ValueError> for ValueProblem {
    fn from(error: ValueError) -> Self {
        match error.kind() {
            ValueErrorKind::OutOfRange
            | ValueErrorKind::Inexact
            | ValueErrorKind::NotANumber
            | ValueErrorKind::Infinity
            | ValueErrorKind::NegativeInfinity => Self::Unrepresentable(error.to_string()),
            _ => Self::Malformed(error.to_string()),
        }
    }
}

impl From<WriteError> for ValueProblem {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ValueOutOfRange { .. } => Self::Unrepresentable(error.to_string()),
            _ => Self::Malformed(error.to_string()),
        }
    }
}

/// Appends a value. After an error the column may hold a part of it: discard that.
pub(crate) fn append(
    column: &mut ColumnBuilder,
    reader: &Reader,
    datum: Datum<'_>,
    scratch: &mut Scratch,
) -> Result<(), ValueProblem> {
    match datum {
        Datum::Null | Datum::UnchangedToast => Ok(column.append_null()?),
        Datum::Text(raw) => append_text(column, reader, raw, scratch),
        Datum::Binary(raw) => append_binary(column, reader, raw, scratch),
    }
}

pub(super) fn append_text(
    column: &mut ColumnBuilder,
    reader: &Reader,
    raw: &[u8],
    scratch: &mut Scratch,
) -> Result<(), ValueProblem> {
    use value::text;
    match reader {
        Reader::Bool => column.append_bool(text::bool(raw)?)?,
        Reader::Int2 => column.append_i16(text::int2(raw)?)?,
        Reader::Int4 => column.append_i32(text::int4(raw)?)?,
        Reader::Int8 => column.append_i64(text::int8(raw)?)?,
        Reader::Oid => column.append_u32(text::oid(raw)?)?,
        Reader::Uint8 => column.append_u64(text::uint8(raw)?)?,
        Reader::Float4 => column.append_f32(text::float4(raw)?)?,
        Reader::Float8 | Reader::NumericFloat => column.append_f64(text::float8(raw)?)?,
        Reader::Decimal { precision, scale } => {
            column.append_decimal(text::numeric(raw, *precision, *scale)?)?;
        }
        Reader::Money => column.append_decimal(text::money(raw)?.into())?,
        Reader::NumericText
        | Reader::Text
        | Reader::Rendered(_)
        | Reader::OutputText
        | Reader::Jsonb => column.append_str(text::text(raw)?)?,
        Reader::Json => column.append_str(json::check(text::text(raw)?)?)?,
        Reader::Bytea => {
            scratch.bytes.clear();
            text::bytea(raw, &mut scratch.bytes)?;
            column.append_bytes(&scratch.bytes)?;
        }
        Reader::Date => column.append_date(text::date(raw)?)?,
        Reader::Time => column.append_time(text::time(raw)?)?,
        Reader::Timestamp => column.append_timestamp(text::timestamp(raw)?)?,
        Reader::TimestampTz => column.append_timestamp(text::timestamptz(raw)?)?,
        Reader::Uuid => column.append_uuid(text::uuid(raw)?)?,
        Reader::List(list) => array::append_text_list(column, list, raw, scratch)?,
        Reader::JsonArray(list) => {
            scratch.text.clear();
            array::text_to_json(list, raw, &mut scratch.text)?;
            column.append_str(&scratch.text)?;
        }
        Reader::Struct(composite) => {
            composite::append_text_struct(column, composite, raw, scratch)?;
        }
        Reader::CopiedText(reader) => append_text(column, reader, raw, scratch)?,
    }
    Ok(())
}

pub(super) fn append_binary(
    column: &mut ColumnBuilder,
    reader: &Reader,
    raw: &[u8],
    scratch: &mut Scratch,
) -> Result<(), ValueProblem> {
    use value::binary;
    match reader {
        Reader::Bool => column.append_bool(binary::bool(raw)?)?,
        Reader::Int2 => column.append_i16(binary::int2(raw)?)?,
        Reader::Int4 => column.append_i32(binary::int4(raw)?)?,
        Reader::Int8 => column.append_i64(binary::int8(raw)?)?,
        Reader::Oid => column.append_u32(binary::oid(raw)?)?,
        Reader::Uint8 => column.append_u64(binary::uint8(raw)?)?,
        Reader::Float4 => column.append_f32(binary::float4(raw)?)?,
        Reader::Float8 => column.append_f64(binary::float8(raw)?)?,
        Reader::Decimal { precision, scale } => {
            column.append_decimal(binary::numeric(raw, *precision, *scale)?)?;
        }
        Reader::NumericText => {
            scratch.text.clear();
            binary::numeric_text(raw, &mut scratch.text)?;
            column.append_str(&scratch.text)?;
        }
        Reader::NumericFloat => {
            scratch.text.clear();
            binary::numeric_text(raw, &mut scratch.text)?;
            column.append_f64(value::text::float8(scratch.text.as_bytes())?)?;
        }
        Reader::Money => column.append_decimal(binary::money(raw)?.into())?,
        Reader::Text => column.append_str(value::text::text(raw)?)?,
        Reader::Json => column.append_str(json::check(value::text::text(raw)?)?)?,
        Reader::Jsonb => column.append_str(binary::jsonb(raw)?)?,
        Reader::Bytea => column.append_bytes(raw)?,
        Reader::Date => column.append_date(binary::date(raw)?)?,
        Reader::Time => column.append_time(binary::time(raw)?)?,
        Reader::Timestamp => column.append_timestamp(binary::timestamp(raw)?)?,
        Reader::TimestampTz => column.append_timestamp(binary::timestamptz(raw)?)?,
        Reader::Uuid => column.append_uuid(binary::uuid(raw)?)?,
        Reader::Rendered(kind) => {
            scratch.text.clear();
            output::rendered(*kind, raw, &mut scratch.text)?;
            column.append_str(&scratch.text)?;
        }
        Reader::OutputText => {
            return Err(ValueProblem::Malformed(
                "the binary form of its type is not decoded".to_owned(),
            ));
        }
        Reader::List(list) => array::append_binary_list(column, list, raw, scratch)?,
        Reader::JsonArray(list) => {
            scratch.text.clear();
            array::binary_to_json(list, raw, &mut scratch.text)?;
            column.append_str(&scratch.text)?;
        }
        Reader::Struct(composite) => {
            composite::append_binary_struct(column, composite, raw, scratch)?;
        }
        Reader::CopiedText(reader) => append_text(column, reader, raw, scratch)?,
    }
    Ok(())
}
