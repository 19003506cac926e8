//! `cargo xtask pg` and `cargo xtask env`: Postgres and DuckDB for work by hand.

use anyhow::Result;
use duckfeeder_tests::{
    Options, Postgres, Tools,
    postgres::SUPERUSER,
    tools::{MAJORS, default_major},
};

use crate::repo::{preflight, say, test_variables, wait_for_ctrl_c};

/// Options of `pg`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Major version of Postgres: 14 to 18
    #[arg(long)]
    version: Option<u32>,
}

/// Options of `env`.
#[derive(Debug, clap::Args)]
pub(crate) struct EnvArgs {
    /// Get all supported major versions of Postgres instead of the default one
    #[arg(long)]
    all: bool,
}

/// Runs a scratch server until Ctrl-C.
pub(crate) fn run(args: &Args) -> Result<()> {
    let major = args.version.map_or_else(default_major, Ok)?;
    preflight(&Tools::locate()?, &[major])?;
    let server = Postgres::start(major, &Options::default())?;
    say(&format!(
        "Postgres {major} is ready; it ends, and its data with it, at Ctrl-C"
    ));
    say(&server.url(SUPERUSER, "postgres"));
    wait_for_ctrl_c();
    Ok(())
}

/// Prints `export` lines.
pub(crate) fn print_env(args: &EnvArgs) -> Result<()> {
    let majors = if args.all {
        MAJORS.to_vec()
    } else {
        vec![default_major()?]
    };
    for (name, value) in test_variables(&Tools::locate()?, &majors)? {
        say(&format!("export {name}='{}'", value.to_string_lossy()));
    }
    Ok(())
}
