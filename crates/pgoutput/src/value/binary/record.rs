//! The binary send format of rows (`record_send`).

use std::fmt;

use crate::reader::Cursor;
use crate::value::{ValueError, ValueErrorKind};

const MALFORMED: ValueError = ValueError::new("record", ValueErrorKind::Malformed);

/// A value of a composite type in its binary send format.
#[derive(Clone, Copy)]
pub struct BinaryRecord<'a> {
    len: usize,
    fields: Cursor<'a>,
}

/// A value of any composite type. The number of fields and their lengths are checked; the fields
/// themselves are not.
pub fn record(raw: &[u8]) -> Result<BinaryRecord<'_>, ValueError> {
    parse(raw).ok_or(MALFORMED)
}

/// Without the values.
impl fmt::Debug for BinaryRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BinaryRecord")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<'a> BinaryRecord<'a> {
    /// How many columns there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no columns.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The columns in their order: the OID of the type, and the value in the binary send format of
    /// that type. `None` is NULL.
    pub fn fields(
        &self,
    ) -> impl Iterator<Item = Result<(u32, Option<&'a [u8]>), ValueError>> + use<'a> {
        Fields { rest: self.fields }
    }
}

fn parse(raw: &[u8]) -> Option<BinaryRecord<'_>> {
    let mut cursor = Cursor::new(raw);
    let len = usize::try_from(cursor.i32()?).ok()?;
    let fields = cursor;
    let mut left = len;
    while !cursor.is_empty() {
        left = left.checked_sub(1)?;
        field(&mut cursor)?;
    }
    (left == 0).then_some(BinaryRecord { len, fields })
}

fn field<'a>(cursor: &mut Cursor<'a>) -> Option<(u32, Option<&'a [u8]>)> {
    Some((cursor.u32()?, cursor.sized()?))
}

struct Fields<'a> {
    rest: Cursor<'a>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Option<&'a [u8]>), ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = field(&mut self.rest);
        if field.is_none() {
            self.rest = Cursor::new(&[]);
        }
        Some(field.ok_or(MALFORMED))
    }
}
