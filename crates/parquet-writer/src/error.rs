//! The crate's error type.

use std::sync::Arc;

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;
use thiserror::Error;

use crate::schema::ColumnType;

/// What can go wrong between a typed value and the bytes of a Parquet file.
///
/// No variant carries a value of a row. Columns are named as the schema names them; a node below a
/// column has the names from the column down, joined by dots.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A schema needs at least one column.
    #[error("schema has no columns")]
    EmptySchema,
    /// Field ids start at 1: DuckLake uses them as column ids.
    #[error("column {column}: field id {field_id} is below 1")]
    FieldIdOutOfRange {
        /// The column.
        column: String,
        /// The id given.
        field_id: i32,
    },
    /// Two nodes of the schema have the same field id.
    #[error("column {column}: field id {field_id} is already taken")]
    DuplicateFieldId {
        /// The second column that claims the id.
        column: String,
        /// The id given twice.
        field_id: i32,
    },
    /// Precision must be within 1 to 38 and scale must not exceed it.
    #[error("column {column}: decimal({precision}, {scale}) is not supported")]
    InvalidDecimal {
        /// The column.
        column: String,
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// A list without children, with several, or with one of another name.
    #[error("column {column}: a list needs one child, named element")]
    ListNeedsElement {
        /// The column.
        column: String,
    },
    /// A struct without fields: Parquet has no groups without leaves.
    #[error("column {column}: a struct needs at least one field")]
    StructNeedsFields {
        /// The column.
        column: String,
    },
    /// Two fields of a struct have the same name.
    #[error("column {column}: the struct has two fields named {field}")]
    DuplicateFieldName {
        /// The column.
        column: String,
        /// The name given twice.
        field: String,
    },
    /// Children of a column that is neither list nor struct.
    #[error("column {column}: only lists and structs have children")]
    UnexpectedChildren {
        /// The column.
        column: String,
    },
    /// A column nests lists and structs deeper than is supported.
    #[error("column {column} is nested deeper than {most} levels")]
    NestedTooDeep {
        /// The first node that is too deep.
        column: String,
        /// Levels allowed.
        most: usize,
    },
    /// A value of the wrong type was appended; the column is unchanged.
    #[error("column {column} of type {column_type} does not take {given}")]
    WrongType {
        /// The column.
        column: Arc<str>,
        /// The column's type.
        column_type: ColumnType,
        /// The kind of value given.
        given: &'static str,
    },
    /// A null was appended to a column that does not take nulls; the column is unchanged.
    #[error("column {column} does not take nulls")]
    NullInRequiredColumn {
        /// The column.
        column: Arc<str>,
    },
    /// The value is outside what the column's type can hold in a file; the column is unchanged.
    #[error("column {column}: value is outside the range of {column_type}")]
    ValueOutOfRange {
        /// The column.
        column: Arc<str>,
        /// The column's type.
        column_type: ColumnType,
    },
    /// The batch holds 2 GiB of this column's bytes, or 2^31 elements of its lists; the column is
    /// unchanged.
    #[error("column {column}: batch is full, its bytes or list elements would pass 2^31")]
    ColumnFull {
        /// The column.
        column: Arc<str>,
    },
    /// A row was ended, a list, struct or null appended, or a batch taken, while a column or a node
    /// below it had too few or too many values.
    #[error("column {column} has {actual} values where {expected} are expected")]
    IncompleteRow {
        /// The first such column.
        column: Arc<str>,
        /// Values the column should have.
        expected: usize,
        /// Values it has.
        actual: usize,
    },
    /// More rows were asked for than the builder has.
    #[error("cannot split {rows} rows after row {at}")]
    SplitOutOfRange {
        /// The row asked for.
        at: usize,
        /// Rows in the builder.
        rows: usize,
    },
    /// An encode option has a value that makes no sense.
    #[error("encode option {option} is out of range")]
    InvalidOption {
        /// The option's name.
        option: &'static str,
    },
    /// The batch was not built for the encoder's schema.
    #[error("batch does not have the schema of the file")]
    SchemaMismatch,
    /// An earlier batch could not be encoded as a whole, so the file must not be used.
    #[error("an earlier batch was not encoded, the file is incomplete")]
    IncompleteFile,
    /// The finished file has no footer where one must be.
    #[error("encoded file has no footer")]
    MissingFooter,
    /// A size does not fit its type.
    #[error("size of {what} does not fit its type")]
    SizeOverflow {
        /// What was measured.
        what: &'static str,
    },
    /// Arrow refused the values.
    #[error("cannot assemble an arrow batch")]
    Arrow(#[from] ArrowError),
    /// Parquet refused the batch or the options.
    #[error("cannot encode a parquet file")]
    Parquet(#[from] ParquetError),
}
