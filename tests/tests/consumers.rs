//! Packages outside of the workspace, each with a lock file of its own, that use one crate alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::rig::{CATALOG, Rig};
use duckfeeder_tests::postgres::SUPERUSER;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(package: &str, arguments: &[&str]) -> Result<String> {
    let target = root().join("target/consumers");
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["run", "--quiet", "--locked", "--manifest-path"])
        .arg(
            root()
                .join("tests/consumers")
                .join(package)
                .join("Cargo.toml"),
        )
        .arg("--target-dir")
        .arg(target)
        .arg("--")
        .args(arguments)
        .output()
        .with_context(|| format!("cargo run of {package}"))?;
    ensure!(
        output.status.success(),
        "{package}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn the_decoder_works_alone() -> Result<()> {
    let recording = root().join("crates/pgoutput/tests/data/v1_text.capture");
    let printed = run("pgoutput-alone", &[&recording.display().to_string()])?;
    ensure!(printed.contains("insert 8\n"), "{printed}");
    ensure!(printed.contains("commit 5\n"), "{printed}");
    Ok(())
}

#[test]
fn the_catalog_works_alone() -> Result<()> {
    let rig = Rig::new()?;
    let lake = tempfile::tempdir()?;
    let printed = run(
        "catalog-alone",
        &[
            &rig.pg.url(SUPERUSER, CATALOG),
            &lake.path().display().to_string(),
        ],
    )?;
    ensure!(printed == "snapshot 1\n", "{printed}");
    let mut duckdb = rig.lake.open()?;
    let rows = duckdb.scalar("select count(*) from lake.raw.orders where id > 0 and note <> ''")?;
    ensure!(rows.as_deref() == Some("0"), "{rows:?}");
    Ok(())
}
