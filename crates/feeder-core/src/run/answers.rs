//! What the source's catalog says of a table whose definition changed. Nothing is read meanwhile, and status updates go
//! on.

use std::time::Instant;

use super::{Engine, SessionEnd};
use crate::config::FeederConfig;
use crate::control::{Control, answered};
use crate::error::{FeederError, FeederErrorKind};
use crate::evolution::Found;
use crate::retry::Backoff;
use crate::table_look;

/// About the table of this OID.
pub(super) type Answer = (u32, Result<Found, FeederError>);

impl Engine<'_> {
    /// Asks, if a change waits for that and nobody has asked yet.
    pub(super) fn ask(&mut self) {
        if self.asking {
            return;
        }
        let Some(question) = self.intake.question() else {
            return;
        };
        self.asking = true;
        let source_oid = question.source_oid;
        let config = self.source.config.clone();
        let control = self.source.control.clone();
        let answers = self.answer_sender.clone();
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            let mut backoff = Backoff::new();
            let answer = loop {
                let found = tokio::select! {
                    () = ended.cancelled() => return,
                    found = look(&config, &control, &question) => found,
                };
                match found {
                    Ok(found) => break Ok(found),
                    Err(error) if error.is_transient() => {
                        tracing::warn!(error = %error, "source and catalog could not be asked about a changed table; trying again");
                        tokio::select! {
                            () = ended.cancelled() => return,
                            () = tokio::time::sleep(backoff.next()) => {}
                        }
                    }
                    Err(error) => break Err(error),
                }
            };
            let _engine_gone = answers.send((source_oid, answer)).await;
        });
    }

    pub(super) fn answered(
        &mut self,
        (source_oid, answer): Answer,
    ) -> Result<Option<SessionEnd>, FeederError> {
        self.asking = false;
        self.intake.answer(source_oid, &answer?, Instant::now())?;
        if !self.binary || self.intake.binary() {
            return Ok(None);
        }
        // Its rows came in a form that is not decoded here.
        self.text_only = true;
        Ok(Some(SessionEnd::Source(FeederError::transient(
            FeederErrorKind::Source,
            "a table has a column whose type is read as text only; the stream goes on in text",
        ))))
    }
}

impl Engine<'_> {
    /// Tables that were dropped at the source are done with once the stream has passed that.
    pub(super) fn leave(&mut self, now: Instant) {
        if self.leaving.is_empty() {
            return;
        }
        let coordinator = &mut self.intake.coordinator;
        coordinator.want(self.position);
        if coordinator.in_transaction() || coordinator.received() < self.position {
            return;
        }
        for source_oid in std::mem::take(&mut self.leaving) {
            self.left |= self.intake.leave(source_oid, now);
        }
    }
}

async fn look(
    config: &FeederConfig,
    control: &Control,
    question: &table_look::Wanted,
) -> Result<Found, FeederError> {
    let found = table_look::look(config, std::slice::from_ref(question)).await?;
    let mut found = found.into_iter().next().ok_or_else(no_answer)?;
    answered(table_look::add_stated(control, &mut [&mut found])).await?;
    Ok(found)
}

fn no_answer() -> FeederError {
    FeederError::permanent(
        FeederErrorKind::Internal,
        "a question about one table had no answer",
    )
}
