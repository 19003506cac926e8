//! The control tables: what a feeder must remember, in schema `duckfeeder` of the catalog database.
//!
//! ```text
//! feeders        one row per feeder: identity of the source, generation, checkpoint, last commit
//! tables         one row per fed table: source, target, state, consistent point of its copy
//! pending_files  files in the object store that no snapshot names yet
//! leases         the process that may feed, for as long as it says so
//! directives     changes of tables that an operator stated ahead
//! append_tables, append_positions  lake tables of append streams, and how far their producers are
//! migrations     versions of this schema
//! ```
//!
//! Four types share the work. [`Control`] reads, and needs no permission from anybody. [`Fence`] is
//! the right to write: a generation of the feeder's row that every transaction compares under the row's
//! lock (I8). [`EpochHook`] does the same inside the catalog's commit, so that a snapshot and the
//! checkpoint that it stands for become visible at once (I2). [`DeclaredFiles`] is the janitor's: it claims what
//! feeders left behind, and touches nothing else.
//!
//! Lock order of every transaction: the feeder's row, then the rest of this schema, then
//! `ducklake_snapshot`. No column ever holds a secret or a value of a source row.

mod append;
mod checkpoint;
mod declared;
mod directives;
mod error;
mod feeders;
mod fence;
mod files;
mod lease;
pub mod migrations;
mod partitions;
mod tables;
mod transition;

pub use append::{AppendPosition, AppendTableRow, StoredPosition};
pub use checkpoint::{EpochHook, Resolution};
pub use declared::{DeclaredFile, DeclaredFiles, JanitorLock};
pub use directives::{Applied, Directive, NewDirective, SchemaChange, Statement, TypeId};
pub use error::ControlError;
pub use feeders::{FeederRow, Generation, NewFeeder};
pub use fence::Fence;
pub use files::PendingFile;
pub use lease::{Claimant, Lease, LeaseLoss, Look};
pub use tables::{NewTable, Requests, TableError, TableRow};
pub use transition::{TableChange, TableTransition};

use std::time::Duration;

use ducklake_catalog::Catalog;
use ducklake_catalog::sqlx::{Postgres, pool::PoolConnection};
use pgoutput::Lsn;

use crate::config::FeederName;
use crate::error::{FeederError, FeederErrorKind};

/// The control tables as one feeder sees them.
#[derive(Clone, Debug)]
pub struct Control {
    catalog: Catalog,
    lake: String,
    feeder: FeederName,
}

impl Control {
    /// The rows of `feeder` in the database of `catalog`. Does not connect.
    pub fn new(catalog: &Catalog, feeder: FeederName) -> Self {
        Self {
            catalog: catalog.clone(),
            lake: catalog.metadata_schema().to_owned(),
            feeder,
        }
    }

    async fn connection(&self) -> Result<PoolConnection<Postgres>, ControlError> {
        Ok(self.catalog.acquire().await?)
    }

    /// The lake that the feeder feeds: its metadata schema.
    pub fn lake(&self) -> &str {
        &self.lake
    }

    /// The feeder's name.
    pub fn feeder(&self) -> &FeederName {
        &self.feeder
    }
}

/// A server that does not answer for so long is taken for lost. Longer than the sessions' own statement timeout, so that one
/// that is there answers first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);

/// Bounds work on the control tables, whose connection may have died without a word. What came of it is unknown then.
///
/// # Errors
/// Those of the work; transient ones of kind [`Catalog`](crate::FeederErrorKind::Catalog) when there is no answer.
pub(crate) async fn answered<T>(
    work: impl Future<Output = Result<T, FeederError>>,
) -> Result<T, FeederError> {
    tokio::time::timeout(ANSWER_TIMEOUT, work)
        .await
        .unwrap_or_else(|_elapsed| {
            Err(FeederError::transient(
                FeederErrorKind::Catalog,
                "the catalog does not answer",
            ))
        })
}

/// Positions travel as text, which both sides print and parse alike.
fn parse_lsn(text: &str, table: &'static str, column: &'static str) -> Result<Lsn, ControlError> {
    text.parse()
        .map_err(|_| ControlError::Corrupt { table, column })
}
