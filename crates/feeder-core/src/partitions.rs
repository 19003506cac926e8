//! Rule 22: partitions that were attached, detached, dropped or truncated by themselves. Nothing of it is in the stream.
//!
//! The partitions of a table are kept in its control row, as they were before its copy's snapshot or at a later look
//! that found nothing wrong. At each start and every ten seconds they are compared with those there are.
//!
//! | found | then |
//! |---|---|
//! | a partition that was made as one, or that is empty | accepted: its rows come through the root |
//! | any other new partition | a resync |
//! | one that is gone | as `on_drop_partition` says: a resync, by itself or not, or its rows stay in the lake |
//! | one that was detached in between | a resync |
//! | a new file, and its last change of the catalog is by a transaction that truncated the root | accepted |
//! | any other new file | a resync, once the stream has got there: the root may have been truncated |

use std::collections::{BTreeMap, BTreeSet};

use cdc_source::partitions::{self, Partition, PartitionStorage, PartitionTrees};
use cdc_source::{Connection, TableKind};
use pgoutput::{Lsn, Oid};
use serde::{Deserialize, Serialize};

use crate::config::OnDropPartition;
use crate::control::{Control, Fence, TableRow};
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::plan::TablePlan;
use crate::status::TableState;

/// No transaction has this id: what it changed is explained by nothing.
const NOBODY: u32 = 0;

/// A partition as kept in the control row of its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    oid: u32,
    parent: u32,
    /// `schema.table`.
    name: String,
    /// Whether it has rows of its own.
    leaf: bool,
    file: u32,
    attached_by: u32,
}

impl Known {
    fn of(partition: &Partition) -> Self {
        Self {
            oid: partition.oid.get(),
            parent: partition.parent.get(),
            name: name(partition),
            leaf: partition.storage != PartitionStorage::Partitions,
            file: partition.file,
            attached_by: partition.attached_by,
        }
    }

    /// Whether it has been a partition of the same table all the time.
    fn stayed(&self, now: &Partition) -> bool {
        (self.oid, self.parent, self.attached_by)
            == (now.oid.get(), now.parent.get(), now.attached_by)
    }
}

/// What a look at the partitions of a table led to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// As before.
    Same,
    /// Nothing is missing; the partitions are now these.
    Changed(serde_json::Value),
    /// Rows are missing or left over, for this reason.
    Lost(String),
    /// The same, and the table is to be copied again.
    Copied(String),
    /// Lost, unless the stream says that the root was truncated.
    Doubted(Doubt),
}

/// Partitions with a new file: truncated with their root, which the stream has or will have, or by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// OID of the root.
    pub(crate) source_oid: u32,
    /// The transactions that changed the partitions last.
    pub(crate) transactions: BTreeSet<u32>,
    /// Once the stream has got here, it has shown all of them.
    pub(crate) at: Lsn,
    /// Why the table is lost if it did not.
    pub(crate) reason: String,
}

/// What has to be asked before partitions can be compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Questions {
    /// New partitions that may have had rows before they were attached.
    filled: Vec<Oid>,
    /// Partitions that are not there any more.
    existing: Vec<Oid>,
}

#[derive(Debug, Default)]
struct Answers {
    filled: BTreeSet<Oid>,
    existing: BTreeSet<Oid>,
}

/// Partitioned tables, and what happens when they lose a partition.
pub(crate) type Roots = BTreeMap<Oid, OnDropPartition>;

/// The partitioned ones of these tables.
pub(crate) fn roots(plans: &[TablePlan]) -> Roots {
    plans
        .iter()
        .filter(|plan| plan.info.id.kind == TableKind::Partitioned)
        .map(|plan| (plan.info.id.oid, plan.selection.changes.on_drop_partition))
        .collect()
}

/// Reads the partitions of these tables.
pub(crate) async fn read(
    connection: &mut Connection,
    roots: impl IntoIterator<Item = &Oid>,
) -> Result<PartitionTrees, FeederError> {
    let roots: Vec<Oid> = roots.into_iter().copied().collect();
    if roots.is_empty() {
        return Ok(PartitionTrees {
            at: Lsn::ZERO,
            trees: BTreeMap::new(),
        });
    }
    partitions::read(connection, &roots)
        .await
        .map_err(from_source)
}

/// The partitions of a table, to be kept in its control row.
pub(crate) fn to_keep(trees: &PartitionTrees, root: Oid) -> Result<serde_json::Value, FeederError> {
    let known: Vec<Known> = tree(trees, root).iter().map(Known::of).collect();
    serde_json::to_value(known).map_err(|error| {
        FeederError::permanent(
            FeederErrorKind::Internal,
            "a table's partitions cannot be written",
        )
        .with_source(error)
    })
}

/// A look at the partitions of all tables.
#[derive(Debug, Default)]
pub(crate) struct PartitionsLook {
    /// Tables with missing or left over rows, with the reason.
    pub(crate) lost: Vec<(u32, String)>,
    pub(crate) doubts: Vec<Doubt>,
    /// What was kept and what is to be kept.
    changed: Vec<(u32, Option<serde_json::Value>, serde_json::Value)>,
    /// Tables to be copied again, and what was kept.
    copied: Vec<(u32, Option<serde_json::Value>)>,
}

impl PartitionsLook {
    /// Compares the partitions of those tables that stream: a copy compares for itself, and the others wait for one.
    pub(crate) async fn of(
        connection: &mut Connection,
        trees: &PartitionTrees,
        roots: &Roots,
        rows: &[TableRow],
    ) -> Result<Self, FeederError> {
        let mut look = Self::default();
        for row in rows {
            let Some(on_drop) = roots.get(&Oid::new(row.source_oid)) else {
                continue;
            };
            if row.state != TableState::Streaming {
                continue;
            }
            match judge(connection, trees, row, *on_drop).await? {
                Verdict::Same => {}
                Verdict::Changed(now) => {
                    look.changed
                        .push((row.source_oid, row.partitions.clone(), now));
                }
                Verdict::Lost(reason) => look.lost.push((row.source_oid, reason)),
                Verdict::Copied(reason) => {
                    let table = format!("{}.{}", row.source_schema, row.source_table);
                    tracing::warn!(table, reason, "the table is copied again");
                    look.copied.push((row.source_oid, row.partitions.clone()));
                }
                Verdict::Doubted(doubt) => look.doubts.push(doubt),
            }
        }
        Ok(look)
    }

    /// Keeps what was found in order, and asks for copies.
    pub(crate) async fn record(&self, control: &Control, fence: &Fence) -> Result<(), FeederError> {
        for (source_oid, before, now) in &self.changed {
            control
                .replace_partitions(fence, *source_oid, before.as_ref(), now)
                .await?;
        }
        for (source_oid, before) in &self.copied {
            control
                .resync_for_partitions(fence, *source_oid, before.as_ref())
                .await?;
        }
        Ok(())
    }
}

/// Compares the partitions of a table with those in its control row.
async fn judge(
    connection: &mut Connection,
    trees: &PartitionTrees,
    row: &TableRow,
    on_drop: OnDropPartition,
) -> Result<Verdict, FeederError> {
    let root = Oid::new(row.source_oid);
    let now = tree(trees, root);
    let kept = to_keep(trees, root)?;
    let mut before = match &row.partitions {
        // Fed by a release that did not keep them.
        None => return Ok(Verdict::Changed(kept)),
        Some(before) if *before == kept => return Ok(Verdict::Same),
        Some(before) => Vec::<Known>::deserialize(before).map_err(|error| {
            FeederError::permanent(
                FeederErrorKind::Catalog,
                "the control tables hold unreadable partitions",
            )
            .with_source(error)
        })?,
    };
    let source = format!("{}.{}", row.source_schema, row.source_table);
    let is_smaller = gone(&before, now).next().is_some();
    if is_smaller && on_drop == OnDropPartition::Keep {
        let left: Vec<&str> = gone(&before, now)
            .map(|known| known.name.as_str())
            .collect();
        tracing::warn!(
            table = source,
            "{} detached or dropped: the lake keeps the rows as they were",
            list(left.into_iter())
        );
        let there = oids(now);
        before.retain(|known| there.contains(&known.oid));
    }
    let questions = questions(&before, now);
    let mut answers = Answers::default();
    if !questions.filled.is_empty() {
        answers.filled = partitions::filled(connection, &questions.filled)
            .await
            .map_err(from_source)?;
    }
    if !questions.existing.is_empty() {
        answers.existing = partitions::existing(connection, &questions.existing)
            .await
            .map_err(from_source)?;
    }
    if let Some(reason) = lost(&before, now, &answers, &source) {
        return Ok(if is_smaller && on_drop == OnDropPartition::Resync {
            Verdict::Copied(reason)
        } else {
            Verdict::Lost(reason)
        });
    }
    match doubt(&before, now, row.truncated_by) {
        None => Ok(Verdict::Changed(kept)),
        Some((transactions, reason)) => Ok(Verdict::Doubted(Doubt {
            source_oid: row.source_oid,
            transactions,
            at: trees.at,
            reason,
        })),
    }
}

fn tree(trees: &PartitionTrees, root: Oid) -> &[Partition] {
    trees.trees.get(&root).map_or(&[], Vec::as_slice)
}

/// Whether a partition came into the table since, other than by being made as its partition. What is on another server
/// is never in the stream.
fn attached(before: &[Known], now: &Partition) -> bool {
    let foreign = now.storage == PartitionStorage::Foreign;
    (foreign || !now.made_as_partition) && !before.iter().any(|known| known.stayed(now))
}

/// The partitions with rows of their own that came into the table by an attachment: of themselves, or of a partitioned
/// table above them.
fn came_attached<'a>(before: &[Known], now: &'a [Partition]) -> Vec<&'a Partition> {
    let mut tables: BTreeSet<Oid> = BTreeSet::new();
    let mut leaves = Vec::new();
    // Parents come before children.
    for partition in now {
        if !attached(before, partition) && !tables.contains(&partition.parent) {
            continue;
        }
        if partition.storage == PartitionStorage::Partitions {
            tables.insert(partition.oid);
        } else {
            leaves.push(partition);
        }
    }
    leaves
}

fn oids(partitions: &[Partition]) -> BTreeSet<u32> {
    partitions
        .iter()
        .map(|partition| partition.oid.get())
        .collect()
}

/// Leaves that are not in the table any more.
fn gone<'a>(before: &'a [Known], now: &[Partition]) -> impl Iterator<Item = &'a Known> {
    let there = oids(now);
    before
        .iter()
        .filter(move |known| known.leaf && !there.contains(&known.oid))
}

fn questions(before: &[Known], now: &[Partition]) -> Questions {
    Questions {
        filled: came_attached(before, now)
            .iter()
            .map(|partition| partition.oid)
            .collect(),
        existing: gone(before, now).map(|known| Oid::new(known.oid)).collect(),
    }
}

/// Why rows are certainly missing or left over.
fn lost(before: &[Known], now: &[Partition], answers: &Answers, source: &str) -> Option<String> {
    let (detached, dropped): (Vec<&Known>, Vec<&Known>) =
        gone(before, now).partition(|known| answers.existing.contains(&Oid::new(known.oid)));
    let names = |known: &[&Known]| list(known.iter().map(|known| known.name.as_str()));
    if !detached.is_empty() {
        return Some(needs_resync(&format!(
            "{} detached: the rows left {source} without being deleted, so the lake still has them",
            names(&detached)
        )));
    }
    if !dropped.is_empty() {
        return Some(needs_resync(&format!(
            "{} dropped: the rows left {source} without being deleted, so the lake still has them; the new copy will not, while the changes from before stay in the history",
            names(&dropped)
        )));
    }
    let arrived = came_attached(before, now);
    let again: Vec<String> = arrived
        .iter()
        .filter(|partition| before.iter().any(|known| known.oid == partition.oid.get()))
        .map(|partition| name(partition))
        .collect();
    if !again.is_empty() {
        return Some(needs_resync(&format!(
            "{} detached and attached again: what happened to the rows meanwhile is missing",
            list(again.iter().map(String::as_str))
        )));
    }
    let filled: Vec<String> = arrived
        .iter()
        .filter(|partition| {
            partition.storage == PartitionStorage::Foreign
                || answers.filled.contains(&partition.oid)
        })
        .map(|partition| name(partition))
        .collect();
    (!filled.is_empty()).then(|| {
        needs_resync(&format!(
            "{} attached and may have held rows before, which came into {source} without being inserted",
            list(filled.iter().map(String::as_str))
        ))
    })
}

/// Leaves with a new file that no known truncation of the root explains: by whom, and why rows are left over if it was
/// not the root that was truncated.
fn doubt(
    before: &[Known],
    now: &[Partition],
    truncated_by: Option<u32>,
) -> Option<(BTreeSet<u32>, String)> {
    let mut transactions = BTreeSet::new();
    let mut names = Vec::new();
    for partition in now {
        let known = before.iter().find(|known| known.stayed(partition));
        let new_file = match known {
            Some(known) => partition.file != known.file,
            None => partition.new_file_since_attached(),
        };
        // The truncation of the root explains nothing about what was not its partition yet.
        let explains = known.is_some() || partition.attached_by != partition.altered_by;
        if new_file && !(explains && truncated_by == Some(partition.altered_by)) {
            transactions.insert(if explains {
                partition.altered_by
            } else {
                NOBODY
            });
            names.push(name(partition));
        }
    }
    (!names.is_empty()).then(|| {
        let reason = needs_resync(&format!(
            "{} truncated without the whole table, or rewritten (VACUUM FULL, CLUSTER, ALTER TABLE); afterwards the two look alike, and a truncation of partitions alone is not in the stream",
            list(names.iter().map(String::as_str))
        ));
        (transactions, reason)
    })
}

fn needs_resync(what: &str) -> String {
    format!("needs resync: {what}")
}

fn name(partition: &Partition) -> String {
    format!("{}.{}", partition.schema, partition.name)
}

/// `partition a was`, `partitions a, b and 3 more were`.
fn list<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let count = names.len();
    let shown: Vec<&str> = names.take(SHOWN).collect();
    let more = count.saturating_sub(SHOWN);
    let shown = shown.join(", ");
    match (count, more) {
        (1, _) => format!("partition {shown} was"),
        (_, 0) => format!("partitions {shown} were"),
        _ => format!("partitions {shown} and {more} more were"),
    }
}

#[cfg(test)]
mod tests;
