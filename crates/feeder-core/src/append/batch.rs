//! Arrow batches: from producers, and on their way into files.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, SchemaRef, TimeUnit};
use ducklake_catalog::LakeType;
use serde::de::IgnoredAny;

use super::problem::Problem;

const END_OF_DAY: i64 = 86_400_000_000;

/// The lake's type for an Arrow column; `None` for one without values.
///
/// # Errors
/// The lake has no such type.
pub(crate) fn lake_type(ty: &DataType) -> Result<Option<LakeType>, Problem> {
    let some = |ty: &DataType| {
        lake_type(ty)?.ok_or_else(|| Problem::unfit("a type whose element has no values"))
    };
    Ok(Some(match ty {
        DataType::Null => return Ok(None),
        DataType::Boolean => LakeType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => LakeType::Int16,
        DataType::Int32 | DataType::UInt16 => LakeType::Int32,
        DataType::Int64 => LakeType::Int64,
        DataType::UInt32 => LakeType::UInt32,
        DataType::UInt64 => LakeType::UInt64,
        DataType::Float16 | DataType::Float32 => LakeType::Float32,
        DataType::Float64 => LakeType::Float64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => LakeType::Varchar,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => LakeType::Blob,
        DataType::Date32 => LakeType::Date,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => LakeType::Time,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            return Err(Problem::unfit(
                "nanoseconds, of which the lake keeps microseconds",
            ));
        }
        DataType::Timestamp(_, None) => LakeType::Timestamp,
        DataType::Timestamp(_, Some(_)) => LakeType::TimestampTz,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => LakeType::Decimal {
            precision: *precision,
            scale: u8::try_from(*scale).map_err(|_| Problem::unfit("a negative scale"))?,
        },
        DataType::List(element) | DataType::LargeList(element) => {
            LakeType::list(some(element.data_type())?)
        }
        DataType::Struct(fields) => LakeType::Struct(
            fields
                .iter()
                .map(|field| Ok((field.name().clone(), some(field.data_type())?)))
                .collect::<Result<_, Problem>>()?,
        ),
        DataType::Dictionary(_, values) => return lake_type(values),
        other => return Err(Problem::Unfit(format!("Arrow's {other}"))),
    }))
}

/// Whether every value of `from` is one of `to`.
fn holds(from: &LakeType, to: &LakeType) -> bool {
    match (from, to) {
        (LakeType::Float32, LakeType::Float64)
        | (LakeType::Varchar, LakeType::Json)
        | (LakeType::Blob, LakeType::Uuid) => true,
        (LakeType::List(from), LakeType::List(to)) => holds(from, to),
        (LakeType::Struct(from), LakeType::Struct(to)) => {
            from.len() == to.len()
                && from
                    .iter()
                    .zip(to)
                    .all(|((name, from), (same, to))| name == same && holds(from, to))
        }
        _ => from.widens_to(to),
    }
}

/// A producer's array as the column of a table: the same values, in the type that the table has.
///
/// # Errors
/// One of its values does not fit.
pub(crate) fn take_in(
    array: &ArrayRef,
    column: &LakeType,
    wanted: &DataType,
) -> Result<ArrayRef, Problem> {
    let Some(given) = lake_type(array.data_type())? else {
        return Ok(new_null_array(wanted, array.len()));
    };
    if !holds(&given, column) {
        return Err(Problem::Unfit(format!("{column} does not take {given}")));
    }
    // Only casts that keep every value come here; one that is too large for its unit is an error.
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let failed = |_error: ArrowError| Problem::Unfit(format!("{column} does not take its values"));
    let array = if array.data_type() == wanted {
        Arc::clone(array)
    } else {
        cast_with_options(array, wanted, &options).map_err(failed)?
    };
    let array = relabel(&array, wanted).map_err(failed)?;
    check(&array, column)?;
    Ok(array)
}

/// What readers of a file rely on, and Arrow does not promise.
fn check(array: &ArrayRef, ty: &LakeType) -> Result<(), Problem> {
    let fits = match ty {
        LakeType::Timestamp | LakeType::TimestampTz => array
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .flatten()
            .all(|micros| micros != i64::MIN),
        LakeType::Date => array
            .as_primitive::<Date32Type>()
            .iter()
            .flatten()
            .all(|days| days != i32::MIN),
        LakeType::Time => array
            .as_primitive::<Time64MicrosecondType>()
            .iter()
            .flatten()
            .all(|micros| (0..=END_OF_DAY).contains(&micros)),
        LakeType::Decimal { precision, .. } => array
            .as_primitive::<Decimal128Type>()
            .validate_decimal_precision(*precision)
            .is_ok(),
        LakeType::Json => array
            .as_string::<i32>()
            .iter()
            .flatten()
            .all(|text| serde_json::from_str::<IgnoredAny>(text).is_ok()),
        LakeType::List(element) => return check(array.as_list::<i32>().values(), element),
        LakeType::Struct(fields) => {
            let columns = array.as_struct().columns();
            return fields
                .iter()
                .zip(columns)
                .try_for_each(|((_, ty), column)| check(column, ty));
        }
        _ => true,
    };
    if fits {
        Ok(())
    } else {
        Err(Problem::Unfit(format!("a value that {ty} does not have")))
    }
}

/// The same values under other field names and metadata, which are part of a nested type.
///
/// # Errors
/// The types differ in more than that.
pub(crate) fn relabel(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), wanted) {
        (DataType::List(_), DataType::List(element)) => {
            let list = array.as_list::<i32>();
            let values = relabel(list.values(), element.data_type())?;
            Ok(Arc::new(ListArray::try_new(
                Arc::clone(element),
                list.offsets().clone(),
                values,
                list.nulls().cloned(),
            )?))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let given = array.as_struct();
            let columns = given
                .columns()
                .iter()
                .zip(fields)
                .map(|(column, field)| relabel(column, field.data_type()))
                .collect::<Result<_, _>>()?;
            Ok(Arc::new(StructArray::try_new(
                fields.clone(),
                columns,
                given.nulls().cloned(),
            )?))
        }
        (given, wanted) => Err(ArrowError::SchemaError(format!(
            "{given} instead of {wanted}"
        ))),
    }
}

/// A batch under the schema of its file: the same columns, and NULL in those that came later.
///
/// # Errors
/// The batch is not of that table.
pub(crate) fn for_file(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().enumerate() {
        columns.push(match batch.columns().get(index) {
            Some(column) => relabel(column, field.data_type())?,
            None => new_null_array(field.data_type(), batch.num_rows()),
        });
    }
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// The columns that come before the event's, for `rows` rows that were accepted at `now`.
pub(crate) fn head(rows: usize, now: i64, first_seq: i64) -> [ArrayRef; super::META.len()] {
    let seqs = (first_seq..).take(rows);
    [
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(
            super::OP,
            rows,
        ))),
        Arc::new(TimestampMicrosecondArray::from_value(now, rows).with_timezone("UTC")),
        Arc::new(Int64Array::new_null(rows)),
        Arc::new(Int64Array::from_iter_values(seqs)),
    ]
}
