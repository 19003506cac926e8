//! How a feeder is doing, from catalog and source alone: for `status`, `wait` and scripts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;
use cdc_source::{Connection, SessionKind, slot};
use pgoutput::Lsn;
use serde::Serialize;

use crate::check;
use crate::config::FeederConfig;
use crate::control::{Control, migrations};
use crate::coordinator::IDLE_BYTES;
use crate::error::{FeederError, FeederErrorKind, from_catalog, from_source};
use crate::status::TableState;

/// A feeder's state as the databases have it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The feeder's name.
    pub name: String,
    /// Everything that committed before this position is in the lake.
    pub checkpoint: String,
    /// The last lake snapshot.
    pub last_snapshot: Option<i64>,
    /// Commit time of the last transaction in the lake, at the source.
    pub commit_timestamp: Option<String>,
    /// When the feeder last wrote to the catalog.
    pub updated_at: String,
    /// End of the source's WAL.
    pub source_wal_end: String,
    /// From the checkpoint to the end of the WAL, in bytes.
    pub lag_bytes: u64,
    /// Since the commit of the last transaction in the lake; 0 when the checkpoint is the end of the WAL. `None` when
    /// nothing was committed yet, and while a feeder is connected and less than 1 MiB behind: an idle one moves its
    /// checkpoint no more often, so the lake may hold everything.
    pub lag_seconds: Option<f64>,
    /// The slot.
    pub slot: Option<SlotReport>,
    /// The tables.
    pub tables: Vec<TableReport>,
    /// What is wrong; empty when healthy.
    pub problems: Vec<String>,
    #[serde(skip)]
    checkpoint_lsn: Lsn,
}

/// The slot of a [`Report`].
#[derive(Clone, Debug, Serialize)]
pub struct SlotReport {
    /// Its name.
    pub name: String,
    /// Whether a feeder is connected.
    pub active: bool,
    /// WAL that it retains, in bytes.
    pub retained_bytes: Option<u64>,
    /// `pg_replication_slots.wal_status`.
    pub wal_status: Option<String>,
}

/// A table of a [`Report`].
#[derive(Clone, Debug, Serialize)]
pub struct TableReport {
    /// `schema.table` at the source.
    pub source: String,
    /// `schema.table` in the lake.
    pub target: String,
    /// Its state.
    pub state: TableState,
    /// Why it is in error, and since when.
    pub error: Option<String>,
    /// Changes that were dropped since the table is in error, as of the last commit: a resync is what they cost.
    pub discarded: u64,
    /// Rows of its changelog, as the catalog counts them. `None` while there are none.
    pub rows: Option<u64>,
    /// Rows of its first copy.
    pub copied_rows: u64,
    /// Values, since that copy and in it, that their lake column could not hold: see `_df_dead_letters`.
    pub unrepresentable: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn healthy(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether the lake may hold everything although its checkpoint is behind.
    pub fn perhaps_caught_up(&self) -> bool {
        self.lag_seconds.is_none() && (1..IDLE_BYTES).contains(&self.lag_bytes)
    }

    /// Whether all tables that are not paused or in error are streaming.
    pub fn streaming(&self) -> bool {
        self.tables
            .iter()
            .all(|table| !matches!(table.state, TableState::Pending | TableState::Copying))
    }

    /// Whether everything that committed before `lsn` is in the lake.
    pub fn covers(&self, lsn: Lsn) -> bool {
        self.checkpoint_lsn >= lsn
    }
}

/// Reads the control tables and the source.
///
/// # Errors
/// No such feeder, or a database that cannot be asked.
pub async fn report(config: &FeederConfig) -> Result<Report, FeederError> {
    let catalog = check::connect_catalog(&config.catalog).await?;
    let unknown = || {
        FeederError::permanent(
            FeederErrorKind::Config,
            format!("the catalog knows no feeder {}", config.name),
        )
        .with_remedy("`duckfeeder run` registers it; check the name and catalog.url")
    };
    if migrations::version(&catalog).await?.is_none() {
        return Err(unknown());
    }
    let control = Control::new(&catalog, config.name.clone());
    let feeder = control.load_feeder().await?.ok_or_else(unknown)?;
    let mut connection = Connection::connect(&config.source.endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)?;
    let found = slot::inspect(&mut connection, &config.source.slot)
        .await
        .map_err(from_source)?;
    let wal_end = connection
        .query("select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_lsn() end")
        .await
        .map_err(from_source)?
        .first()
        .and_then(|row| row.get(0))
        .and_then(|text| text.parse::<Lsn>().ok())
        .unwrap_or(feeder.checkpoint);
    connection.close().await;
    let lag_bytes = wal_end.saturating_sub(feeder.checkpoint);
    let mut problems = Vec::new();
    match &found {
        None => problems.push(format!(
            "slot {} does not exist",
            config.source.slot.as_str()
        )),
        Some(slot) if slot.wal_status.as_deref() == Some("lost") => {
            problems.push(format!("slot {} is lost", config.source.slot.as_str()));
        }
        Some(slot) if !slot.active => problems.push(match slot.retained_bytes {
            Some(bytes) => format!(
                "no feeder is connected to the slot, which keeps {} of WAL at the source",
                ByteSize(bytes)
            ),
            None => "no feeder is connected to the slot".to_owned(),
        }),
        Some(_) => {}
    }
    let retained = found.as_ref().and_then(|slot| slot.retained_bytes);
    if let Some(retained) = retained.filter(|bytes| *bytes > config.limits.max_lag_bytes) {
        problems.push(format!(
            "the slot keeps {retained} bytes of WAL at the source, more than limits.max_lag_bytes ({})",
            config.limits.max_lag_bytes
        ));
    }
    if lag_bytes > config.limits.max_lag_bytes {
        problems.push(format!(
            "the lake is {lag_bytes} bytes of WAL behind, more than limits.max_lag_bytes ({})",
            config.limits.max_lag_bytes
        ));
    }
    if let Some((error, since)) = feeder.waiting_for.as_ref().zip(feeder.waiting_since) {
        problems.push(format!(
            "paused since {}: {error}",
            crate::clock::utc_text(since)
        ));
    }
    let active = found.as_ref().is_some_and(|slot| slot.active);
    let lag_seconds = match lag_bytes {
        0 => Some(0.0),
        1..IDLE_BYTES if active => None,
        _ => feeder.commit_timestamp.map(seconds_since),
    };
    let counts = catalog.row_counts().await.map_err(from_catalog)?;
    let mut tables = Vec::new();
    for row in control.tables().await? {
        let source = format!("{}.{}", row.source_schema, row.source_table);
        let error = row
            .error
            .as_ref()
            .map(|error| format!("{} (since {})", error.reason, error.lsn));
        let discarded = row.error.as_ref().map_or(0, |error| error.discarded);
        if let Some(error) = &error {
            problems.push(format!(
                "{source}: {error}; {discarded} changes were dropped since; mend the cause, then `duckfeeder resync {source}`"
            ));
        }
        tables.push(TableReport {
            source,
            target: format!("{}.{}", row.target_schema, row.target_table),
            state: row.state,
            error,
            discarded,
            rows: row.lake_table_id.and_then(|id| counts.get(&id).copied()),
            copied_rows: row.copied_rows,
            unrepresentable: row.unrepresentable,
        });
    }
    Ok(Report {
        name: config.name.to_string(),
        checkpoint: feeder.checkpoint.to_string(),
        last_snapshot: feeder.last_snapshot,
        commit_timestamp: feeder.commit_timestamp.map(crate::clock::utc_text),
        updated_at: crate::clock::utc_text(feeder.updated_at),
        source_wal_end: wal_end.to_string(),
        lag_bytes,
        lag_seconds,
        slot: found.map(|slot| SlotReport {
            name: config.source.slot.as_str().to_owned(),
            active: slot.active,
            retained_bytes: slot.retained_bytes,
            wal_status: slot.wal_status,
        }),
        tables,
        problems,
        checkpoint_lsn: feeder.checkpoint,
    })
}

/// From a moment, in microseconds since 1970-01-01 UTC, until now.
fn seconds_since(micros: i64) -> f64 {
    let then = UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default());
    let since = SystemTime::now().duration_since(then).unwrap_or_default();
    since.as_secs_f64()
}
