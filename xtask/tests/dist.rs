//! What `cargo xtask dist` makes: its whole way, with the binary that the tests were built with in place of a
//! release build.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{feeder::binary, process, tools::workspace_root};
use serde_json::Value;
use tempfile::TempDir;

/// Runs the task; `time` dates its files.
fn dist(out: &Path, time: &str) -> Result<String> {
    process::run(
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("dist")
            .arg("--binary")
            .arg(binary()?)
            .arg("--out")
            .arg(out)
            .env("SOURCE_DATE_EPOCH", time),
    )
}

/// The one file of this folder whose name ends so.
fn file(folder: &Path, end: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() && path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    ensure!(found.len() == 1, "{found:?} end with {end}");
    found.pop().context("a file")
}

/// Unpacks with the tar of the system: another program than the one that packed.
fn unpack(archive: &Path) -> Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    process::run(
        Command::new("tar")
            .args(["--extract", "--gzip", "--file"])
            .arg(archive)
            .current_dir(folder.path()),
    )?;
    let inside = archive
        .file_name()
        .and_then(|name| name.to_str()?.strip_suffix(".tar.gz"))
        .context("a name")?;
    let inside = folder.path().join(inside);
    Ok((folder, inside))
}

/// The crates of a bill, with their digests.
fn components(bill: &Value) -> BTreeMap<String, Option<String>> {
    let components = bill["components"].as_array().unwrap();
    components
        .iter()
        .map(|component| {
            let text = |key: &str| component[key].as_str().unwrap().to_owned();
            assert_eq!(
                text("purl"),
                format!(
                    "pkg:cargo/{}@{}",
                    text("name"),
                    text("version").replace('+', "%2B")
                )
            );
            assert!(
                !component["licenses"][0]["expression"]
                    .as_str()
                    .unwrap()
                    .is_empty()
            );
            let digest = component["hashes"][0]["content"].as_str();
            (
                format!("{} {}", text("name"), text("version")),
                digest.map(str::to_owned),
            )
        })
        .collect()
}

/// The crates of the lock file, with their digests.
fn locked() -> Result<BTreeMap<String, Option<String>>> {
    let lock: toml::Table =
        toml::from_str(&fs::read_to_string(workspace_root()?.join("Cargo.lock"))?)?;
    let packages = lock["package"].as_array().context("packages")?;
    Ok(packages
        .iter()
        .map(|package| {
            let text = |key: &str| {
                package
                    .get(key)
                    .and_then(|text| text.as_str())
                    .map(str::to_owned)
            };
            (
                format!("{} {}", text("name").unwrap(), text("version").unwrap()),
                text("checksum"),
            )
        })
        .collect())
}

#[test]
fn a_release_is_whole_and_can_be_checked() -> Result<()> {
    let out = tempfile::tempdir()?;
    dist(out.path(), "1000000000")?;
    // The checksums, as a user checks them.
    let checked = process::run(
        Command::new("sha256sum")
            .args(["--check", "--strict", "SHA256SUMS"])
            .current_dir(out.path()),
    )?;
    ensure!(
        checked
            .lines()
            .filter(|line| line.ends_with(": OK"))
            .count()
            == 2,
        "{checked}"
    );

    let (_folder, inside) = unpack(&file(out.path(), ".tar.gz")?)?;
    let names: BTreeSet<_> = fs::read_dir(&inside)?
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = [
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "THIRD_PARTY.txt",
        "duckfeeder",
        "duckfeeder.cdx.json",
        "duckfeeder.example.toml",
        "duckfeeder.service",
    ];
    ensure!(names.iter().eq(expected), "{names:?}");

    // The binary that was packed, in an empty environment and an empty folder.
    let empty = tempfile::tempdir()?;
    let run = |arguments: &[&str]| {
        Command::new(inside.join("duckfeeder"))
            .args(arguments)
            .env_clear()
            .current_dir(empty.path())
            .output()
    };
    let version = run(&["--version"])?;
    ensure!(version.status.success() && version.stdout.starts_with(b"duckfeeder "));
    let sample = inside.join("duckfeeder.example.toml").display().to_string();
    let shown = run(&[
        "config",
        "show",
        "--config",
        &sample,
        "--source",
        "postgres://f@localhost/shop",
    ])?;
    ensure!(
        shown.status.success(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );

    // The bill of materials: every crate is one of the lock file, with its digest.
    let bill: Value = serde_json::from_slice(&fs::read(inside.join("duckfeeder.cdx.json"))?)?;
    ensure!(bill["bomFormat"] == "CycloneDX" && bill["specVersion"] == "1.5");
    ensure!(bill["metadata"]["timestamp"] == "2001-09-09T01:46:40Z");
    ensure!(
        fs::read(file(out.path(), ".cdx.json")?)? == fs::read(inside.join("duckfeeder.cdx.json"))?
    );
    let (components, locked) = (components(&bill), locked()?);
    for (component, digest) in &components {
        ensure!(
            locked.get(component) == Some(digest),
            "{component}: {digest:?}"
        );
    }
    let names: BTreeSet<&str> = components
        .keys()
        .filter_map(|id| id.split(' ').next())
        .collect();
    for expected in ["feeder-core", "storage", "tokio", "sqlx", "aws-lc-sys"] {
        ensure!(names.contains(expected), "{expected} is missing");
    }
    // What only tests, examples or switched off features need is not in the binary.
    for foreign in [
        "xtask",
        "duckfeeder-tests",
        "proptest",
        "ring",
        "sqlx-mysql",
    ] {
        ensure!(!names.contains(foreign), "{foreign} is in it");
    }
    // Every edge ends at a component.
    let dependencies = bill["dependencies"].as_array().context("dependencies")?;
    let refs: BTreeSet<&str> = dependencies
        .iter()
        .filter_map(|one| one["ref"].as_str())
        .collect();
    ensure!(refs.len() == components.len() + 1);
    for needed in dependencies
        .iter()
        .filter_map(|one| one["dependsOn"].as_array())
        .flatten()
    {
        ensure!(
            refs.contains(needed.as_str().context("a reference")?),
            "{needed}"
        );
    }

    let notices = fs::read_to_string(inside.join("THIRD_PARTY.txt"))?;
    for (component, digest) in &components {
        ensure!(
            digest.is_none() != notices.contains(&format!("\n{component}: ")),
            "{component} in THIRD_PARTY.txt"
        );
    }
    Ok(())
}

#[test]
fn the_same_source_gives_the_same_archive() -> Result<()> {
    let mut archives = Vec::new();
    for _ in 0..2 {
        let out = tempfile::tempdir()?;
        dist(out.path(), "1000000000")?;
        archives.push(fs::read(file(out.path(), ".tar.gz")?)?);
    }
    ensure!(archives[0] == archives[1], "a second run gave other bytes");
    Ok(())
}
