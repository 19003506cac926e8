//! One table while a change set is applied to it.

use std::collections::BTreeSet;

use super::locked::LockedTable;
use super::plan::{InlinedTable, Plan};
use crate::change_set::TableOperation;
use crate::changes_made::Change;
use crate::layout::is_clean_relative_path;
use crate::read::{ColumnRow, column_tree};
use crate::table_def::FIRST_COLUMN_ID;
use crate::{
    CatalogError, CatalogErrorKind, Column, ColumnDef, ColumnId, DataFile, LakeType, TableDef,
    TableId,
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
    options: Vec<(String, String)>,
    pub(super) files: Vec<DataFile>,
    paths: BTreeSet<String>,
    /// Whether the table lies where the change set said, so that its files are there.
    is_where_promised: bool,
}

/// A row of `ducklake_column`, before and after.
pub(super) struct ColumnState {
    /// The live row in the catalog; `None` for a new column.
    before: Option<ColumnRow>,
    /// The row after the change set, or the last one of a dropped column.
    row: ColumnRow,
    pub(super) is_live: bool,
}

impl ColumnState {
    pub(super) fn id(&self) -> ColumnId {
        self.row.id
    }

    fn live(&self) -> Option<&ColumnRow> {
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
                })
                .collect(),
            next_column_id: table.next_column_id.get(),
            options: Vec::new(),
            files: Vec::new(),
            paths: BTreeSet::new(),
            is_where_promised: true,
        }
    }

    pub(super) fn created(
        id: TableId,
        schema: &str,
        def: &TableDef,
        is_where_promised: bool,
    ) -> Result<Self, CatalogError> {
        let mut state = Self {
            id,
            object: format!("table {schema}.{}", def.name),
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
        }
    }

    fn changed(&self, detail: impl Into<String>) -> CatalogError {
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
    fn top_level(&mut self, id: ColumnId) -> Result<&mut ColumnRow, CatalogError> {
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

    fn check_column_name(&self, name: &str, except: Option<ColumnId>) -> Result<(), CatalogError> {
        check_name(name, || format!("column of {}", self.object))?;
        let is_taken = self
            .columns
            .iter()
            .filter_map(ColumnState::live)
            .filter(|row| row.parent.is_none() && Some(row.id) != except)
            .any(|row| row.name.eq_ignore_ascii_case(name));
        if is_taken {
            let object = format!("column {name} of {}", self.object);
            return Err(CatalogError::new(CatalogErrorKind::NameCollision, object));
        }
        Ok(())
    }

    fn add_column(&mut self, column: &ColumnDef) -> Result<(), CatalogError> {
        self.check_column_name(&column.name, None)?;
        if let Some(reason) = column.ty.refusal() {
            return Err(invalid(
                format!("column {} of {}", column.name, self.object),
                reason,
            ));
        }
        self.add_rows(&column.name, &column.ty, column.nullable, None);
        Ok(())
    }

    fn add_rows(&mut self, name: &str, ty: &LakeType, nullable: bool, parent: Option<ColumnId>) {
        let id = ColumnId::new(self.next_column_id);
        self.next_column_id += 1;
        // DuckDB's own spelling of "no default".
        let default_value_type = if ty.is_nested() { "" } else { "literal" };
        self.columns.push(ColumnState {
            before: None,
            is_live: true,
            row: ColumnRow {
                id,
                order: id.get(),
                name: name.to_owned(),
                type_name: ty.catalog_name(),
                initial_default: None,
                default_value: Some("NULL".to_owned()),
                nullable,
                parent,
                default_value_type: Some(default_value_type.to_owned()),
                default_value_dialect: Some("duckdb".to_owned()),
            },
        });
        for child in ty.children() {
            self.add_rows(child.name, child.ty, true, Some(id));
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
        if !self.columns.iter().any(|column| column.is_live) {
            return Err(invalid(self.object.clone(), "a table needs a column"));
        }
        Ok(())
    }

    fn rename_column(&mut self, id: ColumnId, name: &str) -> Result<(), CatalogError> {
        self.top_level(id)?;
        self.check_column_name(name, Some(id))?;
        name.clone_into(&mut self.top_level(id)?.name);
        Ok(())
    }

    fn set_column_type(&mut self, id: ColumnId, ty: &LakeType) -> Result<(), CatalogError> {
        let current = self
            .tree()
            .into_iter()
            .find(|column| column.id == id)
            .map(|column| column.ty);
        let row_of_column = self.top_level(id)?;
        let Some(current) = current.filter(|current| current.widens_to(ty)) else {
            let from = row_of_column.type_name.clone();
            return Err(invalid(
                format!("column {id} of {}", self.object),
                format!("type {from} cannot become {ty}"),
            ));
        };
        if let Some(reason) = ty.refusal() {
            return Err(invalid(format!("column {id} of {}", self.object), reason));
        }
        // Nested types widen to themselves only, so there are no child rows to change.
        if current != *ty {
            row_of_column.type_name = ty.catalog_name();
        }
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

    /// Adds the rows for this table to the plan.
    pub(super) fn finish(
        self,
        plan: &mut Plan,
        words: &mut Vec<Change>,
    ) -> Result<(), CatalogError> {
        let is_new = self.locked.is_none();
        let mut is_restructured = is_new;
        for ColumnState {
            before,
            row,
            is_live,
        } in &self.columns
        {
            match before {
                Some(before) if !is_live => {
                    plan.ended_columns.push((self.id, before.id));
                    plan.dropped_columns.push((self.id, before.id));
                }
                Some(before) if before != row => {
                    plan.ended_columns.push((self.id, before.id));
                    plan.columns.push((self.id, row.clone()));
                }
                None if *is_live => plan.columns.push((self.id, row.clone())),
                // Its id may be in the files, and must not come to mean another column.
                None if !self.files.is_empty() => plan.stillborn.push((self.id, row.clone())),
                Some(_) | None => continue,
            }
            is_restructured = true;
        }
        if is_restructured {
            plan.restructured.push(self.id);
            if !is_new {
                words.push(Change::AlteredTable(self.id));
            }
        }
        if is_restructured && self.locked.is_some_and(|locked| locked.is_inlined) {
            plan.inlined_tables.extend(self.inlined_table());
        }
        for (key, value) in &self.options {
            plan.options.insert((self.id, key.clone()), value.clone());
        }
        if !self.files.is_empty() {
            words.push(Change::InsertedIntoTable(self.id));
        }
        self.finish_files(plan)
    }

    /// The table for DuckDB's small inserts that the new columns need, if they can be inlined.
    fn inlined_table(&self) -> Option<InlinedTable> {
        const RESERVED: [&str; 5] = [
            "row_id",
            "begin_snapshot",
            "end_snapshot",
            "_ducklake_internal_row_id",
            "_ducklake_internal_snapshot_id",
        ];
        let columns = self
            .tree()
            .into_iter()
            .map(|column| {
                let is_reserved = RESERVED
                    .iter()
                    .any(|reserved| column.name.eq_ignore_ascii_case(reserved));
                if is_reserved || column.name.len() > MAX_IDENTIFIER_BYTES {
                    return None;
                }
                Some((column.name, column.ty.inlined_type()?))
            })
            .collect::<Option<_>>()?;
        Some(InlinedTable {
            table: self.id,
            columns,
        })
    }
}

/// Postgres cuts longer identifiers off.
const MAX_IDENTIFIER_BYTES: usize = 63;
