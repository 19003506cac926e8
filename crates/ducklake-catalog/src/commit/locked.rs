//! What a commit reads while it holds the lock: with it, these rows cannot change any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::{PgConnection, Row};

use crate::catalog::read_head;
use crate::change_set::{Operation, TableOperation};
use crate::inspect::{DELETE_OLDER_THAN, file_deletion_grace};
use crate::read::{
    ColumnRow, read_columns, read_next_column_ids, read_schemas, read_tables, read_views,
};
use crate::stats::ColumnStatsRow;
use crate::{
    CatalogError, ChangeSet, ColumnId, Schema, SchemaId, Snapshot, Table, TableId, TableRef, View,
};

/// The part of the lake that a change set is about.
pub(super) struct Locked {
    pub(super) head: Snapshot,
    pub(super) file_deletion_grace: Duration,
    /// Empty unless the change set creates or names anything.
    pub(super) data_path: String,
    pub(super) schemas: Vec<Schema>,
    /// Names of all live tables, if the change set creates or names anything.
    pub(super) table_names: Vec<(TableId, SchemaId, String)>,
    /// All live views, if the change set creates, names or drops anything.
    pub(super) views: Vec<View>,
    /// The live ones among the addressed tables.
    pub(super) tables: BTreeMap<TableId, LockedTable>,
}

pub(super) struct LockedTable {
    pub(super) table: Table,
    /// `path` and `path_is_relative` of the table's row.
    pub(super) stored_path: (String, bool),
    pub(super) comment: Option<String>,
    pub(super) columns: Vec<ColumnRow>,
    pub(super) column_comments: BTreeMap<ColumnId, String>,
    pub(super) stats: Option<TableStats>,
    pub(super) column_stats: BTreeMap<ColumnId, ColumnStatsRow>,
    /// Columns whose statistics have no bounds although some file has values of them.
    pub(super) hides_values: BTreeSet<ColumnId>,
    /// Whether files are there; read only when there are no statistics.
    pub(super) has_files: bool,
    /// The columns that the table is partitioned by, and how.
    pub(super) partitioned_by: Vec<(ColumnId, String)>,
    /// Whether DuckDB keeps small inserts of this table in a table of the catalog.
    pub(super) is_inlined: bool,
}

/// A row of `ducklake_table_stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableStats {
    /// Rows ever inserted; deletes do not lower it.
    pub(super) record_count: i64,
    pub(super) next_row_id: i64,
    pub(super) file_size_bytes: i64,
}

/// Reads what `changes` needs to know.
pub(super) async fn read(
    connection: &mut PgConnection,
    changes: &ChangeSet,
) -> Result<Locked, CatalogError> {
    let head = read_head(connection).await?;
    read_below(connection, changes, head)
        .await
        .map_err(|error| CatalogError::from_sqlx(error, "the catalog tables"))
}

async fn read_below(
    connection: &mut PgConnection,
    changes: &ChangeSet,
    head: Snapshot,
) -> Result<Locked, sqlx::Error> {
    let needs = Needs::of(changes);
    let grace: Option<String> =
        sqlx::query_scalar("select value from ducklake_metadata where key = $1 and scope is null")
            .bind(DELETE_OLDER_THAN)
            .fetch_optional(&mut *connection)
            .await?;
    let mut locked = Locked {
        head,
        file_deletion_grace: file_deletion_grace(grace.as_deref()),
        data_path: String::new(),
        schemas: Vec::new(),
        table_names: Vec::new(),
        views: Vec::new(),
        tables: BTreeMap::new(),
    };
    if needs.names {
        let data_path: Option<String> = sqlx::query_scalar(
            "select value from ducklake_metadata where key = 'data_path' and scope is null",
        )
        .fetch_optional(&mut *connection)
        .await?;
        locked.data_path = data_path.unwrap_or_default();
        locked.schemas = read_schemas(connection).await?;
        locked.views = read_views(connection).await?;
        locked.table_names = sqlx::query(
            "select table_id, schema_id, table_name from ducklake_table \
              where end_snapshot is null",
        )
        .fetch_all(&mut *connection)
        .await?
        .iter()
        .map(|row| {
            Ok((
                TableId::new(row.try_get(0)?),
                SchemaId::new(row.try_get(1)?),
                row.try_get(2)?,
            ))
        })
        .collect::<Result<_, sqlx::Error>>()?;
    }
    if needs.tables.is_empty() {
        return Ok(locked);
    }
    let ids: Vec<i64> = needs.tables.iter().map(|id| id.get()).collect();
    let mut columns = read_columns(connection, Some(&ids)).await?;
    let next_column_ids = if needs.structure {
        read_next_column_ids(connection, Some(&ids)).await?
    } else {
        BTreeMap::new()
    };
    for header in read_tables(connection, Some(&ids)).await? {
        let id = header.id;
        let columns = columns.remove(&id).unwrap_or_default();
        let stored_path = header.stored_path.clone();
        let table = header.into_table(&columns, next_column_ids.get(&id).copied());
        locked.tables.insert(
            id,
            LockedTable {
                table,
                stored_path,
                comment: None,
                columns,
                column_comments: BTreeMap::new(),
                stats: None,
                column_stats: BTreeMap::new(),
                hides_values: BTreeSet::new(),
                has_files: false,
                partitioned_by: Vec::new(),
                is_inlined: false,
            },
        );
    }
    read_stats(connection, &ids, &mut locked.tables).await?;
    read_partitions(connection, &ids, &mut locked.tables).await?;
    if needs.comments {
        read_comments(connection, &ids, &mut locked.tables).await?;
    }
    if needs.structure {
        let inlined: Vec<i64> = sqlx::query_scalar(
            "select distinct table_id from ducklake_inlined_data_tables where table_id = any($1)",
        )
        .bind(&ids)
        .fetch_all(&mut *connection)
        .await?;
        for id in inlined {
            if let Some(table) = locked.tables.get_mut(&TableId::new(id)) {
                table.is_inlined = true;
            }
        }
    }
    Ok(locked)
}

async fn read_stats(
    connection: &mut PgConnection,
    ids: &[i64],
    tables: &mut BTreeMap<TableId, LockedTable>,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "select table_id, record_count, next_row_id, file_size_bytes \
           from ducklake_table_stats where table_id = any($1)",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        if let Some(table) = tables.get_mut(&TableId::new(row.try_get(0)?)) {
            table.stats = Some(TableStats {
                record_count: row.try_get(1)?,
                next_row_id: row.try_get(2)?,
                file_size_bytes: row.try_get(3)?,
            });
        }
    }
    let rows = sqlx::query(
        "select table_id, column_id, contains_null, contains_nan, min_value, max_value \
           from ducklake_table_column_stats where table_id = any($1)",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let mut without_bounds = Vec::new();
    for row in rows {
        let (id, column): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let stats = ColumnStatsRow {
            contains_null: row.try_get(2)?,
            contains_nan: row.try_get(3)?,
            min: row.try_get(4)?,
            max: row.try_get(5)?,
        };
        if stats.min.is_none() && stats.max.is_none() {
            without_bounds.push((id, column));
        }
        if let Some(table) = tables.get_mut(&TableId::new(id)) {
            table.column_stats.insert(ColumnId::new(column), stats);
        }
    }
    if !without_bounds.is_empty() {
        // A value without bounds: a string with a NUL, or only NaN.
        let (of_tables, of_columns): (Vec<i64>, Vec<i64>) = without_bounds.into_iter().unzip();
        let rows = sqlx::query(
            "select distinct f.table_id, f.column_id from ducklake_file_column_stats f \
               join unnest($1::bigint[], $2::bigint[]) as w (table_id, column_id) \
                 on w.table_id = f.table_id and w.column_id = f.column_id \
              where f.value_count is null or f.value_count > 0",
        )
        .bind(&of_tables)
        .bind(&of_columns)
        .fetch_all(&mut *connection)
        .await?;
        for row in rows {
            if let Some(table) = tables.get_mut(&TableId::new(row.try_get(0)?)) {
                table.hides_values.insert(ColumnId::new(row.try_get(1)?));
            }
        }
    }
    let without_stats: Vec<i64> = tables
        .iter()
        .filter(|(_, table)| table.stats.is_none())
        .map(|(id, _)| id.get())
        .collect();
    if !without_stats.is_empty() {
        let with_files: Vec<i64> = sqlx::query_scalar(
            "select t.id from unnest($1::bigint[]) as t (id) \
              where exists (select from ducklake_data_file f where f.table_id = t.id)",
        )
        .bind(&without_stats)
        .fetch_all(&mut *connection)
        .await?;
        for id in with_files {
            if let Some(table) = tables.get_mut(&TableId::new(id)) {
                table.has_files = true;
            }
        }
    }
    Ok(())
}

async fn read_comments(
    connection: &mut PgConnection,
    ids: &[i64],
    tables: &mut BTreeMap<TableId, LockedTable>,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "select object_id, null::bigint, value from ducklake_tag \
          where end_snapshot is null and key = 'comment' and object_id = any($1) \
         union all \
         select table_id, column_id, value from ducklake_column_tag \
          where end_snapshot is null and key = 'comment' and table_id = any($1)",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let column: Option<i64> = row.try_get(1)?;
        let comment: Option<String> = row.try_get(2)?;
        let Some(table) = tables.get_mut(&TableId::new(row.try_get(0)?)) else {
            continue;
        };
        match column {
            None => table.comment = comment,
            Some(column) => {
                let comment = comment.map(|comment| (ColumnId::new(column), comment));
                table.column_comments.extend(comment);
            }
        }
    }
    Ok(())
}

async fn read_partitions(
    connection: &mut PgConnection,
    ids: &[i64],
    tables: &mut BTreeMap<TableId, LockedTable>,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "select i.table_id, c.column_id, c.transform \
           from ducklake_partition_info i \
           join ducklake_partition_column c on c.partition_id = i.partition_id \
          where i.end_snapshot is null and i.table_id = any($1)",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        if let Some(table) = tables.get_mut(&TableId::new(row.try_get(0)?)) {
            table
                .partitioned_by
                .push((ColumnId::new(row.try_get(1)?), row.try_get(2)?));
        }
    }
    Ok(())
}

/// What a change set needs to know of the lake.
struct Needs {
    tables: BTreeSet<TableId>,
    names: bool,
    structure: bool,
    comments: bool,
}

impl Needs {
    fn of(changes: &ChangeSet) -> Self {
        let mut needs = Self {
            tables: BTreeSet::new(),
            names: false,
            structure: false,
            comments: false,
        };
        for operation in &changes.operations {
            match operation {
                Operation::Schema(_)
                | Operation::CreateTable { .. }
                | Operation::ReplaceView { .. }
                | Operation::DropView { .. } => needs.names = true,
                Operation::Table { table, operation } => {
                    if let TableRef::Existing(id) = table {
                        needs.tables.insert(*id);
                    }
                    needs.names |= matches!(
                        operation,
                        TableOperation::Rename(_) | TableOperation::Move(_)
                    );
                    needs.comments |= matches!(
                        operation,
                        TableOperation::SetComment(_) | TableOperation::SetColumnComment(..)
                    );
                    needs.structure |= !matches!(
                        operation,
                        TableOperation::Append(_)
                            | TableOperation::ExpectColumns(_)
                            | TableOperation::SetOption(..)
                            | TableOperation::SetComment(_)
                            | TableOperation::SetColumnComment(..)
                    );
                }
            }
        }
        needs
    }
}
