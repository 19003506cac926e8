//! Rows of a simple query: text values, by position or by column name.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, RowDescriptionBody};

use crate::error::SourceError;

/// One row of a simple query. `Debug` shows column names, not values.
#[derive(Clone)]
pub struct Row {
    columns: Arc<[String]>,
    body: Bytes,
    ranges: Vec<Option<Range<usize>>>,
}

pub(crate) fn column_names(body: &RowDescriptionBody) -> Result<Arc<[String]>, SourceError> {
    body.fields()
        .map(|field| Ok(field.name().to_owned()))
        .collect::<Vec<_>>()
        .map(Arc::from)
        .map_err(|cause| SourceError::malformed("row description", cause))
}

pub(crate) fn column_modifiers(body: &RowDescriptionBody) -> Result<Vec<i32>, SourceError> {
    body.fields()
        .map(|field| Ok(field.type_modifier()))
        .collect()
        .map_err(|cause| SourceError::malformed("row description", cause))
}

impl Row {
    pub(crate) fn new(columns: &Arc<[String]>, body: &DataRowBody) -> Result<Self, SourceError> {
        let ranges = body
            .ranges()
            .collect::<Vec<_>>()
            .map_err(|cause| SourceError::malformed("data row", cause))?;
        if ranges.len() != columns.len() {
            return Err(SourceError::protocol(
                "a row and its description differ in length",
            ));
        }
        let body = body.buffer_bytes().clone();
        for range in ranges.iter().flatten() {
            if body
                .get(range.clone())
                .is_none_or(|bytes| std::str::from_utf8(bytes).is_err())
            {
                return Err(SourceError::protocol(
                    "a row has a value that is no UTF-8 text",
                ));
            }
        }
        Ok(Self {
            columns: Arc::clone(columns),
            body,
            ranges,
        })
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the row has no columns.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The value at a position; `None` for NULL, and beyond the last column.
    pub fn get(&self, index: usize) -> Option<&str> {
        let range = self.ranges.get(index)?.clone()?;
        std::str::from_utf8(self.body.get(range)?).ok()
    }

    /// The value of a column that may be NULL.
    ///
    /// # Errors
    /// There is no such column.
    pub fn opt(&self, name: &str) -> Result<Option<&str>, SourceError> {
        match self.columns.iter().position(|column| column == name) {
            Some(index) => Ok(self.get(index)),
            None => Err(SourceError::protocol(format!(
                "a result has no column \"{name}\""
            ))),
        }
    }

    /// The value of a column.
    ///
    /// # Errors
    /// There is no such column, or it is NULL.
    pub fn text(&self, name: &str) -> Result<&str, SourceError> {
        self.opt(name)?
            .ok_or_else(|| SourceError::protocol(format!("column \"{name}\" of a result is null")))
    }

    /// The value of a column, parsed.
    ///
    /// # Errors
    /// As [`Row::text`], or the value does not parse; it is not repeated in the error.
    pub fn parse<T: FromStr>(&self, name: &str) -> Result<T, SourceError> {
        parsed(name, self.text(name)?)
    }

    /// The value of a column that may be NULL, parsed.
    ///
    /// # Errors
    /// As [`Row::opt`], or the value does not parse; it is not repeated in the error.
    pub fn parse_opt<T: FromStr>(&self, name: &str) -> Result<Option<T>, SourceError> {
        self.opt(name)?.map(|text| parsed(name, text)).transpose()
    }

    /// The value of a boolean column.
    ///
    /// # Errors
    /// As [`Row::text`], or the value is neither `t` nor `f`.
    pub fn flag(&self, name: &str) -> Result<bool, SourceError> {
        match self.text(name)? {
            "t" => Ok(true),
            "f" => Ok(false),
            _ => Err(unexpected(name)),
        }
    }
}

fn parsed<T: FromStr>(name: &str, text: &str) -> Result<T, SourceError> {
    text.parse().map_err(|_| unexpected(name))
}

fn unexpected(name: &str) -> SourceError {
    SourceError::protocol(format!(
        "column \"{name}\" of a result has an unexpected value"
    ))
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}
