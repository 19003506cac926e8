//! One table while a change set is applied to it.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::locked::LockedTable;
use crate::change_set::TableOperation;
use crate::layout::is_clean_relative_path;
use crate::read::{ColumnRow, column_tree};
use crate::table_def::FIRST_COLUMN_ID;
use crate::{
    CatalogError, CatalogErrorKind, Column, ColumnDef, ColumnId, DataFile, LakeType, SchemaId,
    TableDef, TableId,
};

/// A table of the lake, or a new one, with its columns as they were and as they are now.
pub(super) struct TableState<'a> {
    pub(super) id: TableId,
    /// `table schema.name`, for messages.
    pub(super) object: String,
    /// What the catalog says; `None` for a new table.
    pub(super) locked: Option<&'a LockedTable>,
    pub(super) columns: Vec<ColumnState>,
    next_column_id: i64,
    pub(super) uuid: Uuid,
    /// Where the table was; `None` for a new one.
    pub(super) placed_before: Option<Placement>,
    pub(super) placement: Placement,
    /// Relative to the data path, or absolute.
    pub(super) directory: String,
    pub(super) comment_before: Option<String>,
    pub(super) comment: Option<String>,
    pub(super) is_dropped: bool,
    pub(super) options: Vec<(String, String)>,
    /// Columns whose bounds in older files are of another order than their new type.
    pub(super) reordered: BTreeSet<ColumnId>,
    pub(super) files: Vec<DataFile>,
    paths: BTreeSet<String>,
    /// Whether the table lies where the change set said, so that its files are there.
    is_where_promised: bool,
}

/// What `ducklake_table` says of a table that may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) schema: SchemaId,
    pub(super) name: String,
    /// `path` and `path_is_relative`, to the schema's.
    pub(super) stored_path: (String, bool),
}

/// A row of `ducklake_column`, before and after.
pub(super) struct ColumnState {
    /// The live row in the catalog; `None` for a new column.
    pub(super) before: Option<ColumnRow>,
    /// The row after the change set, or the last one of a dropped column.
    pub(super) row: ColumnRow,
    pub(super) is_live: bool,
    pub(super) comment_before: Option<String>,
    pub(super) comment: Option<String>,
}

impl ColumnState {
    pub(super) fn id(&self) -> ColumnId {
        self.row.id
    }

    pub(super) fn live(&self) -> Option<&ColumnRow> {
        self.is_live.then_some(&self.row)
    }
}

pub(super) fn invalid(object: impl Into<String>, detail: impl Into<String>) -> CatalogError {
    CatalogError::new(CatalogErrorKind::InvalidChange, object).with_detail(detail)
}

pub(super) fn check_name(name: &str, object: impl Fn() -> String) -> Result<(), CatalogError> {
    if name.is_empty() || name.contains('\0') {
        return Err(invalid(object(), "its name is empty or contains a NUL"));
    }
    Ok(())
}

impl<'a> TableState<'a> {
    pub(super) fn existing(locked: &'a LockedTable) -> Self {
        let table = &locked.table;
        let placement = Placement {
            schema: table.schema,
            name: table.name.clone(),
            stored_path: locked.stored_path.clone(),
        };
        Self {
            id: table.id,
            object: format!("table {}.{}", table.schema_name, table.name),
            locked: Some(locked),
            columns: locked
                .columns
                .iter()
                .map(|row| ColumnState {
                    before: Some(row.clone()),
                    row: row.clone(),
                    is_live: true,
                    comment_before: locked.column_comments.get(&row.id).cloned(),
                    comment: locked.column_comments.get(&row.id).cloned(),
                })
                .collect(),
            next_column_id: table.next_column_id.get(),
            uuid: table.uuid,
            placed_before: Some(placement.clone()),
            placement,
            directory: table.path.clone(),
            comment_before: locked.comment.clone(),
            comment: locked.comment.clone(),
            is_dropped: false,
            reordered: BTreeSet::new(),
            options: Vec::new(),
            files: Vec::new(),
            paths: BTreeSet::new(),
            is_where_promised: true,
        }
    }

    pub(super) fn created(
        id: TableId,
        schema: (SchemaId, &str, &str),
        def: &TableDef,
        is_where_promised: bool,
    ) -> Result<Self, CatalogError> {
        let (schema, schema_name, schema_path) = schema;
        let comment = def.tags.iter().find(|(key, _)| key == COMMENT);
        let mut state = Self {
            id,
            object: format!("table {schema_name}.{}", def.name),
            uuid: def.uuid(),
            placed_before: None,
            placement: Placement {
                schema,
                name: def.name.clone(),
                stored_path: (def.directory(), true),
            },
            directory: format!("{schema_path}{}", def.directory()),
            comment_before: None,
            comment: comment.map(|(_, value)| value.clone()),
            is_dropped: false,
            reordered: BTreeSet::new(),
            locked: None,
            columns: Vec::new(),
            next_column_id: FIRST_COLUMN_ID,
            options: Vec::new(),
            files: Vec::new(),
            paths: BTreeSet::new(),
            is_where_promised,
        };
        if def.columns.is_empty() {
            return Err(invalid(state.object, "a table needs a column"));
        }
        for column in &def.columns {
            state.add_column(column)?;
        }
        Ok(state)
    }

    pub(super) fn apply(&mut self, operation: &TableOperation) -> Result<(), CatalogError> {
        match operation {
            TableOperation::ExpectColumns(expected) => self.expect_columns(expected),
            TableOperation::ExpectNextColumnId(expected) => {
                if self.next_column_id == expected.get() {
                    return Ok(());
                }
                Err(self.changed(format!(
                    "the next column id is {}, not {expected}",
                    self.next_column_id
                )))
            }
            TableOperation::AddColumn(column) => self.add_column(column),
            TableOperation::DropColumn(column) => self.drop_column(*column),
            TableOperation::RenameColumn(column, name) => self.rename_column(*column, name),
            TableOperation::SetColumnType(column, ty) => self.set_column_type(*column, ty),
            TableOperation::SetNullable(column, nullable) => {
                self.top_level(*column)?.nullable = *nullable;
                Ok(())
            }
            TableOperation::SetOption(key, value) => {
                check_name(key, || format!("option of {}", self.object))?;
                self.options.push((key.clone(), value.clone()));
                Ok(())
            }
            TableOperation::Append(file) => self.append(file),
            TableOperation::SetColumnComment(column, comment) => {
                self.top_level(*column)?;
                self.check_comment(comment.as_deref())?;
                for state in &mut self.columns {
                    if state.is_live && state.row.id == *column {
                        state.comment.clone_from(comment);
                    }
                }
                Ok(())
            }
            TableOperation::SetComment(comment) => {
                self.check_comment(comment.as_deref())?;
                self.comment.clone_from(comment);
                Ok(())
            }
            TableOperation::AddField(parent, field) => self.add_field(*parent, field),
            TableOperation::RenameField(field, name) => self.rename_field(*field, name),
            TableOperation::DropField(field) => self.drop_field(*field),
            TableOperation::Drop => {
                self.is_dropped = true;
                Ok(())
            }
            // They are about names, which the planner knows.
            TableOperation::Rename(_) | TableOperation::Move(_) => Ok(()),
        }
    }

    fn check_comment(&self, comment: Option<&str>) -> Result<(), CatalogError> {
        if comment.is_some_and(|comment| comment.contains('\0')) {
            let object = format!("comment of {}", self.object);
            return Err(invalid(object, "it contains a NUL"));
        }
        Ok(())
    }

    pub(super) fn changed(&self, detail: impl Into<String>) -> CatalogError {
        CatalogError::new(CatalogErrorKind::TableChanged, self.object.clone()).with_detail(detail)
    }

    /// The live top-level columns as they are now.
    pub(super) fn tree(&self) -> Vec<Column> {
        let rows: Vec<ColumnRow> = self
            .columns
            .iter()
            .filter_map(|column| column.live().cloned())
            .collect();
        column_tree(&rows, None)
    }

    fn expect_columns(
        &self,
        expected: &[(ColumnId, String, LakeType)],
    ) -> Result<(), CatalogError> {
        let columns = self.tree();
        for (id, name, ty) in expected {
            match columns.iter().find(|column| column.id == *id) {
                Some(column) if column.name == *name && column.ty == *ty => {}
                Some(column) => {
                    return Err(self.changed(format!(
                        "column {id} is {} {}, not {name} {ty}",
                        column.name, column.ty
                    )));
                }
                None => return Err(self.changed(format!("column {id} ({name}) is gone"))),
            }
        }
        let unexpected = columns
            .iter()
            .find(|column| !expected.iter().any(|(id, ..)| *id == column.id));
        match unexpected {
            Some(column) => {
                Err(self.changed(format!("column {} ({}) is new", column.id, column.name)))
            }
            None => Ok(()),
        }
    }

    /// The row of a live top-level column.
    pub(super) fn top_level(&mut self, id: ColumnId) -> Result<&mut ColumnRow, CatalogError> {
        let object = &self.object;
        self.columns
            .iter_mut()
            .filter(|column| column.is_live)
            .map(|column| &mut column.row)
            .find(|row| row.id == id && row.parent.is_none())
            .ok_or_else(|| {
                CatalogError::new(CatalogErrorKind::TableChanged, object.clone())
                    .with_detail(format!("it has no top-level column {id}"))
            })
    }

    /// Whether a column below `parent` may have this name.
    pub(super) fn check_column_name(
        &self,
        name: &str,
        parent: Option<ColumnId>,
        except: Option<ColumnId>,
    ) -> Result<(), CatalogError> {
        check_name(name, || format!("column of {}", self.object))?;
        let is_taken = self
            .columns
            .iter()
            .filter_map(ColumnState::live)
            .filter(|row| row.parent == parent && Some(row.id) != except)
            .any(|row| row.name.eq_ignore_ascii_case(name));
        if is_taken {
            let object = format!("column {name} of {}", self.object);
            return Err(CatalogError::new(CatalogErrorKind::NameCollision, object));
        }
        Ok(())
    }

    fn add_column(&mut self, column: &ColumnDef) -> Result<(), CatalogError> {
        self.check_column_name(&column.name, None, None)?;
        self.check_comment(column.comment.as_deref())?;
        if let Some(reason) = column.ty.refusal() {
            return Err(invalid(
                format!("column {} of {}", column.name, self.object),
                reason,
            ));
        }
        self.add_rows(column, None);
        Ok(())
    }

    /// Adds the row of a column and those of its children.
    pub(super) fn add_rows(&mut self, column: &ColumnDef, parent: Option<ColumnId>) {
        let id = ColumnId::new(self.next_column_id);
        self.next_column_id += 1;
        let initial_default = column.initial_default();
        // "NULL" is DuckDB's own spelling of "no default"; the string needs an expression.
        let (default_value, default_value_type) = match initial_default {
            _ if column.ty.is_nested() => ("NULL", ""),
            None => ("NULL", "literal"),
            Some("NULL") => ("'NULL'", "expression"),
            Some(text) => (text, "literal"),
        };
        self.columns.push(ColumnState {
            before: None,
            is_live: true,
            comment_before: None,
            comment: column.comment.clone(),
            row: ColumnRow {
                id,
                order: id.get(),
                name: column.name.clone(),
                type_name: column.ty.catalog_name(),
                initial_default: initial_default.map(str::to_owned),
                default_value: Some(default_value.to_owned()),
                nullable: column.nullable,
                parent,
                default_value_type: Some(default_value_type.to_owned()),
                default_value_dialect: Some("duckdb".to_owned()),
            },
        });
        for child in column.ty.children() {
            let child = ColumnDef::new(child.name, child.ty.clone());
            self.add_rows(&child, Some(id));
        }
    }

    fn drop_column(&mut self, id: ColumnId) -> Result<(), CatalogError> {
        self.top_level(id)?;
        let partitioned_by = self.locked.map(|locked| locked.partitioned_by.as_slice());
        if partitioned_by
            .unwrap_or_default()
            .iter()
            .any(|(column, _)| *column == id)
        {
            return Err(invalid(
                format!("column {id} of {}", self.object),
                "the table is partitioned by it",
            ));
        }
        self.drop_rows(id);
        if !self.columns.iter().any(|column| column.is_live) {
            return Err(invalid(self.object.clone(), "a table needs a column"));
        }
        Ok(())
    }

    /// Drops a column and everything below it.
    pub(super) fn drop_rows(&mut self, id: ColumnId) {
        // Children have greater ids than their parents, but may lie anywhere among the rows.
        let mut dropped = BTreeSet::from([id]);
        loop {
            let before = dropped.len();
            for column in &self.columns {
                let Some(row) = column.live() else { continue };
                if row.parent.is_some_and(|parent| dropped.contains(&parent)) {
                    dropped.insert(row.id);
                }
            }
            if dropped.len() == before {
                break;
            }
        }
        for column in &mut self.columns {
            column.is_live &= !dropped.contains(&column.row.id);
        }
    }

    fn rename_column(&mut self, id: ColumnId, name: &str) -> Result<(), CatalogError> {
        self.top_level(id)?;
        self.check_column_name(name, None, Some(id))?;
        name.clone_into(&mut self.top_level(id)?.name);
        Ok(())
    }

    fn append(&mut self, file: &DataFile) -> Result<(), CatalogError> {
        let object = || format!("file {} of {}", file.path, self.object);
        if !is_clean_relative_path(&file.path) {
            return Err(invalid(object(), "its path is not a clean relative path"));
        }
        if !self.is_where_promised {
            return Err(self.changed("its schema exists already, with another directory"));
        }
        // Readers look up files of a bucket partition by a value that we do not compute.
        let buckets = self.locked.and_then(|locked| {
            locked
                .partitioned_by
                .iter()
                .find(|(_, transform)| transform.starts_with("bucket"))
        });
        if let Some((_, transform)) = buckets {
            return Err(self.changed(format!("it is partitioned by {transform}")));
        }
        if !self.paths.insert(file.path.clone()) {
            return Err(invalid(object(), "it is appended twice"));
        }
        self.files.push(file.clone());
        Ok(())
    }
}

/// The key of the only tag that columns may have, and of what `COMMENT ON TABLE` sets.
pub(super) const COMMENT: &str = "comment";
