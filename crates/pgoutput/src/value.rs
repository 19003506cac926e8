//! Values from their text and binary representation.
//!
//! [`text`] and [`binary`] hold functions of the same names. They allocate nothing, except in a
//! buffer that the caller passes and for the parts of arrays and rows that are escaped in text, and
//! accept only what the server sends in a session with `DateStyle` ISO, `lc_monetary` C and
//! `client_encoding` UTF8.
//!
//! [`render`] makes the text out of the binary format.

mod array;
pub mod binary;
mod calendar;
mod decimal;
pub mod render;
pub mod text;

use std::fmt;

pub use array::Dimension;

/// A value that is not what its type promises, or that the result type cannot hold.
///
/// Copyable and free of the value itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueError {
    type_name: &'static str,
    kind: ValueErrorKind,
}

impl ValueError {
    pub(crate) const fn new(type_name: &'static str, kind: ValueErrorKind) -> Self {
        Self { type_name, kind }
    }

    /// The Postgres type that was expected.
    pub const fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// What is wrong.
    pub const fn kind(&self) -> ValueErrorKind {
        self.kind
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} value {}", self.type_name, self.kind)
    }
}

impl std::error::Error for ValueError {}

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ValueErrorKind {
    /// The bytes are not a representation of the type.
    #[error("is malformed")]
    Malformed,
    /// The result type, or the precision that was asked for, cannot hold it.
    #[error("is out of range")]
    OutOfRange,
    /// It has digits other than zero beyond the scale that was asked for.
    #[error("has more decimal places than the scale")]
    Inexact,
    /// It is `NaN`, which a decimal number cannot hold.
    #[error("is not a number")]
    NotANumber,
    /// It is `Infinity`, which a decimal number cannot hold.
    #[error("is infinite")]
    Infinity,
    /// It is `-Infinity`, which a decimal number cannot hold.
    #[error("is negative infinite")]
    NegativeInfinity,
    /// It is not UTF-8.
    #[error("is not valid UTF-8")]
    InvalidUtf8,
    /// Its binary format has another version than the known one.
    #[error("has an unknown format version")]
    UnknownVersion,
}
