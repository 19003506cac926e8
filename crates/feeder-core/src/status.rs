//! What a running feeder says of itself.

use std::time::SystemTime;

use pgoutput::Lsn;
use serde::Serialize;

/// What the feeder is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Phase {
    /// Connecting and checking.
    Starting,
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
    /// Everything that committed before this position is in the lake.
    #[serde(serialize_with = "lsn_text")]
    pub checkpoint: Lsn,
    /// The same, as the process knows it: an idle feeder moves its checkpoint row rarely.
    #[serde(serialize_with = "lsn_text")]
    pub covered: Lsn,
    /// End of WAL as the server last reported it.
    #[serde(serialize_with = "lsn_text")]
    pub server_wal_end: Lsn,
    /// The last lake snapshot of this feeder.
    pub last_snapshot: Option<i64>,
    /// When the last epoch was committed.
    pub last_commit: Option<SystemTime>,
    /// Bytes of rows that are buffered or being encoded.
    pub buffered_bytes: u64,
    /// Whether the intake waits for memory.
    pub paused: bool,
    /// The error that is being waited out.
    pub last_error: Option<String>,
    /// All tables.
    pub tables: Vec<TableStatus>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn lsn_text<S: serde::Serializer>(lsn: &Lsn, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(lsn)
}
