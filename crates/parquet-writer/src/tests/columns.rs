//! What a column takes, and what it refuses.

use super::model::{self, TYPES};
use crate::{ColumnBuilder, ColumnType, RowBatchBuilder, WriteError};

type Append = fn(&mut ColumnBuilder) -> Result<(), WriteError>;
type Takes = fn(ColumnType) -> bool;

/// Every way to append a value, with the types that take it.
const APPENDS: [(Append, Takes); 17] = [
    (
        |column| column.append_bool(true),
        |given| given == ColumnType::Boolean,
    ),
    (
        |column| column.append_i16(1),
        |given| given == ColumnType::Int16,
    ),
    (
        |column| column.append_i32(1),
        |given| given == ColumnType::Int32,
    ),
    (
        |column| column.append_i64(1),
        |given| given == ColumnType::Int64,
    ),
    (
        |column| column.append_u32(1),
        |given| given == ColumnType::UInt32,
    ),
    (
        |column| column.append_f32(1.0),
        |given| given == ColumnType::Float32,
    ),
    (
        |column| column.append_f64(1.0),
        |given| given == ColumnType::Float64,
    ),
    (
        |column| column.append_decimal(1),
        |given| matches!(given, ColumnType::Decimal { .. }),
    ),
    (
        |column| column.append_str("1"),
        |given| matches!(given, ColumnType::Utf8 | ColumnType::Json),
    ),
    (
        |column| column.append_bytes(b"1"),
        |given| given == ColumnType::Binary,
    ),
    (
        |column| column.append_uuid([1; 16]),
        |given| given == ColumnType::Uuid,
    ),
    (
        |column| column.append_date(1),
        |given| given == ColumnType::Date,
    ),
    (
        |column| column.append_time(1),
        |given| given == ColumnType::Time,
    ),
    (
        |column| column.append_timestamp(1),
        |given| matches!(given, ColumnType::Timestamp | ColumnType::TimestampTz),
    ),
    (
        |column| column.append_u64(1),
        |given| given == ColumnType::UInt64,
    ),
    (
        |column| column.append_list(),
        |given| given == ColumnType::List,
    ),
    (
        |column| {
            for field in column.fields_mut()? {
                field.append_null()?;
            }
            column.append_struct()
        },
        |given| given == ColumnType::Struct,
    ),
];

#[test]
fn a_column_takes_its_own_type_and_refuses_every_other() {
    for column_type in TYPES {
        let mut accepted = 0;
        for (append, takes) in APPENDS {
            let mut builder = RowBatchBuilder::new(&model::single(column_type));
            let column = &mut builder.columns_mut()[0];
            match append(column) {
                Ok(()) => {
                    assert!(takes(column_type), "{column_type}");
                    assert_eq!(column.len(), 1);
                    accepted += 1;
                }
                Err(WriteError::WrongType {
                    column_type: refused_by,
                    ..
                }) => {
                    assert!(!takes(column_type), "{column_type}");
                    assert_eq!(refused_by, column_type);
                    assert!(column.is_empty());
                    assert_eq!(builder.finish().unwrap().num_rows(), 0);
                }
                Err(error) => panic!("{column_type}: {error}"),
            }
        }
        assert_eq!(accepted, 1, "{column_type}");

        let is_list = column_type == ColumnType::List;
        let mut builder = RowBatchBuilder::new(&model::single(column_type));
        let column = &mut builder.columns_mut()[0];
        assert_eq!(column.element_mut().is_ok(), is_list, "{column_type}");
        let appended = column.append_str_list(["a"]);
        assert_eq!(appended.is_ok(), is_list, "{column_type}");
        let is_struct = column_type == ColumnType::Struct;
        assert!(column.append_struct().is_err(), "{column_type}");
        assert_eq!(column.fields_mut().is_ok(), is_struct, "{column_type}");
    }
}

#[test]
fn a_wrong_type_is_named_without_the_value() {
    let mut builder = RowBatchBuilder::new(&model::single(ColumnType::Int32));
    let error = builder.columns_mut()[0].append_str("secret").unwrap_err();
    assert_eq!(
        error.to_string(),
        "column c of type int32 does not take text"
    );
}

#[test]
fn values_outside_a_type_are_refused_and_leave_no_trace() {
    let refused: [(ColumnType, Append); 7] = [
        (
            ColumnType::Decimal {
                precision: 9,
                scale: 2,
            },
            |column| column.append_decimal(1_000_000_000),
        ),
        (
            ColumnType::Decimal {
                precision: 38,
                scale: 0,
            },
            |column| column.append_decimal(-(10_i128.pow(38))),
        ),
        (
            ColumnType::Decimal {
                precision: 38,
                scale: 0,
            },
            |column| column.append_decimal(i128::MIN),
        ),
        (ColumnType::Date, |column| column.append_date(i32::MIN)),
        (ColumnType::Time, |column| {
            column.append_time(86_400_000_001)
        }),
        (ColumnType::Time, |column| column.append_time(-1)),
        (ColumnType::Timestamp, |column| {
            column.append_timestamp(i64::MIN)
        }),
    ];
    for (column_type, append) in refused {
        let mut builder = RowBatchBuilder::new(&model::single(column_type));
        let error = append(&mut builder.columns_mut()[0]).unwrap_err();
        assert!(
            matches!(error, WriteError::ValueOutOfRange { .. }),
            "{column_type}: {error}"
        );
        assert_eq!(builder.finish().unwrap().num_rows(), 0);
    }
}

#[test]
fn debug_shows_no_values() {
    let mut builder = RowBatchBuilder::new(&model::single(ColumnType::Utf8));
    builder.columns_mut()[0].append_str("secret").unwrap();
    builder.end_row().unwrap();
    let shown = format!("{builder:?}");
    assert!(
        shown.contains("len: 1") && !shown.contains("secret"),
        "{shown}"
    );
}
