//! What the quickstart shows in DuckDB, each query printed before its result.

use anyhow::{Context, Result};
use duckfeeder_tests::{Postgres, compare::Oracle, lake};

use super::site::SHOP;
use crate::repo::say;

/// All of it, one after the other.
pub(super) fn all(oracle: &mut Oracle, pg: &Postgres) -> Result<()> {
    tables(oracle)?;
    revenue(oracle)?;
    one_order(oracle)?;
    current(oracle, pg)?;
    time_travel(oracle)
}

/// Prints a query and its result.
fn draw(oracle: &mut Oracle, sql: &str) -> Result<()> {
    say(&format!("\nD {sql};"));
    say(oracle.db().draw(sql)?.trim_end());
    Ok(())
}

fn tables(oracle: &mut Oracle) -> Result<()> {
    say("\n--- The lake has a changelog of each table, and a view of its current state.");
    draw(
        oracle,
        "SELECT schema, name, column_names[:8] AS first_columns FROM (SHOW ALL TABLES) WHERE database = 'lake'",
    )
}

fn revenue(oracle: &mut Oracle) -> Result<()> {
    say("\n--- Revenue per user: the orders that were streamed,");
    draw(
        oracle,
        "SELECT user_id, count(*) AS orders, sum(total) AS revenue\n  FROM lake.raw.orders WHERE _df_op = 'insert' GROUP BY user_id ORDER BY user_id LIMIT 5",
    )?;
    say("\n--- with those that were there before the feeder (its first copy),");
    draw(
        oracle,
        "SELECT user_id, count(*) AS orders, sum(total) AS revenue\n  FROM lake.raw.orders WHERE _df_op IN ('insert', 'snapshot') GROUP BY user_id ORDER BY user_id LIMIT 5",
    )?;
    say("\n--- and what the source itself says:");
    draw(
        oracle,
        "SELECT user_id, count(*) AS orders, sum(total) AS revenue\n  FROM source.public.orders GROUP BY user_id ORDER BY user_id LIMIT 5",
    )?;
    say(
        "\n    They differ, and all are right. The first leaves out what was there before the feeder. The second counts",
    );
    say(
        "    every order as it was when it was placed, also those that were cancelled or refunded later. The",
    );
    say("    source knows only how things are now, which in the lake is lake.raw.orders_current:");
    draw(
        oracle,
        "SELECT user_id, count(*) AS orders, sum(total) AS revenue\n  FROM lake.raw.orders_current GROUP BY user_id ORDER BY user_id LIMIT 5",
    )
}

fn one_order(oracle: &mut Oracle) -> Result<()> {
    let busiest = oracle
        .db()
        .int("select id from lake.raw.orders where id is not null group by id order by count(*) desc, id limit 1")?;
    say(&format!(
        "\n--- Everything that happened to order {busiest}, in order:"
    ));
    draw(
        oracle,
        &format!(
            "SELECT _df_op, _df_lsn, _df_seq, _df_timestamp, status, total\n  FROM lake.raw.orders WHERE id = {busiest} ORDER BY _df_lsn, _df_seq"
        ),
    )
}

fn current(oracle: &mut Oracle, pg: &Postgres) -> Result<()> {
    say("\n--- The current state in the lake, beside the source's:");
    draw(
        oracle,
        "SELECT status, lake.orders AS in_lake, lake.total AS lake_total, shop.orders AS at_source, shop.total AS source_total\n  \
           FROM (SELECT status, count(*) AS orders, sum(total) AS total FROM lake.raw.orders_current GROUP BY status) AS lake\n  \
           FULL JOIN (SELECT status, count(*) AS orders, sum(total) AS total FROM source.public.orders GROUP BY status) AS shop USING (status)\n  \
           ORDER BY status",
    )?;
    let rows = pg.scalar(
        SHOP,
        "select (select count(*) from users) + (select count(*) from products) \
              + (select count(*) from orders) + (select count(*) from order_items)",
    )?;
    say(&format!(
        "    All four tables have been compared, value by value: {} rows, the changelogs replayed and the views, equal.",
        rows.unwrap_or_default()
    ));
    Ok(())
}

fn time_travel(oracle: &mut Oracle) -> Result<()> {
    let snapshots = lake::snapshots(oracle.db())?;
    let complete: Vec<_> = snapshots
        .iter()
        .filter(|snapshot| snapshot.complete())
        .collect();
    let first = complete.first().context("no complete snapshot")?.id;
    let last = complete.last().context("no complete snapshot")?.id;
    let middle = complete
        .get(complete.len() / 2)
        .context("no complete snapshot")?
        .id;
    say(&format!(
        "\n--- Time travel: each of the {} snapshots since the first copy is a state that the source really had.",
        complete.len()
    ));
    let at = |version: i64| {
        format!(
            "SELECT {version} AS version, (SELECT count(*) FROM lake.raw.orders AT (VERSION => {version})) AS changes,\n       \
             count(*) AS orders, sum(total) AS revenue FROM lake.raw.orders_current AT (VERSION => {version})"
        )
    };
    draw(oracle, &[first, middle, last].map(at).join("\nUNION ALL "))
}
