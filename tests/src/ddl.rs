//! Schema changes of a source: a script of every kind, random ones, a load that goes on beside them, and a
//! reader of the lake that stays attached and remembers every snapshot.
//!
//! - [`statements`] is the script as data, each statement with what it makes of the lake.
//! - [`random`] makes valid sequences of changes and rows from a seed.
//! - [`load`] writes to the tables meanwhile, whatever their columns are called.
//! - [`recorder`] reads each snapshot when it is made, and again at the end.

pub mod load;
pub mod random;
pub mod recorder;
pub mod statements;

use anyhow::{Result, ensure};

use crate::{
    duckdb::{DuckDb, literal},
    postgres::Postgres,
};

/// What a schema change makes of the lake, in schema `raw`, under the default policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The table has this column, of a type as DuckDB calls it.
    Column(&'static str, &'static str, &'static str),
    /// The table has no such column.
    NoColumn(&'static str, &'static str),
    /// The column has this comment; an empty one is none.
    ColumnComment(&'static str, &'static str, &'static str),
    /// The table has this comment; an empty one is none.
    TableComment(&'static str, &'static str),
    /// There is such a table.
    Table(&'static str),
    /// There is no such table any more.
    NoTable(&'static str),
    /// The table has this many columns whose name begins so: an old column is kept beside its successor.
    Kept(&'static str, &'static str, i64),
}

impl Expect {
    /// Whether it holds, as a reader who is attached sees it.
    ///
    /// # Errors
    /// What DuckDB says; a table that is not there is no error.
    pub fn holds(&self, db: &mut DuckDb) -> Result<bool> {
        let columns = "from duckdb_columns() where database_name = 'lake' and schema_name = 'raw'";
        let tables = "from duckdb_tables() where database_name = 'lake' and schema_name = 'raw'";
        let sql = match self {
            Self::Column(table, column, ty) => format!(
                "select count(*) {columns} and table_name = {} and column_name = {} and data_type = {}",
                literal(table),
                literal(column),
                literal(ty)
            ),
            Self::NoColumn(table, column) => format!(
                "select (count(*) = 0)::int {columns} and table_name = {} and column_name = {}",
                literal(table),
                literal(column)
            ),
            Self::ColumnComment(table, column, comment) => format!(
                "select count(*) {columns} and table_name = {} and column_name = {} \
                 and coalesce(comment, '') = {}",
                literal(table),
                literal(column),
                literal(comment)
            ),
            Self::TableComment(table, comment) => format!(
                "select count(*) {tables} and table_name = {} and coalesce(comment, '') = {}",
                literal(table),
                literal(comment)
            ),
            Self::Table(table) => {
                format!(
                    "select count(*) {tables} and table_name = {}",
                    literal(table)
                )
            }
            Self::NoTable(table) => format!(
                "select (count(*) = 0)::int {tables} and table_name = {}",
                literal(table)
            ),
            Self::Kept(table, prefix, count) => format!(
                "select (count(*) = {count})::int {columns} and table_name = {} \
                 and starts_with(column_name, {})",
                literal(table),
                literal(prefix)
            ),
        };
        Ok(db.int(&sql)? == 1)
    }
}

/// The tables of a source that a feeder of `public.*` and `other.*` feeds, as schema and name.
///
/// # Errors
/// What the server says.
pub fn source_tables(pg: &Postgres, database: &str) -> Result<Vec<(String, String)>> {
    // Partitions are fed under their root.
    let rows = pg.sql(
        database,
        "select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname in ('public', 'other') and c.relkind in ('r', 'p') and not c.relispartition \
         and c.relpersistence = 'p' order by 1, 2",
    )?;
    rows.into_iter()
        .map(|row| {
            let mut row = row.into_iter().flatten();
            let table = row.next().zip(row.next());
            ensure!(table.is_some(), "a table without a name");
            Ok(table.unwrap_or_default())
        })
        .collect()
}
