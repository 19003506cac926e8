//! A naive second opinion: values as an enum, statistics by sorting, files read by Parquet's reader.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::{
    Bounds, ColumnBuilder, ColumnSpec, ColumnType, EncodeOptions, EncodedFile, FileEncoder,
    FileSchema, RowBatchBuilder, StatValue, WriteError,
};

/// Every column type, decimals once per physical type.
pub(super) const TYPES: [ColumnType; 21] = [
    ColumnType::Boolean,
    ColumnType::Int16,
    ColumnType::Int32,
    ColumnType::Int64,
    ColumnType::UInt32,
    ColumnType::UInt64,
    ColumnType::Float32,
    ColumnType::Float64,
    ColumnType::Decimal {
        precision: 9,
        scale: 9,
    },
    ColumnType::Decimal {
        precision: 18,
        scale: 0,
    },
    ColumnType::Decimal {
        precision: 38,
        scale: 10,
    },
    ColumnType::Utf8,
    ColumnType::Json,
    ColumnType::Binary,
    ColumnType::Date,
    ColumnType::Time,
    ColumnType::Timestamp,
    ColumnType::TimestampTz,
    ColumnType::Uuid,
    ColumnType::List,
    ColumnType::Struct,
];

/// A nullable column; a list is one of text, a struct has a number and a text.
pub(super) fn column(name: &str, field_id: i32, column_type: ColumnType) -> ColumnSpec {
    let children = match column_type {
        ColumnType::List => vec![column("element", field_id + 1000, ColumnType::Utf8)],
        ColumnType::Struct => vec![
            column("number", field_id + 1000, ColumnType::Int64),
            column("text", field_id + 2000, ColumnType::Utf8),
        ],
        _ => vec![],
    };
    ColumnSpec::new(name, field_id, column_type).with_children(children)
}

pub(super) fn list(name: &str, field_id: i32, element: ColumnSpec) -> ColumnSpec {
    let element = ColumnSpec {
        name: "element".to_owned(),
        ..element
    };
    column(name, field_id, ColumnType::List).with_children(vec![element])
}

pub(super) fn structure(name: &str, field_id: i32, fields: Vec<ColumnSpec>) -> ColumnSpec {
    column(name, field_id, ColumnType::Struct).with_children(fields)
}

pub(super) fn required(spec: ColumnSpec) -> ColumnSpec {
    ColumnSpec {
        nullable: false,
        ..spec
    }
}

/// One nullable column of every type, with field ids that are not positions, and some that nest.
pub(super) fn all_types() -> FileSchema {
    let mut columns: Vec<_> = TYPES
        .iter()
        .zip(0..)
        .map(|(&column_type, index)| column(&format!("c{index}"), 7 + 3 * index, column_type))
        .collect();
    let c = column;
    columns.extend([
        list("ints", 5000, c("", 5001, ColumnType::Int32)),
        list("decimals", 5010, list("", 5011, c("", 5012, TYPES[9]))),
        structure(
            "person",
            5020,
            vec![
                required(c("id", 5021, ColumnType::UInt64)),
                list("tags", 5022, c("", 5023, ColumnType::Utf8)),
                structure(
                    "inner",
                    5024,
                    vec![
                        c("score", 5025, ColumnType::Float64),
                        required(c("key", 5026, ColumnType::Uuid)),
                        required(list(
                            "flags",
                            5027,
                            required(c("", 5028, ColumnType::Boolean)),
                        )),
                    ],
                ),
            ],
        ),
        list(
            "rows",
            5030,
            structure(
                "",
                5031,
                vec![
                    c("day", 5032, ColumnType::Date),
                    list("weights", 5033, c("", 5034, ColumnType::Float32)),
                    c("raw", 5035, ColumnType::Json),
                    required(structure(
                        "pair",
                        5036,
                        vec![
                            list("bytes", 5037, c("", 5038, ColumnType::Binary)),
                            c("at", 5039, ColumnType::TimestampTz),
                        ],
                    )),
                ],
            ),
        ),
        required(list(
            "required",
            5040,
            required(structure(
                "",
                5041,
                vec![required(c("n", 5042, ColumnType::Int16))],
            )),
        )),
    ]);
    FileSchema::new(columns).unwrap()
}

pub(super) fn single(column_type: ColumnType) -> FileSchema {
    FileSchema::new(vec![column("c", 5, column_type)]).unwrap()
}

/// A value that is not null. Floats are compared by their bits.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Float32(u32),
    Float64(u64),
    Decimal(i128),
    Text(String),
    Bytes(Vec<u8>),
    Uuid([u8; 16]),
    UInt(u64),
    List(Vec<Option<Value>>),
    Struct(Vec<Option<Value>>),
}

pub(super) fn text_list(elements: &[&str]) -> Value {
    let elements = elements.iter().copied();
    Value::List(
        elements
            .map(|text| Some(Value::Text(text.to_owned())))
            .collect(),
    )
}

/// Values of a column, nulls among them when it takes nulls.
pub(super) fn cells(spec: &ColumnSpec) -> BoxedStrategy<Option<Value>> {
    let values = values(spec);
    if spec.nullable {
        option::weighted(0.8, values).boxed()
    } else {
        values.prop_map(Some).boxed()
    }
}

/// Values of a type, the odd ones often.
fn values(spec: &ColumnSpec) -> BoxedStrategy<Value> {
    let text = prop_oneof![
        4 => "[a-c]{0,6}",
        1 => "\\PC{0,12}",
        1 => Just("a\0b".to_owned()),
        1 => Just(String::new()),
    ];
    match spec.column_type {
        ColumnType::Boolean => any::<bool>().prop_map(Value::Bool).boxed(),
        ColumnType::Int16 => any::<i16>()
            .prop_map(|value| Value::Int(value.into()))
            .boxed(),
        ColumnType::Int32 => any::<i32>()
            .prop_map(|value| Value::Int(value.into()))
            .boxed(),
        ColumnType::UInt32 => any::<u32>()
            .prop_map(|value| Value::Int(value.into()))
            .boxed(),
        ColumnType::UInt64 => prop_oneof![any::<u64>(), Just(u64::MAX), Just(0)]
            .prop_map(Value::UInt)
            .boxed(),
        ColumnType::Int64 => prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)]
            .prop_map(Value::Int)
            .boxed(),
        ColumnType::Float32 => prop_oneof![
            any::<f32>(),
            prop::sample::select(vec![0.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, -1.5]),
        ]
        .prop_map(|value| Value::Float32(value.to_bits()))
        .boxed(),
        ColumnType::Float64 => prop_oneof![
            any::<f64>(),
            prop::sample::select(vec![0.0, -0.0, f64::NAN, -f64::NAN, f64::NEG_INFINITY, 1.5]),
        ]
        .prop_map(|value| Value::Float64(value.to_bits()))
        .boxed(),
        ColumnType::Decimal { precision, .. } => {
            let limit = 10_i128.pow(precision.into()) - 1;
            prop_oneof![-limit..=limit, -100..=100_i128, Just(limit), Just(-limit)]
                .prop_map(Value::Decimal)
                .boxed()
        }
        ColumnType::Utf8 | ColumnType::Json => text.prop_map(Value::Text).boxed(),
        ColumnType::Binary => vec(any::<u8>(), 0..8).prop_map(Value::Bytes).boxed(),
        ColumnType::Date => prop_oneof![-i32::MAX..=i32::MAX, Just(-i32::MAX), Just(i32::MAX)]
            .prop_map(|days| Value::Int(days.into()))
            .boxed(),
        ColumnType::Time => prop_oneof![0..=86_400_000_000_i64, Just(86_400_000_000)]
            .prop_map(Value::Int)
            .boxed(),
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            prop_oneof![-i64::MAX..=i64::MAX, Just(-i64::MAX), Just(i64::MAX)]
                .prop_map(Value::Int)
                .boxed()
        }
        ColumnType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        ColumnType::List => vec(cells(&spec.children[0]), 0..4)
            .prop_map(Value::List)
            .boxed(),
        ColumnType::Struct => {
            let fields: Vec<_> = spec.children.iter().map(cells).collect();
            fields.prop_map(Value::Struct).boxed()
        }
    }
}

pub(super) fn append(builder: &mut ColumnBuilder, value: Option<&Value>) -> Result<(), WriteError> {
    let Some(value) = value else {
        return builder.append_null();
    };
    match (value, builder.column_type()) {
        (Value::Bool(value), _) => builder.append_bool(*value),
        (Value::Int(value), ColumnType::Int16) => builder.append_i16((*value).try_into().unwrap()),
        (Value::Int(value), ColumnType::Int32) => builder.append_i32((*value).try_into().unwrap()),
        (Value::Int(value), ColumnType::UInt32) => builder.append_u32((*value).try_into().unwrap()),
        (Value::Int(value), ColumnType::Date) => builder.append_date((*value).try_into().unwrap()),
        (Value::Int(value), ColumnType::Time) => builder.append_time(*value),
        (Value::Int(value), ColumnType::Timestamp | ColumnType::TimestampTz) => {
            builder.append_timestamp(*value)
        }
        (Value::Int(value), _) => builder.append_i64(*value),
        (Value::Float32(bits), _) => builder.append_f32(f32::from_bits(*bits)),
        (Value::Float64(bits), _) => builder.append_f64(f64::from_bits(*bits)),
        (Value::Decimal(value), _) => builder.append_decimal(*value),
        (Value::Text(value), _) => builder.append_str(value),
        (Value::Bytes(value), _) => builder.append_bytes(value),
        (Value::Uuid(value), _) => builder.append_uuid(*value),
        (Value::UInt(value), _) => builder.append_u64(*value),
        (Value::List(elements), _) => {
            for element in elements {
                append(builder.element_mut()?, element.as_ref())?;
            }
            builder.append_list()
        }
        (Value::Struct(values), _) => {
            for (field, value) in builder.fields_mut()?.iter_mut().zip(values) {
                append(field, value.as_ref())?;
            }
            builder.append_struct()
        }
    }
}

/// Appends what is below a nested value, without ending it or its last child.
pub(super) fn begin(builder: &mut ColumnBuilder, value: Option<&Value>) -> Result<(), WriteError> {
    match value {
        Some(Value::List(elements)) => {
            let Some((last, others)) = elements.split_last() else {
                return Ok(());
            };
            for element in others {
                append(builder.element_mut()?, element.as_ref())?;
            }
            begin(builder.element_mut()?, last.as_ref())
        }
        Some(Value::Struct(values)) => {
            let (last, others) = values.split_last().unwrap();
            let fields = builder.fields_mut()?;
            for (field, value) in fields.iter_mut().zip(others) {
                append(field, value.as_ref())?;
            }
            begin(fields.last_mut().unwrap(), last.as_ref())
        }
        _ => Ok(()),
    }
}

/// A batch of one column.
pub(super) fn batch_of(schema: &FileSchema, values: &[Option<Value>]) -> RecordBatch {
    let mut builder = RowBatchBuilder::new(schema);
    for value in values {
        append(&mut builder.columns_mut()[0], value.as_ref()).unwrap();
        builder.end_row().unwrap();
    }
    builder.finish().unwrap()
}

/// Encodes batches in one go; returns the file and its description.
pub(super) fn encode(
    schema: &FileSchema,
    options: &EncodeOptions,
    batches: &[RecordBatch],
) -> (Bytes, EncodedFile) {
    let mut encoder = FileEncoder::new(schema, options).unwrap();
    for batch in batches {
        encoder.write(batch).unwrap();
    }
    encoder.finish().unwrap()
}

/// Reads a file back column by column.
pub(super) fn read(schema: &FileSchema, file: Bytes) -> Vec<Vec<Option<Value>>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap()
        .build()
        .unwrap();
    let mut columns = vec![Vec::new(); schema.columns().len()];
    for batch in reader {
        let batch = batch.unwrap();
        for ((column, spec), array) in columns
            .iter_mut()
            .zip(schema.columns())
            .zip(batch.columns())
        {
            column.extend(array_values(spec, array));
        }
    }
    columns
}

pub(super) fn array_values(spec: &ColumnSpec, array: &ArrayRef) -> Vec<Option<Value>> {
    (0..array.len())
        .map(|row| array.is_valid(row).then(|| array_value(spec, array, row)))
        .collect()
}

fn array_value(spec: &ColumnSpec, array: &ArrayRef, row: usize) -> Value {
    match spec.column_type {
        ColumnType::Boolean => Value::Bool(array.as_boolean().value(row)),
        ColumnType::Int16 => Value::Int(array.as_primitive::<Int16Type>().value(row).into()),
        ColumnType::Int32 => Value::Int(array.as_primitive::<Int32Type>().value(row).into()),
        ColumnType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        ColumnType::UInt32 => Value::Int(array.as_primitive::<UInt32Type>().value(row).into()),
        ColumnType::Float32 => {
            Value::Float32(array.as_primitive::<Float32Type>().value(row).to_bits())
        }
        ColumnType::Float64 => {
            Value::Float64(array.as_primitive::<Float64Type>().value(row).to_bits())
        }
        ColumnType::Decimal { .. } => {
            Value::Decimal(array.as_primitive::<Decimal128Type>().value(row))
        }
        ColumnType::Utf8 | ColumnType::Json => {
            Value::Text(array.as_string::<i32>().value(row).to_owned())
        }
        ColumnType::Binary => Value::Bytes(array.as_binary::<i32>().value(row).to_vec()),
        ColumnType::Date => Value::Int(array.as_primitive::<Date32Type>().value(row).into()),
        ColumnType::Time => Value::Int(array.as_primitive::<Time64MicrosecondType>().value(row)),
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            Value::Int(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        ColumnType::Uuid => {
            Value::Uuid(array.as_fixed_size_binary().value(row).try_into().unwrap())
        }
        ColumnType::UInt64 => Value::UInt(array.as_primitive::<UInt64Type>().value(row)),
        ColumnType::List => {
            let elements = array.as_list::<i32>().value(row);
            Value::List(array_values(&spec.children[0], &elements))
        }
        ColumnType::Struct => {
            let fields = spec.children.iter().zip(array.as_struct().columns());
            Value::Struct(
                fields
                    .map(|(field, array)| array_values(field, &array.slice(row, 1)).remove(0))
                    .collect(),
            )
        }
    }
}

/// The leaves of a column, each with a value or a null for every place Parquet has.
pub(super) fn leaves<'a>(
    spec: &'a ColumnSpec,
    rows: &[Option<Value>],
) -> Vec<(&'a ColumnSpec, Vec<Option<Value>>)> {
    match spec.column_type {
        ColumnType::List => {
            let mut holes = 0;
            let mut elements = Vec::new();
            for row in rows {
                match row {
                    Some(Value::List(list)) if !list.is_empty() => elements.extend_from_slice(list),
                    _ => holes += 1,
                }
            }
            let mut below = leaves(&spec.children[0], &elements);
            for (_, values) in &mut below {
                values.extend(std::iter::repeat_n(None, holes));
            }
            below
        }
        ColumnType::Struct => {
            let fields = spec.children.iter().enumerate();
            fields
                .flat_map(|(index, field)| {
                    let values: Vec<_> = rows
                        .iter()
                        .map(|row| match row {
                            Some(Value::Struct(values)) => values[index].clone(),
                            _ => None,
                        })
                        .collect();
                    leaves(field, &values)
                })
                .collect()
        }
        _ => vec![(spec, rows.to_vec())],
    }
}

/// What statistics should say, worked out from a sorted copy of the values.
#[derive(Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) value_count: u64,
    pub(super) null_count: u64,
    pub(super) contains_nan: Option<bool>,
    /// As [`show`] renders them.
    pub(super) bounds: String,
}

pub(super) fn expected(
    column_type: ColumnType,
    places: &[Option<Value>],
    max_stat_bytes: usize,
) -> Expected {
    let mut present: Vec<Value> = places.iter().flatten().cloned().collect();
    let value_count = present.len() as u64;
    let is_nan = |value: &Value| match value {
        Value::Float32(bits) => f32::from_bits(*bits).is_nan(),
        Value::Float64(bits) => f64::from_bits(*bits).is_nan(),
        _ => false,
    };
    let contains_nan = matches!(column_type, ColumnType::Float32 | ColumnType::Float64)
        .then(|| present.iter().any(is_nan));
    present.retain(|value| !is_nan(value));
    present.sort_by(|left, right| match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::UInt(left), Value::UInt(right)) => left.cmp(right),
        (Value::Float32(left), Value::Float32(right)) => {
            f32::from_bits(*left).total_cmp(&f32::from_bits(*right))
        }
        (Value::Float64(left), Value::Float64(right)) => {
            f64::from_bits(*left).total_cmp(&f64::from_bits(*right))
        }
        (Value::Decimal(left), Value::Decimal(right)) => left.cmp(right),
        (Value::Text(left), Value::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Value::Bytes(left), Value::Bytes(right)) => left.cmp(right),
        (Value::Uuid(left), Value::Uuid(right)) => left.cmp(right),
        _ => panic!("values of one column have one type"),
    });
    let reportable = |value: &Value| match value {
        Value::Text(text) => text.len() <= max_stat_bytes && !text.contains('\0'),
        Value::Bytes(_) => false,
        _ => true,
    };
    let bounds = match (present.first(), present.last()) {
        (Some(min), Some(max)) if reportable(min) && reportable(max) => Bounds::Range {
            min: stat_value(column_type, min),
            max: stat_value(column_type, max),
        },
        (Some(_), Some(_)) => Bounds::Unknown,
        _ => Bounds::Empty,
    };
    Expected {
        value_count,
        null_count: places.len() as u64 - value_count,
        contains_nan,
        bounds: show(&bounds),
    }
}

fn stat_value(column_type: ColumnType, value: &Value) -> StatValue {
    match (value, column_type) {
        (Value::Bool(value), _) => StatValue::Bool(*value),
        (Value::Int(days), ColumnType::Date) => StatValue::Date((*days).try_into().unwrap()),
        (Value::Int(micros), ColumnType::Time) => StatValue::Time(*micros),
        (Value::Int(micros), ColumnType::Timestamp) => StatValue::Timestamp(*micros),
        (Value::Int(micros), ColumnType::TimestampTz) => StatValue::TimestampTz(*micros),
        (Value::Int(value), _) => StatValue::Int(*value),
        (Value::UInt(value), _) => StatValue::UInt(*value),
        (Value::Float32(bits), _) => StatValue::Float32(f32::from_bits(*bits)),
        (Value::Float64(bits), _) => StatValue::Float64(f64::from_bits(*bits)),
        (Value::Decimal(value), ColumnType::Decimal { scale, .. }) => StatValue::Decimal {
            value: *value,
            scale,
        },
        (Value::Text(text), _) => StatValue::Utf8(text.clone()),
        (Value::Uuid(bytes), _) => StatValue::Uuid(*bytes),
        (value, column_type) => panic!("{value:?} has no bounds in {column_type}"),
    }
}

/// Bounds with their values, telling `-0.0` from `0.0`.
pub(super) fn show(bounds: &Bounds) -> String {
    match bounds {
        Bounds::Unknown => "unknown".to_owned(),
        Bounds::Empty => "empty".to_owned(),
        Bounds::Range { min, max } => format!("{} to {}", show_value(min), show_value(max)),
    }
}

fn show_value(value: &StatValue) -> String {
    match value {
        StatValue::Bool(value) => format!("bool {value}"),
        StatValue::Int(value) => format!("int {value}"),
        StatValue::UInt(value) => format!("uint {value}"),
        StatValue::Float32(value) => format!("float32 {value:?}"),
        StatValue::Float64(value) => format!("float64 {value:?}"),
        StatValue::Decimal { value, scale } => format!("decimal {value} scale {scale}"),
        StatValue::Utf8(value) => format!("utf8 {value:?}"),
        StatValue::Date(value) => format!("date {value}"),
        StatValue::Time(value) => format!("time {value}"),
        StatValue::Timestamp(value) => format!("timestamp {value}"),
        StatValue::TimestampTz(value) => format!("timestamptz {value}"),
        StatValue::Uuid(value) => format!("uuid {value:?}"),
    }
}
