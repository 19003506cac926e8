//! Column types of the lake and their spelling in `ducklake_column.column_type`.

use std::fmt;
use std::str::FromStr;

/// A column type of the lake.
///
/// [`Display`](fmt::Display) of a type without children is its exact catalog spelling (a reader
/// refuses the whole lake over a single unknown spelling), and [`FromStr`] reads it back. A nested
/// type is spread over a parent row and child rows; it displays as `list(int32)`,
/// `struct(a int32, b varchar)` or `map(varchar, int32)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LakeType {
    /// `boolean`
    Boolean,
    /// `int8`
    Int8,
    /// `int16`
    Int16,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `int128`: DuckDB stores it as a Parquet double, so new columns of it are refused
    Int128,
    /// `uint8`
    UInt8,
    /// `uint16`
    UInt16,
    /// `uint32`
    UInt32,
    /// `uint64`
    UInt64,
    /// `uint128`: as for `int128`, new columns of it are refused
    UInt128,
    /// `float32`
    Float32,
    /// `float64`
    Float64,
    /// `decimal(precision,scale)`, at most 38 digits
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// `varchar`
    Varchar,
    /// `json`
    Json,
    /// `blob`
    Blob,
    /// `date`
    Date,
    /// `time`, in microseconds
    Time,
    /// `timetz`: Parquet drops the offset
    TimeTz,
    /// `timestamp`, in microseconds, without time zone
    Timestamp,
    /// `timestamp_s`
    TimestampS,
    /// `timestamp_ms`
    TimestampMs,
    /// `timestamp_ns`
    TimestampNs,
    /// `timestamptz`, in microseconds since 1970 UTC
    TimestampTz,
    /// `interval`: Parquet holds neither negative values nor microseconds of it
    Interval,
    /// `uuid`
    Uuid,
    /// `variant`: read only
    Variant,
    /// `geometry`: read only
    Geometry,
    /// `list`, one child named `element`
    List(Box<LakeType>),
    /// `struct`, one child per field
    Struct(Vec<(String, LakeType)>),
    /// `map`, children named `key` and `value`
    Map(Box<LakeType>, Box<LakeType>),
    /// A spelling that this version of the crate does not know: read only
    Other(String),
}

/// A spelling that is no type of the lake without children.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown column type {0:?}")]
pub struct UnknownLakeType(String);

/// Name, type and position-independent nullability of a child row of a nested type.
pub(crate) struct ChildType<'a> {
    pub(crate) name: &'a str,
    pub(crate) ty: &'a LakeType,
}

impl LakeType {
    /// A list of `element`.
    pub fn list(element: Self) -> Self {
        Self::List(Box::new(element))
    }

    /// The spelling of this node in `ducklake_column.column_type`.
    pub fn catalog_name(&self) -> String {
        match self {
            Self::List(_) => "list".to_owned(),
            Self::Struct(_) => "struct".to_owned(),
            Self::Map(..) => "map".to_owned(),
            scalar => scalar.to_string(),
        }
    }

    /// Whether the column is stored as a parent with child columns.
    pub fn is_nested(&self) -> bool {
        matches!(self, Self::List(_) | Self::Struct(_) | Self::Map(..))
    }

    pub(crate) fn children(&self) -> Vec<ChildType<'_>> {
        match self {
            Self::List(element) => vec![ChildType {
                name: "element",
                ty: element,
            }],
            Self::Struct(fields) => fields
                .iter()
                .map(|(name, ty)| ChildType { name, ty })
                .collect(),
            Self::Map(key, value) => vec![
                ChildType {
                    name: "key",
                    ty: key,
                },
                ChildType {
                    name: "value",
                    ty: value,
                },
            ],
            _ => Vec::new(),
        }
    }

    /// Why no new column of this type may be made, or `None` if one may.
    pub(crate) fn refusal(&self) -> Option<String> {
        match self {
            Self::Int128 | Self::UInt128 | Self::Variant | Self::Geometry | Self::Other(_) => {
                Some(format!("type {self} cannot be written"))
            }
            Self::Decimal { precision, scale } => {
                (*precision == 0 || *precision > 38 || scale > precision)
                    .then(|| format!("type {self} is out of range"))
            }
            Self::Struct(fields) => {
                if fields.is_empty() {
                    return Some("a struct needs a field".to_owned());
                }
                for (index, (name, _)) in fields.iter().enumerate() {
                    if name.is_empty() {
                        return Some("a struct field has no name".to_owned());
                    }
                    if fields
                        .iter()
                        .take(index)
                        .any(|(other, _)| other.eq_ignore_ascii_case(name))
                    {
                        return Some(format!("struct field {name:?} appears twice"));
                    }
                }
                fields.iter().find_map(|(_, ty)| ty.refusal())
            }
            Self::List(element) => element.refusal(),
            Self::Map(key, value) => key.refusal().or_else(|| value.refusal()),
            _ => None,
        }
    }

    /// Whether a column of this type may become `wider` while its files stay as they are:
    /// - wider integers, also those of a `decimal` without scale,
    /// - decimals of the same scale with more digits,
    /// - `varchar`, of booleans, integers, decimals, `time`, `uuid` and `json`.
    ///
    /// Readers cast the values of older files. These are the pairs for which DuckDB (1.5.5) reads
    /// exactly what Postgres' cast gives, and filters find it (tested pair by pair). Others are not
    /// exact (`float64`, `date` and `timestamp` to `varchar`: digits, eras), or filters go astray: after
    /// `int32` to `float64` DuckDB takes `x < 0.1` for `x < 0`, since it turns the constant into the
    /// file's type; likewise `float32` to `float64`, `date` to `timestamp` and a greater scale. For
    /// those drop the column and add one of the same name.
    ///
    /// A defect of DuckDB remains for all but `varchar`, also after its own `ALTER`: a join on the column
    /// with a filtered table may fail with "Can't convert TableFilterType (BLOOM_FILTER)" while files of
    /// the old type are read. `SET disabled_optimizers = 'join_filter_pushdown'` avoids it.
    pub fn widens_to(&self, wider: &Self) -> bool {
        if self == wider {
            return true;
        }
        match (self, wider) {
            (
                Self::Decimal { precision, scale },
                Self::Decimal {
                    precision: more,
                    scale: same,
                },
            ) => scale == same && more >= precision,
            (
                from,
                Self::Decimal {
                    precision,
                    scale: 0,
                },
            ) => from.digits().is_some_and(|digits| *precision >= digits),
            (from, Self::Varchar) => {
                from.integer().is_some()
                    || matches!(
                        from,
                        Self::Boolean | Self::Decimal { .. } | Self::Time | Self::Uuid | Self::Json
                    )
            }
            (from, to) => match (from.integer(), to.integer()) {
                (Some((bits, signed)), Some((wider_bits, wider_signed))) => {
                    wider_bits > bits && (wider_signed || !signed)
                }
                _ => false,
            },
        }
    }

    /// Whether the bounds of values of this type, spelled as in the catalog, are bounds of the same
    /// values as `wider` ones too.
    pub(crate) fn keeps_order_as(&self, wider: &Self) -> bool {
        *wider != Self::Varchar || matches!(self, Self::Varchar | Self::Json | Self::Uuid)
    }

    /// The most decimal digits of a value of an integer type.
    fn digits(&self) -> Option<u8> {
        self.integer().map(|width| match width {
            (8, _) => 3,
            (16, _) => 5,
            (32, _) => 10,
            (_, true) => 19,
            (_, false) => 20,
        })
    }

    /// Width in bits and signedness of an integer type.
    pub(crate) fn integer(&self) -> Option<(u8, bool)> {
        Some(match self {
            Self::Int8 => (8, true),
            Self::Int16 => (16, true),
            Self::Int32 => (32, true),
            Self::Int64 => (64, true),
            Self::UInt8 => (8, false),
            Self::UInt16 => (16, false),
            Self::UInt32 => (32, false),
            Self::UInt64 => (64, false),
            _ => return None,
        })
    }

    /// The Postgres type of this column in a `ducklake_inlined_data_*` table, as DuckDB creates
    /// them; `None` when a table with such a column cannot be inlined.
    pub(crate) fn inlined_type(&self) -> Option<String> {
        Some(
            match self {
                Self::Boolean => "boolean",
                Self::Int8 | Self::Int16 => "smallint",
                Self::UInt8 | Self::UInt16 | Self::Int32 => "integer",
                Self::UInt32 | Self::Int64 => "bigint",
                Self::Float32 => "real",
                Self::Float64 => "double precision",
                Self::Decimal { precision, scale } => {
                    return Some(format!("numeric({precision},{scale})"));
                }
                Self::Varchar | Self::Json | Self::Blob => "bytea",
                Self::Time => "time",
                Self::TimeTz => "timetz",
                Self::Interval => "interval",
                Self::Uuid => "uuid",
                Self::UInt64
                | Self::Int128
                | Self::UInt128
                | Self::Date
                | Self::Timestamp
                | Self::TimestampS
                | Self::TimestampMs
                | Self::TimestampNs
                | Self::TimestampTz => "varchar",
                Self::List(_) | Self::Struct(_) | Self::Map(..) => {
                    if self
                        .children()
                        .iter()
                        .any(|child| child.ty.inlined_type().is_none())
                    {
                        return None;
                    }
                    "varchar"
                }
                Self::Variant | Self::Geometry | Self::Other(_) => return None,
            }
            .to_owned(),
        )
    }
}

impl fmt::Display for LakeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Int128 => "int128",
            Self::UInt8 => "uint8",
            Self::UInt16 => "uint16",
            Self::UInt32 => "uint32",
            Self::UInt64 => "uint64",
            Self::UInt128 => "uint128",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Varchar => "varchar",
            Self::Json => "json",
            Self::Blob => "blob",
            Self::Date => "date",
            Self::Time => "time",
            Self::TimeTz => "timetz",
            Self::Timestamp => "timestamp",
            Self::TimestampS => "timestamp_s",
            Self::TimestampMs => "timestamp_ms",
            Self::TimestampNs => "timestamp_ns",
            Self::TimestampTz => "timestamptz",
            Self::Interval => "interval",
            Self::Uuid => "uuid",
            Self::Variant => "variant",
            Self::Geometry => "geometry",
            Self::Other(name) => name,
            Self::Decimal { precision, scale } => return write!(f, "decimal({precision},{scale})"),
            Self::List(element) => return write!(f, "list({element})"),
            Self::Map(key, value) => return write!(f, "map({key}, {value})"),
            Self::Struct(fields) => {
                f.write_str("struct(")?;
                for (index, (name, ty)) in fields.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{name} {ty}")?;
                }
                return f.write_str(")");
            }
        })
    }
}

impl FromStr for LakeType {
    type Err = UnknownLakeType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownLakeType(text.to_owned());
        let lower = text.to_ascii_lowercase();
        if let Some(arguments) = lower
            .strip_prefix("decimal(")
            .and_then(|rest| rest.strip_suffix(')'))
        {
            let (precision, scale) = arguments.split_once(',').ok_or_else(unknown)?;
            return Ok(Self::Decimal {
                precision: precision.trim().parse().map_err(|_| unknown())?,
                scale: scale.trim().parse().map_err(|_| unknown())?,
            });
        }
        Ok(match lower.as_str() {
            "boolean" => Self::Boolean,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "int128" => Self::Int128,
            "uint8" => Self::UInt8,
            "uint16" => Self::UInt16,
            "uint32" => Self::UInt32,
            "uint64" => Self::UInt64,
            "uint128" => Self::UInt128,
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "varchar" => Self::Varchar,
            "json" => Self::Json,
            "blob" => Self::Blob,
            "date" => Self::Date,
            "time" => Self::Time,
            "timetz" => Self::TimeTz,
            "timestamp" | "timestamp_us" => Self::Timestamp,
            "timestamp_s" => Self::TimestampS,
            "timestamp_ms" => Self::TimestampMs,
            "timestamp_ns" => Self::TimestampNs,
            "timestamptz" => Self::TimestampTz,
            "interval" => Self::Interval,
            "uuid" => Self::Uuid,
            "variant" => Self::Variant,
            "geometry" => Self::Geometry,
            _ => return Err(unknown()),
        })
    }
}
