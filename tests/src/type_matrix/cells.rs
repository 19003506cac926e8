//! Every cell of the lake against what Postgres prints.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::{Entry, PINNED, Source};
use crate::{
    duckdb::{DuckDb, ident, literal},
    lake::Lake,
    postgres::{Postgres, SUPERUSER},
};

/// The ways into the lake: rows of each part came one of these ways, which is what `_df_op` says.
pub const PARTS: [(&str, &str); 3] = [
    ("copy", "snapshot"),
    ("insert", "insert"),
    ("update", "update"),
];

/// How many differing cells a report shows.
const SHOWN: usize = 5;

/// A lake that `public.types` was fed to, beside its source.
#[derive(Debug)]
pub struct Cells<'a> {
    db: DuckDb,
    source: &'a Source,
}

/// What was compared of one column.
#[derive(Debug, Clone)]
pub struct Counts {
    /// The column's type.
    pub sql: String,
    /// What it is in the lake.
    pub lake: String,
    /// Values that were equal, without NULLs, by [`PARTS`].
    pub equal: [i64; 3],
    /// NULLs of one part.
    pub nulls: i64,
    /// Values of one part that the lake's type does not have.
    pub unfit: i64,
}

impl<'a> Cells<'a> {
    /// Reads both sides.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn open(pg: &Postgres, database: &str, lake: &Lake, source: &'a Source) -> Result<Self> {
        let mut db = lake.open()?;
        let options: Vec<String> = PINNED
            .iter()
            .map(|(name, value)| format!("-c {name}={}", value.trim_matches('\'')))
            .collect();
        let options = options.join(" ").replace(' ', "\\ ");
        let libpq = format!("{} options='{options}'", pg.libpq(SUPERUSER, database));
        db.execute(&format!(
            "attach {} as source (type postgres, read_only)",
            literal(&libpq)
        ))?;
        let parts: Vec<String> = PARTS
            .iter()
            .map(|(part, op)| format!("('{part}', '{op}')"))
            .collect();
        db.execute(&format!(
            "create temp table lake_rows as from lake.raw.types where (part, _df_op) in ({})",
            parts.join(", ")
        ))?;
        let mut cells = Self { db, source };
        cells.load_expected()?;
        Ok(cells)
    }

    /// The session; `lake` is attached.
    pub fn db(&mut self) -> &mut DuckDb {
        &mut self.db
    }

    /// Per column: the text of each value that fits, and whether it does not.
    fn load_expected(&mut self) -> Result<()> {
        let mut columns = vec!["\"row\"".to_owned()];
        for (number, entry) in self.source.entries.iter().enumerate() {
            let column = ident(&entry.column());
            let unfit = entry.shape.source_unfit(&column);
            let text = entry.shape.source_text(&column);
            columns.push(format!(
                "case when not ({unfit}) then {text} end as c{number}, {unfit} as u{number}"
            ));
        }
        let inner = format!("select {} from stash.values", columns.join(", "));
        self.db.execute(&format!(
            "create temp table expected as from postgres_query('source', {})",
            literal(&inner)
        ))
    }

    /// Every cell of every part equals the source's value, or is NULL and said not to fit.
    ///
    /// # Errors
    /// Shows the first cells that differ, of all columns.
    pub fn check(&mut self) -> Result<Vec<Counts>> {
        let there = self.source.counts()?;
        let mut report = String::new();
        let mut all = Vec::new();
        for (number, entry) in self.source.entries.iter().enumerate() {
            let counts = match self.check_column(number, entry, &mut report) {
                Ok(counts) => counts,
                // Values that cannot be compared at all; the other columns are told of too.
                Err(error) => {
                    let error = format!("{error:#}");
                    let shown: String = error.chars().take(500).collect();
                    writeln!(report, "{}: {shown}", entry.sql)?;
                    continue;
                }
            };
            let values = there.get(number).copied().context("a count is lacking")?;
            if counts.equal != [values - counts.unfit; 3] && report.is_empty() {
                writeln!(
                    report,
                    "{}: the source has {values} values, {} of which do not fit, and {:?} are equal",
                    entry.sql, counts.unfit, counts.equal
                )?;
            }
            all.push(counts);
        }
        ensure!(report.is_empty(), "{report}");
        Ok(all)
    }

    fn check_column(
        &mut self,
        number: usize,
        entry: &Entry,
        report: &mut String,
    ) -> Result<Counts> {
        let name = entry.column();
        let lake = entry.shape.canonical(&format!("l.{}", ident(&name)));
        let expected = entry.shape.expected(&format!("e.c{number}"));
        let compared = format!(
            "select l.part, l.\"row\", e.u{number} as unfit, e.c{number} as source, {expected} as expected, {lake} as found, \
               coalesce(list_contains(l._df_unrepresentable, {}), false) as named, \
               case when unfit then found is null and named else not named and found is not distinct from expected end as good \
             from lake_rows l join expected e using (\"row\")",
            literal(&name)
        );
        let mut counts = Counts {
            sql: entry.sql.clone(),
            lake: entry.shape.lake(),
            equal: [0; 3],
            nulls: 0,
            unfit: 0,
        };
        let mut parts = PARTS.iter().zip(&mut counts.equal);
        for ((part, _), equal) in parts.by_ref() {
            let row = self.db.query(&format!(
                "select count(*), count(*) filter (good), count(*) filter (source is null and not unfit), \
                   count(*) filter (unfit) from ({compared}) where part = '{part}'"
            ))?;
            let numbers: Vec<i64> = row
                .rows
                .into_iter()
                .flatten()
                .flatten()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()?;
            let [cells, good, nulls, unfit] = numbers.as_slice() else {
                anyhow::bail!("four counts");
            };
            ensure!(
                *cells == i64::from(self.source.rows),
                "{}: {cells} cells of {} are in the lake by {part}",
                entry.sql,
                self.source.rows
            );
            if good != cells {
                let shown = self.db.draw(&format!(
                    "select \"row\", left(source, 200) as source, unfit, named, left(expected::varchar, 200) as expected, left(found::varchar, 200) as found \
                     from ({compared}) where part = '{part}' and not good order by 1 limit {SHOWN}"
                ))?;
                writeln!(
                    report,
                    "{} by {part}: {} of {cells} cells differ\n{shown}",
                    entry.sql,
                    cells - good
                )?;
            }
            *equal = good - nulls - unfit;
            (counts.nulls, counts.unfit) = (*nulls, *unfit);
        }
        let different = self.db.int(&format!(
            "select count(*) from lake_rows a join lake_rows b using (\"row\") \
             where a.part = 'copy' and b.part <> 'copy' and {} is distinct from {}",
            entry.shape.canonical(&format!("a.{}", ident(&name))),
            entry.shape.canonical(&format!("b.{}", ident(&name)))
        ))?;
        if different > 0 {
            writeln!(
                report,
                "{}: {different} cells differ between copy and stream",
                entry.sql
            )?;
        }
        Ok(counts)
    }

    /// The dead letters are those of the values that do not fit, with their exact text, and no others.
    ///
    /// # Errors
    /// Shows what is lacking and what is there instead.
    pub fn check_dead_letters(&mut self) -> Result<i64> {
        let letters: Vec<String> = self
            .source
            .entries
            .iter()
            .filter_map(|entry| {
                let column = ident(&entry.column());
                let unfit = entry.shape.source_unfit(&column);
                (unfit != "false").then(|| {
                    format!(
                        "select \"row\", {}::text as column_name, pg_catalog.concat({column}) as value from stash.values where {unfit}",
                        literal(&entry.column())
                    )
                })
            })
            .collect();
        let parts: Vec<String> = PARTS
            .iter()
            .map(|(part, op)| format!("('{part}', '{op}')"))
            .collect();
        self.db.execute(&format!(
            "create or replace temp table letters_expected as \
             select part, op, \"row\", column_name, value, 'public.types' as source_table, 'raw.types' as lake_table \
             from postgres_query('source', {}), (values {}) parts(part, op)",
            literal(&letters.join(" union all ")),
            parts.join(", ")
        ))?;
        self.db.execute(
            "create or replace temp table letters_found as \
             select t.part, t._df_op as op, t.\"row\", d.column_name, d.value, d.source_table, d.lake_table \
             from lake.raw._df_dead_letters d left join lake.raw.types t \
             on (t._df_lsn, t._df_seq) = (d._df_lsn, d._df_seq) and d.row_key = '{\"id\":\"' || t.id || '\"}' \
             and d._df_timestamp = t._df_timestamp and d.reason <> ''",
        )?;
        let mut report = String::new();
        for (title, left, right) in [
            ("lacking", "letters_expected", "letters_found"),
            ("others", "letters_found", "letters_expected"),
        ] {
            let difference = format!("from {left} except all from {right}");
            let count = self
                .db
                .int(&format!("select count(*) from ({difference})"))?;
            if count > 0 {
                let shown = self.db.draw(&format!(
                    "select part, op, \"row\", column_name, left(value, 200) as value from ({difference}) order by all limit 20"
                ))?;
                writeln!(report, "dead letters, {count} {title}:\n{shown}")?;
            }
        }
        ensure!(report.is_empty(), "{report}");
        self.db.int("select count(*) from letters_expected")
    }
}

impl Source {
    /// How many values of each column are not NULL, as the server counts them.
    fn counts(&self) -> Result<Vec<i64>> {
        let counts: Vec<String> = self
            .entries
            .iter()
            .map(|entry| {
                format!(
                    "count(*) filter (where pg_catalog.num_nulls({}) = 0)",
                    ident(&entry.column())
                )
            })
            .collect();
        let rows = self.query(&format!("select {} from stash.values", counts.join(", ")))?;
        rows.into_iter()
            .flatten()
            .flatten()
            .map(|text| Ok(text.parse()?))
            .collect()
    }
}

/// The matrix as a table for people.
pub fn report(title: &str, matrix: &[Counts]) -> String {
    let mut text = format!(
        "{title}\n{:<26} {:<46} {:>8} {:>8} {:>8} {:>6} {:>6}\n",
        "Postgres", "DuckLake", "copied", "inserted", "updated", "NULL", "unfit"
    );
    let mut sums = [0; 5];
    for counts in matrix {
        let [copied, inserted, updated] = counts.equal;
        let row = [copied, inserted, updated, counts.nulls, counts.unfit];
        for (sum, number) in sums.iter_mut().zip(row) {
            *sum += number;
        }
        text.push_str(&line(&counts.sql, &counts.lake, row));
    }
    text.push_str(&line(&format!("{} columns", matrix.len()), "", sums));
    text
}

fn line(sql: &str, lake: &str, [copied, inserted, updated, nulls, unfit]: [i64; 5]) -> String {
    let lake: String = if lake.chars().count() > 46 {
        lake.chars().take(43).chain("...".chars()).collect()
    } else {
        lake.to_owned()
    };
    format!("{sql:<26} {lake:<46} {copied:>8} {inserted:>8} {updated:>8} {nulls:>6} {unfit:>6}\n")
}
