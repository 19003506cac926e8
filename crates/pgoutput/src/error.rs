//! Why bytes could not be decoded, or a value not be encoded.

use std::fmt;

/// A message that could not be decoded.
///
/// Copyable and free of row values: it names the message, the field and the place, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    kind: DecodeErrorKind,
    field: &'static str,
    tag: Option<u8>,
    offset: usize,
}

impl DecodeError {
    pub(crate) const fn new(
        kind: DecodeErrorKind,
        field: &'static str,
        tag: Option<u8>,
        offset: usize,
    ) -> Self {
        Self {
            kind,
            field,
            tag,
            offset,
        }
    }

    /// What is wrong.
    pub const fn kind(&self) -> DecodeErrorKind {
        self.kind
    }

    /// The field in which it was found, in words.
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// The first byte of the message; `None` when there is none (empty input, COPY data).
    pub const fn tag(&self) -> Option<u8> {
        self.tag
    }

    /// Bytes from the beginning of the input to the place of the error. For COPY data, bytes from
    /// the beginning of the whole COPY stream.
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot decode replication data")?;
        if let Some(tag) = self.tag {
            write!(f, " of type '{}'", tag.escape_ascii())?;
        }
        write!(f, ": {} {} at byte {}", self.field, self.kind, self.offset)
    }
}

impl std::error::Error for DecodeError {}

/// What is wrong with the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The input ends before the field does.
    #[error("is cut off")]
    Truncated,
    /// Bytes are left over after the last field.
    #[error("is followed by unexpected bytes")]
    TrailingBytes,
    /// A length or count is negative.
    #[error("is negative")]
    Negative,
    /// A string has no terminating zero byte.
    #[error("has no terminator")]
    Unterminated,
    /// A string is not UTF-8. Replication sessions must set `client_encoding` to UTF8.
    #[error("is not valid UTF-8")]
    InvalidUtf8,
    /// A tag or flag has a value that the protocol does not define.
    #[error("has an unknown value")]
    UnknownValue,
    /// The number of columns is not the expected one.
    #[error("differs from the expected count")]
    WrongCount,
    /// The message belongs to a later protocol version than the one that was asked for.
    #[error("belongs to a later protocol version")]
    LaterVersion,
    /// The message cannot appear between Stream Start and Stream Stop.
    #[error("must not appear inside a stream block")]
    InsideStream,
    /// The message can only appear between Stream Start and Stream Stop.
    #[error("must not appear outside a stream block")]
    OutsideStream,
}

/// A value that the wire format cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string contains a zero byte, which ends strings on the wire.
    #[error("{0} contains a zero byte")]
    ZeroByte(&'static str),
    /// More columns or relations than the count field can hold.
    #[error("{0} has too many entries")]
    TooMany(&'static str),
    /// A value of 2 GiB or more.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// COPY data has no notion of an unchanged value, nor of text values among binary ones.
    #[error("COPY data holds only null and binary values")]
    NotInCopy,
}
