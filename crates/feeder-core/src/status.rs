//! What a running feeder says of itself.

use std::time::{Duration, SystemTime};

use pgoutput::Lsn;
use serde::Serialize;

use crate::config::FeederName;

/// What the feeder is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Phase {
    /// Connecting and checking.
    Starting,
    /// Waiting to take over from the process that feeds.
    Standby,
    /// Streaming, with at least one table still being copied.
    Copying,
    /// Streaming all tables that are not in error.
    Streaming,
    /// An error is being waited out.
    Retrying,
    /// Flushing before it ends.
    Stopping,
    /// Ended.
    Stopped,
}

/// State of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TableState {
    /// Known, its copy has not begun.
    Pending,
    /// Being copied; its streamed rows are committed already.
    Copying,
    /// Complete up to the checkpoint.
    Streaming,
    /// Taken out of the configuration.
    Paused,
    /// Its changes are not recorded since `error`; `resync` is the way out.
    Error,
}

impl TableState {
    /// The state's name, as the control tables hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Copying => "copying",
            Self::Streaming => "streaming",
            Self::Paused => "paused",
            Self::Error => "error",
        }
    }
}

/// One table of [`FeederStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// `schema.table` at the source.
    pub source: String,
    /// `schema.table` in the lake.
    pub target: String,
    /// Its state.
    pub state: TableState,
    /// Why it is in error.
    pub error: Option<String>,
    /// Rows committed to the lake by this process.
    pub rows: u64,
    /// Changes that arrived since the table is in error and were not recorded.
    pub discarded: u64,
    /// Values that their lake column could not hold, since the table was last copied: see `_df_dead_letters`.
    pub unrepresentable: u64,
    /// Rows copied so far by a copy that is under way, and the estimate of all.
    pub copied: Option<(u64, u64)>,
}

/// A running feeder's view of itself; a `watch` channel carries it.
#[derive(Clone, Debug, Serialize)]
pub struct FeederStatus {
    /// The feeder's name.
    pub name: String,
    /// What it is doing.
    pub phase: Phase,
    /// The process that feeds while this one stands by, as it describes itself.
    pub active: Option<String>,
    /// Everything that committed before this position is in the lake.
    #[serde(serialize_with = "lsn_text")]
    pub checkpoint: Lsn,
    /// The same, as the process knows it: an idle feeder moves its checkpoint row rarely.
    #[serde(serialize_with = "lsn_text")]
    pub covered: Lsn,
    /// Every commit before this position has arrived.
    #[serde(serialize_with = "lsn_text")]
    pub received: Lsn,
    /// End of WAL as the server last reported it.
    #[serde(serialize_with = "lsn_text")]
    pub server_wal_end: Lsn,
    /// The last lake snapshot of this feeder.
    pub last_snapshot: Option<i64>,
    /// When the last epoch was committed.
    pub last_commit: Option<SystemTime>,
    /// Whether the lake held everything up to the end of WAL when it was last looked at.
    pub caught_up: bool,
    /// The lake holds everything that the source committed before this moment: when it last held all, by our clock, or
    /// the commit time of the last transaction in it, by the source's. `None` while neither is known.
    #[serde(skip)]
    pub fresh_until: Option<SystemTime>,
    /// When the lake last moved on, or held everything. `None` before the first connection.
    #[serde(skip)]
    pub progressed_at: Option<SystemTime>,
    /// The slot, as last looked at: every 10 seconds. `None` before.
    pub slot: Option<SlotStatus>,
    /// Bytes of rows that are buffered or being encoded.
    pub buffered_bytes: u64,
    /// The budget for them.
    pub memory_budget: u64,
    /// Whether the intake waits for memory.
    pub paused: bool,
    /// The error that is being waited out.
    pub last_error: Option<String>,
    /// All tables.
    pub tables: Vec<TableStatus>,
}

impl FeederStatus {
    /// That of a feeder that has not begun.
    pub fn new(name: &FeederName, phase: Phase) -> Self {
        Self {
            name: name.to_string(),
            phase,
            active: None,
            checkpoint: Lsn::ZERO,
            covered: Lsn::ZERO,
            received: Lsn::ZERO,
            server_wal_end: Lsn::ZERO,
            last_snapshot: None,
            last_commit: None,
            caught_up: false,
            fresh_until: None,
            progressed_at: None,
            slot: None,
            buffered_bytes: 0,
            memory_budget: 0,
            paused: false,
            last_error: None,
            tables: Vec::new(),
        }
    }

    /// WAL between what the lake covers and the end that the source last reported, in bytes.
    pub fn lag_bytes(&self) -> u64 {
        self.server_wal_end.saturating_sub(self.covered)
    }

    /// How old the lake is: zero when it holds everything, `None` while that is not known.
    pub fn lag(&self, now: SystemTime) -> Option<Duration> {
        if self.caught_up {
            return Some(Duration::ZERO);
        }
        let since = now.duration_since(self.fresh_until?);
        Some(since.unwrap_or_default())
    }

    /// For how long the source has been ahead of the lake while the lake did not move; zero when it holds everything.
    pub fn stalled(&self, now: SystemTime) -> Duration {
        match self.progressed_at {
            Some(progress) if !self.caught_up => now.duration_since(progress).unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }
}

/// The slot of [`FeederStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotStatus {
    /// WAL that it keeps at the source, in bytes.
    pub retained_bytes: Option<u64>,
    /// `pg_replication_slots.wal_status`: `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn lsn_text<S: serde::Serializer>(lsn: &Lsn, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(lsn)
}
