//! What a changelog table looks like in the lake: six columns of our own, then the source's.

use ducklake_catalog::{ColumnDef, ColumnIds, LakeType};
use parquet_writer::FileSchema;

use crate::error::{FeederError, FeederErrorKind};
use crate::types::{self, Reader, SourceType};

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

/// The old values that the server sent, a struct after the source columns; only with `before_image`.
pub(crate) const BEFORE: &str = "_df_before";
/// A name that no table or column keeps, while names go from one to another.
pub(crate) const IN_BETWEEN: &str = "_df_renamed";

/// A source column that the lake has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceColumn {
    pub(crate) name: String,
    pub(crate) source_type: SourceType,
    pub(crate) reader: Reader,
}

impl SourceColumn {
    /// The column as a copy sends it.
    pub(crate) fn of_copy(&self) -> Self {
        Self {
            name: self.name.clone(),
            source_type: self.source_type.clone(),
            reader: self.reader.of_copy(),
        }
    }
}

/// The columns of a changelog table, as the catalog creates them. Field ids follow from the order.
pub(crate) fn column_defs(columns: &[SourceColumn], before_image: bool) -> Vec<ColumnDef> {
    let text_list = || LakeType::List(Box::new(LakeType::Varchar));
    let types = [
        LakeType::Varchar,
        LakeType::TimestampTz,
        LakeType::Int64,
        LakeType::Int64,
        text_list(),
        text_list(),
    ];
    let source = || {
        columns
            .iter()
            .map(|column| (column.name.clone(), column.reader.lake_type()))
    };
    let before = before_image.then(|| ColumnDef::new(BEFORE, LakeType::Struct(source().collect())));
    META_NAMES
        .iter()
        .zip(types)
        .map(|(name, lake_type)| ColumnDef::new(*name, lake_type))
        .chain(source().map(|(name, lake_type)| ColumnDef::new(name, lake_type)))
        .chain(before)
        .collect()
}

/// A column of a lake table as the catalog has it: what a file needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LakeColumn {
    pub(crate) name: String,
    pub(crate) lake_type: LakeType,
    pub(crate) ids: ColumnIds,
}

/// The Parquet schema of a table's files: the lake's columns that `wanted` names, under their field ids.
///
/// # Errors
/// When the lake's table does not have the columns.
pub(crate) fn file_schema(
    table: &str,
    lake: &[LakeColumn],
    wanted: &[ColumnDef],
) -> Result<FileSchema, FeederError> {
    let internal = |problem: String| {
        FeederError::permanent(
            FeederErrorKind::Internal,
            format!("file schema of lake table {table}: {problem}"),
        )
    };
    let mut specs = Vec::with_capacity(wanted.len());
    for definition in wanted {
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
        let spec = types::column_spec(&found.name, &found.lake_type, &found.ids)
            .ok_or_else(|| internal(format!("{} cannot be written", found.lake_type)))?;
        specs.push(spec);
    }
    FileSchema::new(specs).map_err(|error| internal("invalid".to_owned()).with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Column, INT8, NUMERIC, TEXT, lake_columns, source_columns};

    const COLUMNS: [Column; 3] = [("id", INT8, -1), ("Größe", NUMERIC, -1), ("note", TEXT, -1)];

    fn schema(lake: &[LakeColumn]) -> Result<FileSchema, FeederError> {
        file_schema(
            "raw.t",
            lake,
            &column_defs(&source_columns(&COLUMNS), false),
        )
    }

    #[test]
    fn our_columns_come_first_and_are_of_types_that_every_reader_has() {
        let defs = column_defs(&source_columns(&COLUMNS), false);
        let described: Vec<String> = defs
            .iter()
            .map(|column| format!("{} {}", column.name, column.ty))
            .collect();
        assert_eq!(
            described,
            [
                "_df_op varchar",
                "_df_timestamp timestamptz",
                "_df_lsn int64",
                "_df_seq int64",
                "_df_unchanged list(varchar)",
                "_df_unrepresentable list(varchar)",
                "id int64",
                "Größe varchar",
                "note varchar",
            ]
        );
        assert!(defs.iter().all(|column| column.nullable));
    }

    #[test]
    fn files_carry_the_lakes_field_ids_whatever_their_order() {
        let mut lake = lake_columns(&column_defs(&source_columns(&COLUMNS), false));
        lake.reverse();
        let schema = schema(&lake).unwrap();
        for spec in schema.columns() {
            let column = lake.iter().find(|column| column.name == spec.name).unwrap();
            assert_eq!(i64::from(spec.field_id), column.ids.id.get());
            let element = spec.children.first().map(|element| element.field_id);
            let wanted = column.ids.element().map(ducklake_catalog::ColumnId::get);
            assert_eq!(element.map(i64::from), wanted);
            assert!(spec.nullable);
        }
        let names: Vec<&str> = schema.columns().iter().map(|spec| &*spec.name).collect();
        assert_eq!(names[..META_COLUMNS], META_NAMES);
        assert_eq!(names[META_COLUMNS..], ["id", "Größe", "note"]);
    }

    #[test]
    fn columns_that_the_lake_has_in_addition_are_left_to_it() {
        let mut lake = lake_columns(&column_defs(&source_columns(&COLUMNS), false));
        lake.push(LakeColumn {
            name: "dropped at the source".to_owned(),
            lake_type: LakeType::Int32,
            ids: ColumnIds {
                id: ducklake_catalog::ColumnId::new(99),
                children: Vec::new(),
            },
        });
        assert_eq!(
            schema(&lake).unwrap().columns().len(),
            META_COLUMNS + COLUMNS.len()
        );
    }

    #[test]
    fn a_lake_table_of_another_shape_is_refused() {
        let whole = lake_columns(&column_defs(&source_columns(&COLUMNS), false));
        let mut without = whole.clone();
        without.retain(|column| column.name != "note");
        let mut other_type = whole.clone();
        other_type[META_COLUMNS].lake_type = LakeType::Int32;
        let mut without_ours = whole;
        without_ours.retain(|column| column.name != "_df_seq");
        for (lake, named) in [
            (without, "\"note\" of type varchar"),
            (other_type, "\"id\" of type int64"),
            (without_ours, "\"_df_seq\" of type int64"),
        ] {
            let error = schema(&lake).unwrap_err();
            assert_eq!(error.kind(), FeederErrorKind::Catalog);
            assert!(!error.is_transient());
            assert!(error.to_string().contains("raw.t"), "{error}");
            assert!(error.to_string().contains(named), "{error}");
            assert!(error.remedy().is_some());
        }
    }
}
