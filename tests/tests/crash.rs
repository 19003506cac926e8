//! The process is killed at random instants; afterwards nothing is lost and nothing is there twice.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use duckfeeder_tests::bank::{Bank, FULL_BRANCH, TABLES};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::rig::{Rig, SOURCE, seed, size};

/// Whether the first copy of the accounts is in the lake.
fn copied(rig: &Rig) -> bool {
    let exists = "select exists (from lake.raw.pgbench_accounts where _df_op = 'reset')";
    rig.lake
        .open()
        .and_then(|mut db| db.scalar(exists))
        .is_ok_and(|found| found.as_deref() == Some("true"))
}

#[test]
fn kills_at_random_instants_lose_and_repeat_nothing() -> Result<()> {
    let seed = seed()?;
    let mut rng = StdRng::seed_from_u64(seed);
    let rig = Rig::new()?;
    let bank = Bank::create(&rig.pg, SOURCE, size(1, 10), size(50_000, FULL_BRANCH))?;
    let clients = bank.start(4, seed);
    clients.wait_for_more(20)?;

    let (wanted_in_copy, wanted) = size((2, 6), (10, 30));
    let mut in_copy = 0;
    let mut kills = 0;
    while in_copy < wanted_in_copy || kills < wanted {
        ensure!(
            kills < 4 * wanted,
            "{kills} kills, but only {in_copy} inside the first copy"
        );
        let inside = !copied(&rig);
        // As long as the copy is to be met, shorter and shorter lives; later, any.
        let longest = if inside && in_copy < wanted_in_copy {
            600
        } else {
            2_500
        };
        let life = Duration::from_millis(rng.random_range(20..longest));
        let mut feeder = rig.setup.spawn()?;
        thread::sleep(life);
        feeder.expect_running()?;
        feeder.kill()?;
        kills += 1;
        let still_inside = inside && !copied(&rig);
        in_copy += u32::from(still_inside);
        println!(
            "kill {kills} after {life:?}, {}",
            if still_inside {
                "inside the first copy"
            } else {
                "while streaming"
            }
        );
    }
    clients.wait_for_more(20)?;
    let committed = clients.stop()?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&TABLES)?;
    println!("{kills} kills ({in_copy} inside the first copy), {committed} transactions");
    Ok(())
}

#[test]
fn a_crash_of_the_source_is_survived() -> Result<()> {
    let mut rig = Rig::new()?;
    Bank::create(&rig.pg, SOURCE, 1, 1_000)?;
    let mut feeder = rig.stream(&TABLES)?;
    for round in 0..3 {
        rig.source(&format!(
            "insert into pgbench_history (tid, delta) values (1, {round})"
        ))?;
        rig.pg.crash()?;
        rig.source("update pgbench_accounts set abalance = abalance + 1 where aid < 10")?;
    }
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    feeder.terminate()
}

#[test]
fn sigterm_under_load_ends_in_order_and_repeats_nothing() -> Result<()> {
    let rig = Rig::new()?;
    let bank = Bank::create(&rig.pg, SOURCE, 1, 10_000)?;
    let clients = bank.start(4, seed()?);
    for round in 0..size(3, 10) {
        let mut feeder = rig.stream(&TABLES)?;
        clients.wait_for_more(100)?;
        feeder.expect_running()?;
        feeder.terminate()?;
        // What it had received is committed and acknowledged: the slot is at the checkpoint, no more, no less.
        let acknowledged = rig.slot("confirmed_flush_lsn")?;
        ensure!(
            acknowledged.is_some(),
            "round {round}: nothing is acknowledged"
        );
        let active = rig.slot("active")?;
        ensure!(
            active.as_deref() == Some("false"),
            "round {round}: the slot is still in use"
        );
    }
    clients.stop()?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&TABLES)
}
