//! `duckfeeder resync`

use feeder_core::operations;

use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Result};

/// Lets the feeder copy one table again.
pub(super) async fn resync(settings: &Settings, table: &str, console: &Console) -> Result {
    operations::resync(&settings.feeder, table).await?;
    console.print(&format!(
        "{table} will be copied again by the running feeder, or by the next one; `duckfeeder status` shows how far it is"
    ))?;
    Ok(Exit::Done)
}
