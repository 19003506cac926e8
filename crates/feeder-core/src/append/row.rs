//! A row of anything that serde can serialize, straight into columns.

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::ser;

use parquet_writer::ColumnBuilder;

use super::cell;
use super::column::Column;
use super::infer::{self, Never};
use super::problem::Problem;

/// What only takes the fields of a struct or a map.
pub(crate) trait RowSerializer: Sized {
    type Ok;
    type Fields: ser::SerializeStruct<Ok = Self::Ok, Error = Problem>
        + ser::SerializeMap<Ok = Self::Ok, Error = Problem>;

    fn fields(self, len: usize) -> Self::Fields;
}

/// Refuses scalars.
macro_rules! refuse {
    ($problem:expr; $($method:ident: $native:ty),*) => {
        $(fn $method(self, _value: $native) -> Result<Self::Ok, $crate::append::problem::Problem> {
            Err($crate::append::problem::Problem::unfit($problem))
        })*
    };
}

/// Makes a [`RowSerializer`] the serializer of a row.
macro_rules! row_serializer {
    ($name:ident $(< $life:lifetime >)?) => {
        impl $(<$life>)? serde::ser::Serializer for $name $(<$life>)? {
            type Ok = <Self as $crate::append::row::RowSerializer>::Ok;
            type Error = $crate::append::problem::Problem;
            type SerializeSeq = $crate::append::infer::Never<Self::Ok>;
            type SerializeTuple = $crate::append::infer::Never<Self::Ok>;
            type SerializeTupleStruct = $crate::append::infer::Never<Self::Ok>;
            type SerializeTupleVariant = $crate::append::infer::Never<Self::Ok>;
            type SerializeMap = <Self as $crate::append::row::RowSerializer>::Fields;
            type SerializeStruct = <Self as $crate::append::row::RowSerializer>::Fields;
            type SerializeStructVariant = $crate::append::infer::Never<Self::Ok>;

            $crate::append::row::refuse!($crate::append::row::NO_ROW;
                serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
                serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32,
                serialize_f64: f64, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
                serialize_unit_struct: &'static str
            );

            fn serialize_none(self) -> Result<Self::Ok, Self::Error> {
                Err($crate::append::row::no_row())
            }

            fn serialize_unit(self) -> Result<Self::Ok, Self::Error> {
                Err($crate::append::row::no_row())
            }

            fn serialize_some<T: serde::Serialize + ?Sized>(self, value: &T) -> Result<Self::Ok, Self::Error> {
                value.serialize(self)
            }

            fn serialize_newtype_struct<T: serde::Serialize + ?Sized>(
                self,
                _name: &'static str,
                value: &T,
            ) -> Result<Self::Ok, Self::Error> {
                value.serialize(self)
            }

            fn serialize_unit_variant(
                self,
                _name: &'static str,
                _index: u32,
                _variant: &'static str,
            ) -> Result<Self::Ok, Self::Error> {
                Err($crate::append::row::no_row())
            }

            fn serialize_newtype_variant<T: serde::Serialize + ?Sized>(
                self,
                _name: &'static str,
                _index: u32,
                _variant: &'static str,
                _value: &T,
            ) -> Result<Self::Ok, Self::Error> {
                Err($crate::append::row::no_row())
            }

            fn serialize_seq(self, _len: Option<usize>) -> Result<Self::SerializeSeq, Self::Error> {
                Err($crate::append::row::no_row())
            }

            fn serialize_tuple(self, _len: usize) -> Result<Self::SerializeTuple, Self::Error> {
                Err($crate::append::row::no_row())
            }

            fn serialize_tuple_struct(
                self,
                _name: &'static str,
                _len: usize,
            ) -> Result<Self::SerializeTupleStruct, Self::Error> {
                Err($crate::append::row::no_row())
            }

            fn serialize_tuple_variant(
                self,
                _name: &'static str,
                _index: u32,
                _variant: &'static str,
                _len: usize,
            ) -> Result<Self::SerializeTupleVariant, Self::Error> {
                Err($crate::append::row::no_row())
            }

            fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, Self::Error> {
                Ok($crate::append::row::RowSerializer::fields(self, len.unwrap_or_default()))
            }

            fn serialize_struct(
                self,
                _name: &'static str,
                len: usize,
            ) -> Result<Self::SerializeStruct, Self::Error> {
                Ok($crate::append::row::RowSerializer::fields(self, len))
            }

            fn serialize_struct_variant(
                self,
                _name: &'static str,
                _index: u32,
                _variant: &'static str,
                _len: usize,
            ) -> Result<Self::SerializeStructVariant, Self::Error> {
                Err($crate::append::row::no_row())
            }
        }
    };
}
pub(crate) use {refuse, row_serializer};

pub(crate) const NO_ROW: &str = "a row must be a struct or a map";

pub(crate) fn no_row() -> Problem {
    Problem::unfit(NO_ROW)
}

/// The columns of a table's rows, found by name.
#[derive(Debug, Default)]
pub(crate) struct RowPlan {
    columns: Vec<Column>,
    by_name: FxHashMap<String, usize>,
}

impl RowPlan {
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(crate) fn push(&mut self, column: Column) {
        self.by_name.insert(column.name.clone(), self.columns.len());
        self.columns.push(column);
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Column> {
        self.columns.get(*self.by_name.get(name)?)
    }

    /// A column whose name differs in case only, which readers of a lake do not tell apart.
    pub(crate) fn find_similar(&self, name: &str) -> Option<&Column> {
        let similar = |column: &&Column| column.name.eq_ignore_ascii_case(name);
        self.columns.iter().find(similar)
    }

    /// Where a field goes. Rows of one kind have their fields in the same order, so `guess` is nearly always right.
    fn position(&self, name: &str, guess: usize) -> Option<usize> {
        match self.columns.get(guess) {
            Some(column) if column.name == name => Some(guess),
            _ => self.by_name.get(name).copied(),
        }
    }
}

/// Memory that is used again for every row.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) bytes: Vec<u8>,
    key: String,
}

/// Appends the fields of a row, the `rows`th of the batch, to the columns of `plan`. After an error the columns hold a
/// part of it.
pub(crate) fn append<T: Serialize + ?Sized>(
    row: &T,
    plan: &RowPlan,
    columns: &mut [ColumnBuilder],
    rows: usize,
    scratch: &mut Scratch,
) -> Result<(), Problem> {
    row.serialize(RowWriter {
        plan,
        columns,
        rows,
        scratch,
        guess: 0,
    })
}

struct RowWriter<'a> {
    plan: &'a RowPlan,
    columns: &'a mut [ColumnBuilder],
    rows: usize,
    scratch: &'a mut Scratch,
    guess: usize,
}

impl RowSerializer for RowWriter<'_> {
    type Ok = ();
    type Fields = Self;

    fn fields(self, _len: usize) -> Self {
        self
    }
}
row_serializer!(RowWriter<'a>);

impl RowWriter<'_> {
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Problem> {
        let Some(position) = self.plan.position(name, self.guess) else {
            // NULL says nothing about what the column would be.
            let found = infer::value_type(value, false);
            return match found.map_err(|problem| problem.in_column(name))? {
                Some(_) => Err(Problem::NewField),
                None => Ok(()),
            };
        };
        self.guess = position + 1;
        let (Some(definition), Some(column)) = (
            self.plan.columns.get(position),
            self.columns.get_mut(position),
        ) else {
            return Err(Problem::unfit("a plan that is not the table's"));
        };
        if column.len() > self.rows {
            return Err(Problem::unfit("a field that appears twice").in_column(name));
        }
        cell::append(value, &definition.ty, column, &mut self.scratch.bytes)
            .map_err(|problem| problem.in_column(name))
    }

    fn finish(self) -> Result<(), Problem> {
        for column in self.columns {
            if column.len() == self.rows {
                column.append_null()?;
            }
        }
        Ok(())
    }
}

impl ser::SerializeStruct for RowWriter<'_> {
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

impl ser::SerializeMap for RowWriter<'_> {
    type Ok = ();
    type Error = Problem;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Problem> {
        self.scratch.key.clear();
        key.serialize(Key(&mut self.scratch.key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Problem> {
        let key = std::mem::take(&mut self.scratch.key);
        let result = self.field(&key, value);
        self.scratch.key = key;
        result
    }

    fn end(self) -> Result<(), Problem> {
        self.finish()
    }
}

/// The key of a map, which is the name of a field.
pub(crate) struct Key<'a>(pub(crate) &'a mut String);

const NO_KEY: &str = "a row whose keys are not text";

impl ser::Serializer for Key<'_> {
    type Ok = ();
    type Error = Problem;
    type SerializeSeq = Never<()>;
    type SerializeTuple = Never<()>;
    type SerializeTupleStruct = Never<()>;
    type SerializeTupleVariant = Never<()>;
    type SerializeMap = Never<()>;
    type SerializeStruct = Never<()>;
    type SerializeStructVariant = Never<()>;

    refuse!(NO_KEY;
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32,
        serialize_f64: f64, serialize_bytes: &[u8], serialize_unit_struct: &'static str
    );

    fn serialize_char(self, value: char) -> Result<(), Problem> {
        self.0.push(value);
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Problem> {
        self.0.push_str(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Problem> {
        Err(Problem::unfit(NO_KEY))
    }

    fn serialize_unit(self) -> Result<(), Problem> {
        Err(Problem::unfit(NO_KEY))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Problem> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Problem> {
        value.serialize(self)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Problem> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<(), Problem> {
        Err(Problem::unfit(NO_KEY))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Never<()>, Problem> {
        Err(Problem::unfit(NO_KEY))
    }

    fn serialize_tuple(self, _len: usize) -> Result<Never<()>, Problem> {
        Err(Problem::unfit(NO_KEY))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Never<()>, Problem> {
        Err(Problem::unfit(NO_KEY))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Never<()>, Problem> {
        Err(Problem::unfit(NO_KEY))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Never<()>, Problem> {
        Err(Problem::unfit(NO_KEY))
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Never<()>, Problem> {
        Err(Problem::unfit(NO_KEY))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Never<()>, Problem> {
        Err(Problem::unfit(NO_KEY))
    }
}
