//! The live objects of a lake at one snapshot.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::table_def::ColumnIds;
use crate::{ColumnId, LakeType, SchemaId, Snapshot, TableId, ViewId};

/// The schemas, tables and views that are live at [`head`](Self::head).
#[derive(Debug, Clone)]
pub struct Lake {
    pub(crate) head: Snapshot,
    pub(crate) schemas: Vec<Schema>,
    pub(crate) tables: BTreeMap<TableId, Table>,
    pub(crate) views: Vec<View>,
}

impl Lake {
    /// The snapshot at which the lake was read.
    pub fn head(&self) -> &Snapshot {
        &self.head
    }

    /// All schemas.
    pub fn schemas(&self) -> &[Schema] {
        &self.schemas
    }

    /// All tables, by id.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// All views.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// The table of that id.
    pub fn table(&self, id: TableId) -> Option<&Table> {
        self.tables.get(&id)
    }

    /// The schema of that name, compared without case.
    pub fn find_schema(&self, name: &str) -> Option<&Schema> {
        self.schemas
            .iter()
            .find(|schema| schema.name.eq_ignore_ascii_case(name))
    }

    /// The table of that name, compared without case.
    pub fn find_table(&self, schema: &str, name: &str) -> Option<&Table> {
        let schema = self.find_schema(schema)?.id;
        self.tables
            .values()
            .find(|table| table.schema == schema && table.name.eq_ignore_ascii_case(name))
    }

    /// The view of that name, compared without case.
    pub fn find_view(&self, schema: &str, name: &str) -> Option<&View> {
        let schema = self.find_schema(schema)?.id;
        self.views
            .iter()
            .find(|view| view.schema == schema && view.name.eq_ignore_ascii_case(name))
    }
}

/// A schema of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schema {
    /// Its id.
    pub id: SchemaId,
    /// Its name.
    pub name: String,
    /// Its directory, with a trailing slash: relative to the data path, or absolute.
    pub path: String,
}

/// A table of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Table {
    /// Its id.
    pub id: TableId,
    /// Its uuid.
    pub uuid: Uuid,
    /// The schema it is in.
    pub schema: SchemaId,
    /// The name of that schema.
    pub schema_name: String,
    /// Its name.
    pub name: String,
    /// Its directory, with a trailing slash: relative to the data path, or absolute when it lies
    /// elsewhere.
    pub path: String,
    /// Its top-level columns, in order.
    pub columns: Vec<Column>,
    /// The id that the next new column gets.
    pub next_column_id: ColumnId,
}

impl Table {
    /// The top-level column of that name, compared without case.
    pub fn find_column(&self, name: &str) -> Option<&Column> {
        self.columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The top-level column of that id.
    pub fn column(&self, id: ColumnId) -> Option<&Column> {
        self.columns.iter().find(|column| column.id == id)
    }
}

/// A column of a table, or a child of a nested column.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Column {
    /// Its id, which is its Parquet field id.
    pub id: ColumnId,
    /// Its name; `element`, `key` and `value` for children of lists and maps.
    pub name: String,
    /// Its type, with that of its children.
    pub ty: LakeType,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// Its children.
    pub children: Vec<Column>,
}

impl Column {
    /// The ids of the column and its children.
    pub fn ids(&self) -> ColumnIds {
        ColumnIds {
            id: self.id,
            children: self.children.iter().map(Self::ids).collect(),
        }
    }

    /// The leaves below the column, or the column itself: those that have statistics.
    pub fn leaves(&self) -> Vec<&Column> {
        if self.children.is_empty() {
            return vec![self];
        }
        self.children.iter().flat_map(Self::leaves).collect()
    }
}

/// A view of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct View {
    /// Its id.
    pub id: ViewId,
    /// The schema it is in.
    pub schema: SchemaId,
    /// Its name.
    pub name: String,
    /// Its SELECT.
    pub sql: String,
    /// The names of its columns as stored: empty, or a quoted list.
    pub column_aliases: String,
    /// Its comment.
    pub comment: Option<String>,
}
