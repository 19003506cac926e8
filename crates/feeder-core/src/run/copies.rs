//! Rounds of first copies: when one starts, and when a finished copy may be committed.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgoutput::{Lsn, RelationId};
use storage::RetryPolicy;

use super::Engine;
use crate::backfill::{self, CopyEvent};
use crate::control::TableTransition;
use crate::copy_round;
use crate::epoch::{CopiedTable, Work};
use crate::error::FeederError;
use crate::evolution::Found;
use crate::failpoint::{self, Failpoint};
use crate::file::UploadedFile;
use crate::intake::FedTable;
use crate::retry::Backoff;
use crate::status::TableState;
use crate::table_look::LookedAt;

/// A quarter of an hour, about, for one request of a copy.
pub(super) const PATIENCE: RetryPolicy = RetryPolicy {
    max_attempts: NonZeroU32::MIN.saturating_add(119),
    base: Duration::from_millis(200),
    cap: Duration::from_secs(15),
};

pub(super) struct FinishedCopy {
    source_oid: u32,
    point: Lsn,
    files: Vec<UploadedFile>,
    rows: u64,
}

impl Engine<'_> {
    /// Starts rounds of copies and commits those whose point the checkpoint has reached.
    pub(super) fn copies(&mut self, now: Instant) -> Result<(), FeederError> {
        if self.stopping.is_some() {
            return Ok(());
        }
        let checkpoint = self.intake.coordinator.checkpoint();
        if self.committing.is_none()
            && let Some(index) = self
                .finished
                .iter()
                .position(|copy| copy.point <= checkpoint)
        {
            let copy = self.finished.swap_remove(index);
            self.commit_copy(copy)?;
        }
        if let Some(point) = self.finished.iter().map(|copy| copy.point).max() {
            self.intake.coordinator.want(point);
        }
        self.follow_changed(now)?;
        let waits = self.next_round.is_some_and(|at| at > now);
        // A restart waits for the round that runs, and copies what is left.
        if self.round_running || self.restart_wanted || waits {
            return Ok(());
        }
        // One whose new columns are not in the lake yet has to wait for its next commit.
        let pending: Vec<u32> = self
            .intake
            .tables()
            .filter(|table| table.state == TableState::Pending)
            .map(|table| table.lake().source_oid)
            .filter(|oid| self.intake.is_sealed(*oid) && !self.changed.contains_key(oid))
            .collect();
        // A deadline that has passed would keep the loop awake.
        self.next_round = None;
        if !pending.is_empty() {
            self.start_round(&pending);
        }
        Ok(())
    }

    /// What copies found changed at the source is followed once the stream has come that far.
    fn follow_changed(&mut self, now: Instant) -> Result<(), FeederError> {
        let coordinator = &self.intake.coordinator;
        let (received, open) = (coordinator.received(), coordinator.in_transaction());
        if let Some(position) = self.changed.values().map(|(_, looked)| looked.after).max() {
            self.intake.coordinator.want(position);
        }
        if open {
            return Ok(());
        }
        let reached = |(_, looked): &(Found, LookedAt)| looked.after <= received;
        let due: Vec<u32> = self
            .changed
            .iter()
            .filter(|(_, changed)| reached(changed))
            .map(|(source_oid, _)| *source_oid)
            .collect();
        for source_oid in due {
            if let Some((found, looked)) = self.changed.remove(&source_oid)
                && !self
                    .intake
                    .follow_catalog(source_oid, &found, looked, now)?
            {
                self.look_again.insert(source_oid);
                self.next_round = Some(now + self.round_backoff.next());
            }
        }
        Ok(())
    }

    fn start_round(&mut self, pending: &[u32]) {
        let mut wanted = Vec::new();
        for source_oid in pending {
            if let Some(table) = self.intake.table_mut(*source_oid) {
                table.state = TableState::Copying;
                wanted.push(copy_round::Wanted::of(table));
                table.error = None;
            }
        }
        self.round_running = true;
        let context = self.copy_context.clone();
        let events = self.copy_sender.clone();
        let source = self.source.clone();
        let first = self.first_snapshot.take();
        let round = async move {
            let prepared = copy_round::prepare(&source, &context.fence, first, wanted).await;
            match prepared {
                Ok(round) => {
                    if !round.changed.is_empty() {
                        let changed = CopyEvent::Changed {
                            tables: round.changed,
                            looked: round.looked,
                        };
                        if events.send(changed).await.is_err() {
                            return;
                        }
                    }
                    let (exporter, snapshot) = (round.exporter, round.snapshot);
                    backfill::run_round(context, exporter, snapshot, round.requests, events).await;
                }
                Err(error) => {
                    let _intake_gone = events.send(CopyEvent::RoundEnded(Err(error))).await;
                }
            }
        };
        crate::own::spawn(&mut self.tasks, round);
    }

    fn commit_copy(&mut self, copy: FinishedCopy) -> Result<(), FeederError> {
        let incomplete = self.intake.incomplete();
        let copying = |table: &mut FedTable| table.state == TableState::Copying;
        // A table that failed in the meantime needs a copy that begins after the failure.
        if !self.intake.table_mut(copy.source_oid).is_some_and(copying) {
            return Ok(());
        }
        let Some(version) = self.intake.sealed(copy.source_oid).map(Arc::clone) else {
            return Ok(());
        };
        let whole = self.intake.whole_since(copy.source_oid, copy.point);
        let Some(table) = self.intake.table_mut(copy.source_oid) else {
            return Ok(());
        };
        let source = table.lake().source.clone();
        if !whole {
            tracing::warn!(table = %source, "changes came without a generated column; the table is copied again");
            table.state = TableState::Pending;
            return Ok(());
        }
        if copy.point <= table.copy_after {
            tracing::info!(table = %source, "the table was rewritten after its copy had begun; it is copied again");
            table.state = TableState::Pending;
            return Ok(());
        }
        // The version that it was begun with may have been ahead of the stream, which has made the same columns anew.
        let named = |file: &UploadedFile| {
            file.table.table_id != version.lake.table_id || version.lake.keeps_names_of(&file.table)
        };
        if !copy.files.iter().all(named) {
            tracing::info!(table = %source, "the lake's columns changed after its copy had begun; it is copied again");
            table.state = TableState::Pending;
            return Ok(());
        }
        let copied = CopiedTable {
            version,
            point: copy.point,
            files: copy.files,
            rows: copy.rows,
            transition: TableTransition::streaming(copy.source_oid, copy.point, copy.rows),
            incomplete: incomplete
                .into_iter()
                .filter(|name| *name != source)
                .collect(),
        };
        self.committing = Some(copy.source_oid);
        self.submit(Work::Copy(copied))
    }

    pub(super) fn copy_event(&mut self, event: CopyEvent, now: Instant) -> Result<(), FeederError> {
        match event {
            CopyEvent::Progress {
                source_oid,
                rows,
                estimate,
            } => {
                self.copied.insert(source_oid, (rows, estimate.max(rows)));
            }
            CopyEvent::Done {
                source_oid,
                point,
                files,
                rows,
            } => {
                failpoint::reach(Failpoint::CopyFinished);
                self.finished.push(FinishedCopy {
                    source_oid,
                    point,
                    files,
                    rows,
                });
            }
            CopyEvent::Changed { tables, looked } => {
                for (source_oid, found) in tables {
                    if let Some(table) = self.intake.table_mut(source_oid)
                        && table.state == TableState::Copying
                    {
                        table.state = TableState::Pending;
                    }
                    self.changed.insert(source_oid, (found, looked));
                }
            }
            CopyEvent::Again { source_oid, reason } => {
                self.copied.remove(&source_oid);
                if let Some(table) = self.intake.table_mut(source_oid)
                    && table.state == TableState::Copying
                {
                    tracing::warn!(table = %table.lake().source, reason, "the table is copied again");
                    table.state = TableState::Pending;
                }
            }
            CopyEvent::Failed { source_oid, reason } => {
                self.copied.remove(&source_oid);
                let at = self.intake.coordinator.received();
                self.intake
                    .fail_table(RelationId::new(source_oid), at, 0, &reason, now)?;
            }
            CopyEvent::RoundEnded(result) => {
                self.round_running = false;
                let unfinished = self.return_unfinished();
                let again = match result {
                    // They are not at the source any more, which the next look at it says.
                    Ok(()) if unfinished => now + self.round_backoff.next(),
                    Ok(()) => {
                        self.round_backoff = Backoff::new();
                        now
                    }
                    Err(error) if error.is_transient() => {
                        tracing::warn!(error = %error, "the copy broke; tables that are not done are copied again");
                        self.last_error = Some(error.explained());
                        now + self.round_backoff.next()
                    }
                    Err(error) => return Err(error),
                };
                self.next_round = Some(again);
            }
        }
        Ok(())
    }

    /// Tables of a round that are neither done nor being committed wait for the next one. Returns whether there are any.
    fn return_unfinished(&mut self) -> bool {
        let done: BTreeSet<u32> = self
            .finished
            .iter()
            .map(|copy| copy.source_oid)
            .chain(self.committing)
            .collect();
        let unfinished: Vec<u32> = self
            .intake
            .tables()
            .filter(|table| table.state == TableState::Copying)
            .map(|table| table.lake().source_oid)
            .filter(|source_oid| !done.contains(source_oid))
            .collect();
        for source_oid in &unfinished {
            if let Some(table) = self.intake.table_mut(*source_oid) {
                table.state = TableState::Pending;
            }
        }
        !unfinished.is_empty()
    }
}
