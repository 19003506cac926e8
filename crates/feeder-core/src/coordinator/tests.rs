//! The coordinator alone with numbers, then together with the intake against a model of server, committer and
//! catalog.

use super::*;

mod model;

const SECOND: Duration = Duration::from_secs(1);

fn thresholds() -> Thresholds {
    Thresholds {
        interval: Duration::from_secs(5),
        max_rows: 100,
        max_bytes: 10_000,
        memory: 80_000,
    }
}

/// At position 1000, with the time it was made.
fn coordinator() -> (Coordinator, Instant) {
    let start = Instant::now();
    (Coordinator::new(thresholds(), Lsn::new(1000)), start)
}

/// A transaction of `rows` rows; everything buffered is `bytes` then.
fn transaction(c: &mut Coordinator, at: u64, end: u64, rows: u64, bytes: u64, now: Instant) {
    assert!(!c.begin(Lsn::new(at)));
    c.buffered(rows, bytes, now);
    c.commit(Lsn::new(end));
}

/// As the intake does it.
fn seal(c: &mut Coordinator) -> (u64, Lsn) {
    let (bytes, to) = (c.bytes, c.received());
    c.handed_over(bytes, true);
    c.emptied();
    (bytes, to)
}

#[test]
fn a_transaction_is_skipped_iff_it_committed_before_the_position() {
    let (mut c, _) = coordinator();
    assert!(c.begin(Lsn::new(999)), "before the consistent point");
    c.commit(Lsn::new(1000));
    assert_eq!(c.received(), Lsn::new(1000));
    assert!(!c.begin(Lsn::new(1000)), "at the consistent point");
    c.commit(Lsn::new(1100));
    assert!(!c.begin(Lsn::new(1100)), "at the end of the one before");
    c.commit(Lsn::new(1200));
    c.keepalive(Lsn::new(1300));
    assert!(c.begin(Lsn::new(1299)));
    c.commit(Lsn::new(1300));
    assert!(!c.begin(Lsn::new(1300)), "at the keepalive's end");
}

#[test]
fn a_keepalive_inside_a_transaction_moves_nothing() {
    let (mut c, now) = coordinator();
    c.begin(Lsn::new(1500));
    c.keepalive(Lsn::new(9_000_000));
    assert_eq!(c.received(), Lsn::new(1000));
    assert_eq!(c.poll(now), None);
    c.commit(Lsn::new(1600));
    c.keepalive(Lsn::new(1550));
    assert_eq!(c.received(), Lsn::new(1600), "positions never go back");
}

#[test]
fn an_epoch_is_due_by_age_rows_bytes_or_memory() {
    let due = |rows, bytes, after| {
        let (mut c, start) = coordinator();
        transaction(&mut c, 1000, 1100, rows, bytes, start);
        c.poll(start + after)
    };
    let just_before = Duration::from_nanos(4_999_999_999);
    assert_eq!(due(1, 100, just_before), None);
    assert_eq!(due(1, 100, SECOND * 5), Some(Action::Seal));
    assert_eq!(due(99, 9_999, SECOND), None);
    assert_eq!(due(100, 100, SECOND), Some(Action::Seal));
    assert_eq!(due(1, 10_000, SECOND), Some(Action::Seal));
    let (mut c, start) = coordinator();
    c.thresholds.max_bytes = u64::MAX;
    transaction(&mut c, 1000, 1100, 1, 20_000, start);
    assert_eq!(c.poll(start), Some(Action::Seal), "a quarter of the memory");
}

#[test]
fn the_age_counts_from_the_first_row() {
    let (mut c, start) = coordinator();
    transaction(&mut c, 1000, 1100, 1, 100, start);
    transaction(&mut c, 1100, 1200, 1, 200, start + SECOND * 4);
    assert_eq!(c.next_deadline(), Some(start + SECOND * 5));
    assert_eq!(c.poll(start + SECOND * 5), Some(Action::Seal));
    seal(&mut c);
    assert_eq!(c.poll(start + SECOND * 60), None, "it is in flight");
}

#[test]
fn a_transaction_is_never_cut_for_time() {
    let (mut c, start) = coordinator();
    transaction(&mut c, 1000, 1100, 1000, 19_999, start);
    c.begin(Lsn::new(1100));
    c.flush_now(true);
    c.want(Lsn::new(1100));
    assert_eq!(c.poll(start + SECOND * 60), None);
    c.buffered(1, 20_000, start);
    assert_eq!(c.poll(start), Some(Action::Spill));
}

#[test]
fn the_next_epoch_waits_for_the_commit_of_the_one_before() {
    let (mut c, start) = coordinator();
    transaction(&mut c, 1000, 1100, 100, 100, start);
    let (bytes, to) = seal(&mut c);
    transaction(&mut c, 1100, 1200, 100, 100, start);
    assert_eq!(c.poll(start), None);
    c.part_done(bytes);
    assert_eq!(c.poll(start), None, "uploaded, not committed");
    assert_eq!(c.checkpoint(), Lsn::new(1000));
    c.committed(to);
    assert_eq!(c.checkpoint(), Lsn::new(1100));
    assert_eq!(c.poll(start), Some(Action::Seal));
}

#[test]
fn an_epoch_that_moves_nothing_is_waited_for_as_well() {
    // A table can fail between two transactions: the epoch that records it ends where it began.
    let (mut c, start) = coordinator();
    c.buffered(1, 0, start);
    let (bytes, to) = seal(&mut c);
    assert_eq!(to, c.checkpoint());
    c.part_done(bytes);
    assert!(!c.stopped(), "its commit is under way");
    transaction(&mut c, 1000, 1100, 100, 100, start);
    assert_eq!(c.poll(start), None);
    c.committed(to);
    assert_eq!(c.poll(start), Some(Action::Seal));
}

#[test]
fn reading_pauses_while_memory_is_used_up_and_goes_on_afterwards() {
    let (mut c, start) = coordinator();
    transaction(&mut c, 1000, 1100, 1, 90_000, start);
    assert!(!c.paused(), "a message above the budget is admitted alone");
    let (bytes, to) = seal(&mut c);
    assert!(!c.paused(), "the next epoch fills beside it");
    transaction(&mut c, 1100, 1200, 1, 19_999, start);
    assert!(!c.paused());
    transaction(&mut c, 1200, 1300, 1, 20_000, start);
    assert!(c.paused());
    assert_eq!(c.buffered_bytes(), 110_000);
    c.part_done(bytes);
    assert!(!c.paused());
    c.committed(to);
    assert_eq!(c.poll(start), Some(Action::Seal));
}

#[test]
fn an_epoch_without_bytes_pauses_reading_as_well() {
    let (mut c, start) = coordinator();
    c.handed_over(0, true);
    transaction(&mut c, 1000, 1100, 1, 20_000, start);
    assert!(c.paused());
    c.part_done(0);
    assert!(!c.paused());
}

#[test]
fn an_idle_feeder_moves_its_checkpoint_rarely() {
    const MIB: u64 = 1 << 20;
    let (mut c, start) = coordinator();
    c.keepalive(Lsn::new(1000 + MIB - 1));
    assert_eq!(
        c.poll(start + SECOND * 3600),
        None,
        "its own WAL must not keep it awake"
    );
    let first = Lsn::new(1000 + MIB);
    c.keepalive(first);
    assert_eq!(c.poll(start), Some(Action::Idle(first)));
    c.idle_handed_over(start);
    assert_eq!(
        c.checkpoint(),
        Lsn::new(1000),
        "not before it is in the catalog"
    );
    c.keepalive(Lsn::new(1000 + 2 * MIB));
    assert_eq!(c.poll(start + SECOND * 60), None, "one at a time");
    c.committed(first);
    assert_eq!(c.checkpoint(), first);
    assert_eq!(c.poll(start + SECOND * 9), None);
    assert_eq!(c.next_deadline(), Some(start + SECOND * 10));
    let second = Lsn::new(1000 + 2 * MIB);
    assert_eq!(c.poll(start + SECOND * 10), Some(Action::Idle(second)));
}

#[test]
fn two_small_moves_follow_a_large_one_and_then_nothing_wakes_anybody_up() {
    let (mut c, start) = coordinator();
    let mut now = start;
    let mut position = Lsn::new(10 << 20);
    c.keepalive(position);
    c.idle_handed_over(now);
    c.committed(position);
    for _ in 0..2 {
        assert_eq!(c.next_deadline(), None, "nothing has moved");
        position = Lsn::new(position.get() + 5000);
        c.keepalive(position);
        assert_eq!(c.poll(now + SECOND * 19), None);
        now += SECOND * 20;
        assert_eq!(c.next_deadline(), Some(now));
        assert_eq!(c.poll(now), Some(Action::Idle(position)));
        c.idle_handed_over(now);
        c.committed(position);
    }
    c.keepalive(Lsn::new(position.get() + 5000));
    assert_eq!(c.poll(now + SECOND * 3600), None);
    assert_eq!(c.next_deadline(), None);
}

#[test]
fn what_waits_for_an_input_has_no_deadline() {
    let (mut c, start) = coordinator();
    transaction(&mut c, 1000, 1100, 1, 100, start);
    let (bytes, to) = seal(&mut c);
    transaction(&mut c, 1100, 1200, 1, 100, start);
    assert_eq!(c.next_deadline(), None, "an epoch is in flight");
    c.part_done(bytes);
    c.committed(to);
    assert_eq!(c.next_deadline(), Some(start + SECOND * 5));
    c.begin(Lsn::new(1200));
    assert_eq!(c.next_deadline(), None, "a transaction is open");
}

#[test]
fn a_wanted_position_does_not_wait() {
    let (mut c, start) = coordinator();
    assert!(!c.wants_progress());
    c.want(Lsn::new(1200));
    assert!(c.wants_progress());
    c.keepalive(Lsn::new(1199));
    assert_eq!(c.poll(start), None, "it is not reached yet");
    c.keepalive(Lsn::new(1200));
    assert_eq!(c.poll(start), Some(Action::Idle(Lsn::new(1200))));
    c.idle_handed_over(start);
    c.committed(Lsn::new(1200));
    assert!(!c.wants_progress());
    c.want(Lsn::new(1250));
    transaction(&mut c, 1200, 1300, 1, 100, start);
    assert_eq!(c.poll(start), Some(Action::Seal));
}

#[test]
fn a_stop_flushes_everything_and_then_is_done() {
    let (mut c, start) = coordinator();
    assert!(c.stopped());
    transaction(&mut c, 1000, 1100, 1, 100, start);
    c.keepalive(Lsn::new(1150));
    assert_eq!(c.poll(start), None);
    c.flush_now(true);
    assert!(!c.stopped());
    assert_eq!(c.poll(start), Some(Action::Seal));
    let (bytes, to) = seal(&mut c);
    c.part_done(bytes);
    assert!(!c.stopped());
    c.committed(to);
    assert!(c.stopped());
    c.keepalive(Lsn::new(1151));
    assert!(!c.stopped(), "the checkpoint row is behind");
    assert_eq!(c.poll(start), Some(Action::Idle(Lsn::new(1151))));
}

#[test]
fn a_spilled_transaction_is_sealed_at_its_commit() {
    let (mut c, start) = coordinator();
    c.begin(Lsn::new(1000));
    c.buffered(1, 30_000, start);
    assert_eq!(c.poll(start), Some(Action::Spill));
    c.handed_over(30_000, false);
    c.emptied();
    assert!(c.spilled() && !c.stopped());
    c.part_done(30_000);
    c.buffered(1, 30_000, start);
    assert_eq!(c.poll(start), Some(Action::Spill), "as often as it takes");
    c.handed_over(30_000, false);
    c.emptied();
    c.commit(Lsn::new(1100));
    assert_eq!(c.poll(start), None);
    c.part_done(30_000);
    assert_eq!(c.checkpoint(), Lsn::new(1000));
    assert_eq!(c.poll(start), Some(Action::Seal), "although no row is left");
    let (bytes, to) = seal(&mut c);
    assert_eq!((bytes, to), (0, Lsn::new(1100)));
}
