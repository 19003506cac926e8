//! Statistics that the properties do not pin down by name.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::DataType;
use bytes::Bytes;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::model::{self, Value};
use crate::{Bounds, ColumnStats, ColumnType, EncodeOptions, StatValue};

fn stats(column_type: ColumnType, options: &EncodeOptions, rows: &[Option<Value>]) -> ColumnStats {
    let schema = model::single(column_type);
    let (_, encoded) = model::encode(&schema, options, &[model::batch_of(&schema, rows)]);
    encoded.columns[0].clone()
}

fn text_bounds(values: &[&str]) -> Bounds {
    let rows: Vec<_> = values
        .iter()
        .map(|&value| Some(Value::Text(value.to_owned())))
        .collect();
    let options = EncodeOptions {
        max_stat_bytes: 4,
        ..EncodeOptions::default()
    };
    stats(ColumnType::Utf8, &options, &rows).bounds
}

fn text_range(min: &str, max: &str) -> Bounds {
    Bounds::Range {
        min: StatValue::Utf8(min.to_owned()),
        max: StatValue::Utf8(max.to_owned()),
    }
}

fn float64(value: f64) -> Value {
    Value::Float64(value.to_bits())
}

#[test]
fn strings_up_to_the_limit_have_bounds() {
    assert_eq!(text_bounds(&["abcd", "abce"]), text_range("abcd", "abce"));
    assert_eq!(text_bounds(&["abcde", "a", "b"]), text_range("a", "b"));
    assert_eq!(text_bounds(&["abcde", "b"]), Bounds::Unknown);
    assert_eq!(text_bounds(&["a", "bcdef"]), Bounds::Unknown);
    // The longer string is the larger one, though both are cut alike.
    assert_eq!(
        text_bounds(&["abcdefg", "abcdefgh", "abcd"]),
        Bounds::Unknown
    );
    assert_eq!(
        text_bounds(&["abcdefgh", "abcdefg", "abcd", "b"]),
        text_range("abcd", "b")
    );
    // Two bytes each: a limit in bytes, not in characters, and no cut within a character shows.
    assert_eq!(text_bounds(&["äö", "ü"]), text_range("äö", "ü"));
    assert_eq!(text_bounds(&["äöü"]), Bounds::Unknown);
}

#[test]
fn a_nul_at_an_end_hides_the_bounds() {
    assert_eq!(text_bounds(&["a\0", "b"]), Bounds::Unknown);
    assert_eq!(text_bounds(&["a", "b\0"]), Bounds::Unknown);
    assert_eq!(text_bounds(&["a", "b\0", "c"]), text_range("a", "c"));
}

#[test]
fn zeros_of_both_signs_lie_within_the_range() {
    let options = EncodeOptions::default();
    let bounds = |values: &[f64]| {
        let rows: Vec<_> = values
            .iter()
            .copied()
            .map(|value| Some(float64(value)))
            .collect();
        model::show(&stats(ColumnType::Float64, &options, &rows).bounds)
    };
    assert_eq!(bounds(&[0.0, -0.0]), "float64 -0.0 to float64 0.0");
    assert_eq!(bounds(&[-0.0, 0.0]), "float64 -0.0 to float64 0.0");
    assert_eq!(bounds(&[0.0]), "float64 0.0 to float64 0.0");
    assert_eq!(bounds(&[-0.0, 1.0]), "float64 -0.0 to float64 1.0");
}

#[test]
fn nan_and_null_alone_leave_the_bounds_empty() {
    let options = EncodeOptions::default();
    let column = stats(
        ColumnType::Float64,
        &options,
        &[Some(float64(f64::NAN)), None],
    );
    assert_eq!((column.value_count, column.null_count), (1, 1));
    assert_eq!(column.contains_nan, Some(true));
    assert_eq!(column.bounds, Bounds::Empty);
}

#[test]
fn bytes_have_bounds_only_when_there_are_none() {
    let options = EncodeOptions::default();
    let some = stats(
        ColumnType::Binary,
        &options,
        &[Some(Value::Bytes(vec![1])), None],
    );
    assert_eq!(some.bounds, Bounds::Unknown);
    assert_eq!(
        stats(ColumnType::Binary, &options, &[None]).bounds,
        Bounds::Empty
    );
}

/// DuckDB writes two values and two nulls for `[1, null, 3], []`.
#[test]
fn a_list_counts_elements_and_holes() {
    let schema = model::single(ColumnType::List);
    let arrow = schema.arrow_schema();
    let DataType::List(element) = arrow.field(0).data_type() else {
        panic!("a list")
    };
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(Arc::clone(element));
    lists.append_value([Some("z"), Some("z")]);
    lists.append_value([Some("1"), None, Some("3")]);
    lists.append_value(Vec::<Option<&str>>::new());
    let lists: ArrayRef = Arc::new(lists.finish());
    let all = RecordBatch::try_new(arrow, vec![lists]).unwrap();

    // The slice checks that offsets are respected.
    let (_, encoded) = model::encode(&schema, &EncodeOptions::default(), &[all.slice(1, 2)]);
    let column = &encoded.columns[0];
    assert_eq!((column.value_count, column.null_count), (2, 2));
    assert_eq!(column.field_id, 1005);
    assert_eq!(column.bounds, text_range("1", "3"));
}

fn chunks(file: Bytes) -> Vec<ColumnChunkMetaData> {
    let reader = SerializedFileReader::new(file).unwrap();
    let groups = reader.metadata().row_groups();
    groups.iter().map(|group| group.column(0).clone()).collect()
}

/// DuckDB would skip the row group for `x > 5`, although it holds NaN to be larger.
#[test]
fn the_footer_has_no_bounds_beside_nan() {
    let options = EncodeOptions {
        row_group_rows: 3,
        ..EncodeOptions::default()
    };
    let float32 = |value: f32| Value::Float32(value.to_bits());
    for (column_type, one, nan) in [
        (ColumnType::Float64, float64(1.0), float64(f64::NAN)),
        (ColumnType::Float32, float32(1.0), float32(f32::NAN)),
    ] {
        let (one, nan) = (Some(one), Some(nan));
        let schema = model::single(column_type);
        let batches = [
            model::batch_of(&schema, &[one.clone(), None, one.clone()]),
            model::batch_of(&schema, std::slice::from_ref(&one)),
            model::batch_of(&schema, &[nan.clone(), None]),
            model::batch_of(&schema, std::slice::from_ref(&nan)),
        ];
        let (file, _) = model::encode(&schema, &options, &batches);
        let chunks = chunks(file);
        let bounds: Vec<_> = chunks
            .iter()
            .map(|chunk| chunk.statistics().unwrap())
            .map(|stats| {
                (
                    stats.min_bytes_opt().is_some(),
                    stats.max_bytes_opt().is_some(),
                )
            })
            .collect();
        assert_eq!(
            bounds,
            [(true, true), (false, false), (false, false)],
            "{column_type}"
        );
        let nulls: Vec<_> = chunks
            .iter()
            .map(|chunk| chunk.statistics().unwrap().null_count_opt())
            .collect();
        assert_eq!(nulls, [Some(1), Some(1), Some(0)], "{column_type}");
    }
}

#[test]
fn sizes_are_those_of_the_column_chunks() {
    let schema = model::single(ColumnType::Int64);
    let options = EncodeOptions {
        row_group_rows: 100,
        ..EncodeOptions::default()
    };
    let rows: Vec<_> = (0..1000)
        .map(|value| Some(Value::Int(value * value)))
        .collect();
    let (file, encoded) = model::encode(&schema, &options, &[model::batch_of(&schema, &rows)]);
    let chunks = chunks(file);
    assert_eq!(chunks.len(), 10);
    let total: i64 = chunks
        .iter()
        .map(ColumnChunkMetaData::compressed_size)
        .sum();
    assert_eq!(encoded.columns[0].size_bytes, u64::try_from(total).unwrap());
}

#[test]
fn debug_shows_no_bounds() {
    let shown = format!("{:?}", text_bounds(&["abcd"]));
    assert_eq!(shown, "Range { min: Utf8(_), max: Utf8(_) }");
}
