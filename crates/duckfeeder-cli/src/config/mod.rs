//! Configuration in layers: flag, then environment, then file, then default.
//!
//! [`keys`] lists every key once. The layers are read without types (`file`, [`environment`],
//! flags), put on top of each other ([`layer`]), shown ([`show`](mod@show)) or given their types
//! ([`resolve`]). Every value remembers where it came from.

mod endpoint;
mod environment;
mod error;
mod file;
mod keys;
mod layer;
mod origin;
mod parse;
mod raw;
mod redact;
mod resolve;
mod show;
mod store;
mod suggest;
pub(crate) mod template;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub(crate) use environment::LOG;
pub(crate) use error::ConfigError;
pub(crate) use resolve::Settings;

use layer::{Layer, TableEntry, given};
use origin::Origin;
use raw::Raw;
use redact::redact_url;

/// The file that is read when none is named, in the working directory.
pub(crate) const DEFAULT_FILE: &str = "duckfeeder.toml";

/// The keys that have flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// `--config`.
    pub(crate) config: Option<PathBuf>,
    /// `--name`.
    pub(crate) name: Option<String>,
    /// `--source`.
    pub(crate) source: Option<String>,
    /// `--storage`.
    pub(crate) storage: Option<String>,
    /// `--catalog`.
    pub(crate) catalog: Option<String>,
    /// `--tables`.
    pub(crate) tables: Vec<String>,
}

impl Flags {
    fn layer(self) -> Layer {
        let mut layer = Layer::default();
        let texts = [
            ("name", "--name", self.name),
            ("source.url", "--source", self.source),
            ("storage.url", "--storage", self.storage),
            ("catalog.url", "--catalog", self.catalog),
        ];
        for (path, flag, value) in texts {
            if let Some(value) = value {
                layer.set(path, Raw::Unquoted(value), Origin::Flag(flag));
            }
        }
        if !self.tables.is_empty() {
            let origin = Origin::Flag("--tables");
            let entries = self
                .tables
                .into_iter()
                .map(|pattern| TableEntry::selecting(pattern, origin.clone()))
                .collect();
            layer.tables = Some(entries);
        }
        layer
    }
}

/// All layers on top of each other, values not yet checked.
#[derive(Debug)]
pub(crate) struct Merged(Layer);

impl Merged {
    /// Reads all layers. `environment` is what the process was given; a `duckfeeder.toml` is looked
    /// for in `directory`.
    ///
    /// # Errors
    /// A file that cannot be read, a key or variable that does not exist.
    pub(crate) fn read(
        flags: Flags,
        environment: Vec<(OsString, OsString)>,
        directory: &Path,
    ) -> Result<Self, ConfigError> {
        let mut merged = match file_of(&flags, &environment, directory) {
            Some(path) => file::read(&path)?,
            None => Layer::default(),
        };
        merged.overlay(environment::read(environment)?);
        merged.overlay(flags.layer());
        Ok(Self(merged))
    }

    /// As [`read`](Self::read), but without a file: what is known before one exists.
    ///
    /// # Errors
    /// A variable that does not exist.
    pub(crate) fn without_file(
        flags: Flags,
        environment: Vec<(OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut merged = environment::read(environment)?;
        merged.overlay(flags.layer());
        Ok(Self(merged))
    }

    /// The merged result as text, secrets hidden.
    pub(crate) fn show(&self) -> String {
        show::show(&self.0)
    }

    /// Checks every value and gives it its type.
    ///
    /// # Errors
    /// A wrong type, a bad value, a required key that is missing.
    pub(crate) fn resolve(&self) -> Result<Settings, ConfigError> {
        resolve::resolve(&self.0)
    }

    /// Where health and status are served, whatever else is missing.
    ///
    /// # Errors
    /// It is not an address.
    pub(crate) fn listen(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let found = given(&self.0.values, &keys::SERVER_LISTEN)?;
        Ok(found.map(|found| found.value))
    }

    /// Whether somebody named a source.
    pub(crate) fn has_source(&self) -> bool {
        self.text("source.url").is_some()
    }

    /// Whether somebody gave the source's password itself, which no file should repeat.
    pub(crate) fn has_password(&self) -> bool {
        let in_url = self
            .text("source.url")
            .is_some_and(|url| redact_url(url) != url);
        in_url || self.text("source.password").is_some()
    }

    /// The text of a key that was given, for the template.
    fn text(&self, path: &str) -> Option<&str> {
        match &self.0.values.get(path)?.raw {
            Raw::Text(text) | Raw::Unquoted(text) => Some(text),
            _ => None,
        }
    }
}

/// The file to read: `--config`, else `DUCKFEEDER_CONFIG`, else `duckfeeder.toml` if there is one.
fn file_of(
    flags: &Flags,
    environment: &[(OsString, OsString)],
    directory: &Path,
) -> Option<PathBuf> {
    named_file(flags, environment).or_else(|| {
        let path = directory.join(DEFAULT_FILE);
        // Whatever is there is read, so that a file without permission is an error and not a gap.
        path.symlink_metadata().is_ok().then_some(path)
    })
}

/// The file that a flag or the environment names.
pub(crate) fn named_file(flags: &Flags, environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    let variable = || {
        environment
            .iter()
            .find(|(name, value)| name == environment::CONFIG && !value.is_empty())
            .map(|(_, value)| PathBuf::from(value))
    };
    flags.config.clone().or_else(variable)
}
