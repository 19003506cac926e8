//! What tables there are and what they look like, in a fixed number of queries for any number of
//! tables. Everything is read by SQL: inside a transaction it is what that transaction's snapshot
//! shows (see [`crate::shape`] for the difference that makes).

use std::collections::BTreeMap;

use pgoutput::{Oid, ReplicaIdentity};

use crate::connection::Connection;
use crate::error::SourceError;
use crate::row::Row;

mod types;

pub use types::{NamedType, TypeInfo, TypePart, named_type, type_closure};

/// The identity of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableId {
    /// `pg_class.oid`.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What kind of relation it is.
    pub kind: TableKind,
    /// Whether its changes are in the WAL.
    pub persistence: Persistence,
}

/// `pg_class.relkind`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableKind {
    /// An ordinary table.
    Ordinary,
    /// A partitioned table; its rows are in its leaves.
    Partitioned,
    /// A foreign table; it cannot be published.
    Foreign,
    /// A view, an index, or anything else that cannot be published.
    Other,
}

/// `pg_class.relpersistence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Persistence {
    /// An ordinary, logged relation.
    Permanent,
    /// Unlogged: it cannot be published.
    Unlogged,
    /// Temporary: it cannot be published.
    Temporary,
}

/// What a table looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Who it is.
    pub id: TableId,
    /// The replica identity. For a partitioned table that of its leaves counts, see
    /// [`LeafInfo::replica_identity`].
    pub replica_identity: ReplicaIdentity,
    /// `pg_class.relfilenode`; 0 for a partitioned table.
    pub relfilenode: u32,
    /// `pg_class.relnatts`: how many columns it has had so far, dropped ones included.
    pub columns_ever: i16,
    /// Pages as of the last vacuum or analyze, leaves included. An estimate: 0 when it never ran.
    pub pages: u64,
    /// Rows as of the last vacuum or analyze, leaves included; `None` when it never ran.
    pub rows: Option<u64>,
    /// The primary key.
    pub primary_key: Option<KeyInfo>,
    /// The index of REPLICA IDENTITY USING INDEX.
    pub identity_index: Option<KeyInfo>,
    /// The columns, dropped ones left out, in attribute order.
    pub columns: Vec<ColumnInfo>,
    /// Row-level security is on.
    pub row_security: bool,
    /// Row-level security applies to the owner too.
    pub row_security_forced: bool,
    /// Row-level security would apply to our queries: a COPY with `row_security = off` fails.
    pub row_security_applies: bool,
    /// The role may use the schema.
    pub schema_usage: bool,
    /// The role may read all columns.
    pub select_privilege: bool,
    /// Updates since the statistics were reset, leaves included.
    pub updates: u64,
    /// Deletes since the statistics were reset, leaves included.
    pub deletes: u64,
    /// Other tables inherit from it, by INHERITS, not as partitions.
    pub is_inheritance_parent: bool,
    /// What `COMMENT ON TABLE` set.
    pub comment: Option<String>,
    /// The partitions that hold the rows of a partitioned table, in oid order; empty otherwise.
    pub leaves: Vec<LeafInfo>,
}

/// A key or a unique index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its columns, in index order.
    pub columns: Vec<String>,
    /// A deferrable key is no replica identity, and no key for a view of the current state
    /// (correctness rules 10 and 12).
    pub deferrable: bool,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    /// `pg_attribute.attnum`, from 1.
    pub attnum: i16,
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: Oid,
    /// The type as SQL writes it, such as `numeric(10,2)`; qualified outside `pg_catalog`.
    pub type_name: String,
    /// `atttypmod`; -1 for none.
    pub type_modifier: i32,
    /// Declared dimensions of an array.
    pub dimensions: i16,
    /// NOT NULL.
    pub not_null: bool,
    /// It has a default, or is generated.
    pub has_default: bool,
    /// What rows have that were written before the column was added and were not rewritten since
    /// (`pg_attribute.attmissingval`), as its type's output function prints it; `None` for NULL.
    pub missing_value: Option<String>,
    /// The transaction that altered its row in the catalog last (`pg_attribute.xmin`): a change of its type does, a
    /// `VACUUM FULL` does not, unless it takes away a missing value. `None` where nobody knows.
    pub altered_by: Option<u32>,
    /// What `COMMENT ON COLUMN` set.
    pub comment: Option<String>,
    /// Whether and how it is generated.
    pub generated: Generated,
    /// The role may read it.
    pub select_privilege: bool,
}

/// `pg_attribute.attgenerated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generated {
    /// An ordinary column.
    No,
    /// Computed when written. The stream leaves it out, unless a publication of Postgres 18 says
    /// otherwise; COPY has it.
    Stored,
    /// Computed when read (Postgres 18). Never in the stream.
    Virtual,
}

/// A partition that holds rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafInfo {
    /// Who it is. A foreign table has no pages and cannot be copied in ctid ranges.
    pub id: TableId,
    /// `pg_class.relfilenode`.
    pub relfilenode: u32,
    /// Pages as of the last vacuum or analyze.
    pub pages: u64,
    /// Rows as of the last vacuum or analyze.
    pub rows: Option<u64>,
    /// The identity its updates and deletes carry, also when published via the root.
    pub replica_identity: ReplicaIdentity,
}

/// Lists ordinary and partitioned tables outside the system's schemas, by schema and name.
/// Partitions are left out, since they come with their root, and so are temporary tables; unlogged
/// ones are listed with their [`Persistence`].
pub async fn list_tables(connection: &mut Connection) -> Result<Vec<TableId>, SourceError> {
    let rows = connection
        .query(
            "select c.oid, n.nspname, c.relname, c.relkind, c.relpersistence \
             from pg_catalog.pg_class c \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't' \
             and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' \
             order by n.nspname, c.relname",
        )
        .await?;
    rows.iter().map(table_id).collect()
}

/// Describes tables as they are at one moment, in the order of their oids. Oids without a relation are left out.
pub async fn describe(
    connection: &mut Connection,
    oids: &[Oid],
) -> Result<Vec<TableInfo>, SourceError> {
    if oids.is_empty() {
        return Ok(Vec::new());
    }
    if connection.in_transaction() {
        return describe_in_transaction(connection, oids).await;
    }
    // A table that is dropped between two of the queries would seem to have no key.
    connection
        .execute("begin isolation level repeatable read read only")
        .await?;
    let described = describe_in_transaction(connection, oids).await;
    if connection.in_transaction() {
        connection.execute("rollback").await?;
    }
    described
}

async fn describe_in_transaction(
    connection: &mut Connection,
    oids: &[Oid],
) -> Result<Vec<TableInfo>, SourceError> {
    let oids = oid_array(oids);
    let mut tables = BTreeMap::new();
    for row in connection
        .query(&RELATIONS.replace("{oids}", &oids))
        .await?
    {
        if is_dropped(&row)? {
            continue;
        }
        let table = table_info(&row)?;
        tables.insert(table.id.oid, table);
    }
    for row in connection.query(&LEAVES.replace("{oids}", &oids)).await? {
        if let Some(table) = tables.get_mut(&Oid::new(row.parse("root")?)) {
            add_leaf(table, &row)?;
        }
    }
    for row in connection.query(&COLUMNS.replace("{oids}", &oids)).await? {
        let oid = Oid::new(row.parse("attrelid")?);
        if is_dropped(&row)? {
            tables.remove(&oid);
        } else if let Some(table) = tables.get_mut(&oid) {
            table.columns.push(column(&row)?);
        }
    }
    for row in connection.query(&KEYS.replace("{oids}", &oids)).await? {
        if let Some(table) = tables.get_mut(&Oid::new(row.parse("indrelid")?)) {
            add_key_column(table, &row)?;
        }
    }
    Ok(tables.into_values().collect())
}

/// Whether the table was dropped after the snapshot: the functions that tell privileges look at the present, and return
/// NULL then.
fn is_dropped(row: &Row) -> Result<bool, SourceError> {
    Ok(row.opt("has_select")?.is_none())
}

/// `'{1,2}'::oid[]`.
pub(crate) fn oid_array(oids: &[Oid]) -> String {
    let list: Vec<_> = oids.iter().map(|oid| oid.get().to_string()).collect();
    format!("'{{{}}}'::pg_catalog.oid[]", list.join(","))
}

const RELATIONS: &str = "select c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, \
    c.relreplident, c.relfilenode, c.relnatts, c.relpages, c.reltuples::pg_catalog.int8 as reltuples, \
    c.relrowsecurity, c.relforcerowsecurity, pg_catalog.row_security_active(c.oid) as rls_active, \
    pg_catalog.has_schema_privilege(n.oid, 'usage') as schema_usage, \
    pg_catalog.has_table_privilege(c.oid, 'select') as has_select, \
    coalesce(pg_catalog.pg_stat_get_tuples_updated(c.oid), 0) as updates, \
    coalesce(pg_catalog.pg_stat_get_tuples_deleted(c.oid), 0) as deletes, \
    c.relkind <> 'p' and exists (select from pg_catalog.pg_inherits i where i.inhparent = c.oid) \
    as is_parent, pg_catalog.obj_description(c.oid, 'pg_class') as comment \
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.oid = any ({oids})";

/// Also used for [`crate::shape`]. A partition whose DETACH CONCURRENTLY has begun is not published through its root
/// any more; the column is new in Postgres 14, and an older server is to be told so, not to fail here.
pub(crate) const LEAVES: &str = "with recursive tree (root, oid) as ( \
    select c.oid, c.oid from pg_catalog.pg_class c where c.oid = any ({oids}) and c.relkind = 'p' \
    union all \
    select tree.root, i.inhrelid from tree \
    join pg_catalog.pg_inherits i on i.inhparent = tree.oid \
    and (pg_catalog.to_jsonb(i) ->> 'inhdetachpending') is distinct from 'true') \
    select tree.root, c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident, \
    c.relfilenode, c.relpages, c.reltuples::pg_catalog.int8 as reltuples, \
    coalesce(pg_catalog.pg_stat_get_tuples_updated(c.oid), 0) as updates, \
    coalesce(pg_catalog.pg_stat_get_tuples_deleted(c.oid), 0) as deletes \
    from tree join pg_catalog.pg_class c on c.oid = tree.oid \
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.relkind <> 'p' order by tree.root, c.oid";

const COLUMNS: &str = "select a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, \
    a.attndims, pg_catalog.format_type(a.atttypid, a.atttypmod) as type_name, a.attnotnull, \
    a.attgenerated, a.atthasdef, a.xmin as altered_by, case when a.atthasmissing \
    then (a.attmissingval::pg_catalog.text::pg_catalog.text[])[1] end as missing_value, \
    pg_catalog.col_description(a.attrelid, a.attnum) as comment, \
    pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'select') as has_select \
    from pg_catalog.pg_attribute a \
    where a.attrelid = any ({oids}) and a.attnum > 0 and not a.attisdropped \
    order by a.attrelid, a.attnum";

const KEYS: &str = "select i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate, \
    a.attname \
    from pg_catalog.pg_index i \
    cross join lateral pg_catalog.unnest(i.indkey::pg_catalog.int2[]) with ordinality \
    as k (attnum, place) \
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum \
    where i.indrelid = any ({oids}) and (i.indisprimary or i.indisreplident) \
    and k.place <= i.indnkeyatts order by i.indrelid, i.indexrelid, k.place";

fn table_id(row: &Row) -> Result<TableId, SourceError> {
    Ok(TableId {
        oid: Oid::new(row.parse("oid")?),
        schema: row.text("nspname")?.to_owned(),
        name: row.text("relname")?.to_owned(),
        kind: match row.text("relkind")? {
            "r" => TableKind::Ordinary,
            "p" => TableKind::Partitioned,
            "f" => TableKind::Foreign,
            _ => TableKind::Other,
        },
        persistence: match row.text("relpersistence")? {
            "u" => Persistence::Unlogged,
            "t" => Persistence::Temporary,
            _ => Persistence::Permanent,
        },
    })
}

fn table_info(row: &Row) -> Result<TableInfo, SourceError> {
    Ok(TableInfo {
        id: table_id(row)?,
        replica_identity: replica_identity(row)?,
        relfilenode: row.parse("relfilenode")?,
        columns_ever: row.parse("relnatts")?,
        pages: pages(row)?,
        rows: estimated_rows(row)?,
        primary_key: None,
        identity_index: None,
        columns: Vec::new(),
        row_security: row.flag("relrowsecurity")?,
        row_security_forced: row.flag("relforcerowsecurity")?,
        row_security_applies: row.flag("rls_active")?,
        schema_usage: row.flag("schema_usage")?,
        select_privilege: row.flag("has_select")?,
        updates: row.parse("updates")?,
        deletes: row.parse("deletes")?,
        is_inheritance_parent: row.flag("is_parent")?,
        comment: row.parse_opt("comment")?,
        leaves: Vec::new(),
    })
}

fn add_leaf(table: &mut TableInfo, row: &Row) -> Result<(), SourceError> {
    let leaf = LeafInfo {
        id: table_id(row)?,
        relfilenode: row.parse("relfilenode")?,
        pages: pages(row)?,
        rows: estimated_rows(row)?,
        replica_identity: replica_identity(row)?,
    };
    // The root itself has none of its own; analyze may have given it an estimate of the whole.
    if table.leaves.is_empty() {
        table.pages = 0;
        table.rows = Some(0);
    }
    table.pages = table.pages.saturating_add(leaf.pages);
    table.rows = table
        .rows
        .zip(leaf.rows)
        .map(|(sum, rows)| sum.saturating_add(rows));
    table.updates = table.updates.saturating_add(row.parse("updates")?);
    table.deletes = table.deletes.saturating_add(row.parse("deletes")?);
    table.leaves.push(leaf);
    Ok(())
}

fn column(row: &Row) -> Result<ColumnInfo, SourceError> {
    Ok(ColumnInfo {
        attnum: row.parse("attnum")?,
        name: row.text("attname")?.to_owned(),
        type_oid: Oid::new(row.parse("atttypid")?),
        type_name: row.text("type_name")?.to_owned(),
        type_modifier: row.parse("atttypmod")?,
        dimensions: row.parse("attndims")?,
        not_null: row.flag("attnotnull")?,
        has_default: row.flag("atthasdef")?,
        missing_value: row.parse_opt("missing_value")?,
        altered_by: Some(row.parse("altered_by")?),
        comment: row.parse_opt("comment")?,
        generated: match row.text("attgenerated")? {
            "s" => Generated::Stored,
            "v" => Generated::Virtual,
            _ => Generated::No,
        },
        select_privilege: row.flag("has_select")?,
    })
}

fn add_key_column(table: &mut TableInfo, row: &Row) -> Result<(), SourceError> {
    let deferrable = !row.flag("indimmediate")?;
    let column = row.text("attname")?;
    let add = |key: &mut Option<KeyInfo>| {
        key.get_or_insert_with(|| KeyInfo {
            columns: Vec::new(),
            deferrable,
        })
        .columns
        .push(column.to_owned());
    };
    if row.flag("indisprimary")? {
        add(&mut table.primary_key);
    }
    if row.flag("indisreplident")? {
        add(&mut table.identity_index);
    }
    Ok(())
}

fn replica_identity(row: &Row) -> Result<ReplicaIdentity, SourceError> {
    match row.text("relreplident")? {
        "d" => Ok(ReplicaIdentity::Default),
        "n" => Ok(ReplicaIdentity::Nothing),
        "f" => Ok(ReplicaIdentity::Full),
        "i" => Ok(ReplicaIdentity::Index),
        _ => Err(SourceError::protocol("unknown replica identity")),
    }
}

/// Some servers report -1 pages for a relation that was never looked at.
fn pages(row: &Row) -> Result<u64, SourceError> {
    Ok(u64::try_from(row.parse::<i64>("relpages")?).unwrap_or(0))
}

fn estimated_rows(row: &Row) -> Result<Option<u64>, SourceError> {
    Ok(u64::try_from(row.parse::<i64>("reltuples")?).ok())
}
