//! `cargo xtask e2e`: the whole pipeline, from Postgres to DuckDB, once per kind of store and once per supported version
//! of Postgres. The servers come from the package registries, or from containers; the tests are the same.

use std::{
    ffi::OsString,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use duckfeeder_tests::{
    Tools, gcs_emulator, postgres,
    process::run as run_command,
    s3,
    tools::{MAJORS, default_major, workspace_root},
};

use crate::{
    repo::{say, test_variables},
    test::{cargo_step, feeder_binary, has_nextest},
};

/// The tests, by the end of their names: one for each kind of store.
const PIPELINE: [&str; 3] = [
    "stores::a_lake_in_a_directory_equals_its_source",
    "stores::a_lake_in_s3_equals_its_source",
    "stores::a_lake_in_gcs_equals_its_source",
];

/// Where the servers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Services {
    /// From the package registries, started by each test.
    Local,
    /// From container images, by tests/compose.yaml.
    Docker,
}

/// Options of `e2e`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the servers come from; containers when a Docker daemon answers
    #[arg(long)]
    services: Option<Services>,
    /// The sizes of the release
    #[arg(long)]
    long: bool,
}

/// Builds, and runs the pipeline with every store and every version.
pub(crate) fn run(args: &Args) -> Result<()> {
    let services = args.services.unwrap_or_else(|| {
        if docker_answers() {
            Services::Docker
        } else {
            Services::Local
        }
    });
    let tools = Tools::locate()?;
    say("getting what the tests need (once)");
    let majors = match services {
        Services::Local => MAJORS.to_vec(),
        Services::Docker => Vec::new(),
    };
    let mut variables = test_variables(&tools, &majors)?;
    say("building (the first time takes minutes)");
    cargo_step(&["build", "--package", "duckfeeder-cli"], &[])?;
    variables.push((
        "DUCKFEEDER_TEST_BIN".to_owned(),
        feeder_binary()?.into_os_string(),
    ));
    if args.long {
        variables.push(("DUCKFEEDER_TEST_LONG".to_owned(), "1".into()));
    }
    for major in MAJORS {
        // Every store with one version, every version with one store: they do not know of each other.
        let tests = if major == default_major()? {
            &PIPELINE[..]
        } else {
            PIPELINE.get(..1).unwrap_or_default()
        };
        say(&format!("Postgres {major}"));
        let mut variables = variables.clone();
        variables.retain(|(name, _)| name != "DUCKFEEDER_TEST_PG_MAJOR");
        variables.push((
            "DUCKFEEDER_TEST_PG_MAJOR".to_owned(),
            major.to_string().into(),
        ));
        match services {
            Services::Local => pipeline(tests, &variables)?,
            Services::Docker => {
                let containers = Containers::start(major)?;
                variables.extend(containers.variables()?);
                pipeline(tests, &variables)?;
            }
        }
    }
    say("the lake equals its source with every store and every version of Postgres");
    Ok(())
}

/// One test after the other: containers are shared.
fn pipeline(tests: &[&str], variables: &[(String, OsString)]) -> Result<()> {
    if has_nextest() {
        let mut all = vec!["nextest", "run", "--package", "duckfeeder-tests"];
        all.extend([
            "--test",
            "e2e",
            "--test-threads",
            "1",
            "--success-output",
            "final",
        ]);
        all.extend(["--no-fail-fast", "--"]);
        all.extend(tests);
        return cargo_step(&all, variables);
    }
    let mut all = vec!["test", "--package", "duckfeeder-tests", "--test", "e2e"];
    all.extend(["--no-fail-fast", "--", "--test-threads", "1", "--nocapture"]);
    all.extend(tests);
    cargo_step(&all, variables)
}

fn docker_answers() -> bool {
    let mut probe = Command::new("docker");
    probe
        .args(["compose", "version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let compose = probe.status().is_ok_and(|status| status.success());
    let mut probe = Command::new("docker");
    probe
        .arg("info")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    compose && probe.status().is_ok_and(|status| status.success())
}

/// The services of tests/compose.yaml with one version of Postgres. Dropping it removes them.
#[derive(Debug)]
struct Containers {
    major: u32,
}

impl Containers {
    fn start(major: u32) -> Result<Self> {
        let containers = Self { major };
        run_command(containers.compose()?.args(["up", "--detach", "--wait"]))?;
        Ok(containers)
    }

    fn compose(&self) -> Result<Command> {
        let mut command = Command::new("docker");
        command
            .args(["compose", "--file"])
            .arg(workspace_root()?.join("tests/compose.yaml"))
            .args(["--project-name", "duckfeeder-e2e"])
            .env("POSTGRES_MAJOR", self.major.to_string());
        Ok(command)
    }

    /// Where tests find the services.
    fn variables(&self) -> Result<Vec<(String, OsString)>> {
        let mut variables = Vec::new();
        for (variable, service, port) in [
            (postgres::SERVICE, "postgres", "5432"),
            (s3::SERVICE, "s3", "5000"),
            (gcs_emulator::SERVICE, "gcs", "9023"),
        ] {
            // As 127.0.0.1:49153.
            let address = run_command(self.compose()?.args(["port", service, port]))?;
            let port = address.trim().rsplit(':').next().unwrap_or_default();
            ensure!(
                port.parse::<u16>().is_ok(),
                "the service {service} has no port: {address}"
            );
            variables.push((variable.to_owned(), port.into()));
        }
        Ok(variables)
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let down = self
            .compose()
            .and_then(|mut compose| run_command(compose.args(["down", "--volumes"])));
        if let Err(error) = down {
            say(&format!("the containers are left behind: {error:#}"));
        }
    }
}
