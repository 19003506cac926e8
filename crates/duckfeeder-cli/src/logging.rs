//! The log: on standard error, as text or JSON, filtered by `DUCKFEEDER_LOG`.

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;
use crate::config::LOG;
use crate::console::Console;
use crate::exit::{Failure, Result};

/// What is logged unless something else is asked for. The catalog's client reports every slow statement.
const DEFAULT_FILTER: &str = "info,sqlx=warn";

/// Starts logging for the whole process.
///
/// # Errors
/// `DUCKFEEDER_LOG` is not a filter.
pub(crate) fn init(format: LogFormat, console: &Console) -> Result<()> {
    let wanted = std::env::var(LOG)
        .ok()
        .filter(|filter| !filter.trim().is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(DEFAULT_FILTER)).map_err(|error| {
        Failure::usage(
            format!("the environment variable {LOG} is not a log filter"),
            "write a level such as info or debug, or levels by target such as info,feeder_core=debug",
        )
        .caused_by(&error)
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(console.clone());
    let set = match format {
        LogFormat::Text => subscriber.with_ansi(console.interactive()).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| {
        Failure::usage(
            "logging was started twice",
            "this is a defect, please report it",
        )
        .caused_by(error.as_ref())
    })
}
