//! A small web shop whose tables change all the time: users, products, orders and their items.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow};
use postgres::Client;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::postgres::connect;

/// The tables.
pub const TABLES: [&str; 4] = ["users", "products", "orders", "order_items"];

const SCHEMA: &str = "
    create table users (
        id bigint generated always as identity primary key,
        name text not null,
        email text not null unique,
        vip boolean not null default false,
        created_at timestamptz not null default now());
    create table products (
        id integer primary key,
        name text not null,
        price numeric(10, 2) not null,
        weight double precision,
        attributes jsonb not null default '{}');
    create table orders (
        id bigint generated always as identity primary key,
        user_id bigint not null references users,
        status text not null default 'new',
        total numeric(12, 2) not null default 0,
        token uuid not null default gen_random_uuid(),
        ordered_on date not null default current_date,
        created_at timestamptz not null default now());
    create table order_items (
        order_id bigint not null references orders on delete cascade,
        line smallint not null,
        product_id integer not null references products,
        quantity integer not null,
        price numeric(10, 2) not null,
        primary key (order_id, line));
    insert into products
        select g, (array['lamp', 'chair', 'table', 'clock', 'shelf'])[g % 5 + 1] || ' ' || g,
               (g * 37 % 900 + 99) / 10.0, g * 0.75, jsonb_build_object('colour', (array['red', 'blue'])[g % 2 + 1])
        from generate_series(1, 20) g;
    insert into users (name, email)
        select (array['Ada', 'Bo', 'Cleo', 'Dan', 'Eva'])[g % 5 + 1] || ' ' || g, 'user' || g || '@example.com'
        from generate_series(1, 5) g;
    insert into orders (user_id, status, created_at)
        select g % 5 + 1, 'paid', now() - g * interval '1 hour' from generate_series(1, 10) g;
    insert into order_items
        select o, i, (o * 7 + i) % 20 + 1, i, p.price
        from generate_series(1, 10) o, generate_series(1, 2) i, products p where p.id = (o * 7 + i) % 20 + 1;
    update orders set total = (select sum(quantity * price) from order_items where order_id = orders.id);
";

/// Creates the tables with five users and ten orders, all of them there before any feeder.
///
/// # Errors
/// When the tables exist or the server refuses.
pub fn create(client: &mut Client) -> Result<()> {
    Ok(client.batch_execute(SCHEMA)?)
}

/// Something that happens in the shop, in one transaction. Returns what it was.
///
/// # Errors
/// When the server refuses.
pub fn happen(client: &mut Client, rng: &mut StdRng) -> Result<&'static str> {
    let pick = "(select id from orders order by random() limit 1)";
    let (what, sql) = match rng.random_range(0..100) {
        0..45 => {
            let lines = rng.random_range(1..=4);
            (
                "an order",
                format!(
                    "with picked as materialized (
                         select id, price, 1 + id % 3 as quantity, row_number() over () as line
                         from (select id, price from products order by random() limit {lines}) p),
                     placed as (
                         insert into orders (user_id, total)
                         select (select id from users order by random() limit 1), sum(quantity * price) from picked
                         returning id)
                     insert into order_items
                     select placed.id, line, picked.id, quantity, price from placed, picked"
                ),
            )
        }
        45..70 => {
            let status = ["paid", "packed", "shipped"].choose(rng).copied().unwrap_or("paid");
            ("a change of state", format!("update orders set status = '{status}' where id = {pick} and status <> 'refunded'"))
        }
        70..80 => (
            "a refund",
            format!("update orders set total = round(total * 0.9, 2), status = 'refunded' where id = {pick}"),
        ),
        80..88 => ("a cancelled order", format!("delete from orders where id = {pick}")),
        88..94 => {
            let number = rng.random::<u32>();
            (
                "a new user",
                format!("insert into users (name, email) values ('New {number}', 'new{number}@example.com') on conflict do nothing"),
            )
        }
        94..97 => (
            "a user becomes a VIP",
            "update users set vip = not vip where id = (select id from users order by random() limit 1)".to_owned(),
        ),
        _ => (
            "a new price",
            "update products set price = round(price * 1.05, 2) where id = (select id from products order by random() limit 1)"
                .to_owned(),
        ),
    };
    client.batch_execute(&format!("begin; {sql}; commit"))?;
    Ok(what)
}

/// A shop at work: one client that lets things happen. Dropping it stops it.
#[derive(Debug)]
pub struct Business {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Business {
    /// Opens the shop of a database; something happens about every `pace`.
    pub fn open(url: &str, seed: u64, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let (url, stopped, count) = (url.to_owned(), Arc::clone(&stop), Arc::clone(&done));
        let thread = thread::spawn(move || {
            let mut client = connect(&url)?;
            let mut rng = StdRng::seed_from_u64(seed);
            while !stopped.load(Ordering::Relaxed) {
                happen(&mut client, &mut rng)?;
                count.fetch_add(1, Ordering::Relaxed);
                thread::park_timeout(pace);
            }
            Ok(())
        });
        Self {
            stop,
            done,
            thread: Some(thread),
        }
    }

    /// How many things have happened.
    pub fn happened(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Closes the shop and returns how many things have happened.
    ///
    /// # Errors
    /// When the server had refused one.
    pub fn close(mut self) -> Result<u64> {
        self.end().unwrap_or(Ok(()))?;
        Ok(self.happened())
    }

    fn end(&mut self) -> Option<Result<()>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        thread.thread().unpark();
        Some(
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("the shop's client panicked"))),
        )
    }
}

impl Drop for Business {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Postgres;

    #[test]
    fn whatever_happens_the_totals_follow_the_items() -> Result<()> {
        let pg = Postgres::start_default()?;
        let mut client = pg.connect("postgres")?;
        create(&mut client)?;
        let mut rng = StdRng::seed_from_u64(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..300 {
            seen.insert(happen(&mut client, &mut rng)?);
        }
        assert_eq!(seen.len(), 7, "{seen:?}");
        let wrong = "select count(*) from orders o where status <> 'refunded' and total <> \
                     (select sum(quantity * price) from order_items where order_id = o.id)";
        assert_eq!(pg.scalar("postgres", wrong)?.as_deref(), Some("0"));
        Ok(())
    }
}
