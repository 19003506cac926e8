//! An idle feeder does not hold back WAL, and does not keep itself busy.

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{Options, lake::snapshots};
use std::time::{Duration, Instant};

use crate::rig::{Rig, SOURCE, size};

/// The promise.
const LIMIT: Duration = Duration::from_mins(2);

/// Neither needs a heartbeat of ours: the walsender tells in keepalives how far it has read.
#[test]
fn wal_of_another_database_is_not_held_back_by_an_idle_table() -> Result<()> {
    unrelated_wal_is_let_go(&Rig::new()?, "busy")
}

#[test]
fn wal_of_other_tables_is_not_held_back_by_an_idle_table() -> Result<()> {
    // The oldest and the newest tell it in different ways.
    for major in [14, 18] {
        let rig = Rig::with_major(major, &Options::default(), |config| {
            config.tables(&["public.quiet"])
        })?;
        unrelated_wal_is_let_go(&rig, SOURCE)?;
    }
    Ok(())
}

fn unrelated_wal_is_let_go(rig: &Rig, busy: &str) -> Result<()> {
    rig.source("create table quiet (id int primary key); insert into quiet values (1)")?;
    if busy != SOURCE {
        rig.pg.create_database(busy)?;
    }
    let mut feeder = rig.stream(&["quiet"])?;
    let made = snapshots(&mut rig.lake.open()?)?;

    let mib = size(96, 1024);
    rig.pg.sql(busy, "create table filler (i int, t text)")?;
    for _ in 0..mib / 32 {
        rig.pg.sql(
            busy,
            "insert into filler select g, repeat('x', 1000) from generate_series(1, 31000) g",
        )?;
    }
    let written = rig
        .pg
        .scalar(SOURCE, "select pg_current_wal_lsn()")?
        .context("a position")?;
    let begun = Instant::now();
    let retained = "pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) < 32 * 1024 * 1024";
    let behind = format!("{retained} and confirmed_flush_lsn >= '{written}'");
    feeder.wait_until("the slot lets go of the WAL", LIMIT, || {
        Ok((rig.slot(&format!("({behind})"))?.as_deref() == Some("true")).then_some(()))
    })?;
    println!("{mib} MiB were let go after {:?}", begun.elapsed());
    // Progress without changes makes no snapshots of the lake.
    let now = snapshots(&mut rig.lake.open()?)?;
    ensure!(
        now.len() == made.len(),
        "{} snapshots became {}",
        made.len(),
        now.len()
    );
    feeder.terminate()
}
