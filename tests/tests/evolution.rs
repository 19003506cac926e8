//! DDL at the source, one statement at a time: what the lake makes of it.

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{Feeder, Options};

use crate::rig::{CATALOG, PATIENCE, Rig, wait};

/// A streaming table `t (id, a, b)` with rows in it.
fn fed() -> Result<(Rig, Feeder)> {
    let rig = Rig::new()?;
    rig.source(
        "create table t (id int primary key, a int, b text);
         insert into t select n, n, 'row ' || n from generate_series(1, 100) n;
         create table other (id int primary key)",
    )?;
    let feeder = rig.stream(&["t", "other"])?;
    Ok((rig, feeder))
}

/// A streaming table `t (id, a)` with a row in it, under this policy; with the event trigger where it is wanted.
fn fed_under(policy: &str, ddl_trigger: bool) -> Result<(Rig, Feeder)> {
    let rig = Rig::with(&Options::default(), |config| config.line("policy", policy))?;
    if ddl_trigger {
        rig.source(duckfeeder_tests::DDL_TRIGGER)?;
    }
    rig.source(
        "create table t (id int primary key, a int); insert into t values (1, 1);
         create table other (id int primary key)",
    )?;
    let feeder = rig.stream(&["t", "other"])?;
    Ok((rig, feeder))
}

fn copies(rig: &Rig) -> Result<i64> {
    rig.lake
        .open()?
        .int("select count(*) from lake.raw.t where _df_op = 'reset'")
}

/// Runs statements, and waits until the lake equals the source again.
fn follow(rig: &Rig, feeder: &mut Feeder, sql: &str) -> Result<()> {
    rig.source(sql)?;
    rig.wait_until_equal(feeder, &["t", "other"])
        .with_context(|| sql.to_owned())
}

#[test]
fn columns_come_go_and_change_names() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    follow(
        &rig,
        &mut feeder,
        "alter table t add column c text; insert into t values (101, 1, 'b', 'c')",
    )?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "a INTEGER", "b VARCHAR", "c VARCHAR"]);
    follow(
        &rig,
        &mut feeder,
        "alter table t rename column a to x; update t set x = x + 1 where id < 10",
    )?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "x INTEGER", "b VARCHAR", "c VARCHAR"]);
    follow(
        &rig,
        &mut feeder,
        "alter table t drop column c; insert into t values (102, 2, 'two')",
    )?;
    // The history stays readable.
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "x INTEGER", "b VARCHAR", "c VARCHAR"]);
    follow(
        &rig,
        &mut feeder,
        "alter table t add column c int; insert into t values (103, 3, 'three', 3)",
    )?;
    ensure!(
        rig.lake_columns("t")?
            == [
                "id INTEGER",
                "x INTEGER",
                "b VARCHAR",
                "c_v1 VARCHAR",
                "c INTEGER"
            ],
        "{:?}",
        rig.lake_columns("t")?
    );
    follow(
        &rig,
        &mut feeder,
        "begin; alter table t rename column x to y; alter table t rename column c to x;
         alter table t rename column y to c; insert into t values (104, 4, 'four', 44); commit",
    )?;
    ensure!(copies(&rig)? == 1, "nothing of this needs another copy");
    feeder.terminate()
}

#[test]
fn values_that_are_not_in_the_wal_are_copied() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    follow(
        &rig,
        &mut feeder,
        "alter table t add column v float8 default random(); insert into t values (101, 1, 'b')",
    )?;
    ensure!(copies(&rig)? == 2);
    follow(
        &rig,
        &mut feeder,
        "alter table t alter column a type bigint using a * 10; insert into t values (102, 1, 'b')",
    )?;
    ensure!(copies(&rig)? == 3);
    follow(
        &rig,
        &mut feeder,
        "alter table t alter column a type float8; update t set a = 0.5 where id = 5",
    )?;
    let now = rig.lake_columns("t")?;
    ensure!(
        now == [
            "id INTEGER",
            "a_v1 BIGINT",
            "b VARCHAR",
            "v DOUBLE",
            "a DOUBLE"
        ],
        "{now:?}"
    );
    follow(
        &rig,
        &mut feeder,
        "update t set b = 'row ' || id where id > 100;
         alter table t drop constraint t_pkey; alter table t add unique (b); alter table t alter column b set not null;
         alter table t add primary key (b); update t set id = -id where id < 20; delete from t where id = 30",
    )?;
    feeder.terminate()
}

/// No row and no other type tells of it.
#[test]
fn values_that_change_under_their_type_are_copied() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    ensure!(copies(&rig)? == 1);
    follow(
        &rig,
        &mut feeder,
        "alter table t alter a type int using a * 10",
    )?;
    ensure!(copies(&rig)? == 2);
    // There and back.
    follow(
        &rig,
        &mut feeder,
        "alter table t alter b type char(3) using right(b, 3); alter table t alter b type text",
    )?;
    ensure!(copies(&rig)? == 3);
    feeder.terminate()?;
    rig.source("alter table t alter a type real; alter table t alter a type int using a + 1")?;
    rig.catch_up()?;
    let mut feeder = rig.setup.spawn()?;
    rig.wait_until_equal(&mut feeder, &["t", "other"])?;
    ensure!(copies(&rig)? == 4);
    feeder.terminate()
}

#[test]
fn rows_that_are_rewritten_as_they_were_are_not_copied() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    let files = "select shape ->> 'files' from duckfeeder.tables where source_table = 't'";
    let rewrite = |sql: &str| -> Result<()> {
        let before = rig.pg.scalar(CATALOG, files)?;
        rig.source(sql)?;
        wait("the new file is seen", || {
            let now = rig.pg.scalar(CATALOG, files)?;
            Ok((now != before).then_some(()))
        })
    };
    rewrite("vacuum full t")?;
    follow(
        &rig,
        &mut feeder,
        "alter table t add column c int; insert into t values (101, 1, 'b', 2)",
    )?;
    rewrite("begin; truncate t; insert into t values (1, 1, 'b', 1); commit")?;
    follow(
        &rig,
        &mut feeder,
        "alter table t alter a set not null; alter table t drop column c; insert into t values (2, 2, 'b')",
    )?;
    feeder.terminate()?;
    rig.source("alter table t rename a to x; insert into t values (3, 3, 'b')")?;
    rig.catch_up()?;
    let mut feeder = rig.setup.spawn()?;
    rig.wait_until_equal(&mut feeder, &["t"])?;
    ensure!(copies(&rig)? == 1, "{} copies", copies(&rig)?);
    feeder.terminate()
}

#[test]
fn both_shapes_of_a_transaction_are_one_snapshot() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    let before = rig
        .lake
        .open()?
        .int("select max(snapshot_id) from lake.snapshots()")?;
    follow(
        &rig,
        &mut feeder,
        "begin; insert into t values (101, 1, 'old shape'); alter table t add column c text default 'constant';
         insert into t values (102, 2, 'new shape', 'c'); update t set a = 7 where id = 101; commit",
    )?;
    let after = rig
        .lake
        .open()?
        .int("select max(snapshot_id) from lake.snapshots()")?;
    println!("snapshots {before} to {after}");
    let mut db = rig.lake.open()?;
    for snapshot in before..=after {
        let rows = db.int(&format!(
            "select count(*) from lake.raw.t at (version => {snapshot}) where id > 100"
        ))?;
        ensure!(
            rows == 0 || rows == 3,
            "snapshot {snapshot} has {rows} of 3 rows"
        );
    }
    feeder.terminate()
}

#[test]
fn what_was_done_while_nobody_looked_is_followed_in_order() -> Result<()> {
    let (rig, feeder) = fed()?;
    feeder.terminate()?;
    rig.source(
        "alter table t add column c text; insert into t values (101, 1, 'b', 'c');
         alter table t rename column a to x; insert into t values (102, 2, 'b', 'c');
         alter table t drop column c; insert into t values (103, 3, 'b');
         alter table t add column c int default 5; insert into t values (104, 4, 'b', 7);
         alter table t rename column x to a; update t set a = 0 where id = 104;
         alter table t alter column a type bigint; update t set a = 3000000000 where id = 1",
    )?;
    let mut feeder = rig.setup.spawn()?;
    rig.wait_until_equal(&mut feeder, &["t", "other"])?;
    let now = rig.lake_columns("t")?;
    ensure!(
        now == [
            "id INTEGER",
            "a BIGINT",
            "b VARCHAR",
            "c_v1 VARCHAR",
            "c INTEGER"
        ],
        "{now:?}"
    );
    feeder.terminate()
}

/// Of a run that ends by itself, no row and no later look tells them.
#[test]
fn a_run_until_caught_up_follows_changes_without_rows() -> Result<()> {
    let (rig, feeder) = fed()?;
    feeder.terminate()?;
    for change in [
        "alter table t add column c text default 'c'",
        "alter table t rename column c to d; comment on column t.d is 'd'",
        "drop table other; create table other (id int primary key, v text); insert into other values (1, 'v')",
    ] {
        rig.source(change)?;
        rig.catch_up()?;
        rig.oracle()?
            .check_all(&["t", "other"])
            .with_context(|| change)?;
    }
    let now = rig.lake_columns("t")?;
    ensure!(
        now == ["id INTEGER", "a INTEGER", "b VARCHAR", "d VARCHAR"],
        "{now:?}"
    );
    Ok(())
}

#[test]
fn a_strict_table_stops_alone() -> Result<()> {
    let (rig, mut feeder) = fed_under("on_schema_change = \"additive_only\"", false)?;
    follow(
        &rig,
        &mut feeder,
        "alter table t add column b int; insert into t values (2, 2, 2)",
    )?;
    rig.source("alter table t rename column a to x; insert into t values (3, 3, 3)")?;
    let reason = || {
        rig.pg.scalar(
            CATALOG,
            "select error_reason from duckfeeder.tables where source_table = 't'",
        )
    };
    let reason = wait("t is in error", reason)?;
    ensure!(reason.contains("additive_only"), "{reason}");
    rig.source("insert into other values (1)")?;
    rig.wait_until_equal(&mut feeder, &["other"])?;
    feeder.terminate()
}

#[test]
fn tables_come_and_go_while_the_others_are_fed() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    rig.source(
        "create table late (id int primary key, v text); insert into late values (1, 'one')",
    )?;
    rig.wait_for_copies(&mut feeder, &["late"])?;
    rig.source("insert into late values (2, 'two'); insert into t values (101, 1, 'b')")?;
    rig.wait_until_equal(&mut feeder, &["t", "other", "late"])?;

    // Its last changes are read, and the lake's table stays.
    rig.source("insert into late values (3, 'three'); drop table late")?;
    rig.wait_for(
        &mut feeder,
        "(select count(*) = 3 from lake.raw.late where _df_op <> 'reset')",
    )?;
    let state = || {
        rig.pg.scalar(
            CATALOG,
            "select state from duckfeeder.tables where source_table = 'late'",
        )
    };
    wait("the dropped table is not fed any more", || {
        Ok((state()?.as_deref() == Some("paused")).then_some(()))
    })?;
    // Made again, it goes on in the same lake table.
    rig.source(
        "create table late (id int primary key, other int); insert into late values (7, 7)",
    )?;
    rig.wait_for(
        &mut feeder,
        "(select count(*) = 2 from lake.raw.late where _df_op = 'reset')",
    )?;
    rig.source("insert into late values (8, 8)")?;
    rig.wait_until_equal(&mut feeder, &["t", "other", "late"])?;
    feeder.terminate()
}

#[test]
fn a_renamed_table_keeps_its_history() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| config.tables(&["*.*"]))?;
    rig.source(
        "create table t (id int primary key, a int, b text);
         insert into t select n, n, 'row ' || n from generate_series(1, 100) n;
         create table other (id int primary key)",
    )?;
    let mut feeder = rig.stream(&["t", "other"])?;
    rig.source("alter table t rename to orders; insert into orders values (101, 1, 'b')")?;
    rig.wait_for(
        &mut feeder,
        "(select count(*) = 101 from lake.raw.orders where _df_op <> 'reset')",
    )?;
    rig.source("create schema sales; alter table orders set schema sales; insert into sales.orders values (102, 1, 'b')")?;
    rig.wait_for(
        &mut feeder,
        "(select count(*) = 102 from lake.raw.orders_current)",
    )?;
    let before = rig
        .lake
        .open()?
        .int("select count(*) from lake.raw.t at (version => 3)")?;
    ensure!(
        before > 0,
        "the snapshots of before have it under its old name"
    );
    feeder.terminate()
}

#[test]
fn a_change_without_a_row_shows_all_the_same() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    rig.source(
        "alter table t add column c text default 'constant'; comment on column t.c is 'a comment';
         comment on table t is 'the table'",
    )?;
    let condition = |column: &str| {
        format!(
            "(select count(*) = 1 from duckdb_columns() where database_name = 'lake' and table_name = 't' and {column})"
        )
    };
    rig.wait_for(
        &mut feeder,
        &condition("column_name = 'c' and comment = 'a comment'"),
    )?;
    rig.wait_for(
        &mut feeder,
        "(select count(*) = 1 from duckdb_tables() where database_name = 'lake' and table_name = 't' and comment = 'the table')",
    )?;
    rig.wait_until_equal(&mut feeder, &["t", "other"])?;
    ensure!(copies(&rig)? == 1, "a constant default needs no copy");
    feeder.terminate()
}

#[test]
fn the_event_trigger_tells_what_nothing_else_does() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(duckfeeder_tests::DDL_TRIGGER)?;
    rig.source(
        "create table t (id int primary key, a int, b text);
         insert into t select n, n, 'row ' || n from generate_series(1, 100) n;
         create table other (id int primary key)",
    )?;
    let mut feeder = rig.stream(&["t", "other"])?;
    // The same type, other values; the same names, other columns; no row in between.
    follow(
        &rig,
        &mut feeder,
        "alter table t alter column a type int using a * 10",
    )?;
    follow(
        &rig,
        &mut feeder,
        "begin; alter table t drop column b; alter table t add column b text default 'new'; commit;
         alter table t add column c int; alter table t rename column c to d; alter table t drop column d",
    )?;
    let now = rig.lake_columns("t")?;
    ensure!(
        now == [
            "id INTEGER",
            "a INTEGER",
            "b_v1 VARCHAR",
            "b VARCHAR",
            "d INTEGER"
        ],
        "{now:?}"
    );
    rig.source(
        "create type pair as (x int, y text); alter table t add column p pair;
         insert into t values (101, 1, 'b', (1, 'one'));
         alter type pair add attribute z int; insert into t values (102, 2, 'b', (2, 'two', 3))",
    )?;
    rig.wait_for(
        &mut feeder,
        "(select list(p order by id) = [{'x': 1, 'y': 'one', 'z': null}, {'x': 2, 'y': 'two', 'z': 3}]
          from lake.raw.t_current where id > 100)",
    )?;
    ensure!(copies(&rig)? <= 3, "{} copies", copies(&rig)?);
    feeder.terminate()
}

/// The numbers that later columns get are counted ahead of the commits.
#[test]
fn a_column_that_no_row_ever_had_does_not_stop_its_table() -> Result<()> {
    let (rig, mut feeder) = fed_under("on_drop_column = \"drop\"", true)?;
    follow(
        &rig,
        &mut feeder,
        "begin; alter table t add column brief int; alter table t drop column brief; commit;
         insert into other values (1)",
    )?;
    follow(
        &rig,
        &mut feeder,
        "alter table t add column b int; insert into t values (2, 2, 2)",
    )?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "a INTEGER", "b INTEGER"]);
    let log = feeder.log();
    ensure!(!log.contains("next column id"), "{log}");
    feeder.terminate()
}

/// Its own rule then matches nothing, which is a mistake at a first start alone.
#[test]
fn a_table_that_is_configured_by_name_and_goes_does_not_stop_the_others() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| {
        config.tables(&["public.t", "public.other", "public.gone", "late.*"])
    })?;
    rig.source(
        "create table t (id int primary key); create table other (id int primary key);
         create table gone (id int primary key); create schema late; create table late.late (id int primary key)",
    )?;
    let mut feeder = rig.stream(&["t", "other", "gone", "late"])?;
    rig.source("insert into gone values (1); drop table gone; drop schema late cascade; alter table t rename to u")?;
    rig.wait_for(&mut feeder, "exists (from lake.raw.gone where id = 1)")?;
    for id in 1..=3 {
        rig.source(&format!("insert into other values ({id})"))?;
        let paused = "select count(*)::text from duckfeeder.tables where state = 'paused'";
        wait("what is gone is paused", || {
            Ok((rig.pg.scalar(CATALOG, paused)?.as_deref() == Some("3")).then_some(()))
        })?;
        rig.wait_until_equal(&mut feeder, &["other"])?;
    }
    feeder.terminate()?;
    // Neither does it at the next start, and the check says so.
    let check = rig.setup.run(&["check"])?.stdout;
    ensure!(
        check.contains("the source has no table public.gone"),
        "{check}"
    );
    let mut feeder = rig.setup.spawn()?;
    rig.source("insert into other values (10)")?;
    rig.wait_until_equal(&mut feeder, &["other"])?;
    feeder.terminate()
}

/// The usual exchange of a table: the new one is filled beside, and takes the name of the old one.
#[test]
fn a_table_that_takes_the_name_of_another_takes_its_place_in_the_lake() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    rig.source(
        "begin; alter table t rename to t_old; alter table other rename to t;
         create table other (id int primary key, fresh text); insert into other values (1, 'new'); commit;
         insert into t values (7); insert into t_old values (101, 1, 'b')",
    )?;
    rig.wait_until_equal(&mut feeder, &["t", "t_old", "other"])?;
    // What was in the lake under a name went with its table.
    let mut lake = rig.lake.open()?;
    let moved = "select count(*) = 101 from lake.raw.t_old where _df_op <> 'reset'";
    ensure!(lake.scalar(moved)?.as_deref() == Some("true"));
    let before = lake.int("select count(b) from lake.raw.t at (version => 3)")?;
    ensure!(
        before == 100,
        "snapshots of before have it under its old name: {before}"
    );
    feeder.terminate()
}

/// It is in another publication, of which the control tables do not know yet.
#[test]
fn a_crash_after_the_publications_were_altered_costs_no_table() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    rig.source("create table loose as select n as id, n as v from generate_series(1, 20) n")?;
    rig.wait_for_copies(&mut feeder, &["loose"])?;
    feeder.terminate()?;
    rig.source("alter table loose add primary key (id); update loose set v = -v")?;
    let mut command = rig.setup.command(&["run"])?;
    command.env("DUCKFEEDER_TEST_FAILPOINT", "publications-made");
    let died = rig.setup.run_command(command, PATIENCE)?;
    ensure!(
        died.code != Some(0),
        "it came past the point: {}",
        died.stderr
    );
    rig.catch_up()?;
    rig.oracle()?.check_all(&["t", "other", "loose"])?;
    let failed = rig.pg.sql(
        CATALOG,
        "select source_table from duckfeeder.tables where state = 'error'",
    )?;
    ensure!(failed.is_empty(), "{failed:?}");
    Ok(())
}

/// Its updates were not published before: the copy has what they did.
#[test]
fn a_table_that_gets_a_key_changes_its_publication() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    rig.source("create table loose as select n as id, n as v from generate_series(1, 20) n")?;
    rig.wait_for_copies(&mut feeder, &["loose"])?;
    rig.source(
        "alter table loose add primary key (id); update loose set v = -v; delete from loose where id = 3",
    )?;
    rig.wait_until_equal(&mut feeder, &["t", "other", "loose"])?;
    rig.source("update loose set v = 100 where id = 4")?;
    rig.wait_until_equal(&mut feeder, &["t", "other", "loose"])?;
    // And back: without it no update passes the first publication at the source.
    rig.source("alter table loose drop constraint loose_pkey")?;
    let update = wait("the table can be updated without a key", || {
        Ok(rig
            .source("update loose set v = 5 where id = 5")
            .is_ok()
            .then_some(()))
    });
    update?;
    feeder.expect_running()?;
    feeder.terminate()
}
