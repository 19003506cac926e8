//! Rows in a builder: open, closed, abandoned, split.

use super::model::{self, Value};
use crate::{ColumnSpec, ColumnType, FileSchema, RowBatchBuilder, WriteError};

fn schema() -> FileSchema {
    FileSchema::new(vec![
        model::column("id", 1, ColumnType::Int64),
        model::column("name", 2, ColumnType::Utf8),
        model::column("tags", 3, ColumnType::List),
    ])
    .unwrap()
}

fn push(builder: &mut RowBatchBuilder, id: i64) {
    let [ids, names, tags] = builder.columns_mut() else {
        panic!("three columns")
    };
    ids.append_i64(id).unwrap();
    names.append_str(&format!("name {id}")).unwrap();
    tags.append_str_list(["a", "b"]).unwrap();
    builder.end_row().unwrap();
}

fn ids(batch: &arrow_array::RecordBatch) -> Vec<Option<Value>> {
    model::array_values(&schema().columns()[0], batch.column(0))
}

fn ints(values: impl IntoIterator<Item = i64>) -> Vec<Option<Value>> {
    values
        .into_iter()
        .map(|value| Some(Value::Int(value)))
        .collect()
}

#[test]
fn split_cuts_between_rows_and_empties_the_builder() {
    let mut builder = RowBatchBuilder::new(&schema());
    (0..10).for_each(|id| push(&mut builder, id));
    let (committed, rest) = builder.split(7).unwrap();
    assert_eq!(ids(&committed), ints(0..7));
    assert_eq!(ids(&rest), ints(7..10));
    assert_eq!(builder.rows(), 0);
    assert_eq!(builder.memory_size(), 0);

    push(&mut builder, 10);
    assert_eq!(ids(&builder.finish().unwrap()), ints([10]));
}

#[test]
fn split_does_not_copy() {
    let mut builder = RowBatchBuilder::new(&schema());
    (0..10).for_each(|id| push(&mut builder, id));
    let (committed, rest) = builder.split(4).unwrap();
    for (front, back) in committed.columns().iter().zip(rest.columns()) {
        let (front, back) = (front.to_data(), back.to_data());
        let (front, back) = (
            front.buffers().last().unwrap(),
            back.buffers().last().unwrap(),
        );
        assert_eq!(front.data_ptr(), back.data_ptr());
    }
}

#[test]
fn split_takes_none_and_all() {
    let mut builder = RowBatchBuilder::new(&schema());
    (0..2).for_each(|id| push(&mut builder, id));
    let (committed, rest) = builder.split(0).unwrap();
    assert_eq!((committed.num_rows(), rest.num_rows()), (0, 2));
    (0..2).for_each(|id| push(&mut builder, id));
    let (committed, rest) = builder.split(2).unwrap();
    assert_eq!((committed.num_rows(), rest.num_rows()), (2, 0));
}

#[test]
fn a_split_behind_the_end_loses_nothing() {
    let mut builder = RowBatchBuilder::new(&schema());
    push(&mut builder, 1);
    let error = builder.split(2).unwrap_err();
    assert!(matches!(
        error,
        WriteError::SplitOutOfRange { at: 2, rows: 1 }
    ));
    assert_eq!(ids(&builder.finish().unwrap()), ints([1]));
}

#[test]
fn an_open_row_can_be_neither_closed_nor_taken_but_abandoned() {
    let mut builder = RowBatchBuilder::new(&schema());
    push(&mut builder, 1);
    builder.columns_mut()[0].append_i64(2).unwrap();
    builder.columns_mut()[2].append_str_list(["x"]).unwrap();

    let error = builder.end_row().unwrap_err();
    assert_eq!(
        error.to_string(),
        "column name has 1 values where 2 are expected"
    );
    assert!(matches!(
        builder.finish().unwrap_err(),
        WriteError::IncompleteRow { .. }
    ));
    assert!(matches!(
        builder.split(1).unwrap_err(),
        WriteError::IncompleteRow { .. }
    ));

    assert_eq!(builder.abandon_row(), 1);
    push(&mut builder, 3);
    let batch = builder.finish().unwrap();
    assert_eq!(ids(&batch), ints([1, 3]));
    let tags = model::array_values(&schema().columns()[2], batch.column(2));
    assert_eq!(tags, vec![Some(model::text_list(&["a", "b"])); 2]);
}

#[test]
fn a_column_with_two_values_is_no_row() {
    let mut builder = RowBatchBuilder::new(&schema());
    let [ids, names, tags] = builder.columns_mut() else {
        panic!("three columns")
    };
    ids.append_i64(1).unwrap();
    ids.append_i64(2).unwrap();
    names.append_null().unwrap();
    tags.append_null().unwrap();
    assert!(matches!(
        builder.end_row().unwrap_err(),
        WriteError::IncompleteRow {
            expected: 1,
            actual: 2,
            ..
        }
    ));
    assert_eq!(builder.abandon_row(), 0);
    assert_eq!(builder.finish().unwrap().num_rows(), 0);
}

#[test]
fn memory_size_counts_the_bytes_of_closed_rows() {
    let mut builder = RowBatchBuilder::new(&schema());
    assert_eq!(builder.memory_size(), 0);
    push(&mut builder, 1);
    let one = builder.memory_size();
    let [_, names, _] = builder.columns_mut() else {
        panic!("three columns")
    };
    names.append_str(&"x".repeat(100_000)).unwrap();
    assert_eq!(builder.memory_size(), one);
    builder.abandon_row();
    let [ids, names, tags] = builder.columns_mut() else {
        panic!("three columns")
    };
    ids.append_null().unwrap();
    names.append_str(&"x".repeat(100_000)).unwrap();
    tags.append_null().unwrap();
    builder.end_row().unwrap();
    let two = builder.memory_size();
    assert!(
        (100_000..101_000).contains(&(two - one)),
        "{one} then {two}"
    );
}

#[test]
fn a_required_column_refuses_nulls() {
    let schema = FileSchema::new(vec![ColumnSpec {
        nullable: false,
        ..model::column("id", 1, ColumnType::Int64)
    }])
    .unwrap();
    let mut builder = RowBatchBuilder::new(&schema);
    let error = builder.columns_mut()[0].append_null().unwrap_err();
    assert_eq!(error.to_string(), "column id does not take nulls");
    assert!(builder.columns_mut()[0].is_empty());
}
