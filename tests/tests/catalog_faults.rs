//! What happens to the catalog is waited out: nothing is lost or repeated, and the source hears of us all the while.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{
    Feeder, Options, Postgres,
    compare::Oracle,
    feeder::Config,
    postgres::{SUPERUSER, query},
    process::{Signal, wait_until},
    tcp_proxy::TcpProxy,
    tools::{default_major, workspace_root},
};

use crate::rig::{CATALOG, PATIENCE, Rig, SOURCE, size, wait};

/// A catalog in a cluster of its own, reached through a proxy; the rig's cluster is the source.
struct Apart {
    rig: Rig,
    catalog: Postgres,
    proxy: TcpProxy,
    next: i32,
}

impl Apart {
    fn new() -> Result<Self> {
        Self::with(&Options::default(), Postgres::create_database)
    }

    /// With other options of the catalog's server, and its database made in another way.
    fn with(
        catalog: &Options,
        create_database: impl FnOnce(&Postgres, &str) -> Result<()>,
    ) -> Result<Self> {
        let options = Options::default().setting("wal_sender_timeout", "6s");
        let mut rig = Rig::with(&options, |config| config)?;
        rig.source(
            "create table t (id int primary key, v text); insert into t values (0, 'copied')",
        )?;
        let catalog = Postgres::start(default_major()?, catalog)?;
        create_database(&catalog, CATALOG)?;
        catalog.sql("postgres", "create role feeder login superuser")?;
        let proxy = TcpProxy::start(catalog.port())?;
        rig.lake = rig
            .store
            .readable(duckfeeder_tests::Lake::new(&catalog, CATALOG))?;
        let apart = Self {
            rig,
            catalog,
            proxy,
            next: 0,
        };
        apart.feed_as("feeder")?;
        Ok(apart)
    }

    /// The role that the feeder uses in the catalog.
    fn feed_as(&self, role: &str) -> Result<()> {
        self.configure(role, |config| config)
    }

    fn configure(&self, role: &str, change: impl FnOnce(Config) -> Config) -> Result<()> {
        self.rig.setup.configure(&change(Config::new(
            &self.rig.pg.url(SUPERUSER, SOURCE),
            Some(&self.proxy.url(role, CATALOG)),
        )))
    }

    fn change(&mut self) -> Result<()> {
        self.next += 1;
        let sql = format!(
            "insert into t values ({}, 'streamed'); update t set v = v || '+' where id = 0",
            self.next
        );
        self.rig.source(&sql).map(drop)
    }

    fn wait_until_equal(&self, feeder: &mut Feeder) -> Result<()> {
        feeder.wait_until("the lake equals the source", PATIENCE, || {
            let checked = Oracle::open(&self.rig.pg, SOURCE, &self.rig.lake)
                .and_then(|mut oracle| oracle.check_all(&["t"]));
            Ok(checked.is_ok().then_some(()))
        })
    }

    /// Who streams at the source: the same from beginning to end when status updates never ceased.
    fn walsender(&self) -> Result<Option<String>> {
        self.rig.slot("active_pid")
    }

    /// Ends the feeder's sessions in the catalog.
    fn disconnect(&self) -> Result<()> {
        self.catalog
            .sql(
                "postgres",
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'feeder'",
            )
            .map(drop)
    }
}

fn wait_for_log(feeder: &mut Feeder, parts: &[&str], times: usize) -> Result<()> {
    let limit = size(PATIENCE, Duration::from_mins(20));
    wait_until(&format!("the log says {parts:?}"), limit, || {
        feeder.expect_running()?;
        let log = feeder.log();
        let found = |part: &&str| log.matches(part).count() >= times;
        Ok(parts.iter().all(found).then_some(()))
    })
    .with_context(|| feeder.log())
}

#[test]
fn a_catalog_that_restarts_or_crashes_is_waited_for() -> Result<()> {
    let mut apart = Apart::new()?;
    let mut feeder = apart.rig.stream(&["t"])?;
    for how in [Signal::Int, Signal::Quit] {
        apart.catalog.stop(how)?;
        apart.change()?;
        wait_for_log(&mut feeder, &["trying again"], 1)?;
        apart.catalog.start_again()?;
        apart.change()?;
        apart.wait_until_equal(&mut feeder)?;
    }
    feeder.terminate()
}

/// Longer than a lease: whoever had it has it still, and goes on with what it did.
#[test]
fn a_catalog_that_is_away_for_long_costs_no_copy_and_no_takeover() -> Result<()> {
    let mut apart = Apart::new()?;
    apart.configure("feeder", |config| config.line("limits", "copy_workers = 1"))?;
    let tables = ["t", "a", "b", "c", "d", "e", "f"];
    for table in tables.iter().skip(1) {
        apart.rig.source(&format!(
            "create table {table} (id int primary key, v text);
             insert into {table} select g, repeat(md5(g::text), 4) from generate_series(1, 40000) g"
        ))?;
    }
    let mut first = apart.rig.setup.spawn()?;
    let sql = "select (to_regclass('duckfeeder.pending_files') is not null)::text";
    first.wait_until("there are control tables", PATIENCE, || {
        let there = apart.catalog.scalar(CATALOG, sql)?;
        Ok((there.as_deref() == Some("true")).then_some(()))
    })?;
    // The first tables are copied, the others wait for this lock.
    let mut holder = apart.catalog.connect(CATALOG)?;
    query(
        &mut holder,
        "begin; do $$ begin
             while not exists (select from duckfeeder.pending_files) loop perform pg_sleep(0.001); end loop;
         end $$; select 1 from duckfeeder.feeders for update",
    )?;
    let mut second = apart.rig.setup.spawn()?;
    wait_for_log(&mut second, &["standing by"], 1)?;
    let feeders = "select owner, generation::text from duckfeeder.feeders";
    let before = apart.catalog.sql(CATALOG, feeders)?;
    let walsender = apart.walsender()?;

    apart.catalog.stop(Signal::Int)?;
    let gone = Instant::now();
    wait_for_log(&mut first, &["a file of a copy cannot be declared"], 1)?;
    wait_for_log(&mut second, &["the lease cannot be looked at"], 1)?;
    wait("the lease has run out", || {
        Ok((gone.elapsed() > Duration::from_secs(15)).then_some(()))
    })?;
    apart.catalog.start_again()?;
    apart.rig.wait_until_equal(&mut first, &tables)?;
    second.expect_running()?;

    ensure!(apart.catalog.sql(CATALOG, feeders)? == before, "taken over");
    ensure!(walsender.is_some() && apart.walsender()? == walsender);
    let points: Vec<String> = tables
        .iter()
        .map(|table| format!("select _df_lsn from lake.raw.{table} where _df_op = 'reset'"))
        .collect();
    let (resets, points) = (
        format!("select count(*) from ({})", points.join(" union all ")),
        format!("select count(*) from ({})", points.join(" union ")),
    );
    let mut db = apart.rig.lake.open()?;
    ensure!(
        db.int(&resets)? == 7 && db.int(&points)? == 1,
        "copied again"
    );
    second.terminate()?;
    first.terminate()
}

#[test]
fn a_catalog_that_fails_over_is_followed() -> Result<()> {
    let mut apart = Apart::new()?;
    let standby = apart.catalog.standby()?;
    let mut feeder = apart.rig.stream(&["t"])?;
    apart.change()?;
    apart.wait_until_equal(&mut feeder)?;
    apart.catalog.wait_for_standby(&standby)?;
    apart.catalog.stop(Signal::Quit)?;
    apart.proxy.move_to(standby.port());
    apart.change()?;
    wait_for_log(&mut feeder, &["read-only"], 1)?;
    standby.promote()?;
    apart.rig.lake = apart
        .rig
        .store
        .readable(duckfeeder_tests::Lake::new(&standby, CATALOG))?;
    apart.wait_until_equal(&mut feeder)?;
    feeder.terminate()
}

#[test]
fn connections_to_the_catalog_that_are_half_open_are_replaced() -> Result<()> {
    let mut apart = Apart::new()?;
    let mut feeder = apart.rig.stream(&["t"])?;
    apart.change()?;
    apart.wait_until_equal(&mut feeder)?;
    let walsender = apart.walsender()?;
    apart.proxy.hang();
    apart.change()?;
    apart.wait_until_equal(&mut feeder)?;
    ensure!(walsender.is_some() && apart.walsender()? == walsender);
    feeder.terminate()
}

/// The lock on the feeder's row is held for thirty seconds, the other one for ten minutes in the long form:
/// `wal_sender_timeout` passes many times.
#[test]
fn locks_that_somebody_holds_are_waited_for_and_reported_while_the_stream_stays_alive() -> Result<()>
{
    let mut apart = Apart::new()?;
    let mut feeder = apart.rig.stream(&["t"])?;
    apart.change()?;
    apart.wait_until_equal(&mut feeder)?;
    let walsender = apart.walsender()?;
    let mut holder = apart.catalog.connect(CATALOG)?;
    query(&mut holder, "set application_name = 'a forgotten session'")?;
    query(
        &mut holder,
        "begin; lock table ducklake_snapshot in exclusive mode",
    )?;
    apart.change()?;
    // Each is ten seconds of waiting for the lock.
    let rounds = size(1, 60);
    wait_for_log(
        &mut feeder,
        &["held by server process", "a forgotten session"],
        rounds,
    )?;
    query(&mut holder, "rollback")?;
    apart.wait_until_equal(&mut feeder)?;

    query(
        &mut holder,
        "begin; select 1 from duckfeeder.feeders for update",
    )?;
    apart.change()?;
    wait_for_log(&mut feeder, &["55P03"], 1)?;
    query(&mut holder, "rollback")?;
    apart.wait_until_equal(&mut feeder)?;
    ensure!(walsender.is_some() && apart.walsender()? == walsender);
    feeder.terminate()
}

#[test]
fn a_connection_limit_that_is_reached_is_waited_for() -> Result<()> {
    let mut apart = Apart::new()?;
    apart.catalog.sql(
        "postgres",
        &format!("alter role feeder nosuperuser; alter database {CATALOG} owner to feeder; grant all on schema public to feeder"),
    )?;
    apart
        .catalog
        .sql(CATALOG, "grant all on schema public to feeder")?;
    let mut feeder = apart.rig.stream(&["t"])?;
    apart
        .catalog
        .sql("postgres", "alter role feeder connection limit 0")?;
    apart.disconnect()?;
    apart.change()?;
    wait_for_log(
        &mut feeder,
        &["waiting for an open connection", "connection limit"],
        1,
    )?;
    apart
        .catalog
        .sql("postgres", "alter role feeder connection limit -1")?;
    apart.wait_until_equal(&mut feeder)?;
    feeder.terminate()
}

#[test]
fn a_catalog_that_is_read_only_is_waited_for() -> Result<()> {
    let apart = Apart::new()?;
    let mut feeder = apart.rig.stream(&["t"])?;
    let set = |how: &str| {
        let sql = format!("alter database {CATALOG} {how} default_transaction_read_only");
        apart.catalog.sql("postgres", &sql)
    };
    set("set default_transaction_read_only = on --")?;
    apart.disconnect()?;
    apart.rig.source("insert into t values (1000, 'waits')")?;
    wait_for_log(&mut feeder, &["read-only"], 1)?;
    // Nobody ends the sessions that began read-only.
    set("reset")?;
    apart.wait_until_equal(&mut feeder)?;
    feeder.terminate()
}

/// The catalog's database is on a file system of its own that gets full; its WAL is not, or the server would end.
#[test]
fn a_catalog_whose_disk_is_full_is_waited_for() -> Result<()> {
    if let Some(reason) = Postgres::without_small_disk()? {
        println!("SKIPPED: this machine allows no mount in a namespace of its own: {reason}");
        return Ok(());
    }
    let options = Options {
        small_disk: Some("32m".to_owned()),
        ..Options::default()
    };
    let mut apart = Apart::with(&options, Postgres::create_database_on_small_disk)?;
    // Every commit has a row of statistics for each column.
    let columns: Vec<String> = (0..200)
        .map(|number| format!("c{number} text default repeat('x', 200)"))
        .collect();
    apart.rig.source(&format!(
        "create table wide (id int primary key, {})",
        columns.join(", ")
    ))?;
    let mut feeder = apart.rig.stream(&["t", "wide"])?;
    let walsender = apart.walsender()?;
    apart.catalog.fill_small_disk()?;
    let place = format!("at 127.0.0.1:{} as", apart.proxy.port());
    let mut id = 0;
    feeder.wait_until("there is no room for what is committed", PATIENCE, || {
        id += 1;
        apart
            .rig
            .source(&format!("insert into wide (id) values ({id})"))?;
        let state = apart.rig.slot("active")?;
        ensure!(state.as_deref() == Some("true"), "the stream broke");
        Ok(apart
            .catalog
            .log_tail(200)
            .contains("No space left")
            .then_some(()))
    })?;
    wait_for_log(
        &mut feeder,
        &[
            "trying again",
            "53100",
            "No space left",
            CATALOG,
            &place,
            "make room on the disk",
        ],
        1,
    )?;
    let log = feeder.log();
    let said = log.lines().rfind(|line| line.contains("53100"));
    println!("{}", said.unwrap_or_default());
    apart.change()?;
    apart.catalog.free_small_disk()?;
    feeder.wait_until("the lake equals the source", PATIENCE, || {
        let checked = Oracle::open(&apart.rig.pg, SOURCE, &apart.rig.lake)
            .and_then(|mut oracle| oracle.check_all(&["t", "wide"]));
        Ok(checked.is_ok().then_some(()))
    })?;
    ensure!(walsender.is_some() && apart.walsender()? == walsender);
    feeder.terminate()
}

#[test]
fn an_answer_to_commit_that_is_lost_is_looked_up() -> Result<()> {
    let mut apart = Apart::new()?;
    let mut feeder = apart.rig.stream(&["t"])?;
    wait("a commit of an epoch lost its answer", || {
        // The declaration of the file is answered, the commit after it is not.
        apart.proxy.lose_commit_after(1);
        apart.change()?;
        apart.wait_until_equal(&mut feeder)?;
        let log = feeder.log();
        Ok(log.contains("the answer to COMMIT is lost").then_some(()))
    })?;
    apart.change()?;
    apart.wait_until_equal(&mut feeder)?;
    feeder.terminate()
}

#[test]
fn control_tables_of_every_earlier_version_are_upgraded_and_fed_on() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key, v text); insert into t values (0, 'copied')")?;
    rig.catch_up()?;
    let folder = workspace_root()?.join("crates/feeder-core/src/control/sql");
    let mut migrations: Vec<_> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    migrations.sort();
    for version in 1..=migrations.len() {
        let mut sql = "alter schema duckfeeder rename to newer; create schema duckfeeder;
             create table duckfeeder.migrations (version integer primary key,
                 applied_at timestamptz not null default clock_timestamp());"
            .to_owned();
        for (number, file) in (1..=version).zip(&migrations) {
            sql.push_str(&fs::read_to_string(file)?);
            write!(
                sql,
                "insert into duckfeeder.migrations (version) values ({number});"
            )?;
        }
        rig.pg.sql(CATALOG, &sql)?;
        for table in ["feeders", "tables", "pending_files"] {
            let columns = rig.pg.scalar(
                CATALOG,
                &format!(
                    "select string_agg(quote_ident(column_name), ', ') from information_schema.columns
                     where table_schema = 'duckfeeder' and table_name = '{table}'"
                ),
            )?;
            let columns = columns.context("no columns")?;
            rig.pg.sql(
                CATALOG,
                &format!(
                    "insert into duckfeeder.{table} ({columns}) select {columns} from newer.{table}"
                ),
            )?;
        }
        rig.pg.sql(CATALOG, "drop schema newer cascade")?;
        rig.source(&format!("insert into t values ({version}, 'streamed')"))?;
        rig.catch_up()?;
        rig.oracle()?.check_all(&["t"])?;
        let found = rig.pg.scalar(
            CATALOG,
            "select max(version)::text from duckfeeder.migrations",
        )?;
        ensure!(found == Some(migrations.len().to_string()), "{found:?}");
        let copies = rig
            .lake
            .open()?
            .int("select count(*) from lake.raw.t where _df_op = 'reset'")?;
        ensure!(copies == 1, "version {version}: copied again");
    }
    Ok(())
}
