//! Many kinds of changes at once, by clients that outlive a server's restart.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use duckfeeder_tests::postgres::connect;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::rig::size;

/// The tables, each with a client and a rate of its own.
pub(super) const TABLES: [&str; 5] = [
    "busy",
    "calm",
    "large_rows",
    "large_transactions",
    "emptied",
];

pub(super) const SCHEMA: &str = "
    create table busy (id int primary key, n bigint not null, v text, at timestamptz not null default clock_timestamp());
    create table calm (id int primary key, v text);
    create table large_rows (id int primary key, body text, n int not null default 0);
    create table large_transactions (id bigint primary key, payload text);
    create table emptied (id bigint generated always as identity primary key, v text);
    alter table large_rows alter body set storage external;
    insert into busy select g, g, 'copied' from generate_series(1, 1000) g;
    insert into calm values (1, 'copied');
    insert into large_transactions select g, md5(g::text) from generate_series(1, 5000) g";

/// One client: how long it rests between transactions, and what it does then.
struct Client {
    pace: Duration,
    next: fn(&mut StdRng) -> String,
}

const CLIENTS: [Client; 5] = [
    Client {
        pace: Duration::from_millis(15),
        next: busy,
    },
    Client {
        pace: Duration::from_millis(900),
        next: calm,
    },
    Client {
        pace: Duration::from_millis(1500),
        next: large_rows,
    },
    Client {
        pace: Duration::from_secs(8),
        next: large_transactions,
    },
    Client {
        pace: Duration::from_millis(400),
        next: emptied,
    },
];

fn busy(rng: &mut StdRng) -> String {
    let id = rng.random_range(1..=3000);
    match rng.random_range(0..10) {
        0..4 => format!(
            "insert into busy values ({id}, 0, 'new') on conflict (id) do update set n = busy.n + 1"
        ),
        4..8 => format!(
            "update busy set n = n + 1, v = v || '+' where id between {id} and {id} + 3 and length(v) < 60"
        ),
        8 => format!("delete from busy where id = {id}"),
        _ => {
            let other = rng.random_range(1..=3000);
            // Half of it is taken back.
            format!(
                "begin; update busy set n = n + 10 where id = {id}; savepoint s; delete from busy where id = {other}; \
                 rollback to s; update busy set v = 'kept' where id = {other}; commit"
            )
        }
    }
}

fn calm(rng: &mut StdRng) -> String {
    let id = rng.random_range(1..=50);
    format!(
        "insert into calm values ({id}, 'v') on conflict (id) do update set v = left(calm.v || '.', 40)"
    )
}

fn large_rows(rng: &mut StdRng) -> String {
    let id = rng.random_range(1..=20);
    match rng.random_range(0..4) {
        // A value that does not change is not sent.
        0 => format!("update large_rows set n = n + 1 where id = {id}"),
        1 => format!("delete from large_rows where id = {id}"),
        _ => {
            let thousands = rng.random_range(2..=10);
            format!(
                "insert into large_rows values ({id}, (select string_agg(md5((random() * 1e9)::text), '') \
                 from generate_series(1, {thousands} * 1000))) \
                 on conflict (id) do update set body = excluded.body"
            )
        }
    }
}

fn large_transactions(rng: &mut StdRng) -> String {
    let rows = rng.random_range(size(2_000..=15_000, 5_000..=40_000));
    format!(
        "begin; insert into large_transactions select g, repeat(md5(g::text), 8) \
         from (select coalesce(max(id), 0) as last from large_transactions) t, generate_series(last + 1, last + {rows}) g; \
         delete from large_transactions where id < (select max(id) - 20000 from large_transactions); \
         update large_transactions set payload = 'updated' where id % 10 = 0 and payload <> 'updated'; commit"
    )
}

fn emptied(rng: &mut StdRng) -> String {
    if rng.random_range(0..40) == 0 {
        "truncate emptied".to_owned()
    } else {
        "insert into emptied (v) select 'row ' || g from generate_series(1, 5) g".to_owned()
    }
}

/// The clients at work. Dropping it stops them.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    pub(super) fn start(url: &str, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let threads = (0..)
            .zip(&CLIENTS)
            .map(|(number, client)| {
                let (url, stop, done) = (url.to_owned(), Arc::clone(&stop), Arc::clone(&done));
                let mut rng = StdRng::seed_from_u64(seed.wrapping_add(number));
                thread::spawn(move || work(&url, client, &mut rng, &stop, &done))
            })
            .collect();
        Self {
            stop,
            done,
            threads,
        }
    }

    /// Stops the clients and returns how many transactions were committed.
    pub(super) fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread
                .join()
                .map_err(|_| anyhow!("a client of the load panicked"))??;
        }
        Ok(self.done.load(Ordering::Relaxed))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A statement whose connection broke may have been committed or not: the source is asked at the end, not we. Whatever
/// else a statement fails with is a mistake of ours.
fn work(
    url: &str,
    client: &Client,
    rng: &mut StdRng,
    stop: &AtomicBool,
    done: &AtomicU64,
) -> Result<()> {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        if let Ok(mut open) = connection.take().map_or_else(|| connect(url), Ok) {
            let sql = (client.next)(rng);
            match open.batch_execute(&sql) {
                Ok(()) => {
                    done.fetch_add(1, Ordering::Relaxed);
                    connection = Some(open);
                }
                Err(error) => {
                    let code = error.code().map_or("08000", |state| state.code());
                    ensure!(
                        code.starts_with("57P") || code.starts_with("08"),
                        "{error:?} in: {sql}"
                    );
                }
            }
        }
        thread::sleep(client.pace);
    }
    Ok(())
}
