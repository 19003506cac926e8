//! What a feeder counts and measures, through the facade of the crate `metrics`.
//!
//! Nothing is recorded unless the process has a recorder; installing one is the host's business. Every metric carries
//! the label `feeder`, so several feeders in one process get along. Counters move once per commit, file or attempt,
//! never per row; gauges follow the feeder's status once a second.

mod follow;
mod record;

use metrics::{Counter, Gauge, Histogram, Label, Unit};

pub(crate) use follow::follow;
pub(crate) use record::{Meters, Origin, Stage, float};

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Kind {
    /// The kind's name, as Prometheus has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric, as docs/metrics.md describes it.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    /// Its name, by the conventions of Prometheus.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// The labels of each of its series.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence.
    pub help: &'static str,
    /// Where the buckets of a histogram should end, in its unit; empty for other kinds.
    pub buckets: &'static [f64],
}

impl Meter {
    /// A gauge.
    pub const fn gauge(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            unit,
            labels,
            help,
            buckets: &[],
        }
    }

    const fn counter(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            kind: Kind::Counter,
            ..Self::gauge(name, unit, labels, help)
        }
    }

    const fn histogram(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        help: &'static str,
        buckets: &'static [f64],
    ) -> Self {
        Self {
            kind: Kind::Histogram,
            buckets,
            ..Self::gauge(name, unit, labels, help)
        }
    }

    /// Tells the recorder what the metric means.
    pub fn describe(&self) {
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, self.unit, self.help),
            Kind::Gauge => metrics::describe_gauge!(self.name, self.unit, self.help),
            Kind::Histogram => metrics::describe_histogram!(self.name, self.unit, self.help),
        }
    }

    /// The series with these values, in the order of [`labels`](Self::labels).
    pub fn series(&self, values: &[&str]) -> Series {
        let labels = self.labels.iter().zip(values);
        Series {
            name: self.name,
            labels: labels
                .map(|(label, value)| Label::new(*label, (*value).to_owned()))
                .collect(),
        }
    }
}

/// One series of a [`Meter`].
#[derive(Clone, Debug)]
pub struct Series {
    name: &'static str,
    labels: Vec<Label>,
}

impl Series {
    /// As a gauge.
    pub fn into_gauge(self) -> Gauge {
        metrics::gauge!(self.name, self.labels)
    }

    pub(crate) fn into_counter(self) -> Counter {
        metrics::counter!(self.name, self.labels)
    }

    fn into_histogram(self) -> Histogram {
        metrics::histogram!(self.name, self.labels)
    }
}

const FEEDER: &[&str] = &["feeder"];
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];
const SIZES: &[f64] = &[
    4096.0,
    65_536.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    134_217_728.0,
    268_435_456.0,
    1_073_741_824.0,
];

const UP: Meter = Meter::gauge(
    "duckfeeder_up",
    Unit::Count,
    FEEDER,
    "1 while the feeder runs, 0 once it has ended",
);
const LAG_BYTES: Meter = Meter::gauge(
    "duckfeeder_lag_bytes",
    Unit::Bytes,
    FEEDER,
    "WAL between what the lake covers and the end that the source last reported",
);
const LAG_SECONDS: Meter = Meter::gauge(
    "duckfeeder_lag_seconds",
    Unit::Seconds,
    FEEDER,
    "Age of the lake: time since it last held everything, or since the source committed the last transaction in it, whichever is later; 0 when caught up",
);
const RETAINED: Meter = Meter::gauge(
    "duckfeeder_slot_retained_wal_bytes",
    Unit::Bytes,
    FEEDER,
    "WAL that the slot keeps at the source, looked at every 10 seconds",
);
const CHECKPOINT: Meter = Meter::gauge(
    "duckfeeder_checkpoint_lsn",
    Unit::Bytes,
    FEEDER,
    "The checkpoint as a number: everything that committed before it is in the lake",
);
const RECEIVED: Meter = Meter::gauge(
    "duckfeeder_received_lsn",
    Unit::Bytes,
    FEEDER,
    "Everything that committed before this position has arrived from the source",
);
const WAL_END: Meter = Meter::gauge(
    "duckfeeder_wal_end_lsn",
    Unit::Bytes,
    FEEDER,
    "End of the source's WAL as last reported",
);
const LAST_COMMIT: Meter = Meter::gauge(
    "duckfeeder_last_commit_timestamp_seconds",
    Unit::Seconds,
    FEEDER,
    "Unix time of the last snapshot that this process added to the lake; 0 before the first",
);
const LAST_PROGRESS: Meter = Meter::gauge(
    "duckfeeder_last_progress_timestamp_seconds",
    Unit::Seconds,
    FEEDER,
    "Unix time at which the lake last moved on or held everything; 0 before the first connection",
);
const BUFFERED: Meter = Meter::gauge(
    "duckfeeder_buffered_bytes",
    Unit::Bytes,
    FEEDER,
    "Rows that are buffered or being encoded",
);
const BUDGET: Meter = Meter::gauge(
    "duckfeeder_memory_budget_bytes",
    Unit::Bytes,
    FEEDER,
    "`limits.memory`",
);
const TABLES: Meter = Meter::gauge(
    "duckfeeder_tables",
    Unit::Count,
    &["feeder", "state"],
    "Tables by state: `pending`, `copying`, `streaming`, `paused`, `error`",
);
const DISCARDED: Meter = Meter::gauge(
    "duckfeeder_table_discarded_changes",
    Unit::Count,
    &["feeder", "table"],
    "Changes that were dropped since the table is in state `error`; a resync makes it 0",
);
const PAUSED: Meter = Meter::counter(
    "duckfeeder_paused_seconds_total",
    Unit::Seconds,
    &["feeder", "reason"],
    "Time in which nothing was read because `memory` was used up, or an `error` was waited out; both can run at once",
);
const ROWS: Meter = Meter::counter(
    "duckfeeder_rows_total",
    Unit::Count,
    &["feeder", "table", "origin"],
    "Rows committed to the table's changelog, by `stream`, `copy` or `append`",
);
const BYTES: Meter = Meter::counter(
    "duckfeeder_bytes_total",
    Unit::Bytes,
    &["feeder", "table", "origin"],
    "Bytes of the Parquet files of these rows",
);
const DEAD_LETTERS: Meter = Meter::counter(
    "duckfeeder_dead_letters_total",
    Unit::Count,
    &["feeder", "table"],
    "Values that their lake column could not hold and that went to `_df_dead_letters`",
);
pub(crate) const APPEND_ROWS: Meter = Meter::counter(
    "duckfeeder_append_rows_total",
    Unit::Count,
    &["feeder", "table", "outcome"],
    "Rows of append streams that were `accepted`, `committed`, `dropped` to make room, `refused` because the buffer was full, `blocked` until there was room, `unfit` for their table, a `duplicate` of a producer, or accepted and `lost`",
);
pub(crate) const APPEND_BUFFERED: Meter = Meter::gauge(
    "duckfeeder_append_buffered_bytes",
    Unit::Bytes,
    FEEDER,
    "Rows of append streams that wait for their commit",
);
const SNAPSHOTS: Meter = Meter::counter(
    "duckfeeder_snapshots_total",
    Unit::Count,
    &["feeder", "origin"],
    "Snapshots committed to the lake, by `stream`, `copy` or `append`",
);
const FILES: Meter = Meter::histogram(
    "duckfeeder_file_size_bytes",
    Unit::Bytes,
    FEEDER,
    "Sizes of the files that were committed; its count is their number",
    SIZES,
);
const STAGES: Meter = Meter::histogram(
    "duckfeeder_epoch_stage_seconds",
    Unit::Seconds,
    &["feeder", "stage"],
    "How long an epoch took to `fill`, `encode`, `upload`, `commit` and `acknowledge`; waiting between attempts counts for `commit`, not for `upload`",
    SECONDS,
);
const FRESHNESS: Meter = Meter::histogram(
    "duckfeeder_freshness_seconds",
    Unit::Seconds,
    FEEDER,
    "From the commit of an epoch's last transaction at the source, by its clock, until the lake shows it",
    SECONDS,
);
const RETRIES: Meter = Meter::counter(
    "duckfeeder_retries_total",
    Unit::Count,
    &["feeder", "kind"],
    "What failed and was tried again: `upload`, `commit`, `checkpoint`, `resolve` (a lost answer to COMMIT), `store` (one request of it), `source` (the stream), `start`",
);
const RECONNECTS: Meter = Meter::counter(
    "duckfeeder_reconnects_total",
    Unit::Count,
    FEEDER,
    "Streams that were opened after the first",
);
const CLEANED_FILES: Meter = Meter::counter(
    "duckfeeder_janitor_removed_files_total",
    Unit::Count,
    &["feeder", "found"],
    "Files that the janitor removed: `declared` and never committed, `stray`, `uploads` never completed, `scheduled` by the catalog",
);
const CLEANED_BYTES: Meter = Meter::counter(
    "duckfeeder_janitor_removed_bytes_total",
    Unit::Bytes,
    &["feeder", "found"],
    "Their bytes, as far as they are known",
);

/// All metrics of a feeder.
pub const ALL: &[Meter] = &[
    UP,
    LAG_BYTES,
    LAG_SECONDS,
    RETAINED,
    CHECKPOINT,
    RECEIVED,
    WAL_END,
    LAST_COMMIT,
    LAST_PROGRESS,
    BUFFERED,
    BUDGET,
    TABLES,
    DISCARDED,
    PAUSED,
    ROWS,
    BYTES,
    DEAD_LETTERS,
    APPEND_ROWS,
    APPEND_BUFFERED,
    SNAPSHOTS,
    FILES,
    STAGES,
    FRESHNESS,
    RETRIES,
    RECONNECTS,
    CLEANED_FILES,
    CLEANED_BYTES,
];

#[cfg(test)]
mod tests;
