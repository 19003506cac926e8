//! Identifiers of catalog objects, one type each so that they cannot be mixed up.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// Wraps the number as stored in the catalog.
            pub const fn new(id: i64) -> Self {
                Self(id)
            }

            /// The number as stored in the catalog.
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// `ducklake_snapshot.snapshot_id`: dense, one per commit.
    SnapshotId
}
id! {
    /// `ducklake_schema.schema_id`.
    SchemaId
}
id! {
    /// `ducklake_table.table_id`: stays the same when the table is renamed.
    TableId
}
id! {
    /// `ducklake_view.view_id`: a replaced view gets a new one.
    ViewId
}
id! {
    /// `ducklake_column.column_id`: counted per table, never reused, and the Parquet field id of the
    /// column.
    ColumnId
}
id! {
    /// `ducklake_data_file.data_file_id`.
    DataFileId
}
