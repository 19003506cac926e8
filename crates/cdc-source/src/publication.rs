//! Publications: look at them, make them, and compare what is with what is wanted.

use std::fmt;
use std::str::FromStr;

use pgoutput::Oid;
use thiserror::Error;

use crate::connection::Connection;
use crate::error::{SourceError, SourceErrorKind};
use crate::sql::{qualified, quote_ident, quote_literal};

mod difference;

pub use difference::{PublicationDifference, changes, diff};

/// The first server version with column lists, row filters and schemas in publications.
const LISTS_SINCE: u32 = 15;
/// The first one that can publish stored generated columns.
pub const GENERATED_SINCE: u32 = 18;

/// The name of a publication: 1 to 63 bytes, no NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicationName(String);

/// A name that no publication can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{name}\" is no publication name: use 1 to 63 bytes without NUL")]
pub struct InvalidPublicationName {
    /// What was given.
    pub name: String,
}

impl PublicationName {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, InvalidPublicationName> {
        if (1..=63).contains(&name.len()) && !name.contains('\0') {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidPublicationName {
                name: name.to_owned(),
            })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PublicationName {
    type Err = InvalidPublicationName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl fmt::Display for PublicationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "publication \"{}\"", self.0)
    }
}

/// What a publication publishes of its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublishActions {
    /// Insert, update, delete, truncate.
    All,
    /// Insert and truncate: for tables without replica identity (correctness rule 12).
    InsertTruncate,
}

/// A table as we want it published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The columns to publish; all when `None`. Needs Postgres 15.
    pub columns: Option<Vec<String>>,
    /// An SQL condition on rows, taken as it is. Needs Postgres 15.
    pub row_filter: Option<String>,
}

/// A publication as we want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPublication {
    /// Its name.
    pub name: PublicationName,
    /// What it publishes.
    pub actions: PublishActions,
    /// Whether changes of partitions are published as changes of their root.
    pub via_root: bool,
    /// Whether the stored generated columns of tables without a column list are published. Needs
    /// Postgres 18.
    pub generated: bool,
    /// Its tables.
    pub tables: Vec<PublishedTable>,
}

/// A publication as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its name.
    pub name: PublicationName,
    /// `pg_publication.oid`; another one means that it was dropped and made again.
    pub oid: Oid,
    /// The role that owns it.
    pub owner: String,
    /// FOR ALL TABLES.
    pub all_tables: bool,
    /// Publishes inserts.
    pub insert: bool,
    /// Publishes updates.
    pub update: bool,
    /// Publishes deletes.
    pub delete: bool,
    /// Publishes truncates.
    pub truncate: bool,
    /// Publishes changes of partitions as changes of their root.
    pub via_root: bool,
    /// Publishes the stored generated columns of tables without a column list; never before
    /// Postgres 18. A column list says for itself.
    pub generated: bool,
    /// Its explicit tables, by schema and name.
    pub tables: Vec<PublicationTable>,
    /// The schemas of TABLES IN SCHEMA (Postgres 15), sorted.
    pub schemas: Vec<String>,
}

/// An explicit table of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicationTable {
    /// `pg_class.oid`.
    pub relid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_publication_rel.oid`; another one means that it was taken out and put in again.
    pub rel_oid: Oid,
    /// The column list, in attribute order; `None` for all columns.
    pub columns: Option<Vec<String>>,
    /// The row filter as the server renders it.
    pub row_filter: Option<String>,
}

/// Looks a publication up.
pub async fn inspect(
    connection: &mut Connection,
    name: &PublicationName,
) -> Result<Option<Publication>, SourceError> {
    let generated = if connection.server_version().major() >= GENERATED_SINCE {
        "p.pubgencols = 's'"
    } else {
        "false"
    };
    let sql = format!(
        "select p.oid, pg_catalog.pg_get_userbyid(p.pubowner) as owner, p.puballtables, \
         p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, \
         {generated} as generated \
         from pg_catalog.pg_publication p where p.pubname = {}",
        quote_literal(name.as_str())
    );
    let rows = connection
        .query(&sql)
        .await
        .map_err(|error| error.about(name))?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let oid: u32 = row.parse("oid")?;
    let tables = tables_of(connection, oid)
        .await
        .map_err(|error| error.about(name))?;
    let schemas = schemas_of(connection, oid)
        .await
        .map_err(|error| error.about(name))?;
    Ok(Some(Publication {
        name: name.clone(),
        oid: Oid::new(oid),
        owner: row.text("owner")?.to_owned(),
        all_tables: row.flag("puballtables")?,
        insert: row.flag("pubinsert")?,
        update: row.flag("pubupdate")?,
        delete: row.flag("pubdelete")?,
        truncate: row.flag("pubtruncate")?,
        via_root: row.flag("pubviaroot")?,
        generated: row.flag("generated")?,
        tables,
        schemas,
    }))
}

async fn tables_of(
    connection: &mut Connection,
    publication: u32,
) -> Result<Vec<PublicationTable>, SourceError> {
    let lists = if connection.server_version().major() >= LISTS_SINCE {
        ("pg_catalog.pg_get_expr(r.prqual, r.prrelid)", "r.prattrs")
    } else {
        ("null::pg_catalog.text", "null::pg_catalog.int2vector")
    };
    // One row per table and listed column, or one per table without a list.
    let sql = format!(
        "select r.oid as rel_oid, r.prrelid, n.nspname, c.relname, {} as filter, \
         {} is not null as listed, a.attname \
         from pg_catalog.pg_publication_rel r \
         join pg_catalog.pg_class c on c.oid = r.prrelid \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         left join pg_catalog.pg_attribute a \
         on a.attrelid = r.prrelid and a.attnum = any ({}::pg_catalog.int2[]) \
         where r.prpubid = {publication} order by n.nspname, c.relname, r.oid, a.attnum",
        lists.0, lists.1, lists.1
    );
    let mut tables: Vec<PublicationTable> = Vec::new();
    for row in connection.query(&sql).await? {
        let rel_oid = Oid::new(row.parse("rel_oid")?);
        let column = row.opt("attname")?.map(str::to_owned);
        if let Some(table) = tables.last_mut().filter(|table| table.rel_oid == rel_oid) {
            if let Some(columns) = &mut table.columns {
                columns.extend(column);
            }
            continue;
        }
        tables.push(PublicationTable {
            relid: Oid::new(row.parse("prrelid")?),
            schema: row.text("nspname")?.to_owned(),
            name: row.text("relname")?.to_owned(),
            rel_oid,
            columns: row.flag("listed")?.then(|| column.into_iter().collect()),
            row_filter: row.opt("filter")?.map(str::to_owned),
        });
    }
    Ok(tables)
}

async fn schemas_of(
    connection: &mut Connection,
    publication: u32,
) -> Result<Vec<String>, SourceError> {
    if connection.server_version().major() < LISTS_SINCE {
        return Ok(Vec::new());
    }
    let sql = format!(
        "select n.nspname from pg_catalog.pg_publication_namespace p \
         join pg_catalog.pg_namespace n on n.oid = p.pnnspid \
         where p.pnpubid = {publication} order by n.nspname"
    );
    let rows = connection.query(&sql).await?;
    rows.iter()
        .map(|row| row.text("nspname").map(str::to_owned))
        .collect()
}

/// Makes a publication: an explicit list of tables, never "all" (correctness rule 12). It may be
/// empty.
///
/// # Errors
/// [`SourceErrorKind::AlreadyExists`]; the role may not create it or does not own a table;
/// [`SourceErrorKind::Unsupported`] for column lists and row filters before Postgres 15 and for
/// generated columns before Postgres 18.
pub async fn create(
    connection: &mut Connection,
    wanted: &WantedPublication,
) -> Result<(), SourceError> {
    let sql = create_sql(connection, wanted)?;
    connection
        .execute(&sql)
        .await
        .map_err(|error| error.about(&wanted.name))
}

fn create_sql(connection: &Connection, wanted: &WantedPublication) -> Result<String, SourceError> {
    let tables = if wanted.tables.is_empty() {
        String::new()
    } else {
        format!(
            " for table {}",
            table_list(connection, &wanted.name, &wanted.tables)?
        )
    };
    let publish = match wanted.actions {
        PublishActions::All => "insert, update, delete, truncate",
        PublishActions::InsertTruncate => "insert, truncate",
    };
    // Only where it is wanted: older servers do not know the option.
    let generated = if wanted.generated {
        require_generated(connection, &wanted.name)?;
        ", publish_generated_columns = stored"
    } else {
        ""
    };
    Ok(format!(
        "create publication {}{tables} with (publish = '{publish}', \
         publish_via_partition_root = {}{generated})",
        quote_ident(wanted.name.as_str()),
        wanted.via_root
    ))
}

fn require_generated(connection: &Connection, name: &PublicationName) -> Result<(), SourceError> {
    let version = connection.server_version();
    if version.major() >= GENERATED_SINCE {
        return Ok(());
    }
    Err(SourceError::permanent(
        SourceErrorKind::Unsupported,
        format!(
            "generated columns are published since Postgres {GENERATED_SINCE}, this is {version}"
        ),
    )
    .about(name))
}

/// Publishes the stored generated columns of tables without a column list from now on. Nothing that
/// was published is published less.
///
/// # Errors
/// [`SourceErrorKind::Unsupported`] before Postgres 18; the role does not own the publication.
pub async fn publish_generated(
    connection: &mut Connection,
    name: &PublicationName,
) -> Result<(), SourceError> {
    require_generated(connection, name)?;
    let sql = format!(
        "alter publication {} set (publish_generated_columns = stored)",
        quote_ident(name.as_str())
    );
    connection
        .execute(&sql)
        .await
        .map_err(|error| error.about(name))
}

/// Adds tables.
///
/// # Errors
/// As [`create`]; a table is in it already; the role does not own the publication.
pub async fn add_tables(
    connection: &mut Connection,
    name: &PublicationName,
    tables: &[PublishedTable],
) -> Result<(), SourceError> {
    if tables.is_empty() {
        return Ok(());
    }
    let list = table_list(connection, name, tables)?;
    let sql = format!(
        "alter publication {} add table {list}",
        quote_ident(name.as_str())
    );
    connection
        .execute(&sql)
        .await
        .map_err(|error| error.about(name))
}

/// Takes tables out, given as (schema, name).
///
/// # Errors
/// A table is not in it; the role does not own the publication.
pub async fn drop_tables(
    connection: &mut Connection,
    name: &PublicationName,
    tables: &[(String, String)],
) -> Result<(), SourceError> {
    if tables.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = tables
        .iter()
        .map(|(schema, table)| format!("only {}", qualified(schema, table)))
        .collect();
    let sql = format!(
        "alter publication {} drop table {}",
        quote_ident(name.as_str()),
        list.join(", ")
    );
    connection
        .execute(&sql)
        .await
        .map_err(|error| error.about(name))
}

/// Drops a publication, if it exists.
///
/// # Errors
/// The role does not own it.
pub async fn drop(connection: &mut Connection, name: &PublicationName) -> Result<(), SourceError> {
    let sql = format!("drop publication if exists {}", quote_ident(name.as_str()));
    connection
        .execute(&sql)
        .await
        .map_err(|error| error.about(name))
}

/// The statement [`create`] would run, for a script a DBA runs instead.
///
/// # Errors
/// [`SourceErrorKind::Unsupported`] for column lists and row filters before Postgres 15 and for
/// generated columns before Postgres 18.
pub fn render_create(
    connection: &Connection,
    wanted: &WantedPublication,
) -> Result<String, SourceError> {
    create_sql(connection, wanted)
}

fn table_list(
    connection: &Connection,
    name: &PublicationName,
    tables: &[PublishedTable],
) -> Result<String, SourceError> {
    let lists = connection.server_version().major() >= LISTS_SINCE;
    let mut items = Vec::with_capacity(tables.len());
    for table in tables {
        if !lists && (table.columns.is_some() || table.row_filter.is_some()) {
            return Err(SourceError::permanent(
                SourceErrorKind::Unsupported,
                format!(
                    "table {}: excluded columns and row filters need Postgres 15, this is {}",
                    qualified(&table.schema, &table.name),
                    connection.server_version()
                ),
            )
            .about(name));
        }
        items.push(table_item(table));
    }
    Ok(items.join(", "))
}

/// ONLY, so that children of an inheritance parent do not come along uninvited; partitions are
/// published with their root all the same.
fn table_item(table: &PublishedTable) -> String {
    let columns = table.columns.as_ref().map_or_else(String::new, |columns| {
        let columns: Vec<_> = columns.iter().map(|column| quote_ident(column)).collect();
        format!(" ({})", columns.join(", "))
    });
    // The line break ends a comment at the end of the condition.
    let filter = table
        .row_filter
        .as_ref()
        .map_or_else(String::new, |filter| format!(" where ({filter}\n)"));
    format!(
        "only {}{columns}{filter}",
        qualified(&table.schema, &table.name)
    )
}
