//! Which of a table's known columns the columns on the wire are.
//!
//! A Relation message has names and types, and no attribute numbers. What it does have is order: columns come by
//! `attnum`, which never changes and is never used again, so known columns that are still there come first and in
//! their order, and new ones after them. Where that leaves a choice (a rename, or a drop and an addition), the catalog
//! decides as far as it still can: it may be newer than the message.

use crate::plan::ShapeColumn;

/// A column as the source's catalog has it now.
#[derive(Clone, Copy, Debug)]
pub(super) struct LiveColumn<'a> {
    pub(super) attnum: i16,
    pub(super) name: &'a str,
}

/// What a column on the wire is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The known column that it is; `None` for a new one.
    pub(super) known: Option<usize>,
    /// Where the catalog tells it.
    pub(super) attnum: Option<i16>,
}

/// What each column on the wire is. `live` is empty when the table is gone. `renames` are announced ones, old name and
/// new name.
pub(super) fn align(
    known: &[ShapeColumn],
    wire: &[&str],
    live: &[LiveColumn<'_>],
    renames: &[(String, String)],
) -> Vec<Origin> {
    // The catalog is as old as the message: each column's number is known.
    if !live.is_empty()
        && live
            .iter()
            .map(|column| column.name)
            .eq(wire.iter().copied())
    {
        return live
            .iter()
            .map(|column| by_number(known, *column))
            .collect();
    }
    let costs = Costs {
        known,
        wire,
        live,
        renames,
    };
    let matched = costs.best_prefix();
    let mut last = known.iter().filter_map(|column| column.attnum).max();
    let mut origins = Vec::with_capacity(wire.len());
    for (position, name) in wire.iter().enumerate() {
        let origin = if let Some(index) = matched.get(position) {
            Origin {
                known: Some(*index),
                attnum: known.get(*index).and_then(|column| column.attnum),
            }
        } else {
            let attnum = costs.new_number(name, last);
            last = attnum.or(last);
            Origin {
                known: None,
                attnum,
            }
        };
        origins.push(origin);
    }
    origins
}

/// By number; by name where a known column has none (its control row was written by an earlier version).
fn by_number(known: &[ShapeColumn], column: LiveColumn<'_>) -> Origin {
    let found = known.iter().position(|other| match other.attnum {
        Some(attnum) => attnum == column.attnum,
        None => other.name == column.name,
    });
    Origin {
        known: found,
        attnum: Some(column.attnum),
    }
}

struct Costs<'a> {
    known: &'a [ShapeColumn],
    wire: &'a [&'a str],
    live: &'a [LiveColumn<'a>],
    renames: &'a [(String, String)],
}

/// More than any number of likely steps.
const NEVER: u32 = 1 << 20;

impl Costs<'_> {
    /// The known columns that the first columns on the wire are, by position; the others are new.
    ///
    /// The cheapest of all ways that keep the order, by dynamic programming.
    fn best_prefix(&self) -> Vec<usize> {
        let (rows, columns) = (self.known.len(), self.wire.len());
        let width = columns + 1;
        // cost[i * width + j]: the first i known columns account for the first j on the wire.
        let mut cost = vec![NEVER; (rows + 1) * width];
        let at =
            |table: &[u32], i: usize, j: usize| table.get(i * width + j).copied().unwrap_or(NEVER);
        if let Some(first) = cost.first_mut() {
            *first = 0;
        }
        for i in 1..=rows {
            for j in 0..=columns {
                let gone = at(&cost, i - 1, j).saturating_add(self.gone(i - 1));
                let same = if j > 0 {
                    at(&cost, i - 1, j - 1).saturating_add(self.same(i - 1, j - 1))
                } else {
                    NEVER
                };
                if let Some(cell) = cost.get_mut(i * width + j) {
                    *cell = gone.min(same);
                }
            }
        }
        let last = self.known.iter().filter_map(|column| column.attnum).max();
        let new = |j: usize| -> u32 {
            let names = self.wire.get(j..).unwrap_or_default();
            names
                .iter()
                .map(|name| u32::from(self.new_number(name, last).is_none()))
                .sum()
        };
        let total = |j: usize| at(&cost, rows, j).saturating_add(new(j));
        // Of equal ways the one with more columns kept.
        let mut j = (0..=columns)
            .rev()
            .min_by_key(|j| total(*j))
            .unwrap_or_default();
        let mut matched = Vec::with_capacity(j);
        let mut i = rows;
        while i > 0 {
            let gone = at(&cost, i - 1, j).saturating_add(self.gone(i - 1));
            if gone > at(&cost, i, j) {
                matched.push(i - 1);
                j -= 1;
            }
            i -= 1;
        }
        matched.reverse();
        matched
    }

    fn live_name(&self, attnum: i16) -> Option<&str> {
        let found = self.live.iter().find(|column| column.attnum == attnum);
        found.map(|column| column.name)
    }

    /// The number of a new column of that name, if the catalog has one.
    fn new_number(&self, name: &str, after: Option<i16>) -> Option<i16> {
        self.live
            .iter()
            .find(|column| column.name == name && after.is_none_or(|after| column.attnum > after))
            .map(|column| column.attnum)
    }

    /// What it takes that a known column is not on the wire.
    fn gone(&self, index: usize) -> u32 {
        let Some(column) = self.known.get(index) else {
            return NEVER;
        };
        if self.renames.iter().any(|(old, _)| *old == column.name) {
            return 8;
        }
        match column.attnum {
            Some(attnum) if self.live_name(attnum).is_some() => 64,
            Some(_) if !self.live.is_empty() => 2,
            _ => 3,
        }
    }

    /// What it takes that a known column is this one on the wire.
    fn same(&self, index: usize, position: usize) -> u32 {
        let (Some(column), Some(name)) = (self.known.get(index), self.wire.get(position)) else {
            return NEVER;
        };
        let announced = self
            .renames
            .iter()
            .any(|(old, new)| *old == column.name && new == name);
        if announced {
            return 0;
        }
        let live = column.attnum.map(|attnum| self.live_name(attnum));
        let last = self.known.iter().filter_map(|column| column.attnum).max();
        match (column.name == *name, live) {
            (true, Some(Some(live))) => u32::from(live != *name),
            // Dropped since; or dropped before, and the name is a new column's.
            (true, Some(None)) if self.new_number(name, last).is_some() => 3,
            (true, Some(None)) => 1,
            (true, None) => 0,
            (false, Some(Some(live))) => 1 + u32::from(live != *name),
            // Renamed and dropped since is less likely than dropped, with another one added.
            (false, Some(None) | None) => 5,
        }
    }
}

#[cfg(test)]
mod tests;
