//! `duckfeeder attach-sql`

use feeder_core::operations;

use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Result};

/// Prints the statements that attach the lake in DuckDB.
pub(super) fn attach_sql(settings: &Settings, alias: &str, console: &Console) -> Result {
    console.print(&operations::attach_sql(&settings.feeder, alias))?;
    Ok(Exit::Done)
}
