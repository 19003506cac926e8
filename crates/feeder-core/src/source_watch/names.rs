//! Tables that come, go, and change their names.

use std::collections::BTreeMap;

use cdc_source::tables::TableId;
use cdc_source::{Connection, tables};

use crate::check::Severity;
use crate::config::FeederConfig;
use crate::error::{FeederError, from_source};
use crate::{select, table_look};

/// All tables that there are.
pub(super) async fn listed(connection: &mut Connection) -> Result<Vec<TableId>, FeederError> {
    tables::list_tables(connection).await.map_err(from_source)
}

/// Whether the tables to be fed are others than those of `known`: then the feeder has to look at all of them anew. A new
/// one that cannot be fed is no reason for that; it is said once, and remembered in `refused`.
pub(super) async fn changed(
    listed: &[TableId],
    connection: &mut Connection,
    config: &FeederConfig,
    known: &BTreeMap<u32, (String, String)>,
    refused: &mut BTreeMap<u32, String>,
) -> Result<bool, FeederError> {
    let there: BTreeMap<u32, (&str, &str)> = listed
        .iter()
        .map(|table| (table.oid.get(), (&*table.schema, &*table.name)))
        .collect();
    let moved = known.iter().any(|(oid, (schema, name))| {
        there
            .get(oid)
            .is_none_or(|now| *now != (schema.as_str(), name.as_str()))
    });
    if moved {
        return Ok(true);
    }
    let wanted: Vec<table_look::Wanted> = there
        .iter()
        .filter(|(oid, _)| !known.contains_key(oid))
        .filter_map(|(oid, (schema, name))| {
            Some(table_look::Wanted {
                source_oid: *oid,
                selection: select::one(config, schema, name)?,
                types: Vec::new(),
                announced: None,
            })
        })
        .collect();
    if wanted.is_empty() {
        return Ok(false);
    }
    let major = connection.server_version().major();
    let found = table_look::over(connection, config, &wanted).await?;
    let mut fed = false;
    for (table, found) in wanted.iter().zip(found) {
        let Some(plan) = found.plan else { continue };
        let findings = plan.findings(config);
        let publishing = plan.publishing_findings(major);
        let against = findings
            .into_iter()
            .chain(publishing)
            .find(|finding| finding.severity == Severity::Failed);
        match against {
            None => fed = true,
            Some(finding) => {
                let known = refused.insert(table.source_oid, finding.message.clone());
                if known.as_ref() != Some(&finding.message) {
                    tracing::warn!(
                        table = %plan.source(),
                        remedy = finding.remedy,
                        "a new table is not fed: {}",
                        finding.message
                    );
                }
            }
        }
    }
    Ok(fed)
}
