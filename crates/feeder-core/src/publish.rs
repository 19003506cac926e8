//! The publications: what they should hold, what they hold, and whether they changed behind our back (rule 4).

use std::collections::{BTreeMap, BTreeSet};

use cdc_source::publication::{self, GENERATED_SINCE, PublicationDifference, WantedPublication};
use cdc_source::{
    Connection, Publication, PublicationName, PublishActions, PublishedTable, SourceError,
    SourceErrorKind, TableInfo,
};
use serde::{Deserialize, Serialize};

use crate::check::Finding;
use crate::config::{FeederConfig, KeylessPolicy};
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::plan::{StoredColumns, TablePlan};

use given::Given;

mod given;
mod row_filter;

/// The publication of tables whose updates cannot be published (rule 12).
pub(crate) fn insert_only_name(config: &FeederConfig) -> Result<PublicationName, FeederError> {
    let name = format!("{}_ins", config.source.publication.as_str());
    PublicationName::parse(&name).map_err(|error| {
        FeederError::permanent(
            FeederErrorKind::Config,
            format!("publication name {name:?}, for tables without a replica identity"),
        )
        .with_source(error)
        .with_remedy("choose a shorter source.publication")
    })
}

/// A publication's identity, as kept in the feeder's control row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicationState {
    oid: u32,
    all_tables: bool,
    insert: bool,
    update: bool,
    delete: bool,
    truncate: bool,
    via_root: bool,
    /// Written since generated columns are fed.
    #[serde(default)]
    generated: bool,
}

impl PublicationState {
    /// Publishes the same operations. Generated columns are each table's affair.
    fn same_operations(&self, other: &Self) -> bool {
        let other = Self {
            generated: self.generated,
            ..other.clone()
        };
        *self == other
    }
}

/// A table's entry in a publication, as kept in the table's control row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableEntry {
    publication: String,
    /// `pg_publication_rel.oid`; none when the table is covered as a whole schema or database.
    rel_oid: Option<u32>,
    columns: Option<Vec<String>>,
    row_filter: Option<String>,
    /// Whether it has stored generated columns that the option of the publication lets through. Written since they
    /// are fed.
    #[serde(default)]
    generated: bool,
}

/// A fed table, as far as publications are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Covered {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    /// Has stored generated columns to be fed.
    pub(crate) generated: bool,
}

impl Covered {
    pub(crate) fn of(plan: &TablePlan) -> Self {
        Self {
            oid: plan.info.id.oid.get(),
            schema: plan.selection.schema.clone(),
            generated: plan.stored_columns().next().is_some(),
        }
    }
}

/// The publications of a feeder, as seen at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) publications: BTreeMap<String, PublicationState>,
    pub(crate) tables: BTreeMap<u32, TableEntry>,
}

impl Published {
    /// Takes down what covers `tables`.
    pub(crate) fn of(found: &[Publication], tables: &[Covered]) -> Self {
        let mut published = Self::default();
        for publication in found {
            let name = publication.name.as_str().to_owned();
            for Covered {
                oid,
                schema,
                generated,
            } in tables
            {
                let listed = publication
                    .tables
                    .iter()
                    .find(|table| table.relid.get() == *oid);
                let covered = publication.all_tables || publication.schemas.contains(schema);
                if listed.is_none() && !covered {
                    continue;
                }
                published.tables.entry(*oid).or_insert_with(|| TableEntry {
                    publication: name.clone(),
                    rel_oid: listed.map(|table| table.rel_oid.get()),
                    columns: listed.and_then(|table| table.columns.clone()),
                    row_filter: listed.and_then(|table| table.row_filter.clone()),
                    generated: *generated
                        && publication.generated
                        && listed.is_none_or(|table| table.columns.is_none()),
                });
            }
            let state = PublicationState {
                oid: publication.oid.get(),
                all_tables: publication.all_tables,
                insert: publication.insert,
                update: publication.update,
                delete: publication.delete,
                truncate: publication.truncate,
                via_root: publication.via_root,
                generated: publication.generated,
            };
            published.publications.insert(name, state);
        }
        published
    }

    /// Tables whose changes may be missing because their publication changed, with the reason.
    pub(crate) fn lost(&self, now: &Self) -> Vec<(u32, String)> {
        let mut lost = Vec::new();
        for (oid, before) in &self.tables {
            let reason = match (
                self.publications.get(&before.publication),
                now.publications.get(&before.publication),
                now.tables.get(oid),
            ) {
                (_, None, _) => format!("publication {} was dropped", before.publication),
                (Some(old), Some(new), _) if old.oid != new.oid => {
                    format!(
                        "publication {} was dropped and made again",
                        before.publication
                    )
                }
                (Some(old), Some(new), _) if !old.same_operations(new) => {
                    format!(
                        "publication {} publishes other operations than before",
                        before.publication
                    )
                }
                (_, _, None) => format!("it was taken out of publication {}", before.publication),
                (_, _, Some(entry)) if entry.rel_oid != before.rel_oid => {
                    format!(
                        "it was taken out of publication {} and put in again",
                        before.publication
                    )
                }
                (_, _, Some(entry))
                    if entry.columns != before.columns || entry.row_filter != before.row_filter =>
                {
                    format!(
                        "its column list or row filter in publication {} was changed",
                        before.publication
                    )
                }
                // That they are sent from now on loses nothing: they stay out until the table is copied again.
                (_, Some(new), _) if before.generated && !new.generated => {
                    format!(
                        "publication {} does not publish generated columns any more",
                        before.publication
                    )
                }
                _ => continue,
            };
            lost.push((*oid, format!("{reason}; changes in between are missing")));
        }
        lost
    }
}

/// Reads both publications; those that do not exist are left out.
pub(crate) async fn read(
    connection: &mut Connection,
    config: &FeederConfig,
) -> Result<Vec<Publication>, FeederError> {
    let mut found = Vec::new();
    for name in [config.source.publication.clone(), insert_only_name(config)?] {
        found.extend(
            publication::inspect(connection, &name)
                .await
                .map_err(from_source)?,
        );
    }
    Ok(found)
}

/// Which stored generated columns of a table are sent, or would be by the publication that is to be made.
pub(crate) fn stored_columns(
    config: &FeederConfig,
    major: u32,
    found: &[Publication],
    info: &TableInfo,
) -> StoredColumns {
    if major < GENERATED_SINCE {
        return StoredColumns::Unpublished;
    }
    if config.source.manage_publication {
        return StoredColumns::Published;
    }
    let entry = |publication: &Publication| -> Option<Option<Vec<String>>> {
        let listed = publication
            .tables
            .iter()
            .find(|table| table.relid == info.id.oid);
        let covered = publication.all_tables || publication.schemas.contains(&info.id.schema);
        match listed {
            Some(table) => Some(table.columns.clone()),
            None => covered.then_some(None),
        }
    };
    // Publications that do not agree about a table are a finding of their own.
    let home = found
        .iter()
        .find_map(|publication| Some((publication, entry(publication)?)))
        .or_else(|| Some((found.first()?, None)));
    match home {
        Some((_, Some(columns))) => StoredColumns::Listed(columns),
        Some((publication, None)) if !publication.generated => StoredColumns::Unpublished,
        Some(_) | None => StoredColumns::Published,
    }
}

/// What the publications should be for these tables, on a server of version `major`. The second one is wanted only when it has tables.
pub(crate) fn wanted(
    config: &FeederConfig,
    plans: &[TablePlan],
    major: u32,
) -> Result<Vec<WantedPublication>, FeederError> {
    // Also where no table has such columns: under REPLICA IDENTITY FULL, one that is added later would otherwise make
    // updates fail at the source (rule 12).
    let generated = major >= GENERATED_SINCE;
    let tables = |keyless: bool| {
        plans
            .iter()
            .filter(|plan| plan.keyless == keyless)
            .map(TablePlan::published)
            .collect::<Vec<_>>()
    };
    let mut wanted = vec![WantedPublication {
        name: config.source.publication.clone(),
        actions: PublishActions::All,
        via_root: true,
        generated,
        tables: tables(false),
    }];
    let insert_only = tables(true);
    if !insert_only.is_empty() {
        wanted.push(WantedPublication {
            name: insert_only_name(config)?,
            actions: PublishActions::InsertTruncate,
            via_root: true,
            generated,
            tables: insert_only,
        });
    }
    Ok(wanted)
}

/// The second publication, empty, where it is not there. A publication cannot be streamed from before it was made: so it
/// is made before a table needs it.
pub(crate) fn spare(
    config: &FeederConfig,
    wanted: &[WantedPublication],
    found: &[Publication],
) -> Result<Option<WantedPublication>, FeederError> {
    let name = insert_only_name(config)?;
    let there = wanted.iter().any(|publication| publication.name == name)
        || found.iter().any(|publication| publication.name == name);
    let needed = !there && config.source.keyless != KeylessPolicy::Refuse;
    Ok(needed.then(|| WantedPublication {
        name,
        actions: PublishActions::InsertTruncate,
        via_root: true,
        generated: wanted.first().is_some_and(|main| main.generated),
        tables: Vec::new(),
    }))
}

/// Whether a publication is asked for: not the spare one, which may be younger than the checkpoint.
pub(crate) fn is_streamed(config: &FeederConfig) -> impl Fn(&Publication) -> bool {
    let main = config.source.publication.clone();
    let managed = config.source.manage_publication;
    move |publication| !managed || publication.name == main || !publication.tables.is_empty()
}

/// What of the publications cannot be used or mended as it is.
pub(crate) async fn findings(
    config: &FeederConfig,
    connection: &mut Connection,
    plans: &[TablePlan],
    found: &[Publication],
) -> Result<Vec<Finding>, FeederError> {
    let mut findings = row_filter::unreadable(connection, plans).await?;
    if !findings.is_empty() {
        return Ok(findings);
    }
    let wanted = wanted(config, plans, connection.server_version().major())?;
    if config.source.manage_publication {
        for wanted in &wanted {
            let existing = found
                .iter()
                .find(|publication| publication.name == wanted.name);
            findings.extend(
                publication::diff(wanted, existing)
                    .iter()
                    .filter(|difference| !mended(difference))
                    .map(|difference| {
                        Finding::failed(
                            format!("publication {}", wanted.name.as_str()),
                            FeederErrorKind::Source,
                            difference.to_string(),
                            "drop it, or name another one as source.publication".to_owned(),
                        )
                    }),
            );
        }
        return Ok(findings);
    }
    let tables: Vec<PublishedTable> = plans.iter().map(TablePlan::published).collect();
    let mut filtered = BTreeSet::new();
    for publication in found {
        filtered.extend(row_filter::differing(connection, publication, &tables).await?);
    }
    // What to run where a publication is lacking; not to be had for what the server is too old for, which is a finding.
    let create = wanted
        .iter()
        .filter_map(|wanted| {
            let sql = publication::render_create(connection, wanted).ok()?;
            Some((wanted.name.as_str().to_owned(), sql + ";"))
        })
        .collect();
    let generated = connection.server_version().major() >= GENERATED_SINCE;
    Ok(Given::new(config, found, filtered, create, generated)?.findings(plans))
}

/// Differences that a start mends.
fn mended(difference: &PublicationDifference) -> bool {
    use PublicationDifference as D;
    matches!(
        difference,
        D::Missing { .. }
            | D::TableMissing { .. }
            | D::TableUnwanted { .. }
            | D::Columns { .. }
            | D::RowFilter { .. }
            | D::Generated { .. }
    )
}

/// Makes the publications what they should be, all of it or nothing: a table that has another name since it was looked at
/// must not be taken out under the one and then fail to be put in under the other. Returns the source names of tables that
/// are put in or replaced: they need a copy that begins after the [`commit`], for which the transaction is left open.
///
/// A publication that does not send stored generated columns is altered only if `generated` says that there are any to
/// be fed. No table needs a copy for it: one that was copied without them ignores them until it is copied again.
pub(crate) async fn reconcile(
    connection: &mut Connection,
    wanted: &[WantedPublication],
    found: &[Publication],
    generated: bool,
) -> Result<Vec<(String, String)>, FeederError> {
    let mut filters = Vec::new();
    for wanted in wanted {
        let existing = found
            .iter()
            .find(|publication| publication.name == wanted.name);
        if let Some(existing) = existing {
            filters.extend(row_filter::differing(connection, existing, &wanted.tables).await?);
        }
    }
    connection.execute("begin").await.map_err(from_source)?;
    let added = alter(connection, wanted, found, generated, &filters).await;
    if added.is_err() && connection.in_transaction() {
        connection.execute("rollback").await.map_err(from_source)?;
    }
    added
}

/// Makes what [`reconcile`] altered last.
pub(crate) async fn commit(connection: &mut Connection) -> Result<(), FeederError> {
    connection.execute("commit").await.map_err(altering)
}

async fn alter(
    connection: &mut Connection,
    wanted: &[WantedPublication],
    found: &[Publication],
    generated: bool,
    filters: &[row_filter::Entry],
) -> Result<Vec<(String, String)>, FeederError> {
    use PublicationDifference as D;
    let mut added = Vec::new();
    for wanted in wanted {
        let existing = found
            .iter()
            .find(|publication| publication.name == wanted.name);
        let Some(existing) = existing else {
            publication::create(connection, wanted)
                .await
                .map_err(altering)?;
            tracing::info!(
                publication = wanted.name.as_str(),
                tables = wanted.tables.len(),
                "publication created"
            );
            added.extend(
                wanted
                    .tables
                    .iter()
                    .map(|table| (table.schema.clone(), table.name.clone())),
            );
            continue;
        };
        let mut remove = BTreeSet::new();
        let mut add = BTreeSet::new();
        for difference in publication::diff(wanted, Some(existing)) {
            match difference {
                D::TableMissing { schema, table, .. } => {
                    add.insert((schema, table));
                }
                D::TableUnwanted { schema, table, .. } => {
                    remove.insert((schema, table));
                }
                D::Columns { schema, table, .. } | D::RowFilter { schema, table, .. } => {
                    remove.insert((schema.clone(), table.clone()));
                    add.insert((schema, table));
                }
                D::Generated { found: false, .. } if generated => {
                    publication::publish_generated(connection, &wanted.name)
                        .await
                        .map_err(altering)?;
                    tracing::info!(
                        publication = wanted.name.as_str(),
                        "the publication sends stored generated columns from now on"
                    );
                }
                _ => {}
            }
        }
        for (publication, schema, table) in filters {
            if publication == wanted.name.as_str() {
                remove.insert((schema.clone(), table.clone()));
                add.insert((schema.clone(), table.clone()));
            }
        }
        let remove: Vec<_> = remove.into_iter().collect();
        publication::drop_tables(connection, &wanted.name, &remove)
            .await
            .map_err(altering)?;
        let tables: Vec<_> = wanted
            .tables
            .iter()
            .filter(|table| add.contains(&(table.schema.clone(), table.name.clone())))
            .cloned()
            .collect();
        publication::add_tables(connection, &wanted.name, &tables)
            .await
            .map_err(altering)?;
        if !remove.is_empty() || !add.is_empty() {
            tracing::info!(
                publication = wanted.name.as_str(),
                removed = remove.len(),
                added = add.len(),
                "publication altered"
            );
        }
        added.extend(add);
    }
    // The one for inserts, when it has no table any more: the lists of both must not differ.
    for publication in found {
        if wanted.iter().any(|wanted| wanted.name == publication.name) {
            continue;
        }
        let tables: Vec<_> = publication
            .tables
            .iter()
            .map(|table| (table.schema.clone(), table.name.clone()))
            .collect();
        publication::drop_tables(connection, &publication.name, &tables)
            .await
            .map_err(altering)?;
    }
    Ok(added)
}

/// A table that was dropped or renamed since it was looked at: looking again helps.
fn altering(error: SourceError) -> FeederError {
    if error.kind() == SourceErrorKind::ObjectMissing {
        return FeederError::transient(FeederErrorKind::Source, error.to_string());
    }
    from_source(error)
}

#[cfg(test)]
mod tests;
