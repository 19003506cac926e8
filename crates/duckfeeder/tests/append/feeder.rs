//! The stream of a running feeder: in the commits of its change tables, and without them.

use std::time::Duration;

use duckfeeder::append::AppendTable;
use duckfeeder::{ErrorKind, Feeder};
use duckfeeder_tests::postgres::SUPERUSER;
use serde_json::json;

use crate::rig::{CATALOG, PATIENCE, SOURCE, soon, with_rig};

#[test]
fn appended_rows_are_in_the_commits_of_the_change_tables() {
    with_rig(async |rig| {
        rig.create_source("create table orders (id int primary key)");
        let feeder = Feeder::builder()
            .source(rig.pg_url(SOURCE))
            .catalog(rig.catalog())
            .storage(rig.storage())
            .tables(["public.*"])
            // Long: what commits is asked for.
            .flush_interval(Duration::from_hours(1))
            .append_table(AppendTable::new("audit").target("telemetry", "audit"))
            .build()
            .unwrap();
        let handle = feeder.spawn();
        let stream = handle.append_stream();
        // Before the feeder is ready, without knowing the lake: the columns wait.
        soon(stream.append("audit", &json!({"n": 0})))
            .await
            .unwrap();
        soon(handle.ready()).await.unwrap();

        rig.sql(SOURCE, "insert into orders values (1), (2)");
        let receipt = stream.append("audit", &json!({"n": 1})).await.unwrap();
        let lsn = rig.sql(SOURCE, "select pg_current_wal_lsn()::text")[0][0]
            .clone()
            .unwrap();
        rig.want("default", &lsn);
        soon(handle.wait_for_lsn(lsn.parse().unwrap()))
            .await
            .unwrap();
        let snapshot = soon(receipt.durable()).await.unwrap();
        // One snapshot has added files to both tables.
        let both = format!(
            "select count(distinct table_id)::text from ducklake_data_file where begin_snapshot = {snapshot}"
        );
        assert_eq!(rig.sql(CATALOG, &both)[0][0].as_deref(), Some("2"));
        assert_eq!(
            rig.rows(&format!(
                "select (select count(*) from lake.raw.orders at (version => {snapshot}) where _df_op = 'insert'),
                        (select list(n order by n) from lake.telemetry.audit at (version => {snapshot}))"
            )),
            [["2", "[0, 1]"]]
        );
        // And without any change at the source.
        let alone = soon(stream.append_durable("audit", &json!({"n": 2})))
            .await
            .unwrap();
        assert!(alone > snapshot);

        // The end of the feeder commits what was taken, and ends the stream.
        let receipt = stream.append("audit", &json!({"n": 3})).await.unwrap();
        soon(handle.shutdown()).await.unwrap();
        soon(receipt.durable()).await.unwrap();
        let error = stream.append("audit", &json!({"n": 4})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped);
        assert_eq!(
            rig.scalar("select list(n order by n) from lake.telemetry.audit"),
            "[0, 1, 2, 3]"
        );
        assert_eq!(
            rig.scalar("select count(*) from lake.raw.orders_current"),
            "2"
        );
    });
}

#[test]
fn a_resync_inside_the_feeder_loses_and_repeats_no_appended_row() {
    with_rig(async |rig| {
        rig.create_source("create table orders (id int primary key); insert into orders select generate_series(1, 100)");
        let feeder = Feeder::builder()
            .source(rig.pg_url(SOURCE))
            .catalog(rig.catalog())
            .storage(rig.storage())
            .tables(["public.*"])
            .flush_interval(Duration::from_millis(50))
            .build()
            .unwrap();
        let handle = feeder.spawn();
        let stream = handle.append_stream();
        soon(handle.ready()).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let appending = tokio::spawn({
            let stream = stream.clone();
            async move {
                let mut producer = stream.producer("p");
                let mut n = 0;
                while stopped.is_empty() {
                    let event = json!({"n": n});
                    producer.append("events", n, &event).await.unwrap();
                    n += 1;
                    if n % 30 == 0 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                stream.flush().await.unwrap();
                n
            }
        });
        for copies in 2..4 {
            rig.sql(
                CATALOG,
                "update duckfeeder.tables set resync_requested = true",
            );
            let copied =
                format!("select count(*) >= {copies} from lake.raw.orders where _df_op = 'reset'");
            let lake = rig.lake.clone();
            let waited = tokio::task::spawn_blocking(move || lake.wait_for(&copied, PATIENCE));
            waited.await.unwrap().unwrap();
        }
        stop.send(()).unwrap();
        let sent = soon(appending).await.unwrap();
        soon(handle.shutdown()).await.unwrap();
        let (sent, last) = (sent.to_string(), (sent - 1).to_string());
        assert_eq!(
            rig.rows("select count(*), count(distinct n), min(n), max(n) from lake.raw.events"),
            [[&sent, &sent, "0", &last]]
        );
    });
}

#[test]
fn a_disabled_feeder_takes_rows_and_says_that_they_are_nowhere() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let handle = Feeder::builder()
            .source(format!("postgres://{SUPERUSER}@127.0.0.1:1/x"))
            .tables(["public.*"])
            .storage("file:///nowhere")
            .enabled(false)
            .build()
            .unwrap()
            .spawn();
        let stream = handle.append_stream();
        assert!(!stream.is_enabled());
        let receipt = stream.append("events", &json!({"n": 1})).await.unwrap();
        let error = receipt.durable().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        soon(stream.flush()).await.unwrap();
        soon(stream.shutdown()).await.unwrap();
    });
}
