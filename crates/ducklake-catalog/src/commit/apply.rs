//! Writes the rows of a plan, a few statements for any number of them.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};

use super::plan::{InlinedTable, Plan};
use crate::changes_made::quote;
use crate::read::ColumnRow;
use crate::{CatalogError, ChangeSet, ColumnId, TableId};

/// Writes all rows. The snapshot's comes first: it claims the id.
pub(super) async fn apply(
    connection: &mut PgConnection,
    plan: &Plan,
    changes: &ChangeSet,
) -> Result<(), CatalogError> {
    let mut writer = Writer {
        connection,
        snapshot: plan.committed.id.get(),
    };
    writer.snapshot(plan).await?;
    writer.schemas(plan).await?;
    writer.tables(plan).await?;
    writer.views(plan).await?;
    writer.tags(plan).await?;
    writer.columns(plan).await?;
    writer.options(plan).await?;
    writer.table_stats(plan).await?;
    writer.column_stats(plan).await?;
    writer.files(plan).await?;
    writer.file_stats(plan).await?;
    writer.dropped_tables(plan).await?;
    for table in &plan.inlined_tables {
        writer
            .inlined_table(table, plan.committed.schema_version)
            .await?;
    }
    writer.changes(plan, changes).await
}

struct Writer<'a> {
    connection: &'a mut PgConnection,
    snapshot: i64,
}

impl Writer<'_> {
    async fn run(
        &mut self,
        object: &'static str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<(), CatalogError> {
        query
            .execute(&mut *self.connection)
            .await
            .map_err(|error| CatalogError::from_sqlx(error, object))?;
        Ok(())
    }

    async fn snapshot(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        // clock_timestamp, not now: the transaction may have waited for the lock, and snapshots are
        // ordered by time too.
        let query = sqlx::query(
            "insert into ducklake_snapshot \
                 (snapshot_id, snapshot_time, schema_version, next_catalog_id, next_file_id) \
             values ($1, clock_timestamp(), $2, $3, $4)",
        )
        .bind(self.snapshot)
        .bind(plan.committed.schema_version)
        .bind(plan.next_catalog_id)
        .bind(plan.next_file_id);
        self.run("ducklake_snapshot", query).await
    }

    async fn schemas(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        for schema in &plan.schemas {
            let query = sqlx::query(
                "insert into ducklake_schema \
                     (schema_id, schema_uuid, begin_snapshot, end_snapshot, schema_name, path, \
                      path_is_relative) \
                 values ($1, $2, $3, null, $4, $5, true)",
            )
            .bind(schema.id.get())
            .bind(schema.uuid)
            .bind(self.snapshot)
            .bind(&schema.name)
            .bind(&schema.path);
            self.run("ducklake_schema", query).await?;
        }
        Ok(())
    }

    async fn tables(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        if !plan.ended_tables.is_empty() {
            let query = sqlx::query(
                "update ducklake_table set end_snapshot = $1 \
                  where table_id = any($2) and end_snapshot is null",
            )
            .bind(self.snapshot)
            .bind(collect(&plan.ended_tables, |id| id.get()));
            self.run("ducklake_table", query).await?;
        }
        if plan.tables.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(
            "insert into ducklake_table \
                 (table_id, table_uuid, begin_snapshot, end_snapshot, schema_id, table_name, path, \
                  path_is_relative) \
             select t.id, t.uuid, $1, null, t.schema_id, t.name, t.path, t.is_relative \
               from unnest($2::bigint[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], \
                           $7::boolean[]) \
                 as t (id, uuid, schema_id, name, path, is_relative)",
        )
        .bind(self.snapshot)
        .bind(collect(&plan.tables, |row| row.id.get()))
        .bind(collect(&plan.tables, |row| row.uuid))
        .bind(collect(&plan.tables, |row| row.schema.get()))
        .bind(collect(&plan.tables, |row| row.name.clone()))
        .bind(collect(&plan.tables, |row| row.path.clone()))
        .bind(collect(&plan.tables, |row| row.path_is_relative));
        self.run("ducklake_table", query).await
    }

    async fn views(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        if !plan.ended_views.is_empty() {
            let ended = collect(&plan.ended_views, |id| id.get());
            let query = sqlx::query(
                "update ducklake_view set end_snapshot = $1 \
                  where view_id = any($2) and end_snapshot is null",
            )
            .bind(self.snapshot)
            .bind(ended.clone());
            self.run("ducklake_view", query).await?;
            let query = sqlx::query(
                "update ducklake_tag set end_snapshot = $1 \
                  where object_id = any($2) and end_snapshot is null",
            )
            .bind(self.snapshot)
            .bind(ended);
            self.run("ducklake_tag", query).await?;
        }
        if plan.views.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(
            "insert into ducklake_view \
                 (view_id, view_uuid, begin_snapshot, end_snapshot, schema_id, view_name, dialect, \
                  sql, column_aliases) \
             select v.id, v.uuid, $1, null, v.schema_id, v.name, 'duckdb', v.sql, v.aliases \
               from unnest($2::bigint[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], \
                           $7::text[]) \
                 as v (id, uuid, schema_id, name, sql, aliases)",
        )
        .bind(self.snapshot)
        .bind(collect(&plan.views, |row| row.id.get()))
        .bind(collect(&plan.views, |_| uuid::Uuid::new_v4()))
        .bind(collect(&plan.views, |row| row.schema.get()))
        .bind(collect(&plan.views, |row| row.name.clone()))
        .bind(collect(&plan.views, |row| row.sql.clone()))
        .bind(collect(&plan.views, |row| row.column_aliases.clone()));
        self.run("ducklake_view", query).await
    }

    async fn tags(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        if !plan.ended_comments.is_empty() {
            let query = sqlx::query(
                "update ducklake_tag set end_snapshot = $1 \
                  where object_id = any($2) and key = 'comment' and end_snapshot is null",
            )
            .bind(self.snapshot)
            .bind(collect(&plan.ended_comments, |id| id.get()));
            self.run("ducklake_tag", query).await?;
        }
        if plan.tags.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(
            "insert into ducklake_tag (object_id, begin_snapshot, end_snapshot, key, value) \
             select t.object_id, $1, null, t.key, t.value \
               from unnest($2::bigint[], $3::text[], $4::text[]) as t (object_id, key, value)",
        )
        .bind(self.snapshot)
        .bind(collect(&plan.tags, |row| row.object))
        .bind(collect(&plan.tags, |row| row.key.clone()))
        .bind(collect(&plan.tags, |row| row.value.clone()));
        self.run("ducklake_tag", query).await
    }

    async fn columns(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        if !plan.ended_columns.is_empty() {
            let (tables, columns) = keys(&plan.ended_columns);
            let query = sqlx::query(
                "update ducklake_column c set end_snapshot = $1 \
                   from unnest($2::bigint[], $3::bigint[]) as e (table_id, column_id) \
                  where c.table_id = e.table_id and c.column_id = e.column_id \
                    and c.end_snapshot is null",
            )
            .bind(self.snapshot)
            .bind(tables)
            .bind(columns);
            self.run("ducklake_column", query).await?;
        }
        self.column_tags(plan).await?;
        self.column_rows(&plan.columns, None).await?;
        self.column_rows(&plan.stillborn, Some(self.snapshot))
            .await?;
        if plan.restructured.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(
            "insert into ducklake_schema_versions (begin_snapshot, schema_version, table_id) \
             select $1, $2, unnest($3::bigint[])",
        )
        .bind(self.snapshot)
        .bind(plan.committed.schema_version)
        .bind(collect(&plan.restructured, |id| id.get()));
        self.run("ducklake_schema_versions", query).await
    }

    async fn column_tags(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        let ended: Vec<(TableId, ColumnId)> = plan
            .dropped_columns
            .iter()
            .chain(&plan.ended_column_tags)
            .copied()
            .collect();
        if !ended.is_empty() {
            let (tables, columns) = keys(&ended);
            let query = sqlx::query(
                "update ducklake_column_tag c set end_snapshot = $1 \
                   from unnest($2::bigint[], $3::bigint[]) as e (table_id, column_id) \
                  where c.table_id = e.table_id and c.column_id = e.column_id \
                    and c.end_snapshot is null",
            )
            .bind(self.snapshot)
            .bind(tables)
            .bind(columns);
            self.run("ducklake_column_tag", query).await?;
        }
        let rows = &plan.column_tags;
        if rows.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(
            "insert into ducklake_column_tag \
                 (table_id, column_id, begin_snapshot, end_snapshot, key, value) \
             select t.table_id, t.column_id, $1, null, 'comment', t.value \
               from unnest($2::bigint[], $3::bigint[], $4::text[]) \
                 as t (table_id, column_id, value)",
        )
        .bind(self.snapshot)
        .bind(collect(rows, |row| row.table.get()))
        .bind(collect(rows, |row| row.column.get()))
        .bind(collect(rows, |row| row.comment.clone()));
        self.run("ducklake_column_tag", query).await
    }

    /// Ends everything of dropped tables that is live, as DuckDB does; options have no history and
    /// stay.
    async fn dropped_tables(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        if plan.dropped_tables.is_empty() {
            return Ok(());
        }
        let ids = collect(&plan.dropped_tables, |id| id.get());
        for (object, statement) in [
            (
                "ducklake_table",
                "update ducklake_table set end_snapshot = $1 \
                  where table_id = any($2) and end_snapshot is null",
            ),
            (
                "ducklake_partition_info",
                "update ducklake_partition_info set end_snapshot = $1 \
                  where table_id = any($2) and end_snapshot is null",
            ),
            (
                "ducklake_sort_info",
                "update ducklake_sort_info set end_snapshot = $1 \
                  where table_id = any($2) and end_snapshot is null",
            ),
            (
                "ducklake_column",
                "update ducklake_column set end_snapshot = $1 \
                  where table_id = any($2) and end_snapshot is null",
            ),
            (
                "ducklake_column_tag",
                "update ducklake_column_tag set end_snapshot = $1 \
                  where table_id = any($2) and end_snapshot is null",
            ),
            (
                "ducklake_tag",
                "update ducklake_tag set end_snapshot = $1 \
                  where object_id = any($2) and end_snapshot is null",
            ),
            (
                "ducklake_data_file",
                "update ducklake_data_file set end_snapshot = $1 \
                  where table_id = any($2) and end_snapshot is null",
            ),
            (
                "ducklake_delete_file",
                "update ducklake_delete_file set end_snapshot = $1 \
                  where table_id = any($2) and end_snapshot is null",
            ),
        ] {
            let query = sqlx::query(statement).bind(self.snapshot).bind(ids.clone());
            self.run(object, query).await?;
        }
        Ok(())
    }

    async fn column_rows(
        &mut self,
        rows: &[(TableId, ColumnRow)],
        end: Option<i64>,
    ) -> Result<(), CatalogError> {
        if rows.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(
            "insert into ducklake_column \
                 (column_id, begin_snapshot, end_snapshot, table_id, column_order, \
                  column_name, column_type, initial_default, default_value, nulls_allowed, \
                  parent_column, default_value_type, default_value_dialect) \
             select c.id, $1, $13, c.table_id, c.ord, c.name, c.type, c.initial, c.def, \
                    c.nullable, c.parent, c.def_type, c.def_dialect \
               from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], \
                           $7::text[], $8::text[], $9::boolean[], $10::bigint[], $11::text[], \
                           $12::text[]) \
                 as c (id, table_id, ord, name, type, initial, def, nullable, parent, \
                       def_type, def_dialect)",
        )
        .bind(self.snapshot)
        .bind(collect(rows, |(_, row)| row.id.get()))
        .bind(collect(rows, |(table, _)| table.get()))
        .bind(collect(rows, |(_, row)| row.order))
        .bind(collect(rows, |(_, row)| row.name.clone()))
        .bind(collect(rows, |(_, row)| row.type_name.clone()))
        .bind(collect(rows, |(_, row)| row.initial_default.clone()))
        .bind(collect(rows, |(_, row)| row.default_value.clone()))
        .bind(collect(rows, |(_, row)| row.nullable))
        .bind(collect(rows, |(_, row)| row.parent.map(ColumnId::get)))
        .bind(collect(rows, |(_, row)| row.default_value_type.clone()))
        .bind(collect(rows, |(_, row)| row.default_value_dialect.clone()))
        .bind(end);
        self.run("ducklake_column", query).await
    }

    async fn options(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        for ((table, key), value) in &plan.options {
            let query = sqlx::query(
                "delete from ducklake_metadata \
                  where key = $1 and scope = 'table' and scope_id = $2",
            )
            .bind(key)
            .bind(table.get());
            self.run("ducklake_metadata", query).await?;
            let query = sqlx::query(
                "insert into ducklake_metadata (key, value, scope, scope_id) \
                 values ($1, $2, 'table', $3)",
            )
            .bind(key)
            .bind(value)
            .bind(table.get());
            self.run("ducklake_metadata", query).await?;
        }
        Ok(())
    }

    async fn table_stats(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        for (rows, statement) in [
            (
                &plan.new_table_stats,
                "insert into ducklake_table_stats \
                     (table_id, record_count, next_row_id, file_size_bytes) \
                 select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])",
            ),
            (
                &plan.changed_table_stats,
                "update ducklake_table_stats t \
                    set record_count = n.record_count, next_row_id = n.next_row_id, \
                        file_size_bytes = n.file_size_bytes \
                   from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) \
                     as n (table_id, record_count, next_row_id, file_size_bytes) \
                  where t.table_id = n.table_id",
            ),
        ] {
            if rows.is_empty() {
                continue;
            }
            let query = sqlx::query(statement)
                .bind(collect(rows, |(table, _)| table.get()))
                .bind(collect(rows, |(_, stats)| stats.record_count))
                .bind(collect(rows, |(_, stats)| stats.next_row_id))
                .bind(collect(rows, |(_, stats)| stats.file_size_bytes));
            self.run("ducklake_table_stats", query).await?;
        }
        Ok(())
    }

    async fn column_stats(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        if !plan.erased_bounds.is_empty() {
            let (tables, columns) = keys(&plan.erased_bounds);
            let query = sqlx::query(
                "update ducklake_file_column_stats c set min_value = null, max_value = null \
                   from unnest($1::bigint[], $2::bigint[]) as e (table_id, column_id) \
                  where c.table_id = e.table_id and c.column_id = e.column_id",
            )
            .bind(tables)
            .bind(columns);
            self.run("ducklake_file_column_stats", query).await?;
        }
        let object = "ducklake_table_column_stats";
        if !plan.deleted_column_stats.is_empty() {
            let (tables, columns) = keys(&plan.deleted_column_stats);
            let query = sqlx::query(
                "delete from ducklake_table_column_stats c \
                  using unnest($1::bigint[], $2::bigint[]) as e (table_id, column_id) \
                  where c.table_id = e.table_id and c.column_id = e.column_id",
            )
            .bind(tables)
            .bind(columns);
            self.run(object, query).await?;
        }
        for (rows, statement) in [
            (
                &plan.new_column_stats,
                "insert into ducklake_table_column_stats \
                     (table_id, column_id, contains_null, contains_nan, min_value, max_value, \
                      extra_stats) \
                 select n.*, null \
                   from unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::boolean[], \
                               $5::text[], $6::text[]) as n",
            ),
            (
                &plan.changed_column_stats,
                "update ducklake_table_column_stats c \
                    set contains_null = n.contains_null, contains_nan = n.contains_nan, \
                        min_value = n.min_value, max_value = n.max_value \
                   from unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::boolean[], \
                               $5::text[], $6::text[]) \
                     as n (table_id, column_id, contains_null, contains_nan, min_value, max_value) \
                  where c.table_id = n.table_id and c.column_id = n.column_id",
            ),
        ] {
            if rows.is_empty() {
                continue;
            }
            let query = sqlx::query(statement)
                .bind(collect(rows, |(table, _, _)| table.get()))
                .bind(collect(rows, |(_, column, _)| column.get()))
                .bind(collect(rows, |(_, _, stats)| stats.contains_null))
                .bind(collect(rows, |(_, _, stats)| stats.contains_nan))
                .bind(collect(rows, |(_, _, stats)| stats.min.clone()))
                .bind(collect(rows, |(_, _, stats)| stats.max.clone()));
            self.run(object, query).await?;
        }
        Ok(())
    }

    async fn files(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        let rows = &plan.files;
        if rows.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(
            "insert into ducklake_data_file \
                 (data_file_id, table_id, begin_snapshot, end_snapshot, file_order, path, \
                  path_is_relative, file_format, record_count, file_size_bytes, footer_size, \
                  row_id_start, partition_id, encryption_key, mapping_id, partial_max) \
             select f.id, f.table_id, $1, null, null, f.path, true, 'parquet', f.record_count, \
                    f.size, f.footer, f.row_id_start, null, null, null, null \
               from unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], \
                           $7::bigint[], $8::bigint[]) \
                 as f (id, table_id, path, record_count, size, footer, row_id_start)",
        )
        .bind(self.snapshot)
        .bind(collect(rows, |row| row.id.get()))
        .bind(collect(rows, |row| row.table.get()))
        .bind(collect(rows, |row| row.path.clone()))
        .bind(collect(rows, |row| row.record_count))
        .bind(collect(rows, |row| row.file_size_bytes))
        .bind(collect(rows, |row| row.footer_size))
        .bind(collect(rows, |row| row.row_id_start));
        self.run("ducklake_data_file", query).await
    }

    async fn file_stats(&mut self, plan: &Plan) -> Result<(), CatalogError> {
        let object = "ducklake_file_column_stats";
        let rows = &plan.file_stats;
        if rows.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(
            "insert into ducklake_file_column_stats \
                 (data_file_id, table_id, column_id, column_size_bytes, value_count, null_count, \
                  min_value, max_value, contains_nan, extra_stats) \
             select n.*, null \
               from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
                           $6::bigint[], $7::text[], $8::text[], $9::boolean[]) as n",
        )
        .bind(collect(rows, |row| row.file.get()))
        .bind(collect(rows, |row| row.table.get()))
        .bind(collect(rows, |row| row.column.get()))
        .bind(collect(rows, |row| row.column_size_bytes))
        .bind(collect(rows, |row| row.value_count))
        .bind(collect(rows, |row| row.null_count))
        .bind(collect(rows, |row| row.min.clone()))
        .bind(collect(rows, |row| row.max.clone()))
        .bind(collect(rows, |row| row.contains_nan));
        self.run(object, query).await
    }

    async fn inlined_table(
        &mut self,
        table: &InlinedTable,
        schema_version: i64,
    ) -> Result<(), CatalogError> {
        let object = "ducklake_inlined_data_tables";
        let name = format!("ducklake_inlined_data_{}_{schema_version}", table.table);
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|(name, ty)| format!(", {} {ty}", quote(name)))
            .collect();
        let columns = columns.concat();
        // Names are quoted, types are our own: neither can be bound.
        let statement = sqlx::AssertSqlSafe(format!(
            "create table {name} \
                 (row_id bigint, begin_snapshot bigint, end_snapshot bigint{columns})"
        ));
        sqlx::raw_sql(statement)
            .execute(&mut *self.connection)
            .await
            .map_err(|error| CatalogError::from_sqlx(error, object))?;
        let query = sqlx::query(
            "insert into ducklake_inlined_data_tables (table_id, table_name, schema_version) \
             values ($1, $2, $3)",
        )
        .bind(table.table.get())
        .bind(name)
        .bind(schema_version);
        self.run(object, query).await
    }

    async fn changes(&mut self, plan: &Plan, changes: &ChangeSet) -> Result<(), CatalogError> {
        let query = sqlx::query(
            "insert into ducklake_snapshot_changes \
                 (snapshot_id, changes_made, author, commit_message, commit_extra_info) \
             values ($1, $2, $3, $4, $5)",
        )
        .bind(self.snapshot)
        .bind(&plan.changes_made)
        .bind(&changes.author)
        .bind(&changes.message)
        .bind(&changes.extra_info);
        self.run("ducklake_snapshot_changes", query).await
    }
}

/// One array per column, as UNNEST wants them.
fn collect<T, U>(rows: &[T], column: impl Fn(&T) -> U) -> Vec<U> {
    rows.iter().map(column).collect()
}

fn keys(rows: &[(TableId, ColumnId)]) -> (Vec<i64>, Vec<i64>) {
    rows.iter()
        .map(|(table, column)| (table.get(), column.get()))
        .unzip()
}
