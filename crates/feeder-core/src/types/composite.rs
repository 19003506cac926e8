//! Composite types (Postgres documentation, section 8.16): structs in the lake.

use std::collections::BTreeSet;
use std::sync::Arc;

use parquet_writer::ColumnBuilder;
use pgoutput::value;

use super::append::{Scratch, ValueProblem, append_binary, append_text};
use super::source_type::Attribute;
use super::{Reader, output};
use crate::config::NumericMapping;

/// How a composite value is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StructReader {
    pub(crate) fields: Vec<StructField>,
}

/// One attribute.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StructField {
    pub(crate) name: String,
    /// Its type, which the binary form names.
    pub(crate) type_oid: u32,
    pub(crate) reader: Reader,
}

/// A composite whose attributes differ only in case, or that has none, has no struct in the lake.
pub(super) fn reader(attributes: &[Attribute], numeric: NumericMapping) -> Reader {
    let names: BTreeSet<String> = attributes
        .iter()
        .map(|attribute| attribute.name.to_lowercase())
        .collect();
    if attributes.is_empty() || names.len() < attributes.len() {
        return Reader::OutputText;
    }
    let fields = attributes
        .iter()
        .map(|attribute| StructField {
            name: attribute.name.clone(),
            type_oid: attribute.source_type.type_oid,
            reader: super::reader(&attribute.source_type, numeric),
        })
        .collect();
    Reader::Struct(Arc::new(StructReader { fields }))
}

pub(super) fn append_text_struct(
    column: &mut ColumnBuilder,
    composite: &StructReader,
    raw: &[u8],
    scratch: &mut Scratch,
) -> Result<(), ValueProblem> {
    let record = value::text::record(raw)?;
    let mut values = record.fields();
    for (builder, field) in column.fields_mut()?.iter_mut().zip(&composite.fields) {
        match values.next().ok_or(ValueProblem::Altered)?? {
            None => builder.append_null()?,
            Some(raw) => append_text(builder, &field.reader, &raw, scratch)?,
        }
    }
    if values.next().is_some() {
        return Err(ValueProblem::Altered);
    }
    Ok(column.append_struct()?)
}

pub(super) fn append_binary_struct(
    column: &mut ColumnBuilder,
    composite: &StructReader,
    raw: &[u8],
    scratch: &mut Scratch,
) -> Result<(), ValueProblem> {
    let record = value::binary::record(raw)?;
    let mut values = record.fields();
    for (builder, field) in column.fields_mut()?.iter_mut().zip(&composite.fields) {
        let (type_oid, value) = values.next().ok_or(ValueProblem::Altered)??;
        if type_oid != field.type_oid {
            return Err(ValueProblem::Altered);
        }
        match value {
            None => builder.append_null()?,
            Some(raw) => append_binary(builder, &field.reader, raw, scratch)?,
        }
    }
    if values.next().is_some() {
        return Err(ValueProblem::Altered);
    }
    Ok(column.append_struct()?)
}

/// The text that `record_out` would print for a binary composite.
pub(super) fn render(
    composite: &StructReader,
    raw: &[u8],
    dst: &mut String,
) -> Result<(), ValueProblem> {
    let record = value::binary::record(raw)?;
    let mut text = String::new();
    dst.push('(');
    for (number, (value, field)) in record.fields().zip(&composite.fields).enumerate() {
        if number > 0 {
            dst.push(',');
        }
        if let (_, Some(raw)) = value? {
            text.clear();
            output::render(&field.reader, raw, &mut text)?;
            value::render::record_field(&text, dst);
        }
    }
    dst.push(')');
    Ok(())
}
