//! What a changelog row says beside its values: what did not fit, what was not sent, what was there before.

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::Options;

use crate::rig::{CATALOG, Rig};

fn rows(rig: &Rig, sql: &str) -> Result<Vec<String>> {
    let rows = rig.lake.open()?.query(sql)?.rows;
    Ok(rows
        .into_iter()
        .map(|row| {
            let cells: Vec<String> = row
                .into_iter()
                .map(|cell| cell.unwrap_or_else(|| "NULL".to_owned()))
                .collect();
            cells.join(" | ")
        })
        .collect())
}

#[test]
fn a_value_that_does_not_fit_is_null_and_its_text_is_a_dead_letter() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create table items (id int primary key, price numeric(10, 2), tags int[], note text);
         insert into items values (1, 1.5, '{1}', 'fits'), (2, 'NaN', '{1}', 'copied')",
    )?;
    let mut feeder = rig.stream(&["items"])?;
    rig.source(
        "insert into items values (3, 'NaN', '{{1,2},{3,4}}', 'streamed');
         update items set price = 'NaN' where id = 1;
         insert into items values (4, 2.5, '{2}', 'the feed goes on')",
    )?;
    rig.wait_for(
        &mut feeder,
        "exists (from lake.raw.items where note = 'the feed goes on')",
    )?;
    let found = rows(
        &rig,
        "select _df_op, id, price, tags, note, _df_unrepresentable from lake.raw.items \
         where _df_op <> 'reset' order by _df_lsn, _df_seq",
    )?;
    assert_eq!(
        found,
        [
            "snapshot | 1 | 1.50 | [1] | fits | NULL",
            "snapshot | 2 | NULL | [1] | copied | [price]",
            "insert | 3 | NULL | NULL | streamed | [price, tags]",
            "update | 1 | NULL | [1] | fits | [price]",
            "insert | 4 | 2.50 | [2] | the feed goes on | NULL",
        ]
    );
    let letters = rows(
        &rig,
        "select t._df_op, t.id, d.source_table, d.lake_table, d.column_name, d.row_key, d.value, \
         d._df_timestamp = t._df_timestamp \
         from lake.raw._df_dead_letters d join lake.raw.items t using (_df_lsn, _df_seq) \
         order by _df_lsn, _df_seq, d.column_name",
    )?;
    assert_eq!(
        letters,
        [
            r#"snapshot | 2 | public.items | raw.items | price | {"id":"2"} | NaN | true"#,
            r#"insert | 3 | public.items | raw.items | price | {"id":"3"} | NaN | true"#,
            r#"insert | 3 | public.items | raw.items | tags | {"id":"3"} | {{1,2},{3,4}} | true"#,
            r#"update | 1 | public.items | raw.items | price | {"id":"1"} | NaN | true"#,
        ]
    );
    // A letter and its row come with one snapshot: at every version the two tables tell the same.
    let apart = rows(
        &rig,
        "select count(*) from lake.raw._df_dead_letters d \
         left join lake.raw.items t using (_df_lsn, _df_seq) where t.id is null",
    )?;
    assert_eq!(apart, ["0"]);
    let status = rig.setup.run(&["status"])?;
    ensure!(
        status.stdout.contains("4 values did not fit"),
        "{}",
        status.stdout
    );
    let json: serde_json::Value =
        serde_json::from_str(&rig.setup.run(&["status", "--json"])?.stdout)?;
    assert_eq!(json["tables"][0]["unrepresentable"], 4);
    feeder.terminate()?;

    // A restart neither repeats nor forgets them.
    rig.source("insert into items values (5, 'NaN', null, 'after a restart')")?;
    rig.catch_up()?;
    let count = rows(&rig, "select count(*) from lake.raw._df_dead_letters")?;
    assert_eq!(count, ["5"]);
    let counted = rig.pg.scalar(
        CATALOG,
        "select unrepresentable::text from duckfeeder.tables",
    )?;
    assert_eq!(counted.as_deref(), Some("5"));
    Ok(())
}

#[test]
fn a_spilled_transaction_keeps_its_dead_letters() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| {
        config.line("limits", "memory = \"16MiB\"")
    })?;
    rig.source("create table big (id int primary key, price numeric(10, 2), note text)")?;
    let mut feeder = rig.stream(&["big"])?;
    rig.source(
        "insert into big select i, case when i % 10 = 0 then 'NaN' else i::text end::numeric, repeat('x', 200) \
         from generate_series(1, 100000) i",
    )?;
    rig.wait_for(
        &mut feeder,
        "(select count(*) = 100000 from lake.raw.big where _df_op = 'insert')",
    )?;
    let found = rows(
        &rig,
        "select (select count(*) from lake.raw._df_dead_letters), count(*), count(distinct _df_seq) \
         from lake.raw._df_dead_letters join lake.raw.big using (_df_lsn, _df_seq) where id % 10 = 0",
    )?;
    assert_eq!(found, ["10000 | 10000 | 10000"]);
    feeder.terminate()
}

/// What the `_current` view and the changelog say of a table with a large value, after an update that leaves it alone.
fn toasted(identity: &str) -> Result<[String; 3]> {
    let rig = Rig::new()?;
    rig.source(&format!(
        "create table docs (id int not null, code text not null, title text, body text, \
             primary key (id), unique (code));
         alter table docs alter column body set storage external;
         alter table docs replica identity {identity};
         insert into docs values (1, 'a', 'first', repeat('b', 5000))"
    ))?;
    let mut feeder = rig.stream(&["docs"])?;
    rig.source("update docs set title = 'second' where id = 1")?;
    rig.wait_for(
        &mut feeder,
        "exists (from lake.raw.docs where title = 'second')",
    )?;
    feeder.terminate()?;
    let before = rig
        .pg
        .scalar(
            crate::rig::SOURCE,
            "select title || ' ' || length(body) from docs",
        )?
        .context("no row")?;
    let changed = rows(
        &rig,
        "select title, length(body), _df_unchanged from lake.raw.docs where _df_op = 'update'",
    )?;
    let current = rows(
        &rig,
        "select title, length(body), _df_unchanged from lake.raw.docs_current",
    )?;
    Ok([before, changed.join("; "), current.join("; ")])
}

#[test]
fn an_unchanged_large_value_is_what_the_view_last_saw() -> Result<()> {
    for (identity, changed) in [
        ("default", "second | NULL | [body]"),
        ("full", "second | 5000 | NULL"),
        ("using index docs_code_key", "second | NULL | [body]"),
    ] {
        let [source, update, current] = toasted(identity)?;
        println!("{identity}: source {source}; changelog {update}; view {current}");
        assert_eq!(source, "second 5000", "{identity}");
        assert_eq!(update, changed, "{identity}");
        assert_eq!(current, "second | 5000 | NULL", "{identity}");
    }
    Ok(())
}

#[test]
fn old_values_are_in_the_before_image_as_the_server_sent_them() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| {
        config
            .line("[tables]", "source = \"public.*\"")
            .line("[tables]", "before_image = true")
            .tables(&[])
    })?;
    rig.source(
        "create table by_key (id int primary key, v text, n int[]);
         create table by_all (id int primary key, v text, n int[]);
         alter table by_all replica identity full;
         insert into by_key values (1, 'old', '{1}'), (2, 'gone', null);
         insert into by_all values (1, 'old', '{1}'), (2, 'gone', null)",
    )?;
    let mut feeder = rig.stream(&["by_key", "by_all"])?;
    for table in ["by_key", "by_all"] {
        rig.source(&format!(
            "update {table} set v = 'new' where id = 1; update {table} set id = 3 where id = 1;
             delete from {table} where id = 2; insert into {table} values (9, 'end', null)"
        ))?;
    }
    rig.wait_for(
        &mut feeder,
        "exists (from lake.raw.by_key where id = 9) and exists (from lake.raw.by_all where id = 9)",
    )?;
    let shown = |table: &str| {
        rows(
            &rig,
            &format!(
                "select _df_op, id, v, _df_before from lake.raw.{table} \
                 where _df_op in ('update', 'delete', 'insert') order by _df_lsn, _df_seq"
            ),
        )
    };
    assert_eq!(
        shown("by_key")?,
        [
            "update | 1 | new | NULL",
            "delete | 1 | NULL | {'id': 1, 'v': NULL, 'n': NULL}",
            "update | 3 | new | {'id': 1, 'v': NULL, 'n': NULL}",
            "delete | 2 | NULL | {'id': 2, 'v': NULL, 'n': NULL}",
            "insert | 9 | end | NULL",
        ]
    );
    assert_eq!(
        shown("by_all")?,
        [
            "update | 1 | new | {'id': 1, 'v': old, 'n': [1]}",
            "delete | 1 | new | {'id': 1, 'v': new, 'n': [1]}",
            "update | 3 | new | {'id': 1, 'v': new, 'n': [1]}",
            "delete | 2 | gone | {'id': 2, 'v': gone, 'n': NULL}",
            "insert | 9 | end | NULL",
        ]
    );
    feeder.terminate()
}

#[test]
fn a_composite_type_that_grows_is_followed() -> Result<()> {
    let rig = Rig::new()?;
    rig.source(
        "create type address as (street text, zip int);
         create table people (id int primary key, home address, moods address[]);
         create table stays (id int primary key);
         insert into people values (1, row('Main \"St\"', 5), array[row('x', 1)::address, null])",
    )?;
    let mut feeder = rig.stream(&["people", "stays"])?;
    rig.source("insert into people values (2, row(null, 7), '{}')")?;
    rig.wait_for(&mut feeder, "exists (from lake.raw.people where id = 2)")?;
    assert_eq!(
        rows(
            &rig,
            "select id, home.street, home.zip, moods from lake.raw.people \
             where _df_op in ('snapshot', 'insert') order by id"
        )?,
        [
            "1 | Main \"St\" | 5 | [{'street': x, 'zip': 1}, NULL]",
            "2 | NULL | 7 | []",
        ]
    );
    rig.source(
        "alter type address add attribute city text;
         insert into people values (3, row('y', 1, 'z'), null); insert into stays values (1)",
    )?;
    rig.wait_for(
        &mut feeder,
        "(select home = {'street': 'y', 'zip': 1, 'city': 'z'} from lake.raw.people_current where id = 3)",
    )?;
    // A list of it is another column, which a copy fills.
    rig.wait_for(
        &mut feeder,
        "(select moods = [{'street': 'x', 'zip': 1, 'city': null}, null] from lake.raw.people_current where id = 1)",
    )?;
    let state = rig.pg.scalar(
        CATALOG,
        "select state from duckfeeder.tables where source_table = 'people'",
    )?;
    ensure!(state.as_deref() == Some("streaming"), "{state:?}");
    rig.wait_until_equal(&mut feeder, &["stays"])?;
    feeder.terminate()
}
