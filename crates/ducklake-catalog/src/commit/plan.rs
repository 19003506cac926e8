//! From a change set and the locked part of the lake to the rows to be written: a pure function.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::locked::{Locked, TableStats};
use super::table::{TableState, check_name, invalid};
use crate::change_set::{NewSchema, Operation, TableOperation};
use crate::changes_made::{Change, changes_made};
use crate::read::ColumnRow;
use crate::stats::ColumnStatsRow;
use crate::{
    CatalogError, CatalogErrorKind, ChangeSet, ColumnId, CommittedSnapshot, DataFileId, SchemaId,
    SchemaRef, SchemaSelector, SnapshotId, TableId, TableRef, ViewDef, ViewId,
};

/// Every row that a commit writes.
pub(super) struct Plan {
    pub(super) committed: CommittedSnapshot,
    pub(super) next_catalog_id: i64,
    pub(super) next_file_id: i64,
    pub(super) changes_made: String,
    pub(super) schemas: Vec<SchemaRow>,
    pub(super) tables: Vec<TableRow>,
    /// Tables whose live row ends, with another one in its place.
    pub(super) ended_tables: Vec<TableId>,
    /// Tables of which everything live ends, also what this plan begins.
    pub(super) dropped_tables: Vec<TableId>,
    pub(super) tags: Vec<TagRow>,
    /// Tables whose live comment ends.
    pub(super) ended_comments: Vec<TableId>,
    pub(super) ended_views: Vec<ViewId>,
    pub(super) views: Vec<ViewRow>,
    /// Columns whose live row ends: replaced, or dropped.
    pub(super) ended_columns: Vec<(TableId, ColumnId)>,
    /// Columns that are gone, whose tags end too.
    pub(super) dropped_columns: Vec<(TableId, ColumnId)>,
    /// Columns whose live comment ends.
    pub(super) ended_column_tags: Vec<(TableId, ColumnId)>,
    pub(super) column_tags: Vec<ColumnTagRow>,
    /// Columns whose bounds in the files that are there mean nothing any more.
    pub(super) erased_bounds: Vec<(TableId, ColumnId)>,
    pub(super) columns: Vec<(TableId, ColumnRow)>,
    /// Columns that were added and dropped again: their rows end where they begin.
    pub(super) stillborn: Vec<(TableId, ColumnRow)>,
    /// Tables with new columns or new forms of them: they get a row in `ducklake_schema_versions`.
    pub(super) restructured: Vec<TableId>,
    pub(super) options: BTreeMap<(TableId, String), String>,
    pub(super) files: Vec<FileRow>,
    pub(super) file_stats: Vec<FileStatsRow>,
    pub(super) new_table_stats: Vec<(TableId, TableStats)>,
    pub(super) changed_table_stats: Vec<(TableId, TableStats)>,
    pub(super) new_column_stats: Vec<(TableId, ColumnId, ColumnStatsRow)>,
    pub(super) changed_column_stats: Vec<(TableId, ColumnId, ColumnStatsRow)>,
    pub(super) deleted_column_stats: Vec<(TableId, ColumnId)>,
    pub(super) inlined_tables: Vec<InlinedTable>,
}

pub(super) struct SchemaRow {
    pub(super) id: SchemaId,
    pub(super) uuid: Uuid,
    pub(super) name: String,
    pub(super) path: String,
}

pub(super) struct TableRow {
    pub(super) id: TableId,
    pub(super) uuid: Uuid,
    pub(super) schema: SchemaId,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) path_is_relative: bool,
}

pub(super) struct TagRow {
    pub(super) object: i64,
    pub(super) key: String,
    /// `None` as DuckDB writes it: a comment that was removed.
    pub(super) value: Option<String>,
}

pub(super) struct ColumnTagRow {
    pub(super) table: TableId,
    pub(super) column: ColumnId,
    pub(super) comment: Option<String>,
}

pub(super) struct ViewRow {
    pub(super) id: ViewId,
    pub(super) schema: SchemaId,
    pub(super) name: String,
    pub(super) sql: String,
    pub(super) column_aliases: String,
    comment: Option<String>,
}

pub(super) struct FileRow {
    pub(super) id: DataFileId,
    pub(super) table: TableId,
    pub(super) path: String,
    pub(super) record_count: i64,
    pub(super) file_size_bytes: i64,
    pub(super) footer_size: i64,
    pub(super) row_id_start: i64,
}

pub(super) struct FileStatsRow {
    pub(super) file: DataFileId,
    pub(super) table: TableId,
    pub(super) column: ColumnId,
    pub(super) column_size_bytes: i64,
    pub(super) value_count: i64,
    pub(super) null_count: i64,
    pub(super) min: Option<String>,
    pub(super) max: Option<String>,
    pub(super) contains_nan: Option<bool>,
}

/// A table in which DuckDB keeps small inserts: a table's new shape needs a new one.
pub(super) struct InlinedTable {
    pub(super) table: TableId,
    /// Names and Postgres types of the columns, in order.
    pub(super) columns: Vec<(String, String)>,
}

/// Checks the change set against the lake and works out all rows.
pub(super) fn plan(locked: &Locked, changes: &ChangeSet) -> Result<Plan, CatalogError> {
    if changes.is_empty() {
        return Err(invalid("the change set", "it is empty"));
    }
    let mut planner = Planner::new(locked);
    for operation in &changes.operations {
        planner.apply(operation)?;
    }
    planner.finish()
}

pub(super) struct Planner<'a> {
    pub(super) locked: &'a Locked,
    next_catalog_id: i64,
    schemas: Vec<SchemaState>,
    /// What [`SchemaRef::New`] stands for: the schema, and the path that the change set promised.
    new_schemas: Vec<(SchemaId, String)>,
    pub(super) tables: BTreeMap<TableId, TableState<'a>>,
    /// Schema and name of every live table, as they are now.
    pub(super) table_names: BTreeMap<TableId, (SchemaId, String)>,
    /// What [`TableRef::New`] stands for.
    pub(super) new_tables: Vec<TableId>,
    pub(super) tags: Vec<TagRow>,
    views: Vec<ViewState>,
    ended_views: Vec<ViewId>,
}

pub(super) struct SchemaState {
    pub(super) id: SchemaId,
    pub(super) name: String,
    pub(super) path: String,
    created: Option<Uuid>,
}

struct ViewState {
    row: ViewRow,
    is_new: bool,
}

impl<'a> Planner<'a> {
    fn new(locked: &'a Locked) -> Self {
        Self {
            locked,
            next_catalog_id: locked.head.next_catalog_id,
            schemas: locked
                .schemas
                .iter()
                .map(|schema| SchemaState {
                    id: schema.id,
                    name: schema.name.clone(),
                    path: schema.path.clone(),
                    created: None,
                })
                .collect(),
            new_schemas: Vec::new(),
            tables: locked
                .tables
                .iter()
                .map(|(id, table)| (*id, TableState::existing(table)))
                .collect(),
            table_names: locked
                .table_names
                .iter()
                .map(|(id, schema, name)| (*id, (*schema, name.clone())))
                .collect(),
            new_tables: Vec::new(),
            tags: Vec::new(),
            views: locked
                .views
                .iter()
                .map(|view| ViewState {
                    row: ViewRow {
                        id: view.id,
                        schema: view.schema,
                        name: view.name.clone(),
                        sql: view.sql.clone(),
                        column_aliases: view.column_aliases.clone(),
                        comment: view.comment.clone(),
                    },
                    is_new: false,
                })
                .collect(),
            ended_views: Vec::new(),
        }
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), CatalogError> {
        match operation {
            Operation::Schema(schema) => self.schema(schema),
            Operation::CreateTable { schema, def } => self.create_table(schema, def),
            Operation::ReplaceView { schema, def } => self.replace_view(schema, def),
            Operation::DropView { schema, name } => self.drop_view(schema, name),
            Operation::Table { table, operation } => {
                let id = self.table_id(*table)?;
                let state = self.tables.get_mut(&id).filter(|state| !state.is_dropped);
                state
                    .ok_or_else(|| {
                        CatalogError::new(CatalogErrorKind::TableChanged, format!("table {id}"))
                            .with_detail("it is not in the lake any more")
                    })?
                    .apply(operation)?;
                match operation {
                    TableOperation::Rename(name) => self.rename_table(id, name),
                    TableOperation::Move(schema) => self.move_table(id, schema),
                    TableOperation::Drop => {
                        self.table_names.remove(&id);
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    pub(super) fn allocate_catalog_id(&mut self) -> i64 {
        let id = self.next_catalog_id;
        self.next_catalog_id += 1;
        id
    }

    fn table_id(&self, table: TableRef) -> Result<TableId, CatalogError> {
        match table {
            TableRef::Existing(id) => Ok(id),
            TableRef::New(number) => self.new_tables.get(number).copied().ok_or_else(|| {
                invalid(
                    format!("new table {number}"),
                    "the change set has not created it",
                )
            }),
        }
    }

    fn schema(&mut self, new: &NewSchema) -> Result<(), CatalogError> {
        let object = || format!("schema {}", new.name);
        check_name(&new.name, object)?;
        let directory = new.directory();
        if let Some(found) = self.find_schema(&new.name) {
            if !new.or_existing {
                return Err(CatalogError::new(CatalogErrorKind::NameCollision, object()));
            }
            let id = found.id;
            self.new_schemas.push((id, directory));
            return Ok(());
        }
        let id = SchemaId::new(self.allocate_catalog_id());
        self.schemas.push(SchemaState {
            id,
            name: new.name.clone(),
            path: directory.clone(),
            created: Some(new.uuid),
        });
        self.new_schemas.push((id, directory));
        Ok(())
    }

    fn find_schema(&self, name: &str) -> Option<&SchemaState> {
        self.schemas
            .iter()
            .find(|schema| schema.name.eq_ignore_ascii_case(name))
    }

    /// The schema, and whether its files are where the change set said they would be.
    pub(super) fn resolve(
        &self,
        selector: &SchemaSelector,
    ) -> Result<(&SchemaState, bool), CatalogError> {
        let gone = |object: String| {
            CatalogError::new(CatalogErrorKind::SchemaChanged, object)
                .with_detail("it is not in the lake")
        };
        match selector {
            SchemaSelector::Named(name) => self
                .find_schema(name)
                .map(|schema| (schema, true))
                .ok_or_else(|| gone(format!("schema {name}"))),
            SchemaSelector::Ref(SchemaRef::Existing(id)) => self
                .schemas
                .iter()
                .find(|schema| schema.id == *id)
                .map(|schema| (schema, true))
                .ok_or_else(|| gone(format!("schema {id}"))),
            SchemaSelector::Ref(SchemaRef::New(number)) => {
                let object = || format!("new schema {number}");
                let (id, path) = self
                    .new_schemas
                    .get(*number)
                    .ok_or_else(|| invalid(object(), "the change set has not created it"))?;
                self.schemas
                    .iter()
                    .find(|schema| schema.id == *id)
                    .map(|schema| (schema, schema.path == *path))
                    .ok_or_else(|| gone(object()))
            }
        }
    }

    pub(super) fn find_view(&self, schema: SchemaId, name: &str) -> Option<usize> {
        self.views
            .iter()
            .position(|view| view.row.schema == schema && view.row.name.eq_ignore_ascii_case(name))
    }

    fn replace_view(
        &mut self,
        selector: &SchemaSelector,
        def: &ViewDef,
    ) -> Result<(), CatalogError> {
        let (schema, _) = self.resolve(selector)?;
        let (schema, schema_name) = (schema.id, schema.name.clone());
        let object = || format!("view {schema_name}.{}", def.name);
        check_name(&def.name, object)?;
        if self.has_table(schema, &def.name, None) {
            return Err(CatalogError::new(CatalogErrorKind::NameCollision, object()));
        }
        let row = ViewRow {
            id: ViewId::new(self.next_catalog_id),
            schema,
            name: def.name.clone(),
            sql: def.sql.clone(),
            column_aliases: def.aliases_text(),
            comment: def.comment.clone(),
        };
        if let Some(index) = self.find_view(schema, &def.name) {
            // A change of views makes every reader load the whole catalog again.
            if self
                .views
                .get(index)
                .is_some_and(|view| view.row.says_the_same(&row))
            {
                return Ok(());
            }
            self.end_view(index);
        }
        self.allocate_catalog_id();
        self.views.push(ViewState { row, is_new: true });
        Ok(())
    }

    fn drop_view(&mut self, selector: &SchemaSelector, name: &str) -> Result<(), CatalogError> {
        let (schema, _) = self.resolve(selector)?;
        if let Some(index) = self.find_view(schema.id, name) {
            self.end_view(index);
        }
        Ok(())
    }

    fn end_view(&mut self, index: usize) {
        let view = self.views.remove(index);
        if !view.is_new {
            self.ended_views.push(view.row.id);
        }
    }

    fn finish(self) -> Result<Plan, CatalogError> {
        let head = &self.locked.head;
        let mut plan = Plan {
            committed: CommittedSnapshot {
                id: SnapshotId::new(head.id.get() + 1),
                schema_version: head.schema_version,
                schemas: self.new_schemas.iter().map(|(id, _)| *id).collect(),
                tables: self.new_tables,
                file_deletion_grace: self.locked.file_deletion_grace,
            },
            next_catalog_id: self.next_catalog_id,
            next_file_id: head.next_file_id,
            changes_made: String::new(),
            schemas: Vec::new(),
            tables: Vec::new(),
            ended_tables: Vec::new(),
            dropped_tables: Vec::new(),
            tags: self.tags,
            ended_comments: Vec::new(),
            ended_views: self.ended_views,
            views: Vec::new(),
            ended_columns: Vec::new(),
            dropped_columns: Vec::new(),
            ended_column_tags: Vec::new(),
            column_tags: Vec::new(),
            erased_bounds: Vec::new(),
            columns: Vec::new(),
            stillborn: Vec::new(),
            restructured: Vec::new(),
            options: BTreeMap::new(),
            files: Vec::new(),
            file_stats: Vec::new(),
            new_table_stats: Vec::new(),
            changed_table_stats: Vec::new(),
            new_column_stats: Vec::new(),
            changed_column_stats: Vec::new(),
            deleted_column_stats: Vec::new(),
            inlined_tables: Vec::new(),
        };
        let mut words: Vec<Change> = plan
            .ended_views
            .iter()
            .copied()
            .map(Change::DroppedView)
            .collect();
        let schema_name = |id: SchemaId| {
            self.schemas
                .iter()
                .find(|schema| schema.id == id)
                .map(|schema| schema.name.clone())
                .unwrap_or_default()
        };
        for table in self.tables.into_values() {
            let schema = schema_name(table.placement.schema);
            table.finish(&mut plan, &mut words, &schema)?;
        }
        for view in self.views.into_iter().filter(|view| view.is_new) {
            words.push(Change::CreatedView {
                schema: schema_name(view.row.schema),
                view: view.row.name.clone(),
            });
            if let Some(comment) = &view.row.comment {
                words.push(Change::AlteredView(view.row.id));
                plan.tags.push(TagRow {
                    object: view.row.id.get(),
                    key: "comment".to_owned(),
                    value: Some(comment.clone()),
                });
            }
            plan.views.push(view.row);
        }
        for schema in self.schemas {
            if let Some(uuid) = schema.created {
                words.push(Change::CreatedSchema(schema.name.clone()));
                plan.schemas.push(SchemaRow {
                    id: schema.id,
                    uuid,
                    name: schema.name,
                    path: schema.path,
                });
            }
        }
        let changes_definitions = words
            .iter()
            .any(|word| !matches!(word, Change::InsertedIntoTable(_)));
        if changes_definitions {
            plan.committed.schema_version += 1;
        }
        // Readers cache statistics by next_file_id: it must move even when no file comes.
        if plan.next_file_id == head.next_file_id {
            plan.next_file_id += 1;
        }
        plan.changes_made = changes_made(words);
        Ok(plan)
    }
}

impl ViewRow {
    fn says_the_same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.sql == other.sql
            && self.column_aliases == other.column_aliases
            && self.comment == other.comment
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
