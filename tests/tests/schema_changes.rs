//! Schema changes flow through: a script of every kind in four modes, random ones, readers that stay attached,
//! and how long a change takes.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{
    DDL_TRIGGER, Feeder, Options,
    ddl::{
        load::Load,
        random::Generator,
        recorder::Recorder,
        source_tables,
        statements::{SCRIPT, SETUP, Statement, rows},
    },
    postgres::SUPERUSER,
    process::wait_until,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::rig::{CATALOG, PATIENCE, Rig, SOURCE, long, seed, size};

/// The tables that the script begins with.
const TABLES: [&str; 9] = [
    "items", "notes", "events", "first", "second", "brief", "keys", "parts", "quiet",
];

/// The script, or as much of it as `DUCKFEEDER_TEST_STATEMENTS` says, to find the statement that breaks.
fn script() -> Result<&'static [Statement]> {
    let count = match env::var("DUCKFEEDER_TEST_STATEMENTS") {
        Ok(text) => text
            .parse()
            .context("DUCKFEEDER_TEST_STATEMENTS is not a number")?,
        Err(_) => SCRIPT.len(),
    };
    Ok(SCRIPT.get(..count).unwrap_or(SCRIPT))
}

/// A source with the script's tables, and a feeder of both schemas with the default policies.
fn rig(items: u32) -> Result<Rig> {
    let rig = empty_rig()?;
    rig.source(SETUP)?;
    rig.source(&rows(items))?;
    Ok(rig)
}

fn empty_rig() -> Result<Rig> {
    Rig::with(&Options::default(), |config| {
        config.tables(&["public.*", "other.*"])
    })
}

impl Rig {
    fn change(&self, statement: &Statement) -> Result<()> {
        for sql in [statement.sql, statement.dml] {
            // The load may lock rows in another order.
            wait_until(statement.name, PATIENCE, || match self.source(sql) {
                Err(error) if format!("{error:#}").contains("deadlock detected") => Ok(None),
                done => done.map(Some),
            })?;
        }
        Ok(())
    }

    fn recorder(&self) -> Recorder {
        Recorder::start(&self.lake, &self.pg.url(SUPERUSER, CATALOG))
    }

    /// Every table of the source is the same in the lake, column by column.
    fn expect_latest(&self) -> Result<()> {
        let mut oracle = self.oracle()?;
        for (schema, table) in source_tables(&self.pg, SOURCE)? {
            oracle
                .check_latest((&schema, &table), ("raw", &table))
                .with_context(|| format!("{schema}.{table}: {}", self.history(&table)))?;
        }
        Ok(())
    }

    /// What the lake has of a table, for whoever has to find out what went wrong.
    fn history(&self, table: &str) -> String {
        let drawn = self.lake.open().and_then(|mut lake| {
            let columns = lake.draw(&format!("describe lake.raw.\"{table}\""))?;
            let rows = lake.draw(&format!(
                "from lake.raw.\"{table}\" order by _df_lsn desc, _df_seq desc limit 12"
            ))?;
            let begins = lake.draw(&format!(
                "from lake.raw.\"{table}\" where _df_op in ('reset', 'truncate') order by _df_lsn, _df_seq"
            ))?;
            Ok(format!("{columns}\n{begins}\n{rows}"))
        });
        drawn.unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Waits, while the feeder runs, until every table is the same.
    fn wait_for_latest(&self, feeder: &mut Feeder) -> Result<()> {
        let mut last = None;
        let waited = feeder.wait_until("the lake equals the source", PATIENCE, || {
            let checked = self.expect_latest();
            let is_equal = checked.is_ok();
            last = checked.err();
            Ok(is_equal.then_some(()))
        });
        match last {
            Some(last) => waited.context(format!("{last:#}")),
            None => waited,
        }
    }
}

/// The load, after as many more transactions.
fn going_on(load: Load, transactions: u64) -> Result<Load> {
    if let Err(error) = load.wait_for_more(transactions) {
        // What it ran into says more.
        load.stop()?;
        return Err(error);
    }
    Ok(load)
}

/// The load and the recorder end, and everything is as it should be.
fn finish(rig: &Rig, load: Load, recorder: Recorder) -> Result<()> {
    let written = load.stop()?;
    rig.catch_up()?;
    rig.expect_latest()?;
    let recorded = recorder.finish(&rig.lake)?;
    ensure!(recorded > 0, "no snapshot was recorded");
    println!(
        "{} changes beside {written} transactions of the load; {recorded} tables of snapshots read as they did",
        script()?.len()
    );
    Ok(())
}

/// A reader that is attached before the first change sees each one, without an error.
#[test]
fn every_kind_of_change_while_streaming() -> Result<()> {
    if !long() {
        println!("only in the long form");
        return Ok(());
    }
    let rig = rig(size(2_000, 50_000))?;
    let mut feeder = rig.stream(&TABLES)?;
    let recorder = rig.recorder();
    let load = Load::start(&rig.pg, SOURCE, 2, seed()?);
    let mut reader = rig.lake.open()?;
    let mut missed = Vec::new();
    for statement in script()? {
        rig.change(statement)?;
        for expected in statement.lake {
            let seen = feeder.wait_until(statement.name, PATIENCE, || {
                Ok(expected.holds(&mut reader)?.then_some(()))
            });
            // All that is missed is told, not only the first.
            if let Err(error) = seen {
                feeder.expect_running()?;
                missed.push(format!("{}: {expected:?}: {error:#}", statement.name));
            }
        }
        reader
            .query("from lake.raw.items_current where id < 5")
            .with_context(|| format!("the attached reader after {:?}", statement.name))?;
    }
    ensure!(missed.is_empty(), "{}", missed.join("\n"));
    let load = going_on(load, 20)?;
    rig.expect_no_error()?;
    feeder.terminate()?;
    finish(&rig, load, recorder)
}

#[test]
fn every_kind_of_change_while_the_feeder_is_stopped() -> Result<()> {
    let rig = rig(size(2_000, 50_000))?;
    rig.catch_up()?;
    let recorder = rig.recorder();
    let mut load = Load::start(&rig.pg, SOURCE, 2, seed()?);
    // One change at a time is the streaming test's; here several meet a start.
    for statements in script()?.chunks(size(12, 3)) {
        for statement in statements {
            rig.change(statement)?;
        }
        load = going_on(load, 5)?;
        rig.catch_up()
            .with_context(|| format!("after {:?}", statements.last().map(|last| last.name)))?;
        rig.expect_no_error()?;
    }
    finish(&rig, load, recorder)
}

#[test]
fn every_kind_of_change_during_the_first_copy() -> Result<()> {
    if !long() {
        println!("only in the long form");
        return Ok(());
    }
    let rig = rig(size(40_000, 400_000))?;
    let recorder = rig.recorder();
    let load = Load::start(&rig.pg, SOURCE, 2, seed()?);
    let mut feeder = rig.setup.spawn()?;
    feeder.wait_until("the copy begins", PATIENCE, || {
        let copying = "select 1 from pg_stat_activity where query ilike '%copy%items%' and backend_type = 'client backend'
             and pid <> pg_backend_pid()";
        Ok((!rig.source(copying)?.is_empty()).then_some(()))
    })?;
    for (number, statement) in script()?.iter().enumerate() {
        rig.change(statement)?;
        feeder.expect_running()?;
        if number % 15 == 14 {
            // The copies may be done by now: the tables are copied again, under the changes that follow.
            let tables = source_tables(&rig.pg, SOURCE)?;
            for (schema, table) in tables {
                // One that the feeder has not met yet is copied anyway.
                rig.setup.run(&["resync", &format!("{schema}.{table}")])?;
            }
        }
    }
    let load = going_on(load, 5)?;
    rig.expect_no_error()?;
    feeder.terminate()?;
    finish(&rig, load, recorder)
}

#[test]
fn every_kind_of_change_with_a_kill_after_each() -> Result<()> {
    let seed = seed()?;
    let mut rng = StdRng::seed_from_u64(seed);
    let rig = rig(size(2_000, 50_000))?;
    let mut feeder = rig.stream(&TABLES)?;
    let recorder = rig.recorder();
    let mut load = Load::start(&rig.pg, SOURCE, 2, seed);
    for statement in script()? {
        rig.change(statement)?;
        // Before, in and after the commit of the change.
        thread::sleep(Duration::from_millis(rng.random_range(0..600)));
        feeder.kill().with_context(|| statement.name)?;
        feeder = rig.setup.spawn()?;
        if rng.random_bool(0.3) {
            // Some kills hit the start itself, others a feeder that streams.
            load = going_on(load, 5)?;
        }
    }
    let load = going_on(load, 20)?;
    feeder.kill()?;
    rig.catch_up()?;
    rig.expect_no_error()?;
    finish(&rig, load, recorder)
}

/// The source itself is the model: whatever it went through, the lake says the same afterwards.
#[test]
fn random_changes_and_rows() -> Result<()> {
    let first = seed()?;
    let cases = match env::var("DUCKFEEDER_TEST_CASES") {
        Ok(text) => text
            .parse()
            .context("DUCKFEEDER_TEST_CASES is not a number")?,
        Err(_) => size(3, 300),
    };
    for case in 0..cases {
        let seed = first + case;
        println!("DUCKFEEDER_TEST_SEED={seed}");
        random_case(seed).with_context(|| format!("DUCKFEEDER_TEST_SEED={seed}"))?;
    }
    Ok(())
}

fn random_case(seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let rig = empty_rig()?;
    let (mut generator, setup) = Generator::new(StdRng::seed_from_u64(seed));
    rig.source(&setup)?;
    if rng.random_bool(0.3) {
        rig.source(DDL_TRIGGER)?;
    }
    let recorder = rig.recorder();
    let mut feeder = if rng.random_bool(0.5) {
        rig.catch_up()?;
        None
    } else {
        Some(rig.setup.spawn()?)
    };
    for _ in 0..size(40, 80) {
        let sql = generator.transaction();
        println!("{sql}");
        rig.source(&sql).with_context(|| sql.clone())?;
        match rng.random_range(0..12) {
            0 => match feeder.take() {
                Some(running) => running.kill()?,
                None => feeder = Some(rig.setup.spawn()?),
            },
            1 => match feeder.take() {
                Some(mut running) => {
                    rig.wait_for_latest(&mut running)?;
                    running.terminate()?;
                }
                None => rig.catch_up()?,
            },
            _ => {}
        }
    }
    drop(feeder);
    rig.catch_up()?;
    rig.expect_no_error()?;
    rig.expect_latest()?;
    recorder.finish(&rig.lake).map(drop)
}

#[test]
fn a_new_column_is_there_soon() -> Result<()> {
    let rig = rig(size(1_000, 100_000))?;
    let mut feeder = rig.stream(&TABLES)?;
    let mut reader = rig.lake.open()?;
    let mut times = Vec::new();
    for round in 0..size(5, 30) {
        let started = Instant::now();
        rig.source(&format!(
            "alter table items add column soon{round} int default {round}; \
             insert into items (id, soon{round}) select max(id) + 1, -1 from items"
        ))?;
        let sql = format!("select count(*) from lake.raw.items where soon{round} = -1");
        feeder.wait_until("the column is there", PATIENCE, || {
            // Until then there is no such column: that error alone is no error.
            match reader.int(&sql) {
                Ok(found) => Ok((found == 1).then_some(())),
                Err(error) if format!("{error:#}").contains("Binder Error") => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        times.push(started.elapsed());
        // The rows that were there read as they do at the source.
        let old = format!(
            "select count(*) = 0 from lake.raw.items_current where soon{round} is distinct from {round} and soon{round} <> -1"
        );
        ensure!(reader.scalar(&old)?.as_deref() == Some("true"), "{old}");
    }
    feeder.terminate()?;
    times.sort();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    println!(
        "from ALTER TABLE ADD COLUMN and one insert to the column in DuckDB: median {middle:?}, longest {:?}, flush.interval 250ms",
        times.last().copied().unwrap_or_default()
    );
    ensure!(middle < Duration::from_secs(10), "{times:?}");
    Ok(())
}
