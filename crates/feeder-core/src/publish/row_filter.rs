//! Whether two row filters are the same one: a publication shows its filter as the server writes it, the configuration as a
//! person does.
//!
//! So the server is asked to render both: as the output of a query over no rows that is planned and never run. It
//! creates nothing, and the role may do it that may read the table.

use cdc_source::{Connection, Publication, PublishedTable, SourceErrorKind};

use crate::check::Finding;
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::plan::TablePlan;

/// Publication, schema and name of a table.
pub(super) type Entry = (String, String, String);

/// Configured filters that the server cannot read.
pub(super) async fn unreadable(
    connection: &mut Connection,
    plans: &[TablePlan],
) -> Result<Vec<Finding>, FeederError> {
    let mut findings = Vec::new();
    for plan in plans {
        let Some(filter) = &plan.selection.row_filter else {
            continue;
        };
        let (schema, name) = (&plan.selection.schema, &plan.selection.name);
        match rendered(connection, schema, name, filter).await {
            Ok(_) => {}
            // A finding of its own.
            Err(error) if error.kind() == SourceErrorKind::Privilege => {}
            Err(error) if error.is_transient() => return Err(from_source(error)),
            Err(error) => findings.push(Finding::failed(
                format!("table {}", plan.source()),
                FeederErrorKind::Source,
                format!("{}: its row filter: {error}", plan.source()),
                "correct `where`, an SQL condition on the table's columns".to_owned(),
            )),
        }
    }
    Ok(findings)
}

/// Tables of a publication whose filter is there, is wanted, and is another one.
pub(super) async fn differing(
    connection: &mut Connection,
    publication: &Publication,
    wanted: &[PublishedTable],
) -> Result<Vec<Entry>, FeederError> {
    let mut differing = Vec::new();
    for table in wanted {
        let listed = publication
            .tables
            .iter()
            .find(|listed| listed.schema == table.schema && listed.name == table.name);
        let found = listed.and_then(|listed| listed.row_filter.as_ref());
        let (Some(wanted), Some(found)) = (&table.row_filter, found) else {
            continue;
        };
        let (schema, name) = (&table.schema, &table.name);
        let wanted = rendered(connection, schema, name, wanted).await;
        let found = rendered(connection, schema, name, found).await;
        let same = match (wanted, found) {
            (Ok(wanted), Ok(found)) => wanted == found,
            // Without the privilege to read the table nothing is fed, which is a finding of its own.
            (Err(error), _) | (_, Err(error)) if error.kind() == SourceErrorKind::Privilege => true,
            (Err(error), _) | (_, Err(error)) => return Err(from_source(error)),
        };
        if !same {
            let publication = publication.name.as_str().to_owned();
            differing.push((publication, schema.clone(), name.clone()));
        }
    }
    Ok(differing)
}

/// A filter as the server writes it, simplified.
async fn rendered(
    connection: &mut Connection,
    schema: &str,
    name: &str,
    filter: &str,
) -> Result<Option<serde_json::Value>, cdc_source::SourceError> {
    // The line break ends a comment at the end of the filter.
    let sql = format!(
        "explain (verbose, costs off, format json) select ({filter}\n) is true from only {}.{} where false",
        cdc_source::quote_ident(schema),
        cdc_source::quote_ident(name)
    );
    let rows = connection.query(&sql).await?;
    let plan = rows.first().and_then(|row| row.get(0));
    let plan = plan.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    Ok(plan.and_then(|plan| plan.pointer("/0/Plan/Output").cloned()))
}
