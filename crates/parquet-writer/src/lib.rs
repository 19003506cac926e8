//! Typed columns to Parquet bytes, with exact statistics per column.
#![forbid(unsafe_code)]

mod accumulate;
mod batch;
mod column;
mod encoder;
mod error;
mod options;
mod schema;
mod stats;
mod values;

pub use batch::RowBatchBuilder;
pub use column::ColumnBuilder;
pub use encoder::{EncodedFile, FileEncoder};
pub use error::WriteError;
pub use options::EncodeOptions;
pub use schema::{ColumnSpec, ColumnType, FileSchema};
pub use stats::{Bounds, ColumnStats, StatValue};
