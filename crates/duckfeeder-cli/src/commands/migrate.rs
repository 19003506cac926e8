//! `duckfeeder migrate`

use feeder_core::control::migrations;

use crate::console::Console;
use crate::exit::{Exit, Result};

/// Prints the script that a DBA runs.
pub(super) fn print(console: &Console) -> Result {
    console.print(&migrations::script())?;
    Ok(Exit::Done)
}
