//! Changes of the tables' definitions: how the intake waits for an answer from the source, goes on in another version,
//! and takes one back whose transaction comes again.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parquet_writer::RowBatchBuilder;
use pgoutput::{LogicalMessage, Lsn, Message, RelationId};

use super::slot::Slot;
use super::{Intake, internal};
use crate::control::TableTransition;
use crate::ddl_trigger::Announcement;
use crate::error::FeederError;
use crate::evolution::{self, Evolution, Found, Since};
use crate::status::TableState;
use crate::table_look::{self, LookedAt};
use crate::version::TableVersion;

/// How long the source is not asked again about an altered composite type whose values cannot be read.
const FORGIVING: Duration = Duration::from_secs(1);

/// What cannot be taken in before the source was asked about its table.
pub(super) enum Waiting {
    /// A change whose relation is another than the one that is known; or the type of its column `altered` is.
    Change {
        relation: RelationId,
        altered: Option<String>,
        message: Message,
    },
    /// What the source's event trigger says; its types are to be looked up.
    Announced(Box<Announcement>),
}

impl Waiting {
    fn table(&self) -> RelationId {
        match self {
            Self::Change { relation, .. } => *relation,
            Self::Announced(announced) => RelationId::new(announced.oid),
        }
    }
}

impl Intake {
    /// Whether nothing can be taken in before the source has answered.
    pub(crate) fn waits_for_answer(&self) -> bool {
        self.waiting.is_some()
    }

    /// What the source has to be asked before anything more is taken in.
    pub(crate) fn question(&self) -> Option<table_look::Wanted> {
        let waiting = self.waiting.as_ref()?;
        let slot = self.tables.get(&waiting.table())?;
        let (types, announced) = match waiting {
            Waiting::Change { .. } => {
                let columns = slot.relation.iter().flat_map(|relation| &relation.columns);
                (columns.map(|column| column.type_oid).collect(), None)
            }
            Waiting::Announced(announced) => (announced.types(), Some((**announced).clone())),
        };
        Some(table_look::Wanted {
            source_oid: waiting.table().get(),
            selection: slot.table.selection.clone(),
            types,
            announced,
        })
    }

    /// A message that may be of the source's event trigger.
    pub(super) fn announced(&mut self, message: &LogicalMessage) {
        if self.transaction.as_ref().is_none_or(|open| open.skip) {
            return;
        }
        match Announcement::of(message) {
            None => {}
            // The shape shows in the rows too.
            Some(Err(error)) => {
                tracing::warn!(lsn = %message.lsn, error = %error, "the source's event trigger sent what is not understood");
            }
            Some(Ok(announced)) => {
                let fed = |slot: &Slot| {
                    !matches!(slot.table.state, TableState::Error | TableState::Paused)
                };
                if self
                    .tables
                    .get(&RelationId::new(announced.oid))
                    .is_some_and(fed)
                {
                    self.waiting = Some(Waiting::Announced(Box::new(announced)));
                }
            }
        }
    }

    /// The source's answer: the table goes on in its next version, or it fails, and the change that waited is taken in.
    ///
    /// # Errors
    /// As [`Intake::message`].
    pub(crate) fn answer(
        &mut self,
        source_oid: u32,
        found: &Found,
        now: Instant,
    ) -> Result<(), FeederError> {
        // A restart may have come first.
        let Some(waiting) = self
            .waiting
            .take_if(|waiting| waiting.table().get() == source_oid)
        else {
            return Ok(());
        };
        let id = waiting.table();
        let (Some(slot), Some(transaction)) = (self.tables.get_mut(&id), &self.transaction) else {
            return Ok(());
        };
        let (lsn, seq) = (transaction.final_lsn, transaction.seq);
        let since = Since {
            lsn: transaction.lsn,
            seq,
        };
        let found = &slot.unspent(found);
        let table = &slot.table;
        let (version, settings) = (&table.version, &table.settings);
        let policy = table.change_policy();
        let evolution = match (&waiting, slot.relation.as_ref()) {
            (Waiting::Announced(_), _) => {
                evolution::by_announcement(version, found, settings, policy, since)
            }
            (Waiting::Change { altered, .. }, Some(relation)) => {
                let altered = altered.as_deref();
                evolution::by_relation(version, relation, altered, found, settings, policy, since)
                    .map(Some)
            }
            (Waiting::Change { .. }, None) => Ok(None),
        };
        match evolution {
            Ok(None) => {}
            Ok(Some(mut evolution)) => {
                let fits = match (&waiting, slot.relation.as_ref()) {
                    (Waiting::Change { .. }, Some(relation)) => {
                        evolution::fits(&evolution.to, relation, false)
                    }
                    _ => true,
                };
                let unread = match &waiting {
                    Waiting::Change { altered, .. } => altered
                        .as_deref()
                        .filter(|_| evolution.to.shape.agrees(&evolution.from.shape)),
                    Waiting::Announced(_) => None,
                };
                if let Some(column) = unread.filter(|_| found.plan.is_some()) {
                    evolution.copy_again(format!(
                        "the type of column {column:?} was altered, and altered again before its rows came"
                    ));
                }
                evolution.log(lsn);
                slot.evolve(evolution, lsn)?;
                slot.evolved_at = slot.evolved_at.max(lsn);
                slot.forgives_altered_until = unread.map(|_| now + FORGIVING);
                self.touched.push(id);
                if fits {
                    // An evolution alone is worth an epoch.
                    self.coordinator.buffered(1, self.buffered, now);
                } else {
                    // Asking again would give the same answer.
                    let reason =
                        "what the stream says of its columns does not fit what the catalog says";
                    return self.fail_table(id, lsn, seq, reason, now);
                }
            }
            Err(reason) => return self.fail_table(id, lsn, seq, &reason, now),
        }
        match waiting {
            Waiting::Change { message, .. } => self.message(message, now),
            Waiting::Announced(_) => Ok(()),
        }
    }

    /// What the source's catalog showed, now that the stream has passed the look: no row in an older shape can come any
    /// more. Returns whether it counts: the stream may have brought a later shape, which it must not take back. Call
    /// outside of transactions.
    ///
    /// # Errors
    /// As [`Intake::message`].
    pub(crate) fn follow_catalog(
        &mut self,
        source_oid: u32,
        found: &Found,
        looked: LookedAt,
        now: Instant,
    ) -> Result<bool, FeederError> {
        let id = RelationId::new(source_oid);
        let Some(slot) = self.tables.get_mut(&id) else {
            return Ok(true);
        };
        if matches!(slot.table.state, TableState::Error | TableState::Paused) {
            return Ok(true);
        }
        if slot.evolved_at >= looked.before || slot.has_later_columns(found) {
            return Ok(false);
        }
        let at = looked.after;
        let found = &slot.unspent(found);
        let table = &slot.table;
        let since = Since {
            lsn: super::lsn_value(at)?,
            seq: 0,
        };
        let evolution = evolution::by_catalog(
            &table.version,
            found,
            &table.settings,
            table.change_policy(),
            since,
        );
        match evolution {
            Ok(None) => Ok(true),
            Ok(Some(evolution)) => {
                evolution.log(at);
                // Commits below the position are in the copies that are made from now on.
                slot.evolve(evolution, Lsn::ZERO)?;
                slot.evolved_at = slot.evolved_at.max(looked.before);
                slot.commit();
                // An evolution alone is worth an epoch.
                self.coordinator.buffered(1, self.buffered, now);
                Ok(true)
            }
            Err(reason) => self.fail_table(id, at, 0, &reason, now).map(|()| true),
        }
    }

    /// A table that was dropped at the source: all that came of it is taken in. The lake's stays, or goes with the next
    /// start. Returns whether the next commit says so.
    pub(crate) fn leave(&mut self, source_oid: u32, now: Instant) -> bool {
        let slot = self.tables.get_mut(&RelationId::new(source_oid));
        let is_fed =
            |slot: &&mut Slot| !matches!(slot.table.state, TableState::Error | TableState::Paused);
        // One that was to be copied again has nothing left to be copied.
        let Some(slot) = slot.filter(is_fed) else {
            return false;
        };
        tracing::info!(table = %slot.table.lake().source, "the table was dropped at the source");
        slot.table.state = TableState::Paused;
        self.transitions.push(TableTransition::paused(source_oid));
        // The transition alone is worth an epoch.
        self.coordinator.buffered(1, self.buffered, now);
        true
    }

    /// Whether nothing waits for the end of an epoch to be told to the control tables.
    pub(crate) fn settled(&self) -> bool {
        self.transitions.is_empty() && !self.evolves()
    }

    /// Whether an evolution waits for its commit.
    pub(super) fn evolves(&self) -> bool {
        self.tables
            .values()
            .any(|slot| slot.committed_evolutions > 0)
    }

    /// The lake's tables as the epochs that were closed have made them.
    pub(crate) fn sealed(&self, source_oid: u32) -> Option<&Arc<TableVersion>> {
        let slot = self.tables.get(&RelationId::new(source_oid))?;
        Some(&slot.sealed)
    }

    /// Whether the lake has, or gets with what was handed over, the version that rows come in.
    pub(crate) fn is_sealed(&self, source_oid: u32) -> bool {
        self.tables
            .get(&RelationId::new(source_oid))
            .is_some_and(|slot| slot.evolutions.is_empty())
    }

    /// The evolutions of ended transactions, for the epoch that ends now.
    pub(super) fn close_evolutions(&mut self) -> Vec<Evolution> {
        let mut closed = Vec::new();
        for slot in self.tables.values_mut() {
            for evolution in slot.close_evolutions() {
                if evolution.recopy.is_some() {
                    let source_oid = evolution.to.lake.source_oid;
                    // First: what failed in the meantime stays failed.
                    self.transitions
                        .insert(0, TableTransition::pending(source_oid));
                }
                closed.push(evolution);
            }
        }
        closed
    }
}

impl Slot {
    /// Without the directives that evolutions use which are on their way into the lake.
    fn unspent<'a>(&self, found: &'a Found) -> Cow<'a, Found> {
        let open = self.evolutions.iter().flat_map(|step| &step.directives);
        let spent: BTreeSet<&String> = self.spent.iter().chain(open).collect();
        if found.directives.iter().all(|one| !spent.contains(&one.id)) {
            return Cow::Borrowed(found);
        }
        let mut found = found.clone();
        found.directives.retain(|one| !spent.contains(&one.id));
        Cow::Owned(found)
    }

    /// Whether the version has a column that was not there yet when the catalog was looked at. A commit that waits for a
    /// standby is in the stream before the catalog shows it.
    fn has_later_columns(&self, found: &Found) -> bool {
        let columns = &self.table.version.shape.columns;
        let last = columns.iter().filter_map(|column| column.attnum).max();
        let ever = found.plan.as_ref().map(|plan| plan.info.columns_ever);
        last.zip(ever).is_some_and(|(last, ever)| last > ever)
    }

    /// Goes on in the next version. `lsn` is the transaction's, which a copy has to come after.
    pub(super) fn evolve(&mut self, evolution: Evolution, lsn: Lsn) -> Result<(), FeederError> {
        let (closed, open) = self.split().map_err(internal)?;
        self.closed = closed;
        self.open = open;
        self.forgives_altered_until = None;
        self.table.version = Arc::clone(&evolution.to);
        self.batch = RowBatchBuilder::new(&self.table.lake().schema);
        self.plan = None;
        if evolution.recopy.is_some() {
            self.before_recopy.get_or_insert(self.table.state);
            self.table.state = TableState::Pending;
            self.table.copy_after = self.table.copy_after.max(lsn);
            self.copied = false;
        }
        self.evolutions.push(evolution);
        Ok(())
    }

    /// Those of ended transactions.
    fn close_evolutions(&mut self) -> Vec<Evolution> {
        let closed: Vec<Evolution> = self.evolutions.drain(..self.committed_evolutions).collect();
        self.committed_evolutions = 0;
        let spent = closed.iter().flat_map(|step| &step.directives);
        self.spent.extend(spent.cloned());
        if let Some(last) = closed.last() {
            self.sealed = Arc::clone(&last.to);
        }
        if self.evolutions.is_empty() {
            self.before_recopy = None;
        }
        closed
    }

    /// Goes back to the version before the open transaction, which comes again or is not recorded.
    pub(super) fn take_back_open(&mut self) {
        self.open.clear();
        if self.evolutions.len() == self.committed_evolutions {
            return;
        }
        self.evolutions.truncate(self.committed_evolutions);
        self.go_back();
    }

    /// Goes back to the version of the epoch that was closed last.
    pub(super) fn take_back(&mut self) {
        if self.evolutions.is_empty() {
            return;
        }
        self.evolutions.clear();
        self.committed_evolutions = 0;
        self.go_back();
    }

    fn go_back(&mut self) {
        let last = self.evolutions.last().map(|evolution| &evolution.to);
        self.table.version = Arc::clone(last.unwrap_or(&self.sealed));
        self.batch = RowBatchBuilder::new(&self.table.lake().schema);
        self.committed_rows = 0;
        self.accounted = 0;
        self.plan = None;
        let copied = self
            .evolutions
            .iter()
            .any(|evolution| evolution.recopy.is_some());
        if !copied && let Some(state) = self.before_recopy.take() {
            // Its copy was given up when it was to be copied again.
            self.table.state = match state {
                TableState::Copying => TableState::Pending,
                state => state,
            };
        }
    }
}
