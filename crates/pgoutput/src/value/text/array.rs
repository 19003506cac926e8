//! The output text of arrays (Postgres documentation, "Array Input and Output Syntax";
//! `array_out`).

use std::borrow::Cow;
use std::fmt;

use crate::reader::Cursor;
use crate::value::array::{Dimension, MAX_DIMENSIONS, Shape};
use crate::value::{ValueError, ValueErrorKind};

const MALFORMED: ValueError = ValueError::new("array", ValueErrorKind::Malformed);

/// An array in its output text, checked to be regular.
#[derive(Clone, Copy)]
pub struct TextArray<'a> {
    shape: Shape,
    /// From the first brace on.
    body: Cursor<'a>,
    delimiter: u8,
}

/// An array of any type. `delimiter` stands between its elements: `typdelim` in `pg_type`, which is
/// a comma for every built-in type but `box`, whose is a semicolon.
///
/// The whole text is checked: braces, quotes, that every part of a dimension has the same length,
/// and that the bounds in front, if there are any, agree with it. The elements themselves are not.
pub fn array(raw: &[u8], delimiter: u8) -> Result<TextArray<'_>, ValueError> {
    parse(raw, delimiter).ok_or(MALFORMED)
}

/// Without the values.
impl fmt::Debug for TextArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextArray")
            .field("shape", &self.shape())
            .finish_non_exhaustive()
    }
}

impl<'a> TextArray<'a> {
    /// The dimensions, outermost first; none for an empty array.
    pub fn shape(&self) -> &[Dimension] {
        self.shape.as_slice()
    }

    /// The output texts of the elements, the last dimension running fastest. `None` is NULL.
    ///
    /// An element without backslashes is borrowed.
    pub fn elements(
        &self,
    ) -> impl Iterator<Item = Result<Option<Cow<'a, [u8]>>, ValueError>> + use<'a> {
        Elements {
            rest: self.body,
            delimiter: self.delimiter,
        }
    }
}

fn parse(raw: &[u8], delimiter: u8) -> Option<TextArray<'_>> {
    if !may_stand_alone(delimiter) {
        return None;
    }
    let mut body = Cursor::new(raw);
    let bounds = bounds(&mut body)?;
    let bounds = bounds.as_slice();
    let shape = if raw == b"{}" {
        Shape::EMPTY
    } else {
        measure(body, delimiter, bounds)?
    };
    if !bounds.is_empty() && bounds != shape.as_slice() {
        return None;
    }
    Some(TextArray {
        shape,
        body,
        delimiter,
    })
}

/// `[lower:upper]` once per dimension and an equals sign, or nothing at all.
fn bounds(cursor: &mut Cursor<'_>) -> Option<Shape> {
    let mut shape = Shape::EMPTY;
    if cursor.peek() != Some(b'[') {
        return Some(shape);
    }
    while cursor.eat(b'[') {
        let lower = subscript(cursor)?;
        if !cursor.eat(b':') {
            return None;
        }
        let upper = subscript(cursor)?;
        if !cursor.eat(b']') {
            return None;
        }
        let length = i64::from(upper) - i64::from(lower) + 1;
        let length = u32::try_from(length).ok()?;
        shape.push(Dimension { length, lower })?;
    }
    cursor.eat(b'=').then_some(shape)
}

fn subscript(cursor: &mut Cursor<'_>) -> Option<i32> {
    let negative = cursor.eat(b'-');
    let magnitude: i64 = std::str::from_utf8(cursor.digit_run()?)
        .ok()?
        .parse()
        .ok()?;
    i32::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// One dimension while the text is walked through.
#[derive(Clone, Copy, Default)]
struct Level {
    /// The length of its first part, once that is closed.
    length: Option<u32>,
    /// What its open part has so far.
    count: u32,
}

/// The shape of what stands in braces, with the lower bounds of `bounds`, or 1.
fn measure(mut cursor: Cursor<'_>, delimiter: u8, bounds: &[Dimension]) -> Option<Shape> {
    let mut levels = [Level::default(); MAX_DIMENSIONS];
    let mut depth = 0;
    let mut element_depth = None;
    loop {
        while cursor.eat(b'{') {
            levels.get_mut(depth)?.count = 0;
            depth += 1;
        }
        // All elements are equally deep.
        if *element_depth.get_or_insert(depth) != depth {
            return None;
        }
        Element::read(&mut cursor, delimiter)?;
        levels.get_mut(depth.checked_sub(1)?)?.add()?;
        while cursor.eat(b'}') {
            depth = depth.checked_sub(1)?;
            let level = levels.get_mut(depth)?;
            if *level.length.get_or_insert(level.count) != level.count {
                return None;
            }
            let Some(outer) = depth.checked_sub(1) else {
                return cursor.is_empty().then(|| shape_of(&levels, bounds))?;
            };
            levels.get_mut(outer)?.add()?;
        }
        if !cursor.eat(delimiter) {
            return None;
        }
    }
}

impl Level {
    fn add(&mut self) -> Option<()> {
        self.count = self.count.checked_add(1)?;
        Some(())
    }
}

fn shape_of(levels: &[Level], bounds: &[Dimension]) -> Option<Shape> {
    let mut shape = Shape::EMPTY;
    for (depth, length) in levels.iter().map_while(|level| level.length).enumerate() {
        let lower = bounds.get(depth).map_or(1, |bound| bound.lower);
        shape.push(Dimension { length, lower })?;
    }
    Some(shape)
}

/// One element as it is written.
enum Element<'a> {
    Null,
    Plain(&'a [u8]),
    /// Between its quotes, with backslashes in it.
    Escaped(&'a [u8]),
}

impl<'a> Element<'a> {
    fn read(cursor: &mut Cursor<'a>, delimiter: u8) -> Option<Self> {
        if cursor.eat(b'"') {
            return Self::read_quoted(cursor);
        }
        let plain = cursor.run(|byte| byte != delimiter && may_stand_alone(byte));
        match plain {
            b"" => None,
            b"NULL" => Some(Self::Null),
            // Any other spelling is printed in quotes.
            _ if plain.eq_ignore_ascii_case(b"NULL") => None,
            _ => Some(Self::Plain(plain)),
        }
    }

    fn read_quoted(cursor: &mut Cursor<'a>) -> Option<Self> {
        let mut start = *cursor;
        let mut escaped = false;
        let mut len = 0;
        loop {
            match cursor.u8()? {
                b'"' => break,
                b'\\' => {
                    cursor.u8()?;
                    escaped = true;
                    len += 2;
                }
                _ => len += 1,
            }
        }
        let written = start.take(len)?;
        Some(if escaped {
            Self::Escaped(written)
        } else {
            Self::Plain(written)
        })
    }

    fn value(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Null => None,
            Self::Plain(plain) => Some(Cow::Borrowed(plain)),
            Self::Escaped(written) => {
                let mut value = Vec::with_capacity(written.len());
                let mut cursor = Cursor::new(written);
                while let Some(byte) = cursor.u8() {
                    value.push(match byte {
                        b'\\' => cursor.u8().unwrap_or(b'\\'),
                        other => other,
                    });
                }
                Some(Cow::Owned(value))
            }
        }
    }
}

/// Whether a byte needs no quotes around its element, the delimiter apart (`array_isspace` for the
/// white space).
const fn may_stand_alone(byte: u8) -> bool {
    !matches!(
        byte,
        b'{' | b'}' | b'"' | b'\\' | b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C
    )
}

struct Elements<'a> {
    rest: Cursor<'a>,
    delimiter: u8,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Option<Cow<'a, [u8]>>, ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        let delimiter = self.delimiter;
        // The braces and delimiters were checked; no element begins with one.
        self.rest
            .run(|byte| matches!(byte, b'{' | b'}') || byte == delimiter);
        if self.rest.is_empty() {
            return None;
        }
        let element = Element::read(&mut self.rest, delimiter);
        if element.is_none() {
            self.rest = Cursor::new(&[]);
        }
        Some(element.map(Element::value).ok_or(MALFORMED))
    }
}
