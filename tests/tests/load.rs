//! A bank under load: copied while it is written to, every snapshot a consistent cut, memory bounded.

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{
    Options,
    bank::{Bank, FULL_BRANCH, TABLES, sums_at},
    compare::Oracle,
    lake::snapshots,
};

use crate::rig::{PATIENCE, Rig, SOURCE, seed, size};

/// In every snapshot that says it is complete, what was taken from one place was given to another.
pub(crate) fn expect_consistent_cuts(oracle: &mut Oracle, at_least: usize) -> Result<()> {
    let complete: Vec<_> = snapshots(oracle.db())?
        .into_iter()
        .filter(duckfeeder_tests::lake::Snapshot::complete)
        .collect();
    ensure!(
        complete.len() >= at_least,
        "only {} complete snapshots",
        complete.len()
    );
    for snapshot in &complete {
        let sums = sums_at(oracle.db(), snapshot.id)?;
        ensure!(sums.len() == 4, "four sums: {sums:?}");
        ensure!(
            sums.iter()
                .all(|sum| sum.is_some() && sum == sums.first().unwrap_or(&None)),
            "snapshot {} ({}) is no consistent cut: {sums:?}",
            snapshot.id,
            snapshot.info
        );
    }
    println!("{} complete snapshots are consistent cuts", complete.len());
    Ok(())
}

#[test]
fn a_bank_that_is_copied_under_load_equals_its_source() -> Result<()> {
    for round in 0..size(1, 10) {
        let rig = Rig::new()?;
        let bank = Bank::create(&rig.pg, SOURCE, size(1, 10), size(20_000, FULL_BRANCH))?;
        let clients = bank.start(4, seed()?.wrapping_add(round));
        clients.wait_for_more(50)?;
        let mut feeder = rig.stream(&TABLES)?;
        clients.wait_for_more(size(300, 5_000))?;
        feeder.expect_running()?;
        let committed = clients.stop()?;
        feeder.terminate()?;
        rig.catch_up()?;
        let mut oracle = rig.oracle()?;
        oracle.check_all(&TABLES)?;
        expect_consistent_cuts(&mut oracle, 2)?;
        println!("round {round}: {committed} transactions");
    }
    Ok(())
}

#[test]
fn catching_up_while_the_bank_is_open_ends() -> Result<()> {
    let rig = Rig::new()?;
    let bank = Bank::create(&rig.pg, SOURCE, 1, 1_000)?;
    let clients = bank.start(2, seed()?);
    clients.wait_for_more(20)?;
    // The end that counts is that of the start: it must not run after the writers for ever.
    rig.setup.catch_up(PATIENCE)?;
    ensure!(clients.committed() > 20, "the bank was closed");
    clients.stop()?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&TABLES)
}

#[test]
fn a_large_transaction_stays_within_the_memory_budget_and_is_one_snapshot() -> Result<()> {
    let (rows, budget): (u64, u64) = size((200_000, 64), (2_000_000, 256));
    // What a process of ours needs beside the budget: code, runtime, Parquet encoders, the allocator's slack.
    let constant: u64 = 192;
    let rig = Rig::with(&Options::default(), |config| {
        config.line("limits", &format!("memory = \"{budget}MiB\""))
    })?;
    rig.source("create table events (id bigint primary key, kind text, payload text)")?;
    let mut feeder = rig.stream(&["events"])?;
    rig.source(&format!(
        "insert into events select g, 'kind ' || g % 7, md5(g::text) || md5((g + 1)::text) from generate_series(1, {rows}) g"
    ))?;
    rig.wait_for(
        &mut feeder,
        &format!("(select count(*) = {rows} from lake.raw.events where _df_op = 'insert')"),
    )?;
    let peak = feeder.peak_memory()? / (1 << 20);
    println!("peak memory {peak} MiB of a budget of {budget} MiB and a constant of {constant} MiB");
    ensure!(peak <= budget + constant, "peak memory {peak} MiB");
    feeder.terminate()?;

    let mut oracle = rig.oracle()?;
    oracle.check_all(&["events"])?;
    let counts = snapshots(oracle.db())?
        .iter()
        .map(|snapshot| {
            let at = format!(
                "select count(*) from lake.raw.events at (version => {}) where _df_op = 'insert'",
                snapshot.id
            );
            // The table itself is younger than the first snapshots.
            Ok(oracle.db().int(&at).unwrap_or(0))
        })
        .collect::<Result<Vec<_>>>()?;
    let whole = i64::try_from(rows).context("a count")?;
    ensure!(
        counts.iter().all(|count| [0, whole].contains(count)),
        "a part of a transaction: {counts:?}"
    );
    Ok(())
}
