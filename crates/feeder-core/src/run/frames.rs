//! From the stream's frames to the intake.

use std::time::Instant;

use cdc_source::ReplicationStream;
use pgoutput::{Decoder, ReplicationFrame};

use super::Engine;
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::stream;

/// Frames taken from the read buffer before everybody else gets a turn.
const DRAIN: usize = 512;

pub(super) enum Drained {
    /// Nothing is buffered, or the intake is paused.
    Empty,
    /// There may be more.
    Quota,
}

pub(super) enum DrainError {
    Source(FeederError),
    Feeder(FeederError),
}

impl Engine<'_> {
    /// Takes frames that are buffered already, without awaiting.
    pub(super) fn drain(
        &mut self,
        stream: &mut ReplicationStream,
        decoder: &mut Decoder,
        now: Instant,
    ) -> Result<Drained, DrainError> {
        for _ in 0..DRAIN {
            if self.intake.coordinator.paused() || self.intake.waits_for_answer() {
                return Ok(Drained::Empty);
            }
            match stream.try_next_frame() {
                Ok(Some(frame)) => self
                    .frame(frame, decoder, now)
                    .map_err(DrainError::Feeder)?,
                Ok(None) => return Ok(Drained::Empty),
                Err(error) => return Err(DrainError::Source(stream::broken(error))),
            }
            self.act(now).map_err(DrainError::Feeder)?;
        }
        Ok(Drained::Quota)
    }

    /// Before a stop: every transaction whose Commit was received counts.
    pub(super) fn drain_buffered(
        &mut self,
        stream: &mut ReplicationStream,
        decoder: &mut Decoder,
        now: Instant,
    ) -> Result<(), FeederError> {
        while !self.intake.coordinator.paused()
            && !self.intake.waits_for_answer()
            && let Some(frame) = stream.try_next_frame().map_err(from_source)?
        {
            self.frame(frame, decoder, now)?;
        }
        Ok(())
    }

    pub(super) fn frame(
        &mut self,
        frame: ReplicationFrame,
        decoder: &mut Decoder,
        now: Instant,
    ) -> Result<(), FeederError> {
        self.silence.heard(now);
        match frame {
            ReplicationFrame::XLogData(data) => {
                let message = decoder.decode(data.payload).map_err(|error| {
                    FeederError::permanent(
                        FeederErrorKind::Source,
                        format!("undecodable change at {}", data.wal_start),
                    )
                    .with_source(error)
                })?;
                self.server_wal_end = self.server_wal_end.max(data.wal_end);
                self.truncations.message(&message);
                self.intake.message(message, now)
            }
            ReplicationFrame::PrimaryKeepalive(keepalive) => {
                self.server_wal_end = self.server_wal_end.max(keepalive.wal_end);
                self.intake.coordinator.keepalive(keepalive.wal_end);
                if keepalive.reply_requested {
                    let checkpoint = self.intake.coordinator.checkpoint();
                    self.status_due = self.insistence.asked(checkpoint, now);
                    // Somebody waits for it to be confirmed.
                    self.intake.coordinator.want(keepalive.wal_end);
                }
                Ok(())
            }
        }
    }
}
