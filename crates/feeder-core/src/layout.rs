//! What a changelog table looks like in the lake: six columns of our own, then the source's.

use ducklake_catalog::{ColumnDef, LakeType};
use parquet_writer::{ColumnSpec, ColumnType, FileSchema};

use crate::error::{FeederError, FeederErrorKind};
use crate::types::Reader;

/// How many columns come before the source's.
pub(crate) const META_COLUMNS: usize = 6;

/// Names of the columns that come before the source's, in order.
pub(crate) const META_NAMES: [&str; META_COLUMNS] = [
    "_df_op",
    "_df_timestamp",
    "_df_lsn",
    "_df_seq",
    "_df_unchanged",
    "_df_unrepresentable",
];

/// A source column that the lake has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceColumn {
    pub(crate) name: String,
    pub(crate) reader: Reader,
}

impl SourceColumn {
    /// The column as a copy sends it.
    pub(crate) fn of_copy(&self) -> Self {
        Self {
            name: self.name.clone(),
            reader: self.reader.of_copy(),
        }
    }
}

/// The columns of a changelog table, as the catalog creates them. Field ids follow from the order.
pub(crate) fn column_defs(columns: &[SourceColumn]) -> Vec<ColumnDef> {
    let text_list = || LakeType::List(Box::new(LakeType::Varchar));
    let types = [
        LakeType::Varchar,
        LakeType::TimestampTz,
        LakeType::Int64,
        LakeType::Int64,
        text_list(),
        text_list(),
    ];
    META_NAMES
        .iter()
        .zip(types)
        .map(|(name, lake_type)| ColumnDef::new(*name, lake_type))
        .chain(
            columns
                .iter()
                .map(|column| ColumnDef::new(&column.name, column.reader.lake_type())),
        )
        .collect()
}

/// A column of a lake table as the catalog has it: what a file needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LakeColumn {
    pub(crate) name: String,
    pub(crate) lake_type: LakeType,
    pub(crate) field_id: i32,
    /// Of the list's element.
    pub(crate) element_id: Option<i32>,
}

/// The Parquet schema of a changelog table's files: exactly the lake's columns, under their field ids.
///
/// # Errors
/// When the lake's table is not the changelog table that `columns` describe.
pub(crate) fn file_schema(
    table: &str,
    lake: &[LakeColumn],
    columns: &[SourceColumn],
) -> Result<FileSchema, FeederError> {
    let wanted = column_defs(columns);
    let types = [
        ColumnType::Utf8,
        ColumnType::TimestampTz,
        ColumnType::Int64,
        ColumnType::Int64,
        ColumnType::ListUtf8,
        ColumnType::ListUtf8,
    ];
    let column_types = types
        .into_iter()
        .chain(columns.iter().map(|column| column.reader.column_type()));
    let mut specs = Vec::with_capacity(wanted.len());
    for (definition, column_type) in wanted.iter().zip(column_types) {
        let found = lake
            .iter()
            .find(|column| column.name == definition.name)
            .filter(|column| column.lake_type == definition.ty)
            .ok_or_else(|| {
                FeederError::permanent(
                    FeederErrorKind::Catalog,
                    format!(
                        "lake table {table} has no column {:?} of type {}",
                        definition.name, definition.ty
                    ),
                )
                .with_remedy(format!(
                    "the lake table was changed by somebody else, or the source's column was; drop {table} in the lake, or feed into another table with target_table"
                ))
            })?;
        specs.push(ColumnSpec {
            name: found.name.clone(),
            field_id: found.field_id,
            column_type,
            nullable: true,
            element_field_id: found.element_id,
        });
    }
    FileSchema::new(specs).map_err(|error| {
        FeederError::permanent(
            FeederErrorKind::Internal,
            format!("file schema of lake table {table}"),
        )
        .with_source(error)
    })
}
