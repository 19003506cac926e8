//! The tree below a partitioned table, as far as it tells whether rows entered or left the table without being in the
//! stream (correctness rule 22).
//!
//! Nothing of attaching, detaching and truncating a partition is published by its root, so it has to be read off the
//! catalogs afterwards:
//!
//! - `pg_inherits.xmin` is the transaction that attached a partition. The row is never updated, except by DETACH
//!   CONCURRENTLY, from which point on the partition is not published any more.
//! - A partition that was made as one (CREATE TABLE ... PARTITION OF) had no row before it belonged to the table. ATTACH
//!   updates the `pg_attribute` row of every column, so a column whose row is as old as those of the system columns,
//!   by transaction and by command, and that is inherited, was never attached. The same transaction alone proves nothing:
//!   it may have filled the table before it attached it. A partition whose columns all have a default, an identity or
//!   an expression shows no such column: they are stored in a second step.
//! - TRUNCATE gives a partition a new file. So do VACUUM FULL, CLUSTER and an ALTER TABLE that rewrites it. A table that
//!   never got a new file has the one it began with, whose number is its oid.
//! - TRUNCATE of the root does the same to each partition, and is published. Its transaction is then the last one that
//!   wrote the partition's `pg_class` row: vacuum and analyze write it in place.
//!
//! What this cannot see: a partition that is truncated in the very transaction that made it or already gave it a new
//! file, since that is done in place.

use std::collections::{BTreeMap, BTreeSet};

use pgoutput::{Lsn, Oid};

use crate::connection::Connection;
use crate::error::SourceError;
use crate::row::Row;
use crate::server::wal_position;
use crate::tables::oid_array;

/// Partitions at every level below some tables, as seen at one time.
#[derive(Debug, Clone)]
pub struct PartitionTrees {
    /// Everything that this shows was committed before this position.
    pub at: Lsn,
    /// By the root's oid, parents before children. Tables without partitions are left out.
    pub trees: BTreeMap<Oid, Vec<Partition>>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// `pg_class.oid`.
    pub oid: Oid,
    /// The table that it is a partition of.
    pub parent: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Where its rows are.
    pub storage: PartitionStorage,
    /// `pg_class.relfilenode`; 0 when it has no rows of its own.
    pub file: u32,
    /// The transaction that attached it, or made it as a partition: `pg_inherits.xmin`.
    pub attached_by: u32,
    /// The transaction that wrote its `pg_class` row last.
    pub altered_by: u32,
    /// It is proven that it was made as a partition and has been one ever since.
    pub made_as_partition: bool,
}

/// Where the rows of a partition are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionStorage {
    /// In partitions of its own.
    Partitions,
    /// In itself.
    Heap,
    /// On another server.
    Foreign,
}

impl Partition {
    /// Whether it got another file after it was attached: by TRUNCATE or by a rewrite.
    pub fn new_file_since_attached(&self) -> bool {
        self.storage == PartitionStorage::Heap
            && self.file != self.oid.get()
            && (self.made_as_partition || self.altered_by != self.attached_by)
    }
}

const TREES: &str = "with recursive tree (root, parent, oid, attached, depth) as ( \
    select i.inhparent, i.inhparent, i.inhrelid, i.xmin, 1 from pg_catalog.pg_inherits i \
    join pg_catalog.pg_class c on c.oid = i.inhparent and c.relkind = 'p' \
    where i.inhparent = any ({oids}) and not i.inhdetachpending \
    union all \
    select tree.root, i.inhparent, i.inhrelid, i.xmin, tree.depth + 1 from tree \
    join pg_catalog.pg_inherits i on i.inhparent = tree.oid where not i.inhdetachpending) \
    select tree.root, tree.parent, c.oid, n.nspname, c.relname, c.relkind, c.relfilenode, \
    tree.attached, c.xmin as altered, exists (select from pg_catalog.pg_attribute s \
        join pg_catalog.pg_attribute a on a.attrelid = s.attrelid \
        where s.attrelid = c.oid and s.attnum = -1 and s.xmin = tree.attached \
        and a.attnum > 0 and a.attinhcount > 0 and a.xmin = s.xmin and a.cmin = s.cmin) as made \
    from tree join pg_catalog.pg_class c on c.oid = tree.oid \
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    order by tree.root, tree.depth, c.oid";

/// Reads the trees below these tables. A partition whose DETACH CONCURRENTLY has begun is left out.
///
/// # Errors
/// As [`Connection::query`].
pub async fn read(
    connection: &mut Connection,
    roots: &[Oid],
) -> Result<PartitionTrees, SourceError> {
    let mut trees: BTreeMap<Oid, Vec<Partition>> = BTreeMap::new();
    let sql = TREES.replace("{oids}", &oid_array(roots));
    for row in connection.query(&sql).await? {
        let root = Oid::new(row.parse("root")?);
        trees.entry(root).or_default().push(partition(&row)?);
    }
    Ok(PartitionTrees {
        at: wal_position(connection).await?,
        trees,
    })
}

/// Which of these relations hold anything, a row that was deleted included. One that is gone counts.
///
/// # Errors
/// As [`Connection::query`]; kind [`Conflict`](crate::SourceErrorKind::Conflict) when somebody holds one of them locked.
pub async fn filled(
    connection: &mut Connection,
    relations: &[Oid],
) -> Result<BTreeSet<Oid>, SourceError> {
    let sql = format!(
        "select oid from pg_catalog.unnest({}) as r (oid) \
         where coalesce(pg_catalog.pg_relation_size(oid::pg_catalog.regclass), 1) > 0",
        oid_array(relations)
    );
    // The size is read under a lock, and nobody is to hang on somebody's VACUUM FULL.
    connection.execute("set lock_timeout = '5s'").await?;
    let rows = connection.query(&sql).await;
    connection.execute("set lock_timeout = 0").await?;
    oids(&rows?)
}

/// Which of these relations exist.
///
/// # Errors
/// As [`Connection::query`].
pub async fn existing(
    connection: &mut Connection,
    relations: &[Oid],
) -> Result<BTreeSet<Oid>, SourceError> {
    let sql = format!(
        "select oid from pg_catalog.pg_class where oid = any ({})",
        oid_array(relations)
    );
    oids(&connection.query(&sql).await?)
}

fn oids(rows: &[Row]) -> Result<BTreeSet<Oid>, SourceError> {
    rows.iter()
        .map(|row| Ok(Oid::new(row.parse("oid")?)))
        .collect()
}

fn partition(row: &Row) -> Result<Partition, SourceError> {
    Ok(Partition {
        oid: Oid::new(row.parse("oid")?),
        parent: Oid::new(row.parse("parent")?),
        schema: row.text("nspname")?.to_owned(),
        name: row.text("relname")?.to_owned(),
        storage: match row.text("relkind")? {
            "p" => PartitionStorage::Partitions,
            "f" => PartitionStorage::Foreign,
            _ => PartitionStorage::Heap,
        },
        file: row.parse("relfilenode")?,
        attached_by: row.parse("attached")?,
        altered_by: row.parse("altered")?,
        made_as_partition: row.flag("made")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_of_later_than_the_attachment_counts() {
        let partition = |file, attached_by, altered_by, made_as_partition| Partition {
            oid: Oid::new(100),
            parent: Oid::new(1),
            schema: "public".to_owned(),
            name: "p".to_owned(),
            storage: PartitionStorage::Heap,
            file,
            attached_by,
            altered_by,
            made_as_partition,
        };
        for made in [true, false] {
            assert!(!partition(100, 7, 7, made).new_file_since_attached());
            assert!(!partition(100, 7, 8, made).new_file_since_attached());
            assert!(partition(200, 7, 8, made).new_file_since_attached());
        }
        // It may have been truncated before it was attached, not before it was made.
        assert!(!partition(200, 7, 7, false).new_file_since_attached());
        assert!(partition(200, 7, 7, true).new_file_since_attached());
    }
}
