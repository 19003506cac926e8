//! The lake's side of the fed tables: created, widened, and described for the file writers.

use std::collections::BTreeSet;
use std::sync::Arc;

use ducklake_catalog::{Catalog, ChangeSet, ColumnDef, Lake, Table, TableDef, TableId};
use pgoutput::Lsn;
use uuid::Uuid;

use crate::config::FeederConfig;
use crate::control::{EpochHook, Fence, TableRow, TableTransition};
use crate::current_view;
use crate::dead_letters;
use crate::error::{FeederError, FeederErrorKind, from_catalog};
use crate::file::LakeTable;
use crate::layout::{self, LakeColumn};
use crate::plan::{SourceShape, TablePlan};
use crate::registration::shape_value;
use crate::status::TableState;
use crate::types::ColumnSettings;
use crate::version;

/// A table of the plan with its control row, and the shape that its lake table must have.
pub(crate) struct Wanted<'a> {
    pub(crate) plan: &'a TablePlan,
    pub(crate) row: &'a TableRow,
    pub(crate) shape: SourceShape,
}

/// Creates what is missing, renames what has another name at the source, and drops what was `dropped` there, in one
/// commit; returns the lake after it. `rows` are all tables of the feeder: each of their schemas gets a table for dead
/// letters.
///
/// # Errors
/// A lake table that is not ours.
pub(crate) async fn ensure(
    catalog: &Catalog,
    config: &FeederConfig,
    fence: &Fence,
    checkpoint: Lsn,
    rows: &[TableRow],
    wanted: &[Wanted<'_>],
    dropped: &BTreeSet<u32>,
) -> Result<Lake, FeederError> {
    let lake = catalog.load().await.map_err(from_catalog)?;
    let mut changes = ChangeSet::new()
        .with_author("duckfeeder")
        .with_message(format!("{}: tables", config.name));
    let mut created = Vec::new();
    let mut transitions = Vec::new();
    let mut new_letters = false;
    let schemas: BTreeSet<&str> = rows.iter().map(|row| row.target_schema.as_str()).collect();
    for name in schemas {
        if lake.find_table(name, dead_letters::TABLE).is_none() {
            let schema = changes.ensure_schema(name);
            let definition = TableDef::new(dead_letters::TABLE, dead_letters::column_defs())
                .with_comment("values that a column of this schema's changelogs cannot hold");
            changes.create_table(schema, definition);
            new_letters = true;
        }
    }
    let moved = move_tables(&mut changes, &lake, rows, dropped)?;
    transitions.extend(moved.removed);
    for wanted in wanted {
        let target = (&wanted.row.target_schema, &wanted.row.target_table);
        let schema = changes.ensure_schema(target.0.as_str());
        let columns = wanted.shape.source_columns(&wanted.plan.settings);
        let existing = wanted
            .row
            .lake_table_id
            .and_then(|id| lake.table(TableId::new(id)));
        // One that is there follows its source while it is fed.
        if existing.is_some() {
            continue;
        }
        refuse_foreign(&lake, wanted.row, &moved.names)?;
        let described = |definition: ColumnDef| {
            let columns = &wanted.shape.columns;
            let column = columns.iter().find(|column| column.name == definition.name);
            match column.and_then(|column| column.comment.as_ref()) {
                Some(comment) => definition.with_comment(comment),
                None => definition,
            }
        };
        let definitions = layout::column_defs(&columns, wanted.shape.before_image);
        let source = format!("{}.{}", wanted.row.source_schema, wanted.row.source_table);
        let definition = TableDef::new(
            target.1.as_str(),
            definitions.into_iter().map(described).collect(),
        )
        .with_comment(comment(&source, &wanted.shape));
        let table = changes.create_table(schema, definition);
        created.push((wanted.row.source_oid, table));
        let shape = shape_value(&wanted.shape)?;
        transitions.push(TableTransition::shape(wanted.row.source_oid, shape));
        let name = current_view::view_name(target.1);
        match version::view(target.0, target.1, &wanted.shape) {
            Some(view) => changes.create_or_replace_view(schema, view),
            None if lake.find_view(target.0, &name).is_some() => changes.drop_view(schema, name),
            None => {}
        }
    }
    if created.is_empty() && transitions.is_empty() && !new_letters && moved.names.is_empty() {
        return Ok(lake);
    }
    let extra = serde_json::json!({
        "feeder": config.name.as_str(),
        "lsn": checkpoint.to_string(),
        "complete": false,
    });
    let changes = changes.with_extra_info(extra.to_string());
    let mut hook = EpochHook::new(
        fence,
        Uuid::now_v7(),
        checkpoint,
        checkpoint,
        None,
        transitions,
        Vec::new(),
    )
    .with_new_tables(created);
    catalog
        .commit(&changes, &mut hook)
        .await
        .map_err(from_catalog)?;
    catalog.load().await.map_err(from_catalog)
}

/// What left its name.
#[derive(Default)]
struct Moved<'a> {
    /// Schemas and names, in lower case, of tables and views that have none of them any more.
    names: BTreeSet<(&'a str, String)>,
    /// Of tables that were dropped.
    removed: Vec<TableTransition>,
}

/// Drops the tables that were `dropped` at the source, and gives the others the names in their rows.
fn move_tables<'a>(
    changes: &mut ChangeSet,
    lake: &Lake,
    rows: &'a [TableRow],
    dropped: &BTreeSet<u32>,
) -> Result<Moved<'a>, FeederError> {
    let mut moved = Moved::default();
    let mut renamed = Vec::new();
    for row in rows {
        let Some(table) = row
            .lake_table_id
            .and_then(|id| lake.table(TableId::new(id)))
        else {
            continue;
        };
        if dropped.contains(&row.source_oid) {
            changes.drop_table(table.id);
            moved.removed.push(TableTransition::removed(row.source_oid));
        } else if table.name != row.target_table {
            // Two tables may take each other's names.
            changes.rename_table(table.id, format!("{}_{}", layout::IN_BETWEEN, table.id));
            renamed.push((row, table.id));
        } else {
            continue;
        }
        // It would not find its table any more.
        let schema = row.target_schema.as_str();
        let view = current_view::view_name(&table.name);
        moved.names.insert((schema, table.name.to_lowercase()));
        moved.names.insert((schema, view.to_lowercase()));
        changes.drop_view(schema, view);
    }
    for (row, table) in renamed {
        let schema = row.target_schema.as_str();
        changes.rename_table(table, row.target_table.as_str());
        if let Some(view) = version::view(schema, &row.target_table, &stored_shape(row)?) {
            changes.create_or_replace_view(schema, view);
        }
    }
    Ok(moved)
}

/// What the lake's table is described as: the source's own comment, if it has one.
pub(crate) fn comment(source: &str, shape: &SourceShape) -> String {
    match &shape.comment {
        Some(comment) => comment.clone(),
        None => format!("changes of {source}"),
    }
}

/// Whether the row's lake table was made for this shape.
pub(crate) fn stored_shape(row: &TableRow) -> Result<SourceShape, FeederError> {
    serde_json::from_value(row.shape.clone()).map_err(|error| {
        FeederError::permanent(
            FeederErrorKind::Catalog,
            format!(
                "the control row of {}.{} holds an unreadable shape",
                row.source_schema, row.source_table
            ),
        )
        .with_source(error)
    })
}

/// Rule 17: a table or view of that name which is not recorded as ours is somebody else's. `left` are names that are free
/// with this commit.
fn refuse_foreign(
    lake: &Lake,
    row: &TableRow,
    left: &BTreeSet<(&str, String)>,
) -> Result<(), FeederError> {
    let view = current_view::view_name(&row.target_table);
    // The view of a table of ours that was dropped is ours too.
    let names = [
        Some(row.target_table.as_str()),
        row.lake_table_id.is_none().then_some(view.as_str()),
    ];
    for name in names.into_iter().flatten() {
        let schema = row.target_schema.as_str();
        if left.contains(&(schema, name.to_lowercase())) {
            continue;
        }
        if lake.find_table(schema, name).is_some() || lake.find_view(schema, name).is_some() {
            return Err(FeederError::permanent(
                FeederErrorKind::Catalog,
                format!("the lake has a {schema}.{name} already, which this feeder did not make"),
            )
            .with_remedy(format!(
                "drop it in DuckDB, or feed {}.{} into another target_schema or target_table",
                row.source_schema, row.source_table
            )));
        }
    }
    Ok(())
}

/// Tables that are fed into a lake table which somebody dropped.
pub(crate) fn dropped<'a>(
    lake: &'a Lake,
    rows: &'a [TableRow],
) -> impl Iterator<Item = &'a TableRow> {
    rows.iter().filter(|row| {
        row.state == TableState::Streaming
            && row
                .lake_table_id
                .is_none_or(|id| lake.table(TableId::new(id)).is_none())
    })
}

/// What the file writers need to know of a lake table. One that is gone, of a table in state `error`, is described
/// as it would be made: nothing is written to it.
pub(crate) fn describe(
    lake: &Lake,
    row: &TableRow,
    shape: &SourceShape,
    settings: &ColumnSettings,
) -> Result<LakeTable, FeederError> {
    let wanted = layout::column_defs(&shape.source_columns(settings), shape.before_image);
    let id = TableId::new(row.lake_table_id.unwrap_or_default());
    let letters = lake.find_table(&row.target_schema, dead_letters::TABLE);
    let letters = describe_table(
        row,
        dead_letters::TABLE,
        letters.map_or_else(|| TableId::new(0), |table| table.id),
        letters,
        &dead_letters::column_defs(),
    )?;
    let mut table = describe_table(row, &row.target_table, id, lake.table(id), &wanted)?;
    table.dead_letters = Some(Arc::new(letters));
    Ok(table)
}

fn describe_table(
    row: &TableRow,
    name: &str,
    table_id: TableId,
    found: Option<&Table>,
    wanted: &[ColumnDef],
) -> Result<LakeTable, FeederError> {
    let target = format!("{}.{name}", row.target_schema);
    let (columns, directory, next_column_id) = if let Some(table) = found {
        let columns = table
            .columns
            .iter()
            .map(|column| LakeColumn {
                name: column.name.clone(),
                lake_type: column.ty.clone(),
                ids: column.ids(),
            })
            .collect();
        (columns, table.path.clone(), table.next_column_id)
    } else {
        let definition = TableDef::new(name, wanted.to_vec());
        let columns = definition
            .columns
            .iter()
            .zip(definition.column_ids())
            .map(|(column, ids)| LakeColumn {
                name: column.name.clone(),
                lake_type: column.ty.clone(),
                ids,
            })
            .collect::<Vec<_>>();
        let next = definition.next_column_id();
        (columns, String::new(), next)
    };
    let schema = layout::file_schema(&target, &columns, wanted)?;
    Ok(LakeTable {
        source_oid: row.source_oid,
        source: format!("{}.{}", row.source_schema, row.source_table),
        target,
        target_schema: row.target_schema.clone(),
        target_table: name.to_owned(),
        table_id,
        directory: directory.trim_end_matches('/').to_owned(),
        schema,
        columns,
        next_column_id: next_column_id.get(),
        dead_letters: None,
    })
}
