//! The type matrix: every type of `docs/types.md`, what it becomes in the lake, and values to try it with.
//!
//! One file per family, in the order of the page. Postgres is the oracle: it makes the random values, prints the
//! expected texts and decides which values the lake's type does not have. None of the feeder's code takes part.

mod array;
mod cells;
mod composite;
mod docs;
mod lake_types;
mod network;
mod number;
mod other;
mod readers;
mod shape;
mod statistics;
mod temporal;
mod text;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::postgres::{SUPERUSER, connect, query};

pub use cells::{Cells, Counts, PARTS, report};
pub use docs::{check_documentation, documented};
pub use lake_types::lake_types;
pub use readers::other_readers;
pub use shape::Shape;
pub use statistics::check_statistics;

/// What an entry needs beside a new enough server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// An extension that may not be on the machine.
    Extension(&'static str),
    /// A server that was built with libxml.
    Xml,
}

/// One column of the matrix.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name in `docs/types.md`; several columns may stand for one name.
    pub docs: &'static str,
    /// The column's type, as SQL.
    pub sql: String,
    /// What it becomes.
    pub shape: Shape,
    /// Whether the documentation says that its binary form is decoded.
    pub binary: bool,
    /// The first major version that has the type.
    pub since: u32,
    /// What it needs beside that.
    pub needs: Needs,
    /// Edge values, as SQL expressions.
    pub edges: Vec<String>,
    /// Edge values of newer versions only.
    pub newer: Vec<(u32, String)>,
    /// An expression over `i` that makes a random value.
    pub random: Option<String>,
    /// The type whose lake type it shares: the base of a domain.
    pub like: Option<&'static str>,
    /// Whether it is an exception that the notes of the documentation tell of.
    pub noted: bool,
}

impl Entry {
    /// A column of type `sql`, documented as `docs`.
    fn new(docs: &'static str, sql: &str, shape: Shape) -> Self {
        Self {
            docs,
            sql: sql.to_owned(),
            shape,
            binary: true,
            since: 14,
            needs: Needs::Nothing,
            edges: Vec::new(),
            newer: Vec::new(),
            random: None,
            like: None,
            noted: false,
        }
    }

    /// A column whose type is documented under its own name.
    fn own(sql: &'static str, shape: Shape) -> Self {
        Self::new(sql, sql, shape)
    }

    fn edges(mut self, edges: &[&str]) -> Self {
        self.edges.extend(edges.iter().map(|&edge| edge.to_owned()));
        self
    }

    fn newer(mut self, since: u32, edges: &[&str]) -> Self {
        self.newer
            .extend(edges.iter().map(|&edge| (since, edge.to_owned())));
        self
    }

    fn random(mut self, expression: &str) -> Self {
        self.random = Some(expression.to_owned());
        self
    }

    /// Its binary form is not decoded.
    fn text_only(mut self) -> Self {
        self.binary = false;
        self
    }

    fn since(mut self, major: u32) -> Self {
        self.since = major;
        self
    }

    fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }

    fn like(mut self, sql: &'static str) -> Self {
        self.like = Some(sql);
        self
    }

    fn noted(mut self) -> Self {
        self.noted = true;
        self
    }

    /// The column's name, made of its type.
    pub fn column(&self) -> String {
        self.sql
            .replace("[]", "_array")
            .replace(", ", "_")
            .replace(
                |character: char| !character.is_ascii_alphanumeric() && character != '_',
                "_",
            )
            .trim_matches('_')
            .to_owned()
    }

    /// The edge values that a server of this version has.
    fn edges_for(&self, major: u32) -> Vec<&str> {
        let newer = self
            .newer
            .iter()
            .filter(|(since, _)| *since <= major)
            .map(|(_, edge)| edge);
        self.edges.iter().chain(newer).map(String::as_str).collect()
    }
}

/// An expression for a random array of up to five elements, some of them NULL.
fn array_of(element: &str, sql_type: &str) -> String {
    // `i` in the subquery makes it run anew for every row.
    format!(
        "array(select case when random() >= 0.15 then {element} end \
         from generate_series(1, (gen.int(0, 5) + 0 * i)::int))::{sql_type}"
    )
}

/// The whole matrix, in the order of the documentation.
pub fn matrix() -> Vec<Entry> {
    [
        number::entries(),
        text::entries(),
        temporal::entries(),
        composite::entries(),
        array::entries(),
        network::entries(),
        other::entries(),
    ]
    .concat()
}

/// Types of users and the functions that make random values, for the source's database.
const SETUP: &str = include_str!("type_matrix/setup.sql");

/// Which columns a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Only those whose binary form is decoded, so that the stream is binary.
    Binary,
    /// All, so that it is text.
    Text,
}

/// A source database with the matrix's values in `stash.values`, and the table `public.types` that is fed.
#[derive(Debug)]
pub struct Source {
    url: String,
    /// The matrix's columns that this server has.
    pub entries: Vec<Entry>,
    /// How many rows `stash.values` has, numbered from 1.
    pub rows: u32,
    /// How many of these hold edge values; the rest is random.
    pub edge_rows: u32,
}

impl Source {
    /// Makes and fills the tables: a row per edge value, then `random` rows made from `seed`.
    ///
    /// # Errors
    /// When the server refuses a value.
    pub fn prepare(
        pg: &crate::Postgres,
        database: &str,
        session: Session,
        random: u32,
        seed: u64,
    ) -> Result<Self> {
        let url = pg.url(SUPERUSER, database);
        let mut client = connect(&url)?;
        query(&mut client, SETUP)?;
        let major = pg.major();
        let mut entries = Vec::new();
        for entry in matrix() {
            let wanted = entry.since <= major && (session == Session::Text || entry.binary);
            if wanted && has(&mut client, entry.needs)? {
                entries.push(entry);
            }
        }
        let names: BTreeSet<String> = entries.iter().map(Entry::column).collect();
        ensure!(names.len() == entries.len(), "two columns of one name");
        let columns: Vec<String> = entries
            .iter()
            .map(|entry| format!("{} {}", crate::duckdb::ident(&entry.column()), entry.sql))
            .collect();
        let columns = columns.join(", ");
        query(
            &mut client,
            &format!(
                "create table stash.values (\"row\" int primary key, {columns}); \
                 create table public.types (id int generated always as identity primary key, \
                   part text not null, \"row\" int not null, {columns})"
            ),
        )?;
        // One row more than the longest list of edges, so that every column has a NULL.
        let edge_rows = 1 + entries
            .iter()
            .map(|entry| entry.edges_for(major).len())
            .max()
            .unwrap_or_default();
        for row in 0..edge_rows {
            let values: Vec<&str> = entries
                .iter()
                .map(|entry| entry.edges_for(major).get(row).copied().unwrap_or("null"))
                .collect();
            query(
                &mut client,
                &format!(
                    "insert into stash.values values ({}, {})",
                    row + 1,
                    values.join(", ")
                ),
            )?;
        }
        let edge_rows = u32::try_from(edge_rows)?;
        let rows = edge_rows + random;
        let random: Vec<String> = entries
            .iter()
            .map(|entry| match &entry.random {
                Some(expression) => {
                    format!("case when random() >= 0.05 then {expression} end")
                }
                None => format!("null::{}", entry.sql),
            })
            .collect();
        query(
            &mut client,
            &format!(
                "select setseed({} / 1000003.0); \
                 insert into stash.values select i, {} from generate_series({}, {rows}) i",
                seed % 1_000_003,
                random.join(", "),
                edge_rows + 1,
            ),
        )?;
        Ok(Self {
            url,
            entries,
            rows,
            edge_rows,
        })
    }

    /// Runs SQL with the settings that the values are printed under.
    ///
    /// # Errors
    /// What the server says.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let mut client = connect(&self.url)?;
        for (name, value) in PINNED {
            query(&mut client, &format!("set {name} = {value}"))?;
        }
        query(&mut client, sql)
    }

    /// Copies rows of the matrix into the fed table.
    ///
    /// # Errors
    /// What the server says.
    pub fn insert(&self, part: &str, first: u32, last: u32) -> Result<()> {
        let columns = self.columns();
        self.query(&format!(
            "insert into public.types (part, \"row\", {columns}) select '{part}', \"row\", {columns} \
             from stash.values where \"row\" between {first} and {last} order by \"row\""
        ))?;
        Ok(())
    }

    /// Makes rows of NULLs that [`Source::update`] fills.
    ///
    /// # Errors
    /// What the server says.
    pub fn insert_empty(&self, part: &str) -> Result<()> {
        self.query(&format!(
            "insert into public.types (part, \"row\") select '{part}', \"row\" from stash.values order by \"row\""
        ))?;
        Ok(())
    }

    /// Updates a part's rows to the values of the matrix.
    ///
    /// # Errors
    /// What the server says.
    pub fn update(&self, part: &str) -> Result<()> {
        let columns: Vec<String> = self
            .entries
            .iter()
            .map(|entry| {
                let column = crate::duckdb::ident(&entry.column());
                format!("{column} = v.{column}")
            })
            .collect();
        self.query(&format!(
            "update public.types t set {} from stash.values v where t.part = '{part}' and v.\"row\" = t.\"row\"",
            columns.join(", ")
        ))?;
        Ok(())
    }

    fn columns(&self) -> String {
        let columns: Vec<String> = self
            .entries
            .iter()
            .map(|entry| crate::duckdb::ident(&entry.column()))
            .collect();
        columns.join(", ")
    }
}

/// What texts are printed under: the settings that docs/types.md names.
const PINNED: [(&str, &str); 7] = [
    ("timezone", "'UTC'"),
    ("datestyle", "'ISO'"),
    ("intervalstyle", "'postgres'"),
    ("extra_float_digits", "3"),
    ("bytea_output", "'hex'"),
    ("lc_monetary", "'C'"),
    ("search_path", "''"),
];

/// Whether the server has what an entry needs; makes the extension.
fn has(client: &mut postgres::Client, needs: Needs) -> Result<bool> {
    match needs {
        Needs::Nothing => Ok(true),
        Needs::Extension(name) => {
            let rows = query(
                client,
                &format!("select from pg_available_extensions where name = '{name}'"),
            )?;
            if rows.is_empty() {
                return Ok(false);
            }
            query(client, &format!("create extension if not exists {name}"))?;
            Ok(true)
        }
        Needs::Xml => match query(client, "select '<a/>'::xml") {
            Ok(_) => Ok(true),
            Err(error) if format!("{error:#}").contains("unsupported XML feature") => Ok(false),
            Err(error) => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_a_column_of_its_own_with_values() {
        let matrix = matrix();
        let names: BTreeSet<String> = matrix.iter().map(Entry::column).collect();
        assert_eq!(names.len(), matrix.len());
        for entry in matrix {
            assert!(!entry.edges.is_empty(), "{} has no values", entry.sql);
        }
    }
}
