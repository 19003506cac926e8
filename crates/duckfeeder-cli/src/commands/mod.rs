//! One module for each command.

mod attach_sql;
mod check;
mod health;
mod init;
mod maintain;
mod migrate;
mod resync;
mod run;
mod schema;
mod status;
mod teardown;
mod wait;

use std::ffi::OsString;
use std::path::Path;

use crate::args::{Cli, Command, ConfigCommand, Global};
use crate::config::{Merged, Settings};
use crate::console::Console;
use crate::exit::{Exit, Result};

/// Does what the command line says.
pub(crate) async fn run(cli: Cli, console: &Console) -> Result {
    let global = &cli.global;
    match cli.command {
        Command::Init => init::init(global, console).await,
        Command::Check {
            ddl_trigger: true, ..
        } => check::ddl_trigger(console),
        Command::Check { sql, .. } => check::check(&settings(global)?, sql, console).await,
        Command::Run { until_caught_up } => {
            run::run(settings(global)?, until_caught_up, console).await
        }
        Command::Wait(goal) => wait::wait(&settings(global)?, &goal, console).await,
        Command::Health => health::health(&merged(global)?, console).await,
        Command::Status { json } => status::status(&settings(global)?, json, console).await,
        Command::AttachSql { alias } => attach_sql::attach_sql(&settings(global)?, &alias, console),
        Command::Resync { table } => resync::resync(&settings(global)?, &table, console).await,
        Command::Schema(command) => schema::schema(&settings(global)?, command, console).await,
        Command::Maintain { dry_run, json } => {
            maintain::maintain(&settings(global)?, dry_run, json, console).await
        }
        Command::Migrate { print: true } => migrate::print(console),
        Command::Migrate { print: false } => migrate::migrate(&settings(global)?, console).await,
        Command::Config(ConfigCommand::Show) => {
            let merged = merged(global)?;
            console.print(&merged.show())?;
            // Shown first: what is wrong is easier to see there.
            merged.resolve()?;
            Ok(Exit::Done)
        }
        Command::Teardown { yes } => teardown::teardown(&settings(global)?, yes, console).await,
    }
}

fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

fn merged(global: &Global) -> Result<Merged> {
    Ok(Merged::read(global.flags(), environment(), Path::new(""))?)
}

fn settings(global: &Global) -> Result<Settings> {
    Ok(merged(global)?.resolve()?)
}
