//! What is counted where it happens.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    ALL, BYTES, CLEANED_BYTES, CLEANED_FILES, DEAD_LETTERS, FILES, FRESHNESS, RECONNECTS, RETRIES,
    ROWS, SNAPSHOTS, STAGES,
};
use storage::RetryStorage;

use crate::file::UploadedFile;
use crate::janitor;

/// A step of an epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Fill,
    Encode,
    Upload,
    Commit,
    Acknowledge,
}

impl Stage {
    const ALL: [Self; 5] = [
        Self::Fill,
        Self::Encode,
        Self::Upload,
        Self::Commit,
        Self::Acknowledge,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Encode => "encode",
            Self::Upload => "upload",
            Self::Commit => "commit",
            Self::Acknowledge => "acknowledge",
        }
    }
}

/// Where committed rows come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    Stream,
    Copy,
    Append,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Copy => "copy",
            Self::Append => "append",
        }
    }
}

/// Everything that the kind of a retry can be.
const RETRY_KINDS: [&str; 7] = [
    "upload",
    "commit",
    "checkpoint",
    "resolve",
    "store",
    "source",
    "start",
];

/// The counters and histograms of one feeder.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    feeder: Arc<str>,
}

impl Meters {
    pub(crate) fn new(feeder: &str) -> Self {
        Self {
            feeder: feeder.into(),
        }
    }

    /// Describes all metrics, and shows those of the feeder as a whole from the start: a counter that appears with its
    /// first event hides that event from rates.
    pub(crate) fn begin(&self) {
        for meter in ALL {
            meter.describe();
        }
        let feeder = self.feeder.as_ref();
        RECONNECTS.series(&[feeder]).into_counter().increment(0);
        for kind in RETRY_KINDS {
            RETRIES.series(&[feeder, kind]).into_counter().increment(0);
        }
        for origin in [Origin::Stream, Origin::Copy, Origin::Append] {
            let series = SNAPSHOTS.series(&[feeder, origin.as_str()]);
            series.into_counter().increment(0);
        }
        self.cleaned_up(&janitor::Report::new(false));
        for stage in Stage::ALL {
            let _shown = STAGES.series(&[feeder, stage.as_str()]).into_histogram();
        }
        let _shown = FRESHNESS.series(&[feeder]).into_histogram();
        let _shown = FILES.series(&[feeder]).into_histogram();
    }

    /// A table is fed from now on.
    pub(crate) fn table(&self, table: &str) {
        let feeder = self.feeder.as_ref();
        DEAD_LETTERS
            .series(&[feeder, table])
            .into_counter()
            .increment(0);
        for origin in [Origin::Stream, Origin::Copy] {
            for meter in [ROWS, BYTES] {
                let series = meter.series(&[feeder, table, origin.as_str()]);
                series.into_counter().increment(0);
            }
        }
    }

    /// A snapshot with these files is in the lake. `source_time` is the commit time of its last transaction at the
    /// source, in microseconds since 1970-01-01 UTC.
    pub(crate) fn committed(
        &self,
        origin: Origin,
        files: &[UploadedFile],
        source_time: Option<i64>,
    ) {
        let feeder = self.feeder.as_ref();
        let origin = origin.as_str();
        SNAPSHOTS
            .series(&[feeder, origin])
            .into_counter()
            .increment(1);
        let sizes = FILES.series(&[feeder]).into_histogram();
        for file in files {
            let table = file.table.source.as_str();
            let (rows, bytes) = (file.data.record_count, file.data.file_size_bytes);
            sizes.record(float(bytes));
            if file.is_dead_letters() {
                DEAD_LETTERS
                    .series(&[feeder, table])
                    .into_counter()
                    .increment(rows);
            } else {
                ROWS.series(&[feeder, table, origin])
                    .into_counter()
                    .increment(rows);
                BYTES
                    .series(&[feeder, table, origin])
                    .into_counter()
                    .increment(bytes);
            }
        }
        if let Some(age) = source_time.and_then(age) {
            FRESHNESS.series(&[feeder]).into_histogram().record(age);
        }
    }

    /// A snapshot with these files of appended rows is in the lake.
    pub(crate) fn appended(&self, files: &[UploadedFile]) {
        let feeder = self.feeder.as_ref();
        let sizes = FILES.series(&[feeder]).into_histogram();
        for file in files {
            let labels = [feeder, file.table.target.as_str(), Origin::Append.as_str()];
            let (rows, bytes) = (file.data.record_count, file.data.file_size_bytes);
            sizes.record(float(bytes));
            ROWS.series(&labels).into_counter().increment(rows);
            BYTES.series(&labels).into_counter().increment(bytes);
        }
    }

    /// A step of an epoch is done.
    pub(crate) fn stage(&self, stage: Stage, took: Duration) {
        let series = STAGES.series(&[&self.feeder, stage.as_str()]);
        series.into_histogram().record(took);
    }

    /// Something failed and is tried again.
    pub(crate) fn retry(&self, kind: &'static str) {
        debug_assert!(RETRY_KINDS.contains(&kind), "{kind}");
        RETRIES
            .series(&[&self.feeder, kind])
            .into_counter()
            .increment(1);
    }

    /// Counts the requests that the store repeats.
    pub(crate) fn observe(&self, storage: RetryStorage) -> RetryStorage {
        let meters = self.clone();
        storage.observed(move |_operation| meters.retry("store"))
    }

    /// The stream was opened again.
    pub(crate) fn reconnected(&self) {
        RECONNECTS
            .series(&[&self.feeder])
            .into_counter()
            .increment(1);
    }

    /// The janitor has run.
    pub(crate) fn cleaned_up(&self, report: &janitor::Report) {
        for (found, section) in [
            ("declared", &report.declared),
            ("stray", &report.stray),
            ("uploads", &report.uploads),
            ("scheduled", &report.scheduled),
        ] {
            let labels = [self.feeder.as_ref(), found];
            CLEANED_FILES
                .series(&labels)
                .into_counter()
                .increment(section.files);
            CLEANED_BYTES
                .series(&labels)
                .into_counter()
                .increment(section.bytes);
        }
    }
}

/// Seconds since a moment; 0 for one that our clock has not reached yet.
fn age(micros: i64) -> Option<f64> {
    let then = UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).ok()?);
    let age = SystemTime::now().duration_since(then).unwrap_or_default();
    Some(age.as_secs_f64())
}

/// The nearest number that a gauge or a histogram can hold: exact below 2^53.
pub(crate) fn float(value: u64) -> f64 {
    value as f64
}
