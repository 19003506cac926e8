//! Reads live objects from the catalog.
//!
//! A versioned row is live at the newest snapshot iff its `end_snapshot` is NULL (DuckLake
//! specification, "Queries").

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};

use crate::catalog::read_head;
use crate::layout::join;
use crate::table_def::FIRST_COLUMN_ID;
use crate::{
    Catalog, CatalogError, Column, ColumnId, Lake, LakeType, Schema, SchemaId, Table, TableId,
    View, ViewId,
};

impl Catalog {
    /// Reads all live schemas, tables and views, as of one snapshot.
    ///
    /// # Errors
    /// [`CatalogErrorKind::NoLake`](crate::CatalogErrorKind::NoLake) when there is no lake.
    pub async fn load(&self) -> Result<Lake, CatalogError> {
        let failed = |error| CatalogError::from_sqlx(error, self.object());
        let mut connection = self.acquire().await?;
        let mut tx = connection
            .begin_with("begin isolation level repeatable read read only")
            .await
            .map_err(failed)?;
        let head = read_head(&mut tx).await?;
        let read = async {
            let schemas = read_schemas(&mut tx).await?;
            let headers = read_tables(&mut tx, None).await?;
            let mut columns = read_columns(&mut tx, None).await?;
            let next_column_ids = read_next_column_ids(&mut tx, None).await?;
            let views = read_views(&mut tx).await?;
            let tables = headers
                .into_iter()
                .map(|header| {
                    let id = header.id;
                    let rows = columns.remove(&id).unwrap_or_default();
                    let next = next_column_ids.get(&id).copied();
                    (id, header.into_table(&rows, next))
                })
                .collect();
            Ok((schemas, tables, views))
        };
        let (schemas, tables, views) = read.await.map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(Lake {
            head,
            schemas,
            tables,
            views,
        })
    }
}

/// A live row of `ducklake_table`, with its schema's.
pub(crate) struct TableHeader {
    pub(crate) id: TableId,
    uuid: uuid::Uuid,
    name: String,
    schema: SchemaId,
    schema_name: String,
    path: String,
    /// `path` and `path_is_relative` of the row itself.
    pub(crate) stored_path: (String, bool),
}

impl TableHeader {
    pub(crate) fn into_table(self, rows: &[ColumnRow], next: Option<ColumnId>) -> Table {
        Table {
            id: self.id,
            uuid: self.uuid,
            schema: self.schema,
            schema_name: self.schema_name,
            name: self.name,
            path: self.path,
            columns: column_tree(rows, None),
            next_column_id: next.unwrap_or(ColumnId::new(FIRST_COLUMN_ID)),
        }
    }
}

/// A live row of `ducklake_column`, or one to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnRow {
    pub(crate) id: ColumnId,
    pub(crate) order: i64,
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) initial_default: Option<String>,
    pub(crate) default_value: Option<String>,
    pub(crate) nullable: bool,
    pub(crate) parent: Option<ColumnId>,
    pub(crate) default_value_type: Option<String>,
    pub(crate) default_value_dialect: Option<String>,
}

/// Builds the columns below `parent` from rows that are sorted by `column_order`.
pub(crate) fn column_tree(rows: &[ColumnRow], parent: Option<ColumnId>) -> Vec<Column> {
    rows.iter()
        .filter(|row| row.parent == parent)
        .map(|row| {
            // A row that is its own ancestor cannot be reached from the top.
            let children = column_tree(rows, Some(row.id));
            Column {
                id: row.id,
                name: row.name.clone(),
                ty: column_type(&row.type_name, &children),
                nullable: row.nullable,
                children,
            }
        })
        .collect()
}

/// The type of a row. What is not understood stays as text, so that a foreign table does not hide
/// the rest of the lake.
fn column_type(name: &str, children: &[Column]) -> LakeType {
    match (name.to_ascii_lowercase().as_str(), children) {
        ("list", [element]) => LakeType::list(element.ty.clone()),
        ("map", [key, value]) => {
            LakeType::Map(Box::new(key.ty.clone()), Box::new(value.ty.clone()))
        }
        ("struct", [_, ..]) => LakeType::Struct(
            children
                .iter()
                .map(|child| (child.name.clone(), child.ty.clone()))
                .collect(),
        ),
        _ => name
            .parse()
            .unwrap_or_else(|_| LakeType::Other(name.to_owned())),
    }
}

pub(crate) async fn read_schemas(
    connection: &mut PgConnection,
) -> Result<Vec<Schema>, sqlx::Error> {
    sqlx::query(
        "select schema_id, schema_name, path, path_is_relative \
           from ducklake_schema where end_snapshot is null order by schema_id",
    )
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        Ok(Schema {
            id: SchemaId::new(row.try_get(0)?),
            name: row.try_get(1)?,
            path: relative_path(row, 2)?,
        })
    })
    .collect()
}

/// A path column and its `path_is_relative`; an absolute one stands for itself, so that both forms
/// are one string.
fn relative_path(row: &PgRow, index: usize) -> Result<String, sqlx::Error> {
    Ok(row.try_get::<Option<String>, _>(index)?.unwrap_or_default())
}

/// Reads the tables of these ids, or all of them, whose schema is live too.
pub(crate) async fn read_tables(
    connection: &mut PgConnection,
    ids: Option<&[i64]>,
) -> Result<Vec<TableHeader>, sqlx::Error> {
    sqlx::query(
        "select t.table_id, t.table_uuid, t.table_name, s.schema_id, s.schema_name, s.path, \
                t.path, coalesce(t.path_is_relative, true), \
                (select value from ducklake_metadata \
                  where key = 'data_path' and scope is null limit 1) \
           from ducklake_table t \
           join ducklake_schema s on s.schema_id = t.schema_id and s.end_snapshot is null \
          where t.end_snapshot is null and ($1::bigint[] is null or t.table_id = any($1)) \
          order by t.table_id",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        let schema_path = relative_path(row, 5)?;
        let stored_path = (relative_path(row, 6)?, row.try_get(7)?);
        let path = join(&schema_path, &stored_path.0, stored_path.1);
        // A table that was moved to another schema has an absolute path into the lake.
        let data_path: Option<String> = row.try_get(8)?;
        let below = data_path
            .filter(|data_path| !data_path.is_empty())
            .and_then(|data_path| path.strip_prefix(&data_path).map(str::to_owned));
        Ok(TableHeader {
            id: TableId::new(row.try_get(0)?),
            uuid: row.try_get(1)?,
            name: row.try_get(2)?,
            schema: SchemaId::new(row.try_get(3)?),
            schema_name: row.try_get(4)?,
            path: below.unwrap_or(path),
            stored_path,
        })
    })
    .collect()
}

/// Reads the live columns of these tables, or of all, in the order of `column_order`.
pub(crate) async fn read_columns(
    connection: &mut PgConnection,
    ids: Option<&[i64]>,
) -> Result<BTreeMap<TableId, Vec<ColumnRow>>, sqlx::Error> {
    let rows = sqlx::query(
        "select table_id, column_id, column_order, column_name, column_type, initial_default, \
                default_value, nulls_allowed, parent_column, default_value_type, \
                default_value_dialect \
           from ducklake_column \
          where end_snapshot is null and ($1::bigint[] is null or table_id = any($1)) \
          order by table_id, column_order, column_id",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    let mut columns: BTreeMap<TableId, Vec<ColumnRow>> = BTreeMap::new();
    for row in rows {
        let table = TableId::new(row.try_get(0)?);
        columns.entry(table).or_default().push(ColumnRow {
            id: ColumnId::new(row.try_get(1)?),
            order: row.try_get(2)?,
            name: row.try_get(3)?,
            type_name: row.try_get(4)?,
            initial_default: row.try_get(5)?,
            default_value: row.try_get(6)?,
            nullable: row.try_get(7)?,
            parent: row.try_get::<Option<i64>, _>(8)?.map(ColumnId::new),
            default_value_type: row.try_get(9)?,
            default_value_dialect: row.try_get(10)?,
        });
    }
    Ok(columns)
}

/// The id after the greatest of each table; ended columns count, since ids are never reused.
pub(crate) async fn read_next_column_ids(
    connection: &mut PgConnection,
    ids: Option<&[i64]>,
) -> Result<BTreeMap<TableId, ColumnId>, sqlx::Error> {
    sqlx::query(
        "select table_id, max(column_id) + 1 from ducklake_column \
          where $1::bigint[] is null or table_id = any($1) group by table_id",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        Ok((
            TableId::new(row.try_get(0)?),
            ColumnId::new(row.try_get(1)?),
        ))
    })
    .collect()
}

pub(crate) async fn read_views(connection: &mut PgConnection) -> Result<Vec<View>, sqlx::Error> {
    sqlx::query(
        "select v.view_id, v.schema_id, v.view_name, v.sql, coalesce(v.column_aliases, ''), \
                (select t.value from ducklake_tag t \
                  where t.object_id = v.view_id and t.key = 'comment' and t.end_snapshot is null \
                  limit 1) \
           from ducklake_view v where v.end_snapshot is null order by v.view_id",
    )
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        Ok(View {
            id: ViewId::new(row.try_get(0)?),
            schema: SchemaId::new(row.try_get(1)?),
            name: row.try_get(2)?,
            sql: row.try_get(3)?,
            column_aliases: row.try_get(4)?,
            comment: row.try_get(5)?,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, name: &str, type_name: &str, parent: Option<i64>) -> ColumnRow {
        ColumnRow {
            id: ColumnId::new(id),
            order: id,
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            initial_default: None,
            default_value: None,
            nullable: true,
            parent: parent.map(ColumnId::new),
            default_value_type: None,
            default_value_dialect: None,
        }
    }

    #[test]
    fn nested_rows_become_nested_types() {
        let rows = [
            row(1, "s", "struct", None),
            row(2, "l", "list", Some(1)),
            row(3, "element", "decimal(10, 2)", Some(2)),
            row(4, "m", "MAP", Some(1)),
            row(5, "key", "varchar", Some(4)),
            row(6, "value", "inet", Some(4)),
            row(7, "a", "INT32", None),
            row(8, "broken", "list", None),
        ];
        let columns = column_tree(&rows, None);
        let types: Vec<String> = columns.iter().map(|column| column.ty.to_string()).collect();
        assert_eq!(
            types,
            [
                "struct(l list(decimal(10,2)), m map(varchar, inet))",
                "int32",
                "list"
            ]
        );
        let leaves: Vec<i64> = columns
            .iter()
            .flat_map(Column::leaves)
            .map(|leaf| leaf.id.get())
            .collect();
        assert_eq!(leaves, [3, 5, 6, 7, 8]);
        assert_eq!(
            columns[0].ids().children[0].element(),
            Some(ColumnId::new(3))
        );
    }
}
