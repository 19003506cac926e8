//! The words of `ducklake_snapshot_changes.changes_made` (DuckLake specification, "Snapshot
//! changes"). A single word that DuckDB does not know breaks its commits and `snapshots()`.

use std::fmt;

use crate::{TableId, ViewId};

/// One change of a snapshot, ordered as DuckDB writes them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    DroppedTable(TableId),
    DroppedView(ViewId),
    CreatedSchema(String),
    CreatedTable { schema: String, table: String },
    CreatedView { schema: String, view: String },
    InsertedIntoTable(TableId),
    AlteredTable(TableId),
    AlteredView(ViewId),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DroppedTable(id) => write!(f, "dropped_table:{id}"),
            Self::DroppedView(id) => write!(f, "dropped_view:{id}"),
            Self::CreatedSchema(schema) => write!(f, "created_schema:{}", quote(schema)),
            Self::CreatedTable { schema, table } => {
                write!(f, "created_table:{}.{}", quote(schema), quote(table))
            }
            Self::CreatedView { schema, view } => {
                write!(f, "created_view:{}.{}", quote(schema), quote(view))
            }
            Self::InsertedIntoTable(id) => write!(f, "inserted_into_table:{id}"),
            Self::AlteredTable(id) => write!(f, "altered_table:{id}"),
            Self::AlteredView(id) => write!(f, "altered_view:{id}"),
        }
    }
}

/// The text of all changes of a snapshot.
pub(crate) fn changes_made(mut changes: Vec<Change>) -> String {
    changes.sort();
    changes.dedup();
    changes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// An SQL identifier in quotes, inner quotes doubled.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_spelled_and_quoted_as_the_format_says() {
        let text = changes_made(vec![
            Change::AlteredView(ViewId::new(9)),
            Change::AlteredTable(TableId::new(2)),
            Change::InsertedIntoTable(TableId::new(7)),
            Change::InsertedIntoTable(TableId::new(7)),
            Change::InsertedIntoTable(TableId::new(2)),
            Change::CreatedView {
                schema: "raw".into(),
                view: "v".into(),
            },
            Change::CreatedTable {
                schema: "we\"ird, x".into(),
                table: "t,\"q".into(),
            },
            Change::CreatedSchema("we\"ird, x".into()),
            Change::DroppedView(ViewId::new(5)),
            Change::DroppedTable(TableId::new(6)),
        ]);
        assert_eq!(
            text,
            "dropped_table:6,dropped_view:5,created_schema:\"we\"\"ird, x\",\
             created_table:\"we\"\"ird, x\".\"t,\"\"q\",created_view:\"raw\".\"v\",\
             inserted_into_table:2,inserted_into_table:7,altered_table:2,altered_view:9"
        );
        assert_eq!(changes_made(Vec::new()), "");
    }
}
