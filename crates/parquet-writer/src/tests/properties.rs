//! Any rows, any batches, any row groups: what comes back is what went in, and statistics are exact.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::model::{self, Expected, TYPES, Value};
use crate::{EncodeOptions, RowBatchBuilder};

#[derive(Debug, Clone)]
struct Row {
    values: Vec<Option<Value>>,
    /// Columns that get a value of a row that is abandoned before this one.
    abandoned: usize,
    /// Whether the batch is cut after this row.
    cut: bool,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let values: Vec<_> = TYPES
        .iter()
        .map(|&column_type| option::weighted(0.8, model::values(column_type)))
        .collect();
    let row = (values, 0..=TYPES.len(), prop::bool::weighted(0.1)).prop_map(
        |(values, abandoned, cut)| Row {
            values,
            abandoned,
            cut,
        },
    );
    vec(row, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn files_hold_the_rows_and_statistics_are_exact(
        rows in rows(),
        row_group_rows in 1_usize..20,
        max_stat_bytes in prop_oneof![Just(256_usize), 0_usize..5],
    ) {
        let schema = model::all_types();
        let mut builder = RowBatchBuilder::new(&schema);
        let mut batches = Vec::new();
        for row in &rows {
            for (column, value) in builder.columns_mut().iter_mut().zip(&row.values).take(row.abandoned) {
                model::append(column, value.as_ref())?;
            }
            let kept = builder.abandon_row();
            prop_assert_eq!(kept, builder.rows());
            for (column, value) in builder.columns_mut().iter_mut().zip(&row.values) {
                model::append(column, value.as_ref())?;
            }
            builder.end_row()?;
            if row.cut {
                let (front, back) = builder.split(builder.rows() / 2)?;
                batches.extend([front, back]);
            }
        }
        batches.push(builder.finish()?);

        let options = EncodeOptions { row_group_rows, max_stat_bytes, ..EncodeOptions::default() };
        let (file, encoded) = model::encode(&schema, &options, &batches);

        prop_assert_eq!(encoded.row_count, rows.len() as u64);
        let read = model::read(&schema, file);
        for (index, (spec, stats)) in schema.columns().iter().zip(&encoded.columns).enumerate() {
            let written: Vec<_> = rows.iter().map(|row| row.values[index].clone()).collect();
            prop_assert_eq!(&read[index], &written, "{}", spec.column_type);
            let actual = Expected {
                value_count: stats.value_count,
                null_count: stats.null_count,
                contains_nan: stats.contains_nan,
                bounds: model::show(&stats.bounds),
            };
            let expected = model::expected(spec.column_type, &written, max_stat_bytes);
            prop_assert_eq!(actual, expected, "{}", spec.column_type);
            prop_assert_eq!(stats.field_id, spec.element_field_id.unwrap_or(spec.field_id));
        }
    }
}
