//! Tables without a key.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::rig::{PATIENCE, Rig, size};

#[test]
fn a_keyless_table_leaves_the_applications_own_update_working() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create table notes (body text); insert into notes values ('a'), ('a'), (null);
         create table keyed (id int primary key, v int); insert into keyed values (1, 1)",
    )?;
    let mut feeder = rig.stream(&["notes", "keyed"])?;
    rig.source("insert into notes values ('b')")?;
    rig.wait_until_equal(&mut feeder, &["notes", "keyed"])?;

    // The application does what it always did; the table is given up, with both remedies, and no other.
    rig.source("update notes set body = 'c' where body = 'b'")?;
    rig.source("update keyed set v = 2")?;
    feeder.wait_until("the table is in error", PATIENCE, || {
        let status = rig.setup.run(&["status", "--json"])?.stdout;
        let status: Value = serde_json::from_str(&status)?;
        let tables = status
            .get("tables")
            .and_then(Value::as_array)
            .context("no tables")?;
        let notes = tables
            .iter()
            .find(|table| table["source"] == "public.notes");
        Ok(notes
            .is_some_and(|notes| notes["state"] == "error")
            .then_some(()))
    })?;
    rig.wait_until_equal(&mut feeder, &["keyed"])?;
    let told = rig.setup.run(&["status"])?.stdout.to_lowercase();
    ensure!(
        told.contains("replica identity full"),
        "no remedy is named:\n{told}"
    );

    rig.source("alter table notes replica identity full")?;
    rig.setup.run(&["resync", "public.notes"])?.expect_code(0)?;
    rig.source("update notes set body = 'd' where body = 'c'")?;
    rig.wait_until_equal(&mut feeder, &["notes", "keyed"])?;
    feeder.terminate()
}

#[test]
fn many_equal_rows_without_a_key_are_counted_right() -> Result<()> {
    let rows = size(50_000, 1_000_000);
    let rig = Rig::new()?;
    rig.source(&format!(
        "create table same (a int, b text, c numeric(6, 2)); alter table same replica identity full;
         insert into same select 1, 'same', 1.50 from generate_series(1, {rows})"
    ))?;
    let mut feeder = rig.setup.spawn()?;
    for _ in 0..20 {
        rig.source("insert into same select 1, 'same', 1.50 from generate_series(1, 37)")?;
        rig.source("delete from same where ctid in (select ctid from same limit 11)")?;
        rig.source("update same set b = 'other' where ctid in (select ctid from same where b = 'same' limit 5)")?;
    }
    rig.wait_for_copies(&mut feeder, &["same"])?;
    rig.wait_until_equal(&mut feeder, &["same"])?;
    feeder.terminate()?;
    let mut oracle = rig.oracle()?;
    let table = oracle.table("same")?;
    ensure!(table.key.is_empty());
    oracle.check(&table)
}

#[test]
fn refuse_is_the_strict_choice() -> Result<()> {
    let rig = Rig::with(&duckfeeder_tests::Options::default(), |config| {
        config.line("source", "keyless = \"refuse\"")
    })?;
    rig.source("create table notes (body text)")?;
    let ended = rig.setup.run(&["run"])?;
    ended
        .expect_code(3)?
        .expect_message(&["notes", "replica identity"])?;
    rig.expect_nothing_created().context("after a refusal")
}
