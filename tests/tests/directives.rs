//! Changes that an operator stated ahead: `duckfeeder schema`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{Feeder, Options};
use serde_json::Value;

use crate::rig::{CATALOG, PATIENCE, Rig, wait};

const TABLE: &str = "create table t (id int primary key, a int, b varchar(20));
    insert into t select n, n, 'row ' || n from generate_series(1, 100) n;
    create table other (id int primary key)";

fn fed() -> Result<(Rig, Feeder)> {
    let rig = Rig::new()?;
    rig.source(TABLE)?;
    let feeder = rig.stream(&["t", "other"])?;
    Ok((rig, feeder))
}

/// With a policy that follows nothing of itself.
fn strict() -> Result<(Rig, Feeder)> {
    let rig = Rig::with(&Options::default(), |config| {
        config
            .line("policy", "on_schema_change = \"stop\"")
            .line("policy", "on_type_change = \"stop\"")
    })?;
    rig.source(TABLE)?;
    let feeder = rig.stream(&["t", "other"])?;
    Ok((rig, feeder))
}

fn state(rig: &Rig, words: &[&str]) -> Result<String> {
    let ended = rig.setup.run(&[&["schema"], words].concat())?;
    ended.expect_code(0)?;
    Ok(ended.stdout)
}

fn listed(rig: &Rig) -> Result<Vec<Value>> {
    let ended = rig.setup.run(&["schema", "list", "--json"])?;
    ended.expect_code(0)?;
    serde_json::from_str(&ended.stdout).context("the list is JSON")
}

/// Where the directive of this id was applied.
fn applied(rig: &Rig, id: &str) -> Result<Option<String>> {
    let listed = listed(rig)?;
    let mut of_id = listed.iter().filter(|one| one["id"] == id);
    let one = of_id
        .next()
        .with_context(|| format!("{id} is not listed"))?;
    ensure!(of_id.next().is_none(), "{id} is listed twice");
    let lsn = one["applied_lsn"].as_str().map(str::to_owned);
    ensure!(lsn.is_some() == (one["state"] == "applied"), "{one}");
    Ok(lsn)
}

fn copies(rig: &Rig) -> Result<i64> {
    let mut db = rig.lake.open()?;
    db.int("select count(*) from lake.raw.t where _df_op = 'reset'")
}

fn wait_for_error(rig: &Rig, feeder: &mut Feeder, about: &str) -> Result<()> {
    let sql = "select error_reason from duckfeeder.tables where source_table = 't'";
    feeder.wait_until(&format!("t is in error: {about}"), PATIENCE, || {
        let reason = rig.pg.scalar(CATALOG, sql)?;
        Ok(reason.filter(|reason| reason.contains(about)).map(drop))
    })
}

fn follow(rig: &Rig, feeder: &mut Feeder, sql: &str) -> Result<()> {
    rig.source(sql)?;
    rig.wait_until_equal(feeder, &["t", "other"])
        .with_context(|| sql.to_owned())
}

#[test]
fn a_column_that_was_renamed_and_dropped_since_is_what_was_stated() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create table t (id int primary key, a int); insert into t select n, n from generate_series(1, 100) n;
         create table u (id int primary key, a int); insert into u select n, n from generate_series(1, 100) n",
    )?;
    rig.stream(&["t", "u"])?.terminate()?;
    state(
        &rig,
        &["rename-column", "public.t", "a", "x", "--id", "one"],
    )?;
    for table in ["t", "u"] {
        rig.source(&format!(
            "alter table {table} rename column a to x; insert into {table} values (101, 101);
             alter table {table} drop column x; insert into {table} values (102)"
        ))?;
    }
    ensure!(applied(&rig, "one")?.is_none());
    let mut feeder = rig.setup.spawn()?;
    rig.wait_until_equal(&mut feeder, &["t", "u"])?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "x INTEGER"]);
    let mut db = rig.lake.open()?;
    ensure!(db.int("select count(x) from lake.raw.t where x = id")? == 101);
    // Nobody said so of the other one, and the likelier of the two is not what happened.
    ensure!(rig.lake_columns("u")? == ["id INTEGER", "a INTEGER", "x INTEGER"]);
    ensure!(applied(&rig, "one")?.is_some());
    feeder.terminate()
}

#[test]
fn a_strict_table_lets_pass_what_was_stated_and_nothing_else() -> Result<()> {
    let (rig, mut feeder) = strict()?;
    state(
        &rig,
        &["rename-column", "public.t", "a", "x", "--id", "rename"],
    )?;
    state(
        &rig,
        &["change-type", "public.t", "x", "int8", "--id", "type"],
    )?;
    state(
        &rig,
        &["rename-column", "public.t", "x", "z", "--id", "again"],
    )?;
    follow(
        &rig,
        &mut feeder,
        "alter table t rename column a to x; insert into t values (101, 1, 'one')",
    )?;
    follow(
        &rig,
        &mut feeder,
        "alter table t alter column x type bigint; insert into t values (102, 3000000000, 'two')",
    )?;
    // Two changes of one transaction, of which the stream shows the outcome.
    state(&rig, &["drop-column", "public.t", "b", "--id", "drop"])?;
    follow(
        &rig,
        &mut feeder,
        "begin; alter table t rename column x to z; alter table t drop column b; insert into t values (103, 3); commit",
    )?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "z BIGINT"]);
    let lsns: BTreeSet<String> = ["rename", "type", "again", "drop"]
        .iter()
        .map(|id| applied(&rig, id)?.with_context(|| format!("{id} is pending")))
        .collect::<Result<_>>()?;
    ensure!(lsns.len() == 3, "the last two came together: {lsns:?}");

    // What was applied is not used again.
    state(
        &rig,
        &["rename-column", "public.t", "z", "x", "--id", "back"],
    )?;
    follow(
        &rig,
        &mut feeder,
        "alter table t rename column z to x; insert into t values (104, 4)",
    )?;
    rig.source("alter table t rename column x to z; insert into t values (105, 5)")?;
    wait_for_error(&rig, &mut feeder, "\"x\" is \"z\" now")?;
    rig.source("insert into other values (1)")?;
    rig.wait_until_equal(&mut feeder, &["other"])?;
    feeder.terminate()
}

#[test]
fn a_resync_follows_what_was_stated_after_a_refusal() -> Result<()> {
    let (rig, mut feeder) = strict()?;
    let resync = || {
        rig.setup
            .run(&["resync", "public.t"])?
            .expect_code(0)
            .map(drop)
    };
    rig.source("alter table t drop column b; insert into t values (101, 1)")?;
    wait_for_error(&rig, &mut feeder, "\"b\" was dropped")?;
    state(&rig, &["drop-column", "public.t", "b", "--id", "drop"])?;
    resync()?;
    rig.wait_until_equal(&mut feeder, &["t", "other"])?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "a INTEGER"]);
    ensure!(applied(&rig, "drop")?.is_some());

    // A resync alone does not make a type pass that on_type_change refuses.
    rig.source("alter table t alter column a type float8; insert into t values (102, 0.5)")?;
    wait_for_error(&rig, &mut feeder, "on_type_change")?;
    let since = "select error_lsn from duckfeeder.tables where source_table = 't'";
    let first = rig.pg.scalar(CATALOG, since)?;
    resync()?;
    wait("it is in error again", || {
        let now = rig.pg.scalar(CATALOG, since)?;
        Ok((now.is_some() && now != first).then_some(()))
    })?;
    wait_for_error(&rig, &mut feeder, "on_type_change")?;
    state(
        &rig,
        &[
            "change-type",
            "public.t",
            "a",
            "double precision",
            "--id",
            "type",
        ],
    )?;
    resync()?;
    rig.wait_until_equal(&mut feeder, &["t", "other"])?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "a_v1 INTEGER", "a DOUBLE"]);
    ensure!(applied(&rig, "type")?.is_some());
    feeder.terminate()
}

#[test]
fn a_stated_drop_takes_the_column_and_earlier_snapshots_have_it() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    let mut attached = rig.lake.open()?;
    let before = attached.int("select max(snapshot_id) from lake.snapshots()")?;
    state(&rig, &["drop-column", "public.t", "b", "--id", "drop"])?;
    follow(
        &rig,
        &mut feeder,
        "alter table t drop column b; insert into t values (101, 101)",
    )?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "a INTEGER"]);
    // The session was attached all the time.
    ensure!(attached.int("select count(*) from lake.raw.t_current where id = a")? == 101);
    let kept = attached.int(&format!(
        "select count(*) from lake.raw.t at (version => {before}) where b = 'row ' || id"
    ))?;
    ensure!(kept == 100);
    // Unstated, the next one is kept.
    follow(
        &rig,
        &mut feeder,
        "alter table t drop column a; insert into t values (102)",
    )?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "a INTEGER"]);
    feeder.terminate()
}

#[test]
fn values_that_somebody_vouches_for_are_not_copied_again() -> Result<()> {
    let (rig, mut feeder) = fed()?;
    let vouched = [
        "change-type",
        "public.t",
        "a",
        "bigint",
        "--values-unchanged",
    ];
    state(&rig, &[&vouched[..], &["--id", "one"]].concat())?;
    follow(
        &rig,
        &mut feeder,
        "alter table t alter column a type bigint; insert into t values (101, 3000000000, 'b')",
    )?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "a BIGINT", "b VARCHAR"]);
    ensure!(applied(&rig, "one")?.is_some() && copies(&rig)? == 1);
    // A new column is copied whatever was said.
    state(
        &rig,
        &[
            "change-type",
            "public.t",
            "a",
            "float8",
            "--values-unchanged",
            "--id",
            "two",
        ],
    )?;
    follow(
        &rig,
        &mut feeder,
        "alter table t alter column a type float8; insert into t values (102, 0.5, 'b')",
    )?;
    ensure!(applied(&rig, "two")?.is_some() && copies(&rig)? == 2);
    // Nothing of the lake changes, and no row shows it: the checkpoint moves alone.
    state(
        &rig,
        &[
            "change-type",
            "public.t",
            "b",
            "varchar(80)",
            "--id",
            "three",
        ],
    )?;
    rig.source("alter table t alter column b type character varying(80)")?;
    wait("the third is applied", || applied(&rig, "three"))?;
    rig.wait_until_equal(&mut feeder, &["t", "other"])?;
    feeder.terminate()
}

#[test]
fn the_event_trigger_shows_each_of_several_changes() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| {
        config.line("policy", "on_schema_change = \"stop\"")
    })?;
    rig.source(duckfeeder_tests::DDL_TRIGGER)?;
    rig.source(TABLE)?;
    let mut feeder = rig.stream(&["t", "other"])?;
    state(
        &rig,
        &["rename-column", "public.t", "a", "x", "--id", "one"],
    )?;
    state(
        &rig,
        &["rename-column", "public.t", "x", "y", "--id", "two"],
    )?;
    let vouched = [
        "change-type",
        "public.t",
        "y",
        "bigint",
        "--values-unchanged",
    ];
    state(&rig, &[&vouched[..], &["--id", "three"]].concat())?;
    state(&rig, &["drop-column", "public.t", "y", "--id", "four"])?;
    // No row in between, nor behind.
    for transaction in [
        "alter table t rename column a to x",
        "alter table t rename column x to y; alter table t alter column y type bigint",
        "alter table t drop column y",
    ] {
        rig.source(transaction)?;
    }
    wait("all are applied", || {
        Ok(listed(&rig)?
            .iter()
            .all(|one| one["state"] == "applied")
            .then_some(()))
    })?;
    rig.wait_until_equal(&mut feeder, &["t", "other"])?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "b VARCHAR"]);
    ensure!(copies(&rig)? == 1);
    let lsns = ["one", "two", "three", "four"].map(|id| applied(&rig, id));
    let [one, two, three, four] = lsns;
    let (one, two, three, four) = (one?, two?, three?, four?);
    ensure!(
        two == three && one != two && four != two,
        "{one:?} {two:?} {three:?} {four:?}"
    );
    feeder.terminate()
}

#[test]
fn a_crash_around_the_commit_applies_once() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| {
        config.line("policy", "on_schema_change = \"stop\"")
    })?;
    rig.source(
        "create table t (id int primary key, a0 int); insert into t values (0, 0);
         create table other (id int primary key)",
    )?;
    rig.catch_up()?;
    let points = [
        ("commit-before-lock", false),
        ("commit-before-commit", false),
        ("commit-after", true),
        ("commit-answer-lost", true),
        ("acknowledge-before", true),
    ];
    let mut lsns = BTreeSet::new();
    for (round, (point, committed)) in points.into_iter().enumerate() {
        let (from, to) = (format!("a{round}"), format!("a{}", round + 1));
        state(
            &rig,
            &["rename-column", "public.t", &from, &to, "--id", point],
        )?;
        rig.source(&format!(
            "alter table t rename column {from} to {to}; insert into t values ({}, 1)",
            round + 1
        ))?;
        let mut command = rig.setup.command(&["run", "--until-caught-up"])?;
        command.env("DUCKFEEDER_TEST_FAILPOINT", point);
        let ended = rig.setup.run_command(command, PATIENCE)?;
        ensure!(
            ended.stderr.contains(&format!("failpoint=\"{point}\"")),
            "{point} was not reached"
        );
        let after_death = applied(&rig, point)?;
        ensure!(
            after_death.is_some() == committed,
            "{point}: {after_death:?}"
        );
        rig.catch_up()?;
        let at_last = applied(&rig, point)?.with_context(|| format!("{point} is pending"))?;
        ensure!(
            !committed || after_death.as_ref() == Some(&at_last),
            "{point}"
        );
        ensure!(lsns.insert(at_last), "{point} has the LSN of another");
        rig.oracle()?.check_all(&["t", "other"])?;
        ensure!(rig.lake_columns("t")? == ["id INTEGER".to_owned(), format!("{to} INTEGER")]);
    }
    let states = rig.pg.scalar(
        CATALOG,
        "select string_agg(state, ' ') from duckfeeder.tables where source_table = 't'",
    )?;
    ensure!(states.as_deref() == Some("streaming"), "{states:?}");
    Ok(())
}

/// States something, cancels it when its change is on its way into the lake, and expects the table in error.
fn cancelled_on_its_way(stated: &[&str], change: &str, refused: &str) -> Result<()> {
    let (rig, mut feeder) = strict()?;
    state(&rig, &[stated, &["--id", "one"]].concat())?;
    let mut blocker = rig.pg.connect(CATALOG)?;
    blocker.batch_execute("begin; select from duckfeeder.feeders for update")?;
    rig.source(change)?;
    wait("the change is followed", || {
        Ok(feeder.log().contains("the lake follows").then_some(()))
    })?;
    state(&rig, &["cancel", "one"])?;
    blocker.batch_execute("rollback")?;
    wait_for_error(&rig, &mut feeder, refused)?;
    ensure!(rig.lake_columns("t")? == ["id INTEGER", "a INTEGER", "b VARCHAR"]);
    ensure!(listed(&rig)?.is_empty());
    rig.source("insert into other values (1)")?;
    rig.wait_until_equal(&mut feeder, &["other"])?;
    feeder.terminate()
}

#[test]
fn what_is_cancelled_on_its_way_into_the_lake_is_judged_again() -> Result<()> {
    cancelled_on_its_way(
        &["rename-column", "public.t", "a", "x"],
        "alter table t rename column a to x; insert into t values (101, 1, 'b')",
        "\"a\" is \"x\" now",
    )
}

#[test]
fn what_is_cancelled_is_judged_again_where_the_lake_stays_as_it_is() -> Result<()> {
    // The checkpoint moves without a snapshot.
    cancelled_on_its_way(
        &["change-type", "public.t", "b", "varchar(80)"],
        "alter table t alter column b type varchar(80)",
        "\"b\" has another type",
    )
}

#[test]
fn an_operator_states_lists_and_cancels() -> Result<()> {
    let (rig, feeder) = fed()?;
    feeder.terminate()?;
    rig.source("create schema app; create type app.mood as enum ('good')")?;
    ensure!(state(&rig, &["list"])?.contains("nothing was stated"));
    let rename = ["rename-column", "public.t", "a", "x"];
    let named = [&rename[..], &["--id", "one"]].concat();
    ensure!(state(&rig, &named)?.starts_with("stated as one: rename-column a x of public.t"));
    ensure!(state(&rig, &named)?.starts_with("already stated as one"));
    ensure!(state(&rig, &rename)?.starts_with("already stated as one"));
    ensure!(listed(&rig)?.len() == 1);
    let other = [
        "schema",
        "rename-column",
        "public.t",
        "a",
        "y",
        "--id",
        "one",
    ];
    let refused = rig.setup.run(&other)?;
    refused.expect_code(2)?;
    refused.expect_message(&["rename-column a x of public.t", "rename-column a y", "--id"])?;

    for (wrong, parts) in [
        (
            vec!["rename-column", "public.nothing", "a", "x"],
            ["public.nothing", "public.other, public.t"],
        ),
        (vec!["rename-column", "t", "a", "x"], ["schema.table", "t"]),
        (
            vec!["rename-column", "public.t", "c", "y"],
            ["no column \"c\"", "id, a, b"],
        ),
        (
            vec!["rename-column", "public.t", "a", "b"],
            ["\"b\" already", "public.t"],
        ),
        (
            vec!["rename-column", "public.t", "a", "_df_op"],
            ["_df_op", "public.t"],
        ),
        (
            vec!["drop-column", "public.t", "X"],
            ["no column \"X\"", "id, a, b"],
        ),
        (
            vec!["change-type", "public.t", "a", "integer"],
            ["integer already", "public.t"],
        ),
        (
            vec!["change-type", "public.t", "a", "bigint; drop table t"],
            ["no type of the source", "drop table t"],
        ),
        (
            vec!["change-type", "public.t", "a", "20"],
            ["no type of the source", "\"20\""],
        ),
        (
            vec!["change-type", "public.t", "a", "mood"],
            ["no type of the source", "app.mood"],
        ),
        (
            vec!["change-type", "public.t", "a", "varchar(0)"],
            ["no type of the source", "varchar(0)"],
        ),
        (
            vec!["drop-column", "public.t", "a", "--id", " "],
            ["is no id", "200"],
        ),
        (
            vec!["cancel", "nothing"],
            ["no directive \"nothing\"", "schema list"],
        ),
    ] {
        let refused = rig.setup.run(&[&["schema"], &wrong[..]].concat())?;
        refused
            .expect_code(2)
            .with_context(|| format!("{wrong:?}"))?;
        refused.expect_message(&parts)?;
    }
    ensure!(rig.source("select 1 from t limit 1")?.len() == 1);

    for (index, (text, printed)) in [
        ("int8", "bigint"),
        ("varchar(21)", "character varying(21)"),
        ("decimal(10,2)", "numeric(10,2)"),
        ("timestamptz", "timestamp with time zone"),
        (
            "timestamp(3) without time zone",
            "timestamp(3) without time zone",
        ),
        ("float(20)[]", "real[]"),
        ("char", "character(1)"),
        ("app.\"mood\"", "app.mood"),
        ("interval day to second(2)", "interval day to second(2)"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("type {index}");
        state(&rig, &["change-type", "public.t", "b", text, "--id", &id])?;
        let listed = listed(&rig)?;
        let last = listed.last().context("it is listed")?;
        ensure!(
            last["change"]["to"] == printed && last["state"] == "pending",
            "{last}"
        );
        state(&rig, &["cancel", &id])?;
    }
    ensure!(listed(&rig)?.len() == 1);

    // Its column goes before the change came.
    rig.source("alter table t drop column a; insert into t values (101, 'b')")?;
    rig.catch_up()?;
    let text = state(&rig, &["list"])?;
    ensure!(
        text.contains("pending; may not come any more: there is no column \"a\""),
        "{text}"
    );
    rig.setup.run(&["teardown", "--yes"])?.expect_code(0)?;
    ensure!(listed(&rig)?.is_empty());
    Ok(())
}
