//! What the committer and the watch tell the engine.

use std::time::{Instant, SystemTime};

use pgoutput::RelationId;

use super::{Engine, committer_gone};
use crate::epoch::Report;
use crate::error::FeederError;
use crate::source_watch::WatchEvent;
use crate::status::TableState;

impl Engine<'_> {
    pub(super) fn report(&mut self, report: Option<Report>) -> Result<(), FeederError> {
        match report.ok_or_else(committer_gone)? {
            Report::PartDone { bytes } => self.intake.coordinator.part_done(bytes),
            Report::Committed {
                to,
                snapshot,
                commit_timestamp,
                rows,
                unrepresentable,
            } => {
                self.intake.coordinator.committed(to);
                if self.left && self.intake.settled() {
                    self.restart_wanted = true;
                }
                self.freshness.committed(commit_timestamp, Instant::now());
                self.last_error = None;
                if let Some(snapshot) = snapshot {
                    self.last_snapshot = Some(snapshot);
                    self.last_commit = Some(SystemTime::now());
                }
                for (source_oid, count) in rows {
                    *self.rows.entry(source_oid).or_default() += count;
                }
                for (source_oid, values) in unrepresentable {
                    if let Some(table) = self.intake.table_mut(source_oid) {
                        table.unrepresentable += values;
                    }
                }
            }
            Report::Appended { snapshot } => {
                self.last_snapshot = Some(snapshot);
                self.last_commit = Some(SystemTime::now());
                self.last_error = None;
            }
            Report::CopyCommitted {
                source_oid,
                snapshot,
                unrepresentable,
            } => {
                self.committing = None;
                self.copied.remove(&source_oid);
                self.last_snapshot = Some(snapshot);
                self.last_error = None;
                if let Some(table) = self.intake.table_mut(source_oid) {
                    table.unrepresentable += unrepresentable;
                    if table.state == TableState::Copying {
                        table.state = TableState::Streaming;
                    }
                }
            }
            Report::TableFailed {
                source_oid,
                reason,
                recorded,
            } => {
                if self.committing == Some(source_oid) {
                    self.committing = None;
                }
                if recorded {
                    self.intake.lost_table(source_oid, &reason);
                } else {
                    let at = self.intake.coordinator.received();
                    self.intake.fail_table(
                        RelationId::new(source_oid),
                        at,
                        0,
                        &reason,
                        Instant::now(),
                    )?;
                }
            }
            Report::Retrying { error } => self.last_error = Some(error),
            Report::Failed(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn watch_event(
        &mut self,
        event: WatchEvent,
        now: Instant,
    ) -> Result<(), FeederError> {
        match event {
            WatchEvent::TableLost { source_oid, reason } => {
                let failed = self.intake.table_mut(source_oid).is_some_and(|table| {
                    !matches!(table.state, TableState::Error | TableState::Paused)
                });
                if failed {
                    let at = self.intake.coordinator.received();
                    self.intake
                        .fail_table(RelationId::new(source_oid), at, 0, &reason, now)?;
                }
                Ok(())
            }
            WatchEvent::Slot { slot, wal_end } => {
                self.freshness.slot = Some(slot);
                self.server_wal_end = self.server_wal_end.max(wal_end);
                Ok(())
            }
            WatchEvent::Redefined { tables, looked } => {
                for (source_oid, found) in tables {
                    self.changed.insert(source_oid, (found, looked));
                }
                Ok(())
            }
            WatchEvent::Doubted(doubt) => {
                self.truncations.doubt(doubt);
                Ok(())
            }
            WatchEvent::Looked => {
                self.looked = true;
                Ok(())
            }
            WatchEvent::Wanted(position) => {
                self.intake.coordinator.want(position);
                Ok(())
            }
            WatchEvent::ResyncRequested | WatchEvent::TablesChanged => {
                self.restart_wanted = true;
                Ok(())
            }
        }
    }
}
