//! What the engine says of itself, to people and to the source.

use std::time::{Duration, Instant};

use cdc_source::ReplicationStream;

use super::{ASK_INTERVAL, Engine, PUBLISH_INTERVAL};
use crate::error::{FeederError, FeederErrorKind};
use crate::failpoint::{self, Failpoint};
use crate::lineage;
use crate::meters::Stage;
use crate::status::{Phase, TableState, TableStatus};

impl Engine<'_> {
    pub(super) fn phase(&self) -> Phase {
        if self.stopping.is_some() {
            return Phase::Stopping;
        }
        if self.last_error.is_some() {
            return Phase::Retrying;
        }
        let copying = self
            .intake
            .tables()
            .any(|table| matches!(table.state, TableState::Pending | TableState::Copying));
        if copying {
            Phase::Copying
        } else {
            Phase::Streaming
        }
    }

    pub(super) fn publish(&self, phase: Phase) {
        let coordinator = &self.intake.coordinator;
        self.status.send_if_modified(|status| {
            let paused = coordinator.paused();
            let tables = self.table_status();
            // Buffered bytes change with every row; they alone wake nobody up.
            let changed = status.phase != phase
                || status.checkpoint != coordinator.checkpoint()
                || self.freshness.differs(status)
                || status.last_snapshot != self.last_snapshot
                || status.paused != paused
                || status.last_error != self.last_error
                || status.tables != tables;
            status.phase = phase;
            status.checkpoint = coordinator.checkpoint();
            status.received = coordinator.received();
            self.freshness.write_to(status);
            status.server_wal_end = self.server_wal_end;
            status.last_snapshot = self.last_snapshot;
            status.last_commit = self.last_commit;
            status.buffered_bytes = coordinator.buffered_bytes();
            status.paused = paused;
            status.last_error.clone_from(&self.last_error);
            if changed {
                status.tables = tables;
            }
            changed
        });
    }

    /// Buffered rows are about to be handed over.
    pub(super) fn filled(&self, now: Instant) {
        if let Some(since) = self.intake.coordinator.oldest_row() {
            self.meters.stage(Stage::Fill, now.duration_since(since));
        }
    }

    fn table_status(&self) -> Vec<TableStatus> {
        let mut tables: Vec<TableStatus> = self
            .intake
            .tables()
            .map(|table| {
                let source_oid = table.lake().source_oid;
                TableStatus {
                    source: table.lake().source.clone(),
                    target: table.lake().target.clone(),
                    state: table.state,
                    error: table.error.clone(),
                    rows: self.rows.get(&source_oid).copied().unwrap_or_default(),
                    discarded: table.discarded,
                    unrepresentable: table.unrepresentable,
                    copied: self.copied.get(&source_oid).copied(),
                }
            })
            .collect();
        tables.sort_unstable_by(|a, b| a.source.cmp(&b.source));
        tables
    }

    /// Whether nothing is read on purpose.
    pub(super) fn deaf(&self) -> bool {
        self.stopping.is_some()
            || self.intake.coordinator.paused()
            || self.intake.waits_for_answer()
    }

    /// A gap that the stream itself ran into, told like those that a start finds.
    pub(super) async fn lost(&self, error: FeederError) -> FeederError {
        if error.kind() != FeederErrorKind::Gap {
            return error;
        }
        let checkpoint = self.intake.coordinator.checkpoint();
        let lost = format!("{error}: the changes from {checkpoint} on cannot be read any more");
        lineage::gap(self.config, &self.source.control, lost).await
    }

    /// Tells the server how far we are: when it asks, when the checkpoint moved, and on a timer (I1, I6).
    pub(super) async fn acknowledge(
        &mut self,
        stream: &mut ReplicationStream,
        now: Instant,
        force: bool,
    ) -> Result<(), cdc_source::SourceError> {
        let checkpoint = self.intake.coordinator.checkpoint();
        let waiting = self.intake.coordinator.wants_progress();
        let ask = waiting
            && self
                .asked_at
                .is_none_or(|at| now.duration_since(at) >= ASK_INTERVAL);
        let ask = ask || self.silence.is_to_be_broken(now);
        if force || ask || now >= self.status_due || checkpoint > self.acknowledged {
            let news = checkpoint > self.acknowledged;
            if news {
                failpoint::reach(Failpoint::AcknowledgeBefore);
            }
            stream.send_status(checkpoint, ask).await?;
            if news {
                failpoint::reach(Failpoint::AcknowledgeAfter);
                if let Some(waited) = self.freshness.acknowledged(Instant::now()) {
                    self.meters.stage(Stage::Acknowledge, waited);
                }
            }
            self.acknowledged = checkpoint;
            self.status_due = now + self.status_interval;
            if ask {
                self.asked_at = Some(now);
            }
        }
        Ok(())
    }

    pub(super) fn wake_up(&self, now: Instant) -> Instant {
        let coordinator = &self.intake.coordinator;
        let ask = coordinator.wants_progress().then_some(now + ASK_INTERVAL);
        let publish = self.published_at.map(|at| at + PUBLISH_INTERVAL);
        [
            Some(self.status_due),
            self.silence.next(),
            coordinator.next_deadline(),
            self.next_round,
            ask,
            publish,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now)
        .max(now + Duration::from_millis(1))
    }
}
