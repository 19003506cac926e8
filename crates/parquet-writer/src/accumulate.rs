//! Statistics gathered from the arrays of a file while it is encoded.

use std::cmp::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ListArray, PrimitiveArray, StructArray, make_array};
use arrow_buffer::NullBuffer;

use crate::error::WriteError;
use crate::schema::{ColumnSpec, ColumnType};
use crate::stats::{Bounds, ColumnStats, StatValue};

/// Gathers the [`ColumnStats`] of one node of the schema: of every leaf at or below it.
pub(crate) enum ColumnAccumulator {
    Leaf(LeafAccumulator),
    List(Box<ColumnAccumulator>),
    Struct(Vec<ColumnAccumulator>),
}

impl ColumnAccumulator {
    pub(crate) fn new(spec: &ColumnSpec, max_stat_bytes: usize) -> Self {
        let mut children = spec
            .children
            .iter()
            .map(|child| Self::new(child, max_stat_bytes));
        match (spec.column_type, children.next()) {
            (ColumnType::List, Some(element)) => Self::List(Box::new(element)),
            (_, Some(first)) => Self::Struct(std::iter::once(first).chain(children).collect()),
            (_, None) => Self::Leaf(LeafAccumulator::new(spec, max_stat_bytes)),
        }
    }

    /// Takes in an array of the node.
    ///
    /// `above` has the nulls of the structs the array is a field of, up to the list they are in:
    /// whatever the array holds in such a row, it is a null to Parquet.
    pub(crate) fn update(
        &mut self,
        array: &ArrayRef,
        above: Option<&NullBuffer>,
    ) -> Result<(), WriteError> {
        match self {
            Self::Leaf(leaf) => leaf.update(array, above),
            Self::List(element) => {
                let lists = array.as_list_opt().ok_or(WriteError::SchemaMismatch)?;
                update_lists(element, lists, above)
            }
            Self::Struct(fields) => {
                let structs: &StructArray =
                    array.as_struct_opt().ok_or(WriteError::SchemaMismatch)?;
                let nulls = NullBuffer::union(above, structs.nulls());
                for (field, array) in fields.iter_mut().zip(structs.columns()) {
                    field.update(array, nulls.as_ref())?;
                }
                Ok(())
            }
        }
    }

    /// Counts nulls of a list above: each takes a place in every leaf, and so is a null there.
    fn add_nulls(&mut self, nulls: usize) -> Result<(), WriteError> {
        match self {
            Self::Leaf(leaf) => {
                leaf.null_count += to_u64(nulls)?;
                Ok(())
            }
            Self::List(element) => element.add_nulls(nulls),
            Self::Struct(fields) => fields
                .iter_mut()
                .try_for_each(|field| field.add_nulls(nulls)),
        }
    }

    /// Moves the leaves to the end of `leaves`, in the order of the file.
    pub(crate) fn append_leaves(self, leaves: &mut Vec<LeafAccumulator>) {
        match self {
            Self::Leaf(leaf) => leaves.push(leaf),
            Self::List(element) => element.append_leaves(leaves),
            Self::Struct(fields) => fields
                .into_iter()
                .for_each(|field| field.append_leaves(leaves)),
        }
    }
}

/// Takes in the elements of lists. A null list and an empty one are one null each, as DuckLake counts.
///
/// Only what lies in the range of a list is looked at: a slice has the elements of its neighbours
/// behind it, and a null may have elements that nobody sees.
fn update_lists(
    element: &mut ColumnAccumulator,
    lists: &ListArray,
    above: Option<&NullBuffer>,
) -> Result<(), WriteError> {
    let nulls = NullBuffer::union(above, lists.nulls());
    let mut holes = 0;
    // Elements that were found to belong to lists and not taken in yet, which adjoin.
    let mut run = 0..0;
    for (row, range) in lists.value_offsets().windows(2).enumerate() {
        let &[start, end] = range else { continue };
        let (start, end) = (to_usize(start)?, to_usize(end)?);
        if start == end || nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            holes += 1;
        } else if run.end == start {
            run.end = end;
        } else {
            element.update(&lists.values().slice(run.start, run.len()), None)?;
            run = start..end;
        }
    }
    element.update(&lists.values().slice(run.start, run.len()), None)?;
    element.add_nulls(holes)
}

/// Gathers one leaf's [`ColumnStats`].
pub(crate) struct LeafAccumulator {
    field_id: i32,
    value_count: u64,
    null_count: u64,
    range: TypedRange,
}

impl LeafAccumulator {
    fn new(spec: &ColumnSpec, max_stat_bytes: usize) -> Self {
        Self {
            field_id: spec.field_id,
            value_count: 0,
            null_count: 0,
            range: TypedRange::new(spec.column_type, max_stat_bytes),
        }
    }

    fn update(&mut self, array: &ArrayRef, above: Option<&NullBuffer>) -> Result<(), WriteError> {
        let nulls = NullBuffer::union(above, array.nulls());
        let null_count = nulls.as_ref().map_or(0, NullBuffer::null_count);
        self.value_count += to_u64(array.len() - null_count)?;
        self.null_count += to_u64(null_count)?;
        let updated = if null_count == array.null_count() {
            self.range.update(array)
        } else {
            // Rows under a null struct hold values, which are none.
            let visible = array.to_data().into_builder().nulls(nulls).build()?;
            self.range.update(&make_array(visible))
        };
        updated.ok_or(WriteError::SchemaMismatch)
    }

    /// The statistics of everything taken in.
    pub(crate) fn finish(self, size_bytes: u64) -> ColumnStats {
        ColumnStats {
            field_id: self.field_id,
            value_count: self.value_count,
            null_count: self.null_count,
            contains_nan: self.range.contains_nan(),
            size_bytes,
            bounds: if self.value_count == 0 {
                Bounds::Empty
            } else {
                self.range.finish()
            },
        }
    }
}

fn to_u64(count: usize) -> Result<u64, WriteError> {
    u64::try_from(count).map_err(|_| WriteError::SizeOverflow {
        what: "value count",
    })
}

fn to_usize(offset: i32) -> Result<usize, WriteError> {
    usize::try_from(offset).map_err(|_| WriteError::SizeOverflow {
        what: "list offset",
    })
}

/// Smallest and largest value so far, by type.
enum TypedRange {
    Bool(Option<(bool, bool)>),
    Int16(Option<(i16, i16)>),
    Int32(Option<(i32, i32)>),
    Int64(Option<(i64, i64)>),
    UInt32(Option<(u32, u32)>),
    UInt64(Option<(u64, u64)>),
    Float32 {
        range: Option<(f32, f32)>,
        nan: bool,
    },
    Float64 {
        range: Option<(f64, f64)>,
        nan: bool,
    },
    Decimal {
        range: Option<(i128, i128)>,
        scale: u8,
    },
    Text(TextRange),
    Unbounded,
    Date(Option<(i32, i32)>),
    Time(Option<(i64, i64)>),
    Timestamp(Option<(i64, i64)>),
    TimestampTz(Option<(i64, i64)>),
    Uuid(Option<([u8; 16], [u8; 16])>),
}

impl TypedRange {
    fn new(column_type: ColumnType, max_stat_bytes: usize) -> Self {
        match column_type {
            ColumnType::Boolean => Self::Bool(None),
            ColumnType::Int16 => Self::Int16(None),
            ColumnType::Int32 => Self::Int32(None),
            ColumnType::Int64 => Self::Int64(None),
            ColumnType::UInt32 => Self::UInt32(None),
            ColumnType::UInt64 => Self::UInt64(None),
            ColumnType::Float32 => Self::Float32 {
                range: None,
                nan: false,
            },
            ColumnType::Float64 => Self::Float64 {
                range: None,
                nan: false,
            },
            ColumnType::Decimal { scale, .. } => Self::Decimal { range: None, scale },
            ColumnType::Utf8 | ColumnType::Json => Self::Text(TextRange::new(max_stat_bytes)),
            ColumnType::Binary | ColumnType::List | ColumnType::Struct => Self::Unbounded,
            ColumnType::Date => Self::Date(None),
            ColumnType::Time => Self::Time(None),
            ColumnType::Timestamp => Self::Timestamp(None),
            ColumnType::TimestampTz => Self::TimestampTz(None),
            ColumnType::Uuid => Self::Uuid(None),
        }
    }

    /// Widens the range; `None` when the array is of another type.
    fn update(&mut self, array: &ArrayRef) -> Option<()> {
        match self {
            Self::Bool(range) => widen(range, array.as_boolean_opt()?.iter().flatten()),
            Self::Int16(range) => widen_numbers::<Int16Type>(range, array)?,
            Self::Int32(range) => widen_numbers::<Int32Type>(range, array)?,
            Self::Int64(range) => widen_numbers::<Int64Type>(range, array)?,
            Self::UInt32(range) => widen_numbers::<UInt32Type>(range, array)?,
            Self::UInt64(range) => widen_numbers::<UInt64Type>(range, array)?,
            Self::Float32 { range, nan } => {
                widen_floats::<Float32Type>(range, nan, array, f32::is_nan, f32::total_cmp)?;
            }
            Self::Float64 { range, nan } => {
                widen_floats::<Float64Type>(range, nan, array, f64::is_nan, f64::total_cmp)?;
            }
            Self::Decimal { range, .. } => widen_numbers::<Decimal128Type>(range, array)?,
            Self::Text(range) => {
                for value in array.as_string_opt::<i32>()?.iter().flatten() {
                    range.widen(value.as_bytes());
                }
            }
            Self::Unbounded => {}
            Self::Date(range) => widen_numbers::<Date32Type>(range, array)?,
            Self::Time(range) => widen_numbers::<Time64MicrosecondType>(range, array)?,
            Self::Timestamp(range) | Self::TimestampTz(range) => {
                widen_numbers::<TimestampMicrosecondType>(range, array)?;
            }
            Self::Uuid(range) => {
                for value in array.as_fixed_size_binary_opt()?.iter().flatten() {
                    widen(range, std::iter::once(<[u8; 16]>::try_from(value).ok()?));
                }
            }
        }
        Some(())
    }

    fn contains_nan(&self) -> Option<bool> {
        match self {
            Self::Float32 { nan, .. } | Self::Float64 { nan, .. } => Some(*nan),
            _ => None,
        }
    }

    fn finish(self) -> Bounds {
        match self {
            Self::Bool(range) => bounds(range, StatValue::Bool),
            Self::Int16(range) => bounds(range, |value| StatValue::Int(value.into())),
            Self::Int32(range) => bounds(range, |value| StatValue::Int(value.into())),
            Self::Int64(range) => bounds(range, StatValue::Int),
            Self::UInt32(range) => bounds(range, |value| StatValue::Int(value.into())),
            Self::UInt64(range) => bounds(range, StatValue::UInt),
            Self::Float32 { range, .. } => bounds(range, StatValue::Float32),
            Self::Float64 { range, .. } => bounds(range, StatValue::Float64),
            Self::Decimal { range, scale } => {
                bounds(range, |value| StatValue::Decimal { value, scale })
            }
            Self::Text(range) => range.finish(),
            Self::Unbounded => Bounds::Unknown,
            Self::Date(range) => bounds(range, StatValue::Date),
            Self::Time(range) => bounds(range, StatValue::Time),
            Self::Timestamp(range) => bounds(range, StatValue::Timestamp),
            Self::TimestampTz(range) => bounds(range, StatValue::TimestampTz),
            Self::Uuid(range) => bounds(range, StatValue::Uuid),
        }
    }
}

fn bounds<T>(range: Option<(T, T)>, value: impl Fn(T) -> StatValue) -> Bounds {
    match range {
        Some((min, max)) => Bounds::Range {
            min: value(min),
            max: value(max),
        },
        None => Bounds::Empty,
    }
}

fn widen<T: Copy + Ord>(range: &mut Option<(T, T)>, values: impl IntoIterator<Item = T>) {
    let mut values = values.into_iter();
    let Some(first) = range.or_else(|| values.next().map(|value| (value, value))) else {
        return;
    };
    *range = Some(values.fold(first, |(min, max), value| (min.min(value), max.max(value))));
}

fn widen_numbers<T: ArrowPrimitiveType<Native: Ord>>(
    range: &mut Option<(T::Native, T::Native)>,
    array: &ArrayRef,
) -> Option<()> {
    let array: &PrimitiveArray<T> = array.as_primitive_opt()?;
    if array.null_count() == 0 {
        widen(range, array.values().iter().copied());
    } else {
        widen(range, array.iter().flatten());
    }
    Some(())
}

/// Leaves NaN out and orders `-0.0` before `+0.0`: the range then holds for readers that tell the
/// two zeros apart as well as for those that, like DuckDB, do not.
fn widen_floats<T: ArrowPrimitiveType>(
    range: &mut Option<(T::Native, T::Native)>,
    nan: &mut bool,
    array: &ArrayRef,
    is_nan: impl Fn(T::Native) -> bool,
    order: impl Fn(&T::Native, &T::Native) -> Ordering,
) -> Option<()> {
    let array: &PrimitiveArray<T> = array.as_primitive_opt()?;
    for value in array.iter().flatten() {
        if is_nan(value) {
            *nan = true;
            continue;
        }
        match range {
            None => *range = Some((value, value)),
            Some((min, max)) => {
                if order(&value, min).is_lt() {
                    *min = value;
                }
                if order(&value, max).is_gt() {
                    *max = value;
                }
            }
        }
    }
    Some(())
}

/// Range of strings by bytes, with ends cut to one byte more than may be reported.
///
/// The cut keeps the result exact: among strings that agree in that many bytes, none can be reported.
struct TextRange {
    ends: Option<(Vec<u8>, Vec<u8>)>,
    max_bytes: usize,
}

impl TextRange {
    fn new(max_bytes: usize) -> Self {
        Self {
            ends: None,
            max_bytes,
        }
    }

    fn widen(&mut self, value: &[u8]) {
        let value = value
            .get(..self.max_bytes.saturating_add(1))
            .unwrap_or(value);
        match &mut self.ends {
            None => self.ends = Some((value.to_vec(), value.to_vec())),
            Some((min, max)) => {
                if value < min.as_slice() {
                    min.clear();
                    min.extend_from_slice(value);
                } else if value > max.as_slice() {
                    max.clear();
                    max.extend_from_slice(value);
                }
            }
        }
    }

    fn finish(self) -> Bounds {
        let Some((min, max)) = self.ends else {
            return Bounds::Empty;
        };
        match (
            reportable(min, self.max_bytes),
            reportable(max, self.max_bytes),
        ) {
            (Some(min), Some(max)) => Bounds::Range {
                min: StatValue::Utf8(min),
                max: StatValue::Utf8(max),
            },
            _ => Bounds::Unknown,
        }
    }
}

/// The end of a range as text, unless it is too long or contains a NUL, which Postgres cannot store.
fn reportable(end: Vec<u8>, max_bytes: usize) -> Option<String> {
    if end.len() > max_bytes || end.contains(&0) {
        return None;
    }
    String::from_utf8(end).ok()
}
