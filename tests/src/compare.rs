//! The oracle: the lake, read by DuckDB, must equal the source, read by Postgres itself.
//!
//! The source's values are rendered as text by Postgres' own output functions and cast by DuckDB to the
//! type of the lake's column; none of the feeder's code takes part. The comparison itself runs inside
//! DuckDB, so that a million rows take seconds.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};

use crate::{
    duckdb::{DuckDb, Rows, ident, literal},
    lake::{Lake, qualified},
    postgres::{Postgres, SUPERUSER},
};

/// How many differing rows a report shows of each side.
const SHOWN: usize = 5;

/// A source table and its changelog in the lake.
#[derive(Debug, Clone)]
pub struct Table {
    /// Schema and name at the source.
    pub source: (String, String),
    /// Schema and name in the lake.
    pub target: (String, String),
    /// The columns that tell rows apart; empty for a table without a key.
    pub key: Vec<String>,
    columns: Vec<Column>,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    /// As DuckDB calls it.
    lake_type: String,
    form: Form,
}

/// How the values of a column are compared.
#[derive(Debug, Clone)]
enum Form {
    /// As values of the lake's type.
    Value,
    /// As the text of a JSON list.
    List,
    /// As the text of a JSON list of these fields' texts, whatever fields the lake keeps besides.
    Fields(Vec<String>),
}

/// Compares tables of one source database with a lake.
#[derive(Debug)]
pub struct Oracle {
    db: DuckDb,
    libpq: String,
}

impl Oracle {
    /// Opens the lake and the source.
    ///
    /// # Errors
    /// When one of them cannot be attached.
    pub fn open(pg: &Postgres, database: &str, lake: &Lake) -> Result<Self> {
        let mut db = lake.open()?;
        let options = "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres \
                       -c extra_float_digits=3 -c bytea_output=hex -c row_security=off"
            .replace(' ', "\\ ");
        // Otherwise the server sends its own encoding, which DuckDB takes for UTF-8.
        let libpq = format!(
            "{} client_encoding=UTF8 options='{options}'",
            pg.libpq(SUPERUSER, database)
        );
        db.execute(&format!(
            "attach {} as source (type postgres, read_only)",
            literal(&libpq)
        ))?;
        Ok(Self { db, libpq })
    }

    /// The session that both are attached to, the lake as [`ALIAS`](crate::lake::ALIAS).
    pub fn db(&mut self) -> &mut DuckDb {
        &mut self.db
    }

    /// Looks up a source table (in schema `public`) and its changelog (in schema `raw`).
    ///
    /// # Errors
    /// When either is missing.
    pub fn table(&mut self, name: &str) -> Result<Table> {
        self.table_at(("public", name), ("raw", name))
    }

    /// Looks up a source table and its changelog.
    ///
    /// # Errors
    /// When either is missing, or the lake lacks a column of the source.
    pub fn table_at(&mut self, source: (&str, &str), target: (&str, &str)) -> Result<Table> {
        let described = self
            .db
            .query(&format!("describe {}", qualified(target.0, target.1)))?;
        let mut columns = Vec::new();
        for row in described.rows {
            let mut values = row.into_iter().flatten();
            let (name, lake_type) = values
                .next()
                .zip(values.next())
                .context("describe returns name and type")?;
            if !name.starts_with("_df_") {
                columns.push(Column {
                    name,
                    lake_type,
                    form: Form::Value,
                });
            }
        }
        let relation = literal(&format!("{}.{}", ident(source.0), ident(source.1)));
        // Virtual generated columns never travel.
        let own = self.source_rows(&format!(
            "select attname::text from pg_attribute where attrelid = {relation}::regclass \
             and attnum > 0 and not attisdropped and attgenerated <> 'v' order by attnum"
        ))?;
        let own: Vec<String> = own.rows.into_iter().flatten().flatten().collect();
        for name in &own {
            ensure!(
                columns.iter().any(|column| column.name == *name),
                "{}.{} lacks the column {name:?} of the source",
                target.0,
                target.1
            );
        }
        // What was dropped at the source may be kept in the lake.
        columns.retain(|column| own.contains(&column.name));
        // The identity index's columns where one is set, else those of the primary key (correctness, rule 10).
        let key = self.source_rows(&format!(
            "select a.attname::text from pg_index i join pg_class c on c.oid = i.indrelid \
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey) \
             where i.indrelid = {relation}::regclass and i.indimmediate \
             and case when c.relreplident = 'i' then i.indisreplident else i.indisprimary end \
             order by array_position(i.indkey::int2[], a.attnum)"
        ))?;
        Ok(Table {
            source: (source.0.to_owned(), source.1.to_owned()),
            target: (target.0.to_owned(), target.1.to_owned()),
            key: key.rows.into_iter().flatten().flatten().collect(),
            columns,
        })
    }

    /// Runs a query at the source.
    fn source_rows(&mut self, sql: &str) -> Result<Rows> {
        self.db
            .query(&format!("from postgres_query('source', {})", literal(sql)))
    }

    /// Everything that must hold of a table: no position twice, the changelog makes sense, its replay
    /// equals the source, and so does the `_current` view where there is one.
    ///
    /// # Errors
    /// A report of what differs.
    pub fn check(&mut self, table: &Table) -> Result<()> {
        self.no_repeats(table)?;
        self.load_source(table)?;
        self.check_replay(table)?;
        if !table.key.is_empty() {
            self.check_order(table)?;
            self.check_current(table)?;
        }
        Ok(())
    }

    /// [`Oracle::check`] for several tables of schema `public`.
    ///
    /// # Errors
    /// A report of what differs in the first that does.
    pub fn check_all(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            let table = self.table(name)?;
            self.check(&table)?;
        }
        Ok(())
    }

    /// The latest state of a table whose columns came and went: those that the source has now are the same
    /// in both, by name, whatever else the lake keeps. With a key the `_current` view says the state, else the
    /// replayed changelog.
    ///
    /// # Errors
    /// A report of what differs.
    pub fn check_latest(&mut self, source: (&str, &str), target: (&str, &str)) -> Result<()> {
        let mut table = self.table_at(source, target)?;
        let relation = literal(&format!("{}.{}", ident(source.0), ident(source.1)));
        let own = self.source_rows(&format!(
            "select a.attname::text, f.attname::text as field from pg_attribute a \
               join pg_type t on t.oid = a.atttypid \
               left join pg_attribute f on t.typtype = 'c' and f.attrelid = t.typrelid \
                    and f.attnum > 0 and not f.attisdropped \
             where a.attrelid = {relation}::regclass and a.attnum > 0 and not a.attisdropped \
             order by a.attnum, f.attnum"
        ))?;
        table.columns.retain_mut(|column| {
            let is_own =
                |row: &&Vec<Option<String>>| row.first() == Some(&Some(column.name.clone()));
            let rows: Vec<_> = own.rows.iter().filter(is_own).collect();
            let fields: Vec<String> = rows
                .iter()
                .filter_map(|row| row.get(1).cloned().flatten())
                .collect();
            if !fields.is_empty() {
                column.form = Form::Fields(fields);
            } else if column.lake_type.ends_with("[]") {
                column.form = Form::List;
            }
            !rows.is_empty()
        });
        self.no_repeats(&table)?;
        self.load_source(&table)?;
        if table.key.is_empty() {
            self.check_replay(&table)
        } else {
            self.check_current(&table)
        }
    }

    /// Every `(_df_lsn, _df_seq)` is there once.
    ///
    /// # Errors
    /// Names those that are not.
    pub fn no_repeats(&mut self, table: &Table) -> Result<()> {
        let log = table.changelog();
        let repeated = self.db.query(&format!(
            "select _df_lsn, _df_seq, count(*), list(distinct _df_op) from {log} \
             group by 1, 2 having count(*) > 1 order by 1, 2 limit {SHOWN}"
        ))?;
        ensure!(
            repeated.rows.is_empty(),
            "{log} repeats positions: {:?}",
            repeated.rows
        );
        Ok(())
    }

    /// Per key, nothing is inserted that is there and nothing deleted that is not.
    ///
    /// # Errors
    /// Shows the rows.
    fn check_order(&mut self, table: &Table) -> Result<()> {
        let key = idents(&table.key);
        let odd = self.db.query(&format!(
            "with {} select _df_lsn, _df_seq, _df_op, {key} from ( \
               select *, lag(_df_op) over (partition by {key} order by _df_lsn, _df_seq) as _before from log) \
             where (_df_op in ('insert', 'snapshot') and coalesce(_before, 'delete') <> 'delete') \
                or (_df_op = 'delete' and coalesce(_before, 'delete') = 'delete') \
             order by 1, 2 limit {SHOWN}",
            table.log_since_start()
        ))?;
        let log = table.changelog();
        ensure!(
            odd.rows.is_empty(),
            "{log} inserts what is there or deletes what is not: {:?}",
            odd.rows
        );
        Ok(())
    }

    /// Fetches the source table into `source_rows`, each value as the lake's type.
    fn load_source(&mut self, table: &Table) -> Result<()> {
        let texts: Vec<String> = table.columns.iter().map(Column::source_text).collect();
        let (schema, name) = &table.source;
        let inner = format!(
            "select {} from {}.{}",
            texts.join(", "),
            ident(schema),
            ident(name)
        );
        let typed: Vec<String> = table.columns.iter().map(Column::typed).collect();
        self.db
            .execute(&format!(
                "create or replace temp table source_rows as \
                 select {} from postgres_query('source', {})",
                typed.join(", "),
                literal(&inner)
            ))
            .with_context(|| format!("cannot read {schema}.{name} ({})", self.libpq))
    }

    fn check_replay(&mut self, table: &Table) -> Result<()> {
        let columns = table.column_list();
        let replay = if table.key.is_empty() {
            table.replay_bag()
        } else {
            table.replay_keyed()
        };
        let rows = if table.key.is_empty() { ", _rows" } else { "" };
        self.db.execute(&format!(
            "create or replace temp table lake_rows as select {}{rows} from ({replay})",
            table.lake_values()
        ))?;
        if table.key.is_empty() {
            // Counts, so that a million equal rows are one; a negative one is a deletion of nothing.
            self.db.execute(&format!(
                "create or replace temp table source_rows as \
                 select {columns}, count(*)::hugeint as _rows from source_rows group by all"
            ))?;
        }
        self.same(&format!(
            "the changelog of {}, replayed,",
            table.changelog()
        ))
    }

    fn check_current(&mut self, table: &Table) -> Result<()> {
        let view = qualified(&table.target.0, &format!("{}_current", table.target.1));
        let values = table.lake_values();
        self.db.execute(&format!(
            "create or replace temp table lake_rows as select {values} from {view}"
        ))?;
        self.same(&view)
    }

    /// `source_rows` and `lake_rows` hold the same rows, each as often.
    fn same(&mut self, what: &str) -> Result<()> {
        let lacking = "from source_rows except all from lake_rows";
        let extra = "from lake_rows except all from source_rows";
        let counts = self.db.query(&format!(
            "select (select count(*) from ({lacking})), (select count(*) from ({extra})), \
             (select count(*) from source_rows), (select count(*) from lake_rows)"
        ))?;
        let counts: Vec<String> = counts.rows.into_iter().flatten().flatten().collect();
        let [lacks, exceeds, source, lake] = counts.as_slice() else {
            bail!("four counts")
        };
        if lacks == "0" && exceeds == "0" {
            return Ok(());
        }
        let mut report = format!(
            "{what} has {lake} rows, its source {source}; it lacks {lacks} and has {exceeds} others"
        );
        for (title, side) in [("lacks", lacking), ("has instead", extra)] {
            let shown = self
                .db
                .draw(&format!("from ({side}) order by all limit {SHOWN}"))?;
            write!(report, "\n{title}:\n{shown}")?;
        }
        bail!(report)
    }
}

impl Column {
    /// The expression by which Postgres gives a value as text.
    fn source_text(&self) -> String {
        let name = ident(&self.name);
        match &self.form {
            // The output function's text: a cast would strip the padding of char(n).
            Form::Value => {
                format!("case when {name} is not null then concat({name}) end as {name}")
            }
            Form::List => format!("to_json({name})::text as {name}"),
            Form::Fields(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|field| format!("({name}).{}::text", ident(field)))
                    .collect();
                // A composite of NULLs only "is null" too, and yet is a value.
                format!(
                    "case when {name} is distinct from null then to_json(array[{}])::text end as {name}",
                    fields.join(", ")
                )
            }
        }
    }

    /// The lake's value in the form that is compared.
    fn lake_value(&self) -> String {
        let name = ident(&self.name);
        match &self.form {
            Form::Value => name,
            Form::List => format!("to_json({name})::varchar as {name}"),
            Form::Fields(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|field| format!("{name}.{}::varchar", ident(field)))
                    .collect();
                format!(
                    "case when {name} is not null then to_json([{}])::varchar end as {name}",
                    fields.join(", ")
                )
            }
        }
    }

    /// The expression that turns Postgres' text of a value into the type of the lake's column.
    fn typed(&self) -> String {
        let name = ident(&self.name);
        if !matches!(self.form, Form::Value) {
            return name;
        }
        match self.lake_type.as_str() {
            "BLOB" => format!("unhex(substr({name}, 3)) as {name}"),
            // Years before Christ in DuckDB's form: it reads over Postgres's.
            kind if kind == "DATE" || kind.starts_with("TIMESTAMP") => {
                format!("cast(replace({name}, ' BC', ' (BC)') as {kind}) as {name}")
            }
            other => format!("cast({name} as {other}) as {name}"),
        }
    }
}

impl Table {
    fn changelog(&self) -> String {
        qualified(&self.target.0, &self.target.1)
    }

    fn column_list(&self) -> String {
        let names: Vec<String> = self
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        idents(&names)
    }

    fn lake_values(&self) -> String {
        let values: Vec<String> = self.columns.iter().map(Column::lake_value).collect();
        values.join(", ")
    }

    /// `log`: the changelog after its last `reset` or `truncate`, which is where a replay starts.
    fn log_since_start(&self) -> String {
        let log = self.changelog();
        format!(
            "start as (select _df_lsn as l, _df_seq as s from {log} where _df_op in ('reset', 'truncate') \
               order by l desc, s desc limit 1), \
             log as (select log.* from {log} as log left join start on true \
               where start.l is null or _df_lsn > l or (_df_lsn = l and _df_seq > s))"
        )
    }

    /// Replay with a key: the last row of each, unless it is a delete. A value that the server did not send
    /// is the one before it in the same life of the row; a life begins with insert, snapshot or delete.
    fn replay_keyed(&self) -> String {
        let key = idents(&self.key);
        let values: Vec<String> = self
            .columns
            .iter()
            .map(|Column { name, .. }| {
                let column = ident(name);
                format!(
                    "(last_value(case when not coalesce(list_contains(_df_unchanged, {}), false) \
                       then struct_pack(v := {column}) end ignore nulls) over life).v as {column}",
                    literal(name)
                )
            })
            .collect();
        format!(
            "with {}, \
             lives as (select *, count(*) filter (_df_op in ('insert', 'snapshot', 'delete')) \
               over (partition by {key} order by _df_lsn, _df_seq) as _life from log), \
             filled as (select {}, _df_op, row_number() over (partition by {key} order by _df_lsn desc, _df_seq desc) as _last \
               from lives window life as (partition by {key}, _life order by _df_lsn, _df_seq)) \
             select {} from filled where _last = 1 and _df_op <> 'delete'",
            self.log_since_start(),
            values.join(", "),
            self.column_list()
        )
    }

    /// Replay without a key: how many of each row there are. An update of such a table is a delete of the
    /// old row and an update to the new one.
    fn replay_bag(&self) -> String {
        let columns = self.column_list();
        format!(
            "with {} select {columns}, sum(case _df_op when 'delete' then -1 else 1 end) as _rows \
             from log group by {columns} having _rows <> 0",
            self.log_since_start()
        )
    }
}

fn idents(names: &[String]) -> String {
    names
        .iter()
        .map(|name| ident(name))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source table with a key, and its changelog as a feeder would have written it, made by DuckDB.
    fn keyed() -> Result<(Postgres, Lake, tempfile::TempDir)> {
        let pg = Postgres::start_default()?;
        pg.create_database("meta")?;
        pg.create_database("shop")?;
        pg.sql(
            "shop",
            r"create table t (id int primary key, v text, c char(3), b bytea, ts timestamptz, f float8);
              insert into t values (1, 'one', 'x', '\x00ff', '2024-02-29 12:00:00.5+02', 'NaN'), (3, null, null, null, 'infinity', 0.1);
              create table bag (v int, w text); insert into bag values (1, null), (1, null), (2, 'x')",
        )?;
        let data = tempfile::tempdir()?;
        let lake = Lake::new(&pg, "meta");
        let mut db = DuckDb::open()?;
        db.execute(&format!(
            "attach 'ducklake:postgres:{}' as lake (data_path {})",
            lake.libpq,
            literal(&format!("{}/", data.path().display()))
        ))?;
        db.execute("create schema lake.raw")?;
        let system = "_df_op varchar, _df_timestamp timestamptz, _df_lsn bigint, _df_seq bigint, \
                      _df_unchanged varchar[], _df_unrepresentable varchar[]";
        db.execute(&format!(
            "create table lake.raw.t ({system}, id int, v varchar, c varchar, b blob, ts timestamptz, f double)"
        ))?;
        db.execute(&format!(
            "create table lake.raw.bag ({system}, v int, w varchar)"
        ))?;
        db.execute(
            r"insert into lake.raw.t values
              ('insert', now(), 1, 0, null, null, 9, 'before the reset', null, null, null, null),
              ('reset', now(), 10, -9, null, null, null, null, null, null, null, null),
              ('snapshot', now(), 10, -8, null, null, 1, 'one', 'y', null, null, null),
              ('snapshot', now(), 10, -7, null, null, 2, 'two', null, null, null, null),
              ('update', now(), 11, 0, ['v'], null, 1, null, 'x  ', '\x00\xFF', '2024-02-29 10:00:00.5+00', 'NaN'),
              ('delete', now(), 11, 1, null, null, 2, null, null, null, null, null),
              ('insert', now(), 12, 0, null, null, 3, null, null, null, 'infinity', 0.1)",
        )?;
        db.execute(
            "insert into lake.raw.bag values
              ('reset', now(), 10, -9, null, null, null, null),
              ('snapshot', now(), 10, -8, null, null, 1, null), ('snapshot', now(), 10, -7, null, null, 1, null),
              ('insert', now(), 12, 0, null, null, 3, 'x'), ('delete', now(), 12, 1, null, null, 3, 'x'),
              ('update', now(), 12, 2, null, null, 2, 'x')",
        )?;
        db.execute(
            "create view lake.raw.t_current as select * from (values \
             (1, 'one', 'x  ', '\\x00\\xFF'::blob, timestamptz '2024-02-29 10:00:00.5+00', 'NaN'::double), \
             (3, null, null, null, 'infinity'::timestamptz, 0.1::double)) as v(id, v, c, b, ts, f)",
        )?;
        Ok((pg, lake, data))
    }

    #[test]
    fn an_equal_lake_passes_and_an_unequal_one_is_told_apart() -> Result<()> {
        let (pg, lake, _data) = keyed()?;
        let mut oracle = Oracle::open(&pg, "shop", &lake)?;
        oracle.check_all(&["t", "bag"])?;

        let t = oracle.table("t")?;
        assert_eq!(t.key, ["id"]);
        let mut broken = |change: &str, undo: &str, table: &str, report: &str| -> Result<()> {
            pg.sql("shop", change)?;
            let table = oracle.table(table)?;
            let error = oracle.check(&table).expect_err(change).to_string();
            assert!(error.contains(report), "{change}: {error}");
            pg.sql("shop", undo)?;
            oracle.check(&table)
        };
        broken(
            "update t set v = 'two' where id = 1",
            "update t set v = 'one' where id = 1",
            "t",
            "lacks 1",
        )?;
        broken(
            "insert into t values (4)",
            "delete from t where id = 4",
            "t",
            "lacks 1 and has 0 others",
        )?;
        broken(
            "insert into bag values (1, null)",
            "delete from bag where ctid in (select ctid from bag where v = 1 limit 1)",
            "bag",
            "lacks",
        )?;
        broken(
            "update t set f = 0.2 where id = 3",
            "update t set f = 0.1 where id = 3",
            "t",
            "lacks 1",
        )?;
        Ok(())
    }

    #[test]
    fn repeats_and_impossible_orders_are_told() -> Result<()> {
        let (pg, lake, _data) = keyed()?;
        let mut oracle = Oracle::open(&pg, "shop", &lake)?;
        let t = oracle.table("t")?;
        oracle.db().execute(
            "insert into lake.raw.t (_df_op, _df_lsn, _df_seq, id) values ('insert', 13, 0, 3)",
        )?;
        let error = oracle.check_order(&t).expect_err("3 is there").to_string();
        assert!(error.contains("inserts what is there"), "{error}");
        oracle.db().execute(
            "insert into lake.raw.t (_df_op, _df_lsn, _df_seq, id) values ('delete', 13, 0, 3)",
        )?;
        let error = oracle
            .check(&t)
            .expect_err("13, 0 is there twice")
            .to_string();
        assert!(error.contains("repeats positions"), "{error}");
        Ok(())
    }
}
