//! When to seal, pause, acknowledge and move the checkpoint: a plain state machine with time passed in.
//!
//! Positions are exclusive ends (I3): a position `P` means that every commit with `commit_lsn < P` is covered
//! and none at or beyond it. Two of them move, always in this order:
//!
//! ```text
//!   acknowledged = checkpoint  <=  received
//!   (in the catalog)               (from the stream)
//! ```

use std::time::{Duration, Instant};

use pgoutput::Lsn;

use crate::config::FeederConfig;

/// How often an idle feeder may move its checkpoint row (I9).
const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// How many smaller moves follow one that was far enough: the server frees WAL only up to a record that it writes
/// some seconds after the burst.
const FOLLOW_UPS: u8 = 2;
/// How long each of them waits.
const FOLLOW_UP_INTERVAL: Duration = Duration::from_secs(20);
/// How far the position must have moved for that, so that the feeder's own WAL cannot keep it awake (I9).
pub(crate) const IDLE_BYTES: u64 = 1 << 20;

/// What decides about sealing and pausing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thresholds {
    /// Age of the oldest buffered row.
    pub(crate) interval: Duration,
    /// Buffered rows.
    pub(crate) max_rows: u64,
    /// Buffered bytes.
    pub(crate) max_bytes: u64,
    /// Bytes that may be buffered and in flight together.
    pub(crate) memory: u64,
}

impl Thresholds {
    pub(crate) fn of(config: &FeederConfig) -> Self {
        Self {
            interval: config.flush.interval,
            max_rows: config.flush.max_rows,
            max_bytes: config.flush.max_bytes,
            memory: config.limits.memory,
        }
    }
}

/// What the shell should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Hand over everything buffered as an epoch that ends at the position of the last commit.
    Seal,
    /// Inside a transaction that outgrows the memory: hand over what is committed as an epoch and the rest as a
    /// part of an epoch that stays open.
    Spill,
    /// Nothing is buffered: move the checkpoint row alone.
    Idle(Lsn),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Coordinator {
    thresholds: Thresholds,
    checkpoint: Lsn,
    received: Lsn,
    in_transaction: bool,
    rows: u64,
    bytes: u64,
    oldest_row: Option<Instant>,
    parts_in_flight: u64,
    bytes_in_flight: u64,
    /// Parts were handed over whose epoch is not closed yet.
    spilled: bool,
    /// Ends of epochs and idle checkpoints that were handed over and are not in the catalog yet.
    commits_in_flight: u64,
    last_idle: Option<Instant>,
    follow_ups: u8,
    flush_now: bool,
    wanted: Lsn,
}

impl Coordinator {
    /// Starts at a checkpoint, with nothing buffered.
    pub(crate) fn new(thresholds: Thresholds, checkpoint: Lsn) -> Self {
        Self {
            thresholds,
            checkpoint,
            received: checkpoint,
            in_transaction: false,
            rows: 0,
            bytes: 0,
            oldest_row: None,
            parts_in_flight: 0,
            bytes_in_flight: 0,
            spilled: false,
            commits_in_flight: 0,
            last_idle: None,
            follow_ups: 0,
            flush_now: false,
            wanted: Lsn::ZERO,
        }
    }

    /// What is in the catalog; also what may be acknowledged (I1).
    pub(crate) fn checkpoint(&self) -> Lsn {
        self.checkpoint
    }

    /// Every commit before this position has been received.
    pub(crate) fn received(&self) -> Lsn {
        self.received
    }

    pub(crate) fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// When the oldest row arrived that is buffered.
    pub(crate) fn oldest_row(&self) -> Option<Instant> {
        self.oldest_row
    }

    pub(crate) fn buffered_bytes(&self) -> u64 {
        self.bytes + self.bytes_in_flight
    }

    /// A Begin arrived. Returns whether the transaction is covered already and must be skipped (I3).
    pub(crate) fn begin(&mut self, final_lsn: Lsn) -> bool {
        self.in_transaction = true;
        final_lsn < self.received
    }

    /// A change was buffered; `bytes` is the size of everything buffered now.
    pub(crate) fn buffered(&mut self, rows: u64, bytes: u64, now: Instant) {
        self.rows += rows;
        self.bytes = bytes;
        if rows > 0 && self.oldest_row.is_none() {
            self.oldest_row = Some(now);
        }
    }

    /// A Commit arrived.
    pub(crate) fn commit(&mut self, end_lsn: Lsn) {
        self.in_transaction = false;
        self.received = self.received.max(end_lsn);
    }

    /// A keepalive arrived. Inside a transaction it says nothing about us.
    pub(crate) fn keepalive(&mut self, wal_end: Lsn) {
        if !self.in_transaction {
            self.received = self.received.max(wal_end);
        }
    }

    /// A part was handed over, which may close an epoch.
    pub(crate) fn handed_over(&mut self, bytes: u64, closes: bool) {
        self.parts_in_flight += 1;
        self.bytes_in_flight += bytes;
        self.commits_in_flight += u64::from(closes);
        self.spilled = !closes;
    }

    /// Everything buffered has been handed over.
    pub(crate) fn emptied(&mut self) {
        self.rows = 0;
        self.bytes = 0;
        self.oldest_row = None;
    }

    /// The committer is done with a part: its memory is free.
    pub(crate) fn part_done(&mut self, bytes: u64) {
        self.parts_in_flight = self.parts_in_flight.saturating_sub(1);
        self.bytes_in_flight = self.bytes_in_flight.saturating_sub(bytes);
    }

    /// An epoch or an idle checkpoint is in the catalog.
    pub(crate) fn committed(&mut self, to: Lsn) {
        self.checkpoint = self.checkpoint.max(to);
        self.commits_in_flight = self.commits_in_flight.saturating_sub(1);
    }

    /// An idle checkpoint was handed over.
    pub(crate) fn idle_handed_over(&mut self, now: Instant) {
        let far = self.received.saturating_sub(self.checkpoint) >= IDLE_BYTES;
        self.follow_ups = if far {
            FOLLOW_UPS
        } else {
            self.follow_ups.saturating_sub(1)
        };
        self.commits_in_flight += 1;
        self.last_idle = Some(now);
    }

    /// From now on nothing waits for time or size: everything committed goes out at the next boundary.
    pub(crate) fn flush_now(&mut self, flush: bool) {
        self.flush_now = flush;
    }

    /// The checkpoint should reach this position soon, even if nothing arrives.
    pub(crate) fn want(&mut self, position: Lsn) {
        self.wanted = self.wanted.max(position);
    }

    /// Whether somebody waits for a position that the stream has not reached yet.
    pub(crate) fn wants_progress(&self) -> bool {
        self.wanted > self.checkpoint
    }

    /// Whether the intake must wait until memory is free. A single message above the budget is admitted alone.
    pub(crate) fn paused(&self) -> bool {
        self.parts_in_flight > 0 && self.over_memory()
    }

    /// Whether nothing of ours is on its way: no open transaction, no buffered row, no epoch in flight.
    pub(crate) fn quiet(&self) -> bool {
        !self.in_transaction && !self.spilled && self.rows == 0 && !self.in_flight()
    }

    /// Whether the committer has something to do.
    fn in_flight(&self) -> bool {
        self.parts_in_flight > 0 || self.commits_in_flight > 0
    }

    /// Everything that committed before this position is in the lake, whether the checkpoint row says so or not.
    pub(crate) fn covered(&self) -> Lsn {
        if self.quiet() {
            self.received
        } else {
            self.checkpoint
        }
    }

    /// Parts were handed over whose epoch is not closed yet.
    pub(crate) fn spilled(&self) -> bool {
        self.spilled
    }

    /// The open transaction is given up; it will be sent again.
    pub(crate) fn abandon_transaction(&mut self) {
        self.in_transaction = false;
    }

    /// Whether everything received is in the catalog.
    pub(crate) fn stopped(&self) -> bool {
        self.quiet() && self.checkpoint == self.received
    }

    /// What to do now.
    pub(crate) fn poll(&self, now: Instant) -> Option<Action> {
        if self.in_flight() {
            // One epoch at a time is encoded and committed while the next one fills; only memory may
            // hand over more, as a part.
            return (self.in_transaction && self.parts_in_flight == 0 && self.over_memory())
                .then_some(Action::Spill);
        }
        if self.in_transaction {
            return self.over_memory().then_some(Action::Spill);
        }
        if self.rows > 0 || self.spilled {
            let old = self
                .oldest_row
                .is_some_and(|oldest| now.duration_since(oldest) >= self.thresholds.interval);
            let due = old
                || self.spilled
                || self.flush_now
                || self.satisfies_wanted()
                || self.rows >= self.thresholds.max_rows
                || self.bytes >= self.thresholds.max_bytes
                || self.over_memory();
            return due.then_some(Action::Seal);
        }
        let moved = self.received.saturating_sub(self.checkpoint);
        let rested = self
            .last_idle
            .is_none_or(|last| now.duration_since(last) >= IDLE_INTERVAL);
        let wanted = (self.flush_now || self.satisfies_wanted()) && moved > 0;
        let far = moved >= IDLE_BYTES && rested;
        (wanted || far || self.follow_up_due(now)).then_some(Action::Idle(self.received))
    }

    /// When [`Self::poll`] may say something new without any input.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        // The end of a transaction or a commit is an input.
        if self.in_flight() || self.in_transaction {
            return None;
        }
        if let Some(oldest) = self.oldest_row {
            return Some(oldest + self.thresholds.interval);
        }
        let rest = if self.received.saturating_sub(self.checkpoint) >= IDLE_BYTES {
            IDLE_INTERVAL
        } else if self.follow_ups > 0 && self.received > self.checkpoint {
            FOLLOW_UP_INTERVAL
        } else {
            return None;
        };
        self.last_idle.map(|last| last + rest)
    }

    fn follow_up_due(&self, now: Instant) -> bool {
        self.follow_ups > 0
            && self.received > self.checkpoint
            && self
                .last_idle
                .is_some_and(|last| now.duration_since(last) >= FOLLOW_UP_INTERVAL)
    }

    /// Somebody waits for a position that is received but not committed.
    fn satisfies_wanted(&self) -> bool {
        self.wants_progress() && self.received >= self.wanted
    }

    /// A quarter of the budget fills while another is in flight. A growing builder allocates up to twice what it
    /// holds, and the rest is the encoder's.
    fn over_memory(&self) -> bool {
        self.bytes >= self.thresholds.memory / 4
    }
}

#[cfg(test)]
mod tests;
