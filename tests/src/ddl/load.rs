//! A load that goes on while the schema changes: it names only columns that no change touches, and takes
//! it in stride when a table has another name for a moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    postgres::{Postgres, SUPERUSER, connect},
    process::wait_until,
};

/// Keys that a client has for its own rows. They are below zero: the script takes the next above the greatest.
const KEYS: i32 = 10_000_000;

/// Clients that write until they are stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts clients on the tables of the script.
    pub fn start(pg: &Postgres, database: &str, clients: i32, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let threads = (0..clients)
            .map(|client| {
                let url = pg.url(SUPERUSER, database);
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                let rng =
                    StdRng::seed_from_u64(seed.wrapping_add(u64::from(client.unsigned_abs())));
                thread::spawn(move || write(&url, client, &stop, &done, rng))
            })
            .collect();
        Self {
            stop,
            done,
            threads,
        }
    }

    /// Waits until this many more transactions are committed.
    ///
    /// # Errors
    /// When that takes too long, or a client has given up: [`stop`](Self::stop) says why.
    pub fn wait_for_more(&self, transactions: u64) -> Result<()> {
        let wanted = self.done.load(Ordering::Relaxed) + transactions;
        wait_until("the load goes on", Duration::from_mins(2), || {
            let gone = self.threads.iter().any(JoinHandle::is_finished);
            ensure!(!gone, "a client of the load gave up");
            Ok((self.done.load(Ordering::Relaxed) >= wanted).then_some(()))
        })
    }

    /// Stops the clients, and returns how many transactions they committed.
    ///
    /// # Errors
    /// What a client ran into, if it was no table or column that had gone.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread
                .join()
                .map_err(|_| anyhow!("a client of the load panicked"))??;
        }
        Ok(self.done.load(Ordering::Relaxed))
    }
}

fn write(
    url: &str,
    client: i32,
    stop: &AtomicBool,
    done: &AtomicU64,
    mut rng: StdRng,
) -> Result<()> {
    let mut connection = connect(url)?;
    let mut key = -1 - client * KEYS;
    while !stop.load(Ordering::Relaxed) {
        key -= 1;
        let some = rng.random_range(0..50);
        let sql = match rng.random_range(0..6) {
            0 => format!(
                "begin; insert into items (id, n) values ({key}, {some}); update items set n = n + 1 where id = {some}; commit"
            ),
            1 => format!("update items set n = n + 1 where id % 200 = {some}"),
            2 => format!("insert into notes (body, n) values ('load', {some})"),
            3 => format!("insert into events (id, kind) values ({key}, 'load')"),
            4 => format!("update second set n = n + 1 where id = {some}"),
            _ => format!("delete from items where id < 0 and id % 50 = -{some}"),
        };
        match connection.batch_execute(&sql) {
            Ok(()) => {
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                // A table or column that has another name for a moment, a deadlock with a change, a new
                // plan of a statement that a change made invalid.
                let code = error.code().map(|code| code.code().to_owned());
                let is_expected = matches!(
                    code.as_deref(),
                    Some("42P01" | "42703" | "40P01" | "40001" | "55P03" | "0A000" | "23502")
                );
                if !is_expected {
                    return Err(error).context(sql);
                }
                let _ = connection.batch_execute("rollback");
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
