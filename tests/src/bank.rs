//! A bank in the manner of TPC-B, with the tables that `pgbench` uses: whatever is written, the balances
//! of accounts, tellers and branches and the history's deltas add up to the same sum.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    duckdb::DuckDb,
    postgres::{Postgres, SUPERUSER, connect},
    process::wait_until,
};

/// The tables, the one without a key last.
pub const TABLES: [&str; 4] = [
    "pgbench_accounts",
    "pgbench_branches",
    "pgbench_tellers",
    "pgbench_history",
];

/// Accounts per branch at the size of `pgbench`.
pub const FULL_BRANCH: u32 = 100_000;

/// A bank in a database.
#[derive(Debug, Clone)]
pub struct Bank {
    url: String,
    branches: u32,
    accounts_per_branch: u32,
    pause: Duration,
}

impl Bank {
    /// Creates and fills the tables, all balances 0.
    ///
    /// # Errors
    /// When the tables exist or the server refuses.
    pub fn create(
        pg: &Postgres,
        database: &str,
        branches: u32,
        accounts_per_branch: u32,
    ) -> Result<Self> {
        let accounts = branches * accounts_per_branch;
        let tellers = branches * 10;
        pg.sql(
            database,
            &format!(
                "create table pgbench_branches (bid int primary key, bbalance int, filler char(88)) with (fillfactor = 100);
                 create table pgbench_tellers (tid int primary key, bid int, tbalance int, filler char(84)) with (fillfactor = 100);
                 create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84)) with (fillfactor = 100);
                 create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
                 insert into pgbench_branches select g, 0, null from generate_series(1, {branches}) g;
                 insert into pgbench_tellers select g, (g - 1) / 10 + 1, 0, null from generate_series(1, {tellers}) g;
                 insert into pgbench_accounts select g, (g - 1) / {accounts_per_branch} + 1, 0, '' from generate_series(1, {accounts}) g;"
            ),
        )?;
        Ok(Self {
            url: pg.url(SUPERUSER, database),
            branches,
            accounts_per_branch,
            pause: Duration::ZERO,
        })
    }

    /// The same bank with clients that rest after each transaction, to leave the machine to others.
    #[must_use]
    pub fn resting(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Starts clients that transfer money until they are stopped.
    pub fn start(&self, clients: u64, seed: u64) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let threads = (0..clients)
            .map(|client| {
                let (bank, stop, done) = (self.clone(), Arc::clone(&stop), Arc::clone(&done));
                let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(client));
                thread::spawn(move || bank.transfer(&stop, &done, rng))
            })
            .collect();
        Clients {
            stop,
            done,
            threads,
        }
    }

    /// One client: the standard transaction, again and again.
    fn transfer(&self, stop: &AtomicBool, done: &AtomicU64, mut rng: StdRng) -> Result<()> {
        let mut client = connect(&self.url)?;
        while !stop.load(Ordering::Relaxed) {
            let aid = rng.random_range(1..=self.branches * self.accounts_per_branch);
            let tid = rng.random_range(1..=self.branches * 10);
            let bid = rng.random_range(1..=self.branches);
            let delta = rng.random_range(-5000..=5000);
            client.batch_execute(&format!(
                "begin;
                 update pgbench_accounts set abalance = abalance + {delta} where aid = {aid};
                 select abalance from pgbench_accounts where aid = {aid};
                 update pgbench_tellers set tbalance = tbalance + {delta} where tid = {tid};
                 update pgbench_branches set bbalance = bbalance + {delta} where bid = {bid};
                 insert into pgbench_history (tid, bid, aid, delta, mtime) values ({tid}, {bid}, {aid}, {delta}, current_timestamp);
                 end;"
            ))?;
            done.fetch_add(1, Ordering::Relaxed);
            thread::sleep(self.pause);
        }
        Ok(())
    }
}

/// Clients at work. Dropping them stops them.
#[derive(Debug)]
pub struct Clients {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Clients {
    /// How many transactions have been committed so far.
    pub fn committed(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until `more` further transactions have been committed.
    ///
    /// # Errors
    /// When that takes longer than two minutes.
    pub fn wait_for_more(&self, more: u64) -> Result<()> {
        let goal = self.committed() + more;
        wait_until(
            "more transactions are committed",
            Duration::from_mins(2),
            || Ok((self.committed() >= goal).then_some(())),
        )
    }

    /// Stops the clients and returns how many transactions they have committed.
    ///
    /// # Errors
    /// When one of them was refused by the server.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        Ok(self.committed())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The sums of account, teller and branch balances and of the history's deltas, in a lake, at a snapshot:
/// what the source had at one of its transaction boundaries has four equal ones.
///
/// # Errors
/// When the lake cannot be read.
pub fn sums_at(db: &mut DuckDb, version: i64) -> Result<Vec<Option<String>>> {
    let at = format!("at (version => {version})");
    // Rows that were streamed before the last copy began are in the copy too.
    let start = format!(
        "select _df_lsn as l, _df_seq as s from lake.raw.pgbench_history {at} \
         where _df_op in ('reset', 'truncate') order by all desc limit 1"
    );
    let rows = db.query(&format!(
        "select (select coalesce(sum(abalance), 0) from lake.raw.pgbench_accounts_current {at}),
                (select coalesce(sum(tbalance), 0) from lake.raw.pgbench_tellers_current {at}),
                (select coalesce(sum(bbalance), 0) from lake.raw.pgbench_branches_current {at}),
                (select coalesce(sum(delta), 0) from lake.raw.pgbench_history {at} left join ({start}) on true
                 where _df_op in ('insert', 'snapshot') and (l is null or (_df_lsn, _df_seq) > (l, s)))"
    ))?;
    Ok(rows.rows.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_balance() -> Result<()> {
        let pg = Postgres::start_default()?;
        let bank = Bank::create(&pg, "postgres", 2, 100)?;
        let clients = bank.start(2, 7);
        clients.wait_for_more(50)?;
        let committed = clients.stop()?;
        let sums = pg.sql(
            "postgres",
            "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers),
                    (select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history),
                    (select count(*) from pgbench_history)",
        )?;
        let sums: Vec<_> = sums.into_iter().flatten().flatten().collect();
        assert!(
            sums[..4].windows(2).all(|pair| pair[0] == pair[1]),
            "{sums:?}"
        );
        assert_eq!(sums[4], committed.to_string());
        Ok(())
    }
}
