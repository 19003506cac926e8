use proptest::prelude::*;

use super::*;
use crate::ColumnId;

/// The statistics that a correct writer makes for these values (`None` is NULL), or with unknown
/// bounds.
fn file(values: &[Option<f64>], is_known: bool) -> FileColumnStats {
    let present: Vec<f64> = values.iter().flatten().copied().collect();
    let numbers: Vec<f64> = present.iter().copied().filter(|v| !v.is_nan()).collect();
    let bounds = if !is_known {
        StatBounds::Unknown
    } else if numbers.is_empty() {
        StatBounds::Empty
    } else {
        StatBounds::Range {
            min: StatValue::Float64(numbers.iter().copied().fold(f64::INFINITY, f64::min)),
            max: StatValue::Float64(numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        }
    };
    FileColumnStats {
        column: ColumnId::new(1),
        column_size_bytes: 0,
        value_count: present.len() as u64,
        null_count: (values.len() - present.len()) as u64,
        contains_nan: Some(present.iter().any(|v| v.is_nan())),
        bounds,
    }
}

fn row(min: Option<&str>, max: Option<&str>, contains_null: bool) -> ColumnStatsRow {
    ColumnStatsRow {
        contains_null: Some(contains_null),
        contains_nan: None,
        min: min.map(str::to_owned),
        max: max.map(str::to_owned),
    }
}

fn ints(min: i64, max: i64) -> Summary {
    Summary {
        contains_null: false,
        contains_nan: None,
        range: Some(Range {
            min: StatValue::Int(min),
            max: StatValue::Int(max),
        }),
    }
}

fn changed(widened: Widened) -> (Option<String>, Option<String>) {
    match widened {
        Widened::Changed(row) => (row.min, row.max),
        Widened::Unchanged => panic!("unchanged"),
        Widened::Unknown => panic!("unknown"),
    }
}

fn pair(min: &str, max: &str) -> (Option<String>, Option<String>) {
    (Some(min.to_owned()), Some(max.to_owned()))
}

#[test]
fn a_range_only_grows() {
    let old = row(Some("9"), Some("10"), false);
    let widen_by = |summary: &Summary| widen(&old, &LakeType::Int32, Some(summary), false);
    assert!(widen_by(&ints(9, 10)) == Widened::Unchanged);
    // As text, "10" < "9": bounds are compared as what they are.
    assert_eq!(changed(widen_by(&ints(2, 5))), pair("2", "10"));
    assert_eq!(changed(widen_by(&ints(10, 100))), pair("9", "100"));
}

#[test]
fn a_row_without_bounds_means_only_nulls_so_far() {
    let nulls = row(None, None, true);
    assert_eq!(
        changed(widen(&nulls, &LakeType::Int32, Some(&ints(3, 4)), false)),
        pair("3", "4")
    );
    // Unless a file has values and no bounds: then the new range would be a lie.
    assert!(widen(&nulls, &LakeType::Int32, Some(&ints(3, 4)), true) == Widened::Unknown);
}

#[test]
fn text_that_is_not_understood_deletes_the_row() {
    for (min, max) in [
        (Some("abc"), Some("10")),
        (None, Some("10")),
        (Some("1"), None),
    ] {
        let old = row(min, max, false);
        assert!(widen(&old, &LakeType::Int32, Some(&ints(3, 4)), false) == Widened::Unknown);
    }
}

#[test]
fn unknown_bounds_delete_the_row_and_values_without_bounds_count_as_unknown() {
    let old = row(Some("1"), Some("2"), false);
    assert!(widen(&old, &LakeType::Int32, None, false) == Widened::Unknown);
    let only_nan = file(&[Some(f64::NAN)], true);
    assert!(Summary::of_file(&only_nan, &LakeType::Float64).is_none());
    let long = FileColumnStats {
        bounds: StatBounds::Range {
            min: StatValue::Utf8(String::new()),
            max: StatValue::Utf8("z".repeat(5000)),
        },
        ..file(&[Some(1.0)], true)
    };
    assert!(Summary::of_file(&long, &LakeType::Varchar).is_none());
}

#[test]
fn swapped_bounds_are_not_believed() {
    let swapped = FileColumnStats {
        bounds: StatBounds::Range {
            min: StatValue::Int(2),
            max: StatValue::Int(1),
        },
        ..file(&[Some(1.0)], true)
    };
    assert!(Summary::of_file(&swapped, &LakeType::Int32).is_none());
}

#[test]
fn nulls_and_nan_stick() {
    let old = ColumnStatsRow {
        contains_nan: Some(true),
        ..row(Some("1.0"), Some("2.0"), true)
    };
    let added = Summary::of_file(&file(&[Some(1.5)], true), &LakeType::Float64);
    assert!(widen(&old, &LakeType::Float64, added.as_ref(), false) == Widened::Unchanged);
    let added = Summary::of_file(&file(&[None], true), &LakeType::Float64);
    let old = ColumnStatsRow {
        contains_null: Some(false),
        ..old
    };
    let Widened::Changed(new) = widen(&old, &LakeType::Float64, added.as_ref(), false) else {
        panic!("not changed");
    };
    assert_eq!(new.contains_null, Some(true));
    assert_eq!(new.min.as_deref(), Some("1.0"));
}

fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(f64::NAN)),
        1 => Just(Some(f64::INFINITY)),
        6 => (-1e6..1e6_f64).prop_map(Some),
        2 => any::<f64>().prop_map(Some),
    ]
}

fn files() -> impl Strategy<Value = Vec<(Vec<Option<f64>>, bool)>> {
    prop::collection::vec(
        (
            prop::collection::vec(value(), 0..6),
            prop::bool::weighted(0.9),
        ),
        1..8,
    )
}

proptest! {
    /// Whatever files come in, in commits of one or two: as long as a row is there it is exactly
    /// what the values of all files say, and it is there iff nothing was ever unknown.
    #[test]
    fn the_row_is_the_truth_or_absent(files in files(), together in any::<bool>()) {
        let ty = LakeType::Float64;
        let size = if together { 2 } else { 1 };
        let mut table: Option<ColumnStatsRow> = None;
        let mut seen: Vec<Option<f64>> = Vec::new();
        let mut was_unknown = false;
        for (index, commit) in files.chunks(size).enumerate() {
            let stats: Vec<_> = commit.iter().map(|(values, known)| file(values, *known)).collect();
            let hides_values = was_unknown;
            let summary = stats
                .iter()
                .map(|stats| Summary::of_file(stats, &ty))
                .reduce(|a, b| a?.and(b?))
                .flatten();
            was_unknown |= summary.is_none();
            table = match (index, table) {
                (0, _) => summary.map(Summary::into_row),
                (_, None) => None,
                (_, Some(row)) => match widen(&row, &ty, summary.as_ref(), hides_values) {
                    Widened::Unchanged => Some(row),
                    Widened::Changed(row) => Some(row),
                    Widened::Unknown => None,
                },
            };
            seen.extend(commit.iter().flat_map(|(values, _)| values.iter().copied()));
            prop_assert_eq!(table.is_none(), was_unknown);
            let Some(row) = &table else { continue };
            let model = file(&seen, true);
            prop_assert_eq!(row.contains_null, Some(model.null_count > 0));
            prop_assert_eq!(row.contains_nan, model.contains_nan);
            let bound = |text: &Option<String>| text.as_deref().map(|text| text.parse::<f64>().unwrap());
            let (min, max) = match &model.bounds {
                StatBounds::Range { min: StatValue::Float64(min), max: StatValue::Float64(max) } => {
                    (Some(*min), Some(*max))
                }
                _ => (None, None),
            };
            prop_assert_eq!(bound(&row.min), min);
            prop_assert_eq!(bound(&row.max), max);
        }
    }
}

#[test]
fn bounds_of_a_file_that_a_reader_takes_for_another_number_are_moved_outwards() {
    let of = |min, max| {
        let summary = Summary {
            contains_null: false,
            contains_nan: Some(false),
            range: Some(Range {
                min: StatValue::Float32(min),
                max: StatValue::Float32(max),
            }),
        };
        (
            summary.file_bounds(),
            (summary.clone().into_row().min, summary.into_row().max),
        )
    };
    let least = f32::from_bits(1);
    assert_eq!(
        of(least, least),
        (pair("0.0", "3e-45"), pair("1e-45", "1e-45"))
    );
    assert_eq!(
        of(-f32::MAX, f32::MAX),
        (pair("-inf", "inf"), pair("-3.4028235e+38", "3.4028235e+38"))
    );
    assert_eq!(of(0.1, 16_777_216.0).0, pair("0.1", "16777216.0"));
    assert_eq!(of(f32::NEG_INFINITY, f32::INFINITY).0, pair("-inf", "inf"));
}
