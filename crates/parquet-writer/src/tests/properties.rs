//! Any rows, any batches, any row groups: what comes back is what went in, and statistics are exact.

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{self, Expected, Value};
use crate::{EncodeOptions, RowBatchBuilder};

#[derive(Debug, Clone)]
struct Row {
    values: Vec<Option<Value>>,
    /// Columns that get a value of a row that is abandoned before this one; the next one's is begun.
    abandoned: usize,
    /// Whether every nested value is begun once and discarded before it is appended.
    discarded: bool,
    /// Whether the batch is cut after this row.
    cut: bool,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let schema = model::all_types();
    let values: Vec<_> = schema.columns().iter().map(model::cells).collect();
    let row = (
        values,
        0..=schema.columns().len(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(values, abandoned, discarded, cut)| Row {
            values,
            abandoned,
            discarded,
            cut,
        });
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
            if let Some(column) = builder.columns_mut().get_mut(row.abandoned) {
                model::begin(column, row.values[row.abandoned].as_ref())?;
            }
            let kept = builder.abandon_row();
            prop_assert_eq!(kept, builder.rows());
            for (column, value) in builder.columns_mut().iter_mut().zip(&row.values) {
                if row.discarded {
                    model::begin(column, value.as_ref())?;
                    column.discard();
                }
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
        let mut stats = encoded.columns.iter();
        for (index, spec) in schema.columns().iter().enumerate() {
            let written: Vec<_> = rows.iter().map(|row| row.values[index].clone()).collect();
            prop_assert_eq!(&read[index], &written, "{}", spec.name);
            for (leaf, places) in model::leaves(spec, &written) {
                let stats = stats.next().unwrap();
                let actual = Expected {
                    value_count: stats.value_count,
                    null_count: stats.null_count,
                    contains_nan: stats.contains_nan,
                    bounds: model::show(&stats.bounds),
                };
                let expected = model::expected(leaf.column_type, &places, max_stat_bytes);
                prop_assert_eq!(actual, expected, "{} of {}", leaf.name, spec.name);
                prop_assert_eq!(stats.field_id, leaf.field_id);
            }
        }
        prop_assert!(stats.next().is_none());
    }
}
