//! "Every Postgres value arrives as itself": the matrix of `docs/types.md` against real lakes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};
use duckfeeder_tests::{
    Feeder, Options,
    tools::{default_major, workspace_root},
    type_matrix::{
        Cells, Session, Source, check_documentation, check_statistics, lake_types, other_readers,
        report,
    },
};

use crate::rig::{CATALOG, PATIENCE, Rig, SOURCE, long, seed, size, wait};

/// A lake that the whole matrix was fed to, by copy, insert and update.
struct Fed {
    rig: Rig,
    source: Source,
}

/// Feeds the matrix. The first `alone` rows are inserted one by one, so that each is in a file of its own.
fn feed(major: u32, session: Session, random: u32, alone: u32) -> Result<Fed> {
    // Queries over 150 columns take longer to compile than to run.
    let options = Options::default().setting("jit", "off");
    let rig = Rig::with_major(major, &options, |config| config.tables(&["public.types"]))?;
    let source = Source::prepare(&rig.pg, SOURCE, session, random, seed()?)?;
    source.insert("copy", 1, source.rows)?;
    source.insert_empty("update")?;
    let mut feeder = rig.setup.spawn()?;
    arrive(
        &rig,
        &mut feeder,
        "exists (from lake.raw.types where _df_op = 'reset')",
    )?;

    // Which format the stream travels in is what makes the difference between the two sessions.
    let command = wait("the feeder streams", || {
        let started = "select query from pg_stat_activity where backend_type = 'walsender' and query like 'START_REPLICATION%'";
        let rows = rig.source(started)?;
        Ok(rows.into_iter().flatten().flatten().next())
    })?;
    let binary = command.contains("binary 'true'");
    ensure!(
        binary == (session == Session::Binary),
        "{session:?}: {command}"
    );

    let mut inserted = |first: u32, last: u32| -> Result<()> {
        source.insert("insert", first, last)?;
        arrive(
            &rig,
            &mut feeder,
            &format!("(select count(*) = {last} from lake.raw.types where _df_op = 'insert')"),
        )
    };
    for row in 1..=alone {
        inserted(row, row)?;
    }
    inserted(alone + 1, source.rows)?;
    source.update("update")?;
    arrive(
        &rig,
        &mut feeder,
        &format!(
            "(select count(*) = {} from lake.raw.types where _df_op = 'update')",
            source.rows
        ),
    )?;
    feeder.terminate()?;
    Ok(Fed { rig, source })
}

/// Waits until an expression over the lake is true, or the table is in state `error`.
fn arrive(rig: &Rig, feeder: &mut Feeder, condition: &str) -> Result<()> {
    let mut session = None;
    feeder.wait_until(&format!("the lake holds {condition}"), PATIENCE, || {
        let refused = "select error_reason from duckfeeder.tables where state = 'error'";
        // The control tables, like the lake, are not there at first.
        if let Ok(Some(reason)) = rig.pg.scalar(CATALOG, refused) {
            return Ok(Some(Err(anyhow!("the table is in error: {reason}"))));
        }
        let answer = match session.take().map_or_else(|| rig.lake.open(), Ok) {
            Ok(db) => session.insert(db).scalar(&format!("select {condition}")),
            Err(error) => Err(error),
        };
        Ok(matches!(answer, Ok(Some(value)) if value == "true").then_some(Ok(())))
    })?
}

/// Everything that must hold of a lake with the matrix.
fn check(title: &str, fed: &Fed) -> Result<()> {
    let mut cells = Cells::open(&fed.rig.pg, SOURCE, &fed.rig.lake, &fed.source)?;
    let matrix = cells.check()?;
    println!("{}", report(title, &matrix));
    let letters = cells.check_dead_letters()?;
    let unfit: i64 = matrix.iter().map(|counts| counts.unfit).sum();
    ensure!(
        letters == 3 * unfit && unfit > 0,
        "{letters} dead letters of {unfit} values"
    );
    println!("dead letters: {letters}");
    Ok(())
}

fn every_value(major: u32, session: Session, random: u32) -> Result<()> {
    let fed = feed(major, session, random, 0)?;
    check(&format!("Postgres {major}, {session:?}"), &fed)
}

#[test]
fn every_value_arrives_as_itself_in_binary() -> Result<()> {
    every_value(default_major()?, Session::Binary, size(200, 5_000))
}

#[test]
fn every_value_arrives_as_itself_in_text() -> Result<()> {
    every_value(default_major()?, Session::Text, size(200, 5_000))
}

#[test]
fn every_value_arrives_as_itself_from_postgres_14() -> Result<()> {
    from_version(14)
}

#[test]
fn every_value_arrives_as_itself_from_postgres_15() -> Result<()> {
    from_version(15)
}

#[test]
fn every_value_arrives_as_itself_from_postgres_16() -> Result<()> {
    from_version(16)
}

#[test]
fn every_value_arrives_as_itself_from_postgres_17() -> Result<()> {
    from_version(17)
}

#[test]
fn every_value_arrives_as_itself_from_postgres_18() -> Result<()> {
    from_version(18)
}

/// The edge values alone, and in a long run thousands of random rows.
fn from_version(major: u32) -> Result<()> {
    if major == default_major()? {
        return Ok(());
    }
    for session in [Session::Binary, Session::Text] {
        every_value(major, session, size(0, 3_000))?;
    }
    Ok(())
}

#[test]
fn filters_find_what_a_scan_finds() -> Result<()> {
    let fed = feed(default_major()?, Session::Text, size(20, 500), size(6, 25))?;
    let mut db = fed.rig.lake.open()?;
    let files =
        db.int("select count(*) from ducklake_list_files('lake', 'types', schema => 'raw')")?;
    ensure!(files >= size(9, 28), "{files} files");
    let answers = check_statistics(&mut db, &fed.source)?;
    println!("{answers} answers about {files} files");
    Ok(())
}

#[test]
fn the_documentation_says_what_the_lake_has() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| {
        config.tables(&["public.types"])
    })?;
    let source = Source::prepare(&rig.pg, SOURCE, Session::Text, 0, 0)?;
    rig.catch_up()?;
    let observed = lake_types(&rig.pg, CATALOG, "types")?;
    let page = std::fs::read_to_string(workspace_root()?.join("docs/types.md"))?;
    let compared = check_documentation(&page, &observed)?;
    ensure!(
        compared == source.entries.len(),
        "{compared} of {} columns",
        source.entries.len()
    );
    // What DuckDB makes of the catalog's names.
    let mut db = rig.lake.open()?;
    let described = db.query("select column_name, column_type from (describe lake.raw.types)")?;
    let described: BTreeMap<String, String> = described
        .rows
        .into_iter()
        .filter_map(|row| {
            let mut values = row.into_iter().flatten();
            values.next().zip(values.next())
        })
        .collect();
    for entry in &source.entries {
        let found = described.get(&entry.column()).context("no such column")?;
        let expected = db.scalar(&format!("select typeof(null::{})", entry.shape.duck()))?;
        ensure!(
            Some(found) == expected.as_ref(),
            "{}: {found} and not {expected:?}",
            entry.sql
        );
    }
    Ok(())
}

#[test]
fn other_readers_find_the_same_values() -> Result<()> {
    // Their packages are 110 MB.
    if !long() {
        return Ok(());
    }
    let fed = feed(default_major()?, Session::Text, 200, 3)?;
    let mut db = fed.rig.lake.open()?;
    let (files, cells) = other_readers(&mut db, &fed.source, &fed.rig.setup.lake_dir())?;
    ensure!(files >= 6, "{files} files");
    println!("{cells} cells of {files} files");
    Ok(())
}
