//! The metrics of append streams follow what the buffers count.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::buffers::Buffers;
use super::table::AppendCounts;
use crate::meters::{APPEND_BUFFERED, APPEND_ROWS, float};

/// How old a metric may be.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shows the counts once a second until it is dropped, and then a last time.
pub(crate) async fn follow(feeder: String, buffers: Arc<Buffers>) {
    let mut shown = Shown::new(feeder, buffers);
    let mut timer = tokio::time::interval(INTERVAL);
    loop {
        timer.tick().await;
        shown.show();
    }
}

pub(crate) struct Shown {
    feeder: String,
    buffers: Arc<Buffers>,
    counts: FxHashMap<String, AppendCounts>,
}

impl Shown {
    pub(crate) fn new(feeder: String, buffers: Arc<Buffers>) -> Self {
        Self {
            feeder,
            buffers,
            counts: FxHashMap::default(),
        }
    }

    pub(crate) fn show(&mut self) {
        let buffered = APPEND_BUFFERED.series(&[&self.feeder]).into_gauge();
        buffered.set(float(self.buffers.buffered_bytes()));
        for (table, now) in self.buffers.counts() {
            let new = !self.counts.contains_key(&table);
            let before = self.counts.entry(table.clone()).or_default();
            for (outcome, before, now) in outcomes(before, &now) {
                // From the start: a counter that appears with its first event hides that event from rates.
                if new || now > before {
                    let series = APPEND_ROWS.series(&[&self.feeder, &table, outcome]);
                    series.into_counter().increment(now - before);
                }
            }
            *before = now;
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.show();
    }
}

fn outcomes(before: &AppendCounts, now: &AppendCounts) -> [(&'static str, u64, u64); 8] {
    [
        ("accepted", before.accepted, now.accepted),
        ("committed", before.committed, now.committed),
        ("dropped", before.dropped, now.dropped),
        ("refused", before.refused, now.refused),
        ("blocked", before.blocked, now.blocked),
        ("unfit", before.unfit, now.unfit),
        ("duplicate", before.duplicate, now.duplicate),
        ("lost", before.lost, now.lost),
    ]
}
