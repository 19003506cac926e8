//! Append streams: rows that do not come from a source's WAL, through the same encoder, store and catalog commit.
//!
//! ```text
//!   AppendStream --push--> buffers --seal--> committer --one catalog transaction--> lake, positions of producers
//! ```
//!
//! A stream works on its own ([`run`]: a feeder without a source), or beside the change tables of a running feeder,
//! whose committer then takes its rows into the same commits.

mod batch;
mod buffers;
mod cell;
mod chunk;
mod column;
mod follow;
mod given;
mod infer;
mod lake;
mod options;
mod problem;
mod rfc3339;
mod row;
mod run;
mod state;
mod stream;
mod table;
#[cfg(test)]
mod tests;

pub use arrow_array::RecordBatch;
use ducklake_catalog::LakeType;

pub(crate) use buffers::{Buffers, Sealed, SealedTable};
pub use column::{AppendTable, ColumnType};
#[cfg(test)]
pub(crate) use follow::Shown;
pub(crate) use follow::follow;
pub(crate) use lake::{WrittenTable, ensure};
pub use options::{AppendOptions, Overflow};
pub(crate) use run::{Abandon, begin};
pub use run::{AppendConfig, run};
pub use stream::{AppendStream, Appended, Producer, Receipt};
pub use table::AppendCounts;

pub(crate) use batch::for_file;
#[cfg(test)]
pub(crate) use rfc3339::instant;

/// `_df_op` of appended rows.
pub(crate) const OP: &str = "append";

/// Names of the columns that come before the event's, in order.
pub(crate) const META_NAMES: [&str; 4] = ["_df_op", "_df_timestamp", "_df_lsn", "_df_seq"];

/// Their types.
pub(crate) const META: [LakeType; 4] = [
    LakeType::Varchar,
    LakeType::TimestampTz,
    LakeType::Int64,
    LakeType::Int64,
];
