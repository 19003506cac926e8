//! The script: schema changes of every kind, each with the rows that follow it and what it makes of the lake.

use super::Expect::{self, Column, ColumnComment, Kept, NoColumn, NoTable, Table, TableComment};

/// One schema change.
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    /// What it shows.
    pub name: &'static str,
    /// The change: one statement, or a transaction with rows in it.
    pub sql: &'static str,
    /// Rows that follow, in the new shape. Empty where no row is to make the change known.
    pub dml: &'static str,
    /// What holds in the lake when both have arrived.
    pub lake: &'static [Expect],
}

/// The tables that the script begins with. `n` and `id` of `items` are never touched: the load needs them.
/// A feeder refuses a pattern that matches nothing, so `other` has a table from the start.
pub const SETUP: &str = "
create schema other;
create table other.anchor (id int primary key);
create type mood as enum ('sad', 'ok');
create type address as (street text, zip int);
create table items (id int primary key, n int not null default 0, a text, b int, c numeric(8,2), d date,
    flag boolean, addr address, feeling mood, tags text[], small smallint, stamp timestamp, doc jsonb,
    short varchar(10), x text, y text, gone1 text, gone2 int, gone3 int);
create table notes (body text, n int not null default 0);
alter table notes replica identity full;
create table events (id int primary key, kind text not null, n int not null default 0);
create table first (id int primary key, n int not null default 0, who text default 'first');
create table second (id int primary key, n int not null default 0, who text default 'second');
create table brief (id int primary key, v text);
create table keys (id int primary key, alt int not null, n int not null default 0);
create table parts (id int primary key, v text) partition by range (id);
create table parts_low partition of parts for values from (minvalue) to (1000);
create table parts_high partition of parts for values from (1000) to (100000);
create table quiet (id int primary key, v text);
";

/// Rows for a table of [`SETUP`], by the number of rows of `items`.
pub fn rows(items: u32) -> String {
    format!(
        "insert into items select g, 0, 'a' || g, g, g / 4.0, date '2024-01-01' + g % 1000, g % 2 = 0,
             row('street ' || g, g)::address, 'ok', array['x', null], g % 100, timestamp '2024-01-01' + g * interval '1 minute',
             jsonb_build_object('g', g), 's' || g % 1000, 'x' || g, 'y' || g, 'gone' || g, g, g
             from generate_series(1, {items}) g;
         insert into notes select 'note ' || g, g from generate_series(1, {items} / 10) g;
         insert into events select g, 'kind ' || g % 5 from generate_series(1, {items} / 10) g;
         insert into first select g from generate_series(1, 100) g;
         insert into second select g from generate_series(1, 200) g;
         insert into brief select g, 'brief' from generate_series(1, 50) g;
         insert into keys select g, g + 100000 from generate_series(1, 100) g;
         insert into parts select g * 10, 'p' || g from generate_series(1, 200) g;
         insert into quiet select g, 'q' from generate_series(1, 20) g;"
    )
}

const fn change(
    name: &'static str,
    sql: &'static str,
    dml: &'static str,
    lake: &'static [Expect],
) -> Statement {
    Statement {
        name,
        sql,
        dml,
        lake,
    }
}

/// A row of `items` that is not there yet, by the columns that no change touches.
const NEW_ITEM: &str = "insert into items (id, n) select max(id) + 1, 1 from items;
     update items set n = n + 1 where id % 50 = 3";

/// The script, in its order.
#[rustfmt::skip]
pub const SCRIPT: &[Statement] = &[
    // Columns that are added.
    change("add a column", "alter table items add column plain text",
        "update items set plain = 'p' || id where id % 10 = 0", &[Column("items", "plain", "VARCHAR")]),
    change("a constant default", "alter table items add column k42 int default 42", NEW_ITEM, &[Column("items", "k42", "INTEGER")]),
    change("a default with quotes", r#"alter table items add column quoted text default 'it''s "q" \ NULL'"#, NEW_ITEM,
        &[Column("items", "quoted", "VARCHAR")]),
    change("a default that reads NULL", "alter table items add column nulls text default 'NULL'", NEW_ITEM,
        &[Column("items", "nulls", "VARCHAR")]),
    change("NOT NULL with a default", "alter table items add column yes boolean not null default true", NEW_ITEM,
        &[Column("items", "yes", "BOOLEAN")]),
    change("a timestamptz as default", "alter table items add column since timestamptz default '2024-01-01 00:30:00+02'", NEW_ITEM,
        &[Column("items", "since", "TIMESTAMP WITH TIME ZONE")]),
    change("a stable default", "alter table items add column made timestamptz not null default now()", NEW_ITEM,
        &[Column("items", "made", "TIMESTAMP WITH TIME ZONE")]),
    change("a decimal as default", "alter table items add column price numeric(10,3) default 1.5", NEW_ITEM,
        &[Column("items", "price", "DECIMAL(10,3)")]),
    change("a volatile default rewrites the table", "alter table items add column token uuid default gen_random_uuid()", NEW_ITEM,
        &[Column("items", "token", "UUID")]),
    change("a JSON default", r#"alter table items add column extra jsonb default '{"a": [1, null]}'"#, NEW_ITEM,
        &[Column("items", "extra", "JSON")]),
    change("an array default", "alter table items add column list int[] default '{1,null,2}'", NEW_ITEM,
        &[Column("items", "list", "INTEGER[]")]),
    change("a bytea default", r"alter table items add column raw_bytes bytea default '\x00ff61'", NEW_ITEM,
        &[Column("items", "raw_bytes", "BLOB")]),
    change("NaN as default", "alter table items add column ratio float8 default 'NaN'", NEW_ITEM,
        &[Column("items", "ratio", "DOUBLE")]),
    change("infinity as default", "alter table items add column until date default 'infinity'", NEW_ITEM,
        &[Column("items", "until", "DATE")]),
    change("a day before Christ as default", "alter table events add column ides date default '0044-03-15 BC'",
        "insert into events (id, kind) select max(id) + 1, 'new' from events", &[Column("events", "ides", "DATE")]),
    change("an enum default", "alter table events add column feeling mood default 'ok'",
        "insert into events (id, kind) select max(id) + 1, 'new' from events", &[Column("events", "feeling", "VARCHAR")]),
    change("a composite column", "alter table events add column place address",
        "update events set place = row('street', id) where id % 3 = 0", &[Column("events", "place", "STRUCT(street VARCHAR, zip INTEGER)")]),
    change("a composite default", "alter table events add column home address default row('home', 1)",
        "insert into events (id, kind) select max(id) + 1, 'new' from events", &[Column("events", "home", "STRUCT(street VARCHAR, zip INTEGER)")]),
    change("a serial column rewrites the table", "alter table events add column number serial",
        "insert into events (id, kind) select max(id) + 1, 'new' from events", &[Column("events", "number", "INTEGER")]),
    change("an identity column", "alter table first add column ident int generated always as identity",
        "insert into first (id) select max(id) + 1 from first", &[Column("first", "ident", "INTEGER")]),
    change("two columns in one statement", "alter table items add column two1 int, add column two2 text default 'two'", NEW_ITEM,
        &[Column("items", "two1", "INTEGER"), Column("items", "two2", "VARCHAR")]),
    change("a column that is there already", "alter table items add column if not exists two1 text", NEW_ITEM,
        &[Column("items", "two1", "INTEGER")]),
    change("a column of a table without a key", "alter table notes add column lang text default 'en'",
        "insert into notes (body) values ('new'); update notes set lang = 'de' where n % 7 = 0", &[Column("notes", "lang", "VARCHAR")]),
    change("a column with no row after it", "alter table quiet add column silent int default 7", "", &[]),
    change("a domain", "create domain cents as int check (value >= 0); alter table items add column cost cents default 100", NEW_ITEM,
        &[Column("items", "cost", "INTEGER")]),
    // Columns that go, and come back.
    change("drop a column", "alter table items drop column gone1", NEW_ITEM, &[Kept("items", "gone1", 1)]),
    change("drop two columns", "alter table items drop column gone2, drop column plain", NEW_ITEM,
        &[Kept("items", "gone2", 1), Kept("items", "plain", 1)]),
    change("a dropped name comes back as another type", "alter table items add column gone2 text default 'back'", NEW_ITEM,
        &[Column("items", "gone2", "VARCHAR"), Kept("items", "gone2", 2)]),
    change("drop and add in one statement", "alter table items drop column gone3, add column gone3 timestamptz",
        "update items set gone3 = '2024-02-29 12:00+00' where id % 5 = 0",
        &[Column("items", "gone3", "TIMESTAMP WITH TIME ZONE"), Kept("items", "gone3", 2)]),
    change("a dropped name comes back as the same type",
        "alter table items drop column two2; alter table items add column two2 text", NEW_ITEM,
        &[Column("items", "two2", "VARCHAR"), Kept("items", "two2", 2)]),
    // Names of columns.
    change("rename a column", "alter table items rename column a to title", "update items set title = 't' where id % 9 = 0",
        &[Column("items", "title", "VARCHAR"), NoColumn("items", "a")]),
    change("swap two names", "begin; alter table items rename column x to swap; alter table items rename column y to x;
        alter table items rename column swap to y; commit", "update items set x = 'new x', y = 'new y' where id % 11 = 0",
        &[Column("items", "x", "VARCHAR"), Column("items", "y", "VARCHAR")]),
    change("rename twice in a transaction", "begin; alter table items rename column b to b1; update items set b1 = 0 where id = 5;
        alter table items rename column b1 to b2; update items set b2 = 1 where id = 6; commit", NEW_ITEM,
        &[Column("items", "b2", "INTEGER"), NoColumn("items", "b1")]),
    change("a name with capitals and blanks", r#"alter table items rename column title to "The Title""#, NEW_ITEM,
        &[Column("items", "The Title", "VARCHAR")]),
    change("only the case of a name", r#"alter table items rename column "The Title" to "the title""#, NEW_ITEM,
        &[Column("items", "the title", "VARCHAR")]),
    change("the name of a dropped column", r#"alter table items rename column "the title" to gone1"#,
        "update items set gone1 = 'taken over' where id % 13 = 0", &[Column("items", "gone1", "VARCHAR"), Kept("items", "gone1", 2)]),
    // Types.
    change("int to bigint", "alter table items alter column b2 type bigint", "update items set b2 = 10000000000 where id % 17 = 0",
        &[Column("items", "b2", "BIGINT")]),
    change("smallint to int", "alter table items alter column small type int", "update items set small = 100000 where id % 17 = 0",
        &[Column("items", "small", "INTEGER")]),
    change("a wider numeric", "alter table items alter column c type numeric(12,2)", "update items set c = 1234567890.12 where id % 17 = 0",
        &[Column("items", "c", "DECIMAL(12,2)")]),
    change("numeric without limits", "alter table items alter column c type numeric", "update items set c = 0.123456789 where id % 19 = 0",
        &[Column("items", "c", "VARCHAR")]),
    change("int to text", "alter table items alter column small type text", "update items set small = 'many' where id % 19 = 0",
        &[Column("items", "small", "VARCHAR")]),
    change("text to int is no widening", "alter table items alter column x type int using length(x)", "update items set x = 7 where id % 19 = 0",
        &[Column("items", "x", "INTEGER"), Kept("items", "x", 2)]),
    change("date to timestamptz", "alter table items alter column d type timestamptz", NEW_ITEM,
        &[Column("items", "d", "TIMESTAMP WITH TIME ZONE")]),
    change("timestamp to date", "alter table items alter column stamp type date", NEW_ITEM, &[Column("items", "stamp", "DATE")]),
    change("a longer varchar", "alter table items alter column short type varchar(50)",
        "update items set short = repeat('s', 50) where id % 23 = 0", &[Column("items", "short", "VARCHAR")]),
    change("varchar to text", "alter table items alter column short type text",
        "update items set short = repeat('s', 500) where id % 23 = 0", &[Column("items", "short", "VARCHAR")]),
    change("boolean to int", "alter table items alter column flag type int using flag::int", "update items set flag = 5 where id % 23 = 0",
        &[Column("items", "flag", "INTEGER")]),
    change("jsonb to text", "alter table items alter column doc type text", "update items set doc = 'no json' where id % 23 = 0",
        &[Column("items", "doc", "VARCHAR")]),
    change("real and double", "alter table items alter column ratio type real", "update items set ratio = 0.1 where id % 23 = 0",
        &[Column("items", "ratio", "FLOAT")]),
    change("a type and a name in one transaction", "begin; alter table items rename column k42 to k; insert into items (id, k) select max(id) + 1, 1 from items;
        alter table items alter column k type bigint; insert into items (id, k) select max(id) + 1, 10000000000 from items; commit", "",
        &[Column("items", "k", "BIGINT"), NoColumn("items", "k42")]),
    // What changes no shape.
    change("nullability", "alter table items alter column yes drop not null", "update items set yes = null where id % 29 = 0", &[]),
    change("nullability back", "update items set yes = true where yes is null; alter table items alter column yes set not null", NEW_ITEM, &[]),
    change("defaults come and go", "alter table items alter column k set default 9, alter column quoted drop default", NEW_ITEM, &[]),
    change("constraints and indexes", "alter table items add constraint positive check (n >= 0) not valid; create index on items (n);
        alter table items drop constraint positive", NEW_ITEM, &[]),
    change("storage and statistics", "alter table items alter column quoted set storage external, alter column n set statistics 10;
        alter table items set (fillfactor = 70)", NEW_ITEM, &[]),
    change("a rewrite without a change", "vacuum full items", NEW_ITEM, &[]),
    change("grants", "grant select on items to public", NEW_ITEM, &[]),
    // Comments.
    change("a column's comment", "comment on column items.n is 'how often'", NEW_ITEM, &[ColumnComment("items", "n", "how often")]),
    change("another comment", "comment on column items.n is 'it''s more'", NEW_ITEM, &[ColumnComment("items", "n", "it's more")]),
    change("no comment", "comment on column items.n is null", NEW_ITEM, &[ColumnComment("items", "n", "")]),
    change("a table's comment", "comment on table items is 'things'", NEW_ITEM, &[TableComment("items", "things")]),
    // Tables.
    change("rename a table", "alter table first rename to third", "insert into third (id) select max(id) + 1 from third",
        &[Table("third"), NoTable("first")]),
    change("swap two tables", "begin; alter table third rename to swap; alter table second rename to third;
        alter table swap rename to second; commit", "insert into second (id) select max(id) + 1 from second; insert into third (id) select max(id) + 1 from third",
        &[Table("second"), Table("third")]),
    change("set schema", "alter table third set schema other", "insert into other.third (id) select max(id) + 1 from other.third", &[Table("third")]),
    change("set schema back", "alter table other.third set schema public", "update third set who = 'back' where id % 3 = 0", &[Table("third")]),
    change("create a table", "create table fresh (id int primary key, v text)", "insert into fresh select g, 'v' from generate_series(1, 10) g",
        &[Table("fresh"), Column("fresh", "v", "VARCHAR")]),
    change("create a table with rows in one transaction", "begin; create table filled (id int primary key, v text);
        insert into filled select g, 'v' from generate_series(1, 100) g; alter table filled add column w int default 3; insert into filled values (1000, 'late', 4); commit",
        "update filled set w = 5 where id < 10", &[Column("filled", "w", "INTEGER")]),
    change("create table as", "create table selected as select id, n from items where id < 100",
        "insert into selected values (1000, 1)", &[Table("selected")]),
    change("drop a table", "drop table brief", "", &[Table("brief")]),
    change("drop and create a name", "begin; drop table filled; create table filled (id int primary key, other int); commit",
        "insert into filled select g, g from generate_series(1, 10) g", &[Column("filled", "other", "INTEGER")]),
    change("truncate", "truncate fresh", "insert into fresh values (1, 'after')", &[]),
    change("truncate and change", "begin; insert into fresh values (2, 'gone'); truncate fresh; alter table fresh add column t int default 1;
        insert into fresh values (3, 'stays', 2); commit", "", &[Column("fresh", "t", "INTEGER")]),
    // Keys and identities.
    change("another primary key", "begin; alter table keys drop constraint keys_pkey; alter table keys add primary key (alt); commit",
        "update keys set id = id + 1 where alt % 3 = 0; update keys set alt = alt + 1000000 where alt % 10 = 0", &[]),
    change("a primary key of two columns", "begin; alter table keys drop constraint keys_pkey; alter table keys add primary key (id, alt); commit",
        "update keys set n = n + 1; delete from keys where id % 9 = 0", &[]),
    change("no primary key, but the full row", "begin; alter table keys drop constraint keys_pkey; alter table keys replica identity full; commit",
        "update keys set n = n + 1 where id % 2 = 0; delete from keys where id % 7 = 0", &[]),
    change("a key by index", "begin; create unique index keys_alt on keys (alt); alter table keys replica identity using index keys_alt; commit",
        "update keys set alt = alt + 5000000 where alt % 4 = 0", &[]),
    change("the default identity again", "begin; alter table keys add primary key (id, alt); alter table keys replica identity default; commit",
        "update keys set n = n + 1; delete from keys where id % 5 = 0", &[]),
    change("the full row beside a key", "alter table events replica identity full", "update events set n = n + 1 where id % 2 = 0", &[]),
    change("a key for a table without one", "alter table selected add primary key (id)",
        "update selected set n = n + 1 where id % 2 = 0; delete from selected where id = 3", &[]),
    // Types of the source's own.
    change("an enum value more", "alter type mood add value 'glad'", "update items set feeling = 'glad' where id % 31 = 0", &[]),
    change("an enum value between", "alter type mood add value 'fair' before 'ok'", "update items set feeling = 'fair' where id % 37 = 0", &[]),
    change("an enum value's name", "alter type mood rename value 'glad' to 'happy'", "update items set feeling = 'happy' where id % 41 = 0", &[]),
    change("a composite's attribute more", "alter type address add attribute country text",
        "update items set addr = row('new', 1, 'CH')::address where id % 31 = 0", &[Column("items", "addr", "STRUCT(street VARCHAR, zip INTEGER, country VARCHAR)")]),
    change("a composite's attribute renamed", "alter type address rename attribute street to road",
        "update items set addr = row('renamed', 1, 'CH')::address where id % 37 = 0", &[Column("items", "addr", "STRUCT(road VARCHAR, zip INTEGER, country VARCHAR)")]),
    change("a composite's attribute dropped", "alter type address drop attribute zip",
        "update items set addr = row('dropped', 'CH')::address where id % 41 = 0", &[]),
    change("a type's name", "alter type mood rename to feelings", NEW_ITEM, &[]),
    // Transactions.
    change("a column that lived in one transaction", "begin; insert into items (id) select max(id) + 1 from items; alter table items add column brief int;
        insert into items (id, brief) select max(id) + 1, 1 from items; alter table items drop column brief;
        insert into items (id) select max(id) + 1 from items; commit", NEW_ITEM, &[]),
    change("rename and drop in one transaction", "begin; alter table items rename column two1 to two3; update items set two3 = 3 where id < 20;
        alter table items drop column two2; update items set two3 = 4 where id < 10; commit", NEW_ITEM, &[Column("items", "two3", "INTEGER"), NoColumn("items", "two1")]),
    change("a change that is rolled back", "begin; alter table items add column never int; insert into items (id, never) select max(id) + 1, 1 from items; rollback",
        NEW_ITEM, &[NoColumn("items", "never")]),
    change("a change that a savepoint takes back", "begin; insert into items (id) select max(id) + 1 from items; savepoint s; alter table items add column never int;
        insert into items (id, never) select max(id) + 1, 1 from items; rollback to s; alter table items add column always int default 1;
        insert into items (id, always) select max(id) + 1, 2 from items; commit", "", &[NoColumn("items", "never"), Column("items", "always", "INTEGER")]),
    change("two tables in one transaction", "begin; alter table events add column shared int default 1; update events set shared = 2 where id % 2 = 0;
        alter table notes add column shared int default 1; insert into notes (body, shared) values ('both', 3); commit", NEW_ITEM,
        &[Column("events", "shared", "INTEGER"), Column("notes", "shared", "INTEGER")]),
    // Partitions.
    change("a column of a partitioned table", "alter table parts add column w int default 5", "insert into parts values (5, 'low', 1), (5000, 'high', 2)",
        &[Column("parts", "w", "INTEGER")]),
    change("a partition more", "create table parts_more partition of parts for values from (100000) to (maxvalue)",
        "insert into parts values (200000, 'more', 3)", &[]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use anyhow::{Context, Result};

    use super::*;
    use crate::postgres::Postgres;

    #[test]
    fn the_script_is_valid() -> Result<()> {
        assert!(SCRIPT.len() >= 60, "{}", SCRIPT.len());
        let names: BTreeSet<_> = SCRIPT.iter().map(|statement| statement.name).collect();
        assert_eq!(names.len(), SCRIPT.len(), "two have one name");
        let pg = Postgres::start_default()?;
        pg.create_database("script")?;
        pg.sql("script", SETUP)?;
        pg.sql("script", &rows(500))?;
        for statement in SCRIPT {
            pg.sql("script", statement.sql)
                .with_context(|| statement.name)?;
            pg.sql("script", statement.dml)
                .with_context(|| statement.name)?;
        }
        Ok(())
    }
}
