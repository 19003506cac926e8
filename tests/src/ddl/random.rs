//! Random schema changes and rows that are valid at the source, made from a seed.
//!
//! The generator keeps no model of rows: the source itself says afterwards what must be in the lake. It
//! only knows which tables and columns there are, so that what it makes is valid.

#![expect(
    clippy::indexing_slicing,
    reason = "indices are drawn below the lengths"
)]

use std::fmt::Write as _;

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

/// Name, value, default, and what it may become.
type Type = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// Types with a value, a constant default, and the types that a column of it may become, with the
/// expression that makes it so (`#` stands for the column).
const TYPES: &[Type] = &[
    (
        "smallint",
        "(random() * 100)::int",
        "7",
        &[("int", "#"), ("text", "#::text")],
    ),
    (
        "int",
        "(random() * 100000)::int",
        "42",
        &[
            ("int", "# / 2"),
            ("bigint", "#"),
            ("numeric(20,0)", "#"),
            ("text", "#::text"),
            ("smallint", "(# % 100)::smallint"),
            ("float8", "#"),
        ],
    ),
    (
        "bigint",
        "(random() * 1e12)::bigint",
        "10000000000",
        &[
            ("bigint", "-#"),
            ("text", "#::text"),
            ("numeric(20,0)", "#"),
        ],
    ),
    (
        "numeric(20,0)",
        "(random() * 1e15)::numeric(20,0)",
        "5",
        &[("text", "#::text")],
    ),
    (
        "numeric(8,2)",
        "(random() * 1000)::numeric(8,2)",
        "1.50",
        &[
            ("numeric(12,2)", "#"),
            ("numeric(12,4)", "#"),
            ("text", "#::text"),
        ],
    ),
    (
        "numeric(12,2)",
        "(random() * 1e6)::numeric(12,2)",
        "-0.01",
        &[
            ("numeric(12,2)", "-#"),
            ("numeric", "#"),
            ("text", "#::text"),
        ],
    ),
    (
        "numeric(12,4)",
        "(random() * 1e6)::numeric(12,4)",
        "0.0001",
        &[("float8", "#")],
    ),
    (
        "numeric",
        "(random() * 1e6)::numeric",
        "0.123456789",
        &[("text", "#::text")],
    ),
    (
        "float8",
        "random()",
        "0.1",
        &[("real", "#"), ("text", "#::text")],
    ),
    ("real", "random()::real", "'NaN'", &[("float8", "#")]),
    (
        "boolean",
        "random() < 0.5",
        "true",
        &[("boolean", "not #"), ("text", "#::text"), ("int", "#::int")],
    ),
    (
        "text",
        "md5(random()::text)",
        "'it''s'",
        &[("varchar(100)", "left(#, 100)"), ("int", "length(#)")],
    ),
    (
        "varchar(100)",
        "left(md5(random()::text), 20)",
        "'NULL'",
        &[("text", "#")],
    ),
    (
        "date",
        "date '2024-01-01' + (random() * 1000)::int",
        "'infinity'",
        &[("timestamptz", "#"), ("text", "#::text")],
    ),
    (
        "timestamptz",
        "'2024-01-01 00:00+00'::timestamptz + random() * interval '1 year'",
        "'2024-02-29 12:00:00.5+02'",
        &[("date", "#::date")],
    ),
    (
        "uuid",
        "gen_random_uuid()",
        "'00000000-0000-0000-0000-00000000000a'",
        &[("text", "#::text")],
    ),
    (
        "jsonb",
        "jsonb_build_object('r', (random() * 10)::int)",
        "'[1, null]'",
        &[("text", "#::text")],
    ),
    (
        "int[]",
        "array[(random() * 10)::int, null]",
        "'{1,2}'",
        &[("text", "#::text")],
    ),
    (
        "bytea",
        "decode(md5(random()::text), 'hex')",
        "'\\x00ff'",
        &[],
    ),
];

#[derive(Debug, Clone)]
struct Column {
    name: String,
    ty: &'static str,
}

#[derive(Debug, Clone)]
struct Table {
    schema: &'static str,
    name: String,
    columns: Vec<Column>,
    /// Without a key, with the full row as its identity.
    is_bag: bool,
}

impl Table {
    fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// Makes one statement, or one transaction, after the other.
#[derive(Debug)]
pub struct Generator {
    rng: StdRng,
    tables: Vec<Table>,
    names: u32,
    keys: u32,
}

impl Generator {
    /// A generator, and what the source begins with.
    pub fn new(rng: StdRng) -> (Self, String) {
        let mut generator = Self {
            rng,
            tables: Vec::new(),
            names: 0,
            keys: 0,
        };
        // A first start refuses a pattern that matches nothing, and may come after all others are gone.
        let mut setup = "create schema other; create table other.anchor (id int primary key); \
                         create table mooring (id int primary key);"
            .to_owned();
        for _ in 0..3 {
            setup += &generator.create_table();
            setup += &generator.insert(generator.tables.len() - 1);
        }
        (generator, setup)
    }

    /// The next transaction: rows, schema changes, or both.
    pub fn transaction(&mut self) -> String {
        let count = *[1, 1, 1, 2, 3, 5].choose(&mut self.rng).unwrap_or(&1);
        let mut sql: String = (0..count).map(|_| self.step()).collect();
        if count > 1 {
            sql = format!("begin; {sql} commit;");
        }
        sql
    }

    fn fresh(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn step(&mut self) -> String {
        let index = self.rng.random_range(0..self.tables.len());
        match self.rng.random_range(0..30) {
            0..=3 => self.add_column(index),
            4 | 5 => self.drop_column(index),
            6 | 7 => self.rename_column(index),
            8..=10 => self.change_type(index),
            11 => self.rename_table(index),
            12 => self.set_schema(index),
            13 if self.tables.len() < 6 => self.create_table(),
            14 if self.tables.len() > 2 => {
                let table = self.tables.remove(index);
                format!("drop table {};", table.qualified())
            }
            15 => self.comment(index),
            16 => format!("truncate {};", self.table(index)),
            17 => self.nullability(index),
            18 => self.drop_and_add(index),
            19..=22 => self.update(index),
            23 => {
                let some = self.rng.random_range(0..7);
                format!("delete from {} where id % 7 = {some};", self.table(index))
            }
            _ => self.insert(index),
        }
    }

    fn table(&self, index: usize) -> String {
        self.tables
            .get(index)
            .map(Table::qualified)
            .unwrap_or_default()
    }

    fn create_table(&mut self) -> String {
        let name = self.fresh("t");
        let is_bag = self.rng.random_bool(0.25);
        let mut columns = Vec::new();
        let mut sql = if is_bag {
            format!("create table public.{name} (id int not null")
        } else {
            format!("create table public.{name} (id int primary key")
        };
        for _ in 0..self.rng.random_range(1..4) {
            let column = Column {
                name: self.fresh("c"),
                ty: self.some_type().0,
            };
            let _ = write!(sql, ", {} {}", column.name, column.ty);
            columns.push(column);
        }
        sql += ");";
        if is_bag {
            let _ = write!(sql, " alter table public.{name} replica identity full;");
        }
        self.tables.push(Table {
            schema: "public",
            name,
            columns,
            is_bag,
        });
        sql
    }

    fn some_type(&mut self) -> (&'static str, &'static str, &'static str) {
        let &(ty, value, default, _) = TYPES.choose(&mut self.rng).unwrap_or(&TYPES[0]);
        (ty, value, default)
    }

    /// The number of one of a table's columns.
    fn some_column(&mut self, index: usize) -> Option<usize> {
        let count = self.tables.get(index)?.columns.len();
        (count > 0).then(|| self.rng.random_range(0..count))
    }

    fn add_column(&mut self, index: usize) -> String {
        let name = self.fresh("c");
        self.add_named(index, name)
    }

    fn add_named(&mut self, index: usize, name: String) -> String {
        let (ty, value, default) = self.some_type();
        let clause = match self.rng.random_range(0..5) {
            0 | 1 => String::new(),
            2 => format!(" default {value}"),
            3 => format!(" not null default {default}"),
            _ => format!(" default {default}"),
        };
        let sql = format!(
            "alter table {} add column {name} {ty}{clause};",
            self.table(index)
        );
        if let Some(table) = self.tables.get_mut(index) {
            table.columns.push(Column { name, ty });
        }
        sql
    }

    fn drop_column(&mut self, index: usize) -> String {
        let Some(column) = self.some_column(index) else {
            return String::new();
        };
        let table = &mut self.tables[index];
        let column = table.columns.remove(column);
        format!(
            "alter table {} drop column {};",
            table.qualified(),
            column.name
        )
    }

    fn drop_and_add(&mut self, index: usize) -> String {
        let Some(column) = self.some_column(index) else {
            return String::new();
        };
        let name = self.tables[index].columns[column].name.clone();
        self.tables[index].columns.remove(column);
        let dropped = format!("alter table {} drop column {name};", self.table(index));
        dropped + &self.add_named(index, name)
    }

    fn rename_column(&mut self, index: usize) -> String {
        let Some(column) = self.some_column(index) else {
            return String::new();
        };
        let name = self.fresh("r");
        let table = self.table(index);
        let column = &mut self.tables[index].columns[column];
        let sql = format!(
            "alter table {table} rename column {} to {name};",
            column.name
        );
        column.name = name;
        sql
    }

    fn change_type(&mut self, index: usize) -> String {
        let Some(column) = self.some_column(index) else {
            return String::new();
        };
        let table = self.table(index);
        let Column { name, ty } = self.tables[index].columns[column].clone();
        let targets = TYPES
            .iter()
            .find(|known| known.0 == ty)
            .map(|known| known.3);
        let Some(&(to, expression)) = targets.and_then(|to| to.choose(&mut self.rng)) else {
            return String::new();
        };
        self.tables[index].columns[column].ty = to;
        let using = expression.replace('#', &name);
        // A default need not have a cast to the new type.
        format!(
            "alter table {table} alter column {name} drop default, alter column {name} type {to} using {using};"
        )
    }

    fn rename_table(&mut self, index: usize) -> String {
        let name = self.fresh("t");
        let table = &mut self.tables[index];
        let sql = format!("alter table {} rename to {name};", table.qualified());
        table.name = name;
        sql
    }

    fn set_schema(&mut self, index: usize) -> String {
        let table = &mut self.tables[index];
        let to = if table.schema == "public" {
            "other"
        } else {
            "public"
        };
        let sql = format!("alter table {} set schema {to};", table.qualified());
        table.schema = to;
        sql
    }

    fn comment(&mut self, index: usize) -> String {
        let table = self.table(index);
        let text = self.fresh("comment ");
        match self.some_column(index) {
            Some(column) if self.rng.random_bool(0.7) => {
                let name = &self.tables[index].columns[column].name;
                format!("comment on column {table}.{name} is '{text}';")
            }
            _ => format!("comment on table {table} is '{text}';"),
        }
    }

    fn nullability(&mut self, index: usize) -> String {
        let Some(column) = self.some_column(index) else {
            return String::new();
        };
        let name = &self.tables[index].columns[column].name;
        format!(
            "alter table {} alter column {name} drop not null;",
            self.table(index)
        )
    }

    fn insert(&mut self, index: usize) -> String {
        let count = self.rng.random_range(1..20);
        let first = self.keys;
        self.keys += count;
        let table = &self.tables[index];
        let (mut names, mut values) = ("id".to_owned(), format!("{first} + g"));
        for column in &table.columns {
            let value = TYPES
                .iter()
                .find(|known| known.0 == column.ty)
                .map(|known| known.1);
            let _ = write!(names, ", {}", column.name);
            let _ = write!(values, ", {}", value.unwrap_or("null"));
        }
        format!(
            "insert into {} ({names}) select {values} from generate_series(1, {count}) g;",
            table.qualified()
        )
    }

    fn update(&mut self, index: usize) -> String {
        let some = self.rng.random_range(0..5);
        let column = self.some_column(index);
        let table = &self.tables[index];
        let set = match column.and_then(|column| table.columns.get(column)) {
            Some(Column { name, ty }) => {
                let value = TYPES
                    .iter()
                    .find(|known| known.0 == *ty)
                    .map(|known| known.1);
                format!("{name} = {}", value.unwrap_or("null"))
            }
            None => "id = id".to_owned(),
        };
        let limit = if table.is_bag { "" } else { " and id % 2 = 0" };
        format!(
            "update {} set {set} where id % 5 = {some}{limit};",
            table.qualified()
        )
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, Result};
    use rand::SeedableRng;

    use super::*;
    use crate::postgres::Postgres;

    #[test]
    fn what_it_makes_is_valid_and_repeats_with_its_seed() -> Result<()> {
        let pg = Postgres::start_default()?;
        for seed in 0..10 {
            let database = format!("random_{seed}");
            pg.create_database(&database)?;
            let (mut generator, setup) = Generator::new(StdRng::seed_from_u64(seed));
            let (mut again, same) = Generator::new(StdRng::seed_from_u64(seed));
            assert_eq!(setup, same);
            pg.sql(&database, &setup)?;
            for _ in 0..60 {
                let sql = generator.transaction();
                assert_eq!(sql, again.transaction());
                pg.sql(&database, &sql)
                    .with_context(|| format!("seed {seed}: {sql}"))?;
            }
        }
        Ok(())
    }
}
