//! Typed columns to Parquet bytes, with exact statistics per column.
//!
//! The crate turns rows into the Parquet files a [DuckLake](https://ducklake.select) is made of, and
//! tells the numbers that its catalog wants to know about each file. It knows neither the catalog nor
//! where the rows come from.
//!
//! - [`FileSchema`] says what the columns are. Every node of the file carries a Parquet field id, by
//!   which a lake finds its columns.
//! - [`RowBatchBuilder`] collects rows column by column, without an allocation per row. A row that
//!   fails half way is dropped; a batch can be cut at any row. Lists and structs nest in each other.
//! - [`FileEncoder`] encodes batches into row groups and hands out their bytes as they are done, so
//!   that a file is never in memory as a whole.
//! - [`EncodedFile`] says what the file is: rows, bytes, footer, and per leaf column the exact
//!   minimum, maximum, null count and size. They are gathered from the values, not read back from the footer,
//!   which may cut long strings.
//!
//! It does no IO and has no asynchronous code; encoding costs CPU time that belongs on a thread for
//! blocking work.
//!
//! ```
//! use parquet_writer::{
//!     Bounds, ColumnSpec, ColumnType, EncodeOptions, FileEncoder, FileSchema, RowBatchBuilder,
//!     StatValue,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let schema = FileSchema::new(vec![
//!     ColumnSpec::new("id", 1, ColumnType::Int64),
//!     ColumnSpec::new("name", 2, ColumnType::Utf8),
//! ])?;
//!
//! let mut batch = RowBatchBuilder::new(&schema);
//! for (id, name) in [(7, Some("ada")), (8, None)] {
//!     let [id_column, name_column] = batch.columns_mut() else { unreachable!() };
//!     id_column.append_i64(id)?;
//!     match name {
//!         Some(name) => name_column.append_str(name)?,
//!         None => name_column.append_null()?,
//!     }
//!     batch.end_row()?;
//! }
//!
//! let mut encoder = FileEncoder::new(&schema, &EncodeOptions::default())?;
//! encoder.write(&batch.finish()?)?;
//! let mut file = Vec::new();
//! if let Some(part) = encoder.take_encoded() {
//!     file.extend_from_slice(&part);
//! }
//! let (tail, encoded) = encoder.finish()?;
//! file.extend_from_slice(&tail);
//!
//! assert_eq!(encoded.size_bytes, file.len() as u64);
//! assert_eq!(encoded.columns[1].null_count, 1);
//! let range = Bounds::Range { min: StatValue::Int(7), max: StatValue::Int(8) };
//! assert_eq!(encoded.columns[0].bounds, range);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod accumulate;
mod batch;
mod column;
mod encoder;
mod error;
mod nested;
mod options;
mod row_group;
mod schema;
mod stats;
mod values;

#[cfg(test)]
mod tests;

pub use batch::RowBatchBuilder;
pub use column::ColumnBuilder;
pub use encoder::{EncodedFile, FileEncoder};
pub use error::WriteError;
pub use options::EncodeOptions;
pub use schema::{ColumnSpec, ColumnType, FileSchema};
pub use stats::{Bounds, ColumnStats, StatValue};
