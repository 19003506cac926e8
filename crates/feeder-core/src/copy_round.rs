//! What a round of copies begins with: a snapshot of the source, and the tables as they are now.

use std::sync::Arc;

use cdc_source::{Connection, SessionKind, SlotName, TableKind, server, tables};
use pgoutput::{Lsn, Oid};
use rand::Rng as _;

use crate::config::BackfillMode;
use crate::control::{Fence, TableTransition};
use crate::encode::RowOptions;
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::evolution::Found;
use crate::failpoint::{self, Failpoint};
use crate::file::LakeTable;
use crate::intake::FedTable;
use crate::layout::SourceColumn;
use crate::partitions;
use crate::select::Selection;
use crate::stream::Source;
use crate::table_look::{self, LookedAt};
use crate::version::TableVersion;

/// A table that a round of copies should take.
pub(crate) struct Wanted {
    version: Arc<TableVersion>,
    selection: Selection,
    options: RowOptions,
}

impl Wanted {
    pub(crate) fn of(table: &FedTable) -> Self {
        Self {
            version: Arc::clone(&table.version),
            selection: table.selection.clone(),
            options: table.options(),
        }
    }

    fn lake(&self) -> &Arc<LakeTable> {
        &self.version.lake
    }
}

/// A table to copy.
#[derive(Clone, Debug)]
pub(crate) struct CopyRequest {
    pub(crate) lake: Arc<LakeTable>,
    pub(crate) columns: Vec<SourceColumn>,
    /// Columns that tell its rows apart, for what is said of a value that does not fit.
    pub(crate) key: Vec<String>,
    pub(crate) options: RowOptions,
    pub(crate) row_filter: Option<String>,
    pub(crate) root: Leaf,
    /// Heap relations that hold the rows: the table itself, or its leaf partitions. None are copied from when the
    /// changelog is to begin without the rows there are.
    pub(crate) leaves: Vec<Leaf>,
    /// From the source's statistics, for progress.
    pub(crate) estimated_rows: u64,
}

/// A heap relation.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) oid: Oid,
    pub(crate) schema: String,
    pub(crate) name: String,
}

/// A snapshot of the source that everything of one round is read under.
pub(crate) struct CopySnapshot {
    /// Commits before it are in the snapshot, all others in the stream.
    pub(crate) point: Lsn,
    /// The name under which it is exported.
    pub(crate) name: String,
}

/// What a round begins with.
pub(crate) struct Round {
    pub(crate) exporter: Connection,
    pub(crate) snapshot: CopySnapshot,
    pub(crate) requests: Vec<CopyRequest>,
    /// Tables whose definition is another one at the source: they are copied once the stream has passed the look at them.
    pub(crate) changed: Vec<(u32, Found)>,
    pub(crate) looked: LookedAt,
}

/// Gets a snapshot (the one of the new main slot, or of a temporary slot) and the tables as they are now.
pub(crate) async fn prepare(
    source: &Source,
    fence: &Fence,
    first: Option<(Connection, CopySnapshot)>,
    wanted: Vec<Wanted>,
) -> Result<Round, FeederError> {
    let endpoint = &source.config.source.endpoint;
    let oids: Vec<Oid> = wanted
        .iter()
        .map(|table| Oid::new(table.lake().source_oid))
        .collect();
    let mut connection = Connection::connect(endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)?;
    let mut transitions: Vec<TableTransition> = wanted
        .iter()
        .map(|table| TableTransition::copying(table.lake().source_oid))
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
    let looks: Vec<table_look::Wanted> = wanted
        .iter()
        .map(|table| table_look::Wanted {
            source_oid: table.lake().source_oid,
            selection: table.selection.clone(),
            types: Vec::new(),
            announced: None,
        })
        .collect();
    let before = server::wal_position(&mut connection)
        .await
        .map_err(from_source)?;
    let found = table_look::over(&mut connection, &source.config, &looks).await?;
    let after = server::wal_position(&mut connection)
        .await
        .map_err(from_source)?;
    connection.close().await;
    let mut requests = Vec::new();
    let mut changed: Vec<(u32, Found)> = Vec::new();
    for (table, found) in wanted.into_iter().zip(found) {
        let Some(plan) = &found.plan else { continue };
        if !table.version.shape.agrees(&plan.shape) {
            changed.push((table.lake().source_oid, found));
            continue;
        }
        let info = &plan.info;
        let own = Leaf {
            oid: info.id.oid,
            schema: info.id.schema.clone(),
            name: info.id.name.clone(),
        };
        let leaves = if table.selection.backfill == BackfillMode::Never {
            Vec::new()
        } else if info.leaves.is_empty() && info.id.kind == TableKind::Ordinary {
            vec![own.clone()]
        } else {
            info.leaves
                .iter()
                .map(|leaf| Leaf {
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
            lake: Arc::clone(table.lake()),
            columns: table.version.columns.clone(),
            key: table.version.shape.key.clone(),
            options: table.options,
            row_filter: table.selection.row_filter,
            root: own,
            leaves,
            estimated_rows,
        });
    }
    let mut redefined: Vec<&mut Found> = changed.iter_mut().map(|(_, found)| found).collect();
    table_look::add_stated(&source.control, &mut redefined).await?;
    Ok(Round {
        exporter,
        snapshot,
        requests,
        changed,
        looked: LookedAt { before, after },
    })
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
