//! The files by which others run duckfeeder: image, compose files, workflows. No Docker and no GitHub is needed
//! here, so these tests see that the files fit each other and the binary, not that they work.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{feeder::binary, tools::workspace_root};
use yaml_rust2::{Yaml, YamlLoader, yaml::Hash};

const COMPOSE_FILES: [&str; 2] = ["examples/compose/compose.yaml", "tests/compose.yaml"];

fn read(file: &str) -> Result<String> {
    fs::read_to_string(workspace_root()?.join(file)).context(file.to_owned())
}

fn yaml(file: &str) -> Result<Yaml> {
    let mut documents = YamlLoader::load_from_str(&read(file)?).context(file.to_owned())?;
    ensure!(
        documents.len() == 1,
        "{file} has {} documents",
        documents.len()
    );
    Ok(documents.remove(0))
}

fn workflows() -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(workspace_root()?.join(".github/workflows"))? {
        files.push(format!(
            ".github/workflows/{}",
            entry?.file_name().display()
        ));
    }
    ensure!(files.len() >= 3, "{files:?}");
    Ok(files)
}

/// The entries of a mapping, with the names of their keys.
fn entries(yaml: &Yaml) -> Result<Vec<(&str, &Yaml)>> {
    let hash: &Hash = yaml.as_hash().context("a mapping")?;
    hash.iter()
        .map(|(key, value)| Ok((key.as_str().context("a text as key")?, value)))
        .collect()
}

fn texts(yaml: &Yaml) -> Vec<&str> {
    yaml.as_vec()
        .into_iter()
        .flatten()
        .filter_map(Yaml::as_str)
        .collect()
}

#[test]
fn containers_are_pinned_watched_and_reached_from_this_machine_alone() -> Result<()> {
    for file in COMPOSE_FILES {
        for (name, service) in entries(&yaml(file)?["services"])? {
            let image = service["image"].as_str().context("an image")?;
            let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
            ensure!(
                tag.contains(|c: char| c.is_ascii_digit()),
                "{file}: {name} is {image}"
            );
            let ports = texts(&service["ports"]);
            ensure!(!ports.is_empty(), "{file}: {name} has no port");
            for port in ports {
                ensure!(
                    port.starts_with("127.0.0.1:"),
                    "{file}: {name} publishes {port}"
                );
            }
            // Our own image brings its health check.
            let check = texts(&service["healthcheck"]["test"]);
            let own = image.contains("/duckfeeder:");
            ensure!(
                own || check.first() == Some(&"CMD"),
                "{file}: {name}: {check:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_services_of_the_tests_have_free_ports() -> Result<()> {
    let services = &yaml("tests/compose.yaml")?["services"];
    for (name, port) in [("postgres", 5432), ("s3", 5000), ("gcs", 9023)] {
        ensure!(
            texts(&services[name]["ports"]) == [format!("127.0.0.1:0:{port}")],
            "{name}"
        );
    }
    ensure!(texts(&services["postgres"]["command"]).contains(&"wal_level=logical"));
    Ok(())
}

/// The binary takes the environment that the example gives it, its secret included.
#[test]
fn the_example_is_a_configuration() -> Result<()> {
    let compose = yaml("examples/compose/compose.yaml")?;
    let service = &compose["services"]["duckfeeder"];
    let secrets = tempfile::tempdir()?;
    for secret in texts(&service["secrets"]) {
        fs::write(secrets.path().join(secret), "hunter2\n")?;
        ensure!(
            !compose["secrets"][secret]["file"].is_badvalue(),
            "{secret} is not declared"
        );
    }
    let mut command = Command::new(binary()?);
    command
        .args(["config", "show"])
        .env_clear()
        .current_dir(secrets.path());
    for (name, value) in entries(&service["environment"])? {
        let value = value.as_str().context("a text as value")?;
        let here = value.replace("/run/secrets", &secrets.path().display().to_string());
        if value.starts_with("/run/secrets/") {
            ensure!(
                PathBuf::from(&here).is_file(),
                "{name}: the service does not get {value}"
            );
        }
        command.env(name, here);
    }
    let shown = command.output()?;
    ensure!(
        shown.status.success(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    let image = &compose["services"]["duckfeeder"]["image"];
    let version = Command::new(binary()?).arg("--version").output()?.stdout;
    let version = String::from_utf8(version)?;
    let version = version.trim().trim_start_matches("duckfeeder ");
    ensure!(
        image
            .as_str()
            .is_some_and(|image| image.ends_with(&format!(":{version}"))),
        "{image:?} is not version {version}"
    );
    Ok(())
}

#[test]
fn the_image_runs_the_binary_as_nobody_and_asks_it_how_it_is() -> Result<()> {
    let file = read("Dockerfile")?.replace("\\\n", " ");
    let last = file.rsplit("\nFROM ").next().context("a stage")?;
    let instruction = |name: &str| {
        let line = last
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .next_back();
        line.map(str::trim).with_context(|| format!("no {name}"))
    };
    ensure!(last.starts_with("gcr.io/distroless/"));
    ensure!(instruction("USER")? == "65532:65532");
    ensure!(instruction("STOPSIGNAL")? == "SIGTERM");
    let program = serde_json::from_str::<Vec<String>>(instruction("ENTRYPOINT")?)?;
    let (_, check) = instruction("HEALTHCHECK")?
        .split_once("CMD")
        .context("a command")?;
    let check: Vec<String> = serde_json::from_str(check.trim())?;
    ensure!(check[0] == program[0], "{check:?} is not {program:?}");
    for arguments in [
        &check[1..],
        &serde_json::from_str::<Vec<String>>(instruction("CMD")?)?,
    ] {
        let help = Command::new(binary()?)
            .args(arguments)
            .arg("--help")
            .output()?;
        ensure!(help.status.success(), "{arguments:?} is no command");
    }
    let listen = instruction("ENV")?.split_once('=').context("a variable")?;
    let shown = Command::new(binary()?)
        .args(["config", "show", "--source", "postgres://f@localhost/shop"])
        .env_clear()
        .env(listen.0, listen.1)
        .current_dir(tempfile::tempdir()?.path())
        .output()?;
    ensure!(
        shown.status.success(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    // The compiler of the image is the one of the workspace.
    let toolchain: toml::Table = toml::from_str(&read("rust-toolchain.toml")?)?;
    let channel = toolchain["toolchain"]["channel"]
        .as_str()
        .context("a channel")?;
    let minor = channel.rsplit_once('.').context("a version")?.0;
    ensure!(
        file.contains(&format!("\nFROM rust:{minor}-slim")),
        "not Rust {minor}"
    );
    Ok(())
}

/// What the image is built from gets into it: the list of what may leaves nothing out.
#[test]
fn the_build_of_the_image_sees_what_it_needs() -> Result<()> {
    let ignore = read(".dockerignore")?;
    let listed: Vec<&str> = ignore
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    ensure!(
        ignore.lines().any(|line| line == "*"),
        "not a list of what may"
    );
    let workspace: toml::Table = toml::from_str(&read("Cargo.toml")?)?;
    let members = workspace["workspace"]["members"]
        .as_array()
        .context("members")?;
    for member in members {
        let folder = member.as_str().context("a text")?.trim_end_matches("/*");
        ensure!(listed.contains(&folder), "{folder}");
    }
    for listed in listed {
        ensure!(
            workspace_root()?.join(listed).exists(),
            "there is no {listed}"
        );
    }
    Ok(())
}

#[test]
fn workflows_have_few_rights_and_pinned_parts() -> Result<()> {
    for file in workflows()? {
        let workflow = yaml(&file)?;
        let rights = entries(&workflow["permissions"]).context(file.clone())?;
        ensure!(
            rights
                .iter()
                .all(|(_, right)| right.as_str() == Some("read")),
            "{file}: whoever needs more than reading says so in the job"
        );
        for (name, job) in entries(&workflow["jobs"])? {
            ensure!(
                job["timeout-minutes"].as_i64().is_some(),
                "{file}: {name} may hang"
            );
            for step in job["steps"].as_vec().context("steps")? {
                if let Some(action) = step["uses"].as_str() {
                    let (_, commit) = action.split_once('@').context("a version")?;
                    ensure!(
                        commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()),
                        "{file}: {action} is not pinned"
                    );
                }
                if let Some(script) = step["run"].as_str() {
                    // What GitHub pastes into a script may be somebody's branch name: variables only.
                    ensure!(!script.contains("${{"), "{file}: {name}: {script}");
                }
            }
        }
    }
    Ok(())
}

/// Files and tasks that workflows call are there.
#[test]
fn workflows_call_what_exists() -> Result<()> {
    let help = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("--help")
        .output()?;
    let help = String::from_utf8(help.stdout)?;
    let mut called = 0;
    for file in workflows()? {
        for word in ["cargo xtask ", "run: "] {
            for line in read(&file)?.lines() {
                let Some((_, rest)) = line.split_once(word) else {
                    continue;
                };
                let first = rest.split_whitespace().next().unwrap_or_default();
                if word == "cargo xtask " {
                    ensure!(
                        help.contains(&format!("\n  {first} ")),
                        "{file}: no task {first}"
                    );
                    called += 1;
                } else if first.starts_with(".ci/") {
                    ensure!(
                        workspace_root()?.join(first).is_file(),
                        "{file}: no {first}"
                    );
                    called += 1;
                }
            }
        }
    }
    ensure!(called >= 4, "{called} calls were found");
    Ok(())
}
