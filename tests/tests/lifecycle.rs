//! The life of a source: what happens to it is ridden out, or the feeder stops and says what is lost and what repairs it.
//!
//! `docs/operations.md` has these events as a table ("What happens when"); a test holds it against the tests here.

use std::{fs, time::Instant};

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{
    Feeder, Options, Postgres, compare::Oracle, feeder::Config, postgres::SUPERUSER,
    process::Signal, tcp_proxy::TcpProxy, tools::default_major, tools::workspace_root,
    walsender::Walsender,
};

use crate::rig::{CATALOG, PATIENCE, Rig, SOURCE, wait};

mod failover;
mod tables;

const TABLES: [&str; 2] = ["a", "b"];

const MAKE_TABLES: &str = "create table a (id int primary key, v text); create table b (id int primary key, v text);
     insert into a select i, 'copied' from generate_series(1, 100) i; insert into b values (1, 'copied')";

/// A source in a cluster of its own, reached through a proxy; the rig's cluster has the catalog.
struct Apart {
    rig: Rig,
    source: Postgres,
    proxy: TcpProxy,
}

impl Apart {
    fn new(options: &Options) -> Result<Self> {
        Self::with_major(default_major()?, options)
    }

    fn with_major(major: u32, options: &Options) -> Result<Self> {
        let rig = Rig::new()?;
        let source = Postgres::start(major, options)?;
        source.create_database(SOURCE)?;
        source.sql(SOURCE, MAKE_TABLES)?;
        let proxy = TcpProxy::start(source.port())?;
        rig.setup.configure(&Config::new(
            &proxy.url(SUPERUSER, SOURCE),
            Some(&rig.pg.url(SUPERUSER, CATALOG)),
        ))?;
        Ok(Self { rig, source, proxy })
    }

    /// Something new in both tables.
    fn change(&self) -> Result<()> {
        change(&self.source)
    }

    fn wait_until_equal(&self, feeder: &mut Feeder) -> Result<()> {
        feeder.wait_until("the lake equals the source", PATIENCE, || {
            Ok(equal(&self.rig, &self.source).is_ok().then_some(()))
        })
    }
}

fn change(source: &Postgres) -> Result<()> {
    source
        .sql(
            SOURCE,
            "begin; insert into a select max(id) + 1, 'streamed' from a; delete from a where id = (select min(id) from a);
             insert into b select max(id) + 1, 'streamed' from b; update b set v = v || '+'; commit",
        )
        .map(drop)
}

fn equal(rig: &Rig, source: &Postgres) -> Result<()> {
    Oracle::open(source, SOURCE, &rig.lake)?.check_all(&TABLES)
}

/// A feeder does not start, and says all this.
fn expect_stop(rig: &Rig, parts: &[&str]) -> Result<()> {
    rig.setup
        .run(&["run", "--until-caught-up"])?
        .expect_code(3)?
        .expect_message(parts)
        .map(drop)
}

/// A running feeder ends by itself, and says all this.
fn expect_end(feeder: &mut Feeder, parts: &[&str]) -> Result<()> {
    let status = feeder.wait(PATIENCE)?;
    ensure!(status.code() == Some(3), "{status}\n{}", feeder.log());
    expect_log(feeder, parts)
}

fn expect_log(feeder: &Feeder, parts: &[&str]) -> Result<()> {
    let log = feeder.log();
    for part in parts {
        ensure!(log.contains(part), "the log does not say {part:?}:\n{log}");
    }
    Ok(())
}

fn wait_for_log(feeder: &mut Feeder, part: &str) -> Result<()> {
    wait(&format!("the log says {part:?}"), || {
        feeder.expect_running()?;
        Ok(feeder.log().contains(part).then_some(()))
    })
    .with_context(|| feeder.log())
}

/// What the messages name as the way out.
fn start_anew(rig: &Rig) -> Result<()> {
    rig.setup.run(&["teardown", "--yes"])?.expect_code(0)?;
    rig.catch_up()
}

/// A feeder with two tables that has streamed, and stands still.
fn fed(major: u32, options: &Options) -> Result<Rig> {
    let rig = Rig::with_major(major, options, |config| config)?;
    rig.source(MAKE_TABLES)?;
    rig.catch_up()?;
    change(&rig.pg)?;
    rig.catch_up()?;
    equal(&rig, &rig.pg)?;
    Ok(rig)
}

fn checkpoint(rig: &Rig) -> Result<String> {
    let sql = "select checkpoint::text from duckfeeder.feeders";
    rig.pg.scalar(CATALOG, sql)?.context("no checkpoint")
}

#[test]
fn a_walsender_that_is_terminated_is_ridden_out() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(MAKE_TABLES)?;
    let mut feeder = rig.stream(&TABLES)?;
    for _ in 0..3 {
        rig.source(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where active",
        )?;
        change(&rig.pg)?;
        rig.wait_until_equal(&mut feeder, &TABLES)?;
    }
    expect_log(
        &feeder,
        &["the stream broke; it goes on from the checkpoint", "57P01"],
    )?;
    feeder.terminate()
}

#[test]
fn a_source_that_restarts_is_waited_for() -> Result<()> {
    let mut apart = Apart::new(&Options::default())?;
    let mut feeder = apart.rig.stream(&TABLES)?;
    apart.change()?;
    apart.source.stop(Signal::Int)?;
    wait_for_log(
        &mut feeder,
        "the stream broke; it goes on from the checkpoint",
    )?;
    apart.source.start_again()?;
    apart.change()?;
    apart.wait_until_equal(&mut feeder)?;
    feeder.terminate()
}

/// A server that shuts down waits until all that it sent is confirmed, what follows the last commit included.
#[test]
fn a_source_that_shuts_down_is_not_kept_from_it() -> Result<()> {
    let mut apart = Apart::new(&Options::default())?;
    let mut feeder = apart.rig.stream(&TABLES)?;
    for _ in 0..2 {
        apart.change()?;
        apart.wait_until_equal(&mut feeder)?;
        apart.source.sql(
            SOURCE,
            "begin; insert into a values (-1, 'taken back'); rollback",
        )?;
        let began = Instant::now();
        apart.source.stop(Signal::Int)?;
        println!("the server was down after {:?}", began.elapsed());
        apart.source.start_again()?;
        apart.change()?;
        apart.wait_until_equal(&mut feeder)?;
    }
    feeder.terminate()
}

/// Nothing can be committed then, and so nothing more be confirmed.
#[test]
fn a_server_of_source_and_catalog_that_shuts_down_is_not_kept_from_it() -> Result<()> {
    let mut rig = Rig::new()?;
    rig.source(MAKE_TABLES)?;
    let mut feeder = rig.stream(&TABLES)?;
    change(&rig.pg)?;
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    rig.source("begin; insert into a values (-1, 'taken back'); rollback")?;
    change(&rig.pg)?;
    let began = Instant::now();
    rig.pg.stop(Signal::Int)?;
    println!("the server was down after {:?}", began.elapsed());
    rig.pg.start_again()?;
    change(&rig.pg)?;
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    feeder.terminate()
}

#[test]
fn a_connection_that_is_half_open_is_noticed_in_bounded_time() -> Result<()> {
    let options = Options::default().setting("wal_sender_timeout", "6s");
    let apart = Apart::new(&options)?;
    let mut feeder = apart.rig.stream(&TABLES)?;
    // An idle stream goes on for longer than its patience.
    apart.change()?;
    apart.wait_until_equal(&mut feeder)?;
    apart.proxy.hang();
    apart.change()?;
    apart.wait_until_equal(&mut feeder)?;
    expect_log(&feeder, &["the source has sent nothing for too long"])?;
    feeder.terminate()
}

#[test]
fn a_slot_that_was_dropped_stops_with_range_tables_and_repair() -> Result<()> {
    let rig = fed(default_major()?, &Options::default())?;
    rig.source("select pg_drop_replication_slot('duckfeeder_test')")?;
    change(&rig.pg)?;
    let from = checkpoint(&rig)?;
    let said = [
        "slot duckfeeder_test is gone",
        &format!("from {from} on"),
        "public.a, public.b",
        "duckfeeder teardown",
    ];
    let checked = rig.setup.run(&["check"])?;
    checked.expect_code(1)?.expect_message(&said)?;
    expect_stop(&rig, &said)?;
    start_anew(&rig)?;
    equal(&rig, &rig.pg)
}

#[test]
fn a_slot_that_is_dropped_under_a_running_feeder_stops_it_with_the_same_words() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(MAKE_TABLES)?;
    let mut feeder = rig.stream(&TABLES)?;
    let mut client = rig.pg.connect(SOURCE)?;
    wait("the slot is free for a moment and dropped", || {
        client.batch_execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where active",
        )?;
        Ok(client
            .batch_execute("select pg_drop_replication_slot('duckfeeder_test')")
            .ok())
    })?;
    expect_end(
        &mut feeder,
        &[
            "slot duckfeeder_test is gone",
            "public.a, public.b",
            "duckfeeder teardown",
        ],
    )?;
    change(&rig.pg)?;
    start_anew(&rig)?;
    equal(&rig, &rig.pg)
}

#[test]
fn a_slot_that_was_invalidated_for_its_wal_stops_and_the_old_data_stays_readable() -> Result<()> {
    let options = Options::default()
        .setting("max_slot_wal_keep_size", "16MB")
        .setting("max_wal_size", "32MB")
        .setting("min_wal_size", "32MB");
    let rig = fed(default_major()?, &options)?;
    let rows = "select count(*) from lake.raw.a_current";
    let before = rig.lake.open()?.int(rows)?;
    wait("the slot is lost", || {
        change(&rig.pg)?;
        rig.source("select pg_switch_wal()")?;
        rig.source("checkpoint")?;
        Ok((rig.slot("wal_status")?.as_deref() == Some("lost")).then_some(()))
    })?;
    let from = checkpoint(&rig)?;
    let lost = [
        "slot duckfeeder_test was invalidated",
        "max_slot_wal_keep_size",
        &format!("from {from} on"),
        "public.a, public.b",
        "duckfeeder teardown",
    ];
    expect_stop(&rig, &lost)?;
    ensure!(rig.lake.open()?.int(rows)? == before);
    rig.setup.run(&["status"])?.expect_message(&["lost"])?;
    rig.setup.run(&["teardown", "--yes"])?.expect_code(0)?;
    ensure!(rig.lake.open()?.int(rows)? == before);
    rig.catch_up()?;
    equal(&rig, &rig.pg)?;
    // The history before the loss is still there, below the second copy.
    let copies = "select count(*) from lake.raw.a where _df_op = 'reset'";
    ensure!(rig.lake.open()?.int(copies)? == 2);
    Ok(())
}

#[test]
fn a_slot_that_was_invalidated_for_being_idle_stops() -> Result<()> {
    let rig = fed(18, &Options::default())?;
    rig.source("alter system set idle_replication_slot_timeout = '1s'")?;
    rig.source("select pg_reload_conf()")?;
    wait("the slot is invalidated", || {
        change(&rig.pg)?;
        rig.source("checkpoint")?;
        Ok((rig.slot("invalidation_reason")?.as_deref() == Some("idle_timeout")).then_some(()))
    })?;
    expect_stop(
        &rig,
        &[
            "slot duckfeeder_test was invalidated",
            "idle_replication_slot_timeout",
            "public.a, public.b",
            "duckfeeder teardown",
        ],
    )?;
    start_anew(&rig)?;
    equal(&rig, &rig.pg)
}

#[test]
fn a_slot_that_was_moved_beyond_the_checkpoint_stops() -> Result<()> {
    let rig = fed(default_major()?, &Options::default())?;
    change(&rig.pg)?;
    rig.source("select pg_replication_slot_advance('duckfeeder_test', pg_current_wal_lsn())")?;
    let from = checkpoint(&rig)?;
    let to = rig.slot("confirmed_flush_lsn")?.context("no slot")?;
    expect_stop(
        &rig,
        &[
            "slot duckfeeder_test was moved",
            &format!("the changes from {from} to {to} are lost"),
            "public.a, public.b",
            "duckfeeder teardown",
        ],
    )?;
    start_anew(&rig)?;
    equal(&rig, &rig.pg)
}

#[test]
fn a_slot_that_another_process_reads_is_refused_at_the_start_and_waited_for_later() -> Result<()> {
    let rig = fed(default_major()?, &Options::default())?;
    let port = rig.pg.port();
    let other = Walsender::start(port, SOURCE, "duckfeeder_test", "duckfeeder_test")?;
    expect_stop(
        &rig,
        &[
            "slot duckfeeder_test is in use by process",
            "end that process",
        ],
    )?;
    drop(other);
    wait("the slot is free", || {
        Ok((rig.slot("active")?.as_deref() == Some("false")).then_some(()))
    })?;

    let mut feeder = rig.setup.spawn()?;
    change(&rig.pg)?;
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    let other = wait("the other one gets in between", || {
        rig.source(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where active",
        )?;
        Ok(Walsender::start(port, SOURCE, "duckfeeder_test", "duckfeeder_test").ok())
    })?;
    change(&rig.pg)?;
    wait_for_log(&mut feeder, "is active for PID")?;
    expect_log(&feeder, &["give it a slot of its own"])?;
    drop(other);
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    feeder.terminate()
}

#[test]
fn the_table_of_events_names_tests_that_exist() -> Result<()> {
    let root = workspace_root()?;
    let page = fs::read_to_string(root.join("docs/operations.md"))?;
    let section = page
        .split("## What happens when")
        .nth(1)
        .context("no section \"What happens when\"")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut rows = 0;
    for line in section.lines().filter(|line| line.starts_with("| ")) {
        let Some(test) = line.split('`').rev().nth(1) else {
            continue;
        };
        let (module, name) = test.rsplit_once("::").context("a test without a module")?;
        let file = format!("tests/tests/{}.rs", module.replace("::", "/"));
        let code = fs::read_to_string(root.join(&file)).with_context(|| file.clone())?;
        ensure!(
            code.contains(&format!("fn {name}()")),
            "{file} has no test {name}"
        );
        rows += 1;
    }
    ensure!(rows > 20, "only {rows} rows name a test");
    Ok(())
}
