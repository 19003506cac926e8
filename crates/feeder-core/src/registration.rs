//! The control rows of the fed tables, brought in line with configuration and source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cdc_source::partitions::PartitionTrees;
use ducklake_catalog::TableId;
use pgoutput::{Lsn, Oid};

use crate::check::SourceInspection;
use crate::config::{FeederConfig, OnDropTable};
use crate::control::{Control, FeederRow, Fence, NewTable, TableRow, TableTransition};
use crate::error::{FeederError, FeederErrorKind};
use crate::failpoint::{self, Failpoint};
use crate::intake::FedTable;
use crate::lake_tables;
use crate::partitions;
use crate::plan::{SourceShape, TablePlan};
use crate::select;
use crate::status::TableState;
use crate::types::ColumnSettings;
use crate::version::TableVersion;

mod renames;
mod taken;

use taken::{Foreign, Taken};

/// What a start found out before it looks at the control rows.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a FeederConfig,
    pub(crate) source: &'a SourceInspection,
    /// As it is before this start changes it.
    pub(crate) lake: &'a ducklake_catalog::Lake,
    pub(crate) feeder: &'a FeederRow,
    /// Tables whose changes may be missing, with the reason.
    pub(crate) lost: &'a BTreeMap<u32, String>,
    /// Tables, by schema and name, that were put into a publication.
    pub(crate) added: &'a [(String, String)],
    /// The slot is new: everything is copied.
    pub(crate) fresh: bool,
}

/// Brings the control rows in line with the configuration.
pub(crate) async fn reconcile_tables(
    control: &Control,
    fence: &Fence,
    start: Start<'_>,
) -> Result<Vec<TableRow>, FeederError> {
    let Start {
        config,
        source,
        lake,
        feeder,
        lost,
        added,
        fresh,
    } = start;
    let requested = control.take_resync_requests(fence).await?;
    if !requested.is_empty() {
        failpoint::reach(Failpoint::ResyncsTaken);
    }
    let mut rows = control.tables().await?;
    let foreign = Foreign::of(lake, &rows);
    let renames = renames::transitions(&source.plans, &rows, &foreign);
    if !renames.is_empty() {
        // A new table may have the name that one of them had.
        control.update_tables(fence, &renames).await?;
        rows = control.tables().await?;
    }
    let mut taken = Taken::by(&rows, &foreign);
    let mut transitions = Vec::new();
    let mut new = Vec::new();
    let mut replaced = BTreeSet::new();
    for plan in &source.plans {
        let oid = plan.info.id.oid.get();
        let shape = shape_value(&plan.shape)?;
        let Some(row) = rows.iter().find(|row| row.source_oid == oid) else {
            if let Some(old) = rows.iter().find(|row| was_made_again(row, plan)) {
                if !fresh && leaves(config, source, old) {
                    // What came of the old table is read to its end first.
                    continue;
                }
                replaced.insert(old.source_oid);
                transitions.extend(take_place(plan, old, feeder, fresh)?);
                continue;
            }
            if let Err(error) = taken.claim(plan) {
                // Who names a table means it.
                if rows.is_empty() || !plan.selection.by_glob {
                    return Err(error);
                }
                tracing::warn!(
                    table = %plan.source(),
                    remedy = error.remedy(),
                    "a new table is not fed: {error}"
                );
                continue;
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
        if let Some(reason) = displaced(row, lake, &foreign) {
            if row
                .error
                .as_ref()
                .is_none_or(|error| error.reason != reason)
            {
                tracing::error!(table = %plan.source(), reason, "the table goes to state error");
                transitions.push(TableTransition::error(oid, feeder.checkpoint, 0, reason));
            }
            continue;
        }
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
        let left = !fresh && leaves(config, source, row);
        if !fed && !left && row.state != TableState::Paused && !replaced.contains(&row.source_oid) {
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

/// Rule 22: the partitions of a table that waits for its copy are kept as they were before the snapshot.
pub(crate) async fn keep_partitions(
    control: &Control,
    fence: &Fence,
    source: &SourceInspection,
    trees: &PartitionTrees,
) -> Result<(), FeederError> {
    let roots = partitions::roots(&source.plans);
    let rows = control.tables().await?;
    let kept = rows
        .iter()
        .filter(|row| row.state == TableState::Pending)
        .map(|row| Oid::new(row.source_oid))
        .filter(|oid| roots.contains_key(oid))
        .map(|oid| {
            let kept = partitions::to_keep(trees, oid)?;
            Ok(TableTransition::partitions(oid.get(), kept))
        })
        .collect::<Result<Vec<_>, FeederError>>()?;
    if kept.is_empty() {
        return Ok(());
    }
    control.update_tables(fence, &kept).await
}

/// Whether a table was dropped at the source whose last changes are still to be read.
fn leaves(config: &FeederConfig, source: &SourceInspection, row: &TableRow) -> bool {
    row.state == TableState::Streaming
        && !source.existing.contains(&row.source_oid)
        && select::one(config, &row.source_schema, &row.source_table).is_some()
}

pub(crate) fn shape_value(shape: &SourceShape) -> Result<serde_json::Value, FeederError> {
    serde_json::to_value(shape).map_err(|error| {
        FeederError::permanent(
            FeederErrorKind::Internal,
            "a table's shape cannot be written",
        )
        .with_source(error)
    })
}

/// Why a table cannot be made in the lake: it is not there (any more), and what is there is somebody else's (rule 17).
fn displaced(row: &TableRow, lake: &ducklake_catalog::Lake, foreign: &Foreign) -> Option<String> {
    let id = row.lake_table_id.map(TableId::new);
    if id.is_some_and(|id| lake.table(id).is_some()) {
        return None;
    }
    let name = foreign.met_by(&row.target_schema, &row.target_table)?;
    Some(format!(
        "the lake has a {}.{name} already, which this feeder did not make: drop it in DuckDB, then `duckfeeder resync {}.{}`",
        row.target_schema, row.source_schema, row.source_table
    ))
}

/// Whether the row is of a table of the same name, which is fed into the same lake table.
fn was_made_again(row: &TableRow, plan: &TablePlan) -> bool {
    let selection = &plan.selection;
    (&row.source_schema, &row.source_table) == (&selection.schema, &selection.name)
        && (&row.target_schema, &row.target_table)
            == (&selection.target_schema, &selection.target_table)
}

/// A table that was dropped and made again has another OID but wants the same lake table. It gets it where a copy
/// begins its history; else the old one is in error until somebody asks for that.
fn take_place(
    plan: &TablePlan,
    old: &TableRow,
    feeder: &FeederRow,
    fresh: bool,
) -> Result<Vec<TableTransition>, FeederError> {
    let oid = plan.info.id.oid.get();
    Ok(match old.state {
        TableState::Streaming | TableState::Error if !fresh => {
            let reason = format!(
                "it was dropped and made again (OID {} before, {oid} now): its changes from {} on are lost; run `duckfeeder resync {}`",
                old.source_oid,
                feeder.checkpoint,
                plan.source()
            );
            tracing::error!(table = %plan.source(), reason, "the table goes to state error");
            vec![TableTransition::error(
                old.source_oid,
                feeder.checkpoint,
                0,
                reason,
            )]
        }
        _ => {
            let shape = lake_tables::stored_shape(old)?.of_another_table();
            vec![
                TableTransition::replaced(old.source_oid, oid),
                TableTransition::shape(oid, shape_value(&shape)?),
                TableTransition::pending(oid),
            ]
        }
    })
}

/// The tables that the lake must have, in the shape that the stream is in at the checkpoint: what the source's catalog
/// shows now may be later, and is followed when the stream gets there.
pub(crate) fn wanted_shapes<'a>(
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
        let is_made = match row.state {
            TableState::Pending => false,
            // A resync makes it.
            TableState::Error => true,
            _ => row.lake_table_id.is_some(),
        };
        if is_made {
            continue;
        }
        let shape = lake_tables::stored_shape(row)?;
        wanted.push(lake_tables::Wanted { plan, row, shape });
    }
    Ok(wanted)
}

/// Tables that were dropped at the source, whose changes are all in the lake, and whose lake tables are to go too.
pub(crate) fn dropped(
    config: &FeederConfig,
    source: &SourceInspection,
    rows: &[TableRow],
) -> BTreeSet<u32> {
    rows.iter()
        .filter(|row| row.state == TableState::Paused && !source.existing.contains(&row.source_oid))
        .filter(|row| {
            select::one(config, &row.source_schema, &row.source_table)
                .is_some_and(|selection| selection.changes.on_drop_table == OnDropTable::Drop)
        })
        .map(|row| row.source_oid)
        .collect()
}

/// Tables that were dropped at the source and are fed until the stream has come to their end.
pub(crate) fn leaving_tables(
    lake: &ducklake_catalog::Lake,
    config: &FeederConfig,
    source: &SourceInspection,
    rows: &[TableRow],
) -> Result<Vec<FedTable>, FeederError> {
    let mut fed = Vec::new();
    for row in rows.iter().filter(|row| leaves(config, source, row)) {
        let Some(selection) = select::one(config, &row.source_schema, &row.source_table) else {
            continue;
        };
        let settings = ColumnSettings::of(config, &selection);
        let shape = lake_tables::stored_shape(row)?;
        let table = lake_tables::describe(lake, row, &shape, &settings)?;
        let ignored = selection.exclude_columns.clone();
        let version = TableVersion::new(Arc::new(table), shape, &settings, ignored, Vec::new());
        fed.push(FedTable {
            version: Arc::new(version),
            selection,
            settings,
            on_unrepresentable: config.policy.on_unrepresentable,
            unrepresentable: row.unrepresentable,
            state: row.state,
            error: None,
            discarded: 0,
            copy_after: Lsn::ZERO,
        });
    }
    Ok(fed)
}

pub(crate) fn fed_tables(
    lake: &ducklake_catalog::Lake,
    config: &FeederConfig,
    plans: &[TablePlan],
    rows: &[TableRow],
) -> Result<Vec<FedTable>, FeederError> {
    let mut fed = Vec::new();
    for plan in plans {
        let oid = plan.info.id.oid.get();
        let Some(row) = rows.iter().find(|row| row.source_oid == oid) else {
            continue;
        };
        let shape = lake_tables::stored_shape(row)?;
        let table = lake_tables::describe(lake, row, &shape, &plan.settings)?;
        let unfed = plan.unfed(&shape);
        if row.state == TableState::Streaming && !unfed.is_empty() {
            tracing::info!(
                table = %plan.source(),
                columns = unfed.join(", "),
                "generated columns that were not published when the table was copied; `duckfeeder resync` feeds them"
            );
        }
        let ignored = plan.ignored(&shape);
        let generated = plan.stored_columns().cloned().collect();
        let version = TableVersion::new(Arc::new(table), shape, &plan.settings, ignored, generated);
        fed.push(FedTable {
            version: Arc::new(version),
            selection: plan.selection.clone(),
            settings: plan.settings.clone(),
            on_unrepresentable: config.policy.on_unrepresentable,
            unrepresentable: row.unrepresentable,
            state: row.state,
            error: row.error.as_ref().map(|error| error.reason.clone()),
            discarded: row.error.as_ref().map_or(0, |error| error.discarded),
            copy_after: Lsn::ZERO,
        });
    }
    Ok(fed)
}
