//! A peer that is gone without a word: half-open connections, of which the kernel may never tell us.

use std::time::{Duration, Instant};

use crate::error::{FeederError, FeederErrorKind};

/// How long the source has said nothing. At half of its patience it is asked for a sign of life.
#[derive(Debug)]
pub(super) struct Silence {
    patience: Duration,
    since: Instant,
    asked: bool,
}

impl Silence {
    pub(super) fn new(patience: Duration, now: Instant) -> Self {
        Self {
            patience,
            since: now,
            asked: false,
        }
    }

    /// Something came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.since = now;
        self.asked = false;
    }

    /// Whether it has lasted too long. While nobody listens it does not count.
    pub(super) fn is_over(&mut self, now: Instant, deaf: bool) -> bool {
        if deaf {
            self.heard(now);
        }
        self.asked && now.duration_since(self.since) >= self.patience
    }

    /// Whether to ask now: once in a silence.
    pub(super) fn is_to_be_broken(&mut self, now: Instant) -> bool {
        let ask = !self.asked && now.duration_since(self.since) >= self.patience / 2;
        self.asked |= ask;
        ask
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Instant> {
        let wait = if self.asked {
            self.patience
        } else {
            self.patience / 2
        };
        self.since.checked_add(wait)
    }
}

/// What a session ends with when a silence is over.
pub(super) fn error() -> FeederError {
    FeederError::transient(
        FeederErrorKind::Source,
        "the source has sent nothing for too long, though it was asked: the connection is taken for dead",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn it_is_asked_once_and_given_up_when_the_patience_ends() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut silence = Silence::new(PATIENCE, begin);
        assert!(!silence.is_to_be_broken(after(4)));
        assert!(silence.is_to_be_broken(after(5)));
        assert!(!silence.is_to_be_broken(after(6)));
        assert!(!silence.is_over(after(9), false));
        assert!(silence.is_over(after(10), false));
        silence.heard(after(10));
        assert!(!silence.is_over(after(19), false));
    }

    #[test]
    fn a_pause_of_ours_and_a_process_that_was_stopped_are_not_its_silence() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut silence = Silence::new(PATIENCE, begin);
        assert!(silence.is_to_be_broken(after(5)));
        assert!(!silence.is_over(after(60), true));
        assert!(!silence.is_over(after(61), false));
        // Nobody asked during a long stop.
        assert!(!silence.is_over(after(600), false));
        assert!(silence.is_to_be_broken(after(600)));
    }
}
