//! One table's trouble is not the others': it goes to state `error`, and a resync brings it back.

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::Options;

use crate::rig::{Rig, wait};

fn state(rig: &Rig, table: &str) -> Result<String> {
    let sql = format!("select state from duckfeeder.tables where source_table = '{table}'");
    rig.pg
        .scalar(crate::rig::CATALOG, &sql)?
        .with_context(|| format!("{table} is not registered"))
}

fn wait_for_state(rig: &Rig, table: &str, wanted: &str) -> Result<()> {
    wait(&format!("{table} is {wanted}"), || {
        Ok((state(rig, table)? == wanted).then_some(()))
    })
}

#[test]
fn a_lake_table_that_somebody_drops_stops_only_its_own_source() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create table a (id int primary key, v text); create table b (id int primary key, v text);
         insert into a values (1, 'one'); insert into b values (1, 'one')",
    )?;
    let mut feeder = rig.stream(&["a", "b"])?;
    rig.lake.open()?.execute("drop table lake.raw.a")?;
    rig.source("insert into a values (2, 'two'); insert into b values (2, 'two')")?;
    wait_for_state(&rig, "a", "error")?;
    rig.wait_until_equal(&mut feeder, &["b"])?;
    feeder.terminate()?;

    let mut feeder = rig.setup.spawn()?;
    rig.source("insert into a values (3, 'three'); insert into b values (3, 'three')")?;
    rig.wait_until_equal(&mut feeder, &["b"])?;
    ensure!(state(&rig, "a")? == "error", "a restart forgets nothing");
    rig.setup.run(&["resync", "public.a"])?.expect_code(0)?;
    wait_for_state(&rig, "a", "streaming")?;
    rig.source("update a set v = 'more' where id = 3")?;
    rig.wait_until_equal(&mut feeder, &["a", "b"])?;
    feeder.terminate()
}

#[test]
fn with_stop_a_value_that_does_not_fit_stops_only_its_table() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| {
        config.line("policy", "on_unrepresentable = \"stop\"")
    })?;
    rig.source(
        "create table bad (id int primary key, n numeric(8, 2));
         create table good (id int primary key, n numeric(8, 2))",
    )?;
    let mut feeder = rig.stream(&["bad", "good"])?;
    rig.source("insert into bad values (1, 1.5); insert into good values (1, 1.5)")?;
    rig.wait_until_equal(&mut feeder, &["bad", "good"])?;
    rig.source("begin; insert into bad values (2, 2.5), (3, 'NaN'); insert into good values (2, 2.5); commit")?;
    wait_for_state(&rig, "bad", "error")?;
    rig.wait_until_equal(&mut feeder, &["good"])?;
    let rows = rig
        .lake
        .open()?
        .int("select count(*) from lake.raw.bad where _df_op = 'insert'")?;
    ensure!(
        rows == 1,
        "whole transactions before the failure stay, nothing of its own: {rows}"
    );
    rig.source("delete from bad where id = 3")?;
    rig.setup.run(&["resync", "public.bad"])?.expect_code(0)?;
    wait_for_state(&rig, "bad", "streaming")?;
    rig.wait_until_equal(&mut feeder, &["bad", "good"])?;
    feeder.terminate()
}

#[test]
fn with_stop_a_column_that_is_added_needs_a_resync_and_arrives_with_it() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| {
        config.line("policy", "on_schema_change = \"stop\"")
    })?;
    rig.source(
        "create table grows (id int primary key); insert into grows values (1);
         create table stays (id int primary key)",
    )?;
    let mut feeder = rig.stream(&["grows", "stays"])?;
    rig.source("alter table grows add column v text; insert into grows values (2, 'two'); insert into stays values (1)")?;
    wait_for_state(&rig, "grows", "error")?;
    rig.wait_until_equal(&mut feeder, &["stays"])?;
    rig.setup.run(&["resync", "public.grows"])?.expect_code(0)?;
    wait_for_state(&rig, "grows", "streaming")?;
    rig.source("insert into grows values (3, 'three')")?;
    rig.wait_until_equal(&mut feeder, &["grows", "stays"])?;
    feeder.terminate()
}

#[test]
fn a_table_that_leaves_its_publication_for_a_moment_is_not_trusted_any_more() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table out (id int primary key); create table stays (id int primary key)")?;
    let mut feeder = rig.stream(&["out", "stays"])?;
    rig.source("alter publication duckfeeder_test drop table only out")?;
    rig.source("insert into out values (1); insert into stays values (1)")?;
    rig.source("alter publication duckfeeder_test add table only out")?;
    rig.source("insert into out values (2)")?;
    wait_for_state(&rig, "out", "error")?;
    rig.wait_until_equal(&mut feeder, &["stays"])?;
    rig.setup.run(&["resync", "public.out"])?.expect_code(0)?;
    wait_for_state(&rig, "out", "streaming")?;
    rig.source("insert into out values (3)")?;
    rig.wait_until_equal(&mut feeder, &["out", "stays"])?;
    feeder.terminate()
}

#[test]
fn wait_does_not_hang_on_an_idle_source() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key)")?;
    let feeder = rig.stream(&["t"])?;
    let wal_end = rig
        .pg
        .scalar(crate::rig::SOURCE, "select pg_current_wal_lsn()::text")?
        .context("no position")?;
    rig.setup
        .run(&["wait", "--lsn", &wal_end, "--timeout", "60s"])?
        .expect_code(0)?;
    feeder.terminate()
}
