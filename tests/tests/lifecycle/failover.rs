//! Another server behind the same address: standbys, promotions, backups.

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{Options, Postgres, process::Signal};

use super::{
    Apart, MAKE_TABLES, TABLES, change, checkpoint, expect_log, expect_stop, start_anew,
    wait_for_log,
};
use crate::rig::{CATALOG, Rig, SOURCE, wait};

impl Apart {
    /// The address leads to another server from now on.
    fn move_to(&mut self, other: Postgres) -> Postgres {
        self.proxy.move_to(other.port());
        std::mem::replace(&mut self.source, other)
    }

    fn timeline(&self) -> Result<String> {
        let sql = "select timeline::text from duckfeeder.feeders";
        self.rig.pg.scalar(CATALOG, sql)?.context("no feeder")
    }
}

#[test]
fn a_standby_is_refused_at_the_start() -> Result<()> {
    let mut apart = Apart::new(&Options::default())?;
    let standby = apart.source.standby()?;
    apart.move_to(standby);
    expect_stop(
        &apart.rig,
        &["standby in recovery", "point source.url at the primary"],
    )
}

/// Postgres 17 keeps a slot made with `failover` in step on standbys.
#[test]
fn a_failover_with_its_slot_is_followed() -> Result<()> {
    let mut apart = Apart::with_major(17, &Options::default())?;
    apart.source.sql(
        SOURCE,
        "select pg_create_logical_replication_slot('duckfeeder_test', 'pgoutput', false, false, true)",
    )?;
    let standby = apart.source.standby()?;
    let mut feeder = apart.rig.stream(&TABLES)?;
    apart.change()?;
    apart.wait_until_equal(&mut feeder)?;
    wait("the slot is in step on the standby", || {
        apart.change()?;
        apart
            .source
            .sql("postgres", "select pg_log_standby_snapshot()")?;
        standby
            .sql("postgres", "select pg_sync_replication_slots()")
            .ok();
        let sql = "select synced and not temporary from pg_replication_slots where slot_name = 'duckfeeder_test'";
        let synced = standby.sql("postgres", sql)?;
        Ok((synced == [[Some("t".to_owned())]]).then_some(()))
    })?;
    apart.wait_until_equal(&mut feeder)?;
    apart.source.wait_for_standby(&standby)?;
    let mut old = apart.move_to(standby);
    wait_for_log(&mut feeder, "the source is a standby in recovery")?;
    old.stop(Signal::Quit)?;
    apart.source.promote()?;
    apart.change()?;
    apart.wait_until_equal(&mut feeder)?;
    expect_log(&feeder, &["the source failed over"])?;
    ensure!(apart.timeline()? == "2");
    feeder.terminate()?;

    // And a restart on the new timeline finds nothing to complain about.
    apart.change()?;
    apart.rig.catch_up()?;
    super::equal(&apart.rig, &apart.source)
}

#[test]
fn a_failover_without_the_slot_stops() -> Result<()> {
    let mut apart = Apart::new(&Options::default())?;
    let standby = apart.source.standby()?;
    apart.rig.catch_up()?;
    apart.change()?;
    apart.rig.catch_up()?;
    apart.source.wait_for_standby(&standby)?;
    let mut old = apart.move_to(standby);
    old.stop(Signal::Quit)?;
    apart.source.promote()?;
    apart.change()?;
    let from = checkpoint(&apart.rig)?;
    expect_stop(
        &apart.rig,
        &[
            "slot duckfeeder_test is gone",
            &format!("from {from} on"),
            "public.a, public.b",
            "duckfeeder teardown",
        ],
    )?;
    start_anew(&apart.rig)?;
    ensure!(apart.timeline()? == "2");
    super::equal(&apart.rig, &apart.source)
}

#[test]
fn a_failover_to_a_standby_that_was_behind_stops() -> Result<()> {
    let mut apart = Apart::new(&Options::default())?;
    let mut standby = apart.source.standby()?;
    apart.rig.catch_up()?;
    standby.stop(Signal::Int)?;
    apart.change()?;
    apart.rig.catch_up()?;
    apart.source.stop(Signal::Quit)?;
    standby.start_again()?;
    apart.move_to(standby);
    apart.source.promote()?;
    // More than the old primary had: the positions alone tell nothing.
    apart.source.sql(
        SOURCE,
        "insert into a select i from generate_series(1000, 20000) i",
    )?;
    let to = checkpoint(&apart.rig)?;
    expect_stop(
        &apart.rig,
        &[
            "timeline 2, which left timeline 1 at",
            &format!("to {to} that the source does not have"),
            "public.a, public.b",
            "duckfeeder teardown",
        ],
    )?;
    start_anew(&apart.rig)?;
    super::equal(&apart.rig, &apart.source)
}

#[test]
fn a_source_that_was_restored_from_a_backup_stops() -> Result<()> {
    let mut apart = Apart::new(&Options::default())?;
    apart.rig.catch_up()?;
    let mut backup = apart.source.copy(&Options::default())?;
    apart.change()?;
    // So that the start of the backup does not write as much.
    apart.source.sql(
        SOURCE,
        "insert into b select i from generate_series(1000, 20000) i",
    )?;
    apart.rig.catch_up()?;
    backup.start_again()?;
    apart.move_to(backup);
    let to = checkpoint(&apart.rig)?;
    expect_stop(
        &apart.rig,
        &[
            "restored from a backup",
            &format!("to {to} that the source does not have"),
            "public.a, public.b",
            "duckfeeder teardown",
        ],
    )?;
    start_anew_in_new_lake_tables(&apart.rig)?;
    apart.change()?;
    apart.rig.catch_up()?;
    super::equal(&apart.rig, &apart.source)
}

/// The changelogs are ordered by LSN: what the lake has would come after the new copies.
fn start_anew_in_new_lake_tables(rig: &Rig) -> Result<()> {
    rig.setup.run(&["teardown", "--yes"])?.expect_code(0)?;
    let before = rig
        .lake
        .open()?
        .int("select max(snapshot_id) from lake.snapshots()")?;
    let drops = TABLES.map(|table| format!("DROP TABLE lake.\"raw\".\"{table}\";"));
    expect_stop(
        rig,
        &[
            "the old changes would be replayed after the new copies",
            &drops.join(" "),
        ],
    )?;
    rig.lake.open()?.execute(&drops.concat())?;
    rig.catch_up()?;
    let old = format!("select count(*) from lake.raw.a at (version => {before})");
    ensure!(
        rig.lake.open()?.int(&old)? > 0,
        "the old snapshots are gone"
    );
    Ok(())
}

#[test]
fn another_server_at_the_same_address_stops() -> Result<()> {
    let mut apart = Apart::new(&Options::default())?;
    apart.rig.catch_up()?;
    // Clusters of one version are copies of one, and have its identifier.
    let major = if apart.source.major() == 17 { 16 } else { 17 };
    let other = Postgres::start(major, &Options::default())?;
    other.create_database(SOURCE)?;
    // As after a dump and restore: the same tables with other OIDs.
    other.sql(SOURCE, "create table earlier (id int); drop table earlier")?;
    other.sql(SOURCE, MAKE_TABLES)?;
    change(&other)?;
    // Its positions are beyond those of the old one; where they are not, see the restored source above.
    for _ in 0..3 {
        other.sql(SOURCE, "select pg_switch_wal()")?;
        change(&other)?;
    }
    apart.move_to(other);
    expect_stop(
        &apart.rig,
        &[
            "another server",
            "public.a, public.b",
            "duckfeeder teardown",
        ],
    )?;
    start_anew(&apart.rig)?;
    super::equal(&apart.rig, &apart.source)
}
