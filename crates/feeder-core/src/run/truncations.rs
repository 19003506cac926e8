//! Rule 22: whether partitions with a new file were truncated with their root, which only the stream knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use pgoutput::{Lsn, Message, RelationId};

use super::Engine;
use crate::control::TableTransition;
use crate::epoch::{Part, Work};
use crate::error::FeederError;
use crate::failpoint::{self, Failpoint};
use crate::partitions::Doubt;
use crate::status::TableState;

/// Truncations of one table that are remembered. Doubts are about the latest, unless the stream lags far behind.
const REMEMBERED: usize = 256;

/// The truncations that the stream showed, and the doubts that wait for it to show one.
#[derive(Debug, Default)]
pub(super) struct Truncations {
    /// Of the transaction that is being received.
    transaction: u32,
    /// By the OID of the table; the latest last.
    seen: BTreeMap<u32, VecDeque<u32>>,
    /// The latest of each table that no epoch has taken along yet.
    unrecorded: BTreeMap<u32, u32>,
    doubts: BTreeMap<u32, Doubt>,
}

impl Truncations {
    pub(super) fn new(doubts: Vec<Doubt>) -> Self {
        let doubts = doubts
            .into_iter()
            .map(|doubt| (doubt.source_oid, doubt))
            .collect();
        Self {
            doubts,
            ..Self::default()
        }
    }

    pub(super) fn message(&mut self, message: &Message) {
        match message {
            Message::Begin(begin) => self.transaction = begin.xid.get(),
            Message::Truncate(truncate) => {
                failpoint::reach(Failpoint::TruncateReceived);
                for relation in truncate.relations() {
                    let seen = self.seen.entry(relation.get()).or_default();
                    if seen.back() != Some(&self.transaction) {
                        seen.push_back(self.transaction);
                    }
                    if seen.len() > REMEMBERED {
                        seen.pop_front();
                    }
                    self.unrecorded.insert(relation.get(), self.transaction);
                }
            }
            _ => {}
        }
    }

    /// Lets the end of an epoch take along what it is about, for the tables that are fed.
    pub(super) fn record(&mut self, part: &mut Part, fed: &BTreeSet<u32>) {
        let Some(end) = &mut part.end else { return };
        let recorded = std::mem::take(&mut self.unrecorded);
        end.transitions.extend(
            recorded
                .into_iter()
                .filter(|(source_oid, _)| fed.contains(source_oid))
                .map(|(source_oid, by)| TableTransition::truncated_by(source_oid, by)),
        );
    }

    pub(super) fn doubt(&mut self, doubt: Doubt) {
        // The same one again would wait longer.
        let same = self
            .doubts
            .get(&doubt.source_oid)
            .is_some_and(|open| open.transactions == doubt.transactions);
        if !same {
            self.doubts.insert(doubt.source_oid, doubt);
        }
    }

    /// Whether nothing waits for the stream.
    pub(super) fn clear(&self) -> bool {
        self.doubts.is_empty()
    }

    /// The position that all doubts wait for.
    fn wanted(&self) -> Option<Lsn> {
        self.doubts.values().map(|doubt| doubt.at).max()
    }

    /// The doubts that the stream did not dispel although it has got there.
    fn confirmed(&mut self, received: Lsn) -> Vec<Doubt> {
        let ripe: Vec<u32> = self
            .doubts
            .values()
            .filter(|doubt| doubt.at <= received)
            .map(|doubt| doubt.source_oid)
            .collect();
        ripe.into_iter()
            .filter_map(|source_oid| self.doubts.remove(&source_oid))
            .filter(|doubt| {
                let seen = self.seen.get(&doubt.source_oid);
                let explained = |by: &u32| seen.is_some_and(|seen| seen.contains(by));
                !doubt.transactions.iter().all(explained)
            })
            .collect()
    }
}

impl Engine<'_> {
    /// Gives up the tables whose doubts are confirmed.
    pub(super) fn settle_doubts(&mut self, now: Instant) -> Result<(), FeederError> {
        let coordinator = &mut self.intake.coordinator;
        let Some(wanted) = self.truncations.wanted() else {
            return Ok(());
        };
        // An idle source says nothing by itself.
        coordinator.want(wanted);
        if coordinator.in_transaction() {
            return Ok(());
        }
        let received = coordinator.received();
        for doubt in self.truncations.confirmed(received) {
            let streams = self
                .intake
                .table_mut(doubt.source_oid)
                .is_some_and(|table| table.state == TableState::Streaming);
            if streams {
                let relation = RelationId::new(doubt.source_oid);
                self.intake
                    .fail_table(relation, received, 0, &doubt.reason, now)?;
            }
        }
        Ok(())
    }

    /// Submits a part; the end of an epoch takes along which transactions truncated tables.
    pub(super) fn submit_part(&mut self, mut part: Part) -> Result<(), FeederError> {
        let fed: BTreeSet<u32> = self
            .intake
            .tables()
            .map(|table| table.lake().source_oid)
            .collect();
        self.truncations.record(&mut part, &fed);
        self.submit(Work::Part(part))
    }
}

#[cfg(test)]
mod tests {
    use pgoutput::Begin;
    use pgoutput::{PgTimestamp, Xid};

    use super::*;
    use crate::epoch::EpochEnd;
    use crate::testing;

    fn transaction(truncations: &mut Truncations, by: u32, tables: &[u32]) {
        truncations.message(&Message::Begin(Begin {
            final_lsn: Lsn::new(10),
            commit_time: PgTimestamp::from_unix_micros(0),
            xid: Xid::new(by),
        }));
        truncations.message(&testing::truncate(tables));
    }

    fn doubt(by: &[u32], at: u64) -> Doubt {
        Doubt {
            source_oid: 1,
            transactions: by.iter().copied().collect(),
            at: Lsn::new(at),
            reason: "needs resync".to_owned(),
        }
    }

    #[test]
    fn a_doubt_waits_for_the_stream() {
        let mut truncations = Truncations::new(vec![doubt(&[7], 100)]);
        assert_eq!(truncations.wanted(), Some(Lsn::new(100)));
        assert_eq!(truncations.confirmed(Lsn::new(99)), []);
        assert!(!truncations.clear());
        assert_eq!(truncations.confirmed(Lsn::new(100)), [doubt(&[7], 100)]);
        assert!(truncations.clear());
    }

    #[test]
    fn the_truncation_of_the_root_by_the_same_transaction_dispels_a_doubt() {
        let mut truncations = Truncations::new(vec![doubt(&[7], 100)]);
        transaction(&mut truncations, 7, &[2, 1]);
        transaction(&mut truncations, 8, &[1]);
        assert_eq!(truncations.confirmed(Lsn::new(100)), []);
        assert!(truncations.clear());
    }

    #[test]
    fn other_transactions_and_other_tables_dispel_nothing() {
        let mut truncations = Truncations::new(vec![doubt(&[7], 100)]);
        transaction(&mut truncations, 7, &[2]);
        transaction(&mut truncations, 8, &[1]);
        assert_eq!(truncations.confirmed(Lsn::new(100)).len(), 1);
        truncations.doubt(doubt(&[8, 9], 100));
        assert_eq!(truncations.confirmed(Lsn::new(100)).len(), 1);
    }

    #[test]
    fn the_same_doubt_again_does_not_wait_longer() {
        let mut truncations = Truncations::default();
        truncations.doubt(doubt(&[7], 100));
        truncations.doubt(doubt(&[7], 200));
        assert_eq!(truncations.wanted(), Some(Lsn::new(100)));
        truncations.doubt(doubt(&[8], 300));
        assert_eq!(truncations.wanted(), Some(Lsn::new(300)));
    }

    #[test]
    fn the_end_of_an_epoch_takes_the_latest_truncations_of_fed_tables_along_once() {
        let mut truncations = Truncations::default();
        transaction(&mut truncations, 7, &[1, 2]);
        transaction(&mut truncations, 8, &[1]);
        let mut part = Part {
            batches: Vec::new(),
            bytes: 0,
            transaction: None,
            end: None,
        };
        truncations.record(&mut part, &BTreeSet::from([1]));
        part.end = Some(EpochEnd {
            to: Lsn::new(1),
            evolutions: Vec::new(),
            commit_timestamp: None,
            transitions: Vec::new(),
            cut: Vec::new(),
            incomplete: Vec::new(),
        });
        for _ in 0..2 {
            truncations.record(&mut part, &BTreeSet::from([1]));
            let transitions = &part.end.as_ref().unwrap().transitions;
            assert_eq!(
                format!("{transitions:?}"),
                format!("{:?}", [TableTransition::truncated_by(1, 8)])
            );
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut truncations = Truncations::default();
        for by in 1..2000 {
            transaction(&mut truncations, by, &[1]);
        }
        assert_eq!(
            truncations.seen.get(&1).map(VecDeque::len),
            Some(REMEMBERED)
        );
        truncations.doubt(doubt(&[1999], 1));
        assert_eq!(truncations.confirmed(Lsn::new(1)), []);
    }
}
