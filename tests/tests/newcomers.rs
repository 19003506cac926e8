//! Tables that come to a feeder that has others, and cannot be taken in: they are left out, and the others go on.

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::feeder::Config;
use duckfeeder_tests::postgres::SUPERUSER;
use duckfeeder_tests::{Feeder, Options};

use crate::rig::{CATALOG, Rig, SOURCE, wait};

/// A feeder of all tables of two schemas, and a table of the lake that is not its own.
fn fed() -> Result<(Rig, Feeder)> {
    let rig = Rig::with(&Options::default(), |config| {
        config.tables(&["public.*", "other.*"])
    })?;
    rig.source(
        "create schema other; create table t (id int primary key); insert into t values (1);
         create table other.u (id int primary key)",
    )?;
    let feeder = rig.stream(&["t", "u"])?;
    rig.lake
        .open()?
        .execute("create table lake.raw.theirs as select 'theirs' as v")?;
    Ok((rig, feeder))
}

/// Each of the tables is warned of, and no other.
fn wait_until_left_out(feeder: &mut Feeder, tables: &[&str]) -> Result<()> {
    wait("the tables are left out", || {
        feeder.expect_running()?;
        let log = feeder.log();
        let warned = |table: &&&str| {
            log.lines()
                .any(|line| line.contains("is not fed") && line.contains(**table))
        };
        Ok((tables.iter().filter(warned).count() == tables.len()).then_some(()))
    })
}

fn targets(rig: &Rig) -> Result<Vec<String>> {
    let rows = rig.pg.sql(
        CATALOG,
        "select source_schema || '.' || source_table || ' ' || target_table || ' ' || state from duckfeeder.tables order by 1",
    )?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

#[test]
fn a_new_table_whose_name_in_the_lake_is_taken_is_left_out() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    rig.source(
        "create table other.t (id int primary key); create table u_current (id int primary key);
         create table theirs (id int primary key); insert into theirs values (7);
         create table fine (id int primary key); insert into fine values (1); insert into t values (2)",
    )?;
    rig.wait_until_equal(&mut feeder, &["t", "fine"])?;
    wait_until_left_out(
        &mut feeder,
        &["other.t", "public.u_current", "public.theirs"],
    )?;
    feeder.terminate()?;
    rig.source("insert into t values (3)")?;
    rig.catch_up()?;
    let fed = [
        "other.u u streaming",
        "public.fine fine streaming",
        "public.t t streaming",
    ];
    ensure!(targets(&rig)? == fed, "{:?}", targets(&rig)?);
    let theirs = rig.lake.open()?.scalar("select v from lake.raw.theirs")?;
    ensure!(theirs.as_deref() == Some("theirs"), "{theirs:?}");

    // Once the name is free, the next start takes the table in.
    rig.lake.open()?.execute("drop table lake.raw.theirs")?;
    let mut feeder = rig.setup.spawn()?;
    rig.wait_until_equal(&mut feeder, &["t", "theirs"])?;
    feeder.terminate()
}

#[test]
fn a_renamed_table_whose_new_name_is_taken_keeps_its_own() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    rig.source("alter table t rename to theirs; insert into theirs values (2)")?;
    let both = "(select count(*) = 2 from lake.raw.t_current)";
    rig.wait_for(&mut feeder, both)?;
    rig.source("alter table theirs rename to u; insert into u values (3)")?;
    rig.wait_for(&mut feeder, "(select count(*) = 3 from lake.raw.t_current)")?;
    feeder.terminate()?;
    rig.catch_up()?;
    let fed = ["other.u u streaming", "public.u t streaming"];
    ensure!(targets(&rig)? == fed, "{:?}", targets(&rig)?);
    Ok(())
}

#[test]
fn a_new_table_that_cannot_be_fed_does_not_stop_a_start() -> Result<()> {
    let (rig, feeder) = fed()?;
    feeder.terminate()?;
    rig.source(
        "create unlogged table brief (id int primary key);
         create table odd (id int primary key, _df_lsn int); insert into odd values (1, 1);
         insert into t values (2)",
    )?;
    rig.catch_up()?;
    let mut feeder = rig.setup.spawn()?;
    wait_until_left_out(&mut feeder, &["public.brief", "public.odd"])?;
    rig.wait_until_equal(&mut feeder, &["t"])?;
    // It is taken in once it can be.
    rig.source("alter table odd rename column _df_lsn to lsn")?;
    rig.wait_until_equal(&mut feeder, &["t", "odd"])?;
    feeder.terminate()?;
    let checked = rig.setup.run(&["check"])?;
    checked
        .expect_code(0)
        .context("a check of a feeder that runs")?;
    Ok(())
}

#[test]
fn a_table_whose_place_somebody_took_is_in_error_alone() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    let mut db = rig.lake.open()?;
    db.execute("drop table lake.raw.t; create table lake.raw.t as select 'theirs' as v")?;
    rig.source("insert into t values (2)")?;
    let reason = |words: &'static str| {
        wait(&format!("the reason is {words}"), || {
            let sql = "select max(error_reason) from duckfeeder.tables where source_table = 't' and state = 'error'";
            let reason = rig.pg.scalar(CATALOG, sql)?;
            Ok(reason.filter(|reason| reason.contains(words)))
        })
    };
    reason("not in the lake any more")?;
    rig.setup.run(&["resync", "public.t"])?.expect_code(0)?;
    reason("raw.t already")?;
    rig.source("insert into other.u values (1)")?;
    rig.wait_for(&mut feeder, "exists (from lake.raw.u where id = 1)")?;
    feeder.terminate()?;
    rig.catch_up()?;
    reason("raw.t already")?;

    let mut feeder = rig.setup.spawn()?;
    db.execute("drop table lake.raw.t")?;
    rig.setup.run(&["resync", "public.t"])?.expect_code(0)?;
    rig.wait_until_equal(&mut feeder, &["t"])?;
    feeder.terminate()
}

/// Who names a table means it.
#[test]
fn a_new_table_that_the_configuration_names_is_an_error() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| config.tables(&["public.t"]))?;
    rig.source(
        "create table t (id int primary key); create unlogged table brief (id int primary key)",
    )?;
    rig.catch_up()?;
    let config = Config::new(
        &rig.pg.url(SUPERUSER, SOURCE),
        Some(&rig.pg.url(SUPERUSER, CATALOG)),
    );
    rig.setup
        .configure(&config.tables(&["public.t", "public.brief"]))?;
    rig.setup
        .run(&["run", "--until-caught-up"])?
        .expect_code(3)?
        .expect_message(&["public.brief", "unlogged"])?;
    Ok(())
}
