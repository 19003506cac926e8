//! The shape of a table: what must not change between a slot's snapshot and the COPY under it.
//!
//! COPY resolves names and columns as they are *now*, but reads rows as of the snapshot. DDL or
//! TRUNCATE in between therefore yields a newer shape, or no rows at all, and the stream does not
//! make up for it (correctness rule 2). So a copy session locks the table, and then the shape its
//! snapshot shows is compared with the shape a fresh session sees. From the lock on neither can
//! change any more.

use std::collections::BTreeMap;
use std::fmt;

use pgoutput::Oid;

use crate::connection::Connection;
use crate::error::SourceError;
use crate::tables::{LEAVES, oid_array};

/// The comparable shape of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// `pg_class.oid`.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The relations that hold its rows, in oid order: itself, or its leaf partitions.
    pub leaves: Vec<LeafShape>,
    /// Its columns, dropped ones left out, in attribute order.
    pub columns: Vec<ColumnShape>,
}

/// A relation that holds rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafShape {
    /// `pg_class.oid`.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_class.relfilenode`: changed by a rewrite and by TRUNCATE.
    pub relfilenode: u32,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnShape {
    /// `pg_attribute.attnum`.
    pub attnum: i16,
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: Oid,
    /// Its type modifier.
    pub type_modifier: i32,
    /// Whether and how it is generated: `pg_attribute.attgenerated`.
    pub generated: String,
}

/// What differs between two shapes of a table, for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeDifference {
    /// The name.
    Name,
    /// The set of leaf partitions.
    Partitions,
    /// The file of a relation: it was rewritten or truncated.
    Rewritten,
    /// The columns.
    Columns,
}

impl fmt::Display for ShapeDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "it was renamed",
            Self::Partitions => "its partitions changed",
            Self::Rewritten => "it was rewritten or truncated",
            Self::Columns => "its columns changed",
        })
    }
}

impl TableShape {
    /// What differs, or `None` when the shapes are equal.
    pub fn difference(&self, other: &Self) -> Option<ShapeDifference> {
        if (self.oid, &self.schema, &self.name) != (other.oid, &other.schema, &other.name) {
            return Some(ShapeDifference::Name);
        }
        let names = |shape: &Self| {
            shape
                .leaves
                .iter()
                .map(|leaf| (leaf.oid, leaf.schema.clone(), leaf.name.clone()))
                .collect::<Vec<_>>()
        };
        if names(self) != names(other) {
            return Some(ShapeDifference::Partitions);
        }
        if self.leaves != other.leaves {
            return Some(ShapeDifference::Rewritten);
        }
        (self.columns != other.columns).then_some(ShapeDifference::Columns)
    }
}

/// Reads shapes by SQL, by oid: as of the snapshot in a copy session, as they are now in a session
/// without a transaction. Tables that do not exist are left out.
pub async fn read(
    connection: &mut Connection,
    oids: &[Oid],
) -> Result<BTreeMap<Oid, TableShape>, SourceError> {
    let mut shapes = BTreeMap::new();
    if oids.is_empty() {
        return Ok(shapes);
    }
    let oids = oid_array(oids);
    let sql = format!(
        "select c.oid, n.nspname, c.relname, c.relkind, c.relfilenode \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where c.oid = any ({oids})"
    );
    for row in connection.query(&sql).await? {
        let oid = Oid::new(row.parse("oid")?);
        let schema = row.text("nspname")?.to_owned();
        let name = row.text("relname")?.to_owned();
        let mut leaves = Vec::new();
        if row.text("relkind")? != "p" {
            leaves.push(LeafShape {
                oid,
                schema: schema.clone(),
                name: name.clone(),
                relfilenode: row.parse("relfilenode")?,
            });
        }
        shapes.insert(
            oid,
            TableShape {
                oid,
                schema,
                name,
                leaves,
                columns: Vec::new(),
            },
        );
    }
    for row in connection.query(&LEAVES.replace("{oids}", &oids)).await? {
        if let Some(shape) = shapes.get_mut(&Oid::new(row.parse("root")?)) {
            shape.leaves.push(LeafShape {
                oid: Oid::new(row.parse("oid")?),
                schema: row.text("nspname")?.to_owned(),
                name: row.text("relname")?.to_owned(),
                relfilenode: row.parse("relfilenode")?,
            });
        }
    }
    let sql = format!(
        "select a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated \
         from pg_catalog.pg_attribute a \
         where a.attrelid = any ({oids}) and a.attnum > 0 and not a.attisdropped \
         order by a.attrelid, a.attnum"
    );
    for row in connection.query(&sql).await? {
        if let Some(shape) = shapes.get_mut(&Oid::new(row.parse("attrelid")?)) {
            shape.columns.push(ColumnShape {
                attnum: row.parse("attnum")?,
                name: row.text("attname")?.to_owned(),
                type_oid: Oid::new(row.parse("atttypid")?),
                type_modifier: row.parse("atttypmod")?,
                generated: row.text("attgenerated")?.to_owned(),
            });
        }
    }
    Ok(shapes)
}

/// The live file of a relation, whatever snapshot the session has; `None` when it has none or does
/// not exist.
pub async fn relation_filenode(
    connection: &mut Connection,
    oid: Oid,
) -> Result<Option<u32>, SourceError> {
    connection
        .query_one(&format!(
            "select pg_catalog.pg_relation_filenode({oid}) as filenode"
        ))
        .await?
        .parse_opt("filenode")
}
