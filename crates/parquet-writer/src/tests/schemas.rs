//! What schemas are accepted, and what becomes of them in a file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field};
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
            model::column("b", second, ColumnType::List),
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
}

#[test]
fn children_must_be_those_of_the_type() {
    let of = |column_type, children: &[&str]| {
        let children = children
            .iter()
            .zip(2..)
            .map(|(name, field_id)| ColumnSpec::new(*name, field_id, ColumnType::Int64));
        let spec = ColumnSpec::new("a", 1, column_type).with_children(children.collect());
        FileSchema::new(vec![model::structure("outer", 100, vec![spec])])
    };
    assert!(of(ColumnType::List, &["element"]).is_ok());
    for children in [&[][..], &["item"], &["element", "element"]] {
        let error = of(ColumnType::List, children).unwrap_err();
        assert!(matches!(error, WriteError::ListNeedsElement { .. }));
    }
    assert!(of(ColumnType::Struct, &["x", "y"]).is_ok());
    let error = of(ColumnType::Struct, &[]).unwrap_err();
    assert!(matches!(error, WriteError::StructNeedsFields { .. }));
    let error = of(ColumnType::Struct, &["x", "y", "x"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "column outer.a: the struct has two fields named x"
    );
    for column_type in model::TYPES {
        if !matches!(column_type, ColumnType::List | ColumnType::Struct) {
            let error = of(column_type, &["element"]).unwrap_err();
            assert!(matches!(error, WriteError::UnexpectedChildren { .. }));
        }
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: i32| {
        let leaf = model::column("", depth, ColumnType::Int64);
        let column = (1..depth)
            .rev()
            .fold(leaf, |below, id| model::list("a", id, below));
        FileSchema::new(vec![column])
    };
    assert!(nested(16).is_ok());
    assert!(matches!(
        nested(17).unwrap_err(),
        WriteError::NestedTooDeep { most: 16, .. }
    ));
    assert!(nested(100).is_err());
}

#[test]
fn every_arrow_field_has_its_id() {
    fn check(spec: &ColumnSpec, field: &Field) {
        assert_eq!(
            field.metadata()[PARQUET_FIELD_ID_META_KEY],
            spec.field_id.to_string()
        );
        let below = match field.data_type() {
            DataType::List(element) => vec![Arc::clone(element)],
            DataType::Struct(fields) => fields.to_vec(),
            _ => vec![],
        };
        assert_eq!(below.len(), spec.children.len());
        for (spec, field) in spec.children.iter().zip(&below) {
            check(spec, field);
        }
    }
    let schema = model::all_types();
    let arrow = schema.arrow_schema();
    for (spec, field) in schema.columns().iter().zip(arrow.fields()) {
        check(spec, field);
    }
}

/// That a node of a file, and every node below, is what the schema wants.
fn check_node(spec: &ColumnSpec, node: &Type) {
    let info = node.get_basic_info();
    assert_eq!(node.name(), spec.name);
    assert_eq!(info.id(), spec.field_id, "{}", spec.name);
    let required = info.repetition() == Repetition::REQUIRED;
    assert_eq!(required, !spec.nullable, "{}", spec.name);
    match spec.column_type {
        ColumnType::List => check_node(&spec.children[0], list_element(node)),
        ColumnType::Struct => {
            assert_eq!(info.logical_type_ref(), None);
            assert_eq!(node.get_fields().len(), spec.children.len());
            for (spec, node) in spec.children.iter().zip(node.get_fields()) {
                check_node(spec, node);
            }
        }
        ColumnType::Uuid => assert_eq!(info.logical_type_ref(), Some(&LogicalType::Uuid)),
        ColumnType::Json => assert_eq!(info.logical_type_ref(), Some(&LogicalType::Json)),
        ColumnType::Utf8 => assert_eq!(info.logical_type_ref(), Some(&LogicalType::String)),
        ColumnType::UInt64 => {
            assert_eq!(node.get_physical_type(), PhysicalType::INT64);
            let unsigned = LogicalType::integer(64, false);
            assert_eq!(info.logical_type_ref(), Some(&unsigned));
        }
        _ => assert!(node.is_primitive()),
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
    assert_eq!(root.get_fields().len(), schema.columns().len());
    for (spec, node) in schema.columns().iter().zip(root.get_fields()) {
        check_node(spec, node);
    }

    let nodes: HashMap<ColumnType, &Type> = schema
        .columns()
        .iter()
        .map(|spec| spec.column_type)
        .zip(root.get_fields().iter().map(AsRef::as_ref))
        .collect();
    let logical = |column_type| nodes[&column_type].get_basic_info().logical_type_ref();
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
