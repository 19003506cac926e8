//! Large transactions, the part of one that a savepoint takes back, and prepared ones.

use std::time::Instant;

use anyhow::{Result, ensure};
use duckfeeder_tests::Options;

use crate::rig::{Rig, size};

/// What a process of ours needs beside the budget: code, runtime, Parquet encoders, the allocator's slack, in MiB.
const CONSTANT: u64 = 192;

#[test]
fn what_a_savepoint_takes_back_of_a_large_transaction_never_arrives() -> Result<()> {
    let (rows, budget): (u64, u64) = size((200_000, 64), (5_000_000, 256));
    let rig = Rig::with(&Options::default(), |config| {
        config.line("limits", &format!("memory = \"{budget}MiB\""))
    })?;
    rig.source("create table events (id bigint primary key, kind text, payload text)")?;
    let mut feeder = rig.stream(&["events"])?;
    let insert = |from: u64, to: u64| {
        format!(
            "insert into events select g, 'kind ' || g % 7, md5(g::text) || md5((g + 1)::text)
             from generate_series({from}, {to}) g;"
        )
    };
    let mut expected = 0;
    for (name, sql, adds) in [
        ("whole", insert(1, rows), rows),
        (
            "half of it taken back",
            format!(
                "{} savepoint half; {} rollback to half;",
                insert(rows + 1, rows + rows / 2),
                insert(rows + rows / 2 + 1, 2 * rows)
            ),
            rows / 2,
        ),
    ] {
        let mut client = rig.pg.connect(crate::rig::SOURCE)?;
        client.batch_execute(&format!("begin; {sql}"))?;
        let begun = Instant::now();
        client.batch_execute("commit")?;
        expected += adds;
        rig.wait_for(
            &mut feeder,
            &format!("(select count(*) = {expected} from lake.raw.events where _df_op = 'insert')"),
        )?;
        let peak = feeder.peak_memory()? / (1 << 20);
        println!(
            "{rows} rows, {name}: visible {:.1} s after COMMIT, peak memory {peak} MiB of a budget of {budget} MiB and a constant of {CONSTANT} MiB",
            begun.elapsed().as_secs_f64()
        );
        ensure!(peak <= budget + CONSTANT, "peak memory {peak} MiB");
    }
    feeder.terminate()?;
    rig.oracle()?.check_all(&["events"])
}

#[test]
fn a_prepared_transaction_arrives_once_when_it_is_committed() -> Result<()> {
    let options = Options::default().setting("max_prepared_transactions", "10");
    let rig = Rig::with(&options, |config| config)?;
    rig.source("create table orders (id int primary key, note text)")?;
    let mut feeder = rig.stream(&["orders"])?;
    for name in ["kept", "given_up"] {
        rig.source(&format!(
            "begin; insert into orders values ({}, '{name}'); prepare transaction '{name}'",
            name.len()
        ))?;
    }
    // The position goes beyond PREPARE, and a restart begins there.
    rig.source("insert into orders values (1, 'meanwhile')")?;
    rig.wait_for(
        &mut feeder,
        "exists (from lake.raw.orders where note = 'meanwhile')",
    )?;
    feeder.kill()?;
    rig.catch_up()?;
    let mut oracle = rig.oracle()?;
    let prepared = "select count(*) from lake.raw.orders where note in ('kept', 'given_up')";
    ensure!(
        oracle.db().int(prepared)? == 0,
        "it arrived before its commit"
    );
    rig.source("commit prepared 'kept'")?;
    rig.source("rollback prepared 'given_up'")?;
    rig.catch_up()?;
    rig.catch_up()?;
    ensure!(oracle.db().int(prepared)? == 1, "not once");
    oracle.check_all(&["orders"])
}
