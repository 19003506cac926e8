//! The duckfeeder binary.

mod args;
mod commands;
mod config;
mod console;
mod exit;
mod exporter;
mod health;
mod logging;
mod progress;
mod server;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use console::Console;
use exit::{Failure, Result};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console::new(cli.global.log);
    let exit = match start(cli, &console) {
        Ok(exit) => exit,
        Err(failure) => {
            console.error(&failure.story());
            failure.exit()
        }
    };
    ExitCode::from(exit as u8)
}

fn start(cli: Cli, console: &Console) -> Result {
    logging::init(cli.global.log, console)?;
    #[cfg(debug_assertions)]
    arm_failpoint()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::usage(
                "no threads can be started",
                "raise the limits of this process",
            )
            .caused_by(&error)
        })?;
    let exit = runtime.block_on(commands::run(cli, console));
    // A blocking file operation that hangs does not hold up the exit.
    runtime.shutdown_background();
    exit
}

/// Crash tests name the point where this process is to end. No release build does that.
#[cfg(debug_assertions)]
fn arm_failpoint() -> Result<()> {
    let Some(wanted) = std::env::var_os("DUCKFEEDER_TEST_FAILPOINT") else {
        return Ok(());
    };
    feeder_core::failpoint::arm(&wanted.to_string_lossy()).map_err(|error| {
        Failure::usage(
            error.to_string(),
            "unset DUCKFEEDER_TEST_FAILPOINT, which is for tests only",
        )
    })
}
