//! A server that shuts down: it asks for a reply again and again until all that it sent is confirmed, and stays up so long.
//!
//! Mostly that is committed and confirmed at once. Where it cannot be, say because the catalog is on the same server, the
//! stream is given up, so that the server can go; what is not confirmed is sent again.

use std::time::{Duration, Instant};

use pgoutput::Lsn;

use crate::error::{FeederError, FeederErrorKind};

/// How long it may last without a commit.
const PATIENCE: Duration = Duration::from_secs(5);

/// Questions that follow each other faster are one insistence. Otherwise a server asks once in half of `wal_sender_timeout`.
const PAUSE: Duration = Duration::from_millis(500);

/// A server asks again as soon as it has its answer.
const REPLY_AFTER: Duration = Duration::from_millis(50);

/// How long the server has insisted.
#[derive(Debug, Default)]
pub(super) struct Insistence {
    /// When it began, or the last commit during it.
    since: Option<Instant>,
    last: Option<Instant>,
    checkpoint: Lsn,
}

impl Insistence {
    /// The server asks for a reply; returns when to give it.
    pub(super) fn asked(&mut self, checkpoint: Lsn, now: Instant) -> Instant {
        let goes_on = self
            .last
            .is_some_and(|last| now.duration_since(last) < PAUSE);
        if !goes_on || checkpoint != self.checkpoint {
            self.since = Some(now);
            self.checkpoint = checkpoint;
        }
        self.last = Some(now);
        if goes_on { now + REPLY_AFTER } else { now }
    }

    /// Whether it has lasted too long.
    pub(super) fn is_over(&self) -> bool {
        let lasted = self.since.zip(self.last);
        lasted.is_some_and(|(since, last)| last.duration_since(since) >= PATIENCE)
    }
}

/// What a session ends with then.
pub(super) fn error() -> FeederError {
    FeederError::transient(
        FeederErrorKind::Source,
        "the source seems to be shutting down and waits for what cannot be committed now: it is let go",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_questions_follow_each_other_and_nothing_is_committed() {
        let begin = Instant::now();
        let after = |millis| begin + Duration::from_millis(millis);
        let mut insistence = Insistence::default();
        let first = Lsn::new(1);
        assert_eq!(insistence.asked(first, after(0)), after(0));
        for at in (50..5000).step_by(50) {
            assert_eq!(insistence.asked(first, after(at)), after(at) + REPLY_AFTER);
            assert!(!insistence.is_over(), "{at}");
        }
        insistence.asked(first, after(5000));
        assert!(insistence.is_over());
    }

    #[test]
    fn a_commit_and_a_question_now_and_then_are_patiently_answered() {
        let begin = Instant::now();
        let after = |millis| begin + Duration::from_millis(millis);
        let mut insistence = Insistence::default();
        for at in (0..20_000).step_by(50) {
            insistence.asked(Lsn::new(at / 4000), after(at));
            assert!(!insistence.is_over(), "{at}");
        }
        for at in (30_000..90_000).step_by(1000) {
            assert_eq!(insistence.asked(Lsn::new(9), after(at)), after(at));
            assert!(!insistence.is_over(), "{at}");
        }
    }
}
