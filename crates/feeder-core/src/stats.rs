//! Statistics from the file's writer to the lake's catalog: the same values, each crate's own type.

use ducklake_catalog as lake;
use parquet_writer as file;

/// Maps the statistics of one leaf column.
pub(crate) fn to_lake(stats: file::ColumnStats) -> lake::FileColumnStats {
    lake::FileColumnStats {
        column: lake::ColumnId::new(i64::from(stats.field_id)),
        column_size_bytes: stats.size_bytes,
        value_count: stats.value_count,
        null_count: stats.null_count,
        contains_nan: stats.contains_nan,
        bounds: match stats.bounds {
            file::Bounds::Unknown => lake::StatBounds::Unknown,
            file::Bounds::Empty => lake::StatBounds::Empty,
            file::Bounds::Range { min, max } => match (value(min), value(max)) {
                (Some(min), Some(max)) => lake::StatBounds::Range { min, max },
                _ => lake::StatBounds::Unknown,
            },
        },
    }
}

/// `None` for a value that the catalog crate cannot hold: unknown bounds are always safe.
fn value(value: file::StatValue) -> Option<lake::StatValue> {
    Some(match value {
        file::StatValue::Bool(v) => lake::StatValue::Bool(v),
        file::StatValue::Int(v) => lake::StatValue::Int(v),
        file::StatValue::UInt(v) => lake::StatValue::Int(i64::try_from(v).ok()?),
        file::StatValue::Float32(v) => lake::StatValue::Float32(v),
        file::StatValue::Float64(v) => lake::StatValue::Float64(v),
        file::StatValue::Decimal { value, scale } => lake::StatValue::Decimal { value, scale },
        file::StatValue::Utf8(v) => lake::StatValue::Utf8(v),
        file::StatValue::Date(v) => lake::StatValue::Date(v),
        file::StatValue::Time(v) => lake::StatValue::Time(v),
        file::StatValue::Timestamp(v) => lake::StatValue::Timestamp(v),
        file::StatValue::TimestampTz(v) => lake::StatValue::TimestampTz(v),
        file::StatValue::Uuid(v) => lake::StatValue::Uuid(v),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bounds: file::Bounds) -> file::ColumnStats {
        file::ColumnStats {
            field_id: 9,
            value_count: 5,
            null_count: 2,
            contains_nan: Some(true),
            size_bytes: 77,
            bounds,
        }
    }

    #[test]
    fn counts_are_carried_over() {
        assert_eq!(
            to_lake(of(file::Bounds::Empty)),
            lake::FileColumnStats {
                column: lake::ColumnId::new(9),
                column_size_bytes: 77,
                value_count: 5,
                null_count: 2,
                contains_nan: Some(true),
                bounds: lake::StatBounds::Empty,
            }
        );
        assert_eq!(
            to_lake(of(file::Bounds::Unknown)).bounds,
            lake::StatBounds::Unknown
        );
    }

    #[test]
    fn each_kind_of_value_keeps_its_kind_and_its_side() {
        use file::StatValue as F;
        use lake::StatValue as L;
        let decimal = |value| F::Decimal { value, scale: 2 };
        let lake_decimal = |value| L::Decimal { value, scale: 2 };
        let pairs = [
            (F::Bool(false), F::Bool(true), L::Bool(false), L::Bool(true)),
            (F::Int(-1), F::Int(2), L::Int(-1), L::Int(2)),
            (F::UInt(1), F::UInt(2), L::Int(1), L::Int(2)),
            (
                F::Float32(0.5),
                F::Float32(1.5),
                L::Float32(0.5),
                L::Float32(1.5),
            ),
            (
                F::Float64(0.5),
                F::Float64(1.5),
                L::Float64(0.5),
                L::Float64(1.5),
            ),
            (decimal(-5), decimal(5), lake_decimal(-5), lake_decimal(5)),
            (
                F::Utf8("a".to_owned()),
                F::Utf8("b".to_owned()),
                L::Utf8("a".to_owned()),
                L::Utf8("b".to_owned()),
            ),
            (F::Date(1), F::Date(2), L::Date(1), L::Date(2)),
            (F::Time(1), F::Time(2), L::Time(1), L::Time(2)),
            (
                F::Timestamp(1),
                F::Timestamp(2),
                L::Timestamp(1),
                L::Timestamp(2),
            ),
            (
                F::TimestampTz(1),
                F::TimestampTz(2),
                L::TimestampTz(1),
                L::TimestampTz(2),
            ),
            (
                F::Uuid([1; 16]),
                F::Uuid([2; 16]),
                L::Uuid([1; 16]),
                L::Uuid([2; 16]),
            ),
        ];
        for (min, max, lake_min, lake_max) in pairs {
            assert_eq!(
                to_lake(of(file::Bounds::Range { min, max })).bounds,
                lake::StatBounds::Range {
                    min: lake_min,
                    max: lake_max
                }
            );
        }
    }

    #[test]
    fn unsigned_bounds_beyond_the_catalogs_integers_are_unknown() {
        let range = |min, max| file::Bounds::Range {
            min: file::StatValue::UInt(min),
            max: file::StatValue::UInt(max),
        };
        let most = u64::try_from(i64::MAX).unwrap();
        assert_eq!(
            to_lake(of(range(0, most))).bounds,
            lake::StatBounds::Range {
                min: lake::StatValue::Int(0),
                max: lake::StatValue::Int(i64::MAX),
            }
        );
        assert_eq!(
            to_lake(of(range(0, most + 1))).bounds,
            lake::StatBounds::Unknown
        );
    }
}
