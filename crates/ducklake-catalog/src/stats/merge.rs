//! How `ducklake_table_column_stats` follows from the statistics of the files.

use std::cmp::Ordering;

use super::text::{fits, parse, render};
use crate::{FileColumnStats, LakeType, StatBounds, StatValue};

/// A row of `ducklake_table_column_stats`, without its keys.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ColumnStatsRow {
    pub(crate) contains_null: Option<bool>,
    pub(crate) contains_nan: Option<bool>,
    pub(crate) min: Option<String>,
    pub(crate) max: Option<String>,
}

/// What is known of a column over one or several files. Something unknown is no summary at all.
#[derive(Clone)]
pub(crate) struct Summary {
    contains_null: bool,
    contains_nan: Option<bool>,
    range: Option<Range>,
}

#[derive(Clone)]
struct Range {
    min: StatValue,
    max: StatValue,
}

/// What becomes of a table's row when files are added.
#[derive(PartialEq, Eq)]
pub(crate) enum Widened {
    Unchanged,
    Changed(ColumnStatsRow),
    /// Too little is known: the row goes, and never comes back.
    Unknown,
}

impl Summary {
    /// The summary of one file, or `None` when it leaves something unknown.
    pub(crate) fn of_file(stats: &FileColumnStats, ty: &LakeType) -> Option<Self> {
        let range = match &stats.bounds {
            StatBounds::Unknown => return None,
            // A row without bounds says that all values so far are NULL. With values that have no
            // bounds (only NaN) it would be a lie: the next writer would narrow the range.
            StatBounds::Empty if stats.value_count > 0 => return None,
            StatBounds::Empty => None,
            StatBounds::Range { min, max } => {
                let is_sound = [min, max]
                    .iter()
                    .all(|bound| fits(bound, ty) && render(bound).is_some());
                if !is_sound || compare(min, max)? == Ordering::Greater {
                    return None;
                }
                Some(Range {
                    min: min.clone(),
                    max: max.clone(),
                })
            }
        };
        Some(Self {
            contains_null: stats.null_count > 0,
            contains_nan: stats.contains_nan,
            range,
        })
    }

    /// The summary of both.
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        let range = match (self.range, other.range) {
            (Some(a), Some(b)) => Some(Range {
                min: if compare(&b.min, &a.min)? == Ordering::Less {
                    b.min
                } else {
                    a.min
                },
                max: if compare(&b.max, &a.max)? == Ordering::Greater {
                    b.max
                } else {
                    a.max
                },
            }),
            (a, b) => a.or(b),
        };
        Some(Self {
            contains_null: self.contains_null || other.contains_null,
            contains_nan: either(self.contains_nan, other.contains_nan),
            range,
        })
    }

    /// The bounds in a file's row, by which readers skip the file.
    ///
    /// DuckLake holds a bound of a `float32` against the double that has the shortest digits of a filter's constant,
    /// where these have an exponent: `1e-45` is less than the least single, which has these digits. Such a bound is
    /// moved outwards by one step. A table's bounds stay exact, as they answer `min` and `max`.
    pub(crate) fn file_bounds(&self) -> (Option<String>, Option<String>) {
        let outwards = |bound: &StatValue, step: fn(f32) -> f32| {
            let text = render(bound)?;
            match bound {
                StatValue::Float32(value) if text.contains('e') => {
                    render(&StatValue::Float32(step(*value)))
                }
                _ => Some(text),
            }
        };
        match &self.range {
            Some(range) => (
                outwards(&range.min, f32::next_down),
                outwards(&range.max, f32::next_up),
            ),
            None => (None, None),
        }
    }

    /// The first row of a table without data.
    pub(crate) fn into_row(self) -> ColumnStatsRow {
        let (min, max) = match self.range {
            Some(range) => (render(&range.min), render(&range.max)),
            None => (None, None),
        };
        ColumnStatsRow {
            contains_null: Some(self.contains_null),
            contains_nan: self.contains_nan,
            min,
            max,
        }
    }
}

/// Widens a table's row by the summary of new files; `None` as the summary means unknown.
///
/// `hides_values` says that some file has values of the column without bounds: then a row without
/// bounds does not mean that there are no values.
pub(crate) fn widen(
    row: &ColumnStatsRow,
    ty: &LakeType,
    added: Option<&Summary>,
    hides_values: bool,
) -> Widened {
    let Some(added) = added else {
        return Widened::Unknown;
    };
    let bounds = match (&row.min, &row.max) {
        (None, None) if added.range.is_some() && hides_values => return Widened::Unknown,
        (None, None) => added
            .range
            .as_ref()
            .map(|range| (render(&range.min), render(&range.max))),
        (Some(min), Some(max)) => match &added.range {
            None => Some((row.min.clone(), row.max.clone())),
            Some(range) => {
                let (Some(old_min), Some(old_max)) = (parse(min, ty), parse(max, ty)) else {
                    return Widened::Unknown;
                };
                let (Some(low), Some(high)) =
                    (compare(&range.min, &old_min), compare(&range.max, &old_max))
                else {
                    return Widened::Unknown;
                };
                let min = if low == Ordering::Less {
                    render(&range.min)
                } else {
                    row.min.clone()
                };
                let max = if high == Ordering::Greater {
                    render(&range.max)
                } else {
                    row.max.clone()
                };
                Some((min, max))
            }
        },
        _ => return Widened::Unknown,
    };
    let (min, max) = match bounds {
        Some((Some(min), Some(max))) => (Some(min), Some(max)),
        Some(_) => return Widened::Unknown,
        None => (None, None),
    };
    let widened = ColumnStatsRow {
        contains_null: either(row.contains_null, Some(added.contains_null)),
        contains_nan: either(row.contains_nan, added.contains_nan),
        min,
        max,
    };
    if widened == *row {
        Widened::Unchanged
    } else {
        Widened::Changed(widened)
    }
}

/// Whether either holds, where `None` is not known.
fn either(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

/// The order of two values of one type; `None` for values of different types.
fn compare(a: &StatValue, b: &StatValue) -> Option<Ordering> {
    use StatValue as V;
    match (a, b) {
        (V::Bool(a), V::Bool(b)) => Some(a.cmp(b)),
        (V::Int(a), V::Int(b))
        | (V::Time(a), V::Time(b))
        | (V::Timestamp(a), V::Timestamp(b))
        | (V::TimestampTz(a), V::TimestampTz(b)) => Some(a.cmp(b)),
        (V::Float32(a), V::Float32(b)) => a.partial_cmp(b),
        (V::Float64(a), V::Float64(b)) => a.partial_cmp(b),
        (
            V::Decimal { value: a, scale },
            V::Decimal {
                value: b,
                scale: other,
            },
        ) if scale == other => Some(a.cmp(b)),
        (V::Utf8(a), V::Utf8(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (V::Date(a), V::Date(b)) => Some(a.cmp(b)),
        (V::Uuid(a), V::Uuid(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
