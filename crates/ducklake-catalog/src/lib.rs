//! Creates and commits to a DuckLake whose catalog is in Postgres, without DuckDB.
//!
//! A [DuckLake](https://ducklake.select) is a set of Parquet files plus SQL tables that say which
//! files belong to which table at which snapshot. This crate writes those SQL tables (format
//! version 1.0): it [bootstraps](Catalog::bootstrap) a lake that DuckDB 1.5.2 and later accept as
//! their own, and [commits](Catalog::commit) a [`ChangeSet`] (files with their statistics, new
//! schemas, tables and views, changed columns) as one snapshot in one Postgres transaction. A
//! [`CommitHook`] runs inside that transaction, so that a caller can commit state of its own
//! together with the snapshot.
//!
//! What it deliberately does not do: it neither reads nor writes Parquet, touches no object store,
//! and knows nothing of where the rows come from. Upload files first, then commit them.
//!
//! ```no_run
//! use ducklake_catalog::{
//!     Catalog, CatalogOptions, ChangeSet, ColumnDef, DataFile, LakeType, NoHook, TableDef,
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let connect = "postgres://lake@localhost/lake".parse()?;
//! let catalog = Catalog::connect(CatalogOptions::new(connect)).await?;
//! catalog.bootstrap("s3://bucket/lake/").await?;
//!
//! let mut changes = ChangeSet::new().with_author("example");
//! let schema = changes.ensure_schema("raw");
//! let table = changes.create_table(
//!     schema,
//!     TableDef::new("orders", vec![ColumnDef::new("id", LakeType::Int64).not_null()]),
//! );
//! changes.append_file(table, DataFile {
//!     path: "0192f0c4.parquet".to_owned(),
//!     record_count: 3,
//!     file_size_bytes: 512,
//!     footer_size: 180,
//!     columns: Vec::new(),
//! });
//! let committed = catalog.commit(&changes, &mut NoHook).await?;
//! println!("snapshot {}", committed.id);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod attach;
mod bootstrap;
mod catalog;
mod change_set;
mod changes_made;
mod checks;
mod commit;
mod connections;
mod data_file;
mod error;
mod files;
mod hook;
mod ids;
mod initial_default;
mod inspect;
mod lake;
mod lake_type;
mod layout;
mod read;
mod stats;
mod table_def;

pub use sqlx;

pub use attach::attach_sql;
pub use bootstrap::Bootstrap;
pub use catalog::{Catalog, CatalogOptions, Snapshot};
pub use change_set::{ChangeSet, SchemaRef, SchemaSelector, TableRef};
pub use checks::Finding;
pub use commit::CommittedSnapshot;
pub use connections::{ConnectProvider, CredentialsError};
pub use data_file::{DataFile, FileColumnStats, StatBounds, StatValue};
pub use error::{CatalogError, CatalogErrorKind};
pub use files::{FileReference, ScheduledFile};
pub use hook::{CommitHook, HookError, NoHook};
pub use ids::{ColumnId, DataFileId, SchemaId, SnapshotId, TableId, ViewId};
pub use initial_default::InvalidDefault;
pub use inspect::LakeInfo;
pub use lake::{Column, Lake, Schema, Table, View};
pub use lake_type::{LakeType, UnknownLakeType};
pub use table_def::{ColumnDef, ColumnIds, TableDef, ViewDef};

/// The catalog format that this crate writes, as stored in the lake's `version` key.
pub const FORMAT_VERSION: &str = "1.0";

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
