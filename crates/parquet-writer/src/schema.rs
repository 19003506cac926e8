//! What columns a file has: types, names, field ids.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow_schema::extension::{Json, Uuid};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::error::WriteError;

/// Digits that fit a 128-bit decimal, and the most DuckDB reads.
const MAX_DECIMAL_PRECISION: u8 = 38;

/// The type of a column.
///
/// The Parquet form follows the DuckLake specification, "Data types", and what DuckDB writes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColumnType {
    /// `BOOLEAN`.
    Boolean,
    /// `INT32`, annotated as a signed 16-bit integer.
    Int16,
    /// `INT32`.
    Int32,
    /// `INT64`.
    Int64,
    /// `INT32`, annotated as an unsigned 32-bit integer.
    UInt32,
    /// `FLOAT`.
    Float32,
    /// `DOUBLE`.
    Float64,
    /// Decimal: `INT32` up to 9 digits, `INT64` up to 18, fixed-length bytes beyond.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// `BYTE_ARRAY`, annotated as a string.
    Utf8,
    /// `BYTE_ARRAY`, annotated as JSON. The text is not checked here, but DuckDB fails on a file
    /// whose JSON is invalid.
    Json,
    /// `BYTE_ARRAY` without annotation.
    Binary,
    /// `INT32` days since 1970-01-01; `i32::MAX` and `-i32::MAX` are the infinities.
    Date,
    /// `INT64` microseconds since midnight, 24:00:00 included.
    Time,
    /// `INT64` microseconds since 1970-01-01 00:00:00 in no time zone; `i64::MAX` and `-i64::MAX`
    /// are the infinities.
    Timestamp,
    /// As [`ColumnType::Timestamp`], in UTC (`isAdjustedToUTC`).
    TimestampTz,
    /// 16 fixed-length bytes, annotated as UUID.
    Uuid,
    /// Three-level list of strings.
    ListUtf8,
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Boolean => "boolean",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::UInt32 => "uint32",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Decimal { precision, scale } => {
                return write!(f, "decimal({precision}, {scale})");
            }
            Self::Utf8 => "utf8",
            Self::Json => "json",
            Self::Binary => "binary",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
            Self::Uuid => "uuid",
            Self::ListUtf8 => "list of utf8",
        };
        f.write_str(name)
    }
}

/// One column of a [`FileSchema`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpec {
    /// The column's name in the file. Readers of a lake go by the field id.
    pub name: String,
    /// Parquet field id, at least 1; in a DuckLake the column's id.
    pub field_id: i32,
    /// The type of the values.
    pub column_type: ColumnType,
    /// Whether nulls may be appended.
    pub nullable: bool,
    /// Field id of the element: given for [`ColumnType::ListUtf8`], and for nothing else.
    pub element_field_id: Option<i32>,
}

impl ColumnSpec {
    /// Field id of the node that holds the values: a list's element, else the column itself.
    pub(crate) fn leaf_field_id(&self) -> i32 {
        self.element_field_id.unwrap_or(self.field_id)
    }
}

/// The checked columns of a file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FileSchema {
    columns: Arc<[ColumnSpec]>,
    arrow: SchemaRef,
}

impl FileSchema {
    /// Checks the columns and derives the Arrow schema.
    ///
    /// # Errors
    /// Fails when there are no columns, a field id is below 1 or given twice (elements of lists
    /// included), an element field id is missing or has no place, or a decimal is not within 38 digits.
    pub fn new(columns: Vec<ColumnSpec>) -> Result<Self, WriteError> {
        if columns.is_empty() {
            return Err(WriteError::EmptySchema);
        }
        let mut taken = HashSet::new();
        for spec in &columns {
            check_column(spec)?;
            for field_id in [Some(spec.field_id), spec.element_field_id]
                .into_iter()
                .flatten()
            {
                check_field_id(spec, field_id, &mut taken)?;
            }
        }
        let fields = columns
            .iter()
            .map(arrow_field)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            columns: columns.into(),
            arrow: Arc::new(Schema::new(fields)),
        })
    }

    /// The columns in file order.
    pub fn columns(&self) -> &[ColumnSpec] {
        &self.columns
    }

    /// The Arrow schema of this file's batches, with `PARQUET:field_id` on every field.
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::clone(&self.arrow)
    }
}

fn check_column(spec: &ColumnSpec) -> Result<(), WriteError> {
    if let ColumnType::Decimal { precision, scale } = spec.column_type
        && !((1..=MAX_DECIMAL_PRECISION).contains(&precision) && scale <= precision)
    {
        return Err(WriteError::InvalidDecimal {
            column: spec.name.clone(),
            precision,
            scale,
        });
    }
    match (spec.column_type, spec.element_field_id) {
        (ColumnType::ListUtf8, None) => Err(WriteError::MissingElementFieldId {
            column: spec.name.clone(),
        }),
        (ColumnType::ListUtf8, Some(_)) | (_, None) => Ok(()),
        (_, Some(_)) => Err(WriteError::UnexpectedElementFieldId {
            column: spec.name.clone(),
        }),
    }
}

fn check_field_id(
    spec: &ColumnSpec,
    field_id: i32,
    taken: &mut HashSet<i32>,
) -> Result<(), WriteError> {
    if field_id < 1 {
        return Err(WriteError::FieldIdOutOfRange {
            column: spec.name.clone(),
            field_id,
        });
    }
    if !taken.insert(field_id) {
        return Err(WriteError::DuplicateFieldId {
            column: spec.name.clone(),
            field_id,
        });
    }
    Ok(())
}

fn arrow_field(spec: &ColumnSpec) -> Result<Field, WriteError> {
    let data_type = match spec.column_type {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Int16 => DataType::Int16,
        ColumnType::Int32 => DataType::Int32,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::UInt32 => DataType::UInt32,
        ColumnType::Float32 => DataType::Float32,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Decimal { precision, scale } => DataType::Decimal128(
            precision,
            i8::try_from(scale).map_err(|_| WriteError::SizeOverflow {
                what: "decimal scale",
            })?,
        ),
        ColumnType::Utf8 | ColumnType::Json => DataType::Utf8,
        ColumnType::Binary => DataType::Binary,
        ColumnType::Date => DataType::Date32,
        ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Uuid => DataType::FixedSizeBinary(16),
        ColumnType::ListUtf8 => DataType::List(list_element_field(spec.leaf_field_id())),
    };
    let mut field = with_field_id(
        Field::new(&spec.name, data_type, spec.nullable),
        spec.field_id,
    );
    match spec.column_type {
        ColumnType::Uuid => field.try_with_extension_type(Uuid)?,
        ColumnType::Json => field.try_with_extension_type(Json::default())?,
        _ => {}
    }
    Ok(field)
}

fn list_element_field(field_id: i32) -> FieldRef {
    Arc::new(with_field_id(
        Field::new("element", DataType::Utf8, true),
        field_id,
    ))
}

fn with_field_id(field: Field, field_id: i32) -> Field {
    field.with_metadata(HashMap::from([(
        PARQUET_FIELD_ID_META_KEY.to_owned(),
        field_id.to_string(),
    )]))
}
