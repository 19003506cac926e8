//! Tasks of this workspace: `cargo xtask <task>`.

mod dist;
mod e2e;
mod pg;
mod quickstart;
mod repo;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Tasks of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show the whole thing at work: a Postgres, a shop that changes all the time, the feeder, DuckDB
    Quickstart(quickstart::Args),
    /// Run every test there is, getting Postgres and DuckDB first
    Test(test::Args),
    /// The pipeline from Postgres to DuckDB, once per kind of store and once per version of Postgres
    E2e(e2e::Args),
    /// Make what a release consists of: archive, checksums, bill of materials; and try it out
    Dist(dist::Args),
    /// Check what no compiler checks: dependency rules, module docs, file lengths, stray blanks
    Tidy,
    /// Start a scratch Postgres and print its URL; it is gone after Ctrl-C
    Pg(pg::Args),
    /// Get Postgres and DuckDB and print the variables that tests find them by, for `eval`
    Env(pg::EnvArgs),
}

fn main() -> ExitCode {
    let outcome: Result<()> = match Cli::parse().task {
        Task::Quickstart(args) => quickstart::run(&args),
        Task::Test(args) => test::run(&args),
        Task::E2e(args) => e2e::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Tidy => tidy::run(),
        Task::Pg(args) => pg::run(&args),
        Task::Env(args) => pg::print_env(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            repo::say_error(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
