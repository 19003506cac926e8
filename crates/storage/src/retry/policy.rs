//! When to try again, and when to stop.

use std::num::NonZeroU32;
use std::time::Duration;

use tracing::warn;

use crate::{Operation, StorageError, StorageErrorKind};

/// A store that asks for more than this is left to the caller, who can pause as a whole.
const LONGEST_REQUESTED_WAIT: Duration = Duration::from_mins(1);

/// How often and how fast one operation is repeated: exponential backoff with full jitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub max_attempts: NonZeroU32,
    /// Longest wait after the first attempt; doubled after each further one. The wait itself is random between zero
    /// and that.
    pub base: Duration,
    /// Longest wait between two attempts, apart from what the store asks for: that is waited for on top, up to a
    /// minute. When the store asks for more, the error is returned at once.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    /// Five attempts, 100 ms, 10 s.
    fn default() -> Self {
        const ATTEMPTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);
        Self {
            max_attempts: ATTEMPTS,
            base: Duration::from_millis(100),
            cap: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// The wait after attempt number `attempt` (from 1) failed, or `None` if there must not be another one.
    fn wait(&self, attempt: u32, retry_after: Option<Duration>) -> Option<Duration> {
        if attempt >= self.max_attempts.get() {
            return None;
        }
        let requested = retry_after.unwrap_or_default();
        if requested > LONGEST_REQUESTED_WAIT {
            return None;
        }
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let ceiling = self.base.saturating_mul(factor).min(self.cap);
        let jitter = rand::random_range(Duration::ZERO..=ceiling);
        Some(requested.saturating_add(jitter))
    }
}

/// The attempts at one operation.
pub(super) struct Attempts<'a> {
    policy: &'a RetryPolicy,
    observer: Option<&'a (dyn Fn(Operation) + Send + Sync)>,
    operation: Operation,
    path: &'a str,
    failed: u32,
    last: Option<StorageError>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(
        policy: &'a RetryPolicy,
        observer: Option<&'a (dyn Fn(Operation) + Send + Sync)>,
        operation: Operation,
        path: &'a str,
    ) -> Self {
        Self {
            policy,
            observer,
            operation,
            path,
            failed: 0,
            last: None,
        }
    }

    /// True if an earlier attempt failed, so that its outcome is unknown.
    pub(super) fn outcome_unknown(&self) -> bool {
        self.failed > 0
    }

    /// Returns after a wait if the operation is to be tried again, with the error if not.
    pub(super) async fn failed(&mut self, error: StorageError) -> Result<(), StorageError> {
        self.failed = self.failed.saturating_add(1);
        if error.kind() == StorageErrorKind::UploadClosed
            && let Some(cause) = self.last.take()
        {
            // The upload was lost to the error before; that one says why, and that starting again may help.
            return Err(cause);
        }
        if !error.is_transient() {
            return Err(error);
        }
        let Some(wait) = self.policy.wait(self.failed, error.retry_after()) else {
            return Err(error);
        };
        warn!(
            operation = %self.operation,
            path = self.path,
            attempt = self.failed,
            max_attempts = self.policy.max_attempts,
            delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            error = &error as &dyn std::error::Error,
            "storage operation failed, trying again"
        );
        if let Some(observer) = self.observer {
            observer(self.operation);
        }
        tokio::time::sleep(wait).await;
        self.last = Some(error);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(max_attempts: u32, base_ms: u64, cap_ms: u64) -> RetryPolicy {
        RetryPolicy {
            max_attempts: NonZeroU32::new(max_attempts).unwrap(),
            base: Duration::from_millis(base_ms),
            cap: Duration::from_millis(cap_ms),
        }
    }

    #[test]
    fn waits_stay_below_the_doubling_ceiling_and_its_cap_and_use_its_whole_width() {
        let policy = policy(100, 100, 1_000);
        for (attempt, ceiling_ms) in [
            (1, 100),
            (2, 200),
            (3, 400),
            (4, 800),
            (5, 1_000),
            (99, 1_000),
        ] {
            let ceiling = Duration::from_millis(ceiling_ms);
            let waits: Vec<_> = (0..500)
                .map(|_| policy.wait(attempt, None).unwrap())
                .collect();
            assert!(waits.iter().all(|wait| *wait <= ceiling));
            // The chance that 500 draws leave the lower or the upper fifth empty is below 1e-48.
            assert!(waits.iter().any(|wait| *wait < ceiling / 5));
            assert!(waits.iter().any(|wait| *wait > ceiling / 5 * 4));
        }
    }

    #[test]
    fn the_last_attempt_is_not_followed_by_another() {
        let policy = policy(3, 1, 1);
        assert!(policy.wait(2, None).is_some());
        assert!(policy.wait(3, None).is_none());
        assert!(policy.wait(4, None).is_none());
    }

    #[test]
    fn a_requested_wait_is_kept_in_full_or_left_to_the_caller() {
        let policy = policy(3, 100, 100);
        let wait = policy.wait(1, Some(Duration::from_mins(1))).unwrap();
        assert!(wait >= Duration::from_mins(1) && wait <= Duration::from_millis(60_100));
        assert!(policy.wait(1, Some(Duration::from_secs(61))).is_none());
    }

    #[test]
    fn huge_values_do_not_overflow() {
        let policy = RetryPolicy {
            max_attempts: NonZeroU32::MAX,
            base: Duration::from_secs(u64::MAX / 2),
            cap: Duration::from_secs(1),
        };
        assert!(policy.wait(u32::MAX - 1, None).unwrap() <= Duration::from_secs(1));
    }

    #[test]
    fn the_default_makes_five_attempts() {
        assert_eq!(RetryPolicy::default().max_attempts.get(), 5);
    }
}
