//! The process is killed at random instants; afterwards nothing is lost and nothing is there twice.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use duckfeeder_tests::{
    Feeder,
    bank::{Bank, FULL_BRANCH, TABLES},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::rig::{Rig, SOURCE, seed, size};

/// How many copies of the accounts are in the lake.
fn copies(rig: &Rig) -> i64 {
    let count = "select count(*) from lake.raw.pgbench_accounts where _df_op = 'reset'";
    // Before the first one there may be no lake to attach.
    rig.lake
        .open()
        .and_then(|mut db| db.int(count))
        .unwrap_or_default()
}

/// Lets a feeder live for a random time of less than `longest` milliseconds.
fn kill_within(rng: &mut StdRng, longest: u64, feeder: &mut Feeder) -> Result<()> {
    let life = Duration::from_millis(rng.random_range(20..longest));
    thread::sleep(life);
    println!("a kill after {life:?}");
    feeder.expect_running()
}

#[test]
fn kills_at_random_instants_lose_and_repeat_nothing() -> Result<()> {
    let seed = seed()?;
    let mut rng = StdRng::seed_from_u64(seed);
    let rig = Rig::new()?;
    let bank = Bank::create(&rig.pg, SOURCE, size(1, 10), size(50_000, FULL_BRANCH))?;
    let clients = bank.start(4, seed);
    clients.wait_for_more(20)?;

    // Inside the first copy: each life ends before the accounts are in the lake.
    let (mut in_copy, mut lives, wanted_in_copy) = (0, 0, size(3, 40));
    while in_copy < wanted_in_copy {
        lives += 1;
        ensure!(
            lives < 10 * wanted_in_copy,
            "only {in_copy} of {lives} kills hit the first copy"
        );
        let before = copies(&rig);
        let mut feeder = rig.setup.spawn()?;
        kill_within(&mut rng, 700, &mut feeder)?;
        feeder.kill()?;
        if copies(&rig) == before {
            in_copy += 1;
        } else {
            // Too late: the next kills are to meet a copy again.
            rig.setup
                .run(&["resync", "public.pgbench_accounts"])?
                .expect_code(0)?;
        }
    }
    // While streaming, at any point of the way from the start to the steady state.
    let mut feeder = rig.stream(&TABLES)?;
    for _ in 0..size(4, 160) {
        kill_within(&mut rng, 2_500, &mut feeder)?;
        feeder.kill()?;
        lives += 1;
        feeder = rig.setup.spawn()?;
    }
    feeder.kill()?;
    clients.wait_for_more(20)?;
    let committed = clients.stop()?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&TABLES)?;
    println!("{lives} kills, {in_copy} of them inside the first copy, {committed} transactions");
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
