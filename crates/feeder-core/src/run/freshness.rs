//! How old the lake is, and whether it moves.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgoutput::Lsn;

use crate::coordinator::Coordinator;
use crate::status::{FeederStatus, SlotStatus};

/// What a [`FeederStatus`] says of the lake in time rather than in positions.
#[derive(Debug)]
pub(super) struct Freshness {
    covered: Lsn,
    caught_up: bool,
    fresh_until: Option<SystemTime>,
    progressed_at: Option<SystemTime>,
    /// When the checkpoint moved that the source has not been told of.
    unacknowledged: Option<Instant>,
    pub(super) slot: Option<SlotStatus>,
}

impl Freshness {
    /// Goes on from an earlier run of this process, or from the commit time of the last transaction in the lake, in
    /// microseconds since 1970-01-01 UTC.
    pub(super) fn new(before: &FeederStatus, checkpoint: Lsn, commit_time: Option<i64>) -> Self {
        let mut freshness = Self {
            covered: checkpoint,
            caught_up: false,
            fresh_until: before.fresh_until,
            progressed_at: before.progressed_at.or_else(|| Some(SystemTime::now())),
            unacknowledged: None,
            slot: before.slot.clone(),
        };
        freshness.reaches(commit_time.and_then(system_time));
        freshness
    }

    /// The checkpoint moved.
    pub(super) fn committed(&mut self, commit_time: Option<i64>, now: Instant) {
        self.reaches(commit_time.and_then(system_time));
        self.unacknowledged.get_or_insert(now);
    }

    /// The source is told of the checkpoint. How long it waited for that.
    pub(super) fn acknowledged(&mut self, now: Instant) -> Option<Duration> {
        let since = self.unacknowledged.take()?;
        Some(now.duration_since(since))
    }

    /// Judges the lake while the source is connected.
    pub(super) fn look(&mut self, coordinator: &Coordinator, wal_end: Lsn, now: SystemTime) {
        // Once everything before a position is in the lake, it stays there, whatever arrives after it.
        let covered = coordinator.covered().max(self.covered);
        self.caught_up = coordinator.quiet() && covered >= wal_end;
        if self.caught_up {
            self.reaches(Some(now));
        }
        if self.caught_up || covered > self.covered {
            self.progressed_at = Some(now);
        }
        self.covered = covered;
    }

    /// Without the source nobody knows whether it is ahead.
    pub(super) fn disconnected(&mut self) {
        self.caught_up = false;
    }

    pub(super) fn write_to(&self, status: &mut FeederStatus) {
        status.covered = self.covered;
        status.caught_up = self.caught_up;
        status.fresh_until = self.fresh_until;
        status.progressed_at = self.progressed_at;
        status.slot.clone_from(&self.slot);
    }

    /// Positions of a status that is about to be replaced.
    pub(super) fn differs(&self, status: &FeederStatus) -> bool {
        status.covered != self.covered
            || status.caught_up != self.caught_up
            || status.slot != self.slot
    }

    fn reaches(&mut self, moment: Option<SystemTime>) {
        self.fresh_until = self.fresh_until.max(moment);
    }
}

fn system_time(micros: i64) -> Option<SystemTime> {
    let since = Duration::from_micros(u64::try_from(micros).ok()?);
    UNIX_EPOCH.checked_add(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FeederName, FlushConfig, Limits};
    use crate::coordinator::Thresholds;
    use crate::status::Phase;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn coordinator() -> Coordinator {
        let (flush, limits) = (FlushConfig::default(), Limits::default());
        let thresholds = Thresholds {
            interval: flush.interval,
            max_rows: flush.max_rows,
            max_bytes: flush.max_bytes,
            memory: limits.memory,
        };
        Coordinator::new(thresholds, Lsn::new(100))
    }

    fn status() -> FeederStatus {
        FeederStatus::new(&FeederName::parse("shop").unwrap(), Phase::Starting)
    }

    #[test]
    fn a_transaction_after_a_long_rest_does_not_make_the_lake_old() {
        let mut coordinator = coordinator();
        let mut freshness = Freshness::new(&status(), Lsn::new(100), Some(1_000_000));
        let mut shown = status();
        coordinator.keepalive(Lsn::new(200));
        freshness.look(&coordinator, Lsn::new(200), at(7_200));
        freshness.write_to(&mut shown);
        assert_eq!(shown.lag(at(7_300)), Some(Duration::ZERO));
        assert_eq!(shown.covered, Lsn::new(200));

        coordinator.begin(Lsn::new(210));
        coordinator.buffered(1, 10, Instant::now());
        coordinator.commit(Lsn::new(220));
        freshness.look(&coordinator, Lsn::new(220), at(7_203));
        freshness.write_to(&mut shown);
        assert_eq!(shown.lag(at(7_204)), Some(Duration::from_secs(4)));
        assert_eq!(
            shown.covered,
            Lsn::new(200),
            "what is covered stays covered"
        );
    }

    #[test]
    fn a_lake_that_follows_from_far_behind_is_old_but_not_stalled() {
        let mut coordinator = coordinator();
        let mut freshness = Freshness::new(&status(), Lsn::new(100), Some(1_000_000));
        let mut shown = status();
        coordinator.begin(Lsn::new(150));
        coordinator.buffered(1, 10, Instant::now());
        coordinator.commit(Lsn::new(160));
        coordinator.committed(Lsn::new(160));
        freshness.committed(Some(5_000_000), Instant::now());
        freshness.look(&coordinator, Lsn::new(9_000), at(100));
        freshness.write_to(&mut shown);
        assert_eq!(shown.lag(at(101)), Some(Duration::from_secs(96)));
        assert_eq!(shown.stalled(at(101)), Duration::from_secs(1));
        freshness.look(&coordinator, Lsn::new(9_000), at(200));
        freshness.write_to(&mut shown);
        assert_eq!(shown.stalled(at(200)), Duration::from_secs(100));
    }

    #[test]
    fn without_the_source_nothing_is_caught_up() {
        let mut coordinator = coordinator();
        let mut freshness = Freshness::new(&status(), Lsn::new(100), None);
        coordinator.keepalive(Lsn::new(200));
        freshness.look(&coordinator, Lsn::new(200), at(10));
        freshness.disconnected();
        let mut shown = status();
        freshness.write_to(&mut shown);
        assert_eq!(shown.lag(at(15)), Some(Duration::from_secs(5)));
    }
}
