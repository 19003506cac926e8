//! Generated columns: fed where the server publishes them, which Postgres 18 can for stored ones, and left out
//! everywhere else.

use anyhow::{Result, ensure};
use duckfeeder_tests::{Options, feeder::Config};

use crate::rig::{CATALOG, Rig, SOURCE};

/// A source that can publish stored generated columns.
fn latest() -> Result<Rig> {
    Rig::with_major(18, &Options::default(), |config| config)
}

/// The same, where a DBA makes the publications.
fn given() -> Result<Rig> {
    Rig::with_major(18, &Options::default(), unmanaged)
}

fn unmanaged(config: Config) -> Config {
    config.line("source", "manage_publication = false")
}

/// One table has a column list.
fn listed(config: Config) -> Config {
    config
        .line("[tables]", "source = \"public.listed\"")
        .line("[tables]", "exclude_columns = [\"secret\"]")
}

impl Rig {
    /// From now on the feeder makes its publications itself, or does not.
    fn manage(&self, managed: bool) -> Result<()> {
        let config = Config::new(
            &self.pg.url("postgres", SOURCE),
            Some(&self.pg.url("postgres", CATALOG)),
        );
        let config = if managed { config } else { unmanaged(config) };
        self.setup.configure(&listed(config))
    }

    /// Whether the lake's table has the column.
    fn has_column(&self, table: &str, column: &str) -> Result<bool> {
        let sql = format!(
            "select count(*) from duckdb_columns() where schema_name = 'raw' and table_name = '{table}' and column_name = '{column}'"
        );
        Ok(self.oracle()?.db().int(&sql)? == 1)
    }

    fn expect_streaming(&self, table: &str) -> Result<()> {
        let state = self.state(&format!("public.{table}"))?;
        ensure!(state == "streaming", "{table} is in state {state}");
        Ok(())
    }
}

#[test]
fn stored_generated_columns_are_copied_and_streamed() -> Result<()> {
    let rig = Rig::with_major(18, &Options::default(), |config| {
        config
            .line("[tables]", "source = \"public.parts\"")
            .line("[tables]", "exclude_columns = [\"hidden\", \"secret\"]")
    })?;
    rig.source(
        "create table keyed (id int primary key, twice numeric(12, 2) generated always as (id * 2) stored, v text,
             thrice int generated always as (id * 3) virtual, big text generated always as (repeat(v, 3000)) stored);
         alter table keyed alter column big set storage external;
         create table entire (id int primary key, v text, big text generated always as (repeat(v, 3000)) stored,
             day date generated always as (date '2026-01-01' + length(v)) stored);
         alter table entire alter column big set storage external;
         alter table entire replica identity full;
         create table bag (v text, n int generated always as (length(v)) stored);
         alter table bag replica identity full;
         create table derived (v text not null, id int generated always as (length(v)) stored primary key);
         create table notes (v text, n int generated always as (length(v)) stored);
         create table events (id int, v text, n int generated always as (length(v)) stored, primary key (id))
             partition by range (id);
         create table events_low partition of events for values from (minvalue) to (100);
         create table events_high (n int generated always as (length(v)) stored, v text, id int not null);
         alter table events attach partition events_high default;
         create table parts (id int primary key, secret text, hidden int generated always as (length(secret)) stored,
             shown int generated always as (id + 1) stored);
         insert into keyed (id, v) select g, 'v' || g from generate_series(1, 200) g;
         insert into entire select g, 'v ' || g from generate_series(1, 200) g;
         insert into bag select 'v' || g % 30 from generate_series(1, 200) g;
         insert into derived select repeat('d', g) from generate_series(1, 20) g;
         insert into notes select 'v' || g from generate_series(1, 20) g;
         insert into events select g, 'v' || g from generate_series(1, 200) g;
         insert into parts select g, 's' || g from generate_series(1, 20) g",
    )?;
    let tables = ["keyed", "entire", "bag", "derived", "notes", "events"];
    rig.catch_up()?;
    rig.oracle()?.check_all(&tables)?;
    ensure!(rig.has_column("keyed", "twice")? && !rig.has_column("keyed", "thrice")?);
    let options = rig.source("select pubname, pubgencols from pg_publication order by 1")?;
    ensure!(
        options
            .iter()
            .flatten()
            .flatten()
            .eq(["duckfeeder_test", "s", "duckfeeder_test_ins", "s"]),
        "{options:?}"
    );

    let mut feeder = rig.stream(&tables)?;
    rig.source(
        "insert into keyed (id, v) values (1000, 'new'), (1001, null);
         update keyed set v = 'changed' where id % 5 = 0;
         update keyed set thrice = default where id % 5 = 1;
         update keyed set id = id + 5000, v = v || '!' where id % 7 = 0;
         delete from keyed where id % 11 = 0;
         insert into entire (id, v) values (1000, 'new one'), (1001, null);
         update entire set v = v || ' changed' where id % 5 = 0;
         update entire set id = id + 5000 where id % 7 = 0;
         delete from entire where id % 11 = 0;
         insert into bag values ('new'), (null);
         update bag set v = 'longer than before' where v = 'v3';
         delete from bag where v = 'v4';
         update derived set v = v || repeat('x', 100) where id < 5;
         update derived set v = upper(v) where id between 5 and 10;
         delete from derived where id > 15 and id < 20;
         insert into notes values ('new');
         insert into events values (1000, 'new');
         update events set v = 'changed' where id % 5 = 0;
         update events set id = id + 5000 where id % 7 = 0;
         delete from events where id % 11 = 0;
         insert into parts values (100, 'more');
         update parts set id = 200, secret = 'other' where id = 2",
    )?;
    rig.wait_until_equal(&mut feeder, &tables)?;
    feeder.terminate()?;
    rig.expect_same(
        "select id, shown from parts order by id",
        "select id, shown from lake.raw.parts_current order by id",
    )?;
    ensure!(!rig.has_column("parts", "hidden")? && !rig.has_column("parts", "secret")?);
    let published = "select attnames::text from pg_publication_tables where tablename = 'parts'";
    ensure!(rig.pg.scalar(SOURCE, published)?.as_deref() == Some("{id,shown}"));
    rig.source("truncate entire; insert into entire (id, v) values (1, 'after')")?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&tables)
}

#[test]
fn virtual_columns_of_a_full_identity_are_refused_because_the_server_refuses_updates() -> Result<()>
{
    let rig = latest()?;
    rig.source(
        "create table sums (id int primary key, twice int generated always as (id * 2), thrice int generated always as (id * 3) stored);
         alter table sums replica identity full; insert into sums values (1)",
    )?;
    rig.expect_refused(&[
        "public.sums",
        "virtual generated column \"twice\"",
        "ALTER TABLE \"public\".\"sums\" REPLICA IDENTITY DEFAULT",
    ])?;
    rig.expect_nothing_created()?;
    rig.source(
        "create publication other for table sums with (publish_generated_columns = stored)",
    )?;
    ensure!(
        rig.source("update sums set id = 2").is_err(),
        "the reason is gone"
    );
    rig.source("drop publication other; alter table sums replica identity default")?;
    rig.catch_up()?;
    rig.source("update sums set id = 2")?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["sums"])
}

#[test]
fn a_publication_of_somebody_elses_says_which_are_fed() -> Result<()> {
    let tables = "create table sums (id int primary key, v int, twice int generated always as (v * 2) stored,
             thrice int generated always as (v * 3) stored, never int generated always as (v * 4));
         insert into sums select g, g from generate_series(1, 20) g;";
    let changes = "insert into sums values (100, 100); update sums set v = v + 1 where id % 3 = 0;
         update sums set id = id + 1000 where id % 5 = 0; delete from sums where id = 7";
    for (publication, columns) in [
        ("for table sums", "id, v"),
        ("for all tables", "id, v"),
        (
            "for all tables with (publish_generated_columns = stored)",
            "id, v, twice, thrice",
        ),
        (
            "for table sums with (publish_generated_columns = stored)",
            "id, v, twice, thrice",
        ),
        ("for table sums (id, v, thrice)", "id, v, thrice"),
        (
            "for table sums (thrice, v, twice, id) with (publish_generated_columns = none)",
            "id, v, twice, thrice",
        ),
    ] {
        let rig = given()?;
        rig.source(tables)?;
        rig.source(&format!("create publication duckfeeder_test {publication}"))?;
        rig.catch_up()?;
        rig.source(changes)?;
        rig.catch_up()?;
        rig.expect_same(
            &format!("select {columns} from sums order by id"),
            &format!("select {columns} from lake.raw.sums_current order by id"),
        )?;
        for column in ["twice", "thrice", "never"] {
            ensure!(
                rig.has_column("sums", column)? == columns.contains(column),
                "{publication}: {column}"
            );
        }
        rig.expect_streaming("sums")?;
    }
    Ok(())
}

#[test]
fn a_publication_of_somebody_elses_that_makes_updates_fail_is_refused() -> Result<()> {
    let rig = given()?;
    rig.source(
        "create table sums (id int primary key, twice int generated always as (id * 2) stored);
         alter table sums replica identity full; insert into sums values (1)",
    )?;
    rig.expect_refused(&[
        "create publication \"duckfeeder_test\" for table only \"public\".\"sums\"",
        "publish_generated_columns = stored",
    ])?;
    rig.source("create publication duckfeeder_test for table sums")?;
    rig.expect_refused(&[
        "\"twice\"",
        "ALTER PUBLICATION \"duckfeeder_test\" SET (publish_generated_columns = stored)",
    ])?;
    rig.source("drop publication duckfeeder_test; create publication duckfeeder_test for table sums (id, twice)")?;
    rig.expect_refused(&["REPLICA IDENTITY FULL", "column list"])?;
    rig.source(
        "drop publication duckfeeder_test;
         create publication duckfeeder_test for table sums with (publish_generated_columns = stored)",
    )?;
    rig.catch_up()?;
    rig.source("update sums set id = 2")?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["sums"])?;

    // The server sends a table through two publications only if they agree.
    let rig = given()?;
    rig.source(
        "create table notes (v text, n int generated always as (length(v)) stored); insert into notes values ('a');
         create publication duckfeeder_test for table notes with (publish = 'insert, truncate');
         create publication duckfeeder_test_ins for table notes
             with (publish = 'insert, truncate', publish_generated_columns = stored)",
    )?;
    rig.expect_refused(&[
        "public.notes",
        "ALTER PUBLICATION \"duckfeeder_test\" SET (publish_generated_columns = stored)",
    ])?;
    rig.source("alter publication duckfeeder_test set (publish_generated_columns = stored)")?;
    rig.catch_up()?;
    rig.source("insert into notes values ('bc')")?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["notes"])
}

#[test]
fn columns_that_are_published_later_stay_out_until_a_resync() -> Result<()> {
    let rig = given()?;
    rig.source(
        "create table sums (id int primary key, v int, twice int generated always as (v * 2) stored);
         create table plain (id int primary key, v int);
         insert into sums select g, g from generate_series(1, 20) g; insert into plain values (1, 1);
         create publication duckfeeder_test for table sums, plain",
    )?;
    let same = || {
        rig.expect_same(
            "select id, v from sums order by id",
            "select id, v from lake.raw.sums_current order by id",
        )
    };
    let mut feeder = rig.stream(&["sums", "plain"])?;
    // While the feeder runs.
    rig.source(
        "update sums set v = 100 where id = 1;
         alter publication duckfeeder_test set (publish_generated_columns = stored);
         update sums set v = 200 where id = 2",
    )?;
    rig.wait_for(
        &mut feeder,
        "exists (from lake.raw.sums where id = 2 and v = 200)",
    )?;
    feeder.terminate()?;
    same()?;
    // And after its next start.
    rig.source("update sums set v = 300 where id = 3; delete from sums where id = 4")?;
    rig.catch_up()?;
    rig.source("update sums set v = 301 where id = 3")?;
    rig.catch_up()?;
    same()?;
    rig.expect_streaming("sums")?;
    ensure!(!rig.has_column("sums", "twice")?);

    rig.setup.run(&["resync", "public.sums"])?.expect_code(0)?;
    rig.source("update sums set v = 400 where id = 5")?;
    rig.catch_up()?;
    rig.source("update sums set v = 500 where id = 6; insert into sums values (100, 1)")?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["sums", "plain"])?;

    // Not sent any more: the tables that have some have lost something, the others have not.
    rig.source("alter publication duckfeeder_test set (publish_generated_columns = none)")?;
    rig.catch_up()?;
    ensure!(rig.state("public.sums")? == "error");
    rig.expect_streaming("plain")
}

#[test]
fn a_publication_that_is_managed_is_altered_and_its_tables_go_on() -> Result<()> {
    let rig = Rig::with_major(18, &Options::default(), |config| listed(unmanaged(config)))?;
    rig.source(
        "create table old (id int primary key, v int, twice int generated always as (v * 2) stored);
         create table waiting (id int primary key, v int, twice int generated always as (v * 2) stored);
         create table listed (id int primary key, v int, secret text, twice int generated always as (v * 2) stored);
         insert into listed (id, v, secret) select g, g, 's' from generate_series(1, 20) g;
         insert into old select g, g from generate_series(1, 20) g;
         insert into waiting select g, g from generate_series(1, 20) g;
         create publication duckfeeder_test for table only old, only waiting, only listed (id, v) with (publish_via_partition_root = true)",
    )?;
    rig.catch_up()?;
    // As an earlier version left it, with changes that are yet to be streamed; one table waits for a copy already.
    let changes = |n: u32| {
        ["old", "waiting", "listed"]
            .map(|table| {
                format!(
                "insert into {table} (id, v) values ({n}, {n}); update {table} set v = {n} where id % 3 = 0;
                 update {table} set id = {n} + 1 where id = 2; delete from {table} where id = 5;
                 update {table} set id = 2 where id = {n} + 1;"
            )
            })
            .concat()
    };
    rig.source(&changes(1000))?;
    rig.setup
        .run(&["resync", "public.waiting"])?
        .expect_code(0)?;
    rig.manage(true)?;
    rig.catch_up()?;
    let option = "select pubgencols::text from pg_publication";
    ensure!(rig.pg.scalar(SOURCE, option)?.as_deref() == Some("s"));
    for table in ["old", "waiting", "listed"] {
        rig.expect_streaming(table)?;
    }
    rig.source(&changes(2000))?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["waiting"])?;
    // Its list had to change, so it was copied anew.
    let listed = || {
        rig.expect_same(
            "select id, v, twice from listed order by id",
            "select id, v, twice from lake.raw.listed_current order by id",
        )
    };
    listed()?;
    ensure!(!rig.has_column("old", "twice")?);
    rig.expect_same(
        "select id, v from old order by id",
        "select id, v from lake.raw.old_current order by id",
    )?;

    rig.setup.run(&["resync", "public.old"])?.expect_code(0)?;
    rig.source(&changes(3000))?;
    rig.catch_up()?;
    rig.source(&changes(4000))?;
    rig.catch_up()?;
    listed()?;
    rig.oracle()?.check_all(&["old", "waiting"])
}

#[test]
fn no_generated_column_is_fed_from_an_older_server() -> Result<()> {
    let rig = Rig::with_major(17, &Options::default(), |config| config)?;
    rig.source(
        "create table keyed (id int primary key, v int, twice int generated always as (v * 2) stored);
         create table entire (id int primary key, v int, twice int generated always as (v * 2) stored);
         alter table entire replica identity full;
         insert into keyed values (1, 1), (2, 2); insert into entire values (1, 1), (2, 2)",
    )?;
    rig.catch_up()?;
    for table in ["keyed", "entire"] {
        rig.source(&format!(
            "insert into {table} values (3, 3); update {table} set v = 4 where id = 1; delete from {table} where id = 2"
        ))?;
    }
    rig.catch_up()?;
    for table in ["keyed", "entire"] {
        rig.expect_same(
            &format!("select id, v from {table} order by id"),
            &format!("select id, v from lake.raw.{table}_current order by id"),
        )?;
        ensure!(!rig.has_column(table, "twice")?);
        rig.expect_streaming(table)?;
    }
    Ok(())
}
