use cdc_source::tables::{TypeInfo, TypePart};
use parquet_writer::{FileSchema, RowBatchBuilder};
use pgoutput::Datum;

use super::*;
use crate::testing;

fn builtin(oid: u32, modifier: i32) -> Reader {
    let ty = SourceType::plain(Oid::new(oid), modifier);
    ColumnSettings::default().reader("c", &ty)
}

fn numeric(precision: i32, scale: i32) -> i32 {
    ((precision << 16) | (scale & 0x7ff)) + 4
}

#[test]
fn numeric_modifiers_become_decimals_where_the_lake_has_them() {
    let decimal = |precision, scale| Reader::Decimal { precision, scale };
    let read = |modifier| builtin(1700, modifier);
    assert_eq!(read(numeric(12, 2)), decimal(12, 2));
    assert_eq!(read(numeric(38, 38)), decimal(38, 38));
    assert_eq!(read(numeric(5, -2)), decimal(7, 0));
    assert_eq!(read(numeric(3, 5)), decimal(5, 5));
    assert_eq!(read(numeric(38, -1)), Reader::NumericText);
    assert_eq!(read(numeric(39, 0)), Reader::NumericText);
    assert_eq!(read(numeric(1000, 0)), Reader::NumericText);
    assert_eq!(read(numeric(1, -1000)), Reader::NumericText);
    assert_eq!(read(-1), Reader::NumericText);
}

#[test]
fn only_unbounded_numeric_follows_the_setting() {
    let settings = ColumnSettings {
        numeric: NumericMapping::Float64,
        numeric_columns: [("exact".to_owned(), NumericMapping::Varchar)].into(),
        arrays: BTreeMap::new(),
    };
    let read =
        |column, modifier| settings.reader(column, &SourceType::plain(Oid::new(1700), modifier));
    assert_eq!(read("c", -1), Reader::NumericFloat);
    assert_eq!(read("exact", -1), Reader::NumericText);
    assert_eq!(read("c", numeric(50, 2)), Reader::NumericText);
}

#[test]
fn unknown_types_are_text_and_make_the_session_text() {
    for oid in [3904, 142, 18, 600, 2205] {
        let reader = builtin(oid, -1);
        assert_eq!(reader, Reader::OutputText);
        assert!(!reader.binary());
        assert_eq!(reader.lake_type(), LakeType::Varchar);
    }
}

/// A user's types: `mood` (enum), `price` (domain over numeric(8,2)), `prices` (domain over its array), `item`
/// (composite of a text, a price and an int4 array), and the arrays of all.
fn types() -> Types {
    let info = |oid, name: &str, kind, parts: Vec<TypePart>, is_array| TypeInfo {
        oid: Oid::new(oid),
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind,
        parts,
        is_array,
        dimensions: 0,
        delimiter: b',',
    };
    let part = |oid, modifier, name: Option<&str>| TypePart {
        oid: Oid::new(oid),
        modifier,
        name: name.map(str::to_owned),
        number: None,
        dimensions: 0,
    };
    let attributes = vec![
        part(25, -1, Some("name")),
        part(1001, -1, Some("price")),
        part(1007, -1, Some("sizes")),
    ];
    [
        info(23, "int4", 'b', vec![], false),
        info(1007, "_int4", 'b', vec![part(23, -1, None)], true),
        info(22, "int2vector", 'b', vec![part(21, -1, None)], true),
        info(1000, "mood", 'e', vec![], false),
        info(
            1001,
            "price",
            'd',
            vec![part(1700, numeric(8, 2), None)],
            false,
        ),
        info(1002, "_price", 'b', vec![part(1001, -1, None)], true),
        info(1003, "prices", 'd', vec![part(1002, -1, None)], false),
        info(1004, "item", 'c', attributes, false),
        info(1005, "_item", 'b', vec![part(1004, -1, None)], true),
        info(1006, "citext", 'b', vec![], false),
        info(
            1008,
            "clash",
            'c',
            vec![part(23, -1, Some("a")), part(23, -1, Some("A"))],
            false,
        ),
    ]
    .into_iter()
    .map(|info| (info.oid, info))
    .collect()
}

fn made(oid: u32, dimensions: i32) -> Reader {
    let ty = SourceType::resolve(&types(), Oid::new(oid), -1, dimensions);
    ColumnSettings::default().reader("c", &ty)
}

#[test]
fn types_of_users_are_what_they_are_made_of() {
    let shown = |oid, dimensions| made(oid, dimensions).lake_type().to_string();
    assert_eq!(shown(1000, 0), "varchar");
    assert_eq!(shown(1006, 0), "varchar");
    assert_eq!(shown(1001, 0), "decimal(8,2)");
    assert_eq!(shown(1003, 0), "list(decimal(8,2))");
    assert_eq!(shown(1007, 1), "list(int32)");
    assert_eq!(shown(1007, 0), "list(int32)");
    assert_eq!(shown(1007, 2), "json");
    assert_eq!(shown(22, 0), "varchar");
    assert_eq!(
        shown(1005, 1),
        "list(struct(name varchar, price decimal(8,2), sizes list(int32)))"
    );
    assert_eq!(
        made(1008, 0),
        Reader::OutputText,
        "names that differ in case only"
    );
    assert!(
        [1000, 1001, 1003, 1004, 1005, 1006]
            .iter()
            .all(|oid| made(*oid, 0).binary())
    );
}

#[test]
fn a_setting_says_how_the_arrays_of_a_column_are_stored() {
    let settings = ColumnSettings {
        arrays: [
            ("flat".to_owned(), ArrayMapping::List),
            ("deep".to_owned(), ArrayMapping::Json),
        ]
        .into(),
        ..ColumnSettings::default()
    };
    let lake_type = |column, dimensions| {
        let ty = SourceType::resolve(&types(), Oid::new(1007), -1, dimensions);
        settings.reader(column, &ty).lake_type().to_string()
    };
    assert_eq!(lake_type("flat", 2), "list(int32)");
    assert_eq!(lake_type("deep", 1), "json");
    assert_eq!(lake_type("other", 2), "json");
}

#[test]
fn what_a_type_is_made_of_survives_the_control_tables() {
    for oid in types().keys() {
        let ty = SourceType::resolve(&types(), *oid, 7, 2);
        let stored = serde_json::to_value(&ty).unwrap();
        assert_eq!(serde_json::from_value::<SourceType>(stored).unwrap(), ty);
    }
}

/// What a value becomes, as text.
fn stored(reader: &Reader, datum: Datum<'_>) -> Result<Option<String>, ValueProblem> {
    let definition = ducklake_catalog::TableDef::new(
        "t",
        vec![ducklake_catalog::ColumnDef::new("c", reader.lake_type())],
    );
    let ids = definition.column_ids();
    let spec = column_spec("c", &reader.lake_type(), &ids[0]).unwrap();
    let mut batch = RowBatchBuilder::new(&FileSchema::new(vec![spec]).unwrap());
    append(
        &mut batch.columns_mut()[0],
        reader,
        datum,
        &mut Scratch::default(),
    )?;
    batch.end_row().unwrap();
    Ok(testing::cells(&batch.finish().unwrap())[0][0].clone())
}

/// `array_send` of int4 values.
fn binary_array(shape: &[(i32, i32)], values: &[Option<i32>]) -> Vec<u8> {
    let mut raw = Vec::new();
    raw.extend(i32::try_from(shape.len()).unwrap().to_be_bytes());
    raw.extend(1_i32.to_be_bytes());
    raw.extend(23_u32.to_be_bytes());
    for (length, lower) in shape {
        raw.extend(length.to_be_bytes());
        raw.extend(lower.to_be_bytes());
    }
    for value in values {
        match value {
            None => raw.extend((-1_i32).to_be_bytes()),
            Some(value) => {
                raw.extend(4_i32.to_be_bytes());
                raw.extend(value.to_be_bytes());
            }
        }
    }
    raw
}

#[test]
fn arrays_are_the_same_in_text_and_binary() {
    let list = made(1007, 1);
    let json = made(1007, 2);
    let cases: [(&str, Vec<u8>, Option<&str>, &str); 4] = [
        ("{}", binary_array(&[], &[]), Some("[]"), "[]"),
        (
            "{1,NULL,3}",
            binary_array(&[(3, 1)], &[Some(1), None, Some(3)]),
            Some("[1, , 3]"),
            "[1,null,3]",
        ),
        (
            "{{1,2},{3,NULL}}",
            binary_array(&[(2, 1), (2, 1)], &[Some(1), Some(2), Some(3), None]),
            None,
            "[[1,2],[3,null]]",
        ),
        (
            "{{{1},{2}},{{3},{4}}}",
            binary_array(
                &[(2, 1), (2, 1), (1, 1)],
                &[Some(1), Some(2), Some(3), Some(4)],
            ),
            None,
            "[[[1],[2]],[[3],[4]]]",
        ),
    ];
    for (text, binary, as_list, as_json) in cases {
        for datum in [testing::text(text), Datum::Binary(&binary)] {
            assert_eq!(
                stored(&list, datum).ok().flatten().as_deref(),
                as_list,
                "{text}"
            );
            assert_eq!(
                stored(&json, datum).unwrap().as_deref(),
                Some(as_json),
                "{text}"
            );
            let printed = output_text(&list, datum).unwrap();
            assert_eq!(printed.as_deref(), Some(text));
        }
    }
}

#[test]
fn the_mask_of_a_whole_address_is_told_of_a_cidr_alone() {
    let binary = |is_cidr| [2, 32, is_cidr, 4, 1, 2, 3, 4];
    for (oid, is_cidr, shown) in [(869, 0, "1.2.3.4"), (650, 1, "1.2.3.4/32")] {
        let reader = builtin(oid, -1);
        for datum in [testing::text(shown), Datum::Binary(&binary(is_cidr))] {
            assert_eq!(stored(&reader, datum).unwrap().as_deref(), Some(shown));
        }
    }
}

#[test]
fn arrays_of_another_shape_do_not_fit() {
    let shifted = binary_array(&[(2, 0)], &[Some(1), Some(2)]);
    for reader in [made(1007, 1), made(1007, 2)] {
        for datum in [testing::text("[0:1]={1,2}"), Datum::Binary(&shifted)] {
            let problem = stored(&reader, datum).unwrap_err();
            assert!(
                matches!(problem, ValueProblem::Unrepresentable(_)),
                "{problem:?}"
            );
            let printed = output_text(&reader, datum).unwrap();
            assert_eq!(printed.as_deref(), Some("[0:1]={1,2}"));
        }
    }
}

#[test]
fn composites_are_structs_and_a_changed_one_is_an_error() {
    let item = made(1004, 0);
    let text = testing::text(r#"("a ""b""",1.50,"{1,2}")"#);
    assert_eq!(
        stored(&item, text).unwrap().as_deref(),
        Some("(a \"b\", 1.50, [1, 2])")
    );
    assert_eq!(
        stored(&item, testing::text("(,,)")).unwrap().as_deref(),
        Some("(, , )")
    );
    for changed in ["(a,1.50)", "(a,1.50,{1},4)"] {
        let problem = stored(&item, testing::text(changed)).unwrap_err();
        assert_eq!(problem, ValueProblem::Altered);
    }
    let problem = stored(&item, testing::text("(a,NaN,{1})")).unwrap_err();
    assert!(
        matches!(problem, ValueProblem::Unrepresentable(_)),
        "{problem:?}"
    );
}

#[test]
fn json_with_half_a_surrogate_pair_does_not_fit() {
    let json = builtin(114, -1);
    for fits in [
        r#""\ud83d\ude00""#,
        r#""\\ud800""#,
        r#""\u00e9 \n \"""#,
        "{}",
    ] {
        assert_eq!(
            stored(&json, testing::text(fits)).unwrap().as_deref(),
            Some(fits)
        );
    }
    for half in [
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\ud800\u0041""#,
        r#"["\uDBFF"]"#,
    ] {
        let problem = stored(&json, testing::text(half)).unwrap_err();
        assert!(
            matches!(problem, ValueProblem::Unrepresentable(_)),
            "{half}"
        );
    }
}
