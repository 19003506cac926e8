//! Rows: one validated buffer, iterated by borrow.

use std::fmt;
use std::iter::FusedIterator;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::reader::{Cursor, Reader};
use crate::writer::put_bytes32;

const NULL: u8 = b'n';
const UNCHANGED_TOAST: u8 = b'u';
const TEXT: u8 = b't';
const BINARY: u8 = b'b';

/// Bytes of the column count in front of a row.
const COUNT_LEN: usize = 2;

/// One value of a row, borrowed from the message it came in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Datum<'a> {
    /// SQL NULL.
    Null,
    /// A large value that an update left alone and that is therefore not in the log.
    UnchangedToast,
    /// The output text of the column's type; see [`value::text`](crate::value::text).
    Text(&'a [u8]),
    /// The binary send format of the column's type; see [`value::binary`](crate::value::binary).
    Binary(&'a [u8]),
}

/// Shows sizes, never values.
impl fmt::Debug for Datum<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::UnchangedToast => f.write_str("UnchangedToast"),
            Self::Text(bytes) => write!(f, "Text({} bytes)", bytes.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

/// A row as it came over the wire (TupleData in the Postgres documentation,
/// "Logical Replication Message Formats").
///
/// It shares the buffer of its message and keeps that buffer alive. The bytes were checked once
/// when it was decoded, so iteration neither fails nor allocates.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tuple {
    columns: u16,
    body: Bytes,
}

impl Tuple {
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let columns = reader.count16("column count")?;
        let len = body_len(reader, columns)?;
        let body = reader.take(len, "row")?;
        Ok(Self { columns, body })
    }

    pub(crate) fn encode(&self, dst: &mut BytesMut) {
        dst.put_u16(self.columns);
        dst.put_slice(&self.body);
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// Whether the row has no columns, as rows of a table without columns have.
    pub const fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// Bytes on the wire, including the column count.
    pub const fn wire_len(&self) -> usize {
        self.body.len() + COUNT_LEN
    }

    /// The values in column order.
    pub fn iter(&self) -> TupleIter<'_> {
        TupleIter {
            left: self.columns,
            cursor: Cursor::new(&self.body),
        }
    }
}

/// Shows the size, never the values.
impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tuple({} columns, {} bytes)",
            self.columns,
            self.wire_len()
        )
    }
}

impl<'a> IntoIterator for &'a Tuple {
    type Item = Datum<'a>;
    type IntoIter = TupleIter<'a>;

    fn into_iter(self) -> TupleIter<'a> {
        self.iter()
    }
}

/// Checks `columns` values ahead of the reader and returns the number of bytes they take.
fn body_len(reader: &Reader, columns: u16) -> Result<usize, DecodeError> {
    let mut cursor = Cursor::new(reader.rest());
    let total = cursor.len();
    for _ in 0..columns {
        let at = total - cursor.len();
        let error = |kind, field, after| reader.error_ahead(kind, field, at + after);
        let Some(tag) = cursor.u8() else {
            return Err(error(DecodeErrorKind::Truncated, "column kind", 0));
        };
        match tag {
            NULL | UNCHANGED_TOAST => {}
            TEXT | BINARY => {
                let Some(len) = cursor.i32() else {
                    return Err(error(DecodeErrorKind::Truncated, "column length", 1));
                };
                let Ok(len) = usize::try_from(len) else {
                    return Err(error(DecodeErrorKind::Negative, "column length", 1));
                };
                if cursor.take(len).is_none() {
                    return Err(error(DecodeErrorKind::Truncated, "column value", 5));
                }
            }
            _ => return Err(error(DecodeErrorKind::UnknownValue, "column kind", 0)),
        }
    }
    Ok(total - cursor.len())
}

/// Iterates over the values of a [`Tuple`].
#[derive(Clone)]
pub struct TupleIter<'a> {
    left: u16,
    cursor: Cursor<'a>,
}

impl<'a> TupleIter<'a> {
    /// `None` cannot happen: the bytes were checked when the tuple was made.
    fn read(&mut self) -> Option<Datum<'a>> {
        Some(match self.cursor.u8()? {
            TEXT => Datum::Text(self.value()?),
            BINARY => Datum::Binary(self.value()?),
            UNCHANGED_TOAST => Datum::UnchangedToast,
            _ => Datum::Null,
        })
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.cursor.i32()?).ok()?;
        self.cursor.take(len)
    }
}

impl<'a> Iterator for TupleIter<'a> {
    type Item = Datum<'a>;

    fn next(&mut self) -> Option<Datum<'a>> {
        self.left = self.left.checked_sub(1)?;
        self.read()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.left);
        (left, Some(left))
    }
}

impl ExactSizeIterator for TupleIter<'_> {}
impl FusedIterator for TupleIter<'_> {}

impl fmt::Debug for TupleIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TupleIter")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// Builds a [`Tuple`] value by value.
#[derive(Default)]
pub struct TupleBuilder {
    columns: i16,
    body: BytesMut,
}

impl TupleBuilder {
    /// An empty row.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a value. Fails, and appends nothing, when the row has 32,767 columns already or the
    /// value is 2 GiB or longer.
    pub fn push(&mut self, datum: Datum<'_>) -> Result<(), EncodeError> {
        let columns = self
            .columns
            .checked_add(1)
            .ok_or(EncodeError::TooMany("row"))?;
        let start = self.body.len();
        let written = match datum {
            Datum::Null => {
                self.body.put_u8(NULL);
                Ok(())
            }
            Datum::UnchangedToast => {
                self.body.put_u8(UNCHANGED_TOAST);
                Ok(())
            }
            Datum::Text(bytes) => {
                self.body.put_u8(TEXT);
                put_bytes32(&mut self.body, bytes, "column value")
            }
            Datum::Binary(bytes) => {
                self.body.put_u8(BINARY);
                put_bytes32(&mut self.body, bytes, "column value")
            }
        };
        written.inspect_err(|_| self.body.truncate(start))?;
        self.columns = columns;
        Ok(())
    }

    /// The row of all values pushed so far.
    pub fn finish(self) -> Tuple {
        Tuple {
            columns: self.columns.unsigned_abs(),
            body: self.body.freeze(),
        }
    }
}

impl fmt::Debug for TupleBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TupleBuilder({} columns, {} bytes)",
            self.columns,
            self.body.len()
        )
    }
}

/// The row of `datums`. Fails as [`TupleBuilder::push`] does.
pub fn encode_tuple(datums: &[Datum<'_>]) -> Result<Tuple, EncodeError> {
    let mut builder = TupleBuilder::new();
    for datum in datums {
        builder.push(*datum)?;
    }
    Ok(builder.finish())
}
