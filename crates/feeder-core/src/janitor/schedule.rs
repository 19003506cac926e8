//! A janitor that works for as long as a feeder runs.

use std::time::Duration;

use super::{Janitor, Outcome, Report};
use crate::FeederErrorKind;
use crate::meters::Meters;

/// Cleans up every `interval`, for ever. Whatever goes wrong is logged, and tried again after the next one.
///
/// The first time comes after a random part of the interval: so feeders of one lake, which are often started together,
/// take turns, and one that is restarted more often than the interval gets to it too.
pub(crate) async fn keep_clean(janitor: Janitor, interval: Duration, meters: Meters) {
    let mut wait = interval.mul_f64(rand::random());
    loop {
        tokio::time::sleep(wait).await;
        match janitor.run().await {
            Ok(report) => {
                meters.cleaned_up(&report);
                log(&report);
            }
            Err(error) if error.kind() == FeederErrorKind::Fenced => {
                tracing::debug!("another janitor is at work in this lake");
            }
            Err(error) => {
                tracing::warn!(error = %error, remedy = error.remedy(), "the lake could not be cleaned up");
            }
        }
        wait = interval;
    }
}

fn log(report: &Report) {
    for section in report.sections() {
        if let Some(error) = &section.error {
            tracing::warn!(error, "cleaning up ended early");
        }
        for entry in &section.entries {
            match entry.outcome {
                Outcome::Refused | Outcome::Failed => tracing::warn!(
                    path = entry.path,
                    why = entry.why,
                    problem = entry.problem,
                    "a file was not cleaned up"
                ),
                _ => tracing::info!(
                    path = entry.path,
                    bytes = entry.bytes,
                    age_seconds = entry.age_seconds,
                    why = entry.why,
                    "a file was cleaned up"
                ),
            }
        }
    }
    let (files, bytes) = (report.files(), report.bytes());
    if files > 0 {
        tracing::info!(files, bytes, "the lake was cleaned up");
    } else {
        tracing::debug!("there was nothing to clean up");
    }
}
