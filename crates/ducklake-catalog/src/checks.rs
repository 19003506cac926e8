//! Findings about the catalog's database that make commits fail although the lake is sound.

use sqlx::Row;

use crate::changes_made::quote;
use crate::{Catalog, CatalogError};

/// Something that stands in the way of commits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A publication of updates or deletes covers catalog tables, present or future, that have no
    /// replica identity: Postgres then refuses every commit to the lake, DuckDB's included.
    PublishedWithoutIdentity {
        /// The publication.
        publication: String,
        /// The catalog tables that are there and lack a replica identity; empty when there is no
        /// lake yet.
        tables: Vec<String>,
        /// The metadata schema.
        metadata_schema: String,
    },
}

impl Finding {
    /// What is wrong.
    pub fn message(&self) -> String {
        match self {
            Self::PublishedWithoutIdentity {
                publication,
                tables,
                metadata_schema,
            } => format!(
                "publication {publication} covers {} of schema {metadata_schema} without a replica \
                 identity, so that Postgres refuses every commit to the lake",
                match tables.len() {
                    0 => "the future catalog tables".to_owned(),
                    1 => "one catalog table".to_owned(),
                    count => format!("{count} catalog tables"),
                }
            ),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::PublishedWithoutIdentity {
                tables,
                metadata_schema,
                ..
            } => {
                let own_database = "give the catalog a database of its own";
                if tables.is_empty() {
                    return format!("{own_database}, or publish an explicit list of tables");
                }
                let statements: Vec<String> = tables
                    .iter()
                    .map(|table| {
                        format!(
                            "ALTER TABLE {}.{} REPLICA IDENTITY FULL;",
                            quote(metadata_schema),
                            quote(table)
                        )
                    })
                    .collect();
                format!("{own_database}, or run: {}", statements.join(" "))
            }
        }
    }
}

impl Catalog {
    /// Looks for what makes commits fail. Creates nothing; works with and without a lake.
    pub async fn checks(&self) -> Result<Vec<Finding>, CatalogError> {
        let failed = |error| CatalogError::from_sqlx(error, "the publications of the catalog");
        let mut connection = self.acquire().await?;
        // Inserts need no identity, so a publication of inserts alone is harmless. A default
        // identity is the primary key, which most catalog tables lack.
        let covered = sqlx::query(
            "select p.pubname::text, array_agg(c.relname::text order by c.relname) \
               from pg_publication p \
               join pg_publication_tables t on t.pubname = p.pubname \
               join pg_namespace n on n.nspname = t.schemaname \
               join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename \
              where (p.pubupdate or p.pubdelete) \
                and n.nspname = $1 and c.relname like 'ducklake\\_%' \
                and (c.relreplident = 'n' or c.relreplident = 'd' and not exists ( \
                     select from pg_index i \
                      where i.indrelid = c.oid and i.indisprimary and i.indimmediate)) \
              group by p.pubname order by p.pubname",
        )
        .bind(self.metadata_schema())
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
        let mut findings = Vec::new();
        for row in covered {
            findings.push(Finding::PublishedWithoutIdentity {
                publication: row.try_get(0).map_err(failed)?,
                tables: row.try_get(1).map_err(failed)?,
                metadata_schema: self.metadata_schema().to_owned(),
            });
        }
        if crate::inspect::read(&mut connection, self.metadata_schema())
            .await?
            .is_some()
        {
            return Ok(findings);
        }
        // Without a lake, what counts are the publications that will cover it.
        let schemas_can_be_published: bool =
            sqlx::query("select to_regclass('pg_catalog.pg_publication_namespace') is not null")
                .fetch_one(&mut *connection)
                .await
                .and_then(|row| row.try_get(0))
                .map_err(failed)?;
        let statement = if schemas_can_be_published {
            "select p.pubname::text from pg_publication p \
              where (p.pubupdate or p.pubdelete) and (p.puballtables or exists ( \
                    select from pg_publication_namespace s \
                      join pg_namespace n on n.oid = s.pnnspid \
                     where s.pnpubid = p.oid and n.nspname = $1)) \
              order by 1"
        } else {
            "select p.pubname::text from pg_publication p \
              where (p.pubupdate or p.pubdelete) and p.puballtables and $1 is not null order by 1"
        };
        let future = sqlx::query(statement)
            .bind(self.metadata_schema())
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        for row in future {
            findings.push(Finding::PublishedWithoutIdentity {
                publication: row.try_get(0).map_err(failed)?,
                tables: Vec::new(),
                metadata_schema: self.metadata_schema().to_owned(),
            });
        }
        Ok(findings)
    }
}
