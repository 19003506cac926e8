//! What can go wrong at the control tables, and the one place that judges errors of their database.

use std::borrow::Cow;

use ducklake_catalog::{CatalogError, sqlx};
use pgoutput::Lsn;

use super::Generation;
use crate::config::FeederName;
use crate::error::{chain, from_catalog};
use crate::{FeederError, FeederErrorKind};

/// An error of the control tables.
///
/// A [`CommitHook`](ducklake_catalog::CommitHook) hands it out boxed, where it can be downcast.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Another process raised the generation (I8): this one must stop.
    #[error(
        "feeder `{feeder}` was taken over by {}: generation {current} replaced {held}",
        owner.as_deref().unwrap_or("another process")
    )]
    Fenced {
        /// The feeder.
        feeder: FeederName,
        /// The generation of this process.
        held: Generation,
        /// The generation in the row.
        current: Generation,
        /// Who raised it.
        owner: Option<String>,
    },
    /// Another process feeds.
    #[error(
        "feeder `{feeder}` is running already: {} holds its lease",
        owner.as_deref().unwrap_or("another process")
    )]
    Running {
        /// The feeder.
        feeder: FeederName,
        /// The owner that the row names.
        owner: Option<String>,
    },
    /// Another process holds the lease: this one must stop.
    #[error(
        "feeder `{feeder}` was taken over by {}",
        owner.as_deref().unwrap_or("another process")
    )]
    LeaseTaken {
        /// The feeder.
        feeder: FeederName,
        /// Who holds the lease now.
        owner: Option<String>,
    },
    /// The checkpoint is not where the caller left it (I3): what was to be committed is there
    /// already, or was built on something else.
    #[error("checkpoint of feeder `{feeder}` is {found}, expected {expected}")]
    CheckpointMoved {
        /// The feeder.
        feeder: FeederName,
        /// Where the caller believed it to be.
        expected: Lsn,
        /// Where it is.
        found: Lsn,
    },
    /// A checkpoint was asked to move back.
    #[error("checkpoint of feeder `{feeder}` cannot move back from {from} to {to}")]
    Backwards {
        /// The feeder.
        feeder: FeederName,
        /// Where it is.
        from: Lsn,
        /// Where it should go.
        to: Lsn,
    },
    /// Files of a commit are not, or not all, declared: the janitor claimed them.
    #[error("only {declared} of {files} uploaded files of feeder `{feeder}` are still declared")]
    FilesClaimed {
        /// The feeder.
        feeder: FeederName,
        /// Files of the commit.
        files: u64,
        /// How many of them were declared.
        declared: u64,
    },
    /// The feeder has no row.
    #[error("feeder `{feeder}` is not registered in the catalog")]
    UnknownFeeder {
        /// The feeder.
        feeder: FeederName,
    },
    /// The feeder has a row already.
    #[error("feeder `{feeder}` is registered already")]
    FeederExists {
        /// The feeder.
        feeder: FeederName,
    },
    /// The feeder's checkpoint speaks of another lake in the same database.
    #[error("feeder `{feeder}` feeds the lake with metadata schema `{lake}`")]
    OtherLake {
        /// The feeder.
        feeder: FeederName,
        /// The metadata schema of its lake.
        lake: String,
    },
    /// The feeder has no such table.
    #[error("feeder `{feeder}` has no table {table}")]
    UnknownTable {
        /// The feeder.
        feeder: FeederName,
        /// The table: `schema.table` at the source, or its oid.
        table: String,
    },
    /// There is no directive of that id.
    #[error("feeder `{feeder}` has no directive {id:?}")]
    UnknownDirective {
        /// The feeder.
        feeder: FeederName,
        /// The id that was asked for.
        id: String,
    },
    /// Something else was stated under that id.
    #[error("directive {id:?} states something else: it is {found}, and this is {stated}")]
    DirectiveExists {
        /// The id of both.
        id: String,
        /// What is stored.
        found: String,
        /// What was to be stored.
        stated: String,
    },
    /// The lake has followed the directive.
    #[error("directive {id:?} was applied at {lsn}")]
    DirectiveApplied {
        /// Its id.
        id: String,
        /// Where its change was in the stream.
        lsn: Lsn,
    },
    /// A commit follows a directive that is not pending any more: it was cancelled in the meantime.
    #[error("directive {id:?} of feeder `{feeder}` is not pending any more")]
    DirectiveGone {
        /// The feeder.
        feeder: FeederName,
        /// Its id.
        id: String,
    },
    /// A table was to be bound to a lake table that the commit does not make.
    #[error("the commit makes no lake table for table {table} of feeder `{feeder}`")]
    NotInCommit {
        /// The feeder.
        feeder: FeederName,
        /// The source table's oid.
        table: u32,
    },
    /// A table of an append stream was to be noted that the commit does not make.
    #[error("the commit makes no lake table {target} for feeder `{feeder}`")]
    AppendTableNotInCommit {
        /// The feeder.
        feeder: FeederName,
        /// `schema.table` in the lake.
        target: String,
    },
    /// Two tables would have one name in the lake.
    #[error("{target} in the lake is the target of both {table} and {other}")]
    TargetTaken {
        /// `schema.table` in the lake.
        target: String,
        /// The source table that was to be added.
        table: String,
        /// The source table, and its feeder, that has the name.
        other: String,
    },
    /// The control tables belong to a newer release.
    #[error("control tables have version {found}, this release knows versions up to {known}")]
    NewerSchema {
        /// Version in the database.
        found: i32,
        /// Newest version of this release.
        known: i32,
    },
    /// The control tables are absent or older than this release needs.
    #[error("control tables in schema duckfeeder are {}", match found {
        Some(found) => format!("at version {found}, this release needs {known}"),
        None => "missing".to_owned(),
    })]
    NotMigrated {
        /// Version in the database.
        found: Option<i32>,
        /// Newest version of this release.
        known: i32,
    },
    /// A row holds what this release cannot have written.
    #[error("column {column} of table duckfeeder.{table} holds an unknown value")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// There is no connection to be had.
    #[error(transparent)]
    Connection(#[from] CatalogError),
    /// The database refused, or the connection broke.
    #[error("{action}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
}

impl ControlError {
    /// Wraps errors of the database; `action` says what was being done.
    pub(super) fn database(action: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Database { action, source }
    }

    /// Whether a commit followed a directive that was cancelled in the meantime: it has to be judged again, from the
    /// checkpoint on.
    pub(crate) fn is_of_directive(error: &FeederError) -> bool {
        let cause = std::error::Error::source(error);
        let control = cause.and_then(|cause| cause.downcast_ref());
        matches!(control, Some(Self::DirectiveGone { .. }))
    }

    fn remedy(&self) -> Option<Cow<'static, str>> {
        let remedy = match self {
            Self::Connection(error) => return error.remedy().map(Cow::Owned),
            Self::Fenced { .. } | Self::LeaseTaken { .. } => {
                Some("let the other process run, or stop it first")
            }
            Self::Running { .. } => {
                Some("stop the other process, or give this feeder another `name`")
            }
            Self::UnknownFeeder { .. } => Some("start the feeder once with `duckfeeder run`"),
            Self::OtherLake { .. } => Some(
                "set `catalog.metadata_schema` to that schema, or give this feeder another `name`",
            ),
            Self::UnknownTable { .. } => Some("`duckfeeder status` lists the tables"),
            Self::UnknownDirective { .. } => Some("`duckfeeder schema list` shows what there is"),
            Self::DirectiveExists { .. } => Some(
                "give this one another --id; `duckfeeder schema cancel` takes one back that is still pending",
            ),
            Self::DirectiveApplied { .. } => Some("a change that came cannot be taken back"),
            Self::TargetTaken { .. } => {
                Some("set `target_schema` or `target_table` for one of them")
            }
            Self::NewerSchema { .. } => Some("upgrade duckfeeder"),
            Self::NotMigrated { .. } => Some(MIGRATE),
            Self::Database { source, .. } => judge(source).1,
            _ => None,
        };
        remedy.map(Cow::Borrowed)
    }

    fn kind(&self) -> FeederErrorKind {
        match self {
            Self::Fenced { .. } | Self::LeaseTaken { .. } | Self::Running { .. } => {
                FeederErrorKind::Fenced
            }
            Self::Backwards { .. }
            | Self::NotInCommit { .. }
            | Self::AppendTableNotInCommit { .. } => FeederErrorKind::Internal,
            Self::UnknownTable { .. }
            | Self::TargetTaken { .. }
            | Self::OtherLake { .. }
            | Self::UnknownDirective { .. }
            | Self::DirectiveExists { .. }
            | Self::DirectiveApplied { .. } => FeederErrorKind::Config,
            _ => FeederErrorKind::Catalog,
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            // Going back to the checkpoint in the row cures them.
            Self::CheckpointMoved { .. }
            | Self::FilesClaimed { .. }
            | Self::DirectiveGone { .. } => true,
            Self::Connection(error) => error.is_transient(),
            Self::Database { source, .. } => judge(source).0 == Verdict::Transient,
            _ => false,
        }
    }
}

impl From<ControlError> for FeederError {
    fn from(error: ControlError) -> Self {
        let feeder_error = Self::from(&error);
        match error {
            ControlError::Connection(error) => from_catalog(error),
            ControlError::Database { source, .. } => feeder_error.with_source(source),
            // For whoever moves the checkpoint: that commit can never succeed.
            ControlError::DirectiveGone { .. } => feeder_error.with_source(error),
            _ => feeder_error,
        }
    }
}

/// For an error that only a borrow can be had of, such as the source of a
/// [`CatalogError`](ducklake_catalog::CatalogError).
impl From<&ControlError> for FeederError {
    fn from(error: &ControlError) -> Self {
        let (kind, message) = (error.kind(), error.to_string());
        let feeder_error = if error.is_transient() {
            Self::transient(kind, message)
        } else {
            Self::permanent(kind, message)
        };
        let feeder_error = match error.remedy() {
            Some(remedy) => feeder_error.with_remedy(remedy),
            None => feeder_error,
        };
        match error {
            ControlError::Connection(error) => match std::error::Error::source(error) {
                Some(source) => feeder_error.with_source(chain(source)),
                None => feeder_error,
            },
            ControlError::Database { source, .. } => feeder_error.with_source(source.to_string()),
            _ => feeder_error,
        }
    }
}

const MIGRATE: &str = "run `duckfeeder migrate`, or the script of `duckfeeder migrate --print`";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Transient,
    Permanent,
}

/// Transient unless proven permanent, and what the operator can do.
fn judge(error: &sqlx::Error) -> (Verdict, Option<&'static str>) {
    match error {
        sqlx::Error::Database(database) => judge_sqlstate(database.code().as_deref()),
        sqlx::Error::Configuration(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Encode(_) => (Verdict::Permanent, None),
        _ => (Verdict::Transient, None),
    }
}

/// Codes: Postgres documentation, appendix "PostgreSQL Error Codes".
fn judge_sqlstate(code: Option<&str>) -> (Verdict, Option<&'static str>) {
    let code = code.unwrap_or_default();
    match (code, code.get(..2).unwrap_or_default()) {
        // undefined_table, invalid_schema_name, undefined_column
        ("42P01" | "3F000" | "42703", _) => (Verdict::Permanent, Some(MIGRATE)),
        // insufficient_privilege
        ("42501", _) => (
            Verdict::Permanent,
            Some(
                "grant the catalog role usage on schema duckfeeder, and select, insert, update and \
                 delete on its tables",
            ),
        ),
        // disk_full
        ("53100", _) => (
            Verdict::Transient,
            Some("make room on the disk of the catalog server"),
        ),
        // lock_not_available
        ("55P03", _) => (
            Verdict::Transient,
            Some("find the open transaction in pg_stat_activity of the catalog server and end it"),
        ),
        // read_only_sql_transaction
        ("25006", _) => (
            Verdict::Transient,
            Some("let `catalog.url` lead to the primary"),
        ),
        // data exception, integrity constraint violation, syntax error or access rule violation
        (_, "22" | "23" | "42") => (Verdict::Permanent, None),
        _ => (Verdict::Transient, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_unless_proven_permanent() {
        for code in [
            "08006", "40001", "40P01", "53100", "53300", "55P03", "57P01", "57P03", "25006", "",
        ] {
            assert_eq!(judge_sqlstate(Some(code)).0, Verdict::Transient, "{code}");
        }
        for code in ["42501", "42P01", "42703", "3F000", "23514"] {
            assert_eq!(judge_sqlstate(Some(code)).0, Verdict::Permanent, "{code}");
        }
        assert_eq!(judge_sqlstate(None).0, Verdict::Transient);
    }

    #[test]
    fn a_missing_table_leads_to_migrate() {
        let (_, remedy) = judge_sqlstate(Some("42P01"));
        assert!(remedy.is_some_and(|remedy| remedy.contains("duckfeeder migrate")));
    }

    #[test]
    fn fenced_stops_and_a_moved_checkpoint_does_not() {
        let feeder = FeederName::parse("shop").unwrap();
        let fenced = FeederError::from(ControlError::Fenced {
            feeder: feeder.clone(),
            held: Generation::new(1),
            current: Generation::new(2),
            owner: Some("db2:77".to_owned()),
        });
        assert_eq!(fenced.kind(), FeederErrorKind::Fenced);
        assert!(!fenced.is_transient());
        assert_eq!(
            fenced.to_string(),
            "feeder `shop` was taken over by db2:77: generation 2 replaced 1"
        );
        let moved = FeederError::from(ControlError::CheckpointMoved {
            feeder,
            expected: Lsn::new(1),
            found: Lsn::new(2),
        });
        assert!(moved.is_transient());
    }
}
