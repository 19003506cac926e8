//! What the configuration makes of its layers, and what it says of mistakes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use duckfeeder::Store;
use duckfeeder::config::{
    ArrayMapping, BackfillMode, ChangeOverrides, FlushConfig, KeylessPolicy, Limits,
    NumericMapping, OnDropColumn, OnDropPartition, OnDropTable, OnSchemaChange, OnTableError,
    OnTypeChange, OnUnrepresentable,
};
use duckfeeder::config::{PasswordSource, TlsMode};
use duckfeeder::storage::{GcsOptions, S3Options};
use secrecy::{ExposeSecret, SecretString};

use super::*;

mod arrival;
mod layers;
mod mistakes;
mod pages;

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
        .collect()
}

/// All layers, the file being `text`.
fn merged(text: &str, variables: &[(&str, &str)], flags: Flags) -> Result<Merged, ConfigError> {
    let mut layer = file::parse("duckfeeder.toml", text)?;
    layer.overlay(environment::read(environment(variables))?);
    layer.overlay(flags.layer());
    Ok(Merged(layer))
}

fn settings(text: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    merged(text, variables, Flags::default())?.resolve()
}

/// What is needed besides the key under test.
const MINIMAL: &str = "[source]\nurl = \"postgres://feeder@localhost/shop\"\n";

fn password(source: &PasswordSource) -> String {
    match source {
        PasswordSource::Fixed(password) => password.expose_secret().to_owned(),
        PasswordSource::File(path) => format!("file {}", path.display()),
        PasswordSource::Command(command) => format!("command {command}"),
        other => format!("{other:?}"),
    }
}
