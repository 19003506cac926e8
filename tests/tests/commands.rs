//! The other commands of the binary, as an operator uses them.

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{DuckDb, tools::Tools};
use serde_json::Value;

use crate::rig::{Rig, SOURCE};

#[test]
fn an_operators_way_from_check_to_teardown() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key, v text); insert into t values (1, 'a')")?;
    rig.setup.run(&["check"])?.expect_code(0)?;
    rig.expect_nothing_created().context("after a check")?;
    let script = rig.setup.run(&["check", "--sql"])?;
    script.expect_code(0)?;
    rig.source(&format!("begin; {}; rollback", script.stdout))
        .context("the DBA's script is SQL")?;
    rig.setup.run(&["migrate", "--print"])?.expect_code(0)?;

    let feeder = rig.stream(&["t"])?;
    rig.setup
        .run(&["wait", "--streaming", "--timeout", "60s"])?
        .expect_code(0)?;
    rig.source("insert into t values (2, 'b')")?;
    let here = rig
        .pg
        .scalar(SOURCE, "select pg_current_wal_lsn()")?
        .context("a position")?;
    // Something after it, so that the position is passed.
    rig.source("insert into t values (3, 'c')")?;
    rig.setup
        .run(&["wait", "--lsn", &here, "--timeout", "60s"])?
        .expect_code(0)?;
    ensure!(
        rig.lake
            .open()?
            .int("select count(*) from lake.raw.t where id = 2")?
            == 1
    );

    let status = rig.setup.run(&["status", "--json"])?;
    status.expect_code(0)?;
    let status: Value = serde_json::from_str(&status.stdout).context("the status is JSON")?;
    ensure!(status.to_string().contains("streaming"), "{status}");
    let never = rig
        .setup
        .run(&["wait", "--lsn", "FFFF/0", "--timeout", "200ms"])?;
    ensure!(
        never.code != Some(0),
        "a position in the far future was reached"
    );
    feeder.terminate()?;

    let refused = rig.setup.run(&["teardown"])?;
    ensure!(refused.code != Some(0), "teardown without a confirmation");
    ensure!(rig.slot("plugin")?.as_deref() == Some("pgoutput"));
    rig.setup.run(&["teardown", "--yes"])?.expect_code(0)?;
    ensure!(
        rig.source("select 1 from pg_replication_slots where slot_name like 'duckfeeder%'")?
            .is_empty()
    );
    ensure!(rig.source("select 1 from pg_publication")?.is_empty());
    ensure!(
        rig.lake
            .open()?
            .int("select count(*) from lake.raw.t_current")?
            == 3,
        "the lake stays"
    );
    Ok(())
}

#[test]
fn attach_sql_attaches_as_printed() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key); insert into t values (7)")?;
    rig.catch_up()?;
    let printed = rig.setup.run(&["attach-sql"])?;
    printed.expect_code(0)?;
    let mut db = DuckDb::open_with(&Tools::locate()?.duckdb()?)?;
    for statement in printed
        .stdout
        .lines()
        .filter(|line| !line.starts_with("--"))
        .collect::<Vec<_>>()
        .join("\n")
        .split(';')
    {
        // The extensions are loaded already, and the test machine has no network to install them from.
        let install = ["install", "load"]
            .iter()
            .any(|word| statement.trim().to_lowercase().starts_with(word));
        if !install && !statement.trim().is_empty() {
            db.execute(statement)?;
        }
    }
    let databases =
        db.query("select database_name from duckdb_databases() where type = 'ducklake'")?;
    let name = databases
        .rows
        .into_iter()
        .flatten()
        .flatten()
        .next()
        .context("no lake is attached")?;
    ensure!(db.int(&format!("select id from \"{name}\".raw.t_current"))? == 7);
    Ok(())
}

#[test]
fn init_writes_a_configuration_that_check_accepts_and_never_overwrites() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key)")?;
    let before = std::fs::read_to_string(rig.setup.config_file())?;
    let refused = rig.setup.run(&["init"])?;
    ensure!(refused.code != Some(0), "init overwrote a file");
    ensure!(std::fs::read_to_string(rig.setup.config_file())? == before);
    Ok(())
}

#[test]
fn config_show_names_origins_and_hides_secrets() -> Result<()> {
    let rig = Rig::new()?;
    let mut command = rig.setup.command(&["config", "show"])?;
    command
        .env("DUCKFEEDER_SOURCE_PASSWORD", "hidden-secret")
        .env("DUCKFEEDER_FLUSH__MAX_ROWS", "4242");
    let shown = rig.setup.run_command(command, crate::rig::PATIENCE)?;
    shown.expect_code(0)?;
    ensure!(!shown.stdout.contains("hidden-secret") && !shown.stderr.contains("hidden-secret"));
    ensure!(
        shown.stdout.contains("4242") && shown.stdout.contains("DUCKFEEDER_FLUSH__MAX_ROWS"),
        "{}",
        shown.stdout
    );
    Ok(())
}
