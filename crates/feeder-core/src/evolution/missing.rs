//! What rows from before a column was added have in it, without a change in the stream.

use cdc_source::TableKind;
use cdc_source::tables::Generated;

use super::Found;
use crate::plan::ShapeColumn;

/// What rows from before a column was added have in it.
pub(super) enum Missing {
    Null,
    Constant(String),
    /// Something that only the rows themselves tell.
    Unknown,
}

pub(super) fn missing(column: &ShapeColumn, found: &Found, rewritten: bool) -> Missing {
    let Some(plan) = &found.plan else {
        return Missing::Null;
    };
    let live = plan
        .info
        .columns
        .iter()
        .find(|live| Some(live.attnum) == column.attnum);
    match live {
        // Dropped since: nobody can tell any more, and nobody can read it at the source.
        None => Missing::Null,
        Some(live) => match &live.missing_value {
            Some(text) => Missing::Constant(text.clone()),
            None if rewritten || live.generated == Generated::Stored => Missing::Unknown,
            // The leaves have the values, each for itself.
            None if plan.info.id.kind == TableKind::Partitioned && live.has_default => {
                Missing::Unknown
            }
            None => Missing::Null,
        },
    }
}
