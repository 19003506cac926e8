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

/// Levels of a column's tree: a list of integers has two. DuckLake and DuckDB know no limit, but
/// trees are walked by recursion.
const MAX_DEPTH: usize = 16;

/// The name of a list's only child, as the Parquet format wants it.
const ELEMENT_NAME: &str = "element";

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
    /// `INT64`, annotated as an unsigned 64-bit integer.
    UInt64,
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
    /// Three-level list of what the only child says.
    List,
    /// Group of the children.
    Struct,
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Boolean => "boolean",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::UInt32 => "uint32",
            Self::UInt64 => "uint64",
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
            Self::List => "list",
            Self::Struct => "struct",
        };
        f.write_str(name)
    }
}

/// One column of a [`FileSchema`], or a node below one.
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
    /// The nodes below: of a [`ColumnType::List`] exactly one, named `element`; of a
    /// [`ColumnType::Struct`] its fields, of distinct names; of other types none.
    pub children: Vec<ColumnSpec>,
}

impl ColumnSpec {
    /// A nullable column without children.
    pub fn new(name: impl Into<String>, field_id: i32, column_type: ColumnType) -> Self {
        Self {
            name: name.into(),
            field_id,
            column_type,
            nullable: true,
            children: Vec::new(),
        }
    }

    /// The same column with these children.
    #[must_use]
    pub fn with_children(self, children: Vec<ColumnSpec>) -> Self {
        Self { children, ..self }
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
    /// Fails when there are no columns, a field id is below 1 or given twice in the whole tree, a
    /// column has other children than its type wants, columns nest deeper than 16 levels, or a
    /// decimal is not within 38 digits.
    pub fn new(columns: Vec<ColumnSpec>) -> Result<Self, WriteError> {
        if columns.is_empty() {
            return Err(WriteError::EmptySchema);
        }
        let mut taken = HashSet::new();
        for spec in &columns {
            check_tree(spec, &spec.name, 1, &mut taken)?;
        }
        let fields = arrow_fields(&columns)?;
        Ok(Self {
            columns: columns.into(),
            arrow: Arc::new(Schema::new(fields)),
        })
    }

    /// The columns in file order.
    pub fn columns(&self) -> &[ColumnSpec] {
        &self.columns
    }

    /// The Arrow schema of this file's batches, with `PARQUET:field_id` on every field of the tree.
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::clone(&self.arrow)
    }
}

/// The name of a node below a column in errors: the names from the column down, joined by dots.
pub(crate) fn child_path(parent: &str, child: &ColumnSpec) -> String {
    format!("{parent}.{}", child.name)
}

fn check_tree(
    spec: &ColumnSpec,
    path: &str,
    depth: usize,
    taken: &mut HashSet<i32>,
) -> Result<(), WriteError> {
    if depth > MAX_DEPTH {
        return Err(WriteError::NestedTooDeep {
            column: path.to_owned(),
            most: MAX_DEPTH,
        });
    }
    check_type(spec, path)?;
    check_field_id(spec, path, taken)?;
    for child in &spec.children {
        check_tree(child, &child_path(path, child), depth + 1, taken)?;
    }
    Ok(())
}

fn check_type(spec: &ColumnSpec, path: &str) -> Result<(), WriteError> {
    let column = || path.to_owned();
    match (spec.column_type, spec.children.as_slice()) {
        (ColumnType::Decimal { precision, scale }, _)
            if !(1..=MAX_DECIMAL_PRECISION).contains(&precision) || scale > precision =>
        {
            Err(WriteError::InvalidDecimal {
                column: column(),
                precision,
                scale,
            })
        }
        (ColumnType::List, [element]) if element.name == ELEMENT_NAME => Ok(()),
        (ColumnType::List, _) => Err(WriteError::ListNeedsElement { column: column() }),
        (ColumnType::Struct, []) => Err(WriteError::StructNeedsFields { column: column() }),
        (ColumnType::Struct, fields) => {
            let mut names = HashSet::new();
            match fields.iter().find(|field| !names.insert(&field.name)) {
                Some(field) => Err(WriteError::DuplicateFieldName {
                    column: column(),
                    field: field.name.clone(),
                }),
                None => Ok(()),
            }
        }
        (_, []) => Ok(()),
        (_, _) => Err(WriteError::UnexpectedChildren { column: column() }),
    }
}

fn check_field_id(
    spec: &ColumnSpec,
    path: &str,
    taken: &mut HashSet<i32>,
) -> Result<(), WriteError> {
    let field_id = spec.field_id;
    if field_id < 1 {
        return Err(WriteError::FieldIdOutOfRange {
            column: path.to_owned(),
            field_id,
        });
    }
    if !taken.insert(field_id) {
        return Err(WriteError::DuplicateFieldId {
            column: path.to_owned(),
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
        ColumnType::UInt64 => DataType::UInt64,
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
        ColumnType::List => match arrow_fields(&spec.children)?.as_slice() {
            [element] => DataType::List(Arc::clone(element)),
            _ => {
                return Err(WriteError::ListNeedsElement {
                    column: spec.name.clone(),
                });
            }
        },
        ColumnType::Struct => DataType::Struct(arrow_fields(&spec.children)?.into()),
    };
    let field_id = (
        PARQUET_FIELD_ID_META_KEY.to_owned(),
        spec.field_id.to_string(),
    );
    let mut field =
        Field::new(&spec.name, data_type, spec.nullable).with_metadata(HashMap::from([field_id]));
    match spec.column_type {
        ColumnType::Uuid => field.try_with_extension_type(Uuid)?,
        ColumnType::Json => field.try_with_extension_type(Json::default())?,
        _ => {}
    }
    Ok(field)
}

fn arrow_fields(specs: &[ColumnSpec]) -> Result<Vec<FieldRef>, WriteError> {
    specs
        .iter()
        .map(|spec| arrow_field(spec).map(Arc::new))
        .collect()
}
