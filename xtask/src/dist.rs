//! `cargo xtask dist`: what a release consists of, for the machine that it runs on.
//!
//! `duckfeeder-<version>-<target>.tar.gz` with the stripped binary, its bill of materials, the licences of what
//! is in it, and a sample configuration; beside it the bill once more, and `SHA256SUMS`. The same binary
//! gives the same bytes.

mod archive;
mod inventory;
mod notices;
mod sbom;
mod trial;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use duckfeeder_tests::{
    process,
    tools::{target_dir, workspace_root},
};
use inventory::Inventory;

use crate::{
    repo::{cargo, say},
    test::cargo_step,
};

/// The package that has the binary.
const PACKAGE: &str = "duckfeeder-cli";

/// The binary, and what everything here is called after.
const BINARY: &str = "duckfeeder";

/// Options of `dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Pack this binary instead of a release build: tries everything else out without waiting for one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where everything goes [default: dist in the target folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Builds, packs, and runs what was packed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace_root()?;
    let target = host()?;
    let time = source_time(&root)?;
    let inventory = Inventory::of(&root, &target)?;
    let version = &inventory.root.version;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => target_dir()?.join("dist"),
    };
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build(&root)?,
    };

    let name = format!("{BINARY}-{version}-{target}");
    let folder = out.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let packed = folder.join(BINARY);
    fs::copy(&binary, &packed).with_context(|| format!("cannot copy {}", binary.display()))?;
    // Comes with the linker. Not left to cargo, so that it is the same for every binary.
    process::run(Command::new("strip").arg(&packed))?;
    for file in ["LICENSE", "README.md", "CHANGELOG.md"] {
        fs::copy(root.join(file), folder.join(file))
            .with_context(|| format!("cannot copy {file}"))?;
    }
    fs::copy(
        root.join("examples/systemd/duckfeeder.service"),
        folder.join("duckfeeder.service"),
    )
    .context("cannot copy the unit of systemd")?;
    fs::write(folder.join("THIRD_PARTY.txt"), notices::text(&inventory)?)?;
    let bill = sbom::render(&inventory, &archive::sha256(&packed)?, time)?;
    fs::write(folder.join("duckfeeder.cdx.json"), &bill)?;
    trial::run(&packed, version, &folder.join("duckfeeder.example.toml"))?;

    let tarball = format!("{name}.tar.gz");
    archive::pack(&folder, &name, BINARY, &out.join(&tarball), time)?;
    let bill_alone = format!("{name}.cdx.json");
    fs::write(out.join(&bill_alone), &bill)?;
    archive::write_sums(&out, &[&bill_alone, &tarball])?;
    say(&format!(
        "{} ({} bytes; the binary {} bytes, {}; {} crates in it)",
        out.join(&tarball).display(),
        fs::metadata(out.join(&tarball))?.len(),
        fs::metadata(&packed)?.len(),
        trial::glibc(&fs::read(&packed)?),
        inventory.components.len(),
    ));
    Ok(())
}

/// The release build. Paths of the machine that builds do not get into the binary.
fn build(root: &Path) -> Result<PathBuf> {
    say("building the release (this takes minutes)");
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => Some(PathBuf::from(home)),
        None => env::home_dir().map(|home| home.join(".cargo")),
    };
    let mut flags: Vec<String> = env::var("RUSTFLAGS")
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let hidden = [(Some(root), "/duckfeeder"), (home.as_deref(), "/cargo")];
    for (from, to) in hidden {
        if let Some(from) = from {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        }
    }
    cargo_step(
        &["build", "--locked", "--release", "--package", PACKAGE],
        // Separated so that a path may have blanks.
        &[(
            "CARGO_ENCODED_RUSTFLAGS".to_owned(),
            flags.join("\u{1f}").into(),
        )],
    )?;
    Ok(target_dir()?.join("release").join(BINARY))
}

/// The target triple of this machine.
fn host() -> Result<String> {
    let told = process::run(Command::new("rustc").arg("-vV"))?;
    told.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}

/// Seconds since 1970 that files are dated with: `SOURCE_DATE_EPOCH`, else the time of the commit.
fn source_time(root: &Path) -> Result<u64> {
    let given = match env::var("SOURCE_DATE_EPOCH") {
        Ok(given) => given,
        Err(_) => process::run(
            Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(root),
        )
        .context("without a git repository SOURCE_DATE_EPOCH has to be set")?,
    };
    let given = given.trim();
    given
        .parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH is {given:?}, not a number of seconds"))
}

/// Cargo, in the workspace.
fn cargo_in(root: &Path) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(root);
    command
}
