//! Other readers of the lake's files: pyarrow and Polars find the values that DuckDB finds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Source, shape::Shape};
use crate::{
    duckdb::{DuckDb, ident, literal},
    process::run,
    tools::Tools,
};

const SCRIPT: &str = include_str!("readers.py");

/// Reads every file of the fed table below `lake` with each, and compares all values of the matrix's columns. Returns how
/// many files and cells that were.
///
/// # Errors
/// Shows the values that differ.
pub fn other_readers(db: &mut DuckDb, source: &Source, lake: &Path) -> Result<(usize, i64)> {
    let packages = Tools::locate()?.readers()?;
    let work = tempfile::tempdir()?;
    let columns: Vec<String> = source
        .entries
        .iter()
        .map(|entry| {
            let column = ident(&entry.column());
            format!("{} as {column}", as_parquet_has_it(&entry.shape, &column))
        })
        .collect();
    let columns = columns.join(", ");
    let mut paths = Vec::new();
    parquet_files(&lake.join("raw/types"), &mut paths)?;
    let (mut files, mut rows) = (Vec::new(), 0);
    for (number, path) in paths.iter().enumerate() {
        let path = path.to_str().context("a path that is not UTF-8")?;
        let expected = work.path().join(format!("{number}.json"));
        let expected = expected.to_str().context("a path that is not UTF-8")?;
        db.execute(&format!(
            "copy (select {columns} from read_parquet({})) to {} (format json)",
            literal(path),
            literal(expected)
        ))?;
        rows += db.int(&format!(
            "select count(*) from read_parquet({})",
            literal(path)
        ))?;
        files.push(json!([path, expected]));
    }
    let named: Vec<Value> = source
        .entries
        .iter()
        .map(|entry| json!([entry.column(), described(&entry.shape)]))
        .collect();
    let jobs = work.path().join("jobs.json");
    fs::write(
        &jobs,
        serde_json::to_string(&json!({"columns": named, "files": files}))?,
    )?;
    let script = work.path().join("readers.py");
    fs::write(&script, SCRIPT)?;
    let printed = run(Command::new("python3")
        .arg(&script)
        .arg(&jobs)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1"))?;
    let cells: Value = serde_json::from_str(&printed)?;
    let all = rows * i64::try_from(source.entries.len())?;
    for reader in ["pyarrow", "polars"] {
        let compared = cells.get(reader).and_then(Value::as_i64);
        ensure!(
            compared == Some(all),
            "{reader} compared {compared:?} of {all} cells"
        );
    }
    Ok((paths.len(), all))
}

/// In DuckDB: a value's text, with dates and times as the numbers that Parquet has.
fn as_parquet_has_it(shape: &Shape, column: &str) -> String {
    shape.parts(column, 0, &|leaf, value| match leaf.duck().as_str() {
        "BLOB" => format!("lower(hex({value}))"),
        "UUID" => format!("replace(cast({value} as varchar), '-', '')"),
        "TIME" => format!("epoch_us({value})::varchar"),
        "DATE" => format!(
            "case when isinf({value}) then {value}::varchar else ({value} - date '1970-01-01')::varchar end"
        ),
        _ => leaf.canonical(value),
    })
}

/// A shape as the script takes it.
fn described(shape: &Shape) -> Value {
    match shape {
        Shape::Leaf { lake, .. } => json!(lake),
        Shape::Json { .. } => json!("json"),
        Shape::List(element) => json!({"list": described(element)}),
        Shape::Struct(fields) => {
            let fields: Vec<Value> = fields
                .iter()
                .map(|(name, shape)| json!([name, described(shape)]))
                .collect();
            json!({"struct": fields})
        }
    }
}

fn parquet_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            parquet_files(&path, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "parquet")
        {
            found.push(path);
        }
    }
    Ok(())
}
