//! One layer of the configuration, and how layers are put on top of each other.

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::keys::{Fallback, Key};
use super::origin::Origin;
use super::raw::Raw;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
}

/// Values by the paths of their keys.
pub(crate) type Values = BTreeMap<&'static str, Entry>;

/// One `[[tables]]` entry.
#[derive(Clone, Debug)]
pub(crate) struct TableEntry {
    /// Where the entry begins.
    pub(crate) origin: Origin,
    /// Its values; paths begin with `tables.`.
    pub(crate) values: Values,
}

impl TableEntry {
    /// An entry that only selects.
    pub(crate) fn selecting(pattern: String, origin: Origin) -> Self {
        let source = Entry {
            raw: Raw::Unquoted(pattern),
            origin: origin.clone(),
        };
        Self {
            origin,
            values: BTreeMap::from([("tables.source", source)]),
        }
    }
}

/// What one of flags, environment and file says; and what all of them say together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    pub(crate) values: Values,
    /// The list of tables is replaced as a whole, never merged.
    pub(crate) tables: Option<Vec<TableEntry>>,
}

impl Layer {
    /// Puts `above` on top of this layer.
    pub(crate) fn overlay(&mut self, above: Self) {
        self.values.extend(above.values);
        if above.tables.is_some() {
            self.tables = above.tables;
        }
    }

    /// Adds a value of one key.
    pub(crate) fn set(&mut self, path: &'static str, raw: Raw, origin: Origin) {
        self.values.insert(path, Entry { raw, origin });
    }
}

/// A value and where it came from.
#[derive(Debug)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// The value of a key, if somebody gave one.
pub(crate) fn given<T>(values: &Values, key: &Key<T>) -> Result<Option<Found<T>>, ConfigError> {
    let Some(Entry { raw, origin }) = values.get(key.spec.path) else {
        return Ok(None);
    };
    match (key.parse)(raw) {
        Ok(value) => Ok(Some(Found {
            value,
            origin: origin.clone(),
        })),
        Err(problem) => Err(ConfigError::new(
            format!("`{}`: {}", key.spec.path, problem.what),
            problem.remedy,
        )
        .at(origin)),
    }
}

/// The value of a key, or its default; an error when it has neither.
pub(crate) fn required<T>(values: &Values, key: &Key<T>) -> Result<T, ConfigError> {
    if let Some(found) = given(values, key)? {
        return Ok(found.value);
    }
    let missing = || {
        let environment = key.spec.environment().map_or_else(String::new, |name| {
            format!(" or the environment variable {name}")
        });
        ConfigError::new(
            format!("`{}` is missing", key.spec.path),
            format!(
                "set `{}` in the configuration file{environment}{}",
                key.spec.path,
                flag_of(key.spec.path)
            ),
        )
    };
    match key.spec.default {
        Fallback::Value(text) => {
            (key.parse)(&Raw::Unquoted(text.to_owned())).map_err(|_| missing())
        }
        Fallback::Derived(_) | Fallback::Required | Fallback::Absent => Err(missing()),
    }
}

fn flag_of(path: &str) -> &'static str {
    match path {
        "source.url" => ", or give --source",
        "storage.url" => ", or give --storage",
        _ => "",
    }
}
