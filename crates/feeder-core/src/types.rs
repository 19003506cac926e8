//! The type matrix: how a Postgres type is read from the wire and stored in the lake.
//!
//! Each family of types has a file of its own; `docs/types.md` is the matrix for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use ducklake_catalog::LakeType;
use parquet_writer::{ColumnSpec, ColumnType};
use pgoutput::Oid;

use crate::config::{ArrayMapping, FeederConfig, NumericMapping};
use crate::select::Selection;

mod append;
mod array;
mod composite;
mod json;
mod network;
mod number;
mod output;
mod source_type;
mod temporal;
mod text;

pub(crate) use append::{Scratch, ValueProblem, append};
pub(crate) use array::ListReader;
pub(crate) use composite::StructReader;
pub(crate) use json::append_string as append_json_string;
pub(crate) use output::output_text;
pub(crate) use source_type::{MadeOf, SourceType, Types};

/// How one source column travels and where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Uint8,
    Float4,
    Float8,
    Decimal {
        precision: u8,
        scale: u8,
    },
    NumericText,
    NumericFloat,
    Money,
    Text,
    Json,
    Jsonb,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    /// Stored as text; the binary form is rendered here as the server would.
    Rendered(Rendered),
    /// A type that is carried as the text its output function gives.
    OutputText,
    /// An array with one dimension.
    List(Arc<ListReader>),
    /// An array whose values have several dimensions: nested JSON arrays.
    JsonArray(Arc<ListReader>),
    Struct(Arc<StructReader>),
    /// The output function's text where a copy sends binary.
    CopiedText(Arc<Reader>),
}

/// Types whose text is rendered from their binary form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rendered {
    TimeTz,
    Interval,
    Inet,
    Cidr,
    MacAddr,
    MacAddr8,
    Bit,
    PgLsn,
}

/// What the configuration says of how a table's columns are stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColumnSettings {
    pub(crate) numeric: NumericMapping,
    /// By column, instead of `numeric`.
    pub(crate) numeric_columns: BTreeMap<String, NumericMapping>,
    pub(crate) arrays: BTreeMap<String, ArrayMapping>,
}

impl ColumnSettings {
    pub(crate) fn of(config: &FeederConfig, selection: &Selection) -> Self {
        Self {
            numeric: config.source.numeric,
            numeric_columns: selection.numeric.clone(),
            arrays: selection.arrays.clone(),
        }
    }

    /// The reader of a column of type `ty`.
    pub(crate) fn reader(&self, column: &str, ty: &SourceType) -> Reader {
        let numeric = self.numeric_columns.get(column).copied();
        let reader = reader(ty, numeric.unwrap_or(self.numeric));
        match (reader, self.arrays.get(column)) {
            (Reader::List(list), Some(ArrayMapping::Json)) => Reader::JsonArray(list),
            (Reader::JsonArray(list), Some(ArrayMapping::List)) => Reader::List(list),
            (reader, _) => reader,
        }
    }
}

/// The reader of a type.
///
/// `numeric` says how a `numeric` without a usable precision is stored.
fn reader(ty: &SourceType, numeric: NumericMapping) -> Reader {
    match &ty.made_of {
        MadeOf::Domain(base) => return reader(base, numeric),
        MadeOf::Label => return Reader::Text,
        MadeOf::Array(array) => return array::reader(array, ty.type_modifier, numeric),
        MadeOf::Composite(attributes) => return composite::reader(attributes, numeric),
        MadeOf::Itself => {}
    }
    let oid = Oid::new(ty.type_oid);
    number::reader(oid, ty.type_modifier, numeric)
        .or_else(|| text::reader(oid))
        .or_else(|| temporal::reader(oid))
        .or_else(|| network::reader(oid))
        .unwrap_or(Reader::OutputText)
}

impl Reader {
    /// Whether the binary form of the type is decoded here. One column without it makes the whole session text
    /// (rule 9 of ARCHITECTURE.md).
    pub(crate) fn binary(&self) -> bool {
        match self {
            Self::OutputText => false,
            Self::List(list) | Self::JsonArray(list) => list.element.binary(),
            Self::Struct(composite) => composite.fields.iter().all(|field| field.reader.binary()),
            _ => true,
        }
    }

    /// The reader of what [`Self::copy_expression`] yields.
    pub(crate) fn of_copy(&self) -> Self {
        if self.binary() {
            self.clone()
        } else {
            Self::CopiedText(Arc::new(self.clone()))
        }
    }

    /// The expression that COPY selects for a column of this reader, whose binary form this crate decodes.
    ///
    /// `format('%s', x)` calls the type's output function, as the stream does; a cast to text would not (`inet`). And
    /// it makes no difference between NULL and an empty text, which `num_nulls` does.
    pub(crate) fn copy_expression(&self, quoted_column: &str) -> String {
        if self.binary() {
            quoted_column.to_owned()
        } else {
            format!(
                "CASE WHEN pg_catalog.num_nulls({quoted_column}) = 0 THEN pg_catalog.format('%s', {quoted_column}) END"
            )
        }
    }

    pub(crate) fn lake_type(&self) -> LakeType {
        match self {
            Self::Bool => LakeType::Boolean,
            Self::Int2 => LakeType::Int16,
            Self::Int4 => LakeType::Int32,
            Self::Int8 => LakeType::Int64,
            Self::Oid => LakeType::UInt32,
            Self::Uint8 => LakeType::UInt64,
            Self::Float4 => LakeType::Float32,
            Self::Float8 | Self::NumericFloat => LakeType::Float64,
            Self::Decimal { precision, scale } => LakeType::Decimal {
                precision: *precision,
                scale: *scale,
            },
            Self::Money => LakeType::Decimal {
                precision: number::MONEY_PRECISION,
                scale: number::MONEY_SCALE,
            },
            Self::NumericText | Self::Text | Self::Rendered(_) | Self::OutputText => {
                LakeType::Varchar
            }
            Self::Json | Self::Jsonb | Self::JsonArray(_) => LakeType::Json,
            Self::Bytea => LakeType::Blob,
            Self::Date => LakeType::Date,
            Self::Time => LakeType::Time,
            Self::Timestamp => LakeType::Timestamp,
            Self::TimestampTz => LakeType::TimestampTz,
            Self::Uuid => LakeType::Uuid,
            Self::List(list) => LakeType::list(list.element.lake_type()),
            Self::Struct(composite) => LakeType::Struct(
                composite
                    .fields
                    .iter()
                    .map(|field| (field.name.clone(), field.reader.lake_type()))
                    .collect(),
            ),
            Self::CopiedText(reader) => reader.lake_type(),
        }
    }
}

/// The file's column for a lake column of type `ty`, or `None` for a type that is never written.
pub(crate) fn column_spec(
    name: &str,
    ty: &LakeType,
    ids: &ducklake_catalog::ColumnIds,
) -> Option<ColumnSpec> {
    let mut children = ids.children.iter();
    let mut child = |name: &str, ty: &LakeType| column_spec(name, ty, children.next()?);
    let (column_type, nested) = match ty {
        LakeType::Boolean => (ColumnType::Boolean, Vec::new()),
        LakeType::Int16 => (ColumnType::Int16, Vec::new()),
        LakeType::Int32 => (ColumnType::Int32, Vec::new()),
        LakeType::Int64 => (ColumnType::Int64, Vec::new()),
        LakeType::UInt32 => (ColumnType::UInt32, Vec::new()),
        LakeType::UInt64 => (ColumnType::UInt64, Vec::new()),
        LakeType::Float32 => (ColumnType::Float32, Vec::new()),
        LakeType::Float64 => (ColumnType::Float64, Vec::new()),
        LakeType::Decimal { precision, scale } => (
            ColumnType::Decimal {
                precision: *precision,
                scale: *scale,
            },
            Vec::new(),
        ),
        LakeType::Varchar => (ColumnType::Utf8, Vec::new()),
        LakeType::Json => (ColumnType::Json, Vec::new()),
        LakeType::Blob => (ColumnType::Binary, Vec::new()),
        LakeType::Date => (ColumnType::Date, Vec::new()),
        LakeType::Time => (ColumnType::Time, Vec::new()),
        LakeType::Timestamp => (ColumnType::Timestamp, Vec::new()),
        LakeType::TimestampTz => (ColumnType::TimestampTz, Vec::new()),
        LakeType::Uuid => (ColumnType::Uuid, Vec::new()),
        LakeType::List(element) => (ColumnType::List, vec![child("element", element)?]),
        LakeType::Struct(fields) => (
            ColumnType::Struct,
            fields
                .iter()
                .map(|(name, ty)| child(name, ty))
                .collect::<Option<Vec<_>>>()?,
        ),
        _ => return None,
    };
    Some(ColumnSpec {
        name: name.to_owned(),
        field_id: i32::try_from(ids.id.get()).ok()?,
        column_type,
        nullable: true,
        children: nested,
    })
}

#[cfg(test)]
mod tests;
