//! From a configuration to a feeder that is ready to stream: checks first, then whatever is missing is made.
//!
//! Order matters (rules 3 and 6 of ARCHITECTURE.md): the publication is altered and committed before the slot, so
//! that a snapshot never misses what the publication does not yet send.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cdc_source::Connection;
use ducklake_catalog::Catalog;
use pgoutput::Lsn;
use storage::Storage;
use tokio::sync::watch;

use crate::append::{self, Buffers};
use crate::check::{self, SourceInspection};
use crate::config::FeederConfig;
use crate::control::{Control, FeederRow, Fence, Look, TableRow, TableTransition, migrations};
use crate::copy_round::CopySnapshot;
use crate::error::{FeederError, FeederErrorKind, from_catalog};
use crate::failpoint::{self, Failpoint};
use crate::feeder::RunMode;
use crate::intake::FedTable;
use crate::partitions::{self, Doubt, PartitionsLook, Roots};
use crate::plan::TablePlan;
use crate::publish::{self, Covered, Published};
use crate::status::{FeederStatus, TableState};
use crate::stream::Source;
use crate::{lake_tables, lineage, registration, slot, standby};

/// Everything that a run needs.
pub(crate) struct Prepared {
    pub(crate) catalog: Catalog,
    pub(crate) control: Control,
    pub(crate) fence: Arc<Fence>,
    pub(crate) checkpoint: Lsn,
    pub(crate) last_snapshot: Option<i64>,
    /// Commit time of the last transaction in the lake, in microseconds since 1970-01-01 UTC.
    pub(crate) commit_timestamp: Option<i64>,
    pub(crate) tables: Vec<FedTable>,
    pub(crate) source: Source,
    /// The snapshot of a slot that was just made, with the session that exports it.
    pub(crate) first_snapshot: Option<(Connection, CopySnapshot)>,
    /// What the publications looked like when the feeder last altered them.
    pub(crate) published: Published,
    /// All tables, as far as publications are concerned.
    pub(crate) covered: Vec<Covered>,
    /// Tables of which only inserts and truncates are published.
    pub(crate) keyless: BTreeSet<u32>,
    /// Tables with partitions.
    pub(crate) roots: Roots,
    /// Tables that were dropped at the source, which is known to have happened before a position of the stream.
    pub(crate) leaving: BTreeSet<u32>,
    pub(crate) position: Lsn,
    /// Names of the tables that there are to be fed, by OID.
    pub(crate) names: BTreeMap<u32, (String, String)>,
    /// Partitions that were truncated, and the stream is to say whether with their root.
    pub(crate) doubts: Vec<Doubt>,
    /// Rows of the feeder's append stream.
    pub(crate) appends: Arc<Buffers>,
}

/// How long a process that is just ending may hold the lease before this one stands by.
const HANDOVER: Duration = Duration::from_secs(1);

/// Source, catalog and store, found to be in order.
struct Checked {
    source: SourceInspection,
    catalog: Catalog,
    /// Registered tables that cannot be fed any further, by source OID.
    given_up: BTreeMap<u32, String>,
}

impl Checked {
    async fn of(config: &FeederConfig, storage: &Arc<dyn Storage>) -> Result<Self, FeederError> {
        let mut source = check::source(config).await?;
        let (catalog, findings) = check::catalog(&config.catalog, &storage.url()).await?;
        // Without privileges there the control tables cannot be asked.
        check::require(findings)?;
        let registered = check::registered(&catalog, config).await?;
        let given_up = check::give_up(&mut source.findings, &registered);
        source
            .plans
            .retain(|plan| !given_up.left_out.contains(&plan.info.id.oid.get()));
        check::require(std::mem::take(&mut source.findings))?;
        check::probe(storage.as_ref()).await?;
        Ok(Self {
            source,
            catalog,
            given_up: given_up.lost,
        })
    }
}

/// Checks, waits until no other process feeds, creates what is missing, and takes the feeder over.
pub(crate) async fn prepare(
    config: &FeederConfig,
    storage: &Arc<dyn Storage>,
    appends: &Arc<Buffers>,
    mode: RunMode,
    status: &watch::Sender<FeederStatus>,
) -> Result<Prepared, FeederError> {
    let mut checked = Checked::of(config, storage).await?;
    if config.catalog.migrate {
        migrations::up(&checked.catalog).await?;
    } else {
        migrations::require(&checked.catalog).await?;
    }
    let owner = owner();
    let mut claimant = Control::new(&checked.catalog, config.name.clone()).claimant(&owner);
    let lease = match claimant.look_for(HANDOVER).await? {
        Look::Taken(lease) => lease,
        Look::Held(_) => {
            checked.source.connection.close().await;
            let lease = if mode == RunMode::Forever {
                standby::wait(&mut claimant, &config.name, status).await?
            } else {
                Control::new(&checked.catalog, config.name.clone())
                    .lease(&mut claimant)
                    .await?
            };
            // What was found is as old as the wait was long.
            checked = Checked::of(config, storage).await?;
            lease
        }
    };
    let Checked {
        mut source,
        catalog,
        given_up,
    } = checked;
    let control = Control::new(&catalog, config.name.clone());
    if lease.seized() && control.raise(&lease, &owner).await?.is_some() {
        // Its generation is gone, so that it cannot come back; and its walsender ends by nobody but us (rule 13).
        slot::release(config, &mut source, Duration::ZERO).await?;
    }
    let known = control.load_feeder().await?;
    let timeline = match &known {
        Some(row) => {
            let slot = source.slot.as_ref();
            lineage::check_start(config, &control, row, &source.identity, slot).await?
        }
        None => None,
    };
    catalog
        .bootstrap(&storage.url())
        .await
        .map_err(from_catalog)?;
    failpoint::reach(Failpoint::LakeMade);
    let lake = catalog.load().await.map_err(from_catalog)?;
    if let Some(row) = &known {
        lineage::check_order(row, &source.identity, &control.tables().await?, &lake)?;
    }

    let published_before = match &known {
        Some(row) => stored_publication(row, &control.tables().await?)?,
        None => Published::default(),
    };
    let mut lost = lost_tables(&published_before, &source);
    lost.extend(given_up);
    let roots = partitions::roots(&source.plans);
    let trees = partitions::read(&mut source.connection, roots.keys()).await?;
    let looked = if known.is_some() && !roots.is_empty() {
        // Rule 22: what happened to the partitions while nobody looked.
        let rows = control.tables().await?;
        PartitionsLook::of(&mut source.connection, &trees, &roots, &rows).await?
    } else {
        PartitionsLook::default()
    };
    for (oid, reason) in &looked.lost {
        lost.entry(*oid).or_insert_with(|| reason.clone());
    }
    let added = alter_publications(config, &control, known.is_some(), &mut source).await?;
    failpoint::reach(Failpoint::PublicationsMade);
    let (row, first_snapshot, fresh) = slot::claim(config, &control, &mut source, known).await?;
    let fence = control.fence(lease, &owner).await?;
    failpoint::reach(Failpoint::FeederFenced);
    if let Some(timeline) = timeline {
        // Before anything is committed beyond the end of the old one.
        control.follow_timeline(&fence, timeline).await?;
    }
    // Read again under the new generation: what another process committed last counts.
    let row = control.load_feeder().await?.unwrap_or(row);

    let checkpoint = row.checkpoint;

    looked.record(&control, &fence).await?;
    let start = registration::Start {
        config,
        source: &source,
        lake: &lake,
        feeder: &row,
        lost: &lost,
        added: &added,
        fresh,
    };
    let rows = registration::reconcile_tables(&control, &fence, start).await?;
    failpoint::reach(Failpoint::TablesRegistered);
    registration::keep_partitions(&control, &fence, &source, &trees).await?;
    let wanted = registration::wanted_shapes(&source.plans, &rows)?;
    let dropped_at_source = registration::dropped(config, &source, &rows);
    let lake = lake_tables::ensure(
        &catalog,
        config,
        &fence,
        row.checkpoint,
        &rows,
        &wanted,
        &dropped_at_source,
    )
    .await?;
    failpoint::reach(Failpoint::LakeTablesMade);
    let rows = control.tables().await?;
    let dropped: Vec<TableTransition> = lake_tables::dropped(&lake, &rows)
        .map(|row| {
            let reason = format!(
                "its lake table {}.{} was dropped",
                row.target_schema, row.target_table
            );
            TableTransition::error(row.source_oid, checkpoint, 0, reason)
        })
        .collect();
    control.update_tables(&fence, &dropped).await?;
    let rows = control.tables().await?;
    let mut tables = registration::fed_tables(&lake, config, &source.plans, &rows)?;
    let leaving = registration::leaving_tables(&lake, config, &source, &rows)?;
    let leaving_oids = leaving
        .iter()
        .map(|table| table.lake().source_oid)
        .collect();
    tables.extend(leaving);

    let publications = publish::read(&mut source.connection, config).await?;
    // One that took the place of a table of ours is not fed before it is asked for.
    let covered: Vec<Covered> = source
        .plans
        .iter()
        .filter(|plan| {
            rows.iter()
                .any(|row| row.source_oid == plan.info.id.oid.get())
        })
        .map(Covered::of)
        .collect();
    let published = Published::of(&publications, &covered);
    store_publication(&control, &fence, &published).await?;
    failpoint::reach(Failpoint::PublicationsStored);
    let keyless = source
        .plans
        .iter()
        .filter(|plan| plan.keyless)
        .map(|plan| plan.info.id.oid.get())
        .collect();
    append::begin(appends, &catalog, &control).await?;
    let names = source
        .plans
        .iter()
        .map(|plan| {
            let name = (plan.selection.schema.clone(), plan.selection.name.clone());
            (plan.info.id.oid.get(), name)
        })
        .collect();
    source.connection.close().await;
    let fence = Arc::new(fence);
    Ok(Prepared {
        source: Source {
            config: config.clone(),
            slot: config.source.slot.clone(),
            publications: publications
                .into_iter()
                .filter(publish::is_streamed(config))
                .map(|publication| publication.name)
                .collect(),
            system_id: source.identity.system_id,
            timeline: source.identity.timeline,
            control: control.clone(),
            fence: Arc::clone(&fence),
        },
        catalog,
        control,
        fence,
        checkpoint: row.checkpoint,
        last_snapshot: row.last_snapshot,
        commit_timestamp: row.commit_timestamp,
        tables,
        first_snapshot,
        published,
        covered,
        keyless,
        roots,
        leaving: leaving_oids,
        position: source.position,
        names,
        doubts: looked.doubts,
        appends: Arc::clone(appends),
    })
}

fn stored_publication(row: &FeederRow, tables: &[TableRow]) -> Result<Published, FeederError> {
    let unreadable = |error: serde_json::Error| {
        FeederError::permanent(
            FeederErrorKind::Catalog,
            "the control tables hold an unreadable publication state",
        )
        .with_source(error)
    };
    let mut published = Published::default();
    if let Some(state) = row.publication_state.clone() {
        published.publications = serde_json::from_value(state).map_err(unreadable)?;
    }
    for table in tables {
        if let Some(entry) = table.publication.clone() {
            let entry = serde_json::from_value(entry).map_err(unreadable)?;
            published.tables.insert(table.source_oid, entry);
        }
    }
    Ok(published)
}

async fn store_publication(
    control: &Control,
    fence: &Fence,
    published: &Published,
) -> Result<(), FeederError> {
    let value = |value: Result<serde_json::Value, serde_json::Error>| {
        value.map_err(|error| {
            FeederError::permanent(
                FeederErrorKind::Internal,
                "a publication state cannot be written",
            )
            .with_source(error)
        })
    };
    let feeder = value(serde_json::to_value(&published.publications))?;
    let tables = published
        .tables
        .iter()
        .map(|(oid, entry)| Ok((*oid, value(serde_json::to_value(entry))?)))
        .collect::<Result<Vec<_>, FeederError>>()?;
    control.store_publication(fence, &feeder, &tables).await
}

/// Rule 4: what changed in the publications while nobody looked.
fn lost_tables(before: &Published, source: &SourceInspection) -> BTreeMap<u32, String> {
    let covered: Vec<Covered> = source.plans.iter().map(Covered::of).collect();
    let fed: BTreeSet<u32> = covered.iter().map(|table| table.oid).collect();
    let now = Published::of(&source.publications, &covered);
    before
        .lost(&now)
        .into_iter()
        .filter(|(oid, _)| fed.contains(oid))
        .collect()
}

async fn alter_publications(
    config: &FeederConfig,
    control: &Control,
    known: bool,
    source: &mut SourceInspection,
) -> Result<Vec<(String, String)>, FeederError> {
    if !config.source.manage_publication {
        return Ok(Vec::new());
    }
    let major = source.connection.server_version().major();
    let mut wanted = publish::wanted(config, &source.plans, major)?;
    wanted.extend(publish::spare(config, &wanted, &source.publications)?);
    let generated = source
        .plans
        .iter()
        .any(|plan| plan.stored_columns().next().is_some());
    let found = &source.publications;
    let added = publish::reconcile(&mut source.connection, &wanted, found, generated).await?;
    if known {
        // Before the commit: a crash after it would leave a table that seems to have been taken out by somebody.
        ask_for_copies(control, &source.plans, &added).await?;
    }
    publish::commit(&mut source.connection).await?;
    Ok(added)
}

async fn ask_for_copies(
    control: &Control,
    plans: &[TablePlan],
    added: &[(String, String)],
) -> Result<(), FeederError> {
    for row in control.tables().await? {
        let is_added = |plan: &&TablePlan| {
            plan.info.id.oid.get() == row.source_oid
                && added.contains(&(plan.selection.schema.clone(), plan.selection.name.clone()))
        };
        if row.state == TableState::Streaming && plans.iter().any(|plan| is_added(&plan)) {
            control
                .request_resync(&row.source_schema, &row.source_table)
                .await?;
        }
    }
    Ok(())
}

/// Who holds the feeder, for people.
pub(crate) fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}
