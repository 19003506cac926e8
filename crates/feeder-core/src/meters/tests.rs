use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::*;
use crate::append::{AppendOptions, AppendTable, Buffers, Shown};
use crate::config::FeederName;
use crate::status::{FeederStatus, Phase, TableState, TableStatus};

/// A metric as name, kind and labels.
type Shape = (String, &'static str, Vec<String>);

/// Notes what is registered.
#[derive(Default)]
struct Notes {
    shapes: Mutex<BTreeSet<Shape>>,
    series: Mutex<BTreeSet<String>>,
}

impl Notes {
    fn note(&self, key: &Key, kind: Kind) {
        let labels = key.labels().map(|label| label.key().to_owned()).collect();
        let name = key.name().to_owned();
        let shape = (name, kind.as_str(), labels);
        self.shapes.lock().unwrap().insert(shape);
        self.series.lock().unwrap().insert(key.to_string());
    }
}

impl Recorder for Notes {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.note(key, Kind::Counter);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.note(key, Kind::Gauge);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.note(key, Kind::Histogram);
        Histogram::noop()
    }
}

fn declared() -> BTreeSet<Shape> {
    ALL.iter()
        .map(|meter| {
            let labels = meter.labels.iter().map(|label| (*label).to_owned());
            (meter.name.to_owned(), meter.kind.as_str(), labels.collect())
        })
        .collect()
}

/// What a feeder with one table, and one append table, registers before anything happens to it.
fn registered(feeder: &str) -> Notes {
    let notes = Notes::default();
    let mut status = FeederStatus::new(&FeederName::parse(feeder).unwrap(), Phase::Starting);
    status.tables = vec![TableStatus {
        source: "public.orders".into(),
        target: "raw.orders".into(),
        state: TableState::Pending,
        error: None,
        rows: 0,
        discarded: 0,
        unrepresentable: 0,
        copied: None,
    }];
    metrics::with_local_recorder(&notes, || {
        let meters = Meters::new(feeder);
        meters.begin();
        meters.table("public.orders");
        follow::Gauges::new(&status).show(&status);
        let buffers = Buffers::new(AppendOptions::default(), vec![AppendTable::new("events")]);
        Shown::new(feeder.to_owned(), Arc::new(buffers.unwrap())).show();
    });
    notes
}

#[test]
fn every_metric_is_there_before_anything_happens() {
    assert_eq!(*registered("shop").shapes.lock().unwrap(), declared());
}

#[test]
fn two_feeders_of_one_process_share_no_series() {
    let (one, other) = (registered("one"), registered("other"));
    let (one, other) = (one.series.lock().unwrap(), other.series.lock().unwrap());
    assert_eq!(one.len(), other.len());
    assert!(one.is_disjoint(&other));
}

#[test]
fn names_and_units_follow_the_conventions() {
    for meter in ALL {
        let name = meter.name;
        assert!(name.starts_with("duckfeeder_"), "{name}");
        assert_eq!(
            name.ends_with("_total"),
            meter.kind == Kind::Counter,
            "{name}"
        );
        let stem = name.trim_end_matches("_total");
        for (unit, ending) in [(Unit::Seconds, "_seconds"), (Unit::Bytes, "_bytes")] {
            // A position is a number of bytes, too, but nobody adds it up.
            let wanted = meter.unit == unit && !stem.ends_with("_lsn");
            assert_eq!(stem.ends_with(ending), wanted, "{name}");
        }
        assert_eq!(meter.labels.first(), Some(&"feeder"), "{name}");
        assert_eq!(meter.buckets.is_empty(), meter.kind != Kind::Histogram);
        assert!(meter.buckets.is_sorted());
    }
}
