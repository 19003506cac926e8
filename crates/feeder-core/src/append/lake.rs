//! The lake's side of append tables: made, given further columns, described for the file writers.

use std::sync::Arc;

use ducklake_catalog::{Catalog, CatalogErrorKind, ChangeSet, Lake, Table, TableDef, TableId};
use pgoutput::Lsn;
use rustc_hash::FxHashMap;
use uuid::Uuid;

use super::META;
use super::buffers::SealedTable;
use super::column::Column;
use super::table::column_defs;
use crate::control::{AppendTableRow, Control, EpochHook, Fence};
use crate::error::{FeederError, FeederErrorKind, from_catalog};
use crate::failpoint::{self, Failpoint};
use crate::file::LakeTable;
use crate::layout::{self, LakeColumn};

/// A table that rows are written to, with the number of columns of the event that were known when it was looked up.
#[derive(Clone, Debug)]
pub(crate) struct WrittenTable {
    pub(crate) columns: usize,
    pub(crate) table: Arc<LakeTable>,
}

/// The events' columns of the lake's append tables, by schema and name.
pub(crate) type KnownColumns = FxHashMap<(String, String), Vec<Column>>;

/// Reads them off the lake.
pub(crate) fn known_columns(lake: &Lake, owned: Vec<AppendTableRow>) -> KnownColumns {
    let columns = owned.into_iter().filter_map(|row| {
        let table = lake.table(TableId::new(row.lake_table_id))?;
        let columns = table.columns.iter().skip(META.len());
        let columns = columns.map(|column| Column::new(column.name.as_str(), column.ty.clone()));
        Some(((row.schema, row.table), columns.collect()))
    });
    columns.collect()
}

/// What each sealed table is in the lake, or why nothing can be written to it.
pub(crate) type Ensured = Vec<(usize, Result<WrittenTable, FeederError>)>;

/// Makes what is missing, in a commit of its own that leaves the checkpoint where it is.
///
/// # Errors
/// Those of the catalog; what is wrong with one table is its own result.
pub(crate) async fn ensure(
    catalog: &Catalog,
    control: &Control,
    fence: &Fence,
    checkpoint: Lsn,
    sealed: &[&SealedTable],
) -> Result<Ensured, FeederError> {
    let lake = catalog.load().await.map_err(from_catalog)?;
    let owned = control.append_tables().await?;
    let mut results = Vec::with_capacity(sealed.len());
    let mut changed = false;
    for table in sealed {
        // One commit each: what cannot be made is no error of the others.
        let mut changes = ChangeSet::new()
            .with_author("duckfeeder")
            .with_message(format!("{}: append tables", control.feeder()))
            .with_extra_info(
                serde_json::json!({ "feeder": control.feeder().as_str() }).to_string(),
            );
        let planned = plan(&lake, &owned, table, control, &mut changes);
        let result = match planned {
            Ok(made) if !changes.is_empty() => {
                changed = true;
                commit(catalog, fence, checkpoint, &changes, made).await?
            }
            planned => planned.map(drop),
        };
        results.push((table.index, result));
    }
    let lake = if changed {
        catalog.load().await.map_err(from_catalog)?
    } else {
        lake
    };
    let described = sealed.iter().zip(results);
    Ok(described
        .map(|(table, (index, result))| (index, result.and_then(|()| describe(&lake, table))))
        .collect())
}

/// The inner error is that of the change itself: it can never be made.
async fn commit(
    catalog: &Catalog,
    fence: &Fence,
    checkpoint: Lsn,
    changes: &ChangeSet,
    made: Made,
) -> Result<Result<(), FeederError>, FeederError> {
    let attempt = Uuid::now_v7();
    let (none, no_files) = (Vec::new(), Vec::new());
    let mut hook = EpochHook::new(fence, attempt, checkpoint, checkpoint, None, none, no_files)
        .with_append_tables(made);
    match catalog.commit(changes, &mut hook).await {
        Ok(_committed) => {
            failpoint::reach(Failpoint::LakeTablesMade);
            Ok(Ok(()))
        }
        Err(error) if *error.kind() == CatalogErrorKind::InvalidChange => {
            Ok(Err(from_catalog(error)))
        }
        Err(error) => Err(retried(&error).unwrap_or_else(|| from_catalog(error))),
    }
}

/// Somebody was faster; what there is now is looked at again.
fn retried(error: &ducklake_catalog::CatalogError) -> Option<FeederError> {
    matches!(
        error.kind(),
        CatalogErrorKind::TableChanged | CatalogErrorKind::NameCollision
    )
    .then(|| FeederError::transient(FeederErrorKind::Catalog, error.to_string()))
}

type Made = Vec<(String, String, ducklake_catalog::TableRef)>;

fn plan(
    lake: &Lake,
    owned: &[AppendTableRow],
    wanted: &SealedTable,
    control: &Control,
    changes: &mut ChangeSet,
) -> Result<Made, FeederError> {
    let (schema, name) = (wanted.schema.as_str(), wanted.table.as_str());
    if lake.find_view(schema, name).is_some() {
        return Err(foreign(schema, name));
    }
    let Some(found) = lake.find_table(schema, name) else {
        let schema_ref = changes.ensure_schema(schema);
        let definition = TableDef::new(name, column_defs(&wanted.columns))
            .with_comment(format!("appended rows, by duckfeeder {}", control.feeder()));
        let table = changes.create_table(schema_ref, definition);
        return Ok(vec![(schema.to_owned(), name.to_owned(), table)]);
    };
    // Rule 17: a table that is not recorded as ours is somebody else's.
    if !owned.iter().any(|row| row.lake_table_id == found.id.get()) {
        return Err(foreign(schema, name));
    }
    let mut missing = Vec::new();
    for definition in column_defs(&wanted.columns) {
        match found.find_column(&definition.name) {
            None => missing.push(definition),
            Some(column) if column.name == definition.name && column.ty == definition.ty => {}
            Some(column) => {
                return Err(FeederError::permanent(
                    FeederErrorKind::Config,
                    format!(
                        "column {:?} of type {} is {:?} of type {} in the lake table {schema}.{name}",
                        definition.name, definition.ty, column.name, column.ty
                    ),
                )
                .with_remedy("start the stream again, with the columns declared as they are in the lake"));
            }
        }
    }
    for definition in missing {
        changes.add_column(found.id, definition);
    }
    Ok(Vec::new())
}

fn foreign(schema: &str, name: &str) -> FeederError {
    FeederError::permanent(
        FeederErrorKind::Config,
        format!("the lake has a {schema}.{name} already, which no append stream made"),
    )
    .with_remedy("append to a table of another name, or drop it in DuckDB")
}

fn describe(lake: &Lake, wanted: &SealedTable) -> Result<WrittenTable, FeederError> {
    let target = format!("{}.{}", wanted.schema, wanted.table);
    let found = lake.find_table(&wanted.schema, &wanted.table);
    let found: &Table = found.ok_or_else(|| {
        FeederError::transient(
            FeederErrorKind::Catalog,
            format!("lake table {target} was dropped"),
        )
    })?;
    let columns: Vec<LakeColumn> = found
        .columns
        .iter()
        .map(|column| LakeColumn {
            name: column.name.clone(),
            lake_type: column.ty.clone(),
            ids: column.ids(),
        })
        .collect();
    let schema = layout::file_schema(&target, &columns, &column_defs(&wanted.columns))?;
    Ok(WrittenTable {
        columns: wanted.columns.len(),
        table: Arc::new(LakeTable {
            source_oid: 0,
            source: target.clone(),
            target,
            target_schema: wanted.schema.clone(),
            target_table: wanted.table.clone(),
            next_column_id: found.next_column_id.get(),
            table_id: found.id,
            directory: found.path.trim_end_matches('/').to_owned(),
            schema,
            columns,
            dead_letters: None,
        }),
    })
}
