//! One value into its column: exactly, or not at all.

use std::io::Write as _;

use ducklake_catalog::LakeType;
use parquet_writer::ColumnBuilder;
use pgoutput::value::{ValueError, text};
use serde::Serialize;
use serde::ser;

use super::infer::{self, Never};
use super::problem::Problem;
use super::rfc3339;

/// The greatest integer up to which every integer is a double, and a float.
const EXACT_F64: u64 = 1 << 53;
const EXACT_F32: u64 = 1 << 24;

/// Appends a value to a column of type `ty`. After an error the column may hold a part of it.
pub(crate) fn append<T: Serialize + ?Sized>(
    value: &T,
    ty: &LakeType,
    column: &mut ColumnBuilder,
    scratch: &mut Vec<u8>,
) -> Result<(), Problem> {
    if *ty != LakeType::Json {
        return value.serialize(Cell {
            ty,
            column,
            scratch,
        });
    }
    infer::check_json(value)?;
    scratch.clear();
    serde_json::to_writer(&mut *scratch, value)
        .map_err(|_error| Problem::unfit("a value that cannot be JSON"))?;
    // NULL and the JSON null are the same to whoever writes None.
    if scratch == b"null" {
        return Ok(column.append_null()?);
    }
    let json =
        std::str::from_utf8(scratch).map_err(|_| Problem::unfit("text that is not UTF-8"))?;
    Ok(column.append_str(json)?)
}

struct Cell<'a> {
    ty: &'a LakeType,
    column: &'a mut ColumnBuilder,
    scratch: &'a mut Vec<u8>,
}

impl Cell<'_> {
    fn unfit(&self, given: &str) -> Problem {
        Problem::Unfit(format!("{} does not take {given}", self.ty))
    }

    fn integer(self, value: i128) -> Result<(), Problem> {
        let out_of_range = || Problem::Unfit(format!("an integer out of the range of {}", self.ty));
        let within = |limit: u64| value.unsigned_abs() <= u128::from(limit);
        match self.ty {
            LakeType::Int16 => self
                .column
                .append_i16(value.try_into().map_err(|_| out_of_range())?)?,
            LakeType::Int32 => self
                .column
                .append_i32(value.try_into().map_err(|_| out_of_range())?)?,
            LakeType::Int64 => self
                .column
                .append_i64(value.try_into().map_err(|_| out_of_range())?)?,
            LakeType::UInt32 => self
                .column
                .append_u32(value.try_into().map_err(|_| out_of_range())?)?,
            LakeType::UInt64 => self
                .column
                .append_u64(value.try_into().map_err(|_| out_of_range())?)?,
            LakeType::Float64 if within(EXACT_F64) => self.column.append_f64(value as f64)?,
            LakeType::Float32 if within(EXACT_F32) => self.column.append_f32(value as f32)?,
            LakeType::Float32 | LakeType::Float64 => return Err(out_of_range()),
            LakeType::Decimal { scale, .. } => {
                let unscaled = 10_i128
                    .checked_pow(u32::from(*scale))
                    .and_then(|factor| value.checked_mul(factor))
                    .ok_or_else(out_of_range)?;
                self.column.append_decimal(unscaled)?;
            }
            _ => return Err(self.unfit("an integer")),
        }
        Ok(())
    }

    fn float(self, value: f64) -> Result<(), Problem> {
        match self.ty {
            LakeType::Float64 => Ok(self.column.append_f64(value)?),
            LakeType::Float32 => match narrowed(value) {
                Some(value) => Ok(self.column.append_f32(value)?),
                None => Err(Problem::unfit("a float that float32 does not have")),
            },
            // As it prints: what JSON calls 12.34 is 12.34 and not the nearest double.
            LakeType::Decimal { precision, scale } => {
                self.scratch.clear();
                write!(self.scratch, "{value}").map_err(|_| Problem::unfit("a float"))?;
                let unscaled = text::numeric(self.scratch, *precision, *scale)
                    .map_err(|error| misfit(&error))?;
                Ok(self.column.append_decimal(unscaled)?)
            }
            LakeType::Int16
            | LakeType::Int32
            | LakeType::Int64
            | LakeType::UInt32
            | LakeType::UInt64 => match whole(value) {
                Some(value) => self.integer(value),
                None => Err(self.unfit("a float that is not whole")),
            },
            _ => Err(self.unfit("a float")),
        }
    }

    fn text(self, value: &str) -> Result<(), Problem> {
        let raw = value.as_bytes();
        let misfit = |error: ValueError| misfit(&error);
        match self.ty {
            LakeType::Varchar => self.column.append_str(value)?,
            LakeType::TimestampTz => self
                .column
                .append_timestamp(rfc3339::instant(value).map_err(Problem::unfit)?)?,
            LakeType::Timestamp => self
                .column
                .append_timestamp(rfc3339::wall_clock(value).map_err(Problem::unfit)?)?,
            LakeType::Date => self.column.append_date(text::date(raw).map_err(misfit)?)?,
            LakeType::Time => self.column.append_time(text::time(raw).map_err(misfit)?)?,
            LakeType::Uuid => self.column.append_uuid(text::uuid(raw).map_err(misfit)?)?,
            LakeType::Decimal { precision, scale } => self
                .column
                .append_decimal(text::numeric(raw, *precision, *scale).map_err(misfit)?)?,
            _ => return Err(self.unfit("text")),
        }
        Ok(())
    }

    fn null(self) -> Result<(), Problem> {
        Ok(self.column.append_null()?)
    }
}

/// What is wrong with text; the message of the parser holds no value.
fn misfit(error: &ValueError) -> Problem {
    Problem::Unfit(error.to_string())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float that changes on the way is refused"
)]
fn narrowed(value: f64) -> Option<f32> {
    let narrow = value as f32;
    (f64::from(narrow).to_bits() == value.to_bits() || value.is_nan()).then_some(narrow)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "whole and within the exact range"
)]
fn whole(value: f64) -> Option<i128> {
    let exact = value.fract() == 0.0 && value.abs() <= EXACT_F64 as f64;
    // -0.0 is not 0.
    (exact && (value != 0.0 || value.is_sign_positive())).then_some(value as i128)
}

macro_rules! integers {
    ($($method:ident: $native:ty),*) => {
        $(fn $method(self, value: $native) -> Result<(), Problem> {
            self.integer(i128::from(value))
        })*
    };
}

impl<'a> ser::Serializer for Cell<'a> {
    type Ok = ();
    type Error = Problem;
    type SerializeSeq = ListCell<'a>;
    type SerializeTuple = ListCell<'a>;
    type SerializeTupleStruct = ListCell<'a>;
    type SerializeTupleVariant = Never<()>;
    type SerializeMap = StructCell<'a>;
    type SerializeStruct = StructCell<'a>;
    type SerializeStructVariant = Never<()>;

    integers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64
    );

    fn serialize_u128(self, value: u128) -> Result<(), Problem> {
        match i128::try_from(value) {
            Ok(value) => self.integer(value),
            Err(_) => Err(self.unfit("an integer of that size")),
        }
    }

    fn serialize_bool(self, value: bool) -> Result<(), Problem> {
        match self.ty {
            LakeType::Boolean => Ok(self.column.append_bool(value)?),
            _ => Err(self.unfit("a boolean")),
        }
    }

    fn serialize_f32(self, value: f32) -> Result<(), Problem> {
        match self.ty {
            // Prints shorter than the double that it equals.
            LakeType::Decimal { precision, scale } => {
                self.scratch.clear();
                write!(self.scratch, "{value}").map_err(|_| Problem::unfit("a float"))?;
                let unscaled = text::numeric(self.scratch, *precision, *scale)
                    .map_err(|error| misfit(&error))?;
                Ok(self.column.append_decimal(unscaled)?)
            }
            _ => self.float(f64::from(value)),
        }
    }

    fn serialize_f64(self, value: f64) -> Result<(), Problem> {
        self.float(value)
    }

    fn serialize_char(self, value: char) -> Result<(), Problem> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Problem> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Problem> {
        match (self.ty, <[u8; 16]>::try_from(value)) {
            (LakeType::Blob, _) => Ok(self.column.append_bytes(value)?),
            (LakeType::Uuid, Ok(uuid)) => Ok(self.column.append_uuid(uuid)?),
            _ => Err(self.unfit("bytes")),
        }
    }

    fn serialize_none(self) -> Result<(), Problem> {
        self.null()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Problem> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Problem> {
        self.null()
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Problem> {
        self.null()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Problem> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Problem> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<(), Problem> {
        Err(self.unfit("an enum that carries values"))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<ListCell<'a>, Problem> {
        match self.ty {
            LakeType::List(element) => Ok(ListCell {
                element,
                column: self.column,
                scratch: self.scratch,
            }),
            LakeType::Blob => Err(Problem::unfit(
                "a list of numbers is not taken for bytes: serialize it as bytes",
            )),
            _ => Err(self.unfit("a list")),
        }
    }

    fn serialize_tuple(self, len: usize) -> Result<ListCell<'a>, Problem> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<ListCell<'a>, Problem> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Never<()>, Problem> {
        Err(self.unfit("an enum that carries values"))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<StructCell<'a>, Problem> {
        let rows = self.column.len();
        match self.ty {
            LakeType::Struct(fields) => Ok(StructCell {
                fields,
                column: self.column,
                scratch: self.scratch,
                rows,
                key: String::new(),
            }),
            _ => Err(self.unfit("a struct or map")),
        }
    }

    fn serialize_struct(self, _name: &'static str, len: usize) -> Result<StructCell<'a>, Problem> {
        self.serialize_map(Some(len))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Never<()>, Problem> {
        Err(self.unfit("an enum that carries values"))
    }
}

struct ListCell<'a> {
    element: &'a LakeType,
    column: &'a mut ColumnBuilder,
    scratch: &'a mut Vec<u8>,
}

macro_rules! lists {
    ($($trait:ident::$method:ident),*) => {
        $(impl ser::$trait for ListCell<'_> {
            type Ok = ();
            type Error = Problem;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Problem> {
                append(value, self.element, self.column.element_mut()?, self.scratch)
            }

            fn end(self) -> Result<(), Problem> {
                Ok(self.column.append_list()?)
            }
        })*
    };
}
lists!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field
);

struct StructCell<'a> {
    fields: &'a [(String, LakeType)],
    column: &'a mut ColumnBuilder,
    scratch: &'a mut Vec<u8>,
    rows: usize,
    key: String,
}

impl StructCell<'_> {
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Problem> {
        let position = self.fields.iter().position(|(field, _)| field == name);
        let Some(position) = position else {
            return match infer::value_type(value, false)? {
                Some(_) => Err(Problem::Unfit(format!("the struct has no field {name:?}"))),
                None => Ok(()),
            };
        };
        let (Some((_, ty)), Some(column)) = (
            self.fields.get(position),
            self.column.fields_mut()?.get_mut(position),
        ) else {
            return Err(Problem::unfit("a struct that is not the column's"));
        };
        if column.len() > self.rows {
            return Err(Problem::unfit("a field that appears twice").in_column(name));
        }
        append(value, ty, column, self.scratch).map_err(|problem| problem.in_column(name))
    }

    fn finish(self) -> Result<(), Problem> {
        for column in self.column.fields_mut()? {
            if column.len() == self.rows {
                column.append_null()?;
            }
        }
        Ok(self.column.append_struct()?)
    }
}

impl ser::SerializeStruct for StructCell<'_> {
    type Ok = ();
    type Error = Problem;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Problem> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), Problem> {
        self.finish()
    }
}

impl ser::SerializeMap for StructCell<'_> {
    type Ok = ();
    type Error = Problem;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Problem> {
        self.key.clear();
        key.serialize(super::row::Key(&mut self.key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Problem> {
        let key = std::mem::take(&mut self.key);
        let result = self.field(&key, value);
        self.key = key;
        result
    }

    fn end(self) -> Result<(), Problem> {
        self.finish()
    }
}
