//! What is published, and what is refused because publishing it would hurt the source (correctness, rule 12).

use std::fs;

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{Options, duckdb::literal, feeder::Config, tools::default_major};
use serde_json::Value;

use crate::rig::{CATALOG, PATIENCE, Rig, SOURCE, wait};

/// Feeds `public.*`, one table of which has a rule of its own.
fn with_rule(rule: &[&str]) -> Result<Rig> {
    with_lists(|config| ruled(config, rule))
}

/// A rig on a server whose publications have column lists and row filters: Postgres 15 or later.
fn with_lists(change: impl FnOnce(Config) -> Config) -> Result<Rig> {
    Rig::with_major(default_major()?.max(15), &Options::default(), change)
}

fn ruled(config: Config, rule: &[&str]) -> Config {
    rule.iter()
        .fold(config, |config, line| config.line("[tables]", line))
}

/// A DBA makes the publications.
fn given() -> Result<Rig> {
    Rig::with(&Options::default(), |config| {
        config.line("source", "manage_publication = false")
    })
}

impl Rig {
    /// `run` refuses, naming all of these, before it has made anything; `check` says the same.
    pub(crate) fn expect_refused(&self, parts: &[&str]) -> Result<()> {
        self.setup
            .run(&["run", "--until-caught-up"])?
            .expect_code(3)?
            .expect_message(parts)?;
        let checked = self.setup.run(&["check"])?;
        ensure!(checked.code != Some(0), "check finds nothing");
        checked.expect_message(parts)?;
        for (database, sql) in [
            (
                SOURCE,
                "select slot_name from pg_replication_slots where slot_name like 'duckfeeder%' and plugin = 'pgoutput'",
            ),
            (
                CATALOG,
                "select tablename from pg_tables where schemaname = 'duckfeeder' or tablename like 'ducklake%'",
            ),
        ] {
            let found = self.pg.sql(database, sql)?;
            ensure!(found.is_empty(), "left behind: {found:?}");
        }
        Ok(())
    }

    /// Waits until the statistics know of an update; they come when a session ends.
    fn wait_for_updates(&self, table: &str) -> Result<()> {
        let sql = format!("select pg_stat_get_tuples_updated('{table}'::regclass) > 0");
        wait("the statistics know of the update", || {
            Ok((self.pg.scalar(SOURCE, &sql)?.as_deref() == Some("t")).then_some(()))
        })
    }

    /// Two queries, one at the source and one of the lake, give the same rows.
    pub(crate) fn expect_same(&self, source: &str, lake: &str) -> Result<()> {
        let expected = self.source(source)?;
        let found = self.oracle()?.db().query(lake)?.rows;
        ensure!(
            found == expected,
            "{lake}\ngives     {found:?}\nthe source {expected:?}"
        );
        Ok(())
    }

    /// The state of a table, as `status` tells it.
    pub(crate) fn state(&self, source: &str) -> Result<String> {
        let status: Value = serde_json::from_str(&self.setup.run(&["status", "--json"])?.stdout)?;
        let tables = status.get("tables").and_then(Value::as_array);
        let mut tables = tables.context("no tables")?.iter();
        let table = tables.find(|table| table.get("source").is_some_and(|name| name == source));
        let state = table.and_then(|table| table.get("state")?.as_str());
        state.map(str::to_owned).context("no such table")
    }
}

#[test]
fn a_row_filter_outside_of_the_identity_is_refused_and_fed_under_a_full_one() -> Result<()> {
    let rig = with_rule(&[
        "source = \"public.orders\"",
        "where = \"Status = 'open -- status'\"",
    ])?;
    rig.source(
        "create table orders (id int primary key, status text, note text);
         insert into orders values (1, 'open -- status'), (2, 'done')",
    )?;
    rig.expect_refused(&[
        "public.orders",
        "\"status\"",
        "replica identity",
        "ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY FULL",
    ])?;
    rig.expect_nothing_created()?;
    rig.source("update orders set note = 'the application works'")?;

    rig.source("alter table orders replica identity full")?;
    rig.catch_up()?;
    let wanted = "select id, status, note from orders where status = 'open -- status' order by id";
    let view = "select id, status, note from lake.raw.orders_current order by id";
    rig.expect_same(wanted, view)?;
    // In and out of what the filter lets through.
    rig.source(
        "insert into orders values (3, 'open -- status'), (4, 'done'), (5, 'open -- status');
         update orders set status = 'open -- status' where id = 2;
         update orders set status = 'done' where id = 3;
         update orders set note = 'unseen' where id = 4;
         update orders set note = 'seen' where id = 5;
         delete from orders where id = 1",
    )?;
    rig.catch_up()?;
    rig.expect_same(wanted, view)?;
    let unseen = "select count(*) from lake.raw.orders where id = 4 or status = 'done' and _df_op <> 'delete'";
    ensure!(rig.oracle()?.db().int(unseen)? == 0);
    Ok(())
}

#[test]
fn a_row_filter_on_the_key_holds_for_copy_and_stream() -> Result<()> {
    let rig = with_rule(&["source = \"public.orders\"", "where = \"id >= 10\""])?;
    rig.source(
        "create table orders (id int primary key, v text); create table others (id int primary key);
         insert into orders select g, 'old' from generate_series(1, 20) g; insert into others values (1)",
    )?;
    rig.catch_up()?;
    let wanted = "select id, v from orders where id >= 10 order by id";
    let view = "select id, v from lake.raw.orders_current order by id";
    rig.expect_same(wanted, view)?;
    ensure!(
        rig.oracle()?
            .db()
            .int("select count(*) from lake.raw.orders where _df_op = 'snapshot'")?
            == 11
    );
    rig.source(
        "insert into orders values (0, 'outside'), (100, 'inside');
         update orders set v = 'new' where id % 3 = 0;
         update orders set id = 50 where id = 5;
         update orders set id = -12 where id = 12;
         delete from orders where id in (2, 13)",
    )?;
    rig.catch_up()?;
    rig.expect_same(wanted, view)?;
    let outside = "select count(*) from lake.raw.orders where id < 10";
    ensure!(rig.oracle()?.db().int(outside)? == 0);

    // Another filter is another copy.
    let config = Config::new(
        &rig.pg.url("postgres", SOURCE),
        Some(&rig.pg.url("postgres", CATALOG)),
    );
    let rule = ["source = \"public.orders\"", "where = \"id >= 1\""];
    rig.setup.configure(&ruled(config, &rule))?;
    rig.catch_up()?;
    rig.source("insert into orders values (1000, 'new'), (-1, 'outside'), (3000, 'new')")?;
    rig.catch_up()?;
    let wanted = "select id, v from orders where id >= 1 order by id";
    rig.expect_same(wanted, view)?;
    let resets = "select count(*) from lake.raw.orders where _df_op = 'reset'";
    ensure!(rig.oracle()?.db().int(resets)? == 2);
    // The same one, as the server writes it, is not.
    rig.catch_up()?;
    ensure!(rig.oracle()?.db().int(resets)? == 2);
    rig.oracle()?.check_all(&["others"])
}

#[test]
fn a_row_filter_that_the_server_cannot_read_is_refused() -> Result<()> {
    let rig = with_rule(&["source = \"public.orders\"", "where = \"id >= \""])?;
    rig.source("create table orders (id int primary key)")?;
    rig.expect_refused(&["public.orders", "syntax error"])?;
    rig.expect_nothing_created()
}

#[test]
fn a_row_filter_is_refused_where_publications_cannot_have_it() -> Result<()> {
    let rig = Rig::with_major(14, &Options::default(), |config| {
        let rule = ["source = \"public.orders\"", "where = \"id > 1\""];
        ruled(config, &rule)
    })?;
    rig.source("create table orders (id int primary key, v text)")?;
    rig.expect_refused(&["public.orders", "Postgres 15"])?;
    rig.expect_nothing_created()
}

#[test]
fn an_excluded_column_stays_out_where_publications_have_no_column_lists() -> Result<()> {
    let rig = Rig::with_major(14, &Options::default(), |config| {
        let rule = [
            "source = \"public.orders\"",
            "exclude_columns = [\"secret\"]",
        ];
        ruled(config, &rule)
    })?;
    rig.source(
        "create table orders (id int primary key, secret text, v text);
         alter table orders replica identity full; insert into orders values (1, 'hidden', 'copied')",
    )?;
    rig.catch_up()?;
    rig.source(
        "insert into orders values (2, 'hidden', 'streamed');
         update orders set v = 'changed', secret = 'hidden too' where id = 1",
    )?;
    rig.catch_up()?;
    let mut db = rig.lake.open()?;
    let columns = db.query(
        "select column_name from duckdb_columns() where table_name = 'orders' and column_name like '%secret%'",
    )?;
    ensure!(columns.rows.is_empty(), "{columns:?}");
    let found = db.query("select id, v from lake.raw.orders_current order by id")?;
    let found: Vec<_> = found.rows.into_iter().flatten().flatten().collect();
    ensure!(found == ["1", "changed", "2", "streamed"], "{found:?}");
    Ok(())
}

#[test]
fn an_excluded_column_is_nowhere() -> Result<()> {
    let rig = with_rule(&[
        "source = \"public.customers\"",
        "exclude_columns = [\"card_number\"]",
    ])?;
    rig.source(
        "create table customers (card_number text, id int primary key, name text, big text);
         alter table customers alter column big set storage external;
         insert into customers select '4929-' || g, g, 'n' || g, repeat('x', 10000) from generate_series(1, 50) g",
    )?;
    rig.catch_up()?;
    rig.source(
        "insert into customers values ('4929-100', 100, 'new', 'b');
         update customers set card_number = '4929-999' where id = 1;
         update customers set name = 'renamed', card_number = '4929-998' where id = 2;
         update customers set id = 300, big = 'y' where id = 3;
         delete from customers where id = 4",
    )?;
    rig.catch_up()?;
    rig.expect_same(
        "select id, name, big from customers order by id",
        "select id, name, big from lake.raw.customers_current order by id",
    )?;

    let mut oracle = rig.oracle()?;
    let all = format!("{}/**/*.parquet", rig.setup.lake_dir().display());
    let files = oracle
        .db()
        .query(&format!("from glob({})", literal(&all)))?;
    let files: Vec<String> = files.rows.into_iter().flatten().flatten().collect();
    ensure!(files.len() > 1, "{files:?}");
    for file in files {
        let values = format!(
            "select count(*) from read_parquet({}) as row where row::text like '%4929%'",
            literal(&file)
        );
        ensure!(oracle.db().int(&values)? == 0, "in {file}");
        // The footer, with names and statistics, is not compressed.
        let bytes = fs::read(&file)?;
        for text in ["card_number", "4929-"] {
            let found = bytes
                .windows(text.len())
                .any(|bytes| bytes == text.as_bytes());
            ensure!(!found, "{text} is in {file}");
        }
    }
    let named = "select count(*) from ducklake_column where column_name = 'card_number'";
    ensure!(rig.pg.scalar(CATALOG, named)?.as_deref() == Some("0"));
    let published =
        "select count(*) from pg_publication_tables where 'card_number' = any (attnames)";
    ensure!(rig.pg.scalar(SOURCE, published)?.as_deref() == Some("0"));
    Ok(())
}

#[test]
fn columns_of_a_full_identity_cannot_be_excluded() -> Result<()> {
    let rig = with_rule(&[
        "source = \"public.customers\"",
        "exclude_columns = [\"card_number\"]",
    ])?;
    rig.source(
        "create table customers (id int primary key, card_number text);
         alter table customers replica identity full; insert into customers values (1, 'x')",
    )?;
    rig.expect_refused(&[
        "public.customers",
        "\"card_number\"",
        "ALTER TABLE \"public\".\"customers\" REPLICA IDENTITY DEFAULT",
    ])?;
    rig.expect_nothing_created()?;
    rig.source("update customers set card_number = 'y'")?;
    rig.source("alter table customers replica identity default")?;
    rig.catch_up()
}

#[test]
fn a_partitioned_table_is_fed_through_its_root() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create table events (id int, region text, v text, n numeric(8, 2), primary key (id, region))
             partition by list (region);
         create table events_eu partition of events for values in ('eu');
         create table events_us (n numeric(8, 2), gone int, v text, region text not null, id int not null);
         alter table events_us drop column gone;
         alter table events attach partition events_us for values in ('us');
         create table events_rest (v text, n numeric(8, 2), id int not null, region text not null)
             partition by range (id);
         create table events_low (region text not null, id int not null, n numeric(8, 2), v text);
         create table events_high (id int not null, n numeric(8, 2), region text not null, v text);
         alter table events_rest attach partition events_low for values from (minvalue) to (1000);
         alter table events_rest attach partition events_high for values from (1000) to (maxvalue);
         alter table events attach partition events_rest default;
         insert into events select g, (array['eu', 'us', 'jp', 'br'])[g % 4 + 1], 'v' || g, g * 1.25
             from generate_series(1, 2000) g",
    )?;
    rig.catch_up()?;
    let tables = rig
        .oracle()?
        .db()
        .query("select table_name from duckdb_tables() where schema_name = 'raw' order by 1")?;
    let tables: Vec<_> = tables.rows.into_iter().flatten().flatten().collect();
    ensure!(tables == ["_df_dead_letters", "events"], "{tables:?}");
    rig.oracle()?.check_all(&["events"])?;

    for statement in [
        "insert into events values (5000, 'eu', 'new', 1), (5001, 'us', 'new', 2), (5002, 'xx', 'new', 3), (-1, 'yy', null, null)",
        "update events set v = 'changed', n = n + 1 where id % 7 = 0",
        // From leaf to leaf.
        "update events set region = 'us' where id % 50 = 0",
        "update events set id = id + 10000 where id between 100 and 120",
        "delete from events where id % 11 = 0",
        "insert into events_low values ('zz', 7777777 % 900, 9, 'straight into a leaf')",
    ] {
        rig.source(statement)?;
    }
    rig.catch_up()?;
    rig.oracle()?.check_all(&["events"])?;
    rig.source("truncate events; insert into events values (1, 'us', 'after', 0)")?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["events"])
}

#[test]
fn partitions_without_an_identity_of_their_own_leave_the_applications_update_working() -> Result<()>
{
    let rig = Rig::new()?;
    rig.source(
        "create table events (id int, v text) partition by range (id);
         create table events_low partition of events for values from (minvalue) to (1000);
         alter table events replica identity full; insert into events values (1, 'a')",
    )?;
    // The identity of a root is not passed on, and that of the leaf is what an update needs.
    rig.catch_up()?;
    rig.oracle()?.check_all(&["events"])?;
    rig.source("update events set v = 'b'")?;
    let fresh = Rig::new()?;
    fresh.source(
        "create table events (id int, v text) partition by range (id);
         create table events_low partition of events for values from (minvalue) to (1000);
         alter table events replica identity full; insert into events values (1, 'a'); update events set v = 'b'",
    )?;
    fresh.wait_for_updates("events_low")?;
    fresh.expect_refused(&[
        "public.events",
        "each partition",
        "ALTER TABLE \"public\".\"events_low\" REPLICA IDENTITY FULL",
    ])?;
    fresh.expect_nothing_created()?;

    fresh.source("alter table events_low replica identity full")?;
    fresh
        .setup
        .run(&["check"])?
        .expect_code(0)?
        .expect_message(&["new partition"])?;
    fresh.catch_up()?;
    fresh.source("update events set v = 'c'")?;
    fresh.catch_up()?;
    fresh.oracle()?.check_all(&["events"])
}

#[test]
fn awkward_names_are_fed() -> Result<()> {
    let rig = with_lists(|config| {
        let rule = [
            "source = 'public.\"dotted.name\"'",
            "where = '\"c.d\" <> 7'",
            "exclude_columns = [\"it's\"]",
        ];
        ruled(config, &rule)
    })?;
    let columns = r#""Group" int primary key, "a""b" text, "c.d" int, "ünï ✓" text, "from" text, "with space" text, "it's" text, "100%" text, "a\b" text"#;
    let names = [
        "select",
        "Mixed Case",
        "say \"hi\"",
        "it's",
        "größe ✓ 表",
        "a/b\\c?d=1&e#f%20",
        "..",
        "{curly} [square] *",
    ];
    for name in names {
        let table = name.replace('"', "\"\"");
        rig.source(&format!(
            r#"create table "{table}" ({columns});
               insert into "{table}" select g, 'a', 1, 'ü', null, 's', 'i', 'p', 'b' from generate_series(1, 3) g"#
        ))?;
    }
    rig.source(
        r#"create table "dotted.name" ("it's" text, "c.d" int primary key);
           insert into "dotted.name" values ('secret', 1), ('secret', 7)"#,
    )?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&names)?;
    for name in names {
        let table = name.replace('"', "\"\"");
        rig.source(&format!(
            r#"update "{table}" set "a""b" = 'changed', "with space" = null where "Group" = 1;
               update "{table}" set "Group" = 10 where "Group" = 2;
               delete from "{table}" where "Group" = 3;
               insert into "{table}" ("Group", "ünï ✓") values (4, '✓')"#
        ))?;
    }
    rig.source(r#"insert into "dotted.name" values ('secret', 2); delete from "dotted.name" where "c.d" in (1, 7)"#)?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&names)?;
    rig.expect_same(
        r#"select "c.d" from "dotted.name""#,
        r#"select "c.d" from lake.raw."dotted.name_current""#,
    )?;
    // What was added to the source is added to the publication by the same names.
    rig.source(r#"create table "Late ""one""" (id int primary key); insert into "Late ""one""" values (1)"#)?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["Late \"one\""])
}

#[test]
fn every_table_must_be_in_the_publication_that_fits_it() -> Result<()> {
    let rig = given()?;
    rig.source(
        "create table keyed (id int primary key, v int); create table notes (body text);
         create publication duckfeeder_test for table keyed",
    )?;
    rig.expect_refused(&[
        "public.notes",
        "create publication \"duckfeeder_test_ins\" for table only \"public\".\"notes\" with (publish = 'insert, truncate'",
    ])?;
    rig.source("create publication duckfeeder_test_ins with (publish = 'insert, truncate')")?;
    rig.expect_refused(&[
        "public.notes",
        "ALTER PUBLICATION \"duckfeeder_test_ins\" ADD TABLE ONLY \"public\".\"notes\"",
    ])?;
    // Updates and deletes of a table with a key would be missing.
    rig.source(
        "alter publication duckfeeder_test_ins add table notes, keyed;
         alter publication duckfeeder_test drop table keyed",
    )?;
    rig.expect_refused(&[
        "public.keyed",
        "ALTER PUBLICATION \"duckfeeder_test\" ADD TABLE ONLY \"public\".\"keyed\"",
    ])?;
    rig.source("drop publication duckfeeder_test")?;
    rig.expect_refused(&[
        "public.keyed",
        "create publication \"duckfeeder_test\" for table only \"public\".\"keyed\"",
    ])?;
    rig.source("create publication duckfeeder_test for table keyed with (publish = 'insert, update, delete')")?;
    rig.expect_refused(&[
        "duckfeeder_test",
        "truncate",
        "ALTER PUBLICATION \"duckfeeder_test\" SET (publish = 'insert, update, delete, truncate')",
    ])?;
    rig.source(
        "drop publication duckfeeder_test; create publication duckfeeder_test for table keyed",
    )?;
    rig.catch_up()?;

    // In the main publication the inserts of a table without a key arrive too.
    let other = given()?;
    other.source(
        "create table keyed (id int primary key, v int); create table notes (body text);
         create publication duckfeeder_test for all tables",
    )?;
    other.catch_up()?;
    other.source("insert into keyed values (1, 1); insert into notes values ('a')")?;
    other.catch_up()?;
    other.oracle()?.check_all(&["keyed", "notes"])
}

#[test]
fn tables_without_a_key_need_no_main_publication() -> Result<()> {
    let rig = given()?;
    rig.source(
        "create table notes (body text); insert into notes values ('a');
         create publication duckfeeder_test_ins for table notes with (publish = 'insert, truncate')",
    )?;
    rig.catch_up()?;
    rig.source("insert into notes values ('b')")?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["notes"])
}

#[test]
fn a_publication_with_other_columns_or_rows_is_refused() -> Result<()> {
    let rig = with_lists(|config| {
        let config = config.line("source", "manage_publication = false");
        let rule = [
            "source = \"public.orders\"",
            "where = \"id in (1, 2) and Region = 'eu'\"",
            "exclude_columns = [\"secret\"]",
        ];
        ruled(config, &rule)
    })?;
    rig.source(
        "create table orders (id int, region text, secret text, primary key (id, region));
         insert into orders values (1, 'eu', 's'), (2, 'us', 's'), (3, 'eu', 's')",
    )?;
    let entry = "ADD TABLE ONLY \"public\".\"orders\" (\"id\", \"region\") WHERE (id in (1, 2) and Region = 'eu'";
    for (definition, parts) in [
        (
            "orders where (id in (1, 2) and region = 'eu')",
            ["orders", "columns", entry],
        ),
        ("orders (id, region)", ["orders", "row filter", entry]),
        (
            "orders (id, region) where (id in (1, 2) and region = 'us')",
            ["orders", "row filter", entry],
        ),
    ] {
        rig.source(&format!(
            "create publication duckfeeder_test for table {definition}"
        ))?;
        rig.expect_refused(&parts).context(definition)?;
        rig.source("drop publication duckfeeder_test")?;
    }
    rig.source("create publication duckfeeder_test for all tables")?;
    rig.expect_refused(&["orders", "columns"])?;
    rig.source("drop publication duckfeeder_test")?;

    // The server writes the same filter in another way.
    rig.source(
        "create publication duckfeeder_test for table orders (region, id)
             where (((region) = 'eu') is true and id = any (array[1, 2]))",
    )?;
    rig.expect_refused(&["orders", "row filter"])?;
    rig.source("drop publication duckfeeder_test")?;
    rig.source(
        "create publication duckfeeder_test for table orders (region, id)
             where ((id = any (array[1, 2])) and (region) = text 'eu')",
    )?;
    rig.catch_up()?;
    rig.source("insert into orders values (2, 'eu', 's'), (4, 'eu', 's')")?;
    rig.catch_up()?;
    rig.expect_same(
        "select id, region from orders where id in (1, 2) and region = 'eu' order by id",
        "select id, region from lake.raw.orders_current order by id",
    )
}

#[test]
fn changes_of_partitions_as_their_own_are_refused_only_where_there_are_partitions() -> Result<()> {
    let rig = given()?;
    rig.source(
        "create table plain (id int primary key); insert into plain values (1);
         create publication duckfeeder_test for table plain with (publish_via_partition_root = false)",
    )?;
    rig.catch_up()?;
    rig.source("insert into plain values (2)")?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["plain"])?;

    let rig = given()?;
    rig.source(
        "create table events (id int primary key) partition by range (id);
         create table events_low partition of events default;
         create publication duckfeeder_test for table events with (publish_via_partition_root = false)",
    )?;
    rig.expect_refused(&[
        "public.events",
        "ALTER PUBLICATION \"duckfeeder_test\" SET (publish_via_partition_root = true)",
    ])
}

#[test]
fn a_role_that_may_not_replicate_is_told_how() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create table t (id int primary key); create role feeder login;
         grant select on t to feeder; grant create on database source_db to feeder; alter table t owner to feeder",
    )?;
    let config = Config::new(
        &rig.pg.url("feeder", SOURCE),
        Some(&rig.pg.url("postgres", CATALOG)),
    );
    rig.setup.configure(&config)?;
    rig.expect_refused(&[
        "role feeder may not replicate",
        "rds_replication",
        "ALTER ROLE \"feeder\" REPLICATION",
    ])?;
    rig.expect_nothing_created()?;
    rig.source("alter role feeder replication")?;
    rig.catch_up()
}

#[test]
fn a_table_that_was_given_up_does_not_stop_the_others_at_the_next_start() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create table notes (body text); insert into notes values ('a');
         create table logs (body text); insert into logs values ('a');
         create table keyed (id int primary key, v int); insert into keyed values (1, 1)",
    )?;
    let mut feeder = rig.stream(&["notes", "logs", "keyed"])?;
    rig.source("update notes set body = 'b'")?;
    feeder.wait_until("the table is in error", PATIENCE, || {
        Ok((rig.state("public.notes")? == "error").then_some(()))
    })?;
    feeder.terminate()?;

    // One more is given up for what it saw while nobody looked.
    rig.source("update logs set body = 'b'")?;
    rig.wait_for_updates("logs")?;
    rig.source("update keyed set v = 2")?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["keyed"])?;
    ensure!(rig.state("public.notes")? == "error");
    ensure!(rig.state("public.logs")? == "error");
    ensure!(rig.state("public.keyed")? == "streaming");
    rig.setup
        .run(&["check"])?
        .expect_code(0)?
        .expect_message(&["public.notes", "REPLICA IDENTITY FULL"])?;

    // A new one is left out: its updates go on working.
    rig.source("create table fresh (body text); insert into fresh values ('a'); update fresh set body = 'b'")?;
    rig.wait_for_updates("fresh")?;
    rig.setup
        .run(&["run", "--until-caught-up"])?
        .expect_code(0)?
        .expect_message(&["a new table is not fed: public.fresh", "replica identity"])?;
    rig.source("update fresh set body = 'c'; drop table fresh")?;

    rig.source("alter table notes replica identity full; alter table logs replica identity full")?;
    for table in ["public.notes", "public.logs"] {
        rig.setup.run(&["resync", table])?.expect_code(0)?;
    }
    rig.catch_up()?;
    rig.source("update notes set body = 'c'; update logs set body = 'c'")?;
    rig.catch_up()?;
    rig.oracle()?.check_all(&["notes", "logs", "keyed"])
}
