//! Creation of a lake, and the checks before an existing one is used.

use sqlx::{Connection, PgConnection, Row};

use crate::inspect::{self, LakeInfo};
use crate::layout::normalize_data_path;
use crate::{Catalog, CatalogError, CatalogErrorKind, FORMAT_VERSION};

/// What [`Catalog::bootstrap`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootstrap {
    /// There was no lake; there is one now.
    Created,
    /// There was a lake that this crate can write.
    Existing,
}

const CREATED_BY: &str = concat!("duckfeeder ", env!("CARGO_PKG_VERSION"));

/// Serialises bootstraps; the number is arbitrary but must never change.
const BOOTSTRAP_LOCK: i64 = 0x6475_636b_6c61_6b65;

impl Catalog {
    /// Creates the lake if the metadata schema holds none, else checks that it can be used.
    ///
    /// `data_path` is an absolute path or a URL such as `s3://bucket/prefix`; a missing trailing slash
    /// is added and `file://` is taken off. Creation is one transaction under an advisory lock, so
    /// that several callers may race; the metadata schema is created when it is missing.
    ///
    /// # Errors
    /// An existing lake of another version, with another data path, or encrypted, is refused with
    /// the kind that says so. Nothing is changed then.
    pub async fn bootstrap(&self, data_path: &str) -> Result<Bootstrap, CatalogError> {
        let wanted = normalize_data_path(data_path)?;
        let object = self.object();
        let mut connection = self.acquire().await?;
        if let Some(info) = inspect::read(&mut connection, self.metadata_schema()).await? {
            self.check_usable(&info, &wanted)?;
            return Ok(Bootstrap::Existing);
        }
        let failed = |error| CatalogError::from_sqlx(error, object.clone());
        let mut tx = connection.begin().await.map_err(failed)?;
        match self.create_if_absent(&mut tx, &wanted).await {
            Ok(Bootstrap::Created) => {
                tx.commit()
                    .await
                    .map_err(|error| failed(error).during_commit())?;
                Ok(Bootstrap::Created)
            }
            other => {
                // Dropping it would roll back too, but later: others wait for the lock.
                tx.rollback().await.map_err(failed)?;
                other
            }
        }
    }

    /// Decides under the lock: another caller may have been faster.
    async fn create_if_absent(
        &self,
        connection: &mut PgConnection,
        data_path: &str,
    ) -> Result<Bootstrap, CatalogError> {
        let failed = |error| CatalogError::from_sqlx(error, self.object());
        sqlx::query("select pg_advisory_xact_lock($1)")
            .bind(BOOTSTRAP_LOCK)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        if let Some(info) = inspect::read(connection, self.metadata_schema()).await? {
            self.check_usable(&info, data_path)?;
            return Ok(Bootstrap::Existing);
        }
        create(connection, self.metadata_schema(), data_path)
            .await
            .map_err(failed)?;
        Ok(Bootstrap::Created)
    }

    fn check_usable(&self, info: &LakeInfo, wanted: &str) -> Result<(), CatalogError> {
        let object = self.object();
        if info.version != FORMAT_VERSION {
            let found = info.version.clone();
            return Err(CatalogError::new(
                CatalogErrorKind::WrongVersion { found },
                object,
            ));
        }
        if info.encrypted {
            return Err(CatalogError::new(CatalogErrorKind::Encrypted, object));
        }
        if info.data_path.trim_end_matches('/') != wanted.trim_end_matches('/') {
            let kind = CatalogErrorKind::DataPathMismatch {
                catalog: info.data_path.clone(),
                wanted: wanted.to_owned(),
            };
            return Err(CatalogError::new(kind, object));
        }
        Ok(())
    }
}

async fn create(
    connection: &mut PgConnection,
    metadata_schema: &str,
    data_path: &str,
) -> Result<(), sqlx::Error> {
    let exists: bool = sqlx::query("select exists(select from pg_namespace where nspname = $1)")
        .bind(metadata_schema)
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    if !exists {
        let name = crate::changes_made::quote(metadata_schema);
        // The name is quoted; a schema's name cannot be bound.
        let statement = sqlx::AssertSqlSafe(format!("create schema {name}"));
        sqlx::raw_sql(statement).execute(&mut *connection).await?;
    }
    sqlx::raw_sql(include_str!("sql/tables_1_0.sql"))
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "with snapshot as ( \
             insert into ducklake_snapshot \
                 (snapshot_id, snapshot_time, schema_version, next_catalog_id, next_file_id) \
             values (0, clock_timestamp(), 0, 1, 0)), \
         changes as ( \
             insert into ducklake_snapshot_changes \
                 (snapshot_id, changes_made, author, commit_message, commit_extra_info) \
             values (0, 'created_schema:\"main\"', null, null, null)), \
         main as ( \
             insert into ducklake_schema \
                 (schema_id, schema_uuid, begin_snapshot, end_snapshot, schema_name, path, \
                  path_is_relative) \
             values (0, $1, 0, null, 'main', 'main/', true)) \
         insert into ducklake_metadata (key, value, scope, scope_id) \
         values ('version', $2, null, null), ('created_by', $3, null, null), \
                ('data_path', $4, null, null), ('encrypted', 'false', null, null)",
    )
    .bind(uuid::Uuid::new_v4())
    .bind(FORMAT_VERSION)
    .bind(CREATED_BY)
    .bind(data_path)
    .execute(connection)
    .await?;
    Ok(())
}
