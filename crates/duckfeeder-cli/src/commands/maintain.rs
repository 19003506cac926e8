//! `duckfeeder maintain`

use duckfeeder::Janitor;

use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};

/// Removes what was left behind in the lake's store, or lists it.
pub(super) async fn maintain(
    settings: &Settings,
    dry_run: bool,
    json: bool,
    console: &Console,
) -> Result {
    let storage = settings.store()?.open()?;
    let feeder = &settings.feeder;
    let janitor = Janitor::connect(&feeder.catalog, storage, feeder.maintenance.grace).await?;
    let report = janitor.delete(!dry_run).run().await?;
    let text = if json {
        serde_json::to_string_pretty(&report).map_err(|error| {
            Failure::usage(
                "the report cannot be written as JSON",
                "this is a defect, please report it",
            )
            .caused_by(&error)
        })?
    } else {
        report.to_string()
    };
    console.print(&text)?;
    Ok(if report.complete() {
        Exit::Done
    } else {
        Exit::Unhealthy
    })
}
