//! Random event orders against a model: a server with a log of transactions, a committer, a catalog.
//!
//! The rows themselves are what is judged: every commit must add exactly the rows of the transactions between the
//! old checkpoint and the new one, whatever happened in between.

use std::collections::{BTreeSet, VecDeque};

use pgoutput::{Message, ReplicaIdentity};
use proptest::prelude::*;

use super::*;
use crate::config::OnTableError;
use crate::control::TableChange;
use crate::epoch::{EpochEnd, Part};
use crate::intake::Intake;
use crate::status::TableState;
use crate::testing::{
    Column, INT8, NUMERIC, TEXT, begin, commit, fed_table, insert, numeric_modifier, relation,
    rows, text,
};

const FIRST: u64 = 1000;
/// Takes whatever it is given.
const GOOD: u32 = 1;
/// Fails at a value that is no number.
const FRAIL: u32 = 2;
const COLUMNS: [Column; 3] = [
    ("id", INT8, -1),
    ("amount", NUMERIC, numeric_modifier(8, 2)),
    ("filler", TEXT, -1),
];
/// The queue of the shell has eight places, of which copies and a discard need some.
const QUEUE: usize = 5;
const MEMORY: u64 = 16_000;
const LARGEST_ROW: u64 = 6_000;

#[derive(Clone, Debug)]
struct Change {
    table: u32,
    bad: bool,
    filler: usize,
}

#[derive(Clone, Debug)]
struct Transaction {
    commit: u64,
    end: u64,
    changes: Vec<Change>,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The server sends this many messages, as far as they are read.
    Send(u8),
    Keepalive,
    /// The committer finishes its next piece of work.
    Commit,
    /// The committer's next report arrives.
    Report,
    Wait(u16),
    Want,
    /// The session breaks; the server begins so many transactions too early.
    Break(u8),
}

fn change() -> impl Strategy<Value = Change> {
    let filler = prop_oneof![4 => 0_usize..50, 1 => 1000_usize..5000];
    (
        prop_oneof![2 => Just(GOOD), 1 => Just(FRAIL)],
        proptest::bool::weighted(0.03),
        filler,
    )
        .prop_map(|(table, bad, filler)| Change {
            table,
            bad: bad && table == FRAIL,
            filler,
        })
}

fn log() -> impl Strategy<Value = Vec<Transaction>> {
    // Adjacent commits are the rule: the end of one is the place of the next.
    let gap = prop_oneof![3 => Just(0_u64), 2 => 1_u64..500, 1 => Just(3_u64 << 20)];
    let length = 1_u64..200;
    let changes = prop::collection::vec(change(), 0..12);
    prop::collection::vec((gap, length, changes), 1..14).prop_map(|parts| {
        let mut position = FIRST;
        parts
            .into_iter()
            .map(|(gap, length, changes)| {
                let commit = position + gap;
                position = commit + length;
                Transaction {
                    commit,
                    end: position,
                    changes,
                }
            })
            .collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1_u8..8).prop_map(Step::Send),
        2 => Just(Step::Keepalive),
        6 => Just(Step::Commit),
        6 => Just(Step::Report),
        4 => (1_u16..6000).prop_map(Step::Wait),
        1 => Just(Step::Want),
        1 => (0_u8..3).prop_map(Step::Break),
    ]
}

enum Work {
    Part(Part),
    Idle(Lsn),
}

enum Report {
    PartDone(u64),
    Committed(Lsn),
}

struct World {
    log: Vec<Transaction>,
    /// What the server still has to send in this session.
    stream: VecDeque<Message>,
    /// The transaction that is being sent, or is next.
    next: usize,
    // The feeder.
    intake: Intake,
    now: Instant,
    wanted: u64,
    stopping: bool,
    last_idle: Option<Instant>,
    /// Idle checkpoints since the last one that moved far.
    small_moves: u8,
    // The committer.
    queue: VecDeque<Work>,
    uploaded: Vec<File>,
    ending: Option<EpochEnd>,
    idle: Option<Lsn>,
    reports: VecDeque<Report>,
    // The catalog.
    checkpoint: u64,
    rows: BTreeSet<u64>,
    failed: Option<u64>,
}

/// What a file holds: the transaction that was open when it was handed over, its table, the ids of its rows.
type File = (Option<Lsn>, u32, Vec<u64>);

fn coordinator(checkpoint: u64) -> Coordinator {
    let thresholds = Thresholds {
        interval: Duration::from_secs(5),
        max_rows: 20,
        max_bytes: 3_000,
        memory: MEMORY,
    };
    Coordinator::new(thresholds, Lsn::new(checkpoint))
}

fn intake(checkpoint: u64, failed: bool) -> Intake {
    let mut tables = vec![
        fed_table(GOOD, "good", ReplicaIdentity::Default, &COLUMNS),
        fed_table(FRAIL, "frail", ReplicaIdentity::Default, &COLUMNS),
    ];
    if failed {
        tables[1].state = TableState::Error;
    }
    Intake::new(coordinator(checkpoint), tables, OnTableError::Isolate)
}

fn id(transaction: usize, change: usize) -> u64 {
    u64::try_from(transaction * 1000 + change).unwrap()
}

fn messages(number: usize, transaction: &Transaction, first: bool) -> Vec<Message> {
    let mut messages = vec![begin(transaction.commit)];
    if first {
        messages.extend([GOOD, FRAIL].map(|t| relation(t, ReplicaIdentity::Default, &COLUMNS)));
    }
    messages.extend(transaction.changes.iter().enumerate().map(|(n, change)| {
        let (id, filler) = (id(number, n).to_string(), "x".repeat(change.filler));
        let amount = if change.bad { "NaN" } else { "1.50" };
        insert(change.table, &[text(&id), text(amount), text(&filler)])
    }));
    messages.push(commit(transaction.commit, transaction.end));
    messages
}

impl World {
    fn new(log: Vec<Transaction>) -> Self {
        let mut world = Self {
            log,
            stream: VecDeque::new(),
            next: 0,
            intake: intake(FIRST, false),
            now: Instant::now(),
            wanted: 0,
            stopping: false,
            last_idle: None,
            small_moves: FOLLOW_UPS,
            queue: VecDeque::new(),
            uploaded: Vec::new(),
            ending: None,
            idle: None,
            reports: VecDeque::new(),
            checkpoint: FIRST,
            rows: BTreeSet::new(),
            failed: None,
        };
        world.connect(0);
        world
    }

    // ---- the server ----

    /// Sends from the checkpoint on, or from `too_early` transactions before it.
    fn connect(&mut self, too_early: usize) {
        let covered = self
            .log
            .iter()
            .take_while(|transaction| transaction.commit < self.checkpoint)
            .count();
        self.next = covered.saturating_sub(too_early);
        self.stream = self
            .log
            .iter()
            .enumerate()
            .skip(self.next)
            .flat_map(|(n, transaction)| messages(n, transaction, n == self.next))
            .collect();
    }

    fn send(&mut self) {
        if self.stopping || self.intake.coordinator.paused() {
            return;
        }
        if let Some(message) = self.stream.pop_front() {
            if matches!(message, Message::Commit(_)) {
                self.next += 1;
            }
            self.intake.message(message, self.now).unwrap();
            self.act();
        }
    }

    fn keepalive(&mut self) {
        if self.stopping {
            return;
        }
        let sent_up_to = self.next.checked_sub(1).map_or(FIRST, |n| self.log[n].end);
        let wal_end = match self.log.get(self.next) {
            // Whatever it says while a transaction is open, that transaction is not covered.
            Some(open) if self.intake.coordinator.in_transaction() => open.end + 5000,
            // It never overtakes a commit.
            Some(next) => next.commit,
            None => sent_up_to + (2 << 20),
        };
        self.intake.coordinator.keepalive(Lsn::new(wal_end));
        self.act();
    }

    // ---- the shell ----

    /// As `Engine::act`, until the coordinator is content.
    fn act(&mut self) {
        loop {
            let in_transaction = self.intake.coordinator.in_transaction();
            match self.intake.coordinator.poll(self.now) {
                None => break,
                Some(Action::Seal) => {
                    assert!(!in_transaction, "an epoch would end inside a transaction");
                    let part = self.intake.seal().unwrap();
                    self.submit(Work::Part(part));
                }
                Some(Action::Spill) => {
                    assert!(in_transaction);
                    let (head, tail) = self.intake.spill().unwrap();
                    assert!(tail.transaction.is_some() && tail.end.is_none());
                    if let Some(head) = head {
                        self.submit(Work::Part(head));
                    }
                    self.submit(Work::Part(tail));
                }
                Some(Action::Idle(to)) => self.idle(to),
            }
        }
        if let Some(deadline) = self.intake.coordinator.next_deadline() {
            assert!(deadline > self.now, "the shell would spin");
        }
        let bound = MEMORY / 2 + 2 * LARGEST_ROW;
        let buffered = self.intake.coordinator.buffered_bytes();
        assert!(buffered <= bound, "{buffered} bytes are held");
        assert!(self.intake.coordinator.checkpoint().get() <= self.checkpoint);
        let covered = self.intake.coordinator.covered().get();
        assert!(
            self.missing(covered).is_empty(),
            "covered, and not in the lake"
        );
    }

    fn idle(&mut self, to: Lsn) {
        let from = self.intake.coordinator.checkpoint().get();
        let far = to.get() >= from + IDLE_BYTES;
        if !self.stopping && self.wanted <= from {
            let wait = if far {
                IDLE_INTERVAL
            } else {
                FOLLOW_UP_INTERVAL
            };
            if let Some(last) = self.last_idle {
                let rest = self.now.duration_since(last);
                assert!(rest >= wait, "again after {rest:?}");
            }
            assert!(far || self.small_moves < FOLLOW_UPS, "too small a step");
        }
        self.small_moves = if far {
            0
        } else {
            self.small_moves.saturating_add(1)
        };
        self.last_idle = Some(self.now);
        self.intake.coordinator.idle_handed_over(self.now);
        self.submit(Work::Idle(to));
    }

    fn submit(&mut self, work: Work) {
        self.queue.push_back(work);
        assert!(self.queue.len() <= QUEUE, "the queue would be full");
    }

    fn report(&mut self) {
        match self.reports.pop_front() {
            None => return,
            Some(Report::PartDone(bytes)) => self.intake.coordinator.part_done(bytes),
            Some(Report::Committed(to)) => self.intake.coordinator.committed(to),
        }
        self.act();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.act();
    }

    fn want(&mut self) {
        let position = self.intake.coordinator.received().get() + 1000;
        self.wanted = self.wanted.max(position);
        self.intake.coordinator.want(Lsn::new(self.wanted));
        self.act();
    }

    /// As `Engine::discard`, then a new session.
    fn break_session(&mut self, too_early: usize) {
        while self.committer_works() {
            self.commit();
        }
        self.uploaded.clear();
        while !self.reports.is_empty() {
            self.report_without_acting();
        }
        let checkpoint = self.intake.coordinator.checkpoint().get();
        assert_eq!(
            checkpoint, self.checkpoint,
            "all that was handed over is committed"
        );
        self.intake.restart(coordinator(checkpoint));
        self.intake.coordinator.want(Lsn::new(self.wanted));
        self.last_idle = None;
        self.small_moves = FOLLOW_UPS;
        self.connect(too_early);
        self.act();
    }

    fn report_without_acting(&mut self) {
        match self.reports.pop_front() {
            Some(Report::PartDone(bytes)) => self.intake.coordinator.part_done(bytes),
            Some(Report::Committed(to)) => self.intake.coordinator.committed(to),
            None => {}
        }
    }

    // ---- the committer ----

    fn committer_works(&self) -> bool {
        !self.queue.is_empty() || self.ending.is_some() || self.idle.is_some()
    }

    /// One piece of work: an upload, or the commit that follows it.
    fn commit(&mut self) {
        if let Some(end) = self.ending.take() {
            self.commit_epoch(&end);
            self.reports.push_back(Report::Committed(end.to));
            return;
        }
        if let Some(to) = self.idle.take() {
            assert!(
                self.missing(to.get()).is_empty(),
                "an idle checkpoint steps over rows"
            );
            self.checkpoint = to.get();
            self.reports.push_back(Report::Committed(to));
            return;
        }
        match self.queue.pop_front() {
            None => {}
            Some(Work::Idle(to)) => self.idle = Some(to),
            Some(Work::Part(part)) => {
                for batch in &part.batches {
                    let ids = rows(&batch.rows)
                        .iter()
                        .map(|row| row.values[0].as_deref().unwrap().parse().unwrap())
                        .collect();
                    self.uploaded
                        .push((part.transaction, batch.table.source_oid, ids));
                }
                self.reports.push_back(Report::PartDone(part.bytes));
                self.ending = part.end;
            }
        }
    }

    fn commit_epoch(&mut self, end: &EpochEnd) {
        for transition in &end.transitions {
            assert_eq!(transition.source_oid, FRAIL);
            match &transition.change {
                TableChange::Error { lsn, .. } => {
                    assert_eq!(self.failed, None, "it fails once");
                    self.failed = Some(lsn.get());
                }
                TableChange::Discarded(_) => {
                    assert!(self.failed.is_some(), "only what failed drops");
                }
                other => panic!("{other:?}"),
            }
        }
        let missing = self.missing(end.to.get());
        let added: Vec<u64> = std::mem::take(&mut self.uploaded)
            .into_iter()
            .filter(|(open, table, _)| {
                !end.cut
                    .iter()
                    .any(|(cut, lsn)| cut == table && Some(*lsn) == *open)
            })
            .flat_map(|(_, _, ids)| ids)
            .collect();
        let distinct: BTreeSet<u64> = added.iter().copied().collect();
        assert_eq!(distinct.len(), added.len(), "a row is there twice");
        assert_eq!(distinct, missing, "an epoch is exactly its transactions");
        assert!(end.to.get() >= self.checkpoint);
        self.rows.extend(distinct);
        self.checkpoint = end.to.get();
    }

    /// The rows of the transactions from the checkpoint to `to`.
    fn missing(&self, to: u64) -> BTreeSet<u64> {
        self.expected(|transaction| (self.checkpoint..to).contains(&transaction.commit))
    }

    fn expected(&self, within: impl Fn(&Transaction) -> bool) -> BTreeSet<u64> {
        let recorded = |transaction: &Transaction, change: &Change| {
            change.table == GOOD || self.failed.is_none_or(|at| transaction.commit < at)
        };
        self.log
            .iter()
            .enumerate()
            .filter(|(_, transaction)| within(transaction))
            .flat_map(|(n, transaction)| {
                transaction
                    .changes
                    .iter()
                    .enumerate()
                    .filter(|(_, change)| recorded(transaction, change))
                    .map(move |(m, _)| id(n, m))
            })
            .collect()
    }

    fn all(&self) -> BTreeSet<u64> {
        self.expected(|_| true)
    }

    // ---- ends ----

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(count) => (0..count).for_each(|_| self.send()),
            Step::Keepalive => self.keepalive(),
            Step::Commit => self.commit(),
            Step::Report => self.report(),
            Step::Wait(millis) => self.wait(Duration::from_millis(millis.into())),
            Step::Want => self.want(),
            Step::Break(too_early) => self.break_session(too_early.into()),
        }
    }

    /// The committer does all it can.
    fn settle(&mut self) {
        while self.committer_works() || !self.reports.is_empty() {
            self.commit();
            self.report();
        }
        assert!(
            !self.intake.coordinator.paused(),
            "nothing is left that would free memory"
        );
    }

    /// Everything is sent and some time passes: everything must be in the catalog, without a stop.
    fn run_dry(&mut self) {
        while !self.stream.is_empty() {
            self.send();
            self.settle();
        }
        self.wait(Duration::from_secs(5));
        self.settle();
        assert_eq!(self.rows, self.all());
        assert!(self.intake.coordinator.quiet());
    }

    /// As `Engine::begin_stop` and what follows.
    fn stop(&mut self) {
        self.stopping = true;
        self.intake.coordinator.flush_now(true);
        if self.intake.coordinator.in_transaction()
            && let Some(head) = self.intake.cut_open_transaction().unwrap()
        {
            self.submit(Work::Part(head));
        }
        for _ in 0..100 {
            self.act();
            if self.intake.coordinator.stopped() {
                break;
            }
            self.commit();
            self.report();
        }
        assert!(self.intake.coordinator.stopped(), "a stop comes to its end");
        assert!(
            self.ending.is_none() && self.idle.is_none(),
            "nothing is being committed any more"
        );
        assert_eq!(self.checkpoint, self.intake.coordinator.received().get());
        let received = self.expected(|transaction| transaction.commit < self.checkpoint);
        assert_eq!(self.rows, received);
    }

    /// A new process at the checkpoint of the old one.
    fn start_again(&mut self) {
        self.queue.clear();
        self.uploaded.clear();
        self.reports.clear();
        self.stopping = false;
        self.wanted = 0;
        self.last_idle = None;
        self.small_moves = FOLLOW_UPS;
        self.intake = intake(self.checkpoint, self.failed.is_some());
        self.connect(0);
    }
}

proptest! {
    #[test]
    fn every_commit_is_exactly_its_transactions(
        log in log(),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut world = World::new(log);
        for step in steps {
            world.step(step);
        }
        world.run_dry();
        world.stop();
    }

    #[test]
    fn a_stop_at_any_time_loses_and_repeats_nothing(
        log in log(),
        before in prop::collection::vec(step(), 0..60),
        after in prop::collection::vec(step(), 0..60),
    ) {
        let mut world = World::new(log);
        for step in before {
            world.step(step);
        }
        world.stop();
        world.start_again();
        for step in after {
            world.step(step);
        }
        world.run_dry();
    }
}
