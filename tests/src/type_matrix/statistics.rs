//! What a reader finds by filters, which skip files by their statistics, against what a scan finds.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::{Source, shape::Shape};
use crate::duckdb::{DuckDb, ident, literal};

/// Asks the same of the lake and of a copy of it, for every column and every edge value. Returns how many answers
/// were compared.
///
/// # Errors
/// Names the questions that have two answers.
pub fn check_statistics(db: &mut DuckDb, source: &Source) -> Result<usize> {
    db.execute("create temp table scanned as from lake.raw.types")?;
    let mut compared = 0;
    let mut report = String::new();
    for entry in &source.entries {
        let column = ident(&entry.column());
        let mut questions: Vec<String> = [
            "select count($) from %",
            "select count(*) from % where $ is null",
            "select count(*) from % where $ is not null",
        ]
        .map(str::to_owned)
        .to_vec();
        if entry.shape.is_scalar() {
            questions.extend(
                [
                    "select min($) from %",
                    "select max($) from %",
                    "(select $ from % order by $ nulls last limit 1)",
                    "(select $ from % order by $ desc nulls last limit 1)",
                    "select count(distinct $) from %",
                ]
                .map(str::to_owned),
            );
            if matches!(entry.shape.duck().as_str(), "FLOAT" | "DOUBLE") {
                questions.push("select count(*) from % where isnan($)".to_owned());
                questions.push("select count(*) from % where $ > 1e30".to_owned());
            }
            let values = edge_values(db, source, &entry.shape, &column)?;
            for value in &values {
                for operator in ["=", "<=", ">"] {
                    questions.push(format!("select count(*) from % where $ {operator} {value}"));
                }
            }
            if let [first, .., last] = values.as_slice() {
                questions.push(format!(
                    "select count(*) from % where $ in ({first}, {last})"
                ));
            }
        }
        let answers = |db: &mut DuckDb, table: &str| -> Result<Vec<Option<String>>> {
            let asked: Vec<String> = questions
                .iter()
                .enumerate()
                .map(|(number, question)| {
                    let question = put(question, table, &column);
                    format!(
                        "select {number}, cast(answer as varchar) from ({question}) as q(answer)"
                    )
                })
                .collect();
            let rows = db.query(&format!("{} order by 1", asked.join(" union all ")))?;
            Ok(rows
                .rows
                .into_iter()
                .filter_map(|row| row.into_iter().nth(1))
                .collect())
        };
        let from_lake = answers(db, "lake.raw.types").with_context(|| entry.sql.clone())?;
        let from_scan = answers(db, "scanned").with_context(|| entry.sql.clone())?;
        ensure!(
            from_lake.len() == questions.len() && from_scan.len() == questions.len(),
            "{}: an answer is lacking",
            entry.sql
        );
        compared += questions.len();
        for ((question, lake), scan) in questions.iter().zip(from_lake).zip(from_scan) {
            if lake != scan {
                let shown: String = question.chars().take(200).collect();
                writeln!(
                    report,
                    "{}: {shown}: the lake says {lake:.100?}, a scan {scan:.100?}",
                    entry.sql
                )?;
            }
        }
    }
    ensure!(report.is_empty(), "{report}");
    Ok(compared)
}

/// Puts the names of table and column into a question's own words, which end where its first value begins: `%` and `$`
/// may occur in that.
fn put(question: &str, table: &str, column: &str) -> String {
    let (words, value) = match question.split_once("cast(") {
        Some((words, value)) => (words, format!("cast({value}")),
        None => (question, String::new()),
    };
    format!("{}{value}", words.replace('%', table).replace('$', column))
}

/// The distinct values of the rows that hold edge values, as constants.
fn edge_values(
    db: &mut DuckDb,
    source: &Source,
    shape: &Shape,
    column: &str,
) -> Result<Vec<String>> {
    let duck = shape.duck();
    let found = db.query(&format!(
        "select distinct {} from scanned where \"row\" <= {} and {column} is not null order by 1",
        // Exactly what a cast of it gives back.
        match duck.as_str() {
            "TIMESTAMP" | "TIMESTAMP WITH TIME ZONE" => shape.canonical(column),
            _ => format!("cast({column} as varchar)"),
        },
        source.edge_rows
    ))?;
    let values = found.rows.into_iter().flatten().flatten();
    Ok(values
        .map(|text| match duck.as_str() {
            "TIMESTAMP" if !text.contains("infinity") => {
                format!("make_timestamp(cast({text} as bigint))")
            }
            "TIMESTAMP WITH TIME ZONE" if !text.contains("infinity") => {
                format!("make_timestamptz(cast({text} as bigint))")
            }
            other => format!("cast({} as {other})", literal(&text)),
        })
        .collect())
}
