//! The type matrix: how a Postgres type is read from the wire and stored in the lake.

use ducklake_catalog::LakeType;
use parquet_writer::ColumnType;
use pgoutput::Oid;

use crate::config::NumericMapping;

/// How one source column travels and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Decimal {
        precision: u8,
        scale: u8,
    },
    NumericText,
    NumericFloat,
    Text,
    Json,
    Jsonb,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    /// A type that is carried as the text its output function gives.
    OutputText,
}

/// The reader of a type (Postgres documentation, chapter 8; OIDs from `pg_type.dat`).
///
/// `numeric` says how a `numeric` without a usable precision is stored.
pub(crate) fn reader(type_oid: Oid, type_modifier: i32, numeric: NumericMapping) -> Reader {
    match type_oid.get() {
        16 => Reader::Bool,
        17 => Reader::Bytea,
        20 => Reader::Int8,
        21 => Reader::Int2,
        23 => Reader::Int4,
        26 => Reader::Oid,
        19 | 25 | 1042 | 1043 => Reader::Text,
        114 => Reader::Json,
        3802 => Reader::Jsonb,
        700 => Reader::Float4,
        701 => Reader::Float8,
        1082 => Reader::Date,
        1083 => Reader::Time,
        1114 => Reader::Timestamp,
        1184 => Reader::TimestampTz,
        1700 => numeric_reader(type_modifier, numeric),
        2950 => Reader::Uuid,
        _ => Reader::OutputText,
    }
}

/// A `numeric(p, s)` has the modifier `((p << 16) | (s & 0x7ff)) + 4`, the scale being an 11-bit two's complement.
fn numeric_reader(type_modifier: i32, unbounded: NumericMapping) -> Reader {
    if let Ok(packed) = u32::try_from(type_modifier.saturating_sub(4)) {
        let precision = u8::try_from((packed >> 16) & 0xffff).unwrap_or(u8::MAX);
        // A negative scale has its sign bit set and so is far above any precision.
        let scale = u8::try_from(packed & 0x7ff).unwrap_or(u8::MAX);
        if type_modifier >= 4 && (1..=38).contains(&precision) && scale <= precision {
            return Reader::Decimal { precision, scale };
        }
        if type_modifier >= 4 {
            return Reader::NumericText;
        }
    }
    match unbounded {
        NumericMapping::Varchar => Reader::NumericText,
        NumericMapping::Decimal { precision, scale } => Reader::Decimal { precision, scale },
        NumericMapping::Float64 => Reader::NumericFloat,
    }
}

impl Reader {
    /// Whether the binary form of the type is decoded here. One column without it makes the whole session text
    /// (rule 9 of ARCHITECTURE.md).
    pub(crate) fn binary(self) -> bool {
        self != Self::OutputText
    }

    /// The reader of what [`Self::copy_expression`] yields.
    pub(crate) fn of_copy(self) -> Self {
        match self {
            Self::OutputText => Self::Text,
            other => other,
        }
    }

    pub(crate) fn lake_type(self) -> LakeType {
        match self {
            Self::Bool => LakeType::Boolean,
            Self::Int2 => LakeType::Int16,
            Self::Int4 => LakeType::Int32,
            Self::Int8 => LakeType::Int64,
            Self::Oid => LakeType::UInt32,
            Self::Float4 => LakeType::Float32,
            Self::Float8 | Self::NumericFloat => LakeType::Float64,
            Self::Decimal { precision, scale } => LakeType::Decimal { precision, scale },
            Self::NumericText | Self::Text | Self::OutputText => LakeType::Varchar,
            Self::Json | Self::Jsonb => LakeType::Json,
            Self::Bytea => LakeType::Blob,
            Self::Date => LakeType::Date,
            Self::Time => LakeType::Time,
            Self::Timestamp => LakeType::Timestamp,
            Self::TimestampTz => LakeType::TimestampTz,
            Self::Uuid => LakeType::Uuid,
        }
    }

    pub(crate) fn column_type(self) -> ColumnType {
        match self {
            Self::Bool => ColumnType::Boolean,
            Self::Int2 => ColumnType::Int16,
            Self::Int4 => ColumnType::Int32,
            Self::Int8 => ColumnType::Int64,
            Self::Oid => ColumnType::UInt32,
            Self::Float4 => ColumnType::Float32,
            Self::Float8 | Self::NumericFloat => ColumnType::Float64,
            Self::Decimal { precision, scale } => ColumnType::Decimal { precision, scale },
            Self::NumericText | Self::Text | Self::OutputText => ColumnType::Utf8,
            Self::Json | Self::Jsonb => ColumnType::Json,
            Self::Bytea => ColumnType::Binary,
            Self::Date => ColumnType::Date,
            Self::Time => ColumnType::Time,
            Self::Timestamp => ColumnType::Timestamp,
            Self::TimestampTz => ColumnType::TimestampTz,
            Self::Uuid => ColumnType::Uuid,
        }
    }

    /// The expression that COPY selects for a column of this reader, whose binary form this crate decodes.
    ///
    /// `format('%s', x)` calls the type's output function, as the stream does; a cast to text would not (`inet`).
    pub(crate) fn copy_expression(self, quoted_column: &str) -> String {
        match self {
            Self::OutputText => format!(
                "CASE WHEN pg_catalog.num_nulls({quoted_column}) = 0 THEN pg_catalog.format('%s', {quoted_column}) END"
            ),
            _ => quoted_column.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(precision: i32, scale: i32) -> i32 {
        ((precision << 16) | (scale & 0x7ff)) + 4
    }

    #[test]
    fn numeric_modifiers_become_decimals_where_the_lake_has_them() {
        let read = |modifier| reader(Oid::new(1700), modifier, NumericMapping::Varchar);
        assert_eq!(
            read(numeric(12, 2)),
            Reader::Decimal {
                precision: 12,
                scale: 2
            }
        );
        assert_eq!(
            read(numeric(38, 38)),
            Reader::Decimal {
                precision: 38,
                scale: 38
            }
        );
        assert_eq!(read(numeric(39, 0)), Reader::NumericText);
        assert_eq!(read(numeric(5, -2)), Reader::NumericText);
        assert_eq!(read(numeric(3, 5)), Reader::NumericText);
        assert_eq!(read(numeric(1000, 0)), Reader::NumericText);
        assert_eq!(read(-1), Reader::NumericText);
    }

    #[test]
    fn only_unbounded_numeric_follows_the_setting() {
        let float = NumericMapping::Float64;
        assert_eq!(reader(Oid::new(1700), -1, float), Reader::NumericFloat);
        assert_eq!(
            reader(Oid::new(1700), numeric(50, 2), float),
            Reader::NumericText
        );
    }

    #[test]
    fn unknown_types_are_text_and_make_the_session_text() {
        let reader = reader(Oid::new(3904), -1, NumericMapping::Varchar);
        assert_eq!(reader, Reader::OutputText);
        assert!(!reader.binary());
        assert_eq!(reader.lake_type(), LakeType::Varchar);
    }
}
