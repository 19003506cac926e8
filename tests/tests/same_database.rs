//! Source and catalog in one database: the lake's own tables are not fed, and nothing feeds itself.

use anyhow::{Result, ensure};
use duckfeeder_tests::{
    Lake, Options, Postgres,
    bank::{Bank, TABLES},
    compare::Oracle,
    feeder::{Config, Setup},
    lake::snapshots,
    postgres::SUPERUSER,
    tools::default_major,
};

use crate::rig::{PATIENCE, seed, wait};

/// A delta that the bank's own random ones never are.
const MARK: i32 = 1_000_000;

#[test]
fn a_lake_in_its_source_feeds_everything_but_itself() -> Result<()> {
    let pg = Postgres::start(default_major()?, &Options::default())?;
    pg.create_database("app")?;
    let bank = Bank::create(&pg, "app", 1, 2_000)?;
    // No catalog is named: it is the source's database, and its tables lie in the very schema that is fed.
    let setup = Setup::new(&Config::new(&pg.url(SUPERUSER, "app"), None))?;
    let lake = Lake::new(&pg, "app");
    let clients = bank.start(2, seed()?);
    let mut feeder = setup.spawn()?;
    let reset =
        "select count(distinct _df_op) = 1 from lake.raw.pgbench_history where _df_op = 'reset'";
    drop(lake.wait_for(reset, PATIENCE)?);
    clients.wait_for_more(200)?;
    clients.stop()?;
    let mut oracle = Oracle::open(&pg, "app", &lake)?;
    wait("the lake equals the source", || {
        feeder.expect_running()?;
        Ok(oracle.check_all(&TABLES).is_ok().then_some(()))
    })
    .or_else(|_| oracle.check_all(&TABLES))?;

    let tables = oracle
        .db()
        .query("select table_name from duckdb_tables() where database_name = 'lake' order by 1")?;
    let tables: Vec<_> = tables
        .rows
        .into_iter()
        .flatten()
        .flatten()
        .filter(|name| !name.starts_with("_df_"))
        .collect();
    ensure!(
        tables
            == [
                "pgbench_accounts",
                "pgbench_branches",
                "pgbench_history",
                "pgbench_tellers"
            ],
        "{tables:?}"
    );

    // One change more makes one snapshot more: its own commit did not wake the feeder up.
    for round in 0..5 {
        let before = snapshots(oracle.db())?.len();
        pg.sql(
            "app",
            &format!("insert into pgbench_history (tid, delta) values ({round}, {MARK})"),
        )?;
        wait("the change arrives", || {
            let seen = format!(
                "select count(*) from lake.raw.pgbench_history where delta = {MARK} and tid = {round}"
            );
            Ok((oracle.db().int(&seen)? == 1).then_some(()))
        })?;
        let after = snapshots(oracle.db())?.len();
        ensure!(
            after == before + 1,
            "{} snapshots for one change",
            after - before
        );
    }
    feeder.terminate()
}
