//! Events per second through each way, and how long `append_durable` takes. What is asserted is that all arrive; the
//! figures are printed (`cargo nextest run --success-output final speed`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};
use duckfeeder::append::{AppendStream, RecordBatch};
use serde::Serialize;
use serde_json::json;

use crate::rig::{Rig, soon, with_rig};

const ROWS: i64 = 40_000;
const BATCH: i64 = 1_000;

#[derive(Serialize)]
struct Event<'a> {
    n: i64,
    ratio: f64,
    kind: &'a str,
    text: &'a str,
}

fn event(n: i64) -> Event<'static> {
    Event {
        n,
        ratio: 0.5,
        kind: "click",
        text: "a text of some forty bytes, as they occur",
    }
}

fn batch(first: i64) -> RecordBatch {
    let rows = BATCH as usize;
    let of_all = |text: &'static str| Arc::new(StringArray::from(vec![text; rows])) as ArrayRef;
    RecordBatch::try_from_iter([
        (
            "n",
            Arc::new(Int64Array::from_iter_values(first..first + BATCH)) as ArrayRef,
        ),
        ("ratio", Arc::new(Float64Array::from(vec![0.5; rows]))),
        ("kind", of_all("click")),
        ("text", of_all(event(0).text)),
    ])
    .unwrap()
}

/// Times `ROWS` rows until they are buffered, and until they are in the lake.
async fn timed(rig: &Rig, way: &str, append: impl AsyncFn(&AppendStream, &str)) {
    let stream = rig
        .builder()
        .name(way)
        .flush_interval(Duration::from_secs(5))
        .spawn()
        .unwrap();
    soon(stream.append_durable(way, &event(-1))).await.unwrap();
    let began = Instant::now();
    append(&stream, way).await;
    let buffered = began.elapsed();
    soon(stream.flush()).await.unwrap();
    let committed = began.elapsed();
    let per_second = |took: Duration| ROWS as f64 / took.as_secs_f64();
    println!(
        "{way}: {:.0} rows/s buffered, {:.0} rows/s in the lake",
        per_second(buffered),
        per_second(committed)
    );
    assert_eq!(
        rig.scalar(&format!(
            "select count(distinct n) from lake.raw.{way} where n >= 0"
        )),
        ROWS.to_string()
    );
    soon(stream.shutdown()).await.unwrap();
}

/// Shows 5.
#[test]
fn rows_per_second_and_the_latency_of_durable_rows() {
    with_rig(async |rig| {
        if cfg!(debug_assertions) {
            println!("unoptimised build: rates are a fraction of a release's");
        }
        timed(rig, "structs", async |stream, table| {
            for n in 0..ROWS {
                stream.append(table, &event(n)).await.unwrap();
            }
        })
        .await;
        timed(rig, "json", async |stream, table| {
            for n in 0..ROWS {
                let row = json!({"n": n, "ratio": 0.5, "kind": "click", "text": event(0).text});
                stream.append(table, &row).await.unwrap();
            }
        })
        .await;
        timed(rig, "numbered", async |stream, table| {
            let mut producer = stream.producer("p");
            for n in 0..ROWS {
                producer.append(table, n, &event(n)).await.unwrap();
            }
        })
        .await;
        timed(rig, "batches", async |stream, table| {
            for first in (0..ROWS).step_by(BATCH as usize) {
                stream.append_batch(table, &batch(first)).await.unwrap();
            }
        })
        .await;
        timed(rig, "eight_tasks", async |stream, table| {
            let tasks: Vec<_> = (0..8)
                .map(|task| {
                    let (stream, table) = (stream.clone(), table.to_owned());
                    tokio::spawn(async move {
                        for n in 0..ROWS / 8 {
                            stream.append(&table, &event(n * 8 + task)).await.unwrap();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        })
        .await;
        #[cfg(feature = "tracing-layer")]
        layer(rig).await;
        durable(rig).await;
    });
}

#[cfg(feature = "tracing-layer")]
async fn layer(rig: &Rig) {
    use duckfeeder::telemetry::LakeLayer;
    use tracing_subscriber::layer::SubscriberExt as _;

    let stream = rig.builder().name("layer").spawn().unwrap();
    soon(stream.ready()).await.unwrap();
    let layer = LakeLayer::builder(stream.clone()).metrics_window(None);
    let subscriber = tracing_subscriber::registry().with(layer.build().unwrap());
    let began = Instant::now();
    tracing::subscriber::with_default(subscriber, || {
        for n in 0..ROWS {
            tracing::info!(n, ratio = 0.5, kind = "click", "{}", event(0).text);
        }
    });
    let buffered = began.elapsed();
    soon(stream.flush()).await.unwrap();
    println!(
        "tracing events: {:.0} rows/s buffered, {:.0} rows/s in the lake",
        ROWS as f64 / buffered.as_secs_f64(),
        ROWS as f64 / began.elapsed().as_secs_f64()
    );
    let counts = stream.counts()[0].1;
    assert_eq!((counts.committed, counts.refused), (ROWS as u64, 0));
    soon(stream.shutdown()).await.unwrap();
}

/// Eight tasks that each await every row.
async fn durable(rig: &Rig) {
    let stream = rig.builder().name("durable").spawn().unwrap();
    soon(stream.append_durable("durable", &event(-1)))
        .await
        .unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let stream = stream.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                for n in 0..25 {
                    let began = Instant::now();
                    stream.append_durable("durable", &event(n)).await.unwrap();
                    took.push(began.elapsed());
                }
                took
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(soon(task).await.unwrap());
    }
    all.sort_unstable();
    let at = |share: usize| all[(all.len() - 1) * share / 100];
    println!(
        "append_durable, 8 tasks, {} rows, durable_within 20 ms: p50 {:.1?}, p99 {:.1?}",
        all.len(),
        at(50),
        at(99)
    );
    assert_eq!(
        rig.scalar("select count(*) from lake.raw.durable where n >= 0"),
        all.len().to_string()
    );
    soon(stream.shutdown()).await.unwrap();
}
