//! From a configuration to a feeder that is ready to stream: checks first, then whatever is missing is made.
//!
//! Order matters (rules 3 and 6 of ARCHITECTURE.md): the publication is altered and committed before the slot, so
//! that a snapshot never misses what the publication does not yet send.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cdc_source::{
    Connection, PublicationName, ReplicationStream, SessionKind, SlotName, StreamOptions,
    SystemIdentity, publication, slot, tables,
};
use ducklake_catalog::Catalog;
use pgoutput::{Lsn, Oid, ProtocolVersion};
use rand::Rng as _;
use storage::Storage;

use crate::backfill::{CopyRequest, CopySnapshot};
use crate::check::{self, SourceInspection};
use crate::config::{BackfillMode, FeederConfig};
use crate::control::{
    Control, FeederRow, Fence, NewFeeder, NewTable, TableRow, TableTransition, migrations,
};
use crate::error::{FeederError, FeederErrorKind, from_catalog, from_source};
use crate::file::LakeTable;
use crate::intake::FedTable;
use crate::lake_tables;
use crate::layout::SourceColumn;
use crate::plan::TablePlan;
use crate::publish::{self, Published};
use crate::status::TableState;

/// How long the walsender of a process that is gone may hold the slot before it is ended.
const SLOT_WAIT: Duration = Duration::from_secs(3);

/// Everything that a run needs.
pub(crate) struct Prepared {
    pub(crate) catalog: Catalog,
    pub(crate) control: Control,
    pub(crate) fence: Arc<Fence>,
    pub(crate) checkpoint: Lsn,
    pub(crate) last_snapshot: Option<i64>,
    pub(crate) tables: Vec<FedTable>,
    /// Why tables are in error, by source OID.
    pub(crate) errors: BTreeMap<u32, String>,
    pub(crate) source: Source,
    /// The snapshot of a slot that was just made, with the session that exports it.
    pub(crate) first_snapshot: Option<(Connection, CopySnapshot)>,
    /// What the publications looked like when the feeder last altered them.
    pub(crate) published: Published,
    /// OID and schema of all tables.
    pub(crate) covered: Vec<(u32, String)>,
    /// Tables of which only inserts and truncates are published.
    pub(crate) keyless: BTreeSet<u32>,
}

/// How to get at the stream.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) config: FeederConfig,
    slot: SlotName,
    publications: Vec<PublicationName>,
    system_id: u64,
    timeline: u32,
    control: Control,
}

/// Checks, creates what is missing, and takes the feeder over.
pub(crate) async fn prepare(
    config: &FeederConfig,
    storage: &Arc<dyn Storage>,
) -> Result<Prepared, FeederError> {
    let mut source = check::source(config).await?;
    check::require(std::mem::take(&mut source.findings))?;
    let (catalog, findings) = check::catalog(config, &storage.url()).await?;
    check::require(findings)?;
    check::probe(storage.as_ref()).await?;

    if config.catalog.migrate {
        migrations::up(&catalog).await?;
    } else {
        migrations::require(&catalog).await?;
    }
    let control = Control::new(&catalog, config.name.clone());
    let lock = control.lock().await?;
    let known = control.load_feeder().await?;
    if let Some(row) = &known {
        check_lineage(config, row, &source)?;
    }
    catalog
        .bootstrap(&storage.url())
        .await
        .map_err(from_catalog)?;

    let published_before = match &known {
        Some(row) => stored_publication(row, &control.tables().await?)?,
        None => Published::default(),
    };
    let lost = lost_tables(&published_before, &source);
    let added = alter_publications(config, &mut source).await?;
    let (row, first_snapshot, fresh) = slot_and_row(config, &control, &mut source, known).await?;
    let fence = control.fence(lock, &owner()).await?;
    // Read again under the new generation: what another process committed last counts.
    let row = control.load_feeder().await?.unwrap_or(row);

    let rows = reconcile_tables(&control, &fence, &source, &row, &lost, &added, fresh).await?;
    let wanted = wanted_shapes(&source.plans, &rows)?;
    let lake = lake_tables::ensure(&catalog, config, &fence, row.checkpoint, &wanted).await?;
    let rows = control.tables().await?;
    let (tables, errors) = fed_tables(config, &lake, &source.plans, &rows)?;

    let publications = publish::read(&mut source.connection, config).await?;
    let covered: Vec<(u32, String)> = source
        .plans
        .iter()
        .map(|plan| (plan.info.id.oid.get(), plan.selection.schema.clone()))
        .collect();
    let published = Published::of(&publications, &covered);
    store_publication(&control, &fence, &published).await?;
    let keyless = source
        .plans
        .iter()
        .filter(|plan| plan.keyless)
        .map(|plan| plan.info.id.oid.get())
        .collect();
    source.connection.close().await;
    Ok(Prepared {
        source: Source {
            config: config.clone(),
            slot: config.source.slot.clone(),
            publications: publications
                .into_iter()
                .map(|publication| publication.name)
                .collect(),
            system_id: source.identity.system_id,
            timeline: source.identity.timeline,
            control: control.clone(),
        },
        catalog,
        control,
        fence: Arc::new(fence),
        checkpoint: row.checkpoint,
        last_snapshot: row.last_snapshot,
        tables,
        errors,
        first_snapshot,
        published,
        covered,
        keyless,
    })
}

/// I12: the source must be the one that the checkpoint is about.
fn check_lineage(
    config: &FeederConfig,
    row: &FeederRow,
    source: &SourceInspection,
) -> Result<(), FeederError> {
    let again = format!(
        "if this is meant, run `duckfeeder teardown` and start again: all tables of feeder {} are copied anew",
        config.name
    );
    let gap = |message: String| {
        Err(FeederError::permanent(FeederErrorKind::Gap, message).with_remedy(again.clone()))
    };
    if row.torn_down {
        return Ok(());
    }
    if row.system_identifier != source.identity.system_id.to_string() {
        return gap(format!(
            "feeder {} was fed by the server with system identifier {}, this one is {}",
            config.name, row.system_identifier, source.identity.system_id
        ));
    }
    if row.timeline != source.identity.timeline {
        return gap(format!(
            "the source is on timeline {}, the checkpoint is on {}: it failed over or was restored",
            source.identity.timeline, row.timeline
        ));
    }
    if source.identity.xlog_pos < row.checkpoint {
        return gap(format!(
            "the source's WAL ends at {}, before the checkpoint {}: it was restored from a backup",
            source.identity.xlog_pos, row.checkpoint
        ));
    }
    let Some(slot) = &source.slot else {
        return gap(format!(
            "slot {} is gone: the changes since {} are lost",
            config.source.slot.as_str(),
            row.checkpoint
        ));
    };
    if slot.wal_status.as_deref() == Some("lost") {
        return gap(format!(
            "slot {} was invalidated ({}): the changes since {} are lost",
            config.source.slot.as_str(),
            slot.invalidation_reason
                .as_deref()
                .unwrap_or("its WAL was removed; see max_slot_wal_keep_size"),
            row.checkpoint
        ));
    }
    match slot.confirmed_flush {
        Some(confirmed) if confirmed > row.checkpoint => gap(format!(
            "slot {} was moved to {confirmed}, beyond the checkpoint {}: the changes in between are lost",
            config.source.slot.as_str(),
            row.checkpoint
        )),
        _ => Ok(()),
    }
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
    let covered: Vec<(u32, String)> = source
        .plans
        .iter()
        .map(|plan| (plan.info.id.oid.get(), plan.selection.schema.clone()))
        .collect();
    let fed: BTreeSet<u32> = covered.iter().map(|(oid, _)| *oid).collect();
    let now = Published::of(&source.publications, &covered);
    before
        .lost(&now)
        .into_iter()
        .filter(|(oid, _)| fed.contains(oid))
        .collect()
}

async fn alter_publications(
    config: &FeederConfig,
    source: &mut SourceInspection,
) -> Result<Vec<(String, String)>, FeederError> {
    if !config.source.manage_publication {
        return Ok(Vec::new());
    }
    let wanted = publish::wanted(config, &source.plans)?;
    publish::reconcile(&mut source.connection, &wanted, &source.publications).await
}

/// Makes the slot or takes over what is there (rule 3). The last value says that every table needs a copy.
async fn slot_and_row(
    config: &FeederConfig,
    control: &Control,
    source: &mut SourceInspection,
    known: Option<FeederRow>,
) -> Result<(FeederRow, Option<(Connection, CopySnapshot)>, bool), FeederError> {
    let registered = known.as_ref().is_some_and(|row| !row.torn_down);
    if let (Some(row), true) = (&known, registered) {
        release_slot(config, source).await?;
        return Ok((row.clone(), None, false));
    }
    let confirmed = source.slot.as_ref().and_then(|slot| slot.confirmed_flush);
    let (checkpoint, snapshot) = if let Some(confirmed) = confirmed {
        // A slot without a checkpoint: what it confirmed is lost to us, so everything is copied again.
        release_slot(config, source).await?;
        (confirmed, None)
    } else {
        let mut replication =
            Connection::connect(&config.source.endpoint, SessionKind::Replication)
                .await
                .map_err(from_source)?;
        let created = replication
            .create_slot(&config.source.slot, false)
            .await
            .map_err(from_source)?;
        let point = created.consistent_point;
        let name = created.snapshot;
        (point, Some((replication, CopySnapshot { point, name })))
    };
    let new = NewFeeder {
        system_identifier: source.identity.system_id.to_string(),
        timeline: source.identity.timeline,
        slot: config.source.slot.as_str().to_owned(),
        publication: config.source.publication.as_str().to_owned(),
        checkpoint,
    };
    control.register(&new).await?;
    let row = control.load_feeder().await?.ok_or_else(|| {
        FeederError::permanent(FeederErrorKind::Internal, "the feeder's row is gone")
    })?;
    Ok((row, snapshot, true))
}

/// The lock is ours, so whoever streams from the slot is a session that outlived its process.
async fn release_slot(
    config: &FeederConfig,
    source: &mut SourceInspection,
) -> Result<(), FeederError> {
    let begun = Instant::now();
    let mut ended = false;
    loop {
        let found = slot::inspect(&mut source.connection, &config.source.slot)
            .await
            .map_err(from_source)?;
        let Some(pid) = found.and_then(|slot| slot.active_pid) else {
            return Ok(());
        };
        if begun.elapsed() >= SLOT_WAIT && !ended {
            if !is_ours(
                &mut source.connection,
                pid,
                &config.source.endpoint.application_name,
            )
            .await?
            {
                return Err(FeederError::permanent(
                    FeederErrorKind::Source,
                    format!(
                        "slot {} is in use by process {pid}, which is not this feeder's",
                        config.source.slot.as_str()
                    ),
                )
                .with_remedy("end that process, or name another slot as source.slot"));
            }
            tracing::warn!(pid, "ending the walsender of a duckfeeder that is gone");
            slot::terminate_walsender(&mut source.connection, pid)
                .await
                .map_err(from_source)?;
            ended = true;
        }
        if begun.elapsed() >= 4 * SLOT_WAIT {
            return Err(FeederError::transient(
                FeederErrorKind::Source,
                format!(
                    "slot {} is still in use by process {pid}",
                    config.source.slot.as_str()
                ),
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn is_ours(
    connection: &mut Connection,
    pid: i32,
    application: &str,
) -> Result<bool, FeederError> {
    let sql =
        format!("select application_name from pg_catalog.pg_stat_replication where pid = {pid}");
    let rows = connection.query(&sql).await.map_err(from_source)?;
    Ok(rows
        .first()
        .and_then(|row| row.get(0))
        .is_none_or(|name| name == application))
}

/// Brings the control rows in line with the configuration.
async fn reconcile_tables(
    control: &Control,
    fence: &Fence,
    source: &SourceInspection,
    feeder: &FeederRow,
    lost: &BTreeMap<u32, String>,
    added: &[(String, String)],
    fresh: bool,
) -> Result<Vec<TableRow>, FeederError> {
    control.take_resync_requests(fence).await?;
    let rows = control.tables().await?;
    let mut transitions = Vec::new();
    let mut new = Vec::new();
    for plan in &source.plans {
        let oid = plan.info.id.oid.get();
        let shape = serde_json::to_value(&plan.shape).map_err(|error| {
            FeederError::permanent(
                FeederErrorKind::Internal,
                "a table's shape cannot be written",
            )
            .with_source(error)
        })?;
        let Some(row) = rows.iter().find(|row| row.source_oid == oid) else {
            // A table that was dropped and made again has another OID but wants the same lake table.
            if let Some(old) = rows.iter().find(|row| {
                row.target_schema == plan.selection.target_schema
                    && row.target_table == plan.selection.target_table
            }) {
                return Err(replaced(plan, old));
            }
            new.push(NewTable {
                source_oid: oid,
                source_schema: plan.selection.schema.clone(),
                source_table: plan.selection.name.clone(),
                target_schema: plan.selection.target_schema.clone(),
                target_table: plan.selection.target_table.clone(),
                lake_table_id: None,
                shape,
                publication: None,
            });
            continue;
        };
        let put_in = added.contains(&(plan.selection.schema.clone(), plan.selection.name.clone()));
        match row.state {
            _ if fresh => transitions.push(TableTransition::pending(oid)),
            TableState::Streaming | TableState::Copying if lost.contains_key(&oid) => {
                let reason = lost.get(&oid).cloned().unwrap_or_default();
                tracing::error!(table = %plan.source(), reason, "the table goes to state error; resync it");
                transitions.push(TableTransition::error(oid, feeder.checkpoint, 0, reason));
            }
            // Back in the configuration, put into the publication anew, or a copy that did not end.
            TableState::Paused | TableState::Copying => {
                transitions.push(TableTransition::pending(oid));
            }
            TableState::Streaming if put_in => transitions.push(TableTransition::pending(oid)),
            TableState::Streaming | TableState::Pending | TableState::Error => {}
        }
    }
    for row in &rows {
        let fed = source
            .plans
            .iter()
            .any(|plan| plan.info.id.oid.get() == row.source_oid);
        if !fed && row.state != TableState::Paused {
            tracing::info!(
                table = format!("{}.{}", row.source_schema, row.source_table),
                "the table is not fed any more"
            );
            transitions.push(TableTransition::paused(row.source_oid));
        }
    }
    control.insert_tables(fence, &new).await?;
    control.update_tables(fence, &transitions).await?;
    control.tables().await
}

fn replaced(plan: &TablePlan, old: &TableRow) -> FeederError {
    FeederError::permanent(
        FeederErrorKind::Gap,
        format!(
            "{} is another table than the one that lake table {} was fed from (OID {} before, {} now): it was dropped and made again",
            plan.source(),
            plan.target(),
            old.source_oid,
            plan.info.id.oid
        ),
    )
    .with_remedy("feed it into another target_table")
}

/// The shape that each lake table must have: a table that waits for its copy gets the source's current one.
fn wanted_shapes<'a>(
    plans: &'a [TablePlan],
    rows: &'a [TableRow],
) -> Result<Vec<lake_tables::Wanted<'a>>, FeederError> {
    let mut wanted = Vec::new();
    for plan in plans {
        let Some(row) = rows
            .iter()
            .find(|row| row.source_oid == plan.info.id.oid.get())
        else {
            continue;
        };
        let shape = if row.state == TableState::Pending {
            plan.shape.clone()
        } else if row.lake_table_id.is_some() {
            continue;
        } else {
            lake_tables::stored_shape(row)?
        };
        wanted.push(lake_tables::Wanted { plan, row, shape });
    }
    Ok(wanted)
}

fn fed_tables(
    config: &FeederConfig,
    lake: &ducklake_catalog::Lake,
    plans: &[TablePlan],
    rows: &[TableRow],
) -> Result<(Vec<FedTable>, BTreeMap<u32, String>), FeederError> {
    let mut fed = Vec::new();
    let mut errors = BTreeMap::new();
    for plan in plans {
        let oid = plan.info.id.oid.get();
        let Some(row) = rows.iter().find(|row| row.source_oid == oid) else {
            continue;
        };
        let shape = lake_tables::stored_shape(row)?;
        if let Some(error) = &row.error {
            errors.insert(oid, error.reason.clone());
        }
        let Some(table) = lake_tables::describe(lake, row, &shape, &plan.numeric)? else {
            return Err(FeederError::permanent(
                FeederErrorKind::Catalog,
                format!(
                    "lake table {}, which {} is fed into, was dropped",
                    plan.target(),
                    plan.source()
                ),
            )
            .with_remedy(format!(
                "`duckfeeder resync {}` makes it anew and copies the table (feeder {})",
                plan.source(),
                config.name
            )));
        };
        fed.push(FedTable {
            columns: shape.source_columns(&plan.numeric),
            excluded: plan.selection.exclude_columns.clone(),
            key: shape.key,
            identity: shape.identity,
            numeric: plan.numeric.clone(),
            row_filter: plan.selection.row_filter.clone(),
            copy_rows: plan.selection.backfill == BackfillMode::Initial,
            state: row.state,
            lake: Arc::new(table),
        });
    }
    Ok((fed, errors))
}

/// A stream that was just opened.
pub(crate) struct Opened {
    pub(crate) stream: ReplicationStream,
    /// Where the source's WAL ended then.
    pub(crate) wal_end: Lsn,
}

/// Opens the stream at the checkpoint, after the checks of every connect (rule 3).
pub(crate) async fn open_stream(
    source: &Source,
    checkpoint: Lsn,
    binary: bool,
) -> Result<Opened, FeederError> {
    let endpoint = &source.config.source.endpoint;
    let mut connection = Connection::connect(endpoint, SessionKind::Replication)
        .await
        .map_err(from_source)?;
    let identity = connection.identify_system().await.map_err(from_source)?;
    check_identity(source, &identity, checkpoint)?;
    let found = slot::inspect(&mut connection, &source.slot)
        .await
        .map_err(from_source)?;
    let confirmed = found.and_then(|slot| slot.confirmed_flush).ok_or_else(|| {
        gap(
            source,
            format!(
                "slot {} is gone: the changes since {checkpoint} are lost",
                source.slot.as_str()
            ),
        )
    })?;
    if confirmed > checkpoint {
        return Err(gap(
            source,
            format!(
                "slot {} was moved to {confirmed}, beyond the checkpoint {checkpoint}",
                source.slot.as_str()
            ),
        ));
    }
    let options = StreamOptions {
        binary,
        messages: false,
        protocol: ProtocolVersion::V1,
    };
    let stream = connection
        .start_replication(&source.slot, checkpoint, &source.publications, options)
        .await
        .map_err(from_source)?;
    tracing::info!(slot = source.slot.as_str(), from = %checkpoint, binary, "streaming");
    Ok(Opened {
        stream,
        wal_end: identity.xlog_pos,
    })
}

fn check_identity(
    source: &Source,
    identity: &SystemIdentity,
    checkpoint: Lsn,
) -> Result<(), FeederError> {
    if identity.system_id != source.system_id || identity.timeline != source.timeline {
        return Err(gap(
            source,
            "the source is another server or timeline than before".to_owned(),
        ));
    }
    if identity.xlog_pos < checkpoint {
        return Err(gap(
            source,
            format!(
                "the source's WAL ends at {}, before the checkpoint {checkpoint}",
                identity.xlog_pos
            ),
        ));
    }
    Ok(())
}

fn gap(source: &Source, message: String) -> FeederError {
    FeederError::permanent(FeederErrorKind::Gap, message).with_remedy(format!(
        "if this is meant, run `duckfeeder teardown` and start again: all tables of feeder {} are copied anew",
        source.config.name
    ))
}

/// A table that a round of copies should take.
pub(crate) struct Wanted {
    lake: Arc<LakeTable>,
    columns: Vec<SourceColumn>,
    row_filter: Option<String>,
    copy_rows: bool,
}

impl Wanted {
    pub(crate) fn of(table: &FedTable) -> Self {
        Self {
            lake: Arc::clone(&table.lake),
            columns: table.columns.clone(),
            row_filter: table.row_filter.clone(),
            copy_rows: table.copy_rows,
        }
    }
}

/// Gets a snapshot (the one of the new main slot, or of a temporary slot) and the tables as they are now.
pub(crate) async fn prepare_round(
    source: &Source,
    fence: &Fence,
    first: Option<(Connection, CopySnapshot)>,
    wanted: Vec<Wanted>,
) -> Result<(Connection, CopySnapshot, Vec<CopyRequest>), FeederError> {
    let transitions: Vec<TableTransition> = wanted
        .iter()
        .map(|table| TableTransition::copying(table.lake.source_oid))
        .collect();
    source.control.update_tables(fence, &transitions).await?;
    let endpoint = &source.config.source.endpoint;
    let (exporter, snapshot) = if let Some(first) = first {
        first
    } else {
        let mut exporter = Connection::connect(endpoint, SessionKind::Replication)
            .await
            .map_err(from_source)?;
        let created = exporter
            .create_slot(&temporary_slot(source)?, true)
            .await
            .map_err(from_source)?;
        let point = created.consistent_point;
        let name = created.snapshot;
        (exporter, CopySnapshot { point, name })
    };
    let mut connection = Connection::connect(endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)?;
    let oids: Vec<Oid> = wanted
        .iter()
        .map(|table| Oid::new(table.lake.source_oid))
        .collect();
    let infos = tables::describe(&mut connection, &oids)
        .await
        .map_err(from_source)?;
    connection.close().await;
    let mut requests = Vec::new();
    for table in wanted {
        let info = infos
            .iter()
            .find(|info| info.id.oid.get() == table.lake.source_oid);
        let Some(info) = info else { continue };
        let own = crate::backfill::Leaf {
            oid: info.id.oid,
            schema: info.id.schema.clone(),
            name: info.id.name.clone(),
        };
        let leaves = if !table.copy_rows {
            Vec::new()
        } else if info.leaves.is_empty() && info.id.kind == cdc_source::TableKind::Ordinary {
            vec![own.clone()]
        } else {
            info.leaves
                .iter()
                .map(|leaf| crate::backfill::Leaf {
                    oid: leaf.id.oid,
                    schema: leaf.id.schema.clone(),
                    name: leaf.id.name.clone(),
                })
                .collect()
        };
        let estimated_rows = match info.rows {
            Some(rows) => rows,
            None => info.leaves.iter().filter_map(|leaf| leaf.rows).sum(),
        };
        requests.push(CopyRequest {
            lake: table.lake,
            columns: table.columns,
            row_filter: table.row_filter,
            root: own,
            leaves,
            estimated_rows,
        });
    }
    Ok((exporter, snapshot, requests))
}

fn temporary_slot(source: &Source) -> Result<SlotName, FeederError> {
    let name = format!("duckfeeder_copy_{:016x}", rand::rng().random::<u64>());
    SlotName::parse(&name).map_err(|error| {
        FeederError::permanent(
            FeederErrorKind::Internal,
            format!("temporary slot of feeder {}", source.config.name),
        )
        .with_source(error)
    })
}

/// Who holds the feeder, for people.
fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

/// Drops slot and publications, and marks the feeder; the lake and the control rows of its tables stay.
pub(crate) async fn teardown(config: &FeederConfig) -> Result<Vec<String>, FeederError> {
    let mut dropped = Vec::new();
    let catalog = check::connect_catalog(&config.catalog).await?;
    if migrations::version(&catalog).await?.is_some() {
        let control = Control::new(&catalog, config.name.clone());
        if control.load_feeder().await?.is_some() {
            let fence = control.acquire(&owner()).await?;
            control.tear_down(&fence).await?;
        }
    }
    let mut connection = Connection::connect(&config.source.endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)?;
    if slot::inspect(&mut connection, &config.source.slot)
        .await
        .map_err(from_source)?
        .is_some()
    {
        slot::drop(&mut connection, &config.source.slot)
            .await
            .map_err(from_source)?;
        dropped.push(format!("slot {}", config.source.slot.as_str()));
    }
    if config.source.manage_publication {
        for found in publish::read(&mut connection, config).await? {
            publication::drop(&mut connection, &found.name)
                .await
                .map_err(from_source)?;
            dropped.push(format!("publication {}", found.name.as_str()));
        }
    }
    connection.close().await;
    Ok(dropped)
}
