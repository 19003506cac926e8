//! Others write to the same lake, and maintain it, while the feeder feeds.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use duckfeeder_tests::bank::{Bank, TABLES};

use crate::rig::{CATALOG, Rig, SOURCE, seed, size, wait};

#[test]
fn duckdb_writes_and_maintains_the_lake_beside_the_feeder() -> Result<()> {
    let rig = Rig::new()?;
    let bank = Bank::create(&rig.pg, SOURCE, 1, 5_000)?;
    let mut feeder = rig.stream(&TABLES)?;
    let clients = bank.start(2, seed()?);
    let mut db = rig.lake.open()?;
    db.execute("create schema lake.reports")?;
    db.execute("create table lake.reports.t (i int, made_at timestamptz)")?;
    let rounds = size(40, 400);
    let (mut written, mut refused, mut maintained) = (0_i64, 0, 0);
    for round in 0..rounds {
        // A lost race is no failure: DuckDB gives up after ten tries of its own, and we try again.
        match db.execute(&format!(
            "insert into lake.reports.t values ({round}, now())"
        )) {
            Ok(()) => written += 1,
            Err(_) => refused += 1,
        }
        if round % 10 == 9 {
            maintained += i32::from(db.execute("checkpoint lake").is_ok());
        }
        feeder.expect_running()?;
    }
    clients.stop()?;
    println!("{written} rows written, {refused} refused, {maintained} checkpoints");
    ensure!(
        written > rounds / 2,
        "only {written} of {rounds} writes of DuckDB succeeded"
    );
    ensure!(maintained > 0, "no CHECKPOINT succeeded");
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    feeder.terminate()?;
    let mut oracle = rig.oracle()?;
    ensure!(
        oracle.db().int("select count(*) from lake.reports.t")? == written,
        "rows of DuckDB are gone"
    );
    oracle.check_all(&TABLES)
}

#[test]
fn small_files_are_merged_beside_a_running_feeder() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key, v text)")?;
    let mut feeder = rig.stream(&["t"])?;
    for id in 0..10 {
        rig.source(&format!("insert into t values ({id}, 'v')"))?;
        rig.wait_for(
            &mut feeder,
            &format!("exists (from lake.raw.t where id = {id})"),
        )?;
    }
    let mut db = rig.lake.open()?;
    let files = "select count(*) from ducklake_list_files('lake', 't', schema => 'raw')";
    let before = db.int(files)?;
    db.execute("call ducklake_merge_adjacent_files('lake', 't', schema => 'raw')")?;
    let after = db.int(files)?;
    ensure!(after < before, "{before} files became {after}");
    rig.source("update t set v = 'w'")?;
    rig.wait_until_equal(&mut feeder, &["t"])?;
    feeder.terminate()
}

fn data_files(rig: &Rig) -> Result<BTreeSet<PathBuf>> {
    let directory = rig.setup.lake_dir().join("raw").join("t");
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "parquet") {
            files.insert(path);
        }
    }
    Ok(files)
}

#[test]
fn a_file_that_is_cleaned_away_before_its_commit_is_made_again() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key, v text); insert into t values (0, 'copied')")?;
    let mut feeder = rig.stream(&["t"])?;
    let mut db = rig.lake.open()?;
    db.execute("call lake.set_option('delete_older_than', '1 second')")?;
    let before = data_files(&rig)?;
    // Holds back the commit of the next epoch, after its upload.
    let mut holder = rig.pg.connect(CATALOG)?;
    holder.batch_execute("begin; lock table ducklake_snapshot in exclusive mode")?;
    rig.source("insert into t select id, 'streamed' from generate_series(1, 1000) id")?;
    let uploaded = wait("the epoch is uploaded", || {
        Ok(data_files(&rig)?.difference(&before).next().cloned())
    })?;
    let mut cleaner = rig.lake.open()?;
    wait("DuckDB deletes the uncommitted file", || {
        cleaner.execute("call ducklake_delete_orphaned_files('lake')")?;
        Ok((!uploaded.exists()).then_some(()))
    })?;
    holder.batch_execute("commit")?;
    rig.wait_until_equal(&mut feeder, &["t"])?;
    feeder.terminate()?;
    rig.oracle()?.check_all(&["t"])
}
