//! `THIRD_PARTY.txt`: whose work is in the binary, and under which licences, each text once.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::inventory::{Component, Inventory};

/// How the names of files begin that have a licence or a notice in them.
const NAMES: &[&str] = &[
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];

const RULE: &str =
    "--------------------------------------------------------------------------------";

/// The whole text.
///
/// # Errors
/// When the sources of a crate are not on this machine.
pub(super) fn text(inventory: &Inventory) -> Result<String> {
    let others = || {
        inventory
            .components
            .values()
            .filter(|component| !component.ours())
    };
    let mut text = "duckfeeder is licensed under the Apache License 2.0 (see LICENSE). These crates are part of its\n\
                    binary, or were used to build it; their texts follow.\n\n"
        .to_owned();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for component in others() {
        let Component {
            name,
            version,
            license,
            repository,
            ..
        } = component;
        let place = repository.as_deref().unwrap_or("no repository stated");
        writeln!(text, "{name} {version}: {license} ({place})")?;
        for file in
            files(&component.folder).with_context(|| format!("the sources of {name} {version}"))?
        {
            let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
            let content = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
            let owners = texts.entry(content.trim().to_owned()).or_default();
            let owner = format!("{name} {version}");
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
    }
    for (content, owners) in &texts {
        write!(
            text,
            "\n{RULE}\n{}\n{RULE}\n\n{content}\n",
            owners.join(", ")
        )?;
    }
    Ok(text)
}

/// The files with licences and notices at the top of a package.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|begin| name.starts_with(begin)) && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
