//! Why a row is not appended.

use std::fmt;

use parquet_writer::WriteError;
use serde::ser;

/// Why a row is not appended; never a value (I14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A field has no column yet.
    NewField,
    /// The batch has no more room for the row, the next one has.
    Full,
    /// The row does not fit the table.
    Unfit(String),
}

impl Problem {
    pub(crate) fn unfit(problem: impl Into<String>) -> Self {
        Self::Unfit(problem.into())
    }

    /// Says in which column, unless it is said already.
    pub(crate) fn in_column(self, column: &str) -> Self {
        match self {
            Self::Unfit(problem) => Self::Unfit(format!("column {column:?}: {problem}")),
            other => other,
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ColumnFull { .. } => Self::Full,
            WriteError::ValueOutOfRange { .. } => Self::unfit("a value out of range"),
            other => Self::Unfit(other.to_string()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewField => f.write_str("a field without a column"),
            Self::Full => f.write_str("a row that is too large"),
            Self::Unfit(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Problem {}

impl ser::Error for Problem {
    /// The message may hold values of the row.
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self::unfit("its implementation of Serialize failed")
    }
}
