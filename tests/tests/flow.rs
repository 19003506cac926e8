//! Inserts, updates and deletes of ordinary tables, as DuckDB sees them.

use anyhow::Result;
use duckfeeder_tests::{
    lake::snapshots,
    shop::{self, Business},
    tools::MAJORS,
};
use rand::{SeedableRng, rngs::StdRng};
use std::time::Duration;

use crate::rig::{Rig, SOURCE, seed, size};

#[test]
fn a_shop_is_copied_and_then_streamed() -> Result<()> {
    let rig = Rig::new()?;
    let mut client = rig.pg.connect(SOURCE)?;
    shop::create(&mut client)?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&shop::TABLES)?;

    let mut rng = StdRng::seed_from_u64(seed()?);
    for _ in 0..size(200, 5_000) {
        shop::happen(&mut client, &mut rng)?;
    }
    rig.catch_up()?;
    let mut oracle = rig.oracle()?;
    oracle.check_all(&shop::TABLES)?;
    let operations = oracle
        .db()
        .query("select distinct _df_op from lake.raw.orders order by 1")?;
    let operations: Vec<_> = operations.rows.into_iter().flatten().flatten().collect();
    assert_eq!(
        operations,
        ["delete", "insert", "reset", "snapshot", "update"]
    );
    Ok(())
}

#[test]
fn a_running_feeder_keeps_up_with_a_running_shop() -> Result<()> {
    let rig = Rig::new()?;
    shop::create(&mut rig.pg.connect(SOURCE)?)?;
    let business = Business::open(
        &rig.pg.url("postgres", SOURCE),
        seed()?,
        Duration::from_millis(5),
    );
    let mut feeder = rig.stream(&shop::TABLES)?;
    let before = business.happened();
    feeder.wait_until("the shop is busy", Duration::from_mins(1), || {
        Ok((business.happened() >= before + 200).then_some(()))
    })?;
    business.close()?;
    rig.wait_until_equal(&mut feeder, &shop::TABLES)?;
    feeder.terminate()?;

    let mut oracle = rig.oracle()?;
    let made = snapshots(oracle.db())?;
    assert!(
        made.iter().filter(|snapshot| snapshot.complete()).count() > 1,
        "{made:?}"
    );
    assert!(
        made.iter()
            .all(|snapshot| snapshot.info.get("feeder").is_some()),
        "{made:?}"
    );
    Ok(())
}

#[test]
fn every_kind_of_change_is_replayed() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create table by_key (id int primary key, v text);
         create table by_index (id int primary key, code text not null unique, v text);
         alter table by_index replica identity using index by_index_code_key;
         create table by_row (id int, v text);
         alter table by_row replica identity full;
         create table keyed_full (id int primary key, v text);
         alter table keyed_full replica identity full;
         create table large (id int primary key, n int, body text);
         alter table large alter column body set storage external;
         create table emptied (id int primary key);
         create table nothing_in_it (id int primary key, v numeric(10, 3));
         insert into by_key select g, 'old ' || g from generate_series(1, 10) g;
         insert into by_index select g, 'c' || g, 'old' from generate_series(1, 10) g;
         insert into by_row select g % 3, 'old' from generate_series(1, 10) g;
         insert into keyed_full select g, 'old' from generate_series(1, 10) g;
         insert into large select g, 0, repeat(chr(64 + g), 20000) from generate_series(1, 5) g;
         insert into emptied select g from generate_series(1, 5) g",
    )?;
    let tables = [
        "by_key",
        "by_index",
        "by_row",
        "keyed_full",
        "large",
        "emptied",
        "nothing_in_it",
    ];
    rig.catch_up()?;
    rig.oracle()?.check_all(&tables)?;

    for statement in [
        "update by_key set v = null where id = 1",
        "update by_key set id = 100 where id = 2",
        "delete from by_key where id = 3",
        "insert into by_key values (3, 'again')",
        "begin; insert into by_key values (50, 'a'); update by_key set v = 'b' where id = 50; delete from by_key where id = 50; commit",
        "begin; insert into by_key values (51, 'a'); savepoint s; insert into by_key values (52, 'lost'); rollback to s; commit",
        "update by_index set id = id + 100 where id < 4",
        "update by_index set code = 'new' where id = 5",
        "delete from by_index where code = 'c6'",
        "update by_row set v = 'new' where id = 1",
        "delete from by_row where ctid in (select ctid from by_row where id = 2 limit 1)",
        "update keyed_full set v = 'new', id = id + 100 where id < 4",
        "delete from keyed_full where id = 5",
        "update large set n = n + 1",
        "update large set body = 'short' where id = 2",
        "update large set n = n + 1",
        "update large set id = id + 10, body = body || '.' where id = 3",
        "delete from large where id = 4",
        "insert into large values (4, 9, null)",
        "truncate emptied",
        "insert into emptied values (7)",
    ] {
        rig.source(statement)?;
    }
    rig.catch_up()?;
    let mut oracle = rig.oracle()?;
    oracle.check_all(&tables)?;

    // A change of the key is a delete of the old one and an update to the new one, in this order.
    let moved = oracle.db().query(
        "select _df_op, id from lake.raw.by_key where id in (2, 100) and _df_op <> 'snapshot' order by _df_lsn, _df_seq",
    )?;
    let moved: Vec<_> = moved.rows.into_iter().flatten().flatten().collect();
    assert_eq!(moved, ["delete", "2", "update", "100"]);
    // What the server did not send is named, and filled in by the view.
    let unsent = oracle.db().int(
        "select count(*) from lake.raw.large where _df_op = 'update' and list_contains(_df_unchanged, 'body')",
    )?;
    assert!(unsent > 0);
    let body = oracle
        .db()
        .int("select length(body) from lake.raw.large_current where id = 1")?;
    assert_eq!(body, 20_000);
    // Tables and views are there from the first commit on, even when empty.
    assert_eq!(
        oracle
            .db()
            .int("select count(*) from lake.raw.nothing_in_it_current")?,
        0
    );
    Ok(())
}

#[test]
fn every_supported_version_of_postgres_is_fed() -> Result<()> {
    for major in MAJORS {
        let rig = Rig::with_major(major, &duckfeeder_tests::Options::default(), |config| {
            config
        })?;
        let mut client = rig.pg.connect(SOURCE)?;
        shop::create(&mut client)?;
        rig.catch_up()?;
        let mut rng = StdRng::seed_from_u64(u64::from(major));
        for _ in 0..50 {
            shop::happen(&mut client, &mut rng)?;
        }
        rig.catch_up()?;
        rig.oracle()?.check_all(&shop::TABLES)?;
    }
    Ok(())
}
