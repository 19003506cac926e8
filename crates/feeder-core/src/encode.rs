//! Wire values to lake columns, through a plan that is compiled once per relation version.

use parquet_writer::{ColumnBuilder, RowBatchBuilder};
use pgoutput::Datum;
use pgoutput::value::{self, ValueError};

use crate::layout::{META_COLUMNS, SourceColumn};
use crate::types::Reader;

/// What a changelog row says happened; the text of `_df_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Insert,
    Update,
    Delete,
    Truncate,
    Snapshot,
    Reset,
}

impl Op {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Snapshot => "snapshot",
            Self::Reset => "reset",
        }
    }
}

/// The metadata of one changelog row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowHead {
    pub(crate) op: Op,
    /// Microseconds since 1970-01-01 UTC.
    pub(crate) timestamp: i64,
    pub(crate) lsn: i64,
    pub(crate) seq: i64,
}

/// Why a row could not be encoded: the column and the problem, never the value (I14).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column:?}: {problem}")]
pub(crate) struct EncodeError {
    pub(crate) column: String,
    pub(crate) problem: String,
}

/// Appends rows of one relation version to a batch of the table's lake columns.
#[derive(Debug)]
pub(crate) struct RowEncoder {
    /// By position on the wire: where the column goes; `None` for excluded columns.
    plan: Vec<Option<Target>>,
    /// Lake columns that the wire does not have.
    absent: Vec<usize>,
    /// Names of the source columns, by builder index minus [`META_COLUMNS`].
    names: Vec<String>,
    unchanged: Vec<usize>,
    bytes: Vec<u8>,
    text: String,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    builder: usize,
    reader: Reader,
}

impl RowEncoder {
    /// Plans rows that carry `wire` columns, in that order, for a table with the source columns `lake`.
    pub(crate) fn new(lake: &[SourceColumn], wire: &[&str]) -> Self {
        let position = |name: &str| lake.iter().position(|column| column.name == name);
        let plan = wire
            .iter()
            .map(|name| {
                let index = position(name)?;
                let reader = lake.get(index)?.reader;
                Some(Target {
                    builder: META_COLUMNS + index,
                    reader,
                })
            })
            .collect();
        let absent = lake
            .iter()
            .enumerate()
            .filter(|(_, column)| !wire.contains(&column.name.as_str()))
            .map(|(index, _)| META_COLUMNS + index)
            .collect();
        Self {
            plan,
            absent,
            names: lake.iter().map(|column| column.name.clone()).collect(),
            unchanged: Vec::new(),
            bytes: Vec::new(),
            text: String::new(),
        }
    }

    /// How many values a row of this relation has on the wire.
    pub(crate) fn wire_columns(&self) -> usize {
        self.plan.len()
    }

    /// Appends one row. `old` fills values that the server did not send again because they are unchanged.
    ///
    /// After an error the row is half appended: the caller must abandon it.
    pub(crate) fn append<'a>(
        &mut self,
        batch: &mut RowBatchBuilder,
        head: RowHead,
        values: impl Iterator<Item = Datum<'a>>,
        old: Option<impl Iterator<Item = Datum<'a>>>,
    ) -> Result<(), EncodeError> {
        let columns = batch.columns_mut();
        self.unchanged.clear();
        let mut old = old;
        for (target, datum) in self.plan.iter().zip(values) {
            let before = old.as_mut().and_then(Iterator::next);
            let Some(target) = *target else { continue };
            let datum = match (datum, before) {
                // A null there only says that the old row came without the column: null is never toasted.
                (Datum::UnchangedToast, Some(before)) if before != Datum::Null => before,
                (datum, _) => datum,
            };
            let column = builder(columns, target.builder)?;
            if datum == Datum::UnchangedToast {
                self.unchanged.push(target.builder - META_COLUMNS);
                written(column.append_null())
            } else {
                append_value(
                    column,
                    target.reader,
                    datum,
                    &mut self.bytes,
                    &mut self.text,
                )
            }
            .map_err(|problem| EncodeError {
                column: self
                    .names
                    .get(target.builder - META_COLUMNS)
                    .cloned()
                    .unwrap_or_default(),
                problem,
            })?;
        }
        for index in &self.absent {
            written(builder(columns, *index)?.append_null()).map_err(internal)?;
        }
        let names = &self.names;
        let unchanged = self
            .unchanged
            .iter()
            .filter_map(|index| names.get(*index).map(String::as_str));
        append_head(
            columns,
            head,
            (!self.unchanged.is_empty()).then_some(unchanged),
        )?;
        batch.end_row().map_err(|error| internal(error.to_string()))
    }

    /// Appends a row without values: `truncate` and `reset`.
    pub(crate) fn append_marker(
        batch: &mut RowBatchBuilder,
        head: RowHead,
    ) -> Result<(), EncodeError> {
        let columns = batch.columns_mut();
        for column in columns.iter_mut().skip(META_COLUMNS) {
            written(column.append_null()).map_err(internal)?;
        }
        append_head(columns, head, None::<std::iter::Empty<&str>>)?;
        batch.end_row().map_err(|error| internal(error.to_string()))
    }
}

fn append_head<'a>(
    columns: &mut [ColumnBuilder],
    head: RowHead,
    unchanged: Option<impl Iterator<Item = &'a str>>,
) -> Result<(), EncodeError> {
    let [op, timestamp, lsn, seq, unchanged_list, unrepresentable, ..] = columns else {
        return Err(internal("the batch lacks the metadata columns".to_owned()));
    };
    written(op.append_str(head.op.as_str()))
        .and_then(|()| written(timestamp.append_timestamp(head.timestamp)))
        .and_then(|()| written(lsn.append_i64(head.lsn)))
        .and_then(|()| written(seq.append_i64(head.seq)))
        .and_then(|()| match unchanged {
            Some(names) => written(unchanged_list.append_str_list(names)),
            None => written(unchanged_list.append_null()),
        })
        .and_then(|()| written(unrepresentable.append_null()))
        .map_err(internal)
}

fn builder(columns: &mut [ColumnBuilder], index: usize) -> Result<&mut ColumnBuilder, EncodeError> {
    columns
        .get_mut(index)
        .ok_or_else(|| internal("the batch has fewer columns than the plan".to_owned()))
}

fn internal(problem: String) -> EncodeError {
    EncodeError {
        column: String::new(),
        problem,
    }
}

fn written<E: std::fmt::Display>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}

fn append_value(
    column: &mut ColumnBuilder,
    reader: Reader,
    datum: Datum<'_>,
    bytes: &mut Vec<u8>,
    text: &mut String,
) -> Result<(), String> {
    match datum {
        Datum::Null | Datum::UnchangedToast => written(column.append_null()),
        Datum::Text(raw) => append_text(column, reader, raw, bytes),
        Datum::Binary(raw) => append_binary(column, reader, raw, text),
    }
}

fn append_text(
    column: &mut ColumnBuilder,
    reader: Reader,
    raw: &[u8],
    bytes: &mut Vec<u8>,
) -> Result<(), String> {
    use value::text;
    match reader {
        Reader::Bool => written(column.append_bool(parsed(text::bool(raw))?)),
        Reader::Int2 => written(column.append_i16(parsed(text::int2(raw))?)),
        Reader::Int4 => written(column.append_i32(parsed(text::int4(raw))?)),
        Reader::Int8 => written(column.append_i64(parsed(text::int8(raw))?)),
        Reader::Oid => written(column.append_u32(parsed(text::oid(raw))?)),
        Reader::Float4 => written(column.append_f32(parsed(text::float4(raw))?)),
        Reader::Float8 | Reader::NumericFloat => {
            written(column.append_f64(parsed(text::float8(raw))?))
        }
        Reader::Decimal { precision, scale } => {
            written(column.append_decimal(parsed(text::numeric(raw, precision, scale))?))
        }
        Reader::NumericText | Reader::Text | Reader::OutputText | Reader::Json | Reader::Jsonb => {
            written(column.append_str(parsed(text::text(raw))?))
        }
        Reader::Bytea => {
            bytes.clear();
            parsed(text::bytea(raw, bytes))?;
            written(column.append_bytes(bytes))
        }
        Reader::Date => written(column.append_date(parsed(text::date(raw))?)),
        Reader::Time => written(column.append_time(parsed(text::time(raw))?)),
        Reader::Timestamp => written(column.append_timestamp(parsed(text::timestamp(raw))?)),
        Reader::TimestampTz => written(column.append_timestamp(parsed(text::timestamptz(raw))?)),
        Reader::Uuid => written(column.append_uuid(parsed(text::uuid(raw))?)),
    }
}

fn append_binary(
    column: &mut ColumnBuilder,
    reader: Reader,
    raw: &[u8],
    text: &mut String,
) -> Result<(), String> {
    use value::binary;
    match reader {
        Reader::Bool => written(column.append_bool(parsed(binary::bool(raw))?)),
        Reader::Int2 => written(column.append_i16(parsed(binary::int2(raw))?)),
        Reader::Int4 => written(column.append_i32(parsed(binary::int4(raw))?)),
        Reader::Int8 => written(column.append_i64(parsed(binary::int8(raw))?)),
        Reader::Oid => written(column.append_u32(parsed(binary::oid(raw))?)),
        Reader::Float4 => written(column.append_f32(parsed(binary::float4(raw))?)),
        Reader::Float8 => written(column.append_f64(parsed(binary::float8(raw))?)),
        Reader::Decimal { precision, scale } => {
            written(column.append_decimal(parsed(binary::numeric(raw, precision, scale))?))
        }
        Reader::NumericText | Reader::NumericFloat => {
            text.clear();
            parsed(binary::numeric_text(raw, text))?;
            if reader == Reader::NumericText {
                written(column.append_str(text))
            } else {
                written(column.append_f64(parsed(value::text::float8(text.as_bytes()))?))
            }
        }
        Reader::Text | Reader::Json => written(column.append_str(parsed(value::text::text(raw))?)),
        Reader::OutputText => Err("the binary form of its type is not decoded".to_owned()),
        Reader::Jsonb => written(column.append_str(parsed(binary::jsonb(raw))?)),
        Reader::Bytea => written(column.append_bytes(raw)),
        Reader::Date => written(column.append_date(parsed(binary::date(raw))?)),
        Reader::Time => written(column.append_time(parsed(binary::time(raw))?)),
        Reader::Timestamp => written(column.append_timestamp(parsed(binary::timestamp(raw))?)),
        Reader::TimestampTz => written(column.append_timestamp(parsed(binary::timestamptz(raw))?)),
        Reader::Uuid => written(column.append_uuid(parsed(binary::uuid(raw))?)),
    }
}

fn parsed<T>(result: Result<T, ValueError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
