//! `duckfeeder status`

use std::fmt::Write as _;
use std::time::Duration;

use bytesize::ByteSize;
use feeder_core::report::{self, Report};

use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};

/// Shows how the feeder is doing, as the databases have it.
pub(super) async fn status(settings: &Settings, json: bool, console: &Console) -> Result {
    let report = report::report(&settings.feeder).await?;
    let text = if json {
        serde_json::to_string_pretty(&report).map_err(|error| {
            Failure::usage(
                "the status cannot be written as JSON",
                "this is a defect, please report it",
            )
            .caused_by(&error)
        })?
    } else {
        describe(&report)
    };
    console.print(&text)?;
    Ok(if report.healthy() {
        Exit::Done
    } else {
        Exit::Unhealthy
    })
}

fn describe(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:12}{value}");
    };
    line("feeder", report.name.clone());
    line(
        "checkpoint",
        format!(
            "{} (source at {})",
            report.checkpoint, report.source_wal_end
        ),
    );
    let age = match report.lag_seconds {
        Some(seconds) => {
            let whole = Duration::from_secs_f64(seconds.max(0.0).round());
            format!(", {}", humantime::format_duration(whole))
        }
        None if report.perhaps_caught_up() => {
            ", or none: an idle feeder moves its checkpoint by 1 MiB".to_owned()
        }
        None => String::new(),
    };
    line("lag", format!("{} of WAL{age}", ByteSize(report.lag_bytes)));
    line(
        "snapshot",
        report.last_snapshot.map_or_else(none, |id| id.to_string()),
    );
    line(
        "last commit",
        report.commit_timestamp.clone().unwrap_or_else(none),
    );
    line("updated", report.updated_at.clone());
    line(
        "slot",
        report.slot.as_ref().map_or_else(none, |slot| {
            let state = if slot.active { "active" } else { "inactive" };
            let retained = slot.retained_bytes.map_or_else(String::new, |bytes| {
                format!(", retains {}", ByteSize(bytes))
            });
            let wal = slot
                .wal_status
                .as_ref()
                .map_or_else(String::new, |status| format!(", WAL {status}"));
            format!("{}: {state}{retained}{wal}", slot.name)
        }),
    );
    line("tables", report.tables.len().to_string());
    let width = report
        .tables
        .iter()
        .map(|table| table.source.chars().count())
        .max()
        .unwrap_or(0);
    for table in &report.tables {
        let unrepresentable = match table.unrepresentable {
            0 => String::new(),
            values => format!("  {values} values did not fit, see _df_dead_letters"),
        };
        let rows = table.rows.unwrap_or_default();
        let _ = writeln!(
            text,
            "  {:<width$}  {:<9}  -> {}, {rows} rows{unrepresentable}",
            table.source,
            table.state.as_str(),
            table.target
        );
    }
    for problem in &report.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    text
}

fn none() -> String {
    "none".to_owned()
}
