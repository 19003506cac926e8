//! What the engine says of itself.

use super::Engine;
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
            .any(|(table, _)| matches!(table.state, TableState::Pending | TableState::Copying));
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
                || status.covered != coordinator.covered()
                || status.last_snapshot != self.last_snapshot
                || status.paused != paused
                || status.last_error != self.last_error
                || status.tables != tables;
            status.phase = phase;
            status.checkpoint = coordinator.checkpoint();
            status.covered = coordinator.covered();
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

    fn table_status(&self) -> Vec<TableStatus> {
        let mut tables: Vec<TableStatus> = self
            .intake
            .tables()
            .map(|(table, discarded)| {
                let source_oid = table.lake.source_oid;
                TableStatus {
                    source: table.lake.source.clone(),
                    target: table.lake.target.clone(),
                    state: table.state,
                    error: self.errors.get(&source_oid).cloned(),
                    rows: self.rows.get(&source_oid).copied().unwrap_or_default(),
                    discarded,
                    copied: self.copied.get(&source_oid).copied(),
                }
            })
            .collect();
        tables.sort_unstable_by(|a, b| a.source.cmp(&b.source));
        tables
    }
}
