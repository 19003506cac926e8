//! From one version of a table to the next: what the source's DDL does to the lake.
//!
//! A pure function. What it is given is the version before, the next shape (from a Relation message, or from the
//! source's catalog), what the catalog knows beside that, and the table's policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use cdc_source::tables::Generated;
use ducklake_catalog::{ColumnDef, ColumnId, LakeType};
use pgoutput::{Lsn, Relation, RelationColumn};

use crate::config::{ChangePolicy, OnDropColumn, OnTypeChange};
use crate::control::Directive;
use crate::current_view::FormerName;
use crate::file::LakeTable;
use crate::lake_tables;
use crate::layout;
use crate::plan::{ShapeColumn, SourceShape, TablePlan, identity_name};
use crate::types::{ColumnSettings, Types};
use crate::version::{self, TableVersion};

mod align;
mod changes;
mod columns;
mod directives;
mod missing;
mod relation;

use align::{LiveColumn, align};
use changes::Changes;
use columns::LakeColumns;
use directives::Stated;
use missing::{Missing, missing};
pub(crate) use relation::fits;
use relation::{comment, key, sent, source_type};

/// A table as the source's catalog has it now, which may be later than what the stream says.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// `None` when it was dropped.
    pub(crate) plan: Option<TablePlan>,
    /// Whether its rows were written anew, maybe with other values, where the source's event trigger tells that.
    pub(crate) rewritten: Option<bool>,
    /// The types of its columns and of those that were asked for, taken apart.
    pub(crate) types: Types,
    /// What operators stated of tables and has not come, as of the look or later.
    pub(crate) directives: Vec<Directive>,
}

/// A step of a table's evolution, committed with the first rows of the next version.
#[derive(Clone, Debug)]
pub(crate) struct Evolution {
    pub(crate) from: Arc<TableVersion>,
    pub(crate) to: Arc<TableVersion>,
    /// What happens to the lake's columns, in order.
    pub(crate) steps: Vec<LakeStep>,
    /// For people: what happened at the source.
    pub(crate) changes: Vec<String>,
    /// Why the table has to be copied again; its view gets a new key only then.
    pub(crate) recopy: Option<String>,
    /// The ids of the directives that stated it: applied with its commit, and not again.
    pub(crate) directives: Vec<String>,
    /// Where it is in the stream.
    pub(crate) at: Lsn,
}

/// A change of a lake table's columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LakeStep {
    /// Adds a column, which gets this id.
    Add(ColumnId, ColumnDef),
    Rename(ColumnId, String),
    Widen(ColumnId, LakeType),
    Drop(ColumnId),
    Comment(ColumnId, Option<String>),
    TableComment(Option<String>),
    /// Adds a field, which gets the second id, to a struct.
    AddField(ColumnId, ColumnId, ColumnDef),
    RenameField(ColumnId, String),
}

/// The next shape, with where its columns come from.
struct Next {
    shape: SourceShape,
    /// By column.
    origins: Vec<Option<usize>>,
}

/// A position in the stream: rows from there on have the new shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    pub(crate) lsn: i64,
    pub(crate) seq: i64,
}

impl Since {
    fn position(self) -> Lsn {
        Lsn::new(self.lsn.unsigned_abs())
    }
}

/// What a Relation message that does not [fit](fits) makes of a version; or a row whose column `altered` has a value of a
/// composite type that was altered, of which no relation tells.
///
/// # Errors
/// Why the table cannot be fed on: its policy, or a lake that has no room for it.
pub(crate) fn by_relation(
    version: &Arc<TableVersion>,
    relation: &Relation,
    altered: Option<&str>,
    found: &Found,
    settings: &ColumnSettings,
    policy: ChangePolicy,
    since: Since,
) -> Result<Evolution, String> {
    let wire: Vec<&RelationColumn> = sent(version, relation).collect();
    let live: Vec<LiveColumn<'_>> = found
        .plan
        .iter()
        .flat_map(|plan| &plan.shape.columns)
        .filter_map(|column| {
            Some(LiveColumn {
                attnum: column.attnum?,
                name: &column.name,
            })
        })
        .collect();
    let names: Vec<&str> = wire.iter().map(|column| column.name.as_str()).collect();
    let before = &version.shape.columns;
    let stated = Stated::of(found, version.lake.source_oid);
    let origins = align(before, &names, &live, &stated.renames(before, &names));
    let columns = wire
        .iter()
        .zip(&origins)
        .map(|(column, origin)| ShapeColumn {
            name: column.name.clone(),
            source_type: source_type(column, *origin, before, altered, found),
            attnum: origin.attnum,
            comment: comment(*origin, before, found),
            former: Vec::new(),
        })
        .collect();
    let mut next = Next {
        shape: SourceShape {
            columns,
            key: key(version, relation, &origins, found),
            identity: identity_name(relation.replica_identity).to_owned(),
            before_image: version.shape.before_image,
            comment: match &found.plan {
                Some(plan) => plan.shape.comment.clone(),
                None => version.shape.comment.clone(),
            },
            files: BTreeMap::new(),
            altered_by: BTreeMap::new(),
        },
        origins: origins.iter().map(|origin| origin.known).collect(),
    };
    let seen = found.plan.as_ref().map(|plan| &plan.shape);
    next.shape.take_rows_of(seen.unwrap_or(&version.shape));
    evolve(version, next, found, settings, policy, since)
}

/// What the catalog, once the stream has passed it, makes of a version; `None` when nothing changed.
///
/// # Errors
/// As [`by_relation`].
pub(crate) fn by_catalog(
    version: &Arc<TableVersion>,
    found: &Found,
    settings: &ColumnSettings,
    policy: ChangePolicy,
    since: Since,
) -> Result<Option<Evolution>, String> {
    let Some(plan) = found.plan.as_ref() else {
        return Ok(None);
    };
    let now = &plan.shape;
    if version.shape.agrees(now) {
        // The event trigger tells of rows for itself.
        let is_known = found.rewritten.is_none() && version.shape.has_other_values(now).is_some();
        if !is_known || version.shape.has_rows_of(now) {
            return Ok(None);
        }
    }
    let next = by_number(version, now);
    evolve(version, next, found, settings, policy, since).map(Some)
}

/// Whether a column that is not sent is there, computed by the source.
fn generated_at_source(column: &ShapeColumn, found: &Found) -> bool {
    found
        .plan
        .iter()
        .flat_map(|plan| &plan.info.columns)
        .any(|live| {
            live.generated == Generated::Stored
                && (Some(live.attnum) == column.attnum
                    || column.attnum.is_none() && live.name == column.name)
        })
}

/// What the source's event trigger says, at its place in the stream, makes of a version; `None` when nothing changed that
/// matters here.
///
/// # Errors
/// As [`by_relation`].
pub(crate) fn by_announcement(
    version: &Arc<TableVersion>,
    found: &Found,
    settings: &ColumnSettings,
    policy: ChangePolicy,
    since: Since,
) -> Result<Option<Evolution>, String> {
    let now = found.plan.as_ref().map(|plan| &plan.shape);
    match now.filter(|_| found.rewritten == Some(true)) {
        // The same type with other values shows nowhere else.
        Some(now) => evolve(
            version,
            by_number(version, now),
            found,
            settings,
            policy,
            since,
        )
        .map(Some),
        None => by_catalog(version, found, settings, policy, since),
    }
}

/// The catalog's shape, its columns told by their numbers.
fn by_number(version: &TableVersion, shape: &SourceShape) -> Next {
    let before = &version.shape.columns;
    let origins = shape
        .columns
        .iter()
        .map(|column| {
            before.iter().position(|other| {
                let numbers = other.attnum.zip(column.attnum);
                numbers.map_or(other.name == column.name, |(one, other)| one == other)
            })
        })
        .collect();
    Next {
        shape: shape.clone(),
        origins,
    }
}

fn evolve(
    version: &Arc<TableVersion>,
    mut next: Next,
    found: &Found,
    settings: &ColumnSettings,
    policy: ChangePolicy,
    since: Since,
) -> Result<Evolution, String> {
    let before = &version.shape;
    if let Some(plan) = &found.plan
        && let Some(name) = plan.unknown_exclusion()
    {
        return Err(format!(
            "column {name:?}, which exclude_columns names, was renamed or dropped at the source; correct exclude_columns"
        ));
    }
    let mut stated = Stated::of(found, version.lake.source_oid);
    let mut changes = Changes::default();
    let mut recopy = Vec::new();
    let mut lake = LakeColumns::of(&version.lake);
    let seen = found.plan.as_ref().map(|plan| &plan.shape);
    let rewritten = found
        .rewritten
        .unwrap_or_else(|| seen.is_some_and(|seen| before.has_other_files(seen)));
    let has_other_values = found
        .rewritten
        .unwrap_or_else(|| seen.is_some_and(|seen| before.has_other_values(seen) != Some(false)));
    let readers = next.shape.source_columns(settings);

    // It came while the catalog knew it under another name already.
    let mut lost_unnumbered = false;
    // What leaves its name comes first, so that the name is free.
    for (index, column) in before.columns.iter().enumerate() {
        if !next.origins.contains(&Some(index)) {
            if generated_at_source(column, found) {
                return Err(format!(
                    "column {:?} is generated, and its publication does not send it any more",
                    column.name
                ));
            }
            lost_unnumbered |= column.attnum.is_none();
            let wanted = stated.drop(&column.name);
            changes.known(format!("column {:?} was dropped", column.name), wanted);
            if wanted || policy.on_drop_column == OnDropColumn::Drop {
                lake.drop(&column.name);
            }
        }
    }
    let mut begun = Vec::new();
    let mut replaced = Vec::new();
    let mut widened = Vec::new();
    // Whether every other type was stated to leave the values as they were.
    let mut vouched = None;
    for ((column, origin), reader) in next
        .shape
        .columns
        .iter_mut()
        .zip(&next.origins)
        .zip(&readers)
    {
        let wanted = reader.reader.lake_type();
        let Some(known) = origin.and_then(|index| before.columns.get(index)) else {
            changes.added(format!("column {:?} was added", column.name));
            // On the wire they look alike: rows may have gone into the one that is dropped. The event trigger tells them apart.
            let namesake = before.columns.iter().enumerate().any(|(index, gone)| {
                !next.origins.contains(&Some(index))
                    && gone.name == column.name
                    && gone.source_type.agrees(&column.source_type)
            });
            if namesake && found.rewritten.is_none() {
                recopy.push(format!(
                    "column {:?} took the place of one of its name and type",
                    column.name
                ));
            }
            if lost_unnumbered {
                recopy.push(format!(
                    "column {:?} may be one that had another name",
                    column.name
                ));
            }
            begun.push(column.name.clone());
            continue;
        };
        column.former.clone_from(&known.former);
        if known.name != column.name {
            let renamed = stated.rename(&known.name, &column.name);
            let change = format!("column {:?} is {:?} now", known.name, column.name);
            changes.known(change, renamed);
            column.former.push(FormerName {
                name: known.name.clone(),
                until_lsn: since.lsn,
                until_seq: since.seq,
            });
        }
        if known.source_type.agrees(&column.source_type) {
            continue;
        }
        let held = settings.reader(&known.name, &known.source_type).lake_type();
        let next_type = stated.change_type([&known.name, &column.name], &column.source_type);
        let change = format!("column {:?} has another type", column.name);
        changes.known(change, next_type.is_some());
        let unchanged = next_type.is_some_and(|stated| stated.values_unchanged);
        vouched = Some(vouched.unwrap_or(true) && unchanged);
        let keeps_attributes = known.source_type.keeps_attributes(&column.source_type);
        if held == wanted {
            if !keeps_attributes {
                recopy.push(format!(
                    "attributes of column {:?} were replaced",
                    column.name
                ));
            }
            continue;
        }
        if keeps_attributes && lake.reshape(&known.name, &wanted) {
            continue;
        }
        if held.widens_to(&wanted) {
            widened.push((known.name.clone(), wanted));
        } else if policy.on_type_change == OnTypeChange::Stop && next_type.is_none() {
            return Err(format!(
                "column {:?} changed its type: {held} in the lake, {wanted} now, and on_type_change is \"stop\"",
                known.name
            ));
        } else {
            lake.retire(&known.name);
            column.former.clear();
            begun.push(column.name.clone());
            replaced.push(column.name.clone());
            recopy.push(format!("column {:?} begins anew as {wanted}", column.name));
        }
    }
    changes.refuse(policy, before, &next)?;

    for (name, wanted) in widened {
        lake.widen(&name, wanted);
    }
    let renames: Vec<(&str, &str)> = next
        .shape
        .columns
        .iter()
        .zip(&next.origins)
        .filter(|(column, _)| !begun.contains(&column.name))
        .filter_map(|(column, origin)| {
            let known = before.columns.get((*origin)?)?;
            (known.name != column.name).then_some((known.name.as_str(), column.name.as_str()))
        })
        .collect();
    lake.rename(&renames);
    for (column, reader) in next.shape.columns.iter().zip(&readers) {
        if !begun.contains(&column.name) {
            continue;
        }
        let mut definition = ColumnDef::new(column.name.as_str(), reader.reader.lake_type());
        if !replaced.contains(&column.name) {
            match missing(column, found, rewritten) {
                Missing::Null => {}
                Missing::Constant(text) => {
                    match columns::with_initial_default(&definition, &reader.reader, &text) {
                        Some(with_default) => definition = with_default,
                        None => recopy.push(format!(
                            "the lake cannot hold the default of column {:?}",
                            column.name
                        )),
                    }
                }
                Missing::Unknown => recopy.push(format!(
                    "rows got values of column {:?} that are not in the WAL",
                    column.name
                )),
            }
        }
        lake.add(definition);
    }
    if before.before_image || next.shape.before_image {
        lake.before_image(before, &next.shape, &readers, &next.origins);
    }
    for (column, origin) in next.shape.columns.iter().zip(&next.origins) {
        let known = origin.and_then(|index| before.columns.get(index));
        let begun = begun.contains(&column.name);
        let had = known
            .filter(|_| !begun)
            .and_then(|known| known.comment.as_ref());
        if had != column.comment.as_ref() {
            changes.known(
                format!("column {:?} is described otherwise", column.name),
                false,
            );
            lake.comment(&column.name, column.comment.clone());
        }
    }
    if before.comment != next.shape.comment {
        changes.known("it is described otherwise".to_owned(), false);
        let comment = lake_tables::comment(&version.lake.source, &next.shape);
        lake.table_comment(comment);
    }
    if has_other_values && !(vouched == Some(true) && begun.is_empty()) {
        recopy.push("its rows were rewritten at the source".to_owned());
    } else if seen.is_some_and(|seen| !seen.agrees(&next.shape)) {
        // The catalog is ahead: what was rewritten since is the next change's to tell.
        next.shape.take_rows_of(before);
    }
    if before.identity != next.shape.identity {
        let change = format!(
            "its replica identity is {} now, and was {}",
            next.shape.identity, before.identity
        );
        changes.known(change, false);
    }
    if let Some(reason) = key_changed(before, &next) {
        recopy.push(reason);
    }

    let wanted = layout::column_defs(&readers, next.shape.before_image);
    let (columns, next_column_id, steps) = lake.done();
    let schema = layout::file_schema(&version.lake.target, &columns, &wanted)
        .map_err(|error| error.to_string())?;
    let lake = LakeTable {
        schema,
        columns,
        next_column_id,
        ..(*version.lake).clone()
    };
    let (ignored, generated) = match &found.plan {
        Some(plan) => (
            plan.ignored(&next.shape),
            plan.stored_columns().cloned().collect(),
        ),
        None => (version.ignored.clone(), version.generated.clone()),
    };
    recopy.dedup();
    Ok(Evolution {
        from: Arc::clone(version),
        to: Arc::new(TableVersion {
            lake: Arc::new(lake),
            shape: next.shape,
            columns: readers,
            ignored,
            generated,
        }),
        steps,
        changes: changes.into_texts(),
        directives: stated.used(),
        at: since.position(),
        // Nothing is left to be copied of a table that was dropped.
        recopy: (!recopy.is_empty() && found.plan.is_some()).then(|| recopy.join("; ")),
    })
}

/// Rule 10: another key, or another identity, makes the rows before useless for the view.
fn key_changed(before: &SourceShape, next: &Next) -> Option<String> {
    let mut was: Vec<usize> = before
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| before.key.contains(&column.name))
        .map(|(index, _)| index)
        .collect();
    let columns = next.shape.columns.iter().zip(&next.origins);
    let in_key = columns.filter(|(column, _)| next.shape.key.contains(&column.name));
    let now: Option<Vec<usize>> = in_key.map(|(_, origin)| *origin).collect();
    let now = now.map(|mut now| {
        now.sort_unstable();
        now
    });
    was.sort_unstable();
    if now.as_ref() == Some(&was) {
        // FULL sends whole old rows, which the view does not need: the key is what counts.
        return None;
    }
    Some(format!(
        "its key is ({}) now, and was ({})",
        next.shape.key.join(", "),
        before.key.join(", ")
    ))
}

impl Evolution {
    /// The shape whose view stands until the table is copied: with the key of before, where its columns are still there.
    pub(crate) fn interim_shape(&self) -> SourceShape {
        let before = &self.from.shape;
        let mut shape = self.to.shape.clone();
        let kept: Option<Vec<String>> = before
            .key
            .iter()
            .map(|key| {
                let known = before.columns.iter().find(|column| column.name == *key)?;
                let now = shape.columns.iter().find(|column| {
                    let numbers = column.attnum.zip(known.attnum);
                    numbers.map_or(column.name == known.name, |(one, other)| one == other)
                })?;
                Some(now.name.clone())
            })
            .collect();
        if self.recopy.is_some()
            && let Some(kept) = kept
        {
            shape.key = kept;
        }
        shape
    }

    /// Whether the lake becomes another; else only what is known of the source does.
    pub(crate) fn touches_lake(&self) -> bool {
        let lake = &self.to.lake;
        let view = version::view(
            &lake.target_schema,
            &lake.target_table,
            &self.interim_shape(),
        );
        !self.steps.is_empty() || view != self.from.view()
    }

    /// Has the table copied again, for this reason too.
    pub(crate) fn copy_again(&mut self, reason: String) {
        self.recopy = Some(match self.recopy.take() {
            Some(other) => format!("{other}; {reason}"),
            None => reason,
        });
    }

    /// What the log says of it.
    pub(crate) fn log(&self, lsn: Lsn) {
        if self.changes.is_empty() && self.recopy.is_none() {
            tracing::debug!(
                table = %self.to.lake.source,
                lsn = %lsn,
                "the table's rows are in other files, with the same values"
            );
            return;
        }
        tracing::info!(
            table = %self.to.lake.source,
            lsn = %lsn,
            changes = self.changes.join(", "),
            stated = (!self.directives.is_empty()).then(|| self.directives.join(", ")),
            recopy = self.recopy.as_deref(),
            "the table's definition changed at the source; the lake follows"
        );
    }
}

#[cfg(test)]
mod tests;
