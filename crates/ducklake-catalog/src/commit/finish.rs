//! From the state of a table after the change set to the rows that it needs.

use super::locked::LockedTable;
use super::plan::{ColumnTagRow, InlinedTable, Plan, TableRow, TagRow};
use super::table::{COMMENT, TableState};
use crate::CatalogError;
use crate::changes_made::Change;

impl TableState<'_> {
    /// Adds the rows for this table to the plan.
    pub(super) fn finish(
        mut self,
        plan: &mut Plan,
        words: &mut Vec<Change>,
        schema_name: &str,
    ) -> Result<(), CatalogError> {
        if self.is_dropped {
            return self.finish_dropped(plan, words);
        }
        let mut is_altered = self.finish_columns(plan);
        let is_new = self.placed_before.is_none();
        let is_placed = self.placed_before.as_ref() != Some(&self.placement);
        if is_placed {
            self.finish_placement(plan);
            words.push(Change::CreatedTable {
                schema: schema_name.to_owned(),
                table: self.placement.name.clone(),
            });
        }
        if is_altered || is_placed {
            plan.restructured.push(self.id);
            if self.locked.is_some_and(|locked| locked.is_inlined) {
                plan.inlined_tables.extend(self.inlined_table());
            }
        }
        // The word for a new table covers its columns.
        is_altered &= !is_new;
        is_altered |= self.finish_comments(plan);
        is_altered |= is_new && plan.tags.iter().any(|tag| tag.object == self.id.get());
        if is_altered {
            words.push(Change::AlteredTable(self.id));
        }
        for column in &self.reordered {
            let key = (self.id, *column);
            plan.erased_bounds.push(key);
            let has_stats = |locked: &LockedTable| locked.column_stats.contains_key(column);
            if self.locked.is_some_and(has_stats) {
                plan.deleted_column_stats.push(key);
            }
        }
        for (key, value) in &self.options {
            plan.options.insert((self.id, key.clone()), value.clone());
        }
        if !self.files.is_empty() {
            words.push(Change::InsertedIntoTable(self.id));
        }
        self.finish_files(plan)
    }

    /// A dropped table, and the files that came before that in the change set: their rows end where
    /// they begin.
    fn finish_dropped(
        mut self,
        plan: &mut Plan,
        words: &mut Vec<Change>,
    ) -> Result<(), CatalogError> {
        let is_new = self.placed_before.is_none();
        if is_new && self.files.is_empty() {
            return Ok(());
        }
        if is_new {
            self.finish_columns(plan);
            self.finish_placement(plan);
        } else {
            words.push(Change::DroppedTable(self.id));
        }
        plan.dropped_tables.push(self.id);
        self.finish_files(plan)
    }

    fn finish_placement(&self, plan: &mut Plan) {
        if self.placed_before.is_some() {
            plan.ended_tables.push(self.id);
        }
        plan.tables.push(TableRow {
            id: self.id,
            uuid: self.uuid,
            schema: self.placement.schema,
            name: self.placement.name.clone(),
            path: self.placement.stored_path.0.clone(),
            path_is_relative: self.placement.stored_path.1,
        });
    }

    /// Adds the rows of the columns; whether there are any.
    fn finish_columns(&mut self, plan: &mut Plan) -> bool {
        let mut is_altered = false;
        for column in &self.columns {
            match &column.before {
                Some(before) if !column.is_live => {
                    plan.ended_columns.push((self.id, before.id));
                    plan.dropped_columns.push((self.id, before.id));
                }
                Some(before) if *before != column.row => {
                    plan.ended_columns.push((self.id, before.id));
                    plan.columns.push((self.id, column.row.clone()));
                }
                None if column.is_live => plan.columns.push((self.id, column.row.clone())),
                // Its id may be in files, or in what the writer expects next: it must not come to mean
                // another column.
                None => plan.stillborn.push((self.id, column.row.clone())),
                Some(_) => continue,
            }
            is_altered = true;
        }
        is_altered
    }

    /// Adds the rows of comments; whether there are any.
    fn finish_comments(&self, plan: &mut Plan) -> bool {
        let mut is_altered = false;
        if self.comment != self.comment_before {
            is_altered = true;
            plan.ended_comments.push(self.id);
            plan.tags.push(TagRow {
                object: self.id.get(),
                key: COMMENT.to_owned(),
                value: self.comment.clone(),
            });
        }
        for column in self.columns.iter().filter(|column| column.is_live) {
            if column.comment == column.comment_before {
                continue;
            }
            is_altered = true;
            if column.before.is_some() {
                plan.ended_column_tags.push((self.id, column.id()));
            }
            plan.column_tags.push(ColumnTagRow {
                table: self.id,
                column: column.id(),
                comment: column.comment.clone(),
            });
        }
        is_altered
    }

    /// The table for DuckDB's small inserts that the new columns need, if they can be inlined.
    fn inlined_table(&self) -> Option<InlinedTable> {
        const RESERVED: [&str; 5] = [
            "row_id",
            "begin_snapshot",
            "end_snapshot",
            "_ducklake_internal_row_id",
            "_ducklake_internal_snapshot_id",
        ];
        let columns = self
            .tree()
            .into_iter()
            .map(|column| {
                let is_reserved = RESERVED
                    .iter()
                    .any(|reserved| column.name.eq_ignore_ascii_case(reserved));
                if is_reserved || column.name.len() > MAX_IDENTIFIER_BYTES {
                    return None;
                }
                Some((column.name, column.ty.inlined_type()?))
            })
            .collect::<Option<_>>()?;
        Some(InlinedTable {
            table: self.id,
            columns,
        })
    }
}

/// Postgres cuts longer identifiers off.
const MAX_IDENTIFIER_BYTES: usize = 63;
