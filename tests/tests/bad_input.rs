//! Bad input: each stops before anything is created, with one message that names the object and the
//! remedy, and with the documented exit code.

use std::fs;

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{Options, feeder::Config, postgres::SUPERUSER};

use crate::rig::{CATALOG, Rig, SOURCE};

/// Usage or configuration.
const CONFIGURATION: i32 = 2;
/// A permanent error at the source.
const AT_SOURCE: i32 = 3;
/// A permanent error at the catalog or the store.
const AT_LAKE: i32 = 4;

fn config(rig: &Rig) -> Config {
    Config::new(
        &rig.pg.url(SUPERUSER, SOURCE),
        Some(&rig.pg.url(SUPERUSER, CATALOG)),
    )
}

/// Runs the feeder, which must stop at once with this code and say these words, having made nothing.
fn expect_refusal(rig: &Rig, config: &Config, code: i32, words: &[&str]) -> Result<()> {
    rig.setup.configure(config)?;
    let ended = rig.setup.run(&["run"])?;
    ended.expect_code(code)?.expect_message(words)?;
    rig.expect_nothing_created().context(ended.stderr.clone())
}

/// A name for the case, the configuration, and the words that the message must say.
type Case<'a> = (&'a str, Config, &'a [&'a str]);

/// [`expect_refusal`] of several; reports all that were not refused as they should be.
fn expect_refusals(rig: &Rig, code: i32, cases: &[Case<'_>]) -> Result<()> {
    let mut wrong = Vec::new();
    for (what, config, words) in cases {
        if let Err(error) = expect_refusal(rig, config, code, words) {
            wrong.push(format!("{what}: {error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn configuration() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key)")?;
    expect_refusals(
        &rig,
        CONFIGURATION,
        &[
            (
                "an unknown key",
                config(&rig).line("flush", "intervall = \"1s\""),
                &["intervall", "interval"],
            ),
            (
                "a wrong type",
                config(&rig).line("flush", "max_rows = \"many\""),
                &["max_rows"],
            ),
            (
                "a bad value",
                config(&rig).line("source", "keyless = \"maybe\""),
                &["keyless", "refuse"],
            ),
            (
                "a bad URL",
                config(&rig).line("source", "url = \"mysql://x\""),
                &["source.url", "postgres://"],
            ),
            (
                "a bad name",
                config(&rig).line("", "name = \"Shop!\""),
                &["name", "Shop!"],
            ),
        ],
    )?;
    fs::write(rig.setup.config_file(), "name = ")?;
    rig.setup
        .run(&["run"])?
        .expect_code(CONFIGURATION)?
        .expect_message(&["duckfeeder.toml"])?;
    rig.setup.run(&["fly"])?.expect_code(CONFIGURATION)?;
    Ok(())
}

#[test]
fn source() -> Result<()> {
    let options = Options::default()
        .hba("host all all 127.0.0.1/32 scram-sha-256")
        .hba("host replication all 127.0.0.1/32 scram-sha-256");
    let rig = Rig::with(&options, |config| config)?;
    rig.source(
        "create role feeder login replication password 'right';
         create role mere login password 'right';
         create table t (id int primary key); grant select on t to feeder, mere;
         create table hidden (id int primary key);
         create table \"Twice\" (id int primary key); create table twice (id int primary key);
         create table columns (id int primary key, \"ID\" int);
         create unlogged table fast (id int primary key);
         create table parent (id int primary key); create table child () inherits (parent)",
    )?;
    let catalog = rig.pg.url(SUPERUSER, CATALOG);
    let with = |user: &str, tables: &[&str]| {
        Config::new(&rig.pg.url(user, SOURCE), Some(&catalog)).tables(tables)
    };
    let root = |tables: &[&str]| with(SUPERUSER, tables);
    let nowhere = rig.pg.url(SUPERUSER, "nowhere");
    // What the configuration names and the source does not have is the configuration's mistake.
    expect_refusals(
        &rig,
        CONFIGURATION,
        &[
            (
                "a missing table",
                root(&["public.missing"]),
                &["public.missing"],
            ),
            (
                "a glob that matches nothing",
                root(&["nowhere.*"]),
                &["nowhere.*"],
            ),
            (
                "tables that collide",
                root(&["public.Twice", "public.twice"]),
                &["twice"],
            ),
        ],
    )?;
    expect_refusals(
        &rig,
        AT_SOURCE,
        &[
            (
                "a wrong password",
                with("feeder:wrong", &["public.t"]),
                &["password", "feeder"],
            ),
            (
                "no database",
                Config::new(&nowhere, Some(&catalog)),
                &["nowhere"],
            ),
            (
                "no REPLICATION",
                with("mere:right", &["public.t"]),
                &["mere", "replication"],
            ),
            (
                "no SELECT",
                with("feeder:right", &["public.hidden"]),
                &["hidden", "select"],
            ),
            (
                "columns that collide",
                root(&["public.columns"]),
                &["columns", "ID"],
            ),
            (
                "an unlogged table",
                root(&["public.fast"]),
                &["public.fast", "unlogged", "SET LOGGED"],
            ),
            (
                "a table with inheritance children",
                root(&["public.parent"]),
                &["public.parent", "inheritance children", "feed the children"],
            ),
        ],
    )
}

#[test]
fn a_server_without_logical_wal() -> Result<()> {
    let rig = Rig::with(
        &Options::default().setting("wal_level", "replica"),
        |config| config,
    )?;
    rig.source("create table t (id int primary key)")?;
    expect_refusal(&rig, &config(&rig), AT_SOURCE, &["wal_level", "logical"])
}

#[test]
fn slots_that_are_not_ours() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key)")?;
    let make = |database: &str, call: &str| rig.pg.sql(database, &format!("select {call}"));
    let cases = [
        (
            "another plugin",
            SOURCE,
            "pg_create_logical_replication_slot('duckfeeder_test', 'test_decoding')",
            "test_decoding",
        ),
        (
            "another database",
            CATALOG,
            "pg_create_logical_replication_slot('duckfeeder_test', 'pgoutput')",
            CATALOG,
        ),
        (
            "two-phase",
            SOURCE,
            "pg_create_logical_replication_slot('duckfeeder_test', 'pgoutput', false, true)",
            "two-phase",
        ),
        (
            "physical",
            SOURCE,
            "pg_create_physical_replication_slot('duckfeeder_test')",
            "physical",
        ),
    ];
    for (what, database, call, word) in cases {
        make(database, call).context(what)?;
        let ended = rig.setup.run(&["run"])?;
        ended
            .expect_code(AT_SOURCE)
            .and_then(|ended| ended.expect_message(&["duckfeeder_test", word]))
            .context(what)?;
        make(SOURCE, "pg_drop_replication_slot('duckfeeder_test')").context(what)?;
        rig.expect_nothing_created().context(what)?;
    }
    Ok(())
}

#[test]
fn a_slot_in_use() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key)")?;
    let feeder = rig.stream(&["t"])?;
    let second = config(&rig)
        .line("", "name = \"second\"")
        .line("source", "slot = \"duckfeeder_test\"");
    rig.setup.configure(&second)?;
    rig.setup
        .run(&["run"])?
        .expect_code(AT_SOURCE)?
        .expect_message(&["duckfeeder_test"])?;
    feeder.terminate()
}

#[test]
fn catalog_and_store() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key)")?;
    // Not even root can make a folder there.
    expect_refusal(
        &rig,
        &config(&rig).line("storage", "url = \"file:///proc/duckfeeder-lake\""),
        AT_LAKE,
        &["/proc/duckfeeder-lake"],
    )
    .context("a store that cannot be written")?;
    let nowhere = Config::new(
        &rig.pg.url(SUPERUSER, SOURCE),
        Some(&rig.pg.url(SUPERUSER, "nowhere")),
    );
    expect_refusal(&rig, &nowhere, AT_LAKE, &["nowhere"]).context("no such catalog")?;

    rig.setup.configure(&config(&rig))?;
    rig.catch_up()?;
    let elsewhere = format!(
        "url = \"file://{}/elsewhere\"",
        rig.setup.lake_dir().display()
    );
    rig.setup
        .configure(&config(&rig).line("storage", &elsewhere))?;
    rig.setup
        .run(&["run"])?
        .expect_code(AT_LAKE)?
        .expect_message(&["elsewhere", "storage.url"])?;

    rig.setup.configure(&config(&rig))?;
    rig.pg.sql(
        CATALOG,
        "update ducklake_metadata set value = '0.3' where key = 'version'",
    )?;
    rig.setup
        .run(&["run"])?
        .expect_code(AT_LAKE)?
        .expect_message(&["0.3", "1.0"])?;
    Ok(())
}

#[test]
fn a_publication_of_everything_in_the_catalogs_database() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key)")?;
    rig.pg
        .sql(CATALOG, "create publication everything for all tables")?;
    rig.setup
        .run(&["check"])?
        .expect_code(1)?
        .expect_message(&["everything"])?;
    Ok(())
}
