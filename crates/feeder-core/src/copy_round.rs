//! What a round of copies begins with: a snapshot of the source, and the tables as they are now.

use std::sync::Arc;

use cdc_source::{Connection, SessionKind, SlotName, TableKind, tables};
use pgoutput::Oid;
use rand::Rng as _;

use crate::backfill::{CopyRequest, CopySnapshot};
use crate::control::{Fence, TableTransition};
use crate::encode::RowOptions;
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::failpoint::{self, Failpoint};
use crate::file::LakeTable;
use crate::intake::FedTable;
use crate::layout::SourceColumn;
use crate::partitions;
use crate::stream::Source;

/// A table that a round of copies should take.
pub(crate) struct Wanted {
    lake: Arc<LakeTable>,
    columns: Vec<SourceColumn>,
    key: Vec<String>,
    options: RowOptions,
    row_filter: Option<String>,
    copy_rows: bool,
}

impl Wanted {
    pub(crate) fn of(table: &FedTable) -> Self {
        Self {
            lake: Arc::clone(&table.lake),
            columns: table.columns.clone(),
            key: table.key.clone(),
            options: table.options,
            row_filter: table.row_filter.clone(),
            copy_rows: table.copy_rows,
        }
    }
}

/// Gets a snapshot (the one of the new main slot, or of a temporary slot) and the tables as they are now.
pub(crate) async fn prepare(
    source: &Source,
    fence: &Fence,
    first: Option<(Connection, CopySnapshot)>,
    wanted: Vec<Wanted>,
) -> Result<(Connection, CopySnapshot, Vec<CopyRequest>), FeederError> {
    let endpoint = &source.config.source.endpoint;
    let oids: Vec<Oid> = wanted
        .iter()
        .map(|table| Oid::new(table.lake.source_oid))
        .collect();
    let mut connection = Connection::connect(endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)?;
    let mut transitions: Vec<TableTransition> = wanted
        .iter()
        .map(|table| TableTransition::copying(table.lake.source_oid))
        .collect();
    // The new main slot's snapshot is older than this look, so what was seen before the slot was made stays.
    if first.is_none() {
        transitions.extend(kept_partitions(&mut connection, &oids).await?);
    }
    source.control.update_tables(fence, &transitions).await?;
    failpoint::reach(Failpoint::CopyStatesWritten);
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
        failpoint::reach(Failpoint::CopySnapshotExported);
        let point = created.consistent_point;
        let name = created.snapshot;
        (exporter, CopySnapshot { point, name })
    };
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
        } else if info.leaves.is_empty() && info.id.kind == TableKind::Ordinary {
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
            key: table.key,
            options: table.options,
            row_filter: table.row_filter,
            root: own,
            leaves,
            estimated_rows,
        });
    }
    Ok((exporter, snapshot, requests))
}

/// Rule 22: the partitions of these tables, as they are before the snapshot is taken.
async fn kept_partitions(
    connection: &mut Connection,
    oids: &[Oid],
) -> Result<Vec<TableTransition>, FeederError> {
    let infos = tables::describe(connection, oids)
        .await
        .map_err(from_source)?;
    let roots: Vec<Oid> = infos
        .iter()
        .filter(|info| info.id.kind == TableKind::Partitioned)
        .map(|info| info.id.oid)
        .collect();
    let trees = partitions::read(connection, &roots).await?;
    roots
        .iter()
        .map(|oid| {
            let kept = partitions::to_keep(&trees, *oid)?;
            Ok(TableTransition::partitions(oid.get(), kept))
        })
        .collect()
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
