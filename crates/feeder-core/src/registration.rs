//! The control rows of the fed tables, brought in line with configuration and source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cdc_source::partitions::PartitionTrees;
use pgoutput::Oid;

use crate::check::SourceInspection;
use crate::config::{BackfillMode, FeederConfig};
use crate::control::{Control, FeederRow, Fence, NewTable, TableRow, TableTransition};
use crate::encode::RowOptions;
use crate::error::{FeederError, FeederErrorKind};
use crate::failpoint::{self, Failpoint};
use crate::intake::FedTable;
use crate::lake_tables;
use crate::partitions;
use crate::plan::TablePlan;
use crate::status::TableState;

/// Brings the control rows in line with the configuration.
pub(crate) async fn reconcile_tables(
    control: &Control,
    fence: &Fence,
    source: &SourceInspection,
    feeder: &FeederRow,
    lost: &BTreeMap<u32, String>,
    added: &[(String, String)],
    fresh: bool,
) -> Result<Vec<TableRow>, FeederError> {
    let requested = control.take_resync_requests(fence).await?;
    if !requested.is_empty() {
        failpoint::reach(Failpoint::ResyncsTaken);
    }
    let rows = control.tables().await?;
    let mut transitions = Vec::new();
    let mut new = Vec::new();
    let mut replaced = BTreeSet::new();
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
            if let Some(old) = rows.iter().find(|row| has_target(row, plan)) {
                replaced.insert(old.source_oid);
                transitions.extend(take_place(plan, old, feeder, fresh)?);
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
        if !fed && row.state != TableState::Paused && !replaced.contains(&row.source_oid) {
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
        .filter(|oid| roots.contains(oid))
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

fn has_target(row: &TableRow, plan: &TablePlan) -> bool {
    row.target_schema == plan.selection.target_schema
        && row.target_table == plan.selection.target_table
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
    if (&old.source_schema, &old.source_table) != (&plan.selection.schema, &plan.selection.name) {
        return Err(FeederError::permanent(
            FeederErrorKind::Config,
            format!(
                "{} is to be fed into {}, which holds the history of {}.{}",
                plan.source(),
                plan.target(),
                old.source_schema,
                old.source_table
            ),
        )
        .with_remedy("feed it into another target_table"));
    }
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
        _ => vec![
            TableTransition::replaced(old.source_oid, oid),
            TableTransition::pending(oid),
        ],
    })
}

/// The shape that each lake table must have: a table that waits for its copy gets the source's current one.
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
        fed.push(FedTable {
            columns: shape.source_columns(&plan.settings),
            ignored: plan.ignored(&shape),
            generated: plan.stored_columns().cloned().collect(),
            key: shape.key,
            options: RowOptions {
                on_unrepresentable: config.policy.on_unrepresentable,
                before_image: shape.before_image,
            },
            unrepresentable: row.unrepresentable,
            identity: shape.identity,
            settings: plan.settings.clone(),
            row_filter: plan.selection.row_filter.clone(),
            copy_rows: plan.selection.backfill == BackfillMode::Initial,
            state: row.state,
            error: row.error.as_ref().map(|error| error.reason.clone()),
            discarded: row.error.as_ref().map_or(0, |error| error.discarded),
            lake: Arc::new(table),
        });
    }
    Ok(fed)
}
