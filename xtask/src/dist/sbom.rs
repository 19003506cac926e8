//! The bill of materials: CycloneDX 1.5 in JSON.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{
    BINARY,
    inventory::{Component, Inventory, purl},
};

/// The document. It has no serial number and no time of its own making, so that a build can be repeated.
///
/// # Errors
/// When `time`, in seconds since 1970, is beyond the calendar.
pub(super) fn render(inventory: &Inventory, binary_sha256: &str, time: u64) -> Result<String> {
    let moment = UNIX_EPOCH
        .checked_add(Duration::from_secs(time))
        .context("the time of the source is beyond the calendar")?;
    let mut subject = component(&inventory.root, "application");
    subject.insert("name".to_owned(), json!(BINARY));
    subject.insert("hashes".to_owned(), sha256(binary_sha256));
    let all = || std::iter::once(&inventory.root).chain(inventory.components.values());
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": humantime::format_rfc3339_seconds(moment).to_string(),
            "tools": { "components": [{ "type": "application", "name": "cargo xtask dist" }] },
            "component": subject,
        },
        "components": inventory
            .components
            .values()
            .map(|one| component(one, "library"))
            .collect::<Vec<_>>(),
        "dependencies": all()
            .map(|one| {
                let needs = one.needs.iter().map(|(name, version)| purl(name, version));
                json!({ "ref": one.purl(), "dependsOn": needs.collect::<Vec<_>>() })
            })
            .collect::<Vec<_>>(),
    });
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

fn component(component: &Component, kind: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    put("type", json!(kind));
    put("bom-ref", json!(component.purl()));
    put("name", json!(component.name));
    put("version", json!(component.version));
    put("purl", json!(component.purl()));
    put("licenses", json!([{ "expression": component.license }]));
    if let Some(checksum) = &component.checksum {
        put("hashes", sha256(checksum));
    }
    if let Some(repository) = &component.repository {
        put(
            "externalReferences",
            json!([{ "type": "vcs", "url": repository }]),
        );
    }
    fields
}

fn sha256(digest: &str) -> Value {
    json!([{ "alg": "SHA-256", "content": digest }])
}
