//! Changes of the fed tables' control rows.

use ducklake_catalog::sqlx::{self, PgConnection, Postgres, query::Query};
use pgoutput::Lsn;

use super::ControlError;
use crate::config::FeederName;

/// One change of one table.
#[derive(Clone, Debug)]
pub struct TableTransition {
    /// The table's oid at the source.
    pub source_oid: u32,
    /// What changes.
    pub change: TableChange,
}

impl TableTransition {
    /// It waits for a copy; see [`TableChange::Pending`].
    pub fn pending(source_oid: u32) -> Self {
        Self::new(source_oid, TableChange::Pending)
    }

    /// Its copy began.
    pub fn copying(source_oid: u32) -> Self {
        Self::new(source_oid, TableChange::Copying)
    }

    /// It is complete from `copy_point` on.
    pub fn streaming(source_oid: u32, copy_point: Lsn, copied_rows: u64) -> Self {
        Self::new(
            source_oid,
            TableChange::Streaming {
                copy_point,
                copied_rows,
            },
        )
    }

    /// It was taken out of the configuration.
    pub fn paused(source_oid: u32) -> Self {
        Self::new(source_oid, TableChange::Paused)
    }

    /// Its changes are not recorded from `(lsn, seq)` on. `reason` never holds row values.
    pub fn error(source_oid: u32, lsn: Lsn, seq: i64, reason: String) -> Self {
        Self::new(source_oid, TableChange::Error { lsn, seq, reason })
    }

    /// So many more changes were not recorded.
    pub fn discarded(source_oid: u32, changes: u64) -> Self {
        Self::new(source_oid, TableChange::Discarded(changes))
    }

    /// So many more values went to the dead letters.
    pub fn unrepresentable(source_oid: u32, values: u64) -> Self {
        Self::new(source_oid, TableChange::Unrepresentable(values))
    }

    /// It is fed into the lake table of this `ducklake_table.table_id`.
    pub fn lake_table(source_oid: u32, table_id: i64) -> Self {
        Self::new(source_oid, TableChange::LakeTable(table_id))
    }

    /// Its columns, key or identity are now these.
    pub fn shape(source_oid: u32, shape: serde_json::Value) -> Self {
        Self::new(source_oid, TableChange::Shape(shape))
    }

    /// Its partitions are now these.
    pub fn partitions(source_oid: u32, partitions: serde_json::Value) -> Self {
        Self::new(source_oid, TableChange::Partitions(partitions))
    }

    /// This transaction truncated it.
    pub fn truncated_by(source_oid: u32, transaction: u32) -> Self {
        Self::new(source_oid, TableChange::TruncatedBy(transaction))
    }

    /// It was dropped and made again as this table; see [`TableChange::Replaced`].
    pub fn replaced(source_oid: u32, by: u32) -> Self {
        Self::new(source_oid, TableChange::Replaced(by))
    }

    /// It has another name at the source, and maybe in the lake.
    pub fn renamed(source_oid: u32, source: (&str, &str), target_table: &str) -> Self {
        let change = TableChange::Renamed {
            source_schema: source.0.to_owned(),
            source_table: source.1.to_owned(),
            target_table: target_table.to_owned(),
        };
        Self::new(source_oid, change)
    }

    /// The change that this directive stated came at `lsn`; see [`TableChange::Directive`].
    pub fn directive(source_oid: u32, id: &str, lsn: Lsn) -> Self {
        let id = id.to_owned();
        Self::new(source_oid, TableChange::Directive { id, lsn })
    }

    /// It is forgotten; see [`TableChange::Removed`].
    pub fn removed(source_oid: u32) -> Self {
        Self::new(source_oid, TableChange::Removed)
    }

    fn new(source_oid: u32, change: TableChange) -> Self {
        Self { source_oid, change }
    }
}

/// What changes about a table.
#[derive(Clone, Debug)]
pub enum TableChange {
    /// It waits for a copy, whatever it was before: forgets copy, error and request.
    Pending,
    /// Its copy began.
    Copying,
    /// It is complete from `copy_point` on.
    Streaming {
        /// The copy's consistent point.
        copy_point: Lsn,
        /// Rows of the copy.
        copied_rows: u64,
    },
    /// It was taken out of the configuration.
    Paused,
    /// Its changes are not recorded from here on.
    Error {
        /// Commit position of the first transaction that is not in the lake.
        lsn: Lsn,
        /// The change in it that failed, by its order in the transaction.
        seq: i64,
        /// The reason; never holds row values.
        reason: String,
    },
    /// So many more changes were not recorded.
    Discarded(u64),
    /// So many more values went to the dead letters.
    Unrepresentable(u64),
    /// It is fed into the lake table of this `ducklake_table.table_id`.
    LakeTable(i64),
    /// Its columns, key or identity are now these.
    Shape(serde_json::Value),
    /// Its partitions are now these.
    Partitions(serde_json::Value),
    /// This transaction truncated it.
    TruncatedBy(u32),
    /// Another table at the source, of this oid, takes its place in the lake. Its state stays: a copy has to begin the
    /// new history.
    Replaced(u32),
    /// It has another name at the source, and maybe in the lake.
    Renamed {
        /// Its schema at the source.
        source_schema: String,
        /// Its name at the source.
        source_table: String,
        /// Its name in the lake.
        target_table: String,
    },
    /// A stated change came, and the lake follows it: the directive is applied. It has to be pending.
    Directive {
        /// Which.
        id: String,
        /// Where the change was in the stream.
        lsn: Lsn,
    },
    /// It is forgotten, and its name in the lake becomes free for another table.
    Removed,
}

/// Applies one change; the table must exist, and a directive be pending.
pub(super) async fn apply(
    tx: &mut PgConnection,
    feeder: &FeederName,
    transition: &TableTransition,
) -> Result<(), ControlError> {
    let updated = statement(feeder, transition)
        .execute(tx)
        .await
        .map_err(ControlError::database("changing the state of a table"))?;
    if updated.rows_affected() == 1 {
        return Ok(());
    }
    let feeder = feeder.clone();
    Err(match &transition.change {
        TableChange::Directive { id, .. } => ControlError::DirectiveGone {
            feeder,
            id: id.clone(),
        },
        _ => ControlError::UnknownTable {
            feeder,
            table: transition.source_oid.to_string(),
        },
    })
}

type Statement<'q> = Query<'q, Postgres, sqlx::postgres::PgArguments>;

fn statement<'q>(feeder: &'q FeederName, transition: &'q TableTransition) -> Statement<'q> {
    let on = |sql: &'static str| {
        sqlx::query(sql)
            .bind(feeder.as_str())
            .bind(i64::from(transition.source_oid))
    };
    match &transition.change {
        TableChange::Pending => on("update duckfeeder.tables
             set state = 'pending', copy_point = null, copied_rows = 0, unrepresentable = 0, error_lsn = null,
                 error_seq = null, error_reason = null, discarded = 0, resync_requested = false,
                 updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2"),
        TableChange::Copying => on("update duckfeeder.tables
             set state = 'copying', updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2"),
        TableChange::Streaming {
            copy_point,
            copied_rows,
        } => on("update duckfeeder.tables
             set state = 'streaming', copy_point = $3::text::pg_lsn, copied_rows = $4,
                 updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2")
        .bind(copy_point.to_string())
        .bind(clamp(*copied_rows)),
        TableChange::Paused => on("update duckfeeder.tables
             set state = 'paused', updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2"),
        TableChange::Error { lsn, seq, reason } => on("update duckfeeder.tables
             set state = 'error', error_lsn = $3::text::pg_lsn, error_seq = $4, error_reason = $5,
                 discarded = 0, updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2")
        .bind(lsn.to_string())
        .bind(seq)
        .bind(reason),
        TableChange::Discarded(changes) => on("update duckfeeder.tables
             set discarded = discarded + $3, updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2")
        .bind(clamp(*changes)),
        TableChange::Unrepresentable(values) => on("update duckfeeder.tables
             set unrepresentable = unrepresentable + $3, updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2")
        .bind(clamp(*values)),
        TableChange::LakeTable(id) => on("update duckfeeder.tables
             set lake_table_id = $3, updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2")
        .bind(id),
        TableChange::Shape(shape) => on("update duckfeeder.tables
             set shape = $3, updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2")
        .bind(shape),
        TableChange::Partitions(partitions) => on("update duckfeeder.tables
             set partitions = $3, updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2")
        .bind(partitions),
        TableChange::TruncatedBy(transaction) => on("update duckfeeder.tables
             set truncated_by = $3, updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2")
        .bind(i64::from(*transaction)),
        TableChange::Replaced(by) => on("update duckfeeder.tables
             set source_oid = $3, publication = null, partitions = null, truncated_by = null,
                 updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2")
        .bind(i64::from(*by)),
        TableChange::Renamed {
            source_schema,
            source_table,
            target_table,
        } => on("update duckfeeder.tables
             set source_schema = $3, source_table = $4, target_table = $5, updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2")
        .bind(source_schema)
        .bind(source_table)
        .bind(target_table),
        TableChange::Directive { id, lsn } => on("update duckfeeder.directives
             set applied_lsn = $4::text::pg_lsn, applied_at = clock_timestamp()
             where feeder = $1 and source_oid = $2 and id = $3 and applied_lsn is null")
        .bind(id)
        .bind(lsn.to_string()),
        TableChange::Removed => on("delete from duckfeeder.tables
             where feeder = $1 and source_oid = $2"),
    }
}

/// Counts beyond 2^63 do not occur; a counter must not be what stops a feeder.
fn clamp(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
