//! What the tasks share: the preflight, the variables that tests read, and talking to a person.

use std::{
    env,
    ffi::OsString,
    io::{IsTerminal, copy, sink, stdin},
    path::PathBuf,
};

use anyhow::{Result, bail};
use duckfeeder_tests::{Tools, tools::default_major};

/// Prints a line for the person at the terminal.
#[expect(clippy::print_stdout, reason = "a task talks to a person")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Prints a line to standard error.
#[expect(clippy::print_stderr, reason = "a task talks to a person")]
pub(crate) fn say_error(text: &str) {
    eprintln!("{text}");
}

/// Checks that everything the tools need is there.
///
/// # Errors
/// Lists all that is missing at once.
pub(crate) fn preflight(tools: &Tools, majors: &[u32]) -> Result<()> {
    let missing = tools.missing(majors)?;
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine lacks:\n  - {}", missing.join("\n  - "));
}

/// Gets the tools for the given major versions of Postgres and returns the variables under which tests
/// find them.
pub(crate) fn test_variables(tools: &Tools, majors: &[u32]) -> Result<Vec<(String, OsString)>> {
    preflight(tools, majors)?;
    let mut variables = Vec::new();
    for &major in majors {
        let bin = tools.postgres(major)?;
        variables.push((
            format!("DUCKFEEDER_TEST_PG_BIN_{major}"),
            bin.into_os_string(),
        ));
    }
    let duckdb = tools.duckdb()?;
    let default = default_major()?.to_string();
    variables.push(("DUCKFEEDER_TEST_PG_MAJOR".to_owned(), default.into()));
    variables.push(("DUCKFEEDER_TEST_DUCKDB".to_owned(), duckdb.cli.into()));
    variables.push((
        "DUCKFEEDER_TEST_DUCKDB_EXTENSIONS".to_owned(),
        duckdb.extensions.into(),
    ));
    Ok(variables)
}

/// Blocks until Ctrl-C, or until Ctrl-D at a terminal. The servers' watchdogs clean up in each case.
pub(crate) fn wait_for_ctrl_c() {
    if stdin().is_terminal() {
        let _ = copy(&mut stdin().lock(), &mut sink());
        return;
    }
    loop {
        std::thread::park();
    }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
