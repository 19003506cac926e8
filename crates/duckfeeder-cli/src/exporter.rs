//! `/metrics`: the feeder's metrics in the text format of Prometheus.

use duckfeeder::meters::{self, Kind, Meter};
use metrics::Unit;
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::exit::{Failure, Result};

/// What the answer is.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const BUILD: Meter = Meter::gauge(
    "duckfeeder_build_info",
    Unit::Count,
    &["version"],
    "1, with the version of the binary",
);
const READY: Meter = Meter::gauge(
    "duckfeeder_ready",
    Unit::Count,
    &["feeder"],
    "1 when `/readyz` is 200, else 0",
);

/// What the binary adds to the metrics of its feeder.
const OWN: [Meter; 2] = [BUILD, READY];

/// The process's recorder.
#[derive(Clone, Debug)]
pub(crate) struct Exporter(PrometheusHandle);

impl Exporter {
    /// Records from now on, for the whole process.
    ///
    /// # Errors
    /// Somebody else records already.
    pub(crate) fn install() -> Result<Self> {
        let recorder = recorder()?;
        let exporter = Self(recorder.handle());
        metrics::set_global_recorder(recorder).map_err(|error| defect(&error))?;
        for meter in OWN {
            meter.describe();
        }
        BUILD
            .series(&[env!("CARGO_PKG_VERSION")])
            .into_gauge()
            .set(1.0);
        Ok(exporter)
    }

    /// Everything as of now.
    pub(crate) fn page(&self, feeder: &str, ready: bool) -> String {
        let gauge = READY.series(&[feeder]).into_gauge();
        gauge.set(if ready { 1.0 } else { 0.0 });
        self.0.render()
    }

    /// Sorts what was measured into its buckets; until then it takes memory.
    pub(crate) fn keep_small(&self) {
        self.0.run_upkeep();
    }
}

fn recorder() -> Result<PrometheusRecorder> {
    let mut builder = PrometheusBuilder::new();
    for meter in meters::ALL {
        if meter.kind == Kind::Histogram {
            let name = Matcher::Full(meter.name.to_owned());
            builder = builder
                .set_buckets_for_metric(name, meter.buckets)
                .map_err(|error| defect(&error))?;
        }
    }
    Ok(builder.build_recorder())
}

fn defect(error: &dyn std::error::Error) -> Failure {
    Failure::usage(
        "metrics cannot be recorded",
        "this is a defect, please report it",
    )
    .caused_by(error)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// An exporter that nothing is recorded for.
    pub(crate) fn unused() -> Exporter {
        Exporter(recorder().unwrap().handle())
    }

    #[test]
    fn the_document_describes_every_metric_and_no_other() {
        let document = include_str!("../../../docs/metrics.md");
        let described: BTreeSet<Vec<String>> = document
            .lines()
            .filter(|line| line.starts_with("| `duckfeeder_"))
            .map(|line| {
                let cells = line.trim_matches('|').split('|');
                cells.map(|cell| cell.trim().to_owned()).collect()
            })
            .collect();
        let registered: BTreeSet<Vec<String>> = meters::ALL
            .iter()
            .chain(&OWN)
            .map(|meter| {
                let labels: Vec<_> = meter
                    .labels
                    .iter()
                    .map(|label| format!("`{label}`"))
                    .collect();
                let unit = match meter.unit {
                    Unit::Count => "",
                    unit => unit.as_str(),
                };
                [
                    &format!("`{}`", meter.name),
                    meter.kind.as_str(),
                    &labels.join(", "),
                    unit,
                    meter.help,
                ]
                .map(str::to_owned)
                .to_vec()
            })
            .collect();
        let lacking: Vec<_> = registered
            .difference(&described)
            .map(|row| format!("| {} |", row.join(" | ")))
            .collect();
        let unknown: Vec<_> = described.difference(&registered).collect();
        assert!(
            lacking.is_empty() && unknown.is_empty(),
            "docs/metrics.md lacks:\n{}\nand has without code: {unknown:?}",
            lacking.join("\n")
        );
    }

    #[test]
    fn the_alert_rules_name_metrics_and_are_in_the_document() {
        let document = include_str!("../../../docs/metrics.md");
        let rules = include_str!("../../../examples/prometheus/alerts.yaml");
        let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let mut used = 0;
        for line in rules.lines().filter(|line| line.contains("expr: ")) {
            for name in line
                .split(word)
                .filter(|word| word.starts_with("duckfeeder_"))
            {
                assert!(
                    meters::ALL
                        .iter()
                        .chain(&OWN)
                        .any(|meter| meter.name == name),
                    "{name}"
                );
                used += 1;
            }
        }
        assert!(used >= 6, "{used}");
        let mut alert = None;
        for line in rules.lines() {
            if let Some((_, name)) = line.split_once("- alert: ") {
                alert = Some(name);
            } else if let Some((_, severity)) = line.split_once("severity: ") {
                let row = format!("| `{}` | {severity} |", alert.take().unwrap());
                assert!(document.contains(&row), "{row}");
            }
        }
        assert_eq!(alert, None, "without a severity");
    }

    #[test]
    fn histograms_have_buckets_and_not_quantiles() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("duckfeeder_freshness_seconds", "feeder" => "a").record(0.3);
        });
        let page = handle.render();
        assert!(
            page.contains("duckfeeder_freshness_seconds_bucket{feeder=\"a\",le=\"0.5\"} 1"),
            "{page}"
        );
    }
}
