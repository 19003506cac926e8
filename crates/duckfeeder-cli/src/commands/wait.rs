//! `duckfeeder wait`

use std::time::Duration;

use duckfeeder::{ErrorKind, TableState};
use feeder_core::operations;
use feeder_core::report::{self, Report};
use tokio::time::Instant;

use crate::args::{Goal, Wait};
use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Result};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// Waits until the feeder has come so far.
pub(super) async fn wait(settings: &Settings, wait: &Wait, console: &Console) -> Result {
    let deadline = Instant::now() + wait.timeout;
    let mut asked = false;
    let mut missing = "the databases did not answer".to_owned();
    loop {
        match tokio::time::timeout_at(deadline, report::report(&settings.feeder)).await {
            Ok(Ok(report)) => match lacks(&report, &wait.goal) {
                None => return Ok(Exit::Done),
                Some(lack) => {
                    missing = lack;
                    // An idle feeder moves its checkpoint only when it is asked to.
                    if let (Some(lsn), false) = (wait.goal.lsn, asked) {
                        operations::want(&settings.feeder, lsn).await?;
                        asked = true;
                    }
                }
            },
            // A feeder that is just starting is not registered yet.
            Ok(Err(error)) if error.is_transient() || error.kind() == ErrorKind::Config => {
                missing = error.to_string();
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {}
        }
        if Instant::now() + INTERVAL >= deadline {
            let timeout = humantime::format_duration(wait.timeout);
            console.error(&format!("error: waited {timeout} in vain: {missing}\n"));
            return Ok(Exit::Unhealthy);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What is still missing.
fn lacks(report: &Report, goal: &Goal) -> Option<String> {
    if let Some(lsn) = goal.lsn {
        return (!report.covers(lsn))
            .then(|| format!("the checkpoint is {}, before {lsn}", report.checkpoint));
    }
    if !report.slot.as_ref().is_some_and(|slot| slot.active) {
        return Some("no feeder is connected to the slot".to_owned());
    }
    if report.tables.is_empty() {
        return Some("no table is registered yet".to_owned());
    }
    if report.streaming() {
        return None;
    }
    let unfinished: Vec<String> = report
        .tables
        .iter()
        .filter(|table| matches!(table.state, TableState::Pending | TableState::Copying))
        .map(|table| format!("{} is {}", table.source, table.state.as_str()))
        .collect();
    Some(unfinished.join(", "))
}
