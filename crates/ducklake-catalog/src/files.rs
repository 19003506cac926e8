//! Which files the catalog knows, for those who clean up: files that rows name, and files that are to be deleted.

use std::time::Duration;

use sqlx::Row;

use crate::{Catalog, CatalogError, CatalogErrorKind, LakeInfo};

/// A row of the catalog that names a file: one of `ducklake_data_file`, `ducklake_delete_file` or
/// `ducklake_files_scheduled_for_deletion`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReference {
    /// The last segment of the path.
    pub name: String,
    /// The whole path, data path included; `None` when the rows that it is relative to are missing.
    pub path: Option<String>,
    /// Whether the file is scheduled for deletion, and so belongs to no snapshot any more.
    pub scheduled: bool,
}

/// A file of `ducklake_files_scheduled_for_deletion`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduledFile {
    /// The id that it had as a data or delete file.
    pub id: i64,
    /// The whole path, data path included.
    pub path: String,
    /// How long ago it was scheduled, by the catalog's clock.
    pub age: Duration,
    /// The path as stored.
    stored: String,
}

impl Catalog {
    /// The rows, of any snapshot, that name a file whose last segment is one of `names`. Read at one instant: a file
    /// that moves from one table of the catalog to another meanwhile is not missed.
    ///
    /// # Errors
    /// [`CatalogErrorKind::NoLake`] when there is no lake.
    pub async fn file_references(
        &self,
        names: &[String],
    ) -> Result<Vec<FileReference>, CatalogError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let data_path = self.data_path().await?;
        let failed = |error| CatalogError::from_sqlx(error, "the files of the catalog");
        let mut connection = self.acquire().await?;
        // Old versions of a table or schema may lie elsewhere: every version counts.
        let rows = sqlx::query(
            "with wanted as (select distinct name from unnest($2::text[]) as w (name)), \
             directory as ( \
               select distinct t.table_id, \
                      case when coalesce(t.path_is_relative, true) \
                           then case when coalesce(s.path_is_relative, true) then $1 || s.path \
                                     else s.path end || t.path \
                           else t.path end as path \
                 from ducklake_table t left join ducklake_schema s on s.schema_id = t.schema_id), \
             named as ( \
               select table_id, path, path_is_relative from ducklake_data_file \
               union all select table_id, path, path_is_relative from ducklake_delete_file) \
             select w.name, \
                    case when coalesce(f.path_is_relative, true) then d.path || f.path \
                         else f.path end, false \
               from named f join wanted w on w.name = split_part(f.path, '/', -1) \
               left join directory d on d.table_id = f.table_id \
             union \
             select w.name, \
                    case when coalesce(f.path_is_relative, true) then $1 || f.path else f.path end, true \
               from ducklake_files_scheduled_for_deletion f \
               join wanted w on w.name = split_part(f.path, '/', -1)",
        )
        .bind(&data_path)
        .bind(names)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
        rows.iter()
            .map(|row| {
                Ok(FileReference {
                    name: row.try_get(0)?,
                    path: row.try_get(1)?,
                    scheduled: row.try_get(2)?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(failed)
    }

    /// The directories of all tables of all snapshots, with a trailing slash and the data path.
    ///
    /// # Errors
    /// [`CatalogErrorKind::NoLake`] when there is no lake.
    pub async fn table_directories(&self) -> Result<Vec<String>, CatalogError> {
        let data_path = self.data_path().await?;
        let mut connection = self.acquire().await?;
        sqlx::query_scalar(
            "select distinct case when coalesce(t.path_is_relative, true) \
                    then case when coalesce(s.path_is_relative, true) then $1 || s.path \
                              else s.path end || t.path \
                    else t.path end \
               from ducklake_table t join ducklake_schema s on s.schema_id = t.schema_id \
              where t.path is not null and s.path is not null",
        )
        .bind(&data_path)
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| CatalogError::from_sqlx(error, "the tables of the catalog"))
    }

    /// At most `limit` files that were scheduled for deletion at least `age` ago, those whose stored path comes
    /// after that of `after`, in the order of bytes.
    ///
    /// # Errors
    /// [`CatalogErrorKind::NoLake`] when there is no lake.
    pub async fn scheduled_files(
        &self,
        age: Duration,
        after: Option<&ScheduledFile>,
        limit: u32,
    ) -> Result<Vec<ScheduledFile>, CatalogError> {
        let data_path = self.data_path().await?;
        let failed = |error| CatalogError::from_sqlx(error, SCHEDULED);
        let mut connection = self.acquire().await?;
        let rows = sqlx::query(
            "select data_file_id, case when coalesce(path_is_relative, true) then $1 || path else path end, \
                    extract(epoch from clock_timestamp() - schedule_start)::float8, path \
               from ducklake_files_scheduled_for_deletion \
              where schedule_start <= clock_timestamp() - make_interval(secs => $2) \
                and ($3::text is null or (path collate \"C\", data_file_id) > ($3 collate \"C\", $4)) \
              order by path collate \"C\", data_file_id limit $5",
        )
        .bind(&data_path)
        .bind(age.as_secs_f64())
        .bind(after.map(|file| file.stored.as_str()))
        .bind(after.map(|file| file.id))
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
        rows.iter()
            .map(|row| {
                let seconds: f64 = row.try_get(2)?;
                Ok(ScheduledFile {
                    id: row.try_get(0)?,
                    path: row.try_get(1)?,
                    age: Duration::try_from_secs_f64(seconds).unwrap_or_default(),
                    stored: row.try_get(3)?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(failed)
    }

    /// Takes files off the list of those to be deleted, once they are. Makes no snapshot, as DuckDB's own cleanup
    /// makes none.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn forget_scheduled_files(
        &self,
        files: &[ScheduledFile],
    ) -> Result<(), CatalogError> {
        let ids: Vec<i64> = files.iter().map(|file| file.id).collect();
        let paths: Vec<&str> = files.iter().map(|file| file.stored.as_str()).collect();
        let mut connection = self.acquire().await?;
        sqlx::query(
            "delete from ducklake_files_scheduled_for_deletion f \
              using unnest($1::bigint[], $2::text[]) as gone (id, path) \
              where f.data_file_id = gone.id and f.path = gone.path",
        )
        .bind(ids)
        .bind(paths)
        .execute(&mut *connection)
        .await
        .map_err(|error| CatalogError::from_sqlx(error, SCHEDULED))?;
        Ok(())
    }

    /// With its trailing slash.
    async fn data_path(&self) -> Result<String, CatalogError> {
        match self.inspect().await? {
            Some(LakeInfo { data_path, .. }) if data_path.ends_with('/') => Ok(data_path),
            Some(LakeInfo { data_path, .. }) => Ok(format!("{data_path}/")),
            None => Err(CatalogError::new(CatalogErrorKind::NoLake, self.object())),
        }
    }
}

const SCHEDULED: &str = "the files scheduled for deletion";
