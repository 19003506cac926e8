//! What killed feeders and DuckDB's maintenance leave behind goes, and nothing else.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::rig::{CATALOG, Rig, size, wait};

/// Longer than the default grace period of one day, and than the two days of `delete_older_than`.
const LONG_AGO: Duration = Duration::from_hours(72);

/// All files below the lake's data path, by path; temporary ones included.
fn stored(rig: &Rig) -> Result<BTreeSet<String>> {
    let root = rig.setup.lake_dir();
    let mut found = BTreeSet::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.insert(path.strip_prefix(&root)?.display().to_string());
            }
        }
    }
    Ok(found)
}

fn ends_in(extension: &str) -> impl Fn(&String) -> bool {
    move |path| {
        Path::new(path)
            .extension()
            .is_some_and(|found| found == extension)
    }
}

/// The files that rows of the catalog name. Every table here lies where its name says.
fn named(rig: &Rig) -> Result<BTreeSet<String>> {
    let rows = rig.pg.sql(
        CATALOG,
        "select s.path || t.path || f.path
         from (select table_id, path from ducklake_data_file
               union select table_id, path from ducklake_delete_file) f
         join (select distinct table_id, schema_id, path from ducklake_table) t using (table_id)
         join (select distinct schema_id, path from ducklake_schema) s using (schema_id)
         union select path from ducklake_files_scheduled_for_deletion",
    )?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

/// What must not move: the newest snapshot and every feeder's checkpoint.
fn position(rig: &Rig) -> Result<Option<String>> {
    rig.pg.scalar(
        CATALOG,
        "select (select max(snapshot_id) from ducklake_snapshot) || ' '
             || (select string_agg(checkpoint::text, ' ' order by name) from duckfeeder.feeders)",
    )
}

/// Makes files as old as if they had been left behind some days ago.
fn age(rig: &Rig, files: &BTreeSet<String>) -> Result<()> {
    rig.pg.sql(
        CATALOG,
        "update duckfeeder.pending_files set created_at = created_at - interval '3 days'",
    )?;
    for path in files {
        let file = File::options()
            .write(true)
            .open(rig.setup.lake_dir().join(path))?;
        file.set_modified(SystemTime::now() - LONG_AGO)?;
    }
    Ok(())
}

/// Runs `maintain`, and returns the paths of the entries with that outcome.
fn maintain(rig: &Rig, args: &[&str], outcome: &str) -> Result<BTreeSet<String>> {
    let args: Vec<&str> = ["maintain", "--json"].iter().chain(args).copied().collect();
    let ended = rig.setup.run(&args)?;
    ended.expect_code(0)?;
    let report: Value = serde_json::from_str(&ended.stdout).context("the report is JSON")?;
    let entries = ["declared", "stray", "uploads", "scheduled"]
        .iter()
        .filter_map(|section| report.get(section)?.get("entries")?.as_array())
        .flatten();
    Ok(entries
        .filter(|entry| entry.get("outcome").is_some_and(|found| found == outcome))
        .filter_map(|entry| Some(entry.get("path")?.as_str()?.to_owned()))
        .collect())
}

/// Lists, removes, and holds the result against what is on disk.
fn remove_exactly(rig: &Rig, left_behind: &BTreeSet<String>) -> Result<()> {
    let (before, at) = (stored(rig)?, position(rig)?);
    let listed = maintain(rig, &["--dry-run"], "would_remove")?;
    ensure!(
        listed == *left_behind,
        "listed {listed:?}, left behind {left_behind:?}"
    );
    ensure!(stored(rig)? == before, "a dry run removed something");
    let removed = maintain(rig, &[], "removed")?;
    ensure!(
        removed == *left_behind,
        "removed {removed:?}, left behind {left_behind:?}"
    );
    let rest: BTreeSet<String> = before.difference(left_behind).cloned().collect();
    ensure!(stored(rig)? == rest, "other files than these are gone");
    ensure!(position(rig)? == at, "the lake or a checkpoint moved");
    ensure!(maintain(rig, &[], "removed")?.is_empty(), "removed twice");
    Ok(())
}

#[test]
fn a_kill_in_the_middle_of_an_upload_leaves_nothing_for_ever() -> Result<()> {
    let rig = Rig::new()?;
    let rows = size(300_000, 2_000_000);
    rig.source(&format!(
        "create table kept (id int primary key); insert into kept values (1);
         create table big (id int primary key, v text);
         insert into big select i, repeat(md5(i::text), 8) from generate_series(1, {rows}) i"
    ))?;
    let mut feeder = rig.setup.spawn()?;
    let upload = |path: &String| path.starts_with("raw/big/.") && ends_in("tmp")(path);
    wait("an upload of the copy is under way", || {
        feeder.expect_running()?;
        Ok(stored(&rig)?.iter().any(upload).then_some(()))
    })?;
    feeder.kill()?;
    // While it lives its copy is exempt, and the server has to notice that it does not.
    wait("the feeder's lock is free", || {
        let locks = rig.pg.sql(
            CATALOG,
            "select 1 from pg_locks where locktype = 'advisory'",
        )?;
        Ok(locks.is_empty().then_some(()))
    })?;
    let left_behind: BTreeSet<String> = stored(&rig)?.difference(&named(&rig)?).cloned().collect();
    ensure!(left_behind.iter().any(upload), "{left_behind:?}");
    ensure!(
        maintain(&rig, &["--dry-run"], "would_remove")?.is_empty(),
        "young files are listed"
    );
    age(&rig, &left_behind)?;
    remove_exactly(&rig, &left_behind)?;
    ensure!(stored(&rig)? == named(&rig)?);
    rig.catch_up()?;
    rig.oracle()?.check_all(&["kept", "big"])
}

#[test]
fn files_without_their_commit_go_and_files_of_others_stay() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key, v text); insert into t values (0, 'copied')")?;
    let mut feeder = rig.stream(&["t"])?;
    let mut db = rig.lake.open()?;
    db.execute("create schema lake.reports")?;
    db.execute("create table lake.reports.r as select 7 as i from range(100)")?;
    let before = stored(&rig)?;
    let mut holder = rig.pg.connect(CATALOG)?;
    holder.batch_execute("begin; lock table ducklake_snapshot in exclusive mode")?;
    rig.source("insert into t select id, 'streamed' from generate_series(1, 1000) id")?;
    let is_object = ends_in("parquet");
    wait("the epoch is uploaded", || {
        feeder.expect_running()?;
        Ok(stored(&rig)?
            .difference(&before)
            .any(&is_object)
            .then_some(()))
    })?;
    feeder.kill()?;
    holder.batch_execute("rollback")?;
    let left_behind: BTreeSet<String> = stored(&rig)?.difference(&before).cloned().collect();

    let lake = rig.setup.lake_dir();
    let some_file = named(&rig)?
        .into_iter()
        .find(&is_object)
        .context("a file")?;
    for name in [
        "raw/t/ducklake-0198c0de-0000-7000-8000-000000000000.parquet",
        "raw/t/duckfeeder-0198c0de-0000-7000-8000-000000000000.parquet.bak",
        "raw/t/export.parquet",
        "raw/t/.somebody.tmp",
        "notes.txt",
    ] {
        fs::copy(lake.join(&some_file), lake.join(name))?;
    }
    age(&rig, &stored(&rig)?)?;
    remove_exactly(&rig, &left_behind)?;
    ensure!(db.int("select count(*) from lake.reports.r where i = 7")? == 100);
    rig.catch_up()?;
    rig.oracle()?.check_all(&["t"])
}

#[test]
fn what_duckdb_schedules_for_deletion_goes_when_it_is_due() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key, v text)")?;
    let mut feeder = rig.stream(&["t"])?;
    let mut db = rig.lake.open()?;
    db.execute("create table lake.main.r as select range as i from range(100)")?;
    db.execute("delete from lake.main.r where i < 50")?;
    for id in 0..5 {
        rig.source(&format!("insert into t values ({id}, 'v')"))?;
        rig.wait_for(
            &mut feeder,
            &format!("exists (from lake.raw.t where id = {id})"),
        )?;
    }
    feeder.terminate()?;
    db.execute("call ducklake_merge_adjacent_files('lake')")?;
    db.execute("call ducklake_rewrite_data_files('lake', delete_threshold => 0.1)")?;
    db.execute("call ducklake_expire_snapshots('lake', older_than => now())")?;
    let scheduled: BTreeSet<String> = rig
        .pg
        .sql(
            CATALOG,
            "select path from ducklake_files_scheduled_for_deletion",
        )?
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    for owner in ["raw/t/duckfeeder-", "main/r/ducklake-"] {
        ensure!(
            scheduled.iter().any(|path| path.starts_with(owner)),
            "none of {owner}: {scheduled:?}"
        );
    }
    ensure!(
        maintain(&rig, &["--dry-run"], "would_remove")?.is_empty(),
        "not due"
    );
    rig.pg.sql(
        CATALOG,
        "update ducklake_files_scheduled_for_deletion set schedule_start = schedule_start - interval '47 hours'",
    )?;
    ensure!(maintain(&rig, &[], "removed")?.is_empty(), "an hour early");
    rig.pg.sql(
        CATALOG,
        "update ducklake_files_scheduled_for_deletion set schedule_start = schedule_start - interval '1 hour'",
    )?;
    remove_exactly(&rig, &scheduled)?;
    ensure!(
        rig.pg
            .sql(
                CATALOG,
                "select 1 from ducklake_files_scheduled_for_deletion"
            )?
            .is_empty(),
        "the rows are still there"
    );
    ensure!(stored(&rig)? == named(&rig)?);
    // What cannot be judged is said, and the exit code tells a script.
    let set_option = |value: &str| {
        let sql = format!(
            "delete from ducklake_metadata where key = 'delete_older_than';
             insert into ducklake_metadata (key, value) values ('delete_older_than', '{value}')"
        );
        rig.pg.sql(CATALOG, &sql).map(drop)
    };
    set_option("soon")?;
    rig.setup
        .run(&["maintain"])?
        .expect_code(1)?
        .expect_message(&["delete_older_than", "0 files"])?;
    set_option("2 days")?;
    // DuckDB has nothing left to do, and reads what it read.
    db.execute("call ducklake_cleanup_old_files('lake')")?;
    let mut fresh = rig.lake.open()?;
    ensure!(fresh.int("select count(*) from lake.main.r")? == 50);
    rig.oracle()?.check_all(&["t"])
}

#[test]
fn a_commit_that_comes_after_the_claim_of_its_files_is_made_again() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key, v text); insert into t values (0, 'copied')")?;
    let mut feeder = rig.stream(&["t"])?;
    let before = stored(&rig)?;
    // Holds back the commit of the next epoch, after its upload.
    let mut holder = rig.pg.connect(CATALOG)?;
    holder.batch_execute("begin; lock table ducklake_snapshot in exclusive mode")?;
    rig.source("insert into t select id, 'streamed' from generate_series(1, 1000) id")?;
    let is_object = ends_in("parquet");
    let uploaded = wait("the epoch is uploaded", || {
        Ok(stored(&rig)?
            .difference(&before)
            .find(|path| is_object(path))
            .cloned())
    })?;
    // The copy is in the lake, so that the feeder's files are not exempt.
    wait("the file is claimed", || {
        age(&rig, &BTreeSet::new())?;
        Ok(maintain(&rig, &[], "removed")?
            .contains(&uploaded)
            .then_some(()))
    })?;
    ensure!(!lake_file(&rig, &uploaded).exists());
    holder.batch_execute("commit")?;
    rig.wait_until_equal(&mut feeder, &["t"])?;
    ensure!(
        feeder.log().contains("are still declared"),
        "the commit did not meet the claim"
    );
    ensure!(!named(&rig)?.contains(&uploaded));
    feeder.terminate()
}

fn lake_file(rig: &Rig, path: &str) -> PathBuf {
    rig.setup.lake_dir().join(Path::new(path))
}

#[test]
fn a_running_feeder_cleans_up_by_itself() -> Result<()> {
    let rig = Rig::with(&duckfeeder_tests::Options::default(), |config| {
        config.line("maintenance", "interval = \"1s\"")
    })?;
    rig.source("create table t (id int primary key, v text); insert into t values (0, 'v')")?;
    let mut feeder = rig.stream(&["t"])?;
    let orphan = "raw/t/duckfeeder-0198c0de-0000-7000-8000-000000000000.parquet";
    fs::write(lake_file(&rig, orphan), "left behind")?;
    rig.pg.sql(
        CATALOG,
        &format!(
            "insert into duckfeeder.pending_files (path, feeder, lake_table_id, created_at)
             values ('{orphan}', 'gone', 1, now() - interval '3 days')"
        ),
    )?;
    feeder.wait_until("the orphan is gone", crate::rig::PATIENCE, || {
        Ok((!lake_file(&rig, orphan).exists()).then_some(()))
    })?;
    feeder.wait_until("its declaration is gone", crate::rig::PATIENCE, || {
        let rows = rig
            .pg
            .sql(CATALOG, "select 1 from duckfeeder.pending_files")?;
        Ok(rows.is_empty().then_some(()))
    })?;
    rig.source("insert into t select id, 'w' from generate_series(1, 100) id")?;
    rig.wait_until_equal(&mut feeder, &["t"])?;
    ensure!(
        feeder.log().contains("a file was cleaned up"),
        "nothing is said of it"
    );
    feeder.terminate()?;
    ensure!(stored(&rig)? == named(&rig)?);
    Ok(())
}
