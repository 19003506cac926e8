//! Arrays (Postgres documentation, section 8.15): a list where one dimension is declared, JSON where there are more.

use std::sync::Arc;

use parquet_writer::ColumnBuilder;
use pgoutput::value::{self, Dimension};

use super::append::{Scratch, ValueProblem, append_binary, append_text};
use super::source_type::{ArrayType, SourceType};
use super::{Reader, json, output};
use crate::config::NumericMapping;

/// How an array is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ListReader {
    pub(crate) element: Reader,
    pub(crate) delimiter: u8,
}

/// An array's modifier is its elements'.
pub(super) fn reader(array: &ArrayType, type_modifier: i32, numeric: NumericMapping) -> Reader {
    let element = SourceType {
        type_modifier,
        ..array.element.clone()
    };
    let list = Arc::new(ListReader {
        element: super::reader(&element, numeric),
        delimiter: array.delimiter,
    });
    if array.dimensions <= 1 {
        Reader::List(list)
    } else {
        Reader::JsonArray(list)
    }
}

/// A list has neither bounds nor dimensions: an array with others is not the same value.
fn check_list(shape: &[Dimension]) -> Result<(), ValueProblem> {
    match shape {
        [] => Ok(()),
        [one] if one.lower == 1 => Ok(()),
        [_] => Err(ValueProblem::unrepresentable("array does not begin at 1")),
        _ => Err(ValueProblem::unrepresentable(
            "array has several dimensions, and its column declares at most one",
        )),
    }
}

pub(super) fn append_text_list(
    column: &mut ColumnBuilder,
    list: &ListReader,
    raw: &[u8],
    scratch: &mut Scratch,
) -> Result<(), ValueProblem> {
    let array = value::text::array(raw, list.delimiter)?;
    check_list(array.shape())?;
    let elements = column.element_mut()?;
    for element in array.elements() {
        match element? {
            None => elements.append_null()?,
            Some(raw) => append_text(elements, &list.element, &raw, scratch)?,
        }
    }
    Ok(column.append_list()?)
}

pub(super) fn append_binary_list(
    column: &mut ColumnBuilder,
    list: &ListReader,
    raw: &[u8],
    scratch: &mut Scratch,
) -> Result<(), ValueProblem> {
    let array = value::binary::array(raw)?;
    check_list(array.shape())?;
    let elements = column.element_mut()?;
    for element in array.elements() {
        match element? {
            None => elements.append_null()?,
            Some(raw) => append_binary(elements, &list.element, raw, scratch)?,
        }
    }
    Ok(column.append_list()?)
}

/// The array as nested JSON arrays, in `dst`.
pub(super) fn text_to_json(
    list: &ListReader,
    raw: &[u8],
    dst: &mut String,
) -> Result<(), ValueProblem> {
    let array = value::text::array(raw, list.delimiter)?;
    let mut nesting = Nesting::new(array.shape())?;
    for element in array.elements() {
        nesting.open(dst);
        match element? {
            None => dst.push_str("null"),
            Some(raw) => json::append_element(&list.element, value::text::text(&raw)?, dst)?,
        }
        nesting.close(dst);
    }
    nesting.finish(dst);
    Ok(())
}

/// As [`text_to_json`], from the binary form.
pub(super) fn binary_to_json(
    list: &ListReader,
    raw: &[u8],
    dst: &mut String,
) -> Result<(), ValueProblem> {
    let array = value::binary::array(raw)?;
    let mut nesting = Nesting::new(array.shape())?;
    let mut text = String::new();
    for element in array.elements() {
        nesting.open(dst);
        match element? {
            None => dst.push_str("null"),
            Some(raw) => {
                text.clear();
                output::render(&list.element, raw, &mut text)?;
                json::append_element(&list.element, &text, dst)?;
            }
        }
        nesting.close(dst);
    }
    nesting.finish(dst);
    Ok(())
}

/// The text that `array_out` would print for a binary array.
pub(super) fn render(list: &ListReader, raw: &[u8], dst: &mut String) -> Result<(), ValueProblem> {
    use std::fmt::Write as _;
    let array = value::binary::array(raw)?;
    let shape = array.shape();
    if shape.iter().any(|dimension| dimension.lower != 1) {
        for dimension in shape {
            let upper = i64::from(dimension.lower) + i64::from(dimension.length) - 1;
            // Writing into a string cannot fail.
            let _written = write!(dst, "[{}:{upper}]", dimension.lower);
        }
        dst.push('=');
    }
    let mut walk = Walk::new(shape);
    let mut text = String::new();
    for element in array.elements() {
        walk.open(dst, '{', char::from(list.delimiter));
        match element? {
            None => dst.push_str("NULL"),
            Some(raw) => {
                text.clear();
                output::render(&list.element, raw, &mut text)?;
                value::render::array_element(&text, list.delimiter, dst);
            }
        }
        walk.close(dst, '}');
    }
    if shape.is_empty() {
        dst.push_str("{}");
    }
    Ok(())
}

/// [`Walk`] in JSON's brackets, for arrays that begin at 1.
struct Nesting {
    walk: Walk,
    empty: bool,
}

impl Nesting {
    fn new(shape: &[Dimension]) -> Result<Self, ValueProblem> {
        if shape.iter().any(|dimension| dimension.lower != 1) {
            return Err(ValueProblem::unrepresentable("array does not begin at 1"));
        }
        Ok(Self {
            walk: Walk::new(shape),
            empty: shape.is_empty(),
        })
    }

    fn open(&mut self, dst: &mut String) {
        self.walk.open(dst, '[', ',');
    }

    fn close(&mut self, dst: &mut String) {
        self.walk.close(dst, ']');
    }

    fn finish(&self, dst: &mut String) {
        if self.empty {
            dst.push_str("[]");
        }
    }
}

/// Where brackets and delimiters stand around the elements of an array, which come in row-major order.
struct Walk {
    lengths: Vec<u32>,
    position: Vec<u32>,
}

impl Walk {
    fn new(shape: &[Dimension]) -> Self {
        let lengths: Vec<u32> = shape.iter().map(|dimension| dimension.length).collect();
        Self {
            position: vec![0; lengths.len()],
            lengths,
        }
    }

    /// Before an element.
    fn open(&self, dst: &mut String, bracket: char, delimiter: char) {
        // Every dimension inside of the innermost one that has gone on begins anew.
        let begun = self
            .position
            .iter()
            .rev()
            .take_while(|position| **position == 0)
            .count();
        if begun < self.position.len() {
            dst.push(delimiter);
        }
        dst.extend(std::iter::repeat_n(bracket, begun));
    }

    /// After an element.
    fn close(&mut self, dst: &mut String, bracket: char) {
        for (position, length) in self.position.iter_mut().zip(&self.lengths).rev() {
            *position += 1;
            if *position < *length {
                return;
            }
            *position = 0;
            dst.push(bracket);
        }
    }
}
