//! `duckfeeder attach-sql`

use feeder_core::attach;

use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Result};

/// Prints the statements that attach the lake in DuckDB.
pub(super) fn attach_sql(settings: &Settings, alias: &str, console: &Console) -> Result {
    // The catalog knows the path; only a bucket needs a secret.
    let store = settings.store().ok();
    console.print(&attach::attach_sql(
        &settings.feeder,
        store.and_then(|store| store.url().zip(store.options())),
        alias,
    ))?;
    Ok(Exit::Done)
}
