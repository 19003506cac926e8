//! Files of a table and what they make of its statistics.

use std::collections::{BTreeMap, BTreeSet};

use super::locked::TableStats;
use super::plan::{FileRow, FileStatsRow, Plan};
use super::table::{ColumnState, TableState, invalid};
use crate::stats::{Summary, Widened, fits, widen};
use crate::{
    CatalogError, CatalogErrorKind, Column, ColumnId, DataFile, DataFileId, FileColumnStats,
    LakeType, StatBounds,
};

impl TableState<'_> {
    /// Adds the rows for the table's new files to the plan, and what follows from them.
    pub(super) fn finish_files(&self, plan: &mut Plan) -> Result<(), CatalogError> {
        if self.files.is_empty() {
            return Ok(());
        }
        let leaves = self.leaves();
        let dropped: BTreeSet<ColumnId> = self
            .columns
            .iter()
            .filter(|column| !column.is_live)
            .map(ColumnState::id)
            .collect();
        let totals = self.totals()?;
        let had_rows = totals.is_some_and(|stats| stats.record_count > 0 || stats.next_row_id > 0);
        let mut stats = totals.unwrap_or(TableStats {
            record_count: 0,
            next_row_id: 0,
            file_size_bytes: 0,
        });
        // Of each leaf over all files that have rows; a leaf that a file says nothing of is unknown.
        let mut summaries: Option<BTreeMap<ColumnId, Option<Summary>>> = None;
        for file in &self.files {
            let of_file = self.add_file(file, &mut stats, &leaves, &dropped, plan)?;
            if file.record_count == 0 {
                continue;
            }
            summaries = Some(match summaries {
                None => of_file,
                Some(so_far) => both(so_far, of_file),
            });
        }
        let row = (self.id, stats);
        match totals {
            Some(_) => plan.changed_table_stats.push(row),
            None => plan.new_table_stats.push(row),
        }
        for (column, summary) in summaries.unwrap_or_default() {
            let Some(ty) = leaves.get(&column) else {
                continue;
            };
            if had_rows && self.reordered.contains(&column) {
                continue;
            }
            let old = self
                .locked
                .and_then(|locked| locked.column_stats.get(&column));
            match old {
                Some(row) => {
                    let hides_values = self
                        .locked
                        .is_some_and(|locked| locked.hides_values.contains(&column));
                    match widen(row, ty, summary.as_ref(), hides_values) {
                        Widened::Unchanged => {}
                        Widened::Changed(row) => {
                            plan.changed_column_stats.push((self.id, column, row));
                        }
                        Widened::Unknown => plan.deleted_column_stats.push((self.id, column)),
                    }
                }
                // The first rows of the table. Later a missing row means unknown, for good.
                None if !had_rows => {
                    if let Some(summary) = summary {
                        plan.new_column_stats
                            .push((self.id, column, summary.into_row()));
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The live leaf columns: those that have statistics.
    fn leaves(&self) -> BTreeMap<ColumnId, LakeType> {
        self.tree()
            .iter()
            .flat_map(Column::leaves)
            .map(|leaf| (leaf.id, leaf.ty.clone()))
            .collect()
    }

    /// The table's totals; `None` for a table that never had any rows.
    fn totals(&self) -> Result<Option<TableStats>, CatalogError> {
        let Some(locked) = self.locked else {
            return Ok(None);
        };
        if locked.stats.is_none() && locked.has_files {
            // The next row id cannot be known then, and row ids must never repeat.
            let kind = CatalogErrorKind::InvalidCatalog;
            return Err(CatalogError::new(kind, self.object.clone())
                .with_detail("it has files but no statistics"));
        }
        Ok(locked.stats)
    }

    /// Adds a file's rows, and returns the summaries of all leaves.
    fn add_file(
        &self,
        file: &DataFile,
        totals: &mut TableStats,
        leaves: &BTreeMap<ColumnId, LakeType>,
        dropped: &BTreeSet<ColumnId>,
        plan: &mut Plan,
    ) -> Result<BTreeMap<ColumnId, Option<Summary>>, CatalogError> {
        let object = || format!("file {} of {}", file.path, self.object);
        let number = |value: u64| {
            i64::try_from(value).map_err(|_| invalid(object(), "a count is out of range"))
        };
        let add = |a: i64, b: i64| {
            a.checked_add(b)
                .ok_or_else(|| invalid(object(), "a total is out of range"))
        };
        let id = DataFileId::new(plan.next_file_id);
        plan.next_file_id += 1;
        let row = FileRow {
            id,
            table: self.id,
            path: file.path.clone(),
            record_count: number(file.record_count)?,
            file_size_bytes: number(file.file_size_bytes)?,
            footer_size: number(file.footer_size)?,
            row_id_start: totals.next_row_id,
        };
        totals.record_count = add(totals.record_count, row.record_count)?;
        totals.next_row_id = add(totals.next_row_id, row.record_count)?;
        totals.file_size_bytes = add(totals.file_size_bytes, row.file_size_bytes)?;
        plan.files.push(row);

        let mut summaries: BTreeMap<ColumnId, Option<Summary>> =
            leaves.keys().map(|id| (*id, None)).collect();
        let mut seen = BTreeSet::new();
        for stats in &file.columns {
            if !seen.insert(stats.column) {
                return Err(invalid(
                    object(),
                    format!("statistics of column {} twice", stats.column),
                ));
            }
            // A file written before the change set drops the column may still tell of it.
            if dropped.contains(&stats.column) {
                continue;
            }
            let ty = self.leaf_type(stats.column, leaves, &object)?;
            if let StatBounds::Range { min, max } = &stats.bounds
                && !(fits(min, ty) && fits(max, ty))
            {
                let detail = format!("the bounds of column {} are not {ty}", stats.column);
                return Err(invalid(object(), detail));
            }
            if !has_file_stats(ty) {
                continue;
            }
            let stats = FileColumnStats {
                contains_nan: nan_of(stats, ty),
                ..stats.clone()
            };
            let summary = Summary::of_file(&stats, ty);
            let (min, max) = summary.as_ref().map_or((None, None), Summary::file_bounds);
            plan.file_stats.push(FileStatsRow {
                file: id,
                table: self.id,
                column: stats.column,
                column_size_bytes: number(stats.column_size_bytes)?,
                value_count: number(stats.value_count)?,
                null_count: number(stats.null_count)?,
                min,
                max,
                contains_nan: stats.contains_nan,
            });
            summaries.insert(stats.column, summary);
        }
        Ok(summaries)
    }

    fn leaf_type<'a>(
        &self,
        column: ColumnId,
        leaves: &'a BTreeMap<ColumnId, LakeType>,
        object: &impl Fn() -> String,
    ) -> Result<&'a LakeType, CatalogError> {
        leaves.get(&column).ok_or_else(|| {
            if self.columns.iter().any(|state| state.id() == column) {
                return invalid(object(), format!("column {column} is not a leaf"));
            }
            CatalogError::new(CatalogErrorKind::TableChanged, self.object.clone())
                .with_detail(format!("it has no column {column}"))
        })
    }
}

fn nan_of(stats: &FileColumnStats, ty: &LakeType) -> Option<bool> {
    matches!(ty, LakeType::Float32 | LakeType::Float64)
        .then_some(stats.contains_nan)
        .flatten()
}

fn both(
    so_far: BTreeMap<ColumnId, Option<Summary>>,
    mut of_file: BTreeMap<ColumnId, Option<Summary>>,
) -> BTreeMap<ColumnId, Option<Summary>> {
    so_far
        .into_iter()
        .map(|(column, summary)| {
            let other = of_file.remove(&column).flatten();
            let joined = match (summary, other) {
                (Some(summary), Some(other)) => summary.and(other),
                _ => None,
            };
            (column, joined)
        })
        .collect()
}

/// Types of which no row is better than any: DuckDB keeps no usable statistics of them.
fn has_file_stats(ty: &LakeType) -> bool {
    !matches!(
        ty,
        LakeType::TimeTz
            | LakeType::Interval
            | LakeType::Int128
            | LakeType::UInt128
            | LakeType::Variant
            | LakeType::Geometry
            | LakeType::Other(_)
    )
}
