//! `cargo xtask test`: every test there is, on a machine that needs nothing set up.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use duckfeeder_tests::{
    GcsEmulator, Options, Postgres, S3Server, Tools,
    postgres::SUPERUSER,
    process::describe,
    tools::{MAJORS, default_major, target_dir, workspace_root},
};

use crate::repo::{cargo, say, test_variables};

/// Where the random tests begin; without it each draws its own.
const SEED: &str = "DUCKFEEDER_TEST_SEED";

/// Options of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sizes and rounds of the release, and all versions of Postgres: takes an hour or so
    #[arg(long)]
    long: bool,
    /// Only tests whose name contains one of these
    filters: Vec<String>,
}

/// Gets the tools, builds, and runs all tests with their services at hand.
pub(crate) fn run(args: &Args) -> Result<()> {
    let tools = Tools::locate()?;
    say("getting Postgres and DuckDB (once)");
    let mut variables = test_variables(&tools, &MAJORS)?;

    say("building (the first time takes minutes)");
    // The same selection as the test run, so that nothing is built twice with other features.
    cargo_step(&["build", "--workspace", "--bins", "--tests"], &[])?;
    variables.push((
        "DUCKFEEDER_TEST_BIN".to_owned(),
        feeder_binary()?.into_os_string(),
    ));

    let options = Options::default()
        .setting("max_connections", "300")
        .setting("max_replication_slots", "100")
        .setting("max_wal_senders", "100");
    let scratch = Postgres::start(default_major()?, &options)?;
    variables.push((
        "DUCKFEEDER_TEST_PG_URL".to_owned(),
        scratch.url(SUPERUSER, "postgres").into(),
    ));
    say("starting an S3 server and an emulator of Google Cloud Storage");
    let s3 = S3Server::start()?;
    variables.push((
        "DUCKFEEDER_TEST_S3_ENDPOINT".to_owned(),
        s3.endpoint().into(),
    ));
    let gcs = GcsEmulator::start()?;
    variables.push((
        "DUCKFEEDER_TEST_GCS_ENDPOINT".to_owned(),
        gcs.endpoint().into(),
    ));
    variables.push(("REQUIRE_SERVICES".to_owned(), "1".into()));
    if args.long {
        variables.push(("DUCKFEEDER_TEST_LONG".to_owned(), "1".into()));
    } else if env::var_os(SEED).is_none() {
        // A change is judged by cases that do not differ from run to run; new ones are for --long.
        variables.push((SEED.to_owned(), "1".into()));
    }

    say("running the tests");
    let filters: Vec<&str> = args.filters.iter().map(String::as_str).collect();
    let tests = if has_nextest() {
        let mut all = vec!["nextest", "run", "--workspace"];
        if args.long {
            all.extend(["--profile", "long"]);
        }
        all.extend(&filters);
        cargo_step(&all, &variables)
    } else {
        // Two clusters at a time are enough for a small machine.
        variables.push(("RUST_TEST_THREADS".to_owned(), "2".into()));
        let mut all = vec![
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
            "--",
        ];
        all.extend(&filters);
        cargo_step(&all, &variables)
    };
    let others = if args.long && has_nextest() {
        end_to_end_on_the_others(&filters, &variables)
    } else {
        Ok(())
    };
    let docs = if filters.is_empty() {
        cargo_step(&["test", "--workspace", "--doc"], &variables)
    } else {
        Ok(())
    };
    if tests.is_err() {
        say(&scratch.log_tail(20));
    }
    tests.and(others).and(docs)
}

/// The end-to-end suite on every version of Postgres but the default one, which has had it.
fn end_to_end_on_the_others(filters: &[&str], variables: &[(String, OsString)]) -> Result<()> {
    let default = default_major()?;
    let mut outcome = Ok(());
    for major in MAJORS.into_iter().filter(|major| *major != default) {
        say(&format!("the end-to-end tests on Postgres {major}"));
        let mut variables = variables.to_vec();
        variables.retain(|(name, _)| name != "DUCKFEEDER_TEST_PG_MAJOR");
        variables.push((
            "DUCKFEEDER_TEST_PG_MAJOR".to_owned(),
            major.to_string().into(),
        ));
        let mut all = vec!["nextest", "run", "--package", "duckfeeder-tests"];
        all.extend(["--profile", "long", "--test", "e2e"]);
        all.extend(filters);
        outcome = outcome.and(cargo_step(&all, &variables));
    }
    outcome
}

pub(crate) fn has_nextest() -> bool {
    let mut probe = Command::new(cargo());
    probe
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// The binary under test, as the build above made it.
pub(crate) fn feeder_binary() -> Result<PathBuf> {
    let binary = target_dir()?.join("debug/duckfeeder");
    ensure!(binary.is_file(), "the build made no {}", binary.display());
    Ok(binary)
}

/// Runs cargo in the workspace with its output on ours.
pub(crate) fn cargo_step(args: &[&str], variables: &[(String, OsString)]) -> Result<()> {
    let mut command = Command::new(cargo());
    command
        .args(args)
        .current_dir(workspace_root()?)
        .stdin(Stdio::null());
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", describe(&command)))?;
    if !status.success() {
        bail!("`cargo {}` failed", args.join(" "));
    }
    Ok(())
}
