//! Gauges that follow the status.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge};
use tokio::sync::watch;

use super::record::float;
use super::{
    BUDGET, BUFFERED, CHECKPOINT, DISCARDED, LAG_BYTES, LAG_SECONDS, LAST_COMMIT, LAST_PROGRESS,
    Meter, PAUSED, RECEIVED, RETAINED, TABLES, UP, WAL_END,
};
use crate::status::{FeederStatus, Phase, TableState};

/// How old a gauge may be.
const INTERVAL: Duration = Duration::from_secs(1);

const STATES: [TableState; 5] = [
    TableState::Pending,
    TableState::Copying,
    TableState::Streaming,
    TableState::Paused,
    TableState::Error,
];

/// Shows the status until the feeder drops it.
pub(crate) async fn follow(mut status: watch::Receiver<FeederStatus>) {
    let mut gauges = Gauges::new(&status.borrow());
    let mut timer = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            changed = status.changed() => match changed {
                Ok(()) => gauges.pauses(&status.borrow_and_update()),
                Err(_feeder_gone) => return,
            },
            _ = timer.tick() => gauges.show(&status.borrow()),
        }
    }
}

/// What is shown of one feeder. Dropping it says that the feeder has ended, however it did.
pub(super) struct Gauges {
    up: Gauge,
    memory: Pause,
    error: Pause,
}

impl Gauges {
    pub(super) fn new(status: &FeederStatus) -> Self {
        let pause = |reason| Pause {
            seconds: PAUSED.series(&[&status.name, reason]).into_counter(),
            since: None,
            rest: Duration::ZERO,
        };
        Self {
            up: UP.series(&[&status.name]).into_gauge(),
            memory: pause("memory"),
            error: pause("error"),
        }
    }

    pub(super) fn show(&mut self, status: &FeederStatus) {
        self.up.set(1.0);
        self.pauses(status);
        show(status);
    }

    fn pauses(&mut self, status: &FeederStatus) {
        let now = Instant::now();
        self.memory.update(status.paused, now);
        self.error.update(status.phase == Phase::Retrying, now);
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.up.set(0.0);
    }
}

fn show(status: &FeederStatus) {
    let gauge = |meter: Meter| -> Gauge { meter.series(&[&status.name]).into_gauge() };
    gauge(LAG_BYTES).set(float(status.lag_bytes()));
    let lag = status.lag(SystemTime::now()).unwrap_or_default();
    gauge(LAG_SECONDS).set(lag.as_secs_f64());
    let retained = status.slot.as_ref().and_then(|slot| slot.retained_bytes);
    gauge(RETAINED).set(float(retained.unwrap_or_default()));
    gauge(CHECKPOINT).set(float(status.checkpoint.get()));
    gauge(RECEIVED).set(float(status.received.get()));
    gauge(WAL_END).set(float(status.server_wal_end.get()));
    gauge(LAST_COMMIT).set(unix(status.last_commit));
    gauge(LAST_PROGRESS).set(unix(status.progressed_at));
    gauge(BUFFERED).set(float(status.buffered_bytes));
    gauge(BUDGET).set(float(status.memory_budget));
    for state in STATES {
        let tables = status.tables.iter().filter(|table| table.state == state);
        let count = u64::try_from(tables.count()).unwrap_or(u64::MAX);
        let series = TABLES.series(&[&status.name, state.as_str()]);
        series.into_gauge().set(float(count));
    }
    for table in &status.tables {
        let series = DISCARDED.series(&[&status.name, &table.source]);
        series.into_gauge().set(float(table.discarded));
    }
}

fn unix(time: Option<SystemTime>) -> f64 {
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default()
        .as_secs_f64()
}

/// Adds up how long something lasted.
struct Pause {
    seconds: Counter,
    since: Option<Instant>,
    /// Less than a second, which the counter cannot hold.
    rest: Duration,
}

impl Pause {
    fn update(&mut self, paused: bool, now: Instant) {
        if let Some(since) = self.since {
            self.rest += now.duration_since(since);
        }
        self.seconds.increment(self.rest.as_secs());
        self.rest = Duration::from_nanos(u64::from(self.rest.subsec_nanos()));
        self.since = paused.then_some(now);
    }
}
