//! `duckfeeder init`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use feeder_core::operations;

use super::environment;
use crate::args::Global;
use crate::config::{DEFAULT_FILE, Merged, named_file, template};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};

/// Writes a configuration file from flags, environment and what the source has. Never overwrites.
pub(super) async fn init(global: &Global, console: &Console) -> Result {
    let flags = global.flags();
    let path = named_file(&flags, &environment()).unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    if path.symlink_metadata().is_ok() {
        return Err(exists(&path));
    }
    let merged = Merged::without_file(flags, environment())?;
    let found = if merged.has_source() {
        operations::list_source_tables(&merged.resolve()?.feeder).await?
    } else {
        Vec::new()
    };
    write(&path, &template::render(&merged, &found))?;
    let mut told = format!("{} is written", path.display());
    if merged.has_source() {
        told.push_str("; the source has ");
        told.push_str(&found.len().to_string());
        told.push_str(" tables");
    } else {
        told.push_str("; with --source URL it would list the tables of the source");
    }
    told.push_str("\nlook through it, then run `duckfeeder check`");
    if merged.has_password() {
        told.push_str(
            "\nthe password is not in it: set source.password_file, or DUCKFEEDER_SOURCE_PASSWORD",
        );
    }
    console.print(&told)?;
    Ok(Exit::Done)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    created
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            if error.kind() == ErrorKind::AlreadyExists {
                return exists(path);
            }
            Failure::usage(
                format!("{} cannot be written", path.display()),
                "name another place with --config",
            )
            .caused_by(&error)
        })
}

fn exists(path: &Path) -> Failure {
    Failure::usage(
        format!("{} exists already, and is left alone", path.display()),
        "remove it, or name another file with --config",
    )
}
