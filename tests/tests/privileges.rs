//! The least that a role needs, and what is refused when something is lacking.

use anyhow::{Result, ensure};
use duckfeeder_tests::{
    Options,
    bank::{Bank, TABLES},
    feeder::Config,
    postgres::connect,
};

use crate::rig::{CATALOG, Rig, SOURCE, seed};

#[test]
fn login_replication_and_select_are_enough_when_the_dba_made_the_publication() -> Result<()> {
    let options = Options::default()
        .hba("host all all 127.0.0.1/32 scram-sha-256")
        .hba("host replication all 127.0.0.1/32 scram-sha-256");
    let rig = Rig::with(&options, |config| config)?;
    let bank = Bank::create(&rig.pg, SOURCE, 1, 2_000)?;
    rig.source(
        "create role feeder login replication password 'a ''quoted'' secret';
         grant select on all tables in schema public to feeder;
         create publication duckfeeder_test for table pgbench_accounts, pgbench_branches, pgbench_tellers
             with (publish_via_partition_root = true);
         create publication duckfeeder_test_ins for table pgbench_history
             with (publish = 'insert, truncate', publish_via_partition_root = true);
         revoke create on schema public from public",
    )?;
    rig.pg.sql(
        CATALOG,
        &format!(
            "grant create on database {CATALOG} to feeder; grant all on schema public to feeder"
        ),
    )?;
    let user = "feeder:a%20%27quoted%27%20secret";
    let config = Config::new(&rig.pg.url(user, SOURCE), Some(&rig.pg.url(user, CATALOG)))
        .line("source", "manage_publication = false");
    rig.setup.configure(&config)?;

    let clients = bank.start(2, seed()?);
    let mut feeder = rig.stream(&TABLES)?;
    clients.wait_for_more(100)?;
    clients.stop()?;
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    ensure!(
        !feeder.log().contains("quoted"),
        "the password is in the log"
    );
    feeder.terminate()
}

#[test]
fn a_publication_that_lacks_a_table_is_refused_by_name() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| {
        config.line("source", "manage_publication = false")
    })?;
    rig.source(
        "create table here (id int primary key); create table lacking (id int primary key);
         create publication duckfeeder_test for table here with (publish_via_partition_root = true)",
    )?;
    rig.setup
        .run(&["run"])?
        .expect_code(3)?
        .expect_message(&["lacking", "duckfeeder_test"])?;
    Ok(())
}

#[test]
fn a_row_level_security_table_is_refused_and_not_half_copied() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create role feeder login replication;
         create table secrets (id int primary key, owner text);
         insert into secrets values (1, 'feeder'), (2, 'somebody');
         alter table secrets enable row level security;
         create policy own on secrets using (owner = current_user);
         grant select on secrets to feeder; grant create on database source_db to feeder;
         create publication duckfeeder_test for table secrets with (publish_via_partition_root = true)",
    )?;
    rig.pg.sql(
        CATALOG,
        &format!(
            "grant create on database {CATALOG} to feeder; grant all on schema public to feeder"
        ),
    )?;
    let mut feeder = connect(&rig.pg.url("feeder", SOURCE))?;
    ensure!(
        feeder
            .simple_query("select from secrets where id = 2")
            .is_ok(),
        "the policy hides rows, it does not fail"
    );
    let config = Config::new(
        &rig.pg.url("feeder", SOURCE),
        Some(&rig.pg.url("feeder", CATALOG)),
    )
    .line("source", "manage_publication = false");
    rig.setup.configure(&config)?;
    rig.setup
        .run(&["run"])?
        .expect_code(3)?
        .expect_message(&["secrets", "row-level security"])?;
    Ok(())
}

/// What `check --sql` prints, statements by the database that they are for.
fn mend(rig: &Rig, script: &str) -> Result<()> {
    let mut database = SOURCE;
    let mut statements: Vec<(&str, String)> = Vec::new();
    for line in script.lines() {
        if let Some(comment) = line.strip_prefix("-- ") {
            if !comment.starts_with("remedy: ") {
                database = if comment.starts_with("catalog") {
                    CATALOG
                } else {
                    SOURCE
                };
            }
        } else if !line.is_empty() {
            statements.push((database, line.to_owned()));
        }
    }
    ensure!(!statements.is_empty(), "nothing to run: {script}");
    for (database, statement) in statements {
        println!("{database}: {statement}");
        rig.pg.sql(database, &statement)?;
    }
    Ok(())
}

fn as_feeder(rig: &Rig, change: impl FnOnce(Config) -> Config) -> Result<()> {
    rig.setup.configure(&change(Config::new(
        &rig.pg.url("feeder", SOURCE),
        Some(&rig.pg.url("feeder", CATALOG)),
    )))
}

#[test]
fn what_check_prints_for_a_role_that_may_nothing_is_enough() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create table orders (id int primary key, v text);
         insert into public.orders values (1, 'a'); create role feeder login",
    )?;
    as_feeder(&rig, |config| config)?;
    rig.setup
        .run(&["check"])?
        .expect_code(1)?
        .expect_message(&[
            "role feeder may not replicate",
            "role feeder may not read public.orders",
            "role feeder may not make a publication in database source_db",
            "role feeder is not that of table public.orders",
            "role feeder may not make a lake in schema public of database lake_db",
            "there are no control tables, and role feeder may not make them in database lake_db",
        ])?;
    let script = rig.setup.run(&["check", "--sql"])?;
    mend(&rig, &script.expect_code(1)?.stdout)?;
    rig.setup.run(&["check"])?.expect_code(0)?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["orders"])?;

    // A publication that is there and somebody else's; a lake and control tables that are there and closed.
    rig.source(
        "alter publication duckfeeder_test owner to postgres; alter table public.orders owner to postgres;
         grant select on public.orders to feeder",
    )?;
    rig.setup.run(&["check"])?.expect_code(0)?;
    rig.source(
        "create table public.more (id int primary key); alter table public.more owner to feeder",
    )?;
    rig.pg.sql(
        CATALOG,
        "revoke update on ducklake_snapshot from feeder; revoke delete on duckfeeder.pending_files from feeder",
    )?;
    for (command, code) in [("check", 1), ("run", 4)] {
        rig.setup
            .run(&[command])?
            .expect_code(code)?
            .expect_message(&["role feeder may not read and write the tables of the lake"])?;
    }
    let script = rig.setup.run(&["check", "--sql"])?;
    script.expect_code(1)?.expect_message(&[
        "role feeder is not that of publication duckfeeder_test",
        "role feeder may not read and write the control tables",
    ])?;
    mend(&rig, &script.stdout)?;
    rig.setup.run(&["check"])?.expect_code(0)?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["orders", "more"])
}

#[test]
fn control_tables_that_a_dba_is_to_make_are_printed() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create table t (id int primary key); create role feeder login replication; alter table t owner to feeder;
         grant create on database source_db to feeder",
    )?;
    rig.pg
        .sql(CATALOG, "grant all on schema public to feeder")?;
    as_feeder(&rig, |config| config.line("catalog", "migrate = false"))?;
    let script = rig.setup.run(&["check", "--sql"])?;
    script
        .expect_code(1)?
        .expect_message(&["there are no control tables, and catalog.migrate is false"])?;
    rig.pg.sql(CATALOG, &script.stdout)?;
    rig.setup.run(&["check"])?.expect_code(0)?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["t"])
}

#[test]
fn a_source_without_a_free_walsender_is_said_to_be_one() -> Result<()> {
    let rig = Rig::with(
        &Options::default().setting("max_wal_senders", "0"),
        |config| config,
    )?;
    rig.source("create table t (id int primary key)")?;
    rig.setup
        .run(&["check"])?
        .expect_code(1)?
        .expect_message(&[
            "all 0 walsenders are in use",
            "ALTER SYSTEM SET max_wal_senders = 2;",
            // It looks on.
            "1 tables to feed",
        ])?;
    Ok(())
}
