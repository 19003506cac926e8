//! What most tests begin with: a cluster with a source and a catalog, and a feeder configured for both.

use std::{env, time::Duration};

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{
    Feeder, Lake, Options, Postgres, Store, StoreKind,
    compare::Oracle,
    feeder::{Config, Setup},
    postgres::SUPERUSER,
    process::wait_until,
    tools::default_major,
};

/// The source database.
pub(crate) const SOURCE: &str = "source_db";

/// The catalog's database, in the same cluster.
pub(crate) const CATALOG: &str = "lake_db";

/// How long anything may take that is not itself a question of time.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// A cluster with two databases, and the folder of a feeder named `test`.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) setup: Setup,
    pub(crate) lake: Lake,
    pub(crate) pg: Postgres,
    pub(crate) store: Store,
}

impl Rig {
    pub(crate) fn new() -> Result<Self> {
        Self::with(&Options::default(), |config| config)
    }

    /// With other server options and a changed configuration.
    pub(crate) fn with(options: &Options, change: impl FnOnce(Config) -> Config) -> Result<Self> {
        Self::with_major(default_major()?, options, change)
    }

    pub(crate) fn with_major(
        major: u32,
        options: &Options,
        change: impl FnOnce(Config) -> Config,
    ) -> Result<Self> {
        Self::in_store(StoreKind::Local, major, options, change)
    }

    /// With the lake in a store of this kind.
    pub(crate) fn in_store(
        kind: StoreKind,
        major: u32,
        options: &Options,
        change: impl FnOnce(Config) -> Config,
    ) -> Result<Self> {
        let pg = Postgres::start(major, options)?;
        let store = Store::start(kind)?;
        pg.create_database(SOURCE)?;
        pg.create_database(CATALOG)?;
        let config = Config::new(
            &pg.url(SUPERUSER, SOURCE),
            Some(&pg.url(SUPERUSER, CATALOG)),
        );
        let setup = Setup::new(&change(store.configure(config)?))?;
        let lake = store.readable(Lake::new(&pg, CATALOG))?;
        Ok(Self {
            setup,
            lake,
            pg,
            store,
        })
    }

    /// Runs SQL at the source.
    pub(crate) fn source(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.pg.sql(SOURCE, sql)
    }

    pub(crate) fn oracle(&self) -> Result<Oracle> {
        Oracle::open(&self.pg, SOURCE, &self.lake)
    }

    /// The columns of a lake table with their types, without ours.
    pub(crate) fn lake_columns(&self, table: &str) -> Result<Vec<String>> {
        let describe = format!("describe lake.raw.{table}");
        let described = self.lake.open()?.query(&describe)?;
        let names = described.rows.into_iter().filter_map(|row| {
            let mut values = row.into_iter().flatten();
            values.next().zip(values.next())
        });
        Ok(names
            .filter(|(name, _)| !name.starts_with("_df_"))
            .map(|(name, lake_type)| format!("{name} {lake_type}"))
            .collect())
    }

    /// Feeds until everything is in the lake.
    pub(crate) fn catch_up(&self) -> Result<()> {
        self.setup.catch_up(PATIENCE).map(drop)
    }

    /// Starts the feeder and waits until all these tables have their first copy in the lake.
    pub(crate) fn stream(&self, tables: &[&str]) -> Result<Feeder> {
        let mut feeder = self.setup.spawn()?;
        self.wait_for_copies(&mut feeder, tables)?;
        Ok(feeder)
    }

    /// Waits until all these tables have their first copy in the lake.
    pub(crate) fn wait_for_copies(&self, feeder: &mut Feeder, tables: &[&str]) -> Result<()> {
        let copied = tables
            .iter()
            .map(|table| format!("exists (from lake.raw.\"{table}\" where _df_op = 'reset')"))
            .collect::<Vec<_>>()
            .join(" and ");
        self.wait_for(feeder, &copied)
    }

    /// Waits, while the feeder runs, until an expression over the lake is true.
    pub(crate) fn wait_for(&self, feeder: &mut Feeder, condition: &str) -> Result<()> {
        let mut session = None;
        let mut last = String::new();
        let waited = feeder.wait_until(&format!("the lake holds {condition}"), PATIENCE, || {
            // The lake cannot be attached before the feeder has made it.
            let answer = match session.take().map_or_else(|| self.lake.open(), Ok) {
                Ok(db) => session.insert(db).scalar(&format!("select {condition}")),
                Err(error) => Err(error),
            };
            last = format!("{answer:?}");
            Ok(matches!(answer, Ok(Some(value)) if value == "true").then_some(()))
        });
        waited.with_context(|| format!("the last answer: {last}"))
    }

    /// No table is in state `error`.
    pub(crate) fn expect_no_error(&self) -> Result<()> {
        let failed = self.pg.sql(
            CATALOG,
            "select source_schema || '.' || source_table || ': ' || coalesce(error_reason, '') \
             from duckfeeder.tables where state = 'error'",
        )?;
        ensure!(failed.is_empty(), "{failed:?}");
        Ok(())
    }

    /// Waits until the oracle finds nothing to complain about.
    pub(crate) fn wait_until_equal(&self, feeder: &mut Feeder, tables: &[&str]) -> Result<()> {
        let mut oracle = self.oracle()?;
        let mut last = None;
        let waited = feeder.wait_until("the lake equals the source", PATIENCE, || {
            let checked = oracle.check_all(tables);
            let equal = checked.is_ok();
            last = checked.err();
            Ok(equal.then_some(()))
        });
        match last {
            Some(last) => waited.context(last),
            None => waited,
        }
    }

    /// What the source knows of the feeder's slot, as text.
    pub(crate) fn slot(&self, column: &str) -> Result<Option<String>> {
        let sql = format!(
            "select {column}::text from pg_replication_slots where slot_name = 'duckfeeder_test'"
        );
        self.pg.scalar(SOURCE, &sql)
    }

    /// Nothing of a feeder is at the source or in the catalog.
    pub(crate) fn expect_nothing_created(&self) -> Result<()> {
        for (database, sql) in [
            (
                SOURCE,
                "select slot_name from pg_replication_slots where slot_name like 'duckfeeder%' and plugin = 'pgoutput'",
            ),
            (SOURCE, "select pubname from pg_publication"),
            (
                CATALOG,
                "select tablename from pg_tables where schemaname = 'duckfeeder' or tablename like 'ducklake%'",
            ),
        ] {
            let found = self.pg.sql(database, sql)?;
            anyhow::ensure!(found.is_empty(), "left behind: {found:?}");
        }
        Ok(())
    }
}

/// Whether the sizes of the release are asked for.
pub(crate) fn long() -> bool {
    env::var_os("DUCKFEEDER_TEST_LONG").is_some()
}

/// One of two sizes.
pub(crate) fn size<T>(short: T, release: T) -> T {
    if long() { release } else { short }
}

/// The seed of a random test: given, or made from the clock; printed either way.
pub(crate) fn seed() -> Result<u64> {
    let seed = match env::var("DUCKFEEDER_TEST_SEED") {
        Ok(text) => text
            .parse()
            .context("DUCKFEEDER_TEST_SEED is not a number")?,
        Err(_) => rand::random::<u64>() >> 16,
    };
    println!("DUCKFEEDER_TEST_SEED={seed}");
    Ok(seed)
}

/// Waits for something that no feeder is needed for.
pub(crate) fn wait<T>(what: &str, condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    wait_until(what, PATIENCE, condition)
}
