//! What arrives, and as what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int32Array, StringArray, TimestampMillisecondArray};
use duckfeeder::ErrorKind;
use duckfeeder::append::{AppendTable, ColumnType, RecordBatch};
use serde::Serialize;
use serde_json::json;

use crate::rig::{CATALOG, soon, with_rig};

#[derive(Serialize)]
struct Order<'a> {
    id: u32,
    note: Option<&'a str>,
    total: f64,
    paid: bool,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    sku: &'static str,
    count: i16,
}

#[test]
fn rows_of_any_kind_arrive_with_columns_inferred_from_the_first_and_added_later() {
    with_rig(async |rig| {
        let stream = rig.builder().spawn().unwrap();
        let order = Order {
            id: 7,
            note: None,
            total: 12.5,
            paid: true,
            lines: vec![Line { sku: "a", count: 2 }],
        };
        let snapshot = soon(stream.append_durable("orders", &order)).await.unwrap();
        let at = format!("from lake.raw.orders at (version => {snapshot})");
        assert_eq!(rig.scalar(&format!("select count(*) {at}")), "1");
        // `note` was NULL and says nothing: no column yet.
        assert_eq!(
        rig.rows("select column_name, data_type from duckdb_columns() where database_name = 'lake' and table_name = 'orders' order by column_index"),
        [
            ["_df_op", "VARCHAR"],
            ["_df_timestamp", "TIMESTAMP WITH TIME ZONE"],
            ["_df_lsn", "BIGINT"],
            ["_df_seq", "BIGINT"],
            ["id", "BIGINT"],
            ["total", "DOUBLE"],
            ["paid", "BOOLEAN"],
            ["lines", "JSON"],
        ]
    );
        let later = json!({"id": 8, "note": "new", "total": 1, "extra": {"x": [1, null]}});
        stream.append("orders", &later).await.unwrap();
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(Int32Array::from(vec![9, 10])) as ArrayRef),
            ("note", Arc::new(StringArray::from(vec![Some("b"), None]))),
            (
                "at",
                Arc::new(TimestampMillisecondArray::from(vec![0, 1]).with_timezone("+02:00")),
            ),
        ])
        .unwrap();
        let receipt = stream.append_batch("orders", &batch).await.unwrap();
        soon(stream.flush()).await.unwrap();
        let third = soon(receipt.durable()).await.unwrap();
        assert!(third > snapshot);
        assert_eq!(
        rig.rows("select _df_op, _df_lsn, id, total, paid, lines, note, extra, epoch_ms(\"at\") from lake.raw.orders order by id"),
        [
            ["append", "NULL", "7", "12.5", "true", r#"[{"sku":"a","count":2}]"#, "NULL", "NULL", "NULL"],
            ["append", "NULL", "8", "1.0", "NULL", "NULL", "new", r#"{"x":[1,null]}"#, "NULL"],
            ["append", "NULL", "9", "NULL", "NULL", "NULL", "b", "NULL", "0"],
            ["append", "NULL", "10", "NULL", "NULL", "NULL", "NULL", "NULL", "1"],
        ]
    );
        // The order of acceptance is that of `_df_seq`, and the times are now.
        assert_eq!(
            rig.scalar("select list(id order by _df_seq) from lake.raw.orders"),
            "[7, 8, 9, 10]"
        );
        assert_eq!(
        rig.scalar("select bool_and(_df_timestamp between now() - interval 5 minute and now() + interval 1 minute) from lake.raw.orders"),
        "true"
    );
        soon(stream.shutdown()).await.unwrap();
    });
}

#[test]
fn a_value_that_does_not_fit_is_an_error_of_its_row_and_never_another_value() {
    with_rig(async |rig| {
        let table = AppendTable::new("typed")
            .column("small", ColumnType::Int16)
            .column("whole", ColumnType::Int64)
            .column("unsigned", ColumnType::UInt64)
            .column("float", ColumnType::Float64)
            .column(
                "price",
                ColumnType::Decimal {
                    precision: 6,
                    scale: 2,
                },
            )
            .column("at", ColumnType::TimestampTz)
            .column("day", ColumnType::Date)
            .column("id", ColumnType::Uuid)
            .column("tags", ColumnType::list(ColumnType::Varchar))
            .column(
                "place",
                ColumnType::Struct(vec![
                    ("x".to_owned(), ColumnType::Int32),
                    ("y".to_owned(), ColumnType::Int32),
                ]),
            )
            .column("any", ColumnType::Json)
            .fixed(true);
        let stream = rig.builder().table(table).spawn().unwrap();
        let good = json!({
            "small": -32768, "whole": 1.0, "unsigned": u64::MAX, "float": 9_007_199_254_740_992_u64, "price": 12.34,
            "at": "2024-02-29T13:00:00.000001+01:00", "day": "2024-02-29", "id": "018e0000-0000-7000-8000-000000000001",
            "tags": ["a", null], "place": {"y": 2}, "any": [1, {"a": null}],
        });
        stream.append("typed", &good).await.unwrap();
        for (column, value) in [
            ("small", json!(32768)),
            ("small", json!("1")),
            ("whole", json!(1.5)),
            ("whole", json!(u64::MAX)),
            ("whole", json!(true)),
            ("unsigned", json!(-1)),
            ("float", json!(9_007_199_254_740_993_u64)),
            ("price", json!(12.345)),
            ("price", json!(12345.0)),
            ("price", json!("1e9")),
            ("at", json!("2024-02-29")),
            ("at", json!("2024-02-29T12:00:00")),
            ("at", json!("2024-02-29T12:00:00.0000001Z")),
            ("at", json!(0)),
            ("day", json!("2023-02-29")),
            ("id", json!("x")),
            ("tags", json!([1])),
            ("tags", json!("a")),
            ("place", json!({"z": 1})),
            ("place", json!([1, 2])),
            ("else", json!(1)),
            ("Small", json!(1)),
        ] {
            let row = BTreeMap::from([(column, &value)]);
            let error = stream.append("typed", &row).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data, "{column} {value}");
            let text = format!("{error} {error:?}");
            assert!(
                text.contains("raw.typed") && text.contains(column),
                "{text}"
            );
        }
        // The same row twice, one after the other, with an error between: nothing of the bad rows is left.
        stream.append("typed", &good).await.unwrap();
        soon(stream.flush()).await.unwrap();
        let row = [
            "-32768",
            "1",
            "18446744073709551615",
            "9007199254740992.0",
            "12.34",
            "2024-02-29 12:00:00.000001+00",
            "2024-02-29",
            "018e0000-0000-7000-8000-000000000001",
            "[a, NULL]",
            "{'x': NULL, 'y': 2}",
            r#"[1,{"a":null}]"#,
        ];
        assert_eq!(
            rig.rows(
                "select * exclude (_df_op, _df_timestamp, _df_lsn, _df_seq) from lake.raw.typed"
            ),
            [row, row]
        );
        let counts = stream.counts();
        assert_eq!((counts[0].1.committed, counts[0].1.unfit), (2, 22));
        soon(stream.shutdown()).await.unwrap();
    });
}

/// Shows 4.
#[test]
fn events_with_a_declared_time_are_counted_by_the_hour() {
    with_rig(async |rig| {
        let stream = rig
            .builder()
            .table(AppendTable::new("events").column("at", ColumnType::TimestampTz))
            .spawn()
            .unwrap();
        for at in [
            "2024-02-29T11:59:59.999999Z",
            "2024-02-29T12:00:00Z",
            "2024-02-29T14:30:00+02:00",
            "2024-02-29T13:00:00Z",
        ] {
            // The second text looks like a time and is none that anybody declared.
            let event = json!({"at": at, "said": at});
            stream.append("events", &event).await.unwrap();
        }
        soon(stream.flush()).await.unwrap();
        let sql = "SELECT date_trunc('hour', \"at\") AS hour, count(*) AS events
               FROM lake.raw.events GROUP BY hour ORDER BY hour";
        assert_eq!(
            rig.rows(sql),
            [
                ["2024-02-29 11:00:00+00", "1"],
                ["2024-02-29 12:00:00+00", "2"],
                ["2024-02-29 13:00:00+00", "1"],
            ]
        );
        assert_eq!(
            rig.scalar("select typeof(said) from lake.raw.events limit 1"),
            "VARCHAR"
        );
        soon(stream.shutdown()).await.unwrap();
        // Opted in: the first value decides.
        let stream = rig
            .builder()
            .name("second")
            .table(AppendTable::new("later").infer_timestamps(true))
            .spawn()
            .unwrap();
        let event = json!({"at": "2024-02-29T12:00:00Z", "note": "2024-02-29"});
        soon(stream.append_durable("later", &event)).await.unwrap();
        assert_eq!(
            rig.rows("select typeof(\"at\"), typeof(note) from lake.raw.later"),
            [["TIMESTAMP WITH TIME ZONE", "VARCHAR"]]
        );
        stream
            .append("later", &json!({"at": "yesterday"}))
            .await
            .unwrap_err();
        soon(stream.shutdown()).await.unwrap();
    });
}

#[test]
fn the_columns_of_a_new_table_come_from_all_rows_of_its_first_batch() {
    with_rig(async |rig| {
        let stream = rig.builder().spawn().unwrap();
        let rows = [
            json!({"n": 1, "t": null}),
            json!({"n": 1.5, "t": "x"}),
            json!(7),
            json!({"n": "no number"}),
        ];
        let appended = soon(stream.append_all("numbers", &rows)).await.unwrap();
        let refused: Vec<usize> = appended.refused.iter().map(|(index, _)| *index).collect();
        assert_eq!(refused, [2, 3]);
        soon(stream.flush()).await.unwrap();
        assert_eq!(
            rig.rows("select n, t from lake.raw.numbers order by _df_seq"),
            [["1.0", "NULL"], ["1.5", "x"]]
        );
        soon(stream.shutdown()).await.unwrap();
    });
}

#[test]
fn a_restart_goes_on_with_the_lakes_columns_and_drops_what_a_producer_repeats() {
    with_rig(async |rig| {
        let stream = rig.builder().spawn().unwrap();
        let mut producer = stream.producer("p");
        let event = |n: i64| json!({"n": n, "ratio": 0.5});
        for n in 0..10 {
            producer.append("events", n, &event(n)).await.unwrap();
        }
        let first = soon(producer.append_durable("events", 9, &event(9)))
            .await
            .unwrap();
        soon(stream.shutdown()).await.unwrap();

        let stream = rig.builder().spawn().unwrap();
        let mut producer = stream.producer("p");
        assert_eq!(soon(producer.position("events")).await.unwrap(), Some(9));
        for n in 5..15 {
            // The column is a double in the lake, so 1 is one.
            let row = json!({"n": n, "ratio": 1, "new": "x"});
            let receipt = producer.append("events", n, &row).await.unwrap();
            if n == 9 {
                assert_eq!(receipt.durable().await.unwrap(), first);
            }
        }
        stream
            .producer("q")
            .append("events", 3, &event(3))
            .await
            .unwrap();
        soon(stream.flush()).await.unwrap();
        assert_eq!(
        rig.rows("select count(*), count(distinct n), count(distinct _df_seq), sum(ratio), count(new) from lake.raw.events"),
        [["16", "15", "15", "10.5", "5"]]
    );
        let counts = stream.counts();
        assert_eq!((counts[0].1.duplicate, counts[0].1.committed), (5, 6));
        soon(stream.shutdown()).await.unwrap();
    });
}

#[test]
fn streams_of_two_processes_append_to_one_table_and_others_tables_are_refused() {
    with_rig(async |rig| {
        let one = rig.builder().name("one").spawn().unwrap();
        let two = rig.builder().name("two").spawn().unwrap();
        soon(two.ready()).await.unwrap();
        soon(one.append_durable("shared", &json!({"a": 1})))
            .await
            .unwrap();
        // The second knows nothing of the table, and then nothing of the column.
        soon(two.append_durable("shared", &json!({"a": 2, "b": true})))
            .await
            .unwrap();
        soon(one.append_durable("shared", &json!({"a": 3, "c": "x"})))
            .await
            .unwrap();
        soon(two.append_durable("shared", &json!({"a": 4})))
            .await
            .unwrap();
        assert_eq!(
            rig.rows("select a, b, c from lake.raw.shared order by a"),
            [
                ["1", "NULL", "NULL"],
                ["2", "true", "NULL"],
                ["3", "NULL", "x"],
                ["4", "NULL", "NULL"],
            ]
        );
        let mut db = rig.duckdb();
        db.execute("create table lake.raw.theirs as select 1 as a")
            .unwrap();
        let error = soon(one.append_durable("theirs", &json!({"a": 1})))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("raw.theirs"), "{error}");
        assert_eq!(rig.scalar("select count(*) from lake.raw.theirs"), "1");
        // The others go on.
        soon(one.append_durable("shared", &json!({"a": 5})))
            .await
            .unwrap();
        soon(one.shutdown()).await.unwrap();
        soon(two.shutdown()).await.unwrap();
        // A second stream of one name waits for the first, and then says so.
        let three = rig.builder().name("three").spawn().unwrap();
        soon(three.ready()).await.unwrap();
        let again = rig.builder().name("three").spawn().unwrap();
        let error = soon(again.ready()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced);
    });
}

#[test]
fn the_end_commits_what_was_taken_and_takes_no_more() {
    with_rig(async |rig| {
        let stream = rig
            .builder()
            .flush_interval(Duration::from_hours(1))
            .spawn()
            .unwrap();
        let mut receipts = Vec::new();
        for n in 0..1000 {
            receipts.push(stream.append("events", &json!({"n": n})).await.unwrap());
        }
        let other = stream.clone();
        soon(stream.shutdown()).await.unwrap();
        for receipt in receipts {
            soon(receipt.durable()).await.unwrap();
        }
        let error = other.append("events", &json!({"n": 0})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped);
        assert_eq!(rig.scalar("select count(*) from lake.raw.events"), "1000");
        // Nothing is left behind.
        let pending = rig.sql(
            CATALOG,
            "select count(*)::text from duckfeeder.pending_files",
        );
        assert_eq!(pending[0][0].as_deref(), Some("0"));
    });
}

#[test]
fn plain_files_of_json_lines_are_no_business_of_the_lake() {
    with_rig(async |rig| {
        let stream = rig
            .builder()
            .table(
                AppendTable::new("plain")
                    .column("at", ColumnType::TimestampTz)
                    .json_lines(true),
            )
            .spawn()
            .unwrap();
        let mut producer = stream.producer("p");
        for n in 0..10 {
            let row = json!({"n": n, "at": "2024-02-29T12:00:00Z", "any": {"x": [n]}});
            producer.append("plain", n, &row).await.unwrap();
        }
        // Beside a table of the lake, and alone.
        stream.append("lake", &json!({"n": 1})).await.unwrap();
        soon(stream.flush()).await.unwrap();
        let last = json!({"n": 10});
        assert_eq!(
            soon(producer.append_durable("plain", 10, &last))
                .await
                .unwrap(),
            0
        );
        assert_eq!(soon(producer.position("plain")).await.unwrap(), Some(10));
        soon(stream.shutdown()).await.unwrap();
        let files = format!(
            "read_json('{}/raw/plain/*.jsonl')",
            rig.lake_dir().display()
        );
        assert_eq!(
            rig.rows(&format!(
                "select count(*), sum(n), count(\"any\".x[1]), min(\"at\")::timestamp, max(_df_seq), any_value(_df_op) from {files}"
            )),
            [["11", "55", "10", "2024-02-29 12:00:00", "10", "append"]]
        );
        assert_eq!(
            rig.rows("select table_name from duckdb_tables() where database_name = 'lake'"),
            [["lake"]]
        );
        let stream = rig.builder().spawn().unwrap();
        assert_eq!(
            soon(stream.producer("p").position("plain")).await.unwrap(),
            Some(10)
        );
        soon(stream.shutdown()).await.unwrap();
    });
}

#[test]
fn a_table_that_cannot_be_made_is_no_error_of_the_others() {
    with_rig(async |rig| {
        // Readers of a lake do not tell the fields apart.
        let fields = ["a", "A"].map(|name| (name.to_owned(), ColumnType::Int32));
        let impossible =
            AppendTable::new("impossible").column("s", ColumnType::Struct(fields.to_vec()));
        let stream = rig.builder().table(impossible).spawn().unwrap();
        soon(stream.ready()).await.unwrap();
        let lost = stream.append("impossible", &json!({})).await.unwrap();
        soon(stream.append_durable("fine", &json!({"n": 1})))
            .await
            .unwrap();
        soon(lost.durable()).await.unwrap_err();
        stream.append("impossible", &json!({})).await.unwrap_err();
        soon(stream.append_durable("fine", &json!({"n": 2})))
            .await
            .unwrap();
        let counts = stream.counts();
        assert_eq!((counts[0].1.lost, counts[1].1.committed), (1, 2));
        soon(stream.shutdown()).await.unwrap();
    });
}
