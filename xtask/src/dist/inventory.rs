//! What is in the binary: every crate that is compiled for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use duckfeeder_tests::process;
use serde::Deserialize;

use super::{PACKAGE, cargo_in};

/// Name and version: enough to tell the crates of one lock file apart, as they are all from one registry.
pub(super) type Id = (String, String);

/// One crate.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) name: String,
    pub(super) version: String,
    /// An SPDX expression.
    pub(super) license: String,
    pub(super) repository: Option<String>,
    /// SHA-256 of the package in hexadecimal, from the lock file; none for our own.
    pub(super) checksum: Option<String>,
    /// Where its sources are on this machine.
    pub(super) folder: PathBuf,
    /// The crates that it needs to run or to be built.
    pub(super) needs: BTreeSet<Id>,
}

impl Component {
    /// Whether it is of this workspace.
    pub(super) fn ours(&self) -> bool {
        self.checksum.is_none()
    }

    /// Its package URL.
    pub(super) fn purl(&self) -> String {
        purl(&self.name, &self.version)
    }
}

/// The package URL of a crate.
pub(super) fn purl(name: &str, version: &str) -> String {
    // The only character of a version that a URL reads as something else.
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// The binary's package, and every crate below it.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) root: Component,
    pub(super) components: BTreeMap<Id, Component>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

impl Inventory {
    /// Takes stock of what the binary is compiled from on `target`.
    ///
    /// # Errors
    /// When cargo or the lock file contradict each other, or a crate states no licence.
    pub(super) fn of(root: &Path, target: &str) -> Result<Self> {
        // `cargo metadata` has licences and edges, but for all packages and features of the workspace together,
        // and with optional dependencies that nobody switched on. `cargo tree` knows what is really compiled.
        let tree = process::run(cargo_in(root).args([
            "tree",
            "--locked",
            "--package",
            PACKAGE,
            "--edges",
            "normal,build",
            "--target",
            target,
            "--prefix",
            "none",
            "--format",
            "{p}",
        ]))?;
        let metadata = process::run(cargo_in(root).args([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            target,
        ]))?;
        let lock = fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock")?;
        Self::read(
            &compiled(&tree)?,
            &serde_json::from_str(&metadata).context("cargo metadata")?,
            toml::from_str(&lock).context("Cargo.lock")?,
        )
    }

    fn read(compiled: &BTreeSet<Id>, metadata: &Metadata, lock: Lock) -> Result<Self> {
        let mut checksums: HashMap<Id, Option<String>> = lock
            .package
            .into_iter()
            .map(|locked| ((locked.name, locked.version), locked.checksum))
            .collect();
        let ids: HashMap<&str, Id> = metadata
            .packages
            .iter()
            .map(|package| {
                (
                    package.id.as_str(),
                    (package.name.clone(), package.version.clone()),
                )
            })
            .collect();
        let mut edges: HashMap<&str, BTreeSet<Id>> = HashMap::new();
        for node in &metadata.resolve.nodes {
            let needs = node
                .deps
                .iter()
                .filter(|edge| {
                    edge.dep_kinds
                        .iter()
                        .any(|kind| kind.kind.as_deref() != Some("dev"))
                })
                .filter_map(|edge| ids.get(edge.pkg.as_str()))
                .filter(|id| compiled.contains(id))
                .cloned()
                .collect();
            edges.insert(&node.id, needs);
        }
        let mut components = BTreeMap::new();
        for package in &metadata.packages {
            let id = (package.name.clone(), package.version.clone());
            if !compiled.contains(&id) {
                continue;
            }
            let checksum = checksums.remove(&id).flatten();
            let shown = format!("{} {}", package.name, package.version);
            ensure!(
                package.source.is_some() == checksum.is_some(),
                "{shown} has a source without a checksum, or the other way round"
            );
            let component = Component {
                name: package.name.clone(),
                version: package.version.clone(),
                // As it was written before SPDX expressions.
                license: package
                    .license
                    .as_ref()
                    .with_context(|| format!("{shown} states no licence"))?
                    .replace('/', " OR "),
                repository: package.repository.clone(),
                checksum,
                folder: package
                    .manifest_path
                    .parent()
                    .with_context(|| format!("{shown} is nowhere"))?
                    .to_owned(),
                needs: edges.remove(package.id.as_str()).unwrap_or_default(),
            };
            if components.insert(id, component).is_some() {
                bail!("{shown} is there twice, from two sources");
            }
        }
        ensure!(
            components.len() == compiled.len(),
            "`cargo tree` and `cargo metadata` name different crates"
        );
        let root = components
            .keys()
            .find(|(name, _)| name == PACKAGE)
            .cloned()
            .and_then(|id| components.remove(&id))
            .with_context(|| format!("there is no package {PACKAGE}"))?;
        Ok(Self { root, components })
    }
}

/// The crates in the output of `cargo tree`: `name v1.2.3 (more)` in each line, some more than once.
fn compiled(tree: &str) -> Result<BTreeSet<Id>> {
    tree.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut words = line.split(' ');
            match (
                words.next(),
                words.next().and_then(|word| word.strip_prefix('v')),
            ) {
                (Some(name), Some(version)) => Ok((name.to_owned(), version.to_owned())),
                _ => bail!("`cargo tree` printed {line:?}"),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TREE: &str =
        "duckfeeder-cli v0.1.0 (/x)\na v1.0.0\nb v2.0.0 (proc-macro)\na v1.0.0 (*)\n";

    fn read(license: Option<&str>, checksum: &str) -> Result<Inventory> {
        let registry = "registry+https://example.org";
        let package = |name: &str, version: &str, source: Option<&str>| {
            json!({ "id": name, "name": name, "version": version, "license": license, "source": source,
                    "repository": null, "manifest_path": format!("/src/{name}/Cargo.toml") })
        };
        let metadata = json!({
            "packages": [
                package("duckfeeder-cli", "0.1.0", None),
                package("a", "1.0.0", Some(registry)),
                package("b", "2.0.0", Some(registry)),
                package("idle", "1.0.0", Some(registry)),
            ],
            "resolve": { "nodes": [
                { "id": "duckfeeder-cli", "deps": [
                    { "pkg": "a", "dep_kinds": [{ "kind": null }, { "kind": "dev" }] },
                    { "pkg": "b", "dep_kinds": [{ "kind": "dev" }] },
                    { "pkg": "idle", "dep_kinds": [{ "kind": null }] },
                ] },
                { "id": "a", "deps": [{ "pkg": "b", "dep_kinds": [{ "kind": "build" }] }] },
            ] },
        });
        let lock = format!(
            "[[package]]\nname = \"duckfeeder-cli\"\nversion = \"0.1.0\"\n\
             [[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"aa\"\n\
             [[package]]\nname = \"b\"\nversion = \"2.0.0\"\n{checksum}\n"
        );
        Inventory::read(
            &compiled(TREE)?,
            &serde_json::from_value(metadata)?,
            toml::from_str(&lock)?,
        )
    }

    #[test]
    fn only_what_is_compiled_is_in_it() {
        let inventory = read(Some("MIT/Apache-2.0"), "checksum = \"bb\"").unwrap();
        let names: Vec<_> = inventory
            .components
            .keys()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["a", "b"]);
        let a = &inventory.components[&("a".to_owned(), "1.0.0".to_owned())];
        assert_eq!(
            (a.license.as_str(), a.checksum.as_deref()),
            ("MIT OR Apache-2.0", Some("aa"))
        );
        assert_eq!(
            a.needs,
            BTreeSet::from([("b".to_owned(), "2.0.0".to_owned())])
        );
        // Neither what only tests need nor what is not compiled.
        assert_eq!(
            inventory.root.needs,
            BTreeSet::from([("a".to_owned(), "1.0.0".to_owned())])
        );
        assert!(inventory.root.ours() && !a.ours());
    }

    #[test]
    fn gaps_are_errors() {
        let told = |result: Result<Inventory>| format!("{:#}", result.unwrap_err());
        assert!(told(read(None, "checksum = \"bb\"")).contains("states no licence"));
        assert!(told(read(Some("MIT"), "")).contains("b 2.0.0 has a source without a checksum"));
        assert!(compiled("nonsense\n").is_err());
    }

    #[test]
    fn a_version_with_build_metadata_is_escaped() {
        assert_eq!(purl("a", "1.0.0+2"), "pkg:cargo/a@1.0.0%2B2");
    }
}
