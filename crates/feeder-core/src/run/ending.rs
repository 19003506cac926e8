//! When a run is over, and what is done before.

use pgoutput::Lsn;

use super::Engine;
use crate::epoch::Report;
use crate::error::{FeederError, FeederErrorKind};
use crate::feeder::Outcome;
use crate::status::{Phase, TableState};

impl Engine<'_> {
    /// Hands over everything that is committed; an open transaction's rows are dropped and sent again.
    pub(super) fn begin_stop(&mut self) -> Result<(), FeederError> {
        self.publish(Phase::Stopping);
        self.appends.close();
        self.intake.coordinator.flush_now(true);
        if self.intake.coordinator.in_transaction()
            && let Some(head) = self.intake.cut_open_transaction()?
        {
            self.submit_part(head)?;
        }
        Ok(())
    }

    /// Whether a run that has an end has reached it: everything up to the target is in the lake, and changes of tables
    /// that no row shows are followed.
    pub(super) fn caught_up(&self, target: Option<Lsn>) -> Option<Outcome> {
        let copied = self
            .intake
            .tables()
            .all(|table| !matches!(table.state, TableState::Pending | TableState::Copying));
        let followed = self.looked && self.changed.is_empty() && self.intake.settled();
        // Tables that were dropped are left with a restart, and what took their place is taken in by it.
        let restarts = !self.leaving.is_empty() || self.left || self.restart_wanted;
        let reached = self.intake.coordinator.checkpoint() >= target?;
        (copied && followed && reached && !restarts && self.truncations.clear())
            .then_some(Outcome::CaughtUp)
    }

    /// Whether everything that was received when the run began to stop is committed.
    pub(super) fn finished(&self) -> Option<Outcome> {
        let outcome = self.stopping?;
        let committed = self.committing.is_none() && self.appends.is_empty();
        (self.intake.coordinator.stopped() && committed).then_some(outcome)
    }

    /// What ended the run. A committer that is gone has said why before it went, and that may not have been heard yet.
    pub(super) fn cause(&mut self, error: FeederError) -> FeederError {
        while let Ok(report) = self.reports.try_recv() {
            if let Report::Failed(cause) = report {
                return cause;
            }
        }
        error
    }
}

/// What a stop ends with that takes too long.
pub(super) fn shutdown_timeout() -> FeederError {
    FeederError::transient(
        FeederErrorKind::Catalog,
        "limits.shutdown_timeout is over and the last commit is not done; nothing is lost, its changes are still at the source",
    )
}
