//! What a commit does to the lake, as one change set.

use std::sync::Arc;

use ducklake_catalog::{ChangeSet, TableId, TableRef, ViewDef};

use super::{Commit, appends};
use crate::control::TableTransition;
use crate::current_view;
use crate::error::FeederError;
use crate::evolution::{Evolution, LakeStep};
use crate::file::LakeTable;
use crate::meters::Origin;
use crate::registration::shape_value;
use crate::version;

/// The change set, and the shapes that the control tables get with it.
///
/// A table's files and the changes of its columns come in the order in which they came at the source, so that a
/// transaction with both shapes is one snapshot with files of both (rule 15).
pub(super) fn of(
    feeder: &str,
    commit: &Commit<'_>,
) -> Result<(ChangeSet, Vec<TableTransition>), FeederError> {
    if let Origin::Append = commit.origin {
        let mut changes = appends::describe(feeder);
        appends::add(&mut changes, commit.appended);
        return Ok((changes, Vec::new()));
    }
    let extra = serde_json::json!({
        "feeder": feeder,
        "lsn": commit.to.to_string(),
        "commit_timestamp": commit.source_time.map(crate::clock::utc_text),
        "complete": commit.incomplete.is_empty(),
        "incomplete": commit.incomplete,
    });
    let mut changes = ChangeSet::new()
        .with_author("duckfeeder")
        .with_message(format!(
            "{feeder}: {} up to {}",
            match commit.origin {
                Origin::Copy => "first copy",
                _ => "changes",
            },
            commit.to
        ))
        .with_extra_info(extra.to_string());
    for table_id in tables(commit) {
        let evolutions: Vec<&Evolution> = commit
            .evolutions
            .iter()
            .filter(|evolution| evolution.to.lake.table_id == table_id)
            .collect();
        let table = TableRef::Existing(table_id);
        if let Some(found) = as_found(commit, &evolutions, table_id) {
            changes.expect_columns(table, found.expected_columns());
        }
        for evolution in &evolutions {
            append(&mut changes, commit, table_id, |file| {
                Arc::ptr_eq(file, &evolution.from.lake)
            });
            for step in &evolution.steps {
                apply(&mut changes, table, step.clone());
            }
        }
        append(&mut changes, commit, table_id, |file| {
            !evolutions
                .iter()
                .any(|evolution| Arc::ptr_eq(file, &evolution.from.lake))
        });
        if let Some(last) = evolutions.last() {
            let lake = &last.to.lake;
            let shape = last.interim_shape();
            let view = version::view(&lake.target_schema, &lake.target_table, &shape);
            set_view(&mut changes, lake, view);
        }
    }
    if let Some(copied) = commit.copied {
        set_view(&mut changes, &copied.lake, copied.view());
    }
    appends::add(&mut changes, commit.appended);
    Ok((changes, shapes(commit.evolutions)?))
}

/// What the control tables get to know of the tables' shapes, of which of several of one table the last counts, and of
/// the directives that were followed.
pub(super) fn shapes(evolutions: &[Evolution]) -> Result<Vec<TableTransition>, FeederError> {
    let mut transitions = Vec::new();
    for evolution in evolutions {
        let source_oid = evolution.to.lake.source_oid;
        let shape = shape_value(&evolution.to.shape)?;
        transitions.push(TableTransition::shape(source_oid, shape));
        let stated = evolution.directives.iter();
        transitions
            .extend(stated.map(|id| TableTransition::directive(source_oid, id, evolution.at)));
    }
    Ok(transitions)
}

/// The lake tables that the commit is about, each once.
fn tables(commit: &Commit<'_>) -> Vec<TableId> {
    let mut tables: Vec<TableId> = Vec::new();
    let files = commit.files.iter().map(|file| file.table.table_id);
    let changed = commit
        .evolutions
        .iter()
        .map(|evolution| evolution.to.lake.table_id);
    for table in files.chain(changed) {
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    tables
}

/// The table as the lake should have it before the commit.
fn as_found<'a>(
    commit: &'a Commit<'_>,
    evolutions: &[&'a Evolution],
    table_id: TableId,
) -> Option<&'a LakeTable> {
    let first = evolutions.first().map(|evolution| &*evolution.from.lake);
    let copied = || {
        let lake = commit.copied.map(|version| &*version.lake)?;
        (lake.table_id == table_id).then_some(lake)
    };
    let written = || {
        let mut files = commit.files.iter();
        let file = files.find(|file| file.table.table_id == table_id)?;
        Some(&*file.table)
    };
    first.or_else(copied).or_else(written)
}

fn append(
    changes: &mut ChangeSet,
    commit: &Commit<'_>,
    table_id: TableId,
    wanted: impl Fn(&Arc<LakeTable>) -> bool,
) {
    for file in commit.files {
        if file.table.table_id == table_id && wanted(&file.table) {
            changes.append_file(TableRef::Existing(table_id), file.data.clone());
        }
    }
}

fn apply(changes: &mut ChangeSet, table: TableRef, step: LakeStep) {
    match step {
        LakeStep::Add(id, definition) => {
            changes.expect_next_column_id(table, id);
            changes.add_column(table, definition);
        }
        LakeStep::Rename(id, name) => changes.rename_column(table, id, name),
        LakeStep::Widen(id, lake_type) => changes.set_column_type(table, id, lake_type),
        LakeStep::Drop(id) => changes.drop_column(table, id),
        LakeStep::Comment(id, comment) => changes.set_column_comment(table, id, comment),
        LakeStep::TableComment(comment) => changes.set_table_comment(table, comment),
        LakeStep::AddField(parent, id, field) => {
            changes.expect_next_column_id(table, id);
            changes.add_struct_field(table, parent, field);
        }
        LakeStep::RenameField(id, name) => changes.rename_struct_field(table, id, name),
    }
}

fn set_view(changes: &mut ChangeSet, lake: &LakeTable, view: Option<ViewDef>) {
    let schema = lake.target_schema.as_str();
    match view {
        Some(view) => changes.create_or_replace_view(schema, view),
        None => changes.drop_view(schema, current_view::view_name(&lake.target_table)),
    }
}
