//! What schemas are accepted, and what becomes of them in a file.

use std::collections::HashMap;

use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::Type;

use super::model;
use crate::{ColumnSpec, ColumnType, EncodeOptions, FileSchema, WriteError};

#[test]
fn bad_schemas_are_refused() {
    assert!(matches!(
        FileSchema::new(vec![]),
        Err(WriteError::EmptySchema)
    ));

    let two = |first, second| {
        FileSchema::new(vec![
            model::column("a", first, ColumnType::Int64),
            model::column("b", second, ColumnType::ListUtf8),
        ])
    };
    assert!(two(1, 2).is_ok());
    assert!(matches!(
        two(2, 2),
        Err(WriteError::DuplicateFieldId { field_id: 2, .. })
    ));
    assert!(matches!(
        two(1002, 2),
        Err(WriteError::DuplicateFieldId { field_id: 1002, .. })
    ));
    assert!(matches!(
        two(0, 2),
        Err(WriteError::FieldIdOutOfRange { field_id: 0, .. })
    ));
    assert!(matches!(
        two(1, -1000),
        Err(WriteError::FieldIdOutOfRange {
            field_id: -1000,
            ..
        })
    ));

    let one = |spec| FileSchema::new(vec![spec]);
    for (precision, scale) in [(0, 0), (39, 0), (5, 6)] {
        let spec = model::column("a", 1, ColumnType::Decimal { precision, scale });
        assert!(matches!(one(spec), Err(WriteError::InvalidDecimal { .. })));
    }
    let list = model::column("a", 1, ColumnType::ListUtf8);
    assert!(matches!(
        one(ColumnSpec {
            element_field_id: None,
            ..list
        }),
        Err(WriteError::MissingElementFieldId { .. })
    ));
    let scalar = model::column("a", 1, ColumnType::Utf8);
    assert!(matches!(
        one(ColumnSpec {
            element_field_id: Some(2),
            ..scalar
        }),
        Err(WriteError::UnexpectedElementFieldId { .. })
    ));
}

#[test]
fn every_arrow_field_has_its_id() {
    let schema = model::all_types();
    let arrow = schema.arrow_schema();
    for (spec, field) in schema.columns().iter().zip(arrow.fields()) {
        assert_eq!(
            field.metadata()[PARQUET_FIELD_ID_META_KEY],
            spec.field_id.to_string()
        );
        if let arrow_schema::DataType::List(element) = field.data_type() {
            let id = spec.element_field_id.unwrap().to_string();
            assert_eq!(element.metadata()[PARQUET_FIELD_ID_META_KEY], id);
        }
    }
}

#[test]
fn the_file_has_the_ids_and_types_of_the_schema() {
    let mut columns = model::all_types().columns().to_vec();
    columns[3].nullable = false;
    let schema = FileSchema::new(columns).unwrap();
    let (file, _) = model::encode(&schema, &EncodeOptions::default(), &[]);
    let reader = SerializedFileReader::new(file).unwrap();
    let root = reader.metadata().file_metadata().schema();

    for (spec, node) in schema.columns().iter().zip(root.get_fields()) {
        assert_eq!(
            node.get_basic_info().id(),
            spec.field_id,
            "{}",
            spec.column_type
        );
        let required = node.get_basic_info().repetition() == Repetition::REQUIRED;
        assert_eq!(required, !spec.nullable, "{}", spec.column_type);
        if spec.column_type == ColumnType::ListUtf8 {
            let element = list_element(node);
            assert_eq!(element.name(), "element");
            assert_eq!(
                element.get_basic_info().id(),
                spec.element_field_id.unwrap()
            );
            assert_eq!(
                element.get_basic_info().logical_type_ref(),
                Some(&LogicalType::String)
            );
        }
    }

    let nodes: HashMap<ColumnType, &Type> = schema
        .columns()
        .iter()
        .map(|spec| spec.column_type)
        .zip(root.get_fields().iter().map(AsRef::as_ref))
        .collect();
    let logical = |column_type| nodes[&column_type].get_basic_info().logical_type_ref();
    assert_eq!(logical(ColumnType::Uuid), Some(&LogicalType::Uuid));
    assert_eq!(logical(ColumnType::Json), Some(&LogicalType::Json));
    assert_eq!(logical(ColumnType::Utf8), Some(&LogicalType::String));
    assert_eq!(logical(ColumnType::Binary), None);
    assert_eq!(logical(ColumnType::Date), Some(&LogicalType::Date));
    for (column_type, adjusted) in [
        (ColumnType::Timestamp, false),
        (ColumnType::TimestampTz, true),
    ] {
        let micros = parquet::basic::TimeUnit::MICROS;
        assert_eq!(
            logical(column_type),
            Some(&LogicalType::timestamp(adjusted, micros))
        );
    }
    for (precision, scale, physical) in [
        (9, 9, PhysicalType::INT32),
        (18, 0, PhysicalType::INT64),
        (38, 10, PhysicalType::FIXED_LEN_BYTE_ARRAY),
    ] {
        let column_type = ColumnType::Decimal { precision, scale };
        assert_eq!(nodes[&column_type].get_physical_type(), physical);
        let annotation = LogicalType::decimal(scale.into(), precision.into());
        assert_eq!(logical(column_type), Some(&annotation));
    }
}

/// The element of a three-level list.
fn list_element(list: &Type) -> &Type {
    assert_eq!(
        list.get_basic_info().logical_type_ref(),
        Some(&LogicalType::List)
    );
    let [repeated] = list.get_fields() else {
        panic!("one repeated group")
    };
    assert_eq!(repeated.get_basic_info().repetition(), Repetition::REPEATED);
    let [element] = repeated.get_fields() else {
        panic!("one element")
    };
    element
}
