//! `duckfeeder migrate`

use duckfeeder::migrations;

use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Result};

/// Makes or migrates the control tables.
pub(super) async fn migrate(settings: &Settings, console: &Console) -> Result {
    migrations::up(&settings.feeder.catalog).await?;
    console.print("the control tables are up to date")?;
    Ok(Exit::Done)
}

/// Prints the script that a DBA runs instead.
pub(super) fn print(console: &Console) -> Result {
    console.print(&migrations::script())?;
    Ok(Exit::Done)
}
