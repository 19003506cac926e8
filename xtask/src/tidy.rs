//! `cargo xtask tidy`: a test of the repository itself.

mod deps;
mod files;

use std::process::Command;

use anyhow::{Context, Result, bail};
use duckfeeder_tests::{process, tools::workspace_root};

use crate::repo::{cargo, say};

/// Reports every violation at once.
pub(crate) fn run() -> Result<()> {
    let root = workspace_root()?;
    let metadata = process::run(
        Command::new(cargo())
            .args([
                "metadata",
                "--format-version",
                "1",
                "--no-deps",
                "--offline",
            ])
            .current_dir(&root),
    )?;
    let packages = deps::parse(&metadata).context("cargo metadata")?;
    let mut violations = deps::check(&packages);
    violations.extend(files::check(&root)?);
    if violations.is_empty() {
        say("tidy: all is well");
        return Ok(());
    }
    bail!("tidy found:\n  - {}", violations.join("\n  - "));
}
