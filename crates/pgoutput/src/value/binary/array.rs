//! The binary send format of arrays (`array_send`).

use std::fmt;

use crate::reader::Cursor;
use crate::value::array::{Dimension, Shape};
use crate::value::{ValueError, ValueErrorKind};

const MALFORMED: ValueError = ValueError::new("array", ValueErrorKind::Malformed);

/// An array in its binary send format, checked to have the elements that its shape promises.
#[derive(Clone, Copy)]
pub struct BinaryArray<'a> {
    element_type: u32,
    shape: Shape,
    elements: Cursor<'a>,
}

/// An array of any type. The shape and the lengths of the elements are checked; the elements
/// themselves are not.
pub fn array(raw: &[u8]) -> Result<BinaryArray<'_>, ValueError> {
    parse(raw).ok_or(MALFORMED)
}

/// Without the values.
impl fmt::Debug for BinaryArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BinaryArray")
            .field("element_type", &self.element_type)
            .field("shape", &self.shape())
            .finish_non_exhaustive()
    }
}

impl<'a> BinaryArray<'a> {
    /// The OID of the type of the elements.
    pub const fn element_type(&self) -> u32 {
        self.element_type
    }

    /// The dimensions, outermost first; none for an empty array.
    pub fn shape(&self) -> &[Dimension] {
        self.shape.as_slice()
    }

    /// The elements in the binary send format of their type, the last dimension running fastest.
    /// `None` is NULL.
    pub fn elements(&self) -> impl Iterator<Item = Result<Option<&'a [u8]>, ValueError>> + use<'a> {
        Elements {
            rest: self.elements,
        }
    }
}

fn parse(raw: &[u8]) -> Option<BinaryArray<'_>> {
    let mut cursor = Cursor::new(raw);
    let dimensions = cursor.i32()?;
    // Whether there are NULLs, which the elements say as well.
    if !matches!(cursor.i32()?, 0 | 1) {
        return None;
    }
    let element_type = cursor.u32()?;
    if dimensions < 0 {
        return None;
    }
    let mut shape = Shape::EMPTY;
    // Ends at the seventh dimension, whatever is claimed.
    for _ in 0..dimensions {
        let length = u32::try_from(cursor.i32()?).ok()?;
        let lower = cursor.i32()?;
        shape.push(Dimension { length, lower })?;
    }
    let elements = cursor;
    let mut left = shape.elements()?;
    while !cursor.is_empty() {
        left = left.checked_sub(1)?;
        cursor.sized()?;
    }
    (left == 0).then_some(BinaryArray {
        element_type,
        shape,
        elements,
    })
}

struct Elements<'a> {
    rest: Cursor<'a>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Option<&'a [u8]>, ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let element = self.rest.sized();
        if element.is_none() {
            self.rest = Cursor::new(&[]);
        }
        Some(element.ok_or(MALFORMED))
    }
}
