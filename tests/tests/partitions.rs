//! What happens to the partitions of a fed table (correctness, rule 22).

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{Feeder, Options};

use crate::rig::{CATALOG, PATIENCE, Rig, SOURCE, wait};

const TABLE: &str = "events";

const EVENTS: &str = "create table events (id int, v text, n int default 7, primary key (id)) partition by range (id);
    create table events_0 partition of events for values from (0) to (100);
    create table events_1 partition of events for values from (100) to (200);
    insert into events select g, 'first' from generate_series(0, 199) g";

/// State and reason of the table, as the control tables have it.
fn state(rig: &Rig) -> Result<(String, String)> {
    let sql = format!(
        "select state, coalesce(error_reason, '') from duckfeeder.tables where source_table = '{TABLE}'"
    );
    let rows = rig.pg.sql(CATALOG, &sql)?;
    let row = rows.first().context("the table is not registered")?;
    match row.as_slice() {
        [Some(state), Some(reason)] => Ok((state.clone(), reason.clone())),
        other => anyhow::bail!("{other:?}"),
    }
}

fn wait_for_state(rig: &Rig, wanted: &str) -> Result<()> {
    let mut last = None;
    let waited = wait(&format!("the table is {wanted}"), || {
        let found = state(rig)?;
        let done = found.0 == wanted;
        last = Some(found);
        Ok(done.then_some(()))
    });
    waited.with_context(|| format!("{last:?}"))
}

/// `status` says that the table needs a resync, because of this partition.
fn expect_error(rig: &Rig, words: &[&str]) -> Result<()> {
    let (state, reason) = state(rig)?;
    ensure!(
        state == "error" && reason.starts_with("needs resync: "),
        "{state}: {reason}"
    );
    for word in words {
        ensure!(
            reason.contains(word),
            "the reason does not say {word:?}: {reason}"
        );
    }
    let status = rig.setup.run(&["status", "--json"])?;
    status.expect_message(&["needs resync: "])?;
    status.expect_message(words)?;
    Ok(())
}

/// While the feeder runs: the table goes to `error`, and a resync mends it.
fn expect_resync(rig: &Rig, feeder: &mut Feeder, words: &[&str]) -> Result<()> {
    wait_for_state(rig, "error")?;
    expect_error(rig, words)?;
    rig.setup
        .run(&["resync", "public.events"])?
        .expect_code(0)?;
    wait_for_state(rig, "streaming")?;
    rig.wait_until_equal(feeder, &[TABLE])
}

/// Waits until a look has found the partitions as they are now in order.
fn wait_for_look(rig: &Rig, partitions: &str) -> Result<()> {
    let sql = format!(
        "select coalesce(string_agg(p ->> 'name', ' ' order by p ->> 'name'), '')
         from duckfeeder.tables, jsonb_array_elements(partitions) p where source_table = '{TABLE}'"
    );
    let mut last = None;
    let waited = wait(&format!("the feeder knows of {partitions}"), || {
        last = rig.pg.scalar(CATALOG, &sql)?;
        Ok((last.as_deref() == Some(partitions)).then_some(()))
    });
    waited.with_context(|| format!("{last:?}, {:?}", state(rig)))
}

/// Waits for a whole look from now on: one that began before a partition came ends before one with it does.
fn look_again(rig: &Rig, name: &str, range: &str, known: &str) -> Result<()> {
    rig.source(&format!(
        "create table {name} partition of events for values {range}"
    ))?;
    wait_for_look(rig, known)
}

#[test]
fn new_partitions_are_fed_and_attached_ones_need_a_resync() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(EVENTS)?;
    let mut feeder = rig.stream(&[TABLE])?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;

    // Made as partitions, at two levels, in a subtransaction, and filled in every way.
    rig.source(
        "create table events_2 partition of events for values from (200) to (300);
         insert into events select g, 'through the root' from generate_series(200, 249) g;
         insert into events_2 select g, 'straight' from generate_series(250, 299) g;
         create table events_3 partition of events for values from (300) to (400) partition by range (id);
         create table events_30 partition of events_3 for values from (300) to (350);
         insert into events values (300, 'two levels')",
    )?;
    rig.source(
        "begin; savepoint a; create table events_4 partition of events for values from (400) to (500);
         insert into events values (400, 'subtransaction'); release a; update events set v = 'changed' where id = 400;
         commit; update events set v = 'moved', id = id + 200 where id = 201",
    )?;
    // Made for itself and attached empty, with the columns in another order.
    rig.source(
        "create table events_5 (n int default 7, gone int, v text, id int primary key);
         alter table events_5 drop column gone;
         alter table events attach partition events_5 for values from (500) to (600)",
    )?;
    wait_for_look(
        &rig,
        "public.events_0 public.events_1 public.events_2 public.events_3 public.events_30 public.events_4 public.events_5",
    )?;
    rig.source("insert into events values (500, 'other order', 1)")?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;
    // What is emptied or rewritten is no concern as long as the rows are the same to the stream.
    for statement in [
        "analyze events",
        "vacuum events",
        "create index on events (v)",
        "alter table events_2 rename to events_two",
    ] {
        rig.source(statement)?;
    }
    look_again(
        &rig,
        "events_6",
        "from (600) to (700)",
        "public.events_0 public.events_1 public.events_3 public.events_30 public.events_4 public.events_5 public.events_6 public.events_two",
    )?;
    ensure!(state(&rig)?.0 == "streaming");

    // Filled before it was attached, in another order of columns.
    rig.source(
        "create table events_7 (v text, n int default 7, id int primary key);
         insert into events_7 select 'before', 1, g from generate_series(700, 798) g",
    )?;
    rig.source(
        "alter table events attach partition events_7 for values from (700) to (800);
         insert into events values (799, 'after')",
    )?;
    expect_resync(&rig, &mut feeder, &["public.events_7", "attached"])?;
    rig.source("update events set v = 'after the resync' where id in (1, 301, 701)")?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;

    // The same in one transaction, where the ids of transactions say nothing.
    rig.source(
        "begin; create table events_8 (id int primary key, v text, n int default 7);
         insert into events_8 select g, 'before' from generate_series(800, 899) g;
         alter table events attach partition events_8 for values from (800) to (900); commit",
    )?;
    expect_resync(&rig, &mut feeder, &["public.events_8", "attached"])?;
    // A whole tree.
    rig.source(
        "create table events_9 (id int primary key, v text, n int default 7) partition by range (id);
         create table events_90 partition of events_9 for values from (900) to (950);
         insert into events_9 values (900, 'before');
         alter table events attach partition events_9 for values from (900) to (1000)",
    )?;
    expect_resync(&rig, &mut feeder, &["public.events_90", "attached"])?;
    feeder.terminate()
}

#[test]
fn partitions_that_go_or_are_truncated_by_themselves_need_a_resync() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(EVENTS)?;
    rig.source(
        "create table events_2 partition of events for values from (200) to (300);
         create table events_3 partition of events for values from (300) to (400);
         insert into events select g, 'first' from generate_series(200, 399) g",
    )?;
    let mut feeder = rig.stream(&[TABLE])?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;

    rig.source("alter table events detach partition events_1")?;
    expect_resync(&rig, &mut feeder, &["public.events_1", "detached"])?;
    rig.source("alter table events detach partition events_2 concurrently")?;
    expect_resync(&rig, &mut feeder, &["public.events_2", "detached"])?;
    rig.source("drop table events_3")?;
    expect_resync(&rig, &mut feeder, &["public.events_3", "dropped"])?;

    rig.source("truncate events_0; insert into events values (2, 'after')")?;
    expect_resync(&rig, &mut feeder, &["public.events_0", "truncated"])?;
    rig.source("vacuum full events_0")?;
    expect_resync(&rig, &mut feeder, &["public.events_0", "VACUUM FULL"])?;

    // Through the root it is in the stream.
    rig.source(
        "insert into events values (3, 'x'); truncate events; insert into events values (4, 'y')",
    )?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;
    look_again(
        &rig,
        "events_4",
        "from (400) to (500)",
        "public.events_0 public.events_4",
    )?;
    rig.source("insert into events values (401, 'z')")?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;
    ensure!(state(&rig)?.0 == "streaming", "{:?}", state(&rig)?);
    // Both at once: the partition's own truncation is the last.
    rig.source("truncate events; insert into events values (5, 'x')")?;
    rig.source("truncate events_0")?;
    expect_resync(&rig, &mut feeder, &["public.events_0", "truncated"])?;
    feeder.terminate()
}

#[test]
fn what_happens_to_partitions_while_the_feeder_is_stopped_is_noticed_at_the_start() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(EVENTS)?;
    rig.catch_up()?;
    let resync = |words: &[&str]| -> Result<()> {
        rig.catch_up()?;
        expect_error(&rig, words)?;
        rig.setup
            .run(&["resync", "public.events"])?
            .expect_code(0)?;
        rig.catch_up()?;
        ensure!(state(&rig)?.0 == "streaming", "{:?}", state(&rig)?);
        rig.oracle()?.check_all(&[TABLE])
    };
    let fine = || -> Result<()> {
        rig.catch_up()?;
        ensure!(state(&rig)?.0 == "streaming", "{:?}", state(&rig)?);
        rig.oracle()?.check_all(&[TABLE])
    };

    rig.source(
        "create table events_2 (v text, n int default 7, id int primary key);
         insert into events_2 select 'before', 1, g from generate_series(200, 299) g;
         alter table events attach partition events_2 for values from (200) to (300)",
    )?;
    resync(&["public.events_2", "attached"])?;

    rig.source(
        "create table events_3 partition of events for values from (300) to (400);
         insert into events select g, 'while stopped' from generate_series(300, 399) g",
    )?;
    fine()?;
    // Twice: the second start sees what the first one accepted.
    rig.source("truncate events; insert into events values (1, 'after')")?;
    fine()?;
    fine()?;
    rig.source("truncate events")?;
    rig.source("truncate events; insert into events values (1, 'after'), (301, 'after')")?;
    fine()?;
    fine()?;
    rig.source("insert into events values (2, 'gone'); truncate events_0")?;
    resync(&["public.events_0", "truncated"])?;
    rig.source(
        "insert into events values (150, 'here'); alter table events detach partition events_1",
    )?;
    resync(&["public.events_1", "detached"])?;
    rig.source("alter table events attach partition events_1 for values from (100) to (200)")?;
    resync(&["public.events_1", "attached"])?;
    rig.source(
        "alter table events detach partition events_1; delete from events_1;
         alter table events attach partition events_1 for values from (100) to (200)",
    )?;
    resync(&["public.events_1", "detached and attached again"])?;
    rig.source("drop table events_3")?;
    resync(&["public.events_3", "dropped"])
}

#[test]
fn a_truncation_of_the_root_that_was_fed_just_before_a_crash_is_known_after_it() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(EVENTS)?;
    let mut feeder = rig.stream(&[TABLE])?;
    rig.source("truncate events; insert into events values (1, 'after')")?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;
    feeder.kill()?;
    let mut feeder = rig.setup.spawn()?;
    look_again(
        &rig,
        "events_2",
        "from (200) to (300)",
        "public.events_0 public.events_1 public.events_2",
    )?;
    feeder.wait_until("the table streams", PATIENCE, || {
        Ok((state(&rig)?.0 == "streaming").then_some(()))
    })?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;
    feeder.terminate()
}

fn with_policy(policy: &str) -> Result<Rig> {
    let rig = Rig::with(&Options::default(), |config| {
        config.line("policy", &format!("on_drop_partition = \"{policy}\""))
    })?;
    rig.source(EVENTS)?;
    Ok(rig)
}

#[test]
fn the_rows_of_partitions_that_go_stay_in_the_lake_on_demand() -> Result<()> {
    let rig = with_policy("keep")?;
    let feeder = rig.stream(&[TABLE])?;
    rig.source("update events set v = 'second' where id = 150; drop table events_1")?;
    wait_for_look(&rig, "public.events_0")?;
    rig.source(
        "create table events_2 partition of events for values from (200) to (300);
         insert into events select g, 'later' from generate_series(200, 249) g",
    )?;
    wait_for_look(&rig, "public.events_0 public.events_2")?;
    feeder.terminate()?;
    // Nobody looks meanwhile.
    rig.source("alter table events detach partition events_2; insert into events_2 values (299)")?;
    rig.catch_up()?;
    wait_for_look(&rig, "public.events_0")?;
    let mut feeder = rig.setup.spawn()?;
    rig.source("delete from events where id = 0")?;
    rig.wait_for(
        &mut feeder,
        "(select count(*) = 249 and count(*) filter (v = 'second') = 1 from lake.raw.events_current)",
    )?;
    let at_the_source = rig.pg.scalar(SOURCE, "select count(*) from events")?;
    ensure!(at_the_source.as_deref() == Some("99"), "{at_the_source:?}");
    rig.expect_no_error()?;
    // What came back may have changed while it was away.
    rig.source("alter table events attach partition events_2 for values from (200) to (300)")?;
    expect_resync(&rig, &mut feeder, &["public.events_2", "attached"])?;
    rig.wait_for(
        &mut feeder,
        "exists (from lake.raw.events where v = 'second' and _df_op = 'update')",
    )?;
    feeder.terminate()
}

#[test]
fn a_table_whose_partitions_go_is_copied_again_on_demand() -> Result<()> {
    let rig = with_policy("resync")?;
    let mut feeder = rig.stream(&[TABLE])?;
    rig.source("drop table events_1")?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;
    wait_for_state(&rig, "streaming")?;
    feeder.terminate()?;
    rig.source(
        "create table events_2 partition of events for values from (200) to (300);
         insert into events select g, 'later' from generate_series(200, 249) g;
         alter table events detach partition events_0",
    )?;
    let mut feeder = rig.setup.spawn()?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;
    wait_for_state(&rig, "streaming")?;
    let copies = rig
        .lake
        .open()?
        .int("select count(*) from lake.raw.events where _df_op = 'reset'")?;
    ensure!(copies == 3, "{copies} copies");
    rig.expect_no_error()?;
    feeder.terminate()
}
