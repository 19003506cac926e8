//! Lists and structs in each other: begun, ended, discarded, cut, counted.
#![expect(clippy::unnecessary_wraps, reason = "cells are values or nulls")]

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::DataType;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::model::{self, Value, column, list, structure};
use crate::{
    Bounds, ColumnBuilder, ColumnSpec, ColumnStats, ColumnType, EncodeOptions, EncodedFile,
    FileSchema, RowBatchBuilder, StatValue, WriteError,
};

fn schema(spec: ColumnSpec) -> FileSchema {
    FileSchema::new(vec![spec]).unwrap()
}

fn ints() -> FileSchema {
    schema(list("ints", 1, column("", 2, ColumnType::Int64)))
}

/// `struct(id bigint, items list(struct(price double, tags list(text))))`
fn orders() -> FileSchema {
    let tags = list("tags", 6, column("", 7, ColumnType::Utf8));
    let price = column("price", 5, ColumnType::Float64);
    let item = structure("", 4, vec![price, tags]);
    let id = column("id", 2, ColumnType::Int64);
    schema(structure("order", 1, vec![id, list("items", 3, item)]))
}

fn int(value: i64) -> Option<Value> {
    Some(Value::Int(value))
}

fn values(elements: impl IntoIterator<Item = Option<Value>>) -> Option<Value> {
    Some(Value::List(elements.into_iter().collect()))
}

fn record<const N: usize>(fields: [Option<Value>; N]) -> Option<Value> {
    Some(Value::Struct(fields.into()))
}

fn price(value: f64) -> Option<Value> {
    Some(Value::Float64(value.to_bits()))
}

/// Orders with every hole there is.
fn some_orders() -> Vec<Option<Value>> {
    let item = |cost, tags: &[&str]| record([price(cost), Some(model::text_list(tags))]);
    vec![
        record([int(1), values([item(2.5, &["a", "b"]), item(1.0, &[])])]),
        None,
        record([int(3), None]),
        record([None, values([])]),
        record([int(5), values([None, record([None, None])])]),
        record([int(4), values([item(-1.0, &["z"])])]),
    ]
}

fn written(schema: &FileSchema, rows: &[Option<Value>]) -> (Vec<Option<Value>>, EncodedFile) {
    let batch = model::batch_of(schema, rows);
    let (file, encoded) = model::encode(schema, &EncodeOptions::default(), &[batch]);
    (model::read(schema, file).remove(0), encoded)
}

fn counts(stats: &[ColumnStats]) -> Vec<(i32, u64, u64)> {
    stats
        .iter()
        .map(|leaf| (leaf.field_id, leaf.value_count, leaf.null_count))
        .collect()
}

fn int_range(min: i64, max: i64) -> Bounds {
    Bounds::Range {
        min: StatValue::Int(min),
        max: StatValue::Int(max),
    }
}

fn column_of(builder: &mut RowBatchBuilder) -> &mut ColumnBuilder {
    &mut builder.columns_mut()[0]
}

/// DuckDB writes two values and two nulls for `[1, null, 3], []`.
#[test]
fn lists_of_numbers_come_back() {
    let rows = [values([int(1), None, int(3)]), values([]), None];
    let (read, encoded) = written(&ints(), &rows);
    assert_eq!(read, rows);
    assert_eq!(counts(&encoded.columns), [(2, 2, 3)]);
    assert_eq!(encoded.columns[0].bounds, int_range(1, 3));
}

#[test]
fn lists_of_text_come_back() {
    let schema = model::single(ColumnType::List);
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    let rows = [
        values([text("b"), None, text(""), text("a")]),
        None,
        values([None]),
        values([]),
    ];
    let (read, encoded) = written(&schema, &rows);
    assert_eq!(read, rows);
    assert_eq!(counts(&encoded.columns), [(1005, 3, 4)]);
    let bounds = Bounds::Range {
        min: StatValue::Utf8(String::new()),
        max: StatValue::Utf8("b".to_owned()),
    };
    assert_eq!(encoded.columns[0].bounds, bounds);
}

#[test]
fn null_structs_differ_from_structs_of_nulls() {
    let schema = model::single(ColumnType::Struct);
    let rows = [None, record([None, None]), record([int(7), None])];
    let (read, encoded) = written(&schema, &rows);
    assert_eq!(read, rows);
    assert_eq!(counts(&encoded.columns), [(1005, 1, 2), (2005, 0, 3)]);
    assert_eq!(encoded.columns[0].bounds, int_range(7, 7));
    assert_eq!(encoded.columns[1].bounds, Bounds::Empty);
}

#[test]
fn statistics_are_told_per_leaf_in_the_order_of_the_tree() {
    let (read, encoded) = written(&orders(), &some_orders());
    assert_eq!(read, some_orders());
    assert_eq!(
        counts(&encoded.columns),
        [
            (2, 4, 2),
            // A null order, null items, no items, a null item, an item without price.
            (5, 3, 5),
            // The same holes, and an item with an empty list.
            (7, 3, 6),
        ]
    );
    let bounds: Vec<_> = encoded.columns.iter().map(|leaf| &leaf.bounds).collect();
    assert_eq!(bounds[0], &int_range(1, 5));
    assert_eq!(model::show(bounds[1]), "float64 -1.0 to float64 2.5");
    assert_eq!(model::show(bounds[2]), "utf8 \"a\" to utf8 \"z\"");
    let nan: Vec<_> = encoded
        .columns
        .iter()
        .map(|leaf| leaf.contains_nan)
        .collect();
    assert_eq!(nan, [None, Some(false), None]);
}

#[test]
fn the_footer_agrees_with_nulls_and_sizes() {
    let batch = model::batch_of(&orders(), &some_orders());
    let (file, encoded) = model::encode(&orders(), &EncodeOptions::default(), &[batch]);
    let reader = SerializedFileReader::new(file).unwrap();
    let chunks = reader.metadata().row_group(0).columns();
    assert_eq!(chunks.len(), encoded.columns.len());
    for (chunk, stats) in chunks.iter().zip(&encoded.columns) {
        let nulls = chunk.statistics().unwrap().null_count_opt();
        assert_eq!(nulls, Some(stats.null_count));
        let places = u64::try_from(chunk.num_values()).unwrap();
        assert_eq!(places, stats.value_count + stats.null_count);
        let size = u64::try_from(chunk.compressed_size()).unwrap();
        assert_eq!(size, stats.size_bytes);
    }
}

#[test]
fn the_footer_has_no_bounds_beside_a_nested_nan() {
    let schema = orders();
    let with = |cost| record([int(1), values([record([price(cost), None])])]);
    for (cost, bounded) in [(1.0, true), (f64::NAN, false)] {
        let batch = model::batch_of(&schema, &[with(cost), with(2.0)]);
        let (file, encoded) = model::encode(&schema, &EncodeOptions::default(), &[batch]);
        assert_eq!(encoded.columns[1].contains_nan, Some(!bounded));
        let reader = SerializedFileReader::new(file).unwrap();
        let statistics = reader.metadata().row_group(0).column(1).statistics();
        assert_eq!(statistics.unwrap().max_bytes_opt().is_some(), bounded);
        assert_eq!(statistics.unwrap().min_bytes_opt().is_some(), bounded);
    }
}

#[test]
fn unsigned_numbers_beyond_the_signed_range_have_bounds() {
    let schema = model::single(ColumnType::UInt64);
    let rows = [Some(Value::UInt(u64::MAX)), None, Some(Value::UInt(3))];
    let batch = model::batch_of(&schema, &rows);
    let (file, encoded) = model::encode(&schema, &EncodeOptions::default(), &[batch]);
    let range = Bounds::Range {
        min: StatValue::UInt(3),
        max: StatValue::UInt(u64::MAX),
    };
    assert_eq!(encoded.columns[0].bounds, range);
    let reader = SerializedFileReader::new(file).unwrap();
    let chunk = reader.metadata().row_group(0).column(0).clone();
    let max = chunk.statistics().unwrap().max_bytes_opt().unwrap();
    assert_eq!(max, u64::MAX.to_le_bytes());
}

#[test]
fn a_value_that_fails_half_way_is_discarded_and_replaced() {
    let schema = orders();
    let mut builder = RowBatchBuilder::new(&schema);
    model::append(column_of(&mut builder), some_orders()[0].as_ref()).unwrap();
    builder.end_row().unwrap();

    let order = column_of(&mut builder);
    let [id, items] = order.fields_mut().unwrap() else {
        panic!("two fields")
    };
    id.append_i64(9).unwrap();
    let [price, tags] = items.element_mut().unwrap().fields_mut().unwrap() else {
        panic!("two fields")
    };
    price.append_f64(9.0).unwrap();
    tags.element_mut().unwrap().append_str("nine").unwrap();
    assert!(tags.element_mut().unwrap().append_i64(9).is_err());

    // Without discarding, nothing else can be made of it.
    for refused in [order.append_null(), order.append_struct()] {
        assert!(matches!(refused, Err(WriteError::IncompleteRow { .. })));
    }
    assert_eq!(order.len(), 1);
    order.discard();
    order.append_null().unwrap();
    builder.end_row().unwrap();

    model::append(column_of(&mut builder), some_orders()[5].as_ref()).unwrap();
    builder.end_row().unwrap();
    let batch = builder.finish().unwrap();
    assert_eq!(
        model::array_values(&schema.columns()[0], batch.column(0)),
        [some_orders()[0].clone(), None, some_orders()[5].clone()]
    );
}

#[test]
fn an_element_can_be_discarded_within_its_list() {
    let schema = schema(list("a", 1, list("", 2, column("", 3, ColumnType::Int64))));
    let mut builder = RowBatchBuilder::new(&schema);
    let outer = column_of(&mut builder);
    let inner = outer.element_mut().unwrap();
    inner.element_mut().unwrap().append_i64(1).unwrap();
    inner.append_list().unwrap();
    inner.element_mut().unwrap().append_i64(2).unwrap();
    inner.discard();
    inner.append_null().unwrap();
    outer.append_list().unwrap();
    builder.end_row().unwrap();
    let batch = builder.finish().unwrap();
    assert_eq!(
        model::array_values(&schema.columns()[0], batch.column(0)),
        [values([values([int(1)]), None])]
    );
}

#[test]
fn an_inner_value_that_was_not_ended_ends_no_outer_one() {
    let schema = schema(list("a", 1, list("", 2, column("", 3, ColumnType::Int64))));
    let mut builder = RowBatchBuilder::new(&schema);
    let outer = column_of(&mut builder);
    let inner = outer.element_mut().unwrap();
    inner.element_mut().unwrap().append_i64(1).unwrap();
    assert_eq!(
        outer.append_list().unwrap_err().to_string(),
        "column a.element.element has 1 values where 0 are expected"
    );
    assert_eq!(outer.len(), 0);
    outer.element_mut().unwrap().append_list().unwrap();
    outer.append_list().unwrap();
    builder.end_row().unwrap();
}

#[test]
fn elements_that_belong_to_no_list_keep_the_row_open() {
    let mut builder = RowBatchBuilder::new(&ints());
    let column = column_of(&mut builder);
    column.append_list().unwrap();
    column.element_mut().unwrap().append_i64(1).unwrap();
    let error = builder.end_row().unwrap_err();
    assert!(matches!(error, WriteError::IncompleteRow { .. }));
    assert!(builder.finish().is_err());
    let refused = column_of(&mut builder).append_null();
    assert!(matches!(refused, Err(WriteError::IncompleteRow { .. })));
    assert_eq!(builder.abandon_row(), 0);
    assert_eq!(builder.finish().unwrap().num_rows(), 0);
}

#[test]
fn a_struct_takes_exactly_one_value_per_field() {
    let mut builder = RowBatchBuilder::new(&model::single(ColumnType::Struct));
    let column = column_of(&mut builder);
    let incomplete = |appended: Result<(), WriteError>| match appended {
        Err(WriteError::IncompleteRow { column, .. }) => column.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(incomplete(column.append_struct()), "c.number");
    column.fields_mut().unwrap()[0].append_i64(1).unwrap();
    assert_eq!(incomplete(column.append_struct()), "c.text");
    column.fields_mut().unwrap()[1].append_str("x").unwrap();
    column.fields_mut().unwrap()[1].append_str("y").unwrap();
    assert_eq!(incomplete(column.append_struct()), "c.text");
    column.discard();
    assert!(column.fields_mut().unwrap()[0].is_empty());
    column.append_null().unwrap();
    assert_eq!(column.fields_mut().unwrap()[0].len(), 1);
    builder.end_row().unwrap();
}

#[test]
fn text_lists_are_all_or_nothing() {
    let numbers = column_of(&mut RowBatchBuilder::new(&ints())).append_str_list(["1"]);
    assert!(matches!(numbers, Err(WriteError::WrongType { .. })));

    let mut builder = RowBatchBuilder::new(&model::single(ColumnType::List));
    let column = column_of(&mut builder);
    column.element_mut().unwrap().append_str("loose").unwrap();
    let refused = column.append_str_list(["a"]);
    assert!(matches!(refused, Err(WriteError::IncompleteRow { .. })));
    column.discard();
    let large = "x".repeat(1 << 25);
    let refused = column.append_str_list(["a", &large, &large]);
    assert!(matches!(refused, Err(WriteError::ColumnFull { .. })));
    assert!(column.element_mut().unwrap().is_empty());
    column.append_str_list(["a", &large]).unwrap();
    assert_eq!(column.element_mut().unwrap().len(), 2);
}

#[test]
fn a_full_leaf_lets_the_caller_cut_the_batch() {
    let inner = list("tags", 2, column("", 3, ColumnType::Utf8));
    let schema = schema(structure("a", 1, vec![inner]));
    let large = "x".repeat(1 << 24);
    let append = |builder: &mut RowBatchBuilder| {
        let column = column_of(builder);
        let tags = &mut column.fields_mut()?[0];
        tags.element_mut()?.append_str("small")?;
        tags.element_mut()?.append_str(&large)?;
        tags.append_list()?;
        column.append_struct()?;
        builder.end_row()
    };
    let mut builder = RowBatchBuilder::new(&schema);
    let error = loop {
        if let Err(error) = append(&mut builder) {
            break error;
        }
    };
    assert!(matches!(error, WriteError::ColumnFull { .. }));
    assert_eq!(builder.abandon_row(), 3);
    assert_eq!(builder.finish().unwrap().num_rows(), 3);
    append(&mut builder).unwrap();
    assert_eq!(builder.finish().unwrap().num_rows(), 1);
}

#[test]
fn a_split_cuts_nested_columns_without_copying() {
    let schema = orders();
    let mut builder = RowBatchBuilder::new(&schema);
    for row in some_orders() {
        model::append(column_of(&mut builder), row.as_ref()).unwrap();
        builder.end_row().unwrap();
    }
    let (front, back) = builder.split(4).unwrap();
    let spec = &schema.columns()[0];
    let of = |batch: &RecordBatch| model::array_values(spec, batch.column(0));
    assert_eq!([of(&front), of(&back)].concat(), some_orders());
    assert_eq!(builder.memory_size(), 0);
    let ids = |batch: &RecordBatch| {
        let ids = Arc::clone(batch.column(0).as_struct().column(0));
        ids.as_primitive::<Int64Type>().values().inner().data_ptr()
    };
    assert_eq!(ids(&front), ids(&back));

    let (file, encoded) = model::encode(&schema, &EncodeOptions::default(), &[back]);
    assert_eq!(model::read(&schema, file)[0], some_orders()[4..]);
    assert_eq!(counts(&encoded.columns), [(2, 2, 0), (5, 1, 2), (7, 1, 2)]);
}

#[test]
fn memory_size_counts_what_is_below() {
    let mut builder = RowBatchBuilder::new(&orders());
    model::append(column_of(&mut builder), some_orders()[0].as_ref()).unwrap();
    builder.end_row().unwrap();
    let before = builder.memory_size();
    let tags = model::text_list(&[&"x".repeat(10_000)]);
    let order = record([int(1), values([record([None, Some(tags)])])]);
    model::append(column_of(&mut builder), order.as_ref()).unwrap();
    builder.end_row().unwrap();
    let grown = builder.memory_size() - before;
    assert!((10_000..10_100).contains(&grown), "{grown}");
}

/// Arrow allows values where a struct or list above is null. They are no values of the file.
#[test]
fn values_below_nulls_are_not_counted() {
    let a = column("x", 2, ColumnType::Int64);
    let numbers = list("ys", 3, column("", 4, ColumnType::Float64));
    let schema = schema(structure("a", 1, vec![a, numbers]));
    let arrow = schema.arrow_schema();
    let DataType::Struct(fields) = arrow.field(0).data_type() else {
        panic!("a struct")
    };
    let DataType::List(element) = fields[1].data_type() else {
        panic!("a list")
    };
    let xs: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(-99), None, Some(4)]));
    let elements = Float64Array::from(vec![9.0, 1.0, f64::NAN, 2.0, -5.0, 3.0]);
    // [9.0], [1.0] below a null struct, a null over [NaN, 2.0], [-5.0, 3.0]
    let ys: ArrayRef = Arc::new(ListArray::new(
        Arc::clone(element),
        OffsetBuffer::new(vec![0, 1, 2, 4, 6].into()),
        Arc::new(elements),
        Some(NullBuffer::from(vec![true, true, false, true])),
    ));
    let nulls = NullBuffer::from(vec![true, false, true, true]);
    let structs = StructArray::new(fields.clone(), vec![xs, ys], Some(nulls));
    let batch = RecordBatch::try_new(Arc::clone(&arrow), vec![Arc::new(structs)]).unwrap();
    let options = EncodeOptions::default();

    let (_, encoded) = model::encode(&schema, &options, std::slice::from_ref(&batch));
    assert_eq!(counts(&encoded.columns), [(2, 2, 2), (4, 3, 2)]);
    assert_eq!(encoded.columns[0].bounds, int_range(1, 4));
    assert_eq!(encoded.columns[1].contains_nan, Some(false));
    let shown = model::show(&encoded.columns[1].bounds);
    assert_eq!(shown, "float64 -5.0 to float64 9.0");

    let (file, encoded) = model::encode(&schema, &options, &[batch.slice(1, 3)]);
    assert_eq!(counts(&encoded.columns), [(2, 1, 2), (4, 2, 2)]);
    let chunks = SerializedFileReader::new(file).unwrap();
    for (chunk, stats) in chunks
        .metadata()
        .row_group(0)
        .columns()
        .iter()
        .zip(&encoded.columns)
    {
        let nulls = chunk.statistics().unwrap().null_count_opt();
        assert_eq!(nulls, Some(stats.null_count));
    }
}
