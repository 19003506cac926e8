//! Tables and publications that come, go and are made again.

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{Options, feeder::Config, postgres::SUPERUSER, tools::default_major};

use super::{MAKE_TABLES, TABLES, change, expect_end, start_anew};
use crate::rig::{CATALOG, PATIENCE, Rig, SOURCE, wait};

fn reason(rig: &Rig, table: &str) -> Result<String> {
    let sql = format!(
        "select coalesce(error_reason, '') from duckfeeder.tables where source_table = '{table}'"
    );
    rig.pg.scalar(CATALOG, &sql)?.context("no such table")
}

fn wait_for_state(rig: &Rig, table: &str, wanted: &str) -> Result<()> {
    let sql = format!("select state from duckfeeder.tables where source_table = '{table}'");
    wait(&format!("{table} is {wanted}"), || {
        Ok((rig.pg.scalar(CATALOG, &sql)?.as_deref() == Some(wanted)).then_some(()))
    })
}

fn resync(rig: &Rig, table: &str) -> Result<()> {
    let table = format!("public.{table}");
    rig.setup.run(&["resync", &table])?.expect_code(0).map(drop)
}

fn resets(rig: &Rig, table: &str) -> Result<i64> {
    let sql = format!("select count(*) from lake.raw.{table} where _df_op = 'reset'");
    rig.lake.open()?.int(&sql)
}

/// Postgres 18 only warns, and sends nothing meanwhile.
#[test]
fn a_publication_that_is_dropped_and_made_again_puts_its_tables_into_error() -> Result<()> {
    let rig = Rig::with_major(18, &Options::default(), |config| config)?;
    rig.source(MAKE_TABLES)?;
    let mut feeder = rig.stream(&TABLES)?;
    rig.source("drop publication duckfeeder_test")?;
    change(&rig.pg)?;
    rig.source("create publication duckfeeder_test for table only a, only b with (publish_via_partition_root = true)")?;
    for table in TABLES {
        wait_for_state(&rig, table, "error")?;
        ensure!(reason(&rig, table)?.contains("publication"));
        resync(&rig, table)?;
    }
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    change(&rig.pg)?;
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    feeder.terminate()
}

/// Up to Postgres 17 the stream cannot get by the changes that were made without it.
#[test]
fn a_publication_that_is_dropped_where_the_server_insists_on_it_stops() -> Result<()> {
    let rig = Rig::with_major(default_major()?.min(17), &Options::default(), |config| {
        config
    })?;
    rig.source(MAKE_TABLES)?;
    let mut feeder = rig.stream(&TABLES)?;
    rig.source("drop publication duckfeeder_test")?;
    change(&rig.pg)?;
    expect_end(
        &mut feeder,
        &[
            "publication \"duckfeeder_test\" does not exist",
            "cannot be read any more",
            "public.a, public.b",
            "duckfeeder teardown",
        ],
    )?;
    start_anew(&rig)?;
    rig.oracle()?.check_all(&TABLES)
}

#[test]
fn a_table_that_is_dropped_and_made_again_is_copied_into_the_same_lake_table() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(MAKE_TABLES)?;
    let mut feeder = rig.stream(&TABLES)?;
    rig.source("insert into a values (1990, 'the last')")?;
    rig.source("drop table a; create table a (id int primary key, v text); insert into a values (7, 'new')")?;
    rig.source("insert into b values (100, 'goes on')")?;
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    ensure!(resets(&rig, "a")? == 2 && resets(&rig, "b")? == 1);
    let last = rig
        .lake
        .open()?
        .int("select count(*) from lake.raw.a where v = 'the last'")?;
    ensure!(last == 1, "what came before the drop is there: {last}");
    feeder.terminate()?;

    // The same while nobody looks.
    rig.source("insert into a values (1980, 'the very last'); drop table a; create table a (id int primary key, v text)")?;
    let mut feeder = rig.setup.spawn()?;
    rig.source("insert into a values (8, 'streamed'); insert into b values (101, 'goes on')")?;
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    ensure!(resets(&rig, "a")? == 3 && resets(&rig, "b")? == 1);
    let last = rig
        .lake
        .open()?
        .int("select count(*) from lake.raw.a where v = 'the very last'")?;
    ensure!(last == 1, "what came before the drop is there: {last}");
    feeder.terminate()
}

#[test]
fn a_table_is_taken_out_of_the_configuration_and_put_back() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(MAKE_TABLES)?;
    rig.catch_up()?;
    let config = |tables: &[&str]| {
        Config::new(
            &rig.pg.url(SUPERUSER, SOURCE),
            Some(&rig.pg.url(SUPERUSER, CATALOG)),
        )
        .tables(tables)
    };
    rig.setup.configure(&config(&["public.b"]))?;
    change(&rig.pg)?;
    rig.catch_up()?;
    ensure!(rig.state("public.a")? == "paused");
    rig.oracle()?.check_all(&["b"])?;
    ensure!(resets(&rig, "b")? == 1, "the other one was copied again");
    rig.setup.configure(&config(&["public.*"]))?;
    rig.catch_up()?;
    ensure!(resets(&rig, "a")? == 2 && resets(&rig, "b")? == 1);
    change(&rig.pg)?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&TABLES)
}

#[test]
fn a_resync_copies_one_table_while_the_others_go_on() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(MAKE_TABLES)?;
    let mut feeder = rig.stream(&TABLES)?;
    // Holds the copy of one table back, and with it nothing else.
    let mut holder = rig.pg.connect(SOURCE)?;
    holder.batch_execute("begin; lock table a in access exclusive mode")?;
    resync(&rig, "a")?;
    wait_for_state(&rig, "a", "copying")?;
    for id in 200..202 {
        rig.source(&format!("insert into b values ({id}, 'goes on')"))?;
        rig.wait_until_equal(&mut feeder, &["b"])?;
    }
    ensure!(resets(&rig, "a")? == 1);
    holder.batch_execute("commit")?;
    rig.source("insert into a select max(id) + 1, 'streamed' from a")?;
    feeder.wait_until("the second copy is there", PATIENCE, || {
        Ok((resets(&rig, "a")? == 2).then_some(()))
    })?;
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    ensure!(resets(&rig, "b")? == 1);
    feeder.terminate()
}
