//! The table of `docs/types.md`, held against the matrix and a real lake.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::{Entry, matrix};

/// What `docs/types.md` says: the lake's type by the name of the Postgres type.
///
/// A name is what stands in backticks, or the whole cell where nothing does ("an enum").
///
/// # Errors
/// When the page has no such table, or names a type twice.
pub fn documented(page: &str) -> Result<BTreeMap<String, String>> {
    let mut types = BTreeMap::new();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| Postgres | DuckLake |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    for row in rows {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (postgres, lake) = cells
            .next()
            .zip(cells.next())
            .with_context(|| format!("a row without two cells: {row}"))?;
        let mut names: Vec<&str> = postgres.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            names.push(postgres);
        }
        for name in names {
            ensure!(
                types.insert(name.to_owned(), lake.to_owned()).is_none(),
                "docs/types.md names {name} twice"
            );
        }
    }
    ensure!(!types.is_empty(), "docs/types.md has no table of types");
    Ok(types)
}

/// Every documented type is in the matrix and the other way round, and the lake has what is documented.
/// `observed` is by column; a column of the matrix may be absent from it when the server does not have its type.
///
/// # Errors
/// Lists all that differs.
pub fn check_documentation(page: &str, observed: &BTreeMap<String, String>) -> Result<usize> {
    let documented = documented(page)?;
    let matrix = matrix();
    let mut report = String::new();
    let mut compared = 0;
    for (name, lake) in &documented {
        let mut entries = matrix.iter().filter(|entry| entry.docs == name).peekable();
        if entries.peek().is_none() {
            writeln!(report, "{name} is documented and not in the matrix")?;
        }
        for entry in entries {
            let Some(found) = observed.get(&entry.column()) else {
                continue;
            };
            compared += 1;
            if *found != entry.shape.lake() {
                writeln!(
                    report,
                    "{} is {found} in the lake, the matrix has {}",
                    entry.sql,
                    entry.shape.lake()
                )?;
            }
            if !agrees(entry, lake, found, observed) {
                writeln!(
                    report,
                    "{} is {found} in the lake, the documentation of {name} has {lake}",
                    entry.sql
                )?;
            }
        }
    }
    for entry in &matrix {
        if !documented.contains_key(entry.docs) {
            writeln!(
                report,
                "{} is in the matrix and {} not documented",
                entry.sql, entry.docs
            )?;
        }
    }
    ensure!(report.is_empty(), "{report}");
    Ok(compared)
}

/// The type that a row names has exactly the lake's type of the row; a type that the row covers has the same
/// constructor: `decimal`, `list`.
fn agrees(entry: &Entry, lake: &str, found: &str, observed: &BTreeMap<String, String>) -> bool {
    if lake == "as its base type" {
        let Some(like) = entry.like else {
            return true;
        };
        let base = matrix().into_iter().find(|base| base.sql == like);
        return base
            .is_some_and(|base| observed.get(&base.column()).map(String::as_str) == Some(found));
    }
    if entry.noted {
        return true;
    }
    let constructor = |text: &str| text.split('(').next().map(str::to_owned);
    if entry.sql == entry.docs {
        lake == found
    } else {
        constructor(lake) == constructor(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_in_backticks_or_the_whole_cell() -> Result<()> {
        let page = "x\n| Postgres | DuckLake | notes |\n|---|---|---|\n| `oid`, `\"char\"` | uint32 | `no` |\n| an enum | varchar | |\n\n| `y` | z |\n";
        let types = documented(page)?;
        let types: Vec<_> = types
            .iter()
            .map(|(name, lake)| (name.as_str(), lake.as_str()))
            .collect();
        assert_eq!(
            types,
            [
                ("\"char\"", "uint32"),
                ("an enum", "varchar"),
                ("oid", "uint32")
            ]
        );
        Ok(())
    }
}
