//! Column statistics: their text in the catalog, and how those of a table grow.
//!
//! Readers take a table's statistics for the truth, at every snapshot: a range that is too narrow
//! gives wrong results, while a missing row only costs speed. So a table's row is widened while
//! everything about it is understood, and deleted for good as soon as something is not.

mod calendar;
mod merge;
mod text;

pub(crate) use merge::{ColumnStatsRow, Summary, Widened, widen};
pub(crate) use text::{canonical_bound, fits, shift_to_utc};
