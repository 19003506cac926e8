//! The types of fields that have no column yet.

use ducklake_catalog::LakeType;
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::ser::{self, Impossible, SerializeMap as _};

use super::problem::Problem;
use super::rfc3339;

/// The fields of a row with their types; `None` where the value is NULL and says nothing.
pub(crate) type Fields = Vec<(String, Option<LakeType>)>;

/// The fields of a row.
///
/// # Errors
/// It is neither a struct nor a map with text for keys, or holds a float that JSON has not where it would be JSON.
pub(crate) fn fields<T: Serialize + ?Sized>(
    row: &T,
    infer_timestamps: bool,
) -> Result<Fields, Problem> {
    row.serialize(RowTypes { infer_timestamps })
}

/// The fields of all rows, each with the type that holds all of its values, or else that of the first. A row that is
/// none says nothing: it is refused when it is appended.
pub(crate) fn all_fields<T: Serialize>(rows: &[T], infer_timestamps: bool) -> Fields {
    let mut all = Fields::new();
    let mut places: FxHashMap<String, usize> = FxHashMap::default();
    for row in rows {
        for (name, ty) in fields(row, infer_timestamps).unwrap_or_default() {
            let known = places.get(&name).and_then(|place| all.get_mut(*place));
            match (known, ty) {
                (None, ty) => {
                    places.insert(name.clone(), all.len());
                    all.push((name, ty));
                }
                (Some((_, known @ None)), ty) => *known = ty,
                (Some((_, Some(known))), Some(ty)) => {
                    if let Some(both) = unify(known, &ty) {
                        *known = both;
                    }
                }
                (Some(_), None) => {}
            }
        }
    }
    all
}

/// The type of a value; `None` for NULL.
pub(crate) fn value_type<T: Serialize + ?Sized>(
    value: &T,
    infer_timestamps: bool,
) -> Result<Option<LakeType>, Problem> {
    value.serialize(ValueType {
        infer_timestamps,
        inside_json: false,
    })
}

/// That a value can be JSON: a float that JSON does not have would silently become null.
pub(crate) fn check_json<T: Serialize + ?Sized>(value: &T) -> Result<(), Problem> {
    let inside = ValueType {
        infer_timestamps: false,
        inside_json: true,
    };
    value.serialize(inside).map(drop)
}

/// The type that holds the values of both, where there is one.
pub(crate) fn unify(one: &LakeType, other: &LakeType) -> Option<LakeType> {
    use LakeType::{Decimal, Float64, Int64, TimestampTz, UInt64, Varchar};
    Some(match (one, other) {
        (one, other) if one == other => one.clone(),
        (Int64, Float64) | (Float64, Int64) => Float64,
        (Int64, UInt64) | (UInt64, Int64) => Decimal {
            precision: 20,
            scale: 0,
        },
        (Varchar, TimestampTz) | (TimestampTz, Varchar) => Varchar,
        _ => return None,
    })
}

#[derive(Clone, Copy)]
struct ValueType {
    infer_timestamps: bool,
    /// Only the floats matter.
    inside_json: bool,
}

macro_rules! typed {
    ($($method:ident: $native:ty => $lake_type:expr;)*) => {
        $(fn $method(self, _value: $native) -> Result<Option<LakeType>, Problem> {
            Ok(Some($lake_type))
        })*
    };
}

impl ser::Serializer for ValueType {
    type Ok = Option<LakeType>;
    type Error = Problem;
    type SerializeSeq = Json;
    type SerializeTuple = Json;
    type SerializeTupleStruct = Json;
    type SerializeTupleVariant = Json;
    type SerializeMap = Json;
    type SerializeStruct = Json;
    type SerializeStructVariant = Json;

    typed! {
        serialize_bool: bool => LakeType::Boolean;
        serialize_i8: i8 => LakeType::Int64;
        serialize_i16: i16 => LakeType::Int64;
        serialize_i32: i32 => LakeType::Int64;
        serialize_i64: i64 => LakeType::Int64;
        serialize_u8: u8 => LakeType::Int64;
        serialize_u16: u16 => LakeType::Int64;
        serialize_u32: u32 => LakeType::Int64;
        serialize_char: char => LakeType::Varchar;
        serialize_bytes: &[u8] => LakeType::Blob;
    }

    // JSON does not say whether a number is signed: the value decides.
    fn serialize_u64(self, value: u64) -> Result<Self::Ok, Problem> {
        let fits = i64::try_from(value).is_ok();
        Ok(Some(if fits {
            LakeType::Int64
        } else {
            LakeType::UInt64
        }))
    }

    fn serialize_i128(self, value: i128) -> Result<Self::Ok, Problem> {
        let fits = i64::try_from(value).is_ok();
        Ok(Some(if fits { LakeType::Int64 } else { WIDE }))
    }

    fn serialize_u128(self, value: u128) -> Result<Self::Ok, Problem> {
        let fits = i64::try_from(value).is_ok();
        Ok(Some(if fits { LakeType::Int64 } else { WIDE }))
    }

    fn serialize_f32(self, value: f32) -> Result<Self::Ok, Problem> {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Result<Self::Ok, Problem> {
        if self.inside_json && !value.is_finite() {
            return Err(Problem::unfit("a float that JSON does not have"));
        }
        Ok(Some(LakeType::Float64))
    }

    fn serialize_str(self, value: &str) -> Result<Self::Ok, Problem> {
        let instant = self.infer_timestamps && rfc3339::instant(value).is_ok();
        Ok(Some(if instant {
            LakeType::TimestampTz
        } else {
            LakeType::Varchar
        }))
    }

    fn serialize_none(self) -> Result<Self::Ok, Problem> {
        Ok(None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Self::Ok, Problem> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Self::Ok, Problem> {
        Ok(None)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Self::Ok, Problem> {
        Ok(None)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
    ) -> Result<Self::Ok, Problem> {
        Ok(Some(LakeType::Varchar))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Self::Ok, Problem> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<Self::Ok, Problem> {
        check_json(value)?;
        Ok(Some(LakeType::Json))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Json, Problem> {
        Ok(Json)
    }

    fn serialize_tuple(self, _len: usize) -> Result<Json, Problem> {
        Ok(Json)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Json, Problem> {
        Ok(Json)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Json, Problem> {
        Ok(Json)
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Json, Problem> {
        Ok(Json)
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Json, Problem> {
        Ok(Json)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Json, Problem> {
        Ok(Json)
    }
}

/// For integers beyond 64 bits.
const WIDE: LakeType = LakeType::Decimal {
    precision: 38,
    scale: 0,
};

/// What holds other values becomes JSON, so that its inside may change from row to row.
struct Json;

macro_rules! holds_values {
    ($($trait:ident::$method:ident),*) => {
        $(impl ser::$trait for Json {
            type Ok = Option<LakeType>;
            type Error = Problem;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Problem> {
                check_json(value)
            }

            fn end(self) -> Result<Option<LakeType>, Problem> {
                Ok(Some(LakeType::Json))
            }
        })*
    };
    (named $($trait:ident),*) => {
        $(impl ser::$trait for Json {
            type Ok = Option<LakeType>;
            type Error = Problem;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _key: &'static str,
                value: &T,
            ) -> Result<(), Problem> {
                check_json(value)
            }

            fn end(self) -> Result<Option<LakeType>, Problem> {
                Ok(Some(LakeType::Json))
            }
        })*
    };
}

holds_values!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);
holds_values!(named SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Json {
    type Ok = Option<LakeType>;
    type Error = Problem;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _key: &T) -> Result<(), Problem> {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Problem> {
        check_json(value)
    }

    fn end(self) -> Result<Option<LakeType>, Problem> {
        Ok(Some(LakeType::Json))
    }
}

struct RowTypes {
    infer_timestamps: bool,
}

/// Gathers the fields of a row.
pub(crate) struct RowFields {
    infer_timestamps: bool,
    fields: Fields,
    key: String,
}

impl RowTypes {
    fn begin(self, len: usize) -> RowFields {
        RowFields {
            infer_timestamps: self.infer_timestamps,
            fields: Vec::with_capacity(len.min(1024)),
            key: String::new(),
        }
    }
}

impl super::row::RowSerializer for RowTypes {
    type Ok = Fields;
    type Fields = RowFields;

    fn fields(self, len: usize) -> RowFields {
        self.begin(len)
    }
}
super::row::row_serializer!(RowTypes);

impl ser::SerializeStruct for RowFields {
    type Ok = Fields;
    type Error = Problem;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Problem> {
        self.serialize_entry(key, value)
    }

    fn end(self) -> Result<Fields, Problem> {
        Ok(self.fields)
    }
}

impl ser::SerializeMap for RowFields {
    type Ok = Fields;
    type Error = Problem;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Problem> {
        self.key.clear();
        key.serialize(super::row::Key(&mut self.key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Problem> {
        let found = value_type(value, self.infer_timestamps)
            .map_err(|problem| problem.in_column(&self.key))?;
        self.fields.push((std::mem::take(&mut self.key), found));
        Ok(())
    }

    fn end(self) -> Result<Fields, Problem> {
        Ok(self.fields)
    }
}

/// Nothing else is a row.
pub(crate) type Never<Ok> = Impossible<Ok, Problem>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn types(row: &impl Serialize, infer_timestamps: bool) -> Vec<String> {
        fields(row, infer_timestamps)
            .unwrap()
            .into_iter()
            .map(|(name, ty)| {
                format!(
                    "{name} {}",
                    ty.map_or_else(|| "?".to_owned(), |ty| ty.to_string())
                )
            })
            .collect()
    }

    #[test]
    fn each_field_has_the_type_of_its_value() {
        let row = json!({
            "a": true, "b": -1, "c": 1, "d": u64::MAX, "e": 1.5, "f": "x", "g": null, "h": [1], "i": {"x": 1},
            "j": "2024-02-29T12:00:00Z",
        });
        assert_eq!(
            types(&row, false),
            [
                "a boolean",
                "b int64",
                "c int64",
                "d uint64",
                "e float64",
                "f varchar",
                "g ?",
                "h json",
                "i json",
                "j varchar",
            ]
        );
        assert_eq!(types(&row, true)[9], "j timestamptz");
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for value in [json!(1), json!([1]), json!("x"), json!(null)] {
            fields(&value, false).unwrap_err();
        }
        let keys = std::collections::BTreeMap::from([(vec![1], 1)]);
        fields(&keys, false).unwrap_err();
    }

    #[test]
    fn json_has_no_infinity() {
        fields(
            &std::collections::BTreeMap::from([("x", vec![f64::NAN])]),
            false,
        )
        .unwrap_err();
        assert_eq!(
            types(&std::collections::BTreeMap::from([("x", f64::NAN)]), false),
            ["x float64"]
        );
    }
}
