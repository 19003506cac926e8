//! `duckfeeder check`

use std::fmt::Write as _;

use feeder_core::check::{self, Finding, Severity};
use feeder_core::ddl_trigger;

use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Result};

/// Checks everything, prints all findings or the script that mends them.
pub(super) async fn check(settings: &Settings, sql: bool, console: &Console) -> Result {
    settings.require_tables()?;
    let storage = settings.store()?.open()?;
    let findings = check::check(&settings.feeder, storage.as_ref()).await;
    console.print(&if sql {
        script(&findings)
    } else {
        listing(&findings)
    })?;
    let failed = findings
        .iter()
        .any(|finding| finding.severity == Severity::Failed);
    Ok(if failed { Exit::Unhealthy } else { Exit::Done })
}

/// Prints the source's optional event trigger.
pub(super) fn ddl_trigger(console: &Console) -> Result {
    console.print(ddl_trigger::SQL)?;
    Ok(Exit::Done)
}

/// A finding a line, with its remedy below.
fn listing(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let severity = match finding.severity {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Failed => "FAILED",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{severity:8} {}: {}", finding.check, finding.message);
        if finding.severity == Severity::Ok {
            continue;
        }
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "         remedy: {remedy}");
        }
        for line in finding.sql.iter().flat_map(|sql| sql.lines()) {
            let _ = writeln!(text, "           {line}");
        }
    }
    text
}

/// The remedies as one script; what SQL cannot mend is a comment.
fn script(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings
        .iter()
        .filter(|finding| finding.severity != Severity::Ok)
    {
        for line in finding.message.lines() {
            let _ = writeln!(text, "-- {}: {line}", finding.check);
        }
        for line in finding.remedy.iter().flat_map(|remedy| remedy.lines()) {
            let _ = writeln!(text, "-- remedy: {line}");
        }
        if let Some(sql) = &finding.sql {
            let sql = sql.trim_end();
            let end = if sql.ends_with(';') { "" } else { ";" };
            let _ = writeln!(text, "{sql}{end}");
        }
        text.push('\n');
    }
    if text.is_empty() {
        text.push_str("-- nothing to do\n");
    }
    text
}
