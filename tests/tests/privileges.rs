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
