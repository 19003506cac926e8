//! The dependency rules of ARCHITECTURE.md, read from `cargo metadata`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

/// What a package of the workspace says about itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Package {
    name: String,
    published: bool,
    described: bool,
    licensed: bool,
    dependencies: Vec<Dependency>,
}

/// One line of a `[dependencies]` table.
#[derive(Debug, Clone, Default)]
struct Dependency {
    name: String,
    /// A dev-dependency: what tests need says nothing about what users get.
    dev: bool,
    /// Inside the workspace.
    internal: bool,
    /// `*` where none is given.
    version: String,
}

/// Packages that join others or are at the end of the chain, and what they may use of the workspace.
const LAYERS: &[(&str, &[&str])] = &[
    ("pgoutput", &[]),
    ("parquet-writer", &[]),
    ("storage", &[]),
    ("ducklake-catalog", &[]),
    ("cdc-source", &["pgoutput"]),
    (
        "feeder-core",
        &[
            "pgoutput",
            "cdc-source",
            "parquet-writer",
            "storage",
            "ducklake-catalog",
        ],
    ),
    // The facade re-exports what its users hand in or get back; the binary stands on it.
    (
        "duckfeeder",
        &["feeder-core", "cdc-source", "pgoutput", "storage"],
    ),
    (
        "duckfeeder-cli",
        &[
            "duckfeeder",
            "feeder-core",
            "cdc-source",
            "ducklake-catalog",
            "storage",
        ],
    ),
    ("service-example", &["duckfeeder"]),
    ("duckfeeder-tests", &[]),
    ("xtask", &["duckfeeder-tests"]),
];

/// Outside packages that only some of ours may use. A name that ends in `*` stands for all that begin so.
const RESERVED: &[(&str, &[&str])] = &[
    // What an application or a test may decide, a library may not.
    (
        "anyhow",
        &[
            "duckfeeder-cli",
            "duckfeeder-tests",
            "service-example",
            "xtask",
        ],
    ),
    ("clap", &["duckfeeder-cli", "xtask"]),
    ("axum", &["duckfeeder-cli", "service-example"]),
    (
        "tracing-subscriber",
        &["duckfeeder-cli", "duckfeeder", "service-example"],
    ),
    ("metrics-exporter-prometheus", &["duckfeeder-cli"]),
    // One door to the source, one to the catalog, one to each cloud.
    ("postgres-protocol", &["cdc-source"]),
    ("sqlx", &["ducklake-catalog"]),
    ("postgres", &["duckfeeder-tests", "xtask"]),
    ("tokio-postgres", &[]),
    ("aws-*", &["storage"]),
    ("google-cloud-*", &["storage"]),
    // Columns become files in one place, and are filled in one place.
    ("parquet", &["parquet-writer"]),
    ("arrow-*", &["parquet-writer", "feeder-core"]),
];

/// The only outside packages a package may have.
const CLOSED: &[(&str, &[&str])] = &[("pgoutput", &["bytes", "thiserror"])];

/// Reads the output of `cargo metadata --no-deps`.
pub(super) fn parse(metadata: &str) -> Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata)?;
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("no packages")?;
    let text = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .unwrap_or_default()
    };
    let mut parsed = Vec::new();
    for package in packages {
        let dependencies = package.get("dependencies").and_then(Value::as_array);
        parsed.push(Package {
            name: text(package, "name"),
            published: package.get("publish").is_none_or(Value::is_null),
            described: !text(package, "description").is_empty(),
            licensed: !text(package, "license").is_empty(),
            dependencies: dependencies
                .into_iter()
                .flatten()
                .map(|dependency| Dependency {
                    name: text(dependency, "name"),
                    dev: text(dependency, "kind") == "dev",
                    internal: !text(dependency, "path").is_empty(),
                    version: text(dependency, "req"),
                })
                .collect(),
        });
    }
    Ok(parsed)
}

/// All violations of the rules, in words.
pub(super) fn check(packages: &[Package]) -> Vec<String> {
    let mut violations = Vec::new();
    for package in packages {
        let name = &package.name;
        let Some((_, layer)) = LAYERS.iter().find(|(known, _)| known == name) else {
            violations.push(format!(
                "{name}: not in the layer table of xtask/src/tidy/deps.rs"
            ));
            continue;
        };
        if package.published && !(package.described && package.licensed) {
            violations.push(format!(
                "{name}: a published package has a description and a license"
            ));
        }
        let dependencies: BTreeSet<_> = package
            .dependencies
            .iter()
            .filter(|dependency| !dependency.dev)
            .map(|dependency| (&dependency.name, dependency.internal, &dependency.version))
            .collect();
        for (dependency, internal, version) in dependencies {
            if internal {
                if !layer.contains(&dependency.as_str()) {
                    violations.push(format!("{name}: must not depend on {dependency}"));
                }
                if package.published && version == "*" {
                    violations.push(format!("{name}: {dependency} has no version"));
                }
                continue;
            }
            for (reserved, users) in RESERVED {
                if matches(reserved, dependency) && !users.contains(&name.as_str()) {
                    violations.push(format!("{name}: must not use {dependency}"));
                }
            }
            for (closed, allowed) in CLOSED {
                if closed == name && !allowed.contains(&dependency.as_str()) {
                    violations.push(format!("{name}: must not use {dependency}"));
                }
            }
        }
    }
    violations
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: Vec<Dependency>) -> Package {
        Package {
            name: name.to_owned(),
            published: true,
            described: true,
            licensed: true,
            dependencies,
        }
    }

    fn internal(name: &str) -> Dependency {
        Dependency {
            name: name.to_owned(),
            dev: false,
            internal: true,
            version: "^0.1.0".to_owned(),
        }
    }

    fn outside(name: &str) -> Dependency {
        Dependency {
            internal: false,
            ..internal(name)
        }
    }

    #[test]
    fn leaves_do_not_know_each_other() {
        let violations = check(&[package("storage", vec![internal("pgoutput")])]);
        assert_eq!(violations, ["storage: must not depend on pgoutput"]);
        assert!(check(&[package("cdc-source", vec![internal("pgoutput")])]).is_empty());
    }

    #[test]
    fn tests_may_use_what_libraries_may_not() {
        let anyhow = Dependency {
            dev: true,
            ..outside("anyhow")
        };
        assert!(check(&[package("storage", vec![anyhow])]).is_empty());
        let violations = check(&[package("storage", vec![outside("anyhow")])]);
        assert_eq!(violations, ["storage: must not use anyhow"]);
    }

    #[test]
    fn cloud_packages_stay_in_one_crate() {
        assert!(check(&[package("storage", vec![outside("aws-sdk-s3")])]).is_empty());
        let violations = check(&[package("feeder-core", vec![outside("aws-config")])]);
        assert_eq!(violations, ["feeder-core: must not use aws-config"]);
    }

    #[test]
    fn the_decoder_has_two_dependencies() {
        let fine = vec![outside("bytes"), outside("thiserror")];
        assert!(check(&[package("pgoutput", fine)]).is_empty());
        let violations = check(&[package("pgoutput", vec![outside("tokio")])]);
        assert_eq!(violations, ["pgoutput: must not use tokio"]);
    }

    #[test]
    fn an_internal_dependency_has_a_version() {
        let bare = Dependency {
            version: "*".to_owned(),
            ..internal("pgoutput")
        };
        let violations = check(&[package("cdc-source", vec![bare])]);
        assert_eq!(violations, ["cdc-source: pgoutput has no version"]);
    }

    #[test]
    fn a_new_package_has_to_be_placed() {
        assert_eq!(check(&[package("stray", Vec::new())]).len(), 1);
    }

    #[test]
    fn metadata_is_read() {
        let metadata = r#"{"packages": [{"name": "storage", "publish": null, "description": "d", "license": "l",
            "dependencies": [{"name": "pgoutput", "kind": null, "path": "/x", "req": "*"},
                             {"name": "anyhow", "kind": "dev", "req": "^1"}]}]}"#;
        let packages = parse(metadata).expect("it parses");
        assert_eq!(
            check(&packages),
            [
                "storage: must not depend on pgoutput",
                "storage: pgoutput has no version"
            ]
        );
    }
}
