//! What a commit is to change, as a value: nothing touches the catalog until it is committed.

use uuid::Uuid;

use crate::layout::object_directory;
use crate::{ColumnDef, ColumnId, DataFile, LakeType, SchemaId, TableDef, TableId, ViewDef};

/// A schema of the lake, or one that the same change set creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaRef {
    /// A schema that is in the lake.
    Existing(SchemaId),
    /// The schema of this number in the change set that returned the reference.
    New(usize),
}

/// A schema, by reference or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaSelector {
    /// By reference.
    Ref(SchemaRef),
    /// By name, compared without case: of the lake, or created earlier in the change set.
    Named(String),
}

impl From<SchemaRef> for SchemaSelector {
    fn from(schema: SchemaRef) -> Self {
        Self::Ref(schema)
    }
}

impl From<SchemaId> for SchemaSelector {
    fn from(schema: SchemaId) -> Self {
        Self::Ref(SchemaRef::Existing(schema))
    }
}

impl From<&str> for SchemaSelector {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

impl From<String> for SchemaSelector {
    fn from(name: String) -> Self {
        Self::Named(name)
    }
}

/// A table of the lake, or one that the same change set creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableRef {
    /// A table that is in the lake.
    Existing(TableId),
    /// The table of this number in the change set that returned the reference;
    /// [`CommittedSnapshot::tables`](crate::CommittedSnapshot::tables) has its id after the commit.
    New(usize),
}

impl From<TableId> for TableRef {
    fn from(table: TableId) -> Self {
        Self::Existing(table)
    }
}

/// The changes of one snapshot, applied in the order in which they were added.
///
/// Expectations ([`expect_columns`](Self::expect_columns) and the ones that each change implies: the
/// table is live, the column exists, the name is free) are checked under the lock of the commit.
#[derive(Debug, Clone, Default)]
pub struct ChangeSet {
    pub(crate) author: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) extra_info: Option<String>,
    pub(crate) operations: Vec<Operation>,
    schemas: usize,
    tables: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Schema(NewSchema),
    CreateTable {
        schema: SchemaSelector,
        def: TableDef,
    },
    ReplaceView {
        schema: SchemaSelector,
        def: ViewDef,
    },
    DropView {
        schema: SchemaSelector,
        name: String,
    },
    Table {
        table: TableRef,
        operation: TableOperation,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct NewSchema {
    pub(crate) name: String,
    pub(crate) uuid: Uuid,
    pub(crate) or_existing: bool,
}

impl NewSchema {
    pub(crate) fn directory(&self) -> String {
        object_directory(&self.name, self.uuid)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum TableOperation {
    ExpectColumns(Vec<(ColumnId, String, LakeType)>),
    ExpectNextColumnId(ColumnId),
    AddColumn(ColumnDef),
    DropColumn(ColumnId),
    RenameColumn(ColumnId, String),
    SetColumnType(ColumnId, LakeType),
    SetNullable(ColumnId, bool),
    SetOption(String, String),
    Append(DataFile),
    SetColumnComment(ColumnId, Option<String>),
    SetComment(Option<String>),
    AddField(ColumnId, ColumnDef),
    RenameField(ColumnId, String),
    DropField(ColumnId),
    Rename(String),
    Move(SchemaSelector),
    Drop,
}

impl ChangeSet {
    /// An empty change set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names who makes the snapshot.
    #[must_use]
    pub fn with_author(mut self, author: impl Into<String>) -> Self {
        self.author = Some(author.into());
        self
    }

    /// Sets the snapshot's commit message.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Sets the snapshot's extra information, any text.
    #[must_use]
    pub fn with_extra_info(mut self, extra_info: impl Into<String>) -> Self {
        self.extra_info = Some(extra_info.into());
        self
    }

    /// Whether nothing was added. An empty change set cannot be committed.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Creates a schema; the commit fails when there is one of that name.
    pub fn create_schema(&mut self, name: impl Into<String>) -> SchemaRef {
        self.schema(name.into(), false)
    }

    /// Uses the schema of that name, and creates it when there is none.
    pub fn ensure_schema(&mut self, name: impl Into<String>) -> SchemaRef {
        self.schema(name.into(), true)
    }

    fn schema(&mut self, name: String, or_existing: bool) -> SchemaRef {
        self.operations.push(Operation::Schema(NewSchema {
            name,
            uuid: Uuid::now_v7(),
            or_existing,
        }));
        let number = self.schemas;
        self.schemas += 1;
        SchemaRef::New(number)
    }

    /// The directory, relative to the data path and with a trailing slash, of a schema that this
    /// change set creates; `None` for one of the lake, whose [`path`](crate::Schema::path) says it.
    ///
    /// An ensured schema that turns out to exist may lie elsewhere. A commit that appends files to a
    /// table in it then fails with
    /// [`CatalogErrorKind::TableChanged`](crate::CatalogErrorKind::TableChanged).
    pub fn schema_path(&self, schema: SchemaRef) -> Option<String> {
        let SchemaRef::New(number) = schema else {
            return None;
        };
        self.operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::Schema(schema) => Some(schema.directory()),
                _ => None,
            })
            .nth(number)
    }

    /// Creates a table; the commit fails when its name is taken by a table or view.
    pub fn create_table(&mut self, schema: impl Into<SchemaSelector>, def: TableDef) -> TableRef {
        self.operations.push(Operation::CreateTable {
            schema: schema.into(),
            def,
        });
        let number = self.tables;
        self.tables += 1;
        TableRef::New(number)
    }

    /// Creates a view, or replaces the view of that name; the commit fails when a table has it.
    /// A view that is exactly so already is left alone.
    pub fn create_or_replace_view(&mut self, schema: impl Into<SchemaSelector>, def: ViewDef) {
        self.operations.push(Operation::ReplaceView {
            schema: schema.into(),
            def,
        });
    }

    /// Drops the view of that name, if there is one.
    pub fn drop_view(&mut self, schema: impl Into<SchemaSelector>, name: impl Into<String>) {
        self.operations.push(Operation::DropView {
            schema: schema.into(),
            name: name.into(),
        });
    }

    /// Expects the table's live top-level columns, at this point of the change set, to be exactly
    /// these, in any order. Otherwise the commit fails with
    /// [`CatalogErrorKind::TableChanged`](crate::CatalogErrorKind::TableChanged).
    pub fn expect_columns(
        &mut self,
        table: impl Into<TableRef>,
        columns: Vec<(ColumnId, String, LakeType)>,
    ) {
        self.table(table, TableOperation::ExpectColumns(columns));
    }

    /// Expects the next column added to the table to get this id, so that files written with it as
    /// a field id can be appended in the same change set. See
    /// [`Table::next_column_id`](crate::Table::next_column_id).
    pub fn expect_next_column_id(&mut self, table: impl Into<TableRef>, id: ColumnId) {
        self.table(table, TableOperation::ExpectNextColumnId(id));
    }

    /// Adds a column: in all rows there are it has its
    /// [initial default](ColumnDef::with_initial_default), else NULL. Its id is the table's next, then
    /// its children's, depth first.
    pub fn add_column(&mut self, table: impl Into<TableRef>, column: ColumnDef) {
        self.table(table, TableOperation::AddColumn(column));
    }

    /// Drops a top-level column; snapshots before keep it.
    pub fn drop_column(&mut self, table: impl Into<TableRef>, column: ColumnId) {
        self.table(table, TableOperation::DropColumn(column));
    }

    /// Renames a top-level column.
    pub fn rename_column(
        &mut self,
        table: impl Into<TableRef>,
        column: ColumnId,
        name: impl Into<String>,
    ) {
        self.table(table, TableOperation::RenameColumn(column, name.into()));
    }

    /// Changes the type of a top-level column to one it [widens to](LakeType::widens_to). Files
    /// written before keep their type and are cast when read; where the order of values changes with
    /// it, the bounds of older files are forgotten.
    pub fn set_column_type(&mut self, table: impl Into<TableRef>, column: ColumnId, ty: LakeType) {
        self.table(table, TableOperation::SetColumnType(column, ty));
    }

    /// Sets or drops NOT NULL of a top-level column.
    pub fn set_nullable(&mut self, table: impl Into<TableRef>, column: ColumnId, nullable: bool) {
        self.table(table, TableOperation::SetNullable(column, nullable));
    }

    /// Sets the comment of a top-level column, or removes it.
    pub fn set_column_comment(
        &mut self,
        table: impl Into<TableRef>,
        column: ColumnId,
        comment: Option<String>,
    ) {
        self.table(table, TableOperation::SetColumnComment(column, comment));
    }

    /// Sets the table's comment, or removes it.
    pub fn set_table_comment(&mut self, table: impl Into<TableRef>, comment: Option<String>) {
        self.table(table, TableOperation::SetComment(comment));
    }

    /// Adds a field at the end of a struct, NULL in all rows there are. `parent` is the id of a struct
    /// at any depth: of a column, of a field, or of a list's element. The field's id is the table's
    /// next; it has neither a default nor a comment, and may be NULL.
    pub fn add_struct_field(
        &mut self,
        table: impl Into<TableRef>,
        parent: ColumnId,
        field: ColumnDef,
    ) {
        self.table(table, TableOperation::AddField(parent, field));
    }

    /// Renames a field of a struct at any depth.
    pub fn rename_struct_field(
        &mut self,
        table: impl Into<TableRef>,
        field: ColumnId,
        name: impl Into<String>,
    ) {
        self.table(table, TableOperation::RenameField(field, name.into()));
    }

    /// Drops a field of a struct at any depth, but not the struct's last one.
    pub fn drop_struct_field(&mut self, table: impl Into<TableRef>, field: ColumnId) {
        self.table(table, TableOperation::DropField(field));
    }

    /// Renames a table; its id and its directory stay. The commit fails when the name is taken.
    pub fn rename_table(&mut self, table: impl Into<TableRef>, name: impl Into<String>) {
        self.table(table, TableOperation::Rename(name.into()));
    }

    /// Moves a table to another schema; its id and its directory stay, so that the files of all
    /// snapshots are where they were. The commit fails when the schema has a table or view of its
    /// name.
    pub fn move_table(&mut self, table: impl Into<TableRef>, schema: impl Into<SchemaSelector>) {
        self.table(table, TableOperation::Move(schema.into()));
    }

    /// Drops a table; snapshots before keep it. Files that the same change set appends to it are in
    /// no snapshot, and are cleaned up as files of expired ones are.
    pub fn drop_table(&mut self, table: impl Into<TableRef>) {
        self.table(table, TableOperation::Drop);
    }

    /// Sets a table option, such as `auto_compact` to `false`. Options have no history.
    pub fn set_table_option(
        &mut self,
        table: impl Into<TableRef>,
        key: impl Into<String>,
        value: impl Into<String>,
    ) {
        self.table(table, TableOperation::SetOption(key.into(), value.into()));
    }

    /// Appends the rows of a file. Row ids follow the order of the calls.
    pub fn append_file(&mut self, table: impl Into<TableRef>, file: DataFile) {
        self.table(table, TableOperation::Append(file));
    }

    fn table(&mut self, table: impl Into<TableRef>, operation: TableOperation) {
        self.operations.push(Operation::Table {
            table: table.into(),
            operation,
        });
    }
}
