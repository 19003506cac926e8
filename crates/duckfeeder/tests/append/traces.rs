//! The layer: what is forwarded, as what, and that it does not feed on itself.

use std::time::Duration;

use duckfeeder::append::AppendStream;
use duckfeeder::telemetry::{LakeLayer, LakeLayerBuilder};
use tracing::{Level, span};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::rig::{Rig, soon, with_rig};

fn stream(rig: &Rig) -> AppendStream {
    rig.builder()
        .flush_interval(Duration::from_millis(50))
        .spawn()
        .unwrap()
}

/// Installs the layer for the whole process, so that every task of whoever is under it.
fn install(builder: LakeLayerBuilder) -> LakeLayer {
    let layer = builder.build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    layer
}

#[test]
fn events_and_closed_spans_are_rows_with_typed_fields() {
    with_rig(async |rig| {
        let stream = stream(rig);
        install(
            LakeLayer::builder(stream.clone())
                .directives("off,app=debug,app::noisy=info")
                .unwrap()
                .sample("app::rare", 0.1)
                .deny_fields(["password"])
                .max_value_bytes(10)
                .max_fields(6)
                .metrics_window(None),
        );
        let outer =
            span!(target: "app", Level::INFO, "outer", user = 7, late = tracing::field::Empty);
        outer.in_scope(|| {
            outer.record("late", true);
            let inner = span!(target: "app::db", Level::DEBUG, "inner", table = "orders");
            let _entered = inner.enter();
            tracing::info!(target: "app::db", n = -1_i64, big = u64::MAX, ratio = 0.5, nan = f64::NAN,
                password = "secret", list = ?[1, 2], more = 1, most = 2, "said {}", "hello to you");
            tracing::trace!(target: "app", "too fine");
            tracing::debug!(target: "app::noisy", "too fine here");
            tracing::error!(target: "other", "elsewhere");
        });
        drop(outer);
        for n in 0..1000 {
            tracing::info!(target: "app::rare", n);
        }
        tracing::error!(target: "app::rare", "always");
        soon(stream.flush()).await.unwrap();
        assert_eq!(
            rig.rows("select kind, level, target, split_part(name, ' ', 1), message, span_id, parent_id, fields from lake.raw.traces where target <> 'app::rare' order by _df_seq"),
            [
                ["event", "INFO", "app::db", "event", "said hello…[+7 bytes]", "2", "NULL",
                 r#"{"_dropped_fields":1,"big":18446744073709551615,"list":"[1, 2]","more":1,"n":-1,"nan":"NaN","ratio":0.5}"#],
                ["span", "DEBUG", "app::db", "inner", "NULL", "2", "1", r#"{"table":"orders"}"#],
                ["span", "INFO", "app", "outer", "NULL", "1", "NULL", r#"{"late":true,"user":7}"#],
            ]
        );
        assert_eq!(
            rig.scalar("select bool_and(duration_us >= 0 and \"at\" > now() - interval 5 minute) from lake.raw.traces where kind = 'span'"),
            "true"
        );
        assert_eq!(
            rig.scalar("select count(distinct process) from lake.raw.traces"),
            "1"
        );
        let rare: i64 = rig
            .scalar("select count(*) from lake.raw.traces where target = 'app::rare'")
            .parse()
            .unwrap();
        assert!((50..200).contains(&rare), "{rare}");
        assert_eq!(
            rig.scalar("select count(*) from lake.raw.traces where level = 'ERROR'"),
            "1"
        );
        soon(stream.shutdown()).await.unwrap();
    });
}

/// Shows 1, second half.
#[test]
fn at_the_finest_level_the_layer_does_not_feed_on_itself() {
    with_rig(async |rig| {
        let stream = stream(rig);
        let directives = "trace,hyper=trace,hyper_util=trace,h2=trace,rustls=trace,sqlx=trace";
        let layer = install(
            LakeLayer::builder(stream.clone())
                .directives(directives)
                .unwrap()
                .metrics_window(Some(Duration::from_millis(200))),
        );
        for n in 0..100 {
            tracing::trace!(n, "of the host");
        }
        soon(stream.flush()).await.unwrap();
        // Each commit makes events of ours; none of them may make the next commit.
        let accepted = || stream.counts()[0].1.accepted;
        let mut seen = Vec::new();
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            seen.push((accepted(), layer.own_activity()));
        }
        println!("rows accepted and events of our own left out, every half second: {seen:?}");
        let own = layer.own_activity();
        assert!(
            own > 50,
            "the commits emitted {own} events: nothing was proven"
        );
        assert_eq!(seen[2].0, seen[5].0, "{seen:?}");
        soon(stream.flush()).await.unwrap();
        assert_eq!(
            rig.rows("select kind, target, count(*) from lake.raw.traces where kind <> 'metrics' group by all"),
            [["event", "append::traces", "100"]]
        );
        // What duckfeeder did is told by windows.
        assert_eq!(
            rig.scalar("select sum((fields->>'layer.forwarded')::int) from lake.raw.traces where kind = 'metrics'"),
            "100"
        );
        soon(stream.shutdown()).await.unwrap();
    });
}
