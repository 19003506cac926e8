use super::*;
use crate::layout::SourceColumn;
use crate::testing::{Row, cells, lake_columns, rows, text};
use crate::types::SourceType;

fn schema(columns: &[SourceColumn]) -> parquet_writer::FileSchema {
    let columns = crate::layout::column_defs(columns, false);
    crate::layout::file_schema("raw.t", &lake_columns(&columns), &columns).unwrap()
}

fn encoder(columns: &[SourceColumn], wire: &[&str]) -> RowEncoder {
    let options = RowOptions {
        on_unrepresentable: OnUnrepresentable::Stop,
        before_image: false,
    };
    RowEncoder::new(columns, wire, options)
}

fn none() -> Option<std::iter::Empty<Datum<'static>>> {
    None
}

fn column(name: &str, reader: Reader) -> SourceColumn {
    SourceColumn {
        name: name.to_owned(),
        source_type: SourceType::plain(pgoutput::Oid::new(0), -1),
        reader,
    }
}

const HEAD: RowHead = RowHead {
    op: Op::Insert,
    timestamp: 5,
    lsn: 6,
    seq: 7,
};

/// What a value of `reader` becomes.
fn stored(reader: Reader, datum: Datum<'_>) -> Result<Option<String>, EncodeError> {
    let columns = [column("c", reader)];
    let mut batch = RowBatchBuilder::new(&schema(&columns));
    let mut encoder = encoder(&columns, &["c"]);
    let row = [datum].into_iter();
    encoder.append(&mut batch, HEAD, row, none(), none())?;
    let batch = batch.finish().unwrap();
    Ok(cells(&batch)[0][META_COLUMNS].clone())
}

#[test]
fn text_and_binary_of_every_type_are_the_same_value() {
    let decimal = Reader::Decimal {
        precision: 10,
        scale: 2,
    };
    // numeric_send of 12.50: 2 digits of base 10000, weight 0, positive, display scale 2.
    let twelve_and_a_half = [0, 2, 0, 0, 0, 0, 0, 2, 0, 12, 0x13, 0x88];
    let uuid = [0x11_u8; 16];
    let cases: [(Reader, &str, &[u8], &str); 21] = [
        (Reader::Bool, "t", &[1], "true"),
        (Reader::Bool, "f", &[0], "false"),
        (Reader::Int2, "-5", &(-5_i16).to_be_bytes(), "-5"),
        (Reader::Int4, "70000", &70_000_i32.to_be_bytes(), "70000"),
        (
            Reader::Int8,
            "-5000000000",
            &(-5_000_000_000_i64).to_be_bytes(),
            "-5000000000",
        ),
        (
            Reader::Oid,
            "4000000000",
            &4_000_000_000_u32.to_be_bytes(),
            "4000000000",
        ),
        (Reader::Float4, "1.5", &1.5_f32.to_be_bytes(), "1.5"),
        (Reader::Float8, "1e+100", &1e100_f64.to_be_bytes(), "1e100"),
        (Reader::Float8, "NaN", &f64::NAN.to_be_bytes(), "NaN"),
        (decimal.clone(), "12.50", &twelve_and_a_half, "12.50"),
        (Reader::NumericText, "12.50", &twelve_and_a_half, "12.50"),
        (Reader::NumericFloat, "12.50", &twelve_and_a_half, "12.5"),
        (Reader::Text, "größe", "größe".as_bytes(), "größe"),
        (Reader::Json, "{\"a\":1}", b"{\"a\":1}", "{\"a\":1}"),
        (Reader::Jsonb, "{\"a\": 1}", b"\x01{\"a\": 1}", "{\"a\": 1}"),
        (Reader::Bytea, "\\x00ff", &[0, 255], "[0, 255]"),
        (Reader::Date, "2000-01-02", &1_i32.to_be_bytes(), "10958"),
        (
            Reader::Time,
            "00:00:01",
            &1_000_000_i64.to_be_bytes(),
            "1000000",
        ),
        (
            Reader::Timestamp,
            "2000-01-01 00:00:01",
            &1_000_000_i64.to_be_bytes(),
            "946684801000000",
        ),
        (
            Reader::TimestampTz,
            "2000-01-01 00:00:01+00",
            &1_000_000_i64.to_be_bytes(),
            "946684801000000",
        ),
        (
            Reader::Uuid,
            "11111111-1111-1111-1111-111111111111",
            &uuid,
            "[17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17]",
        ),
    ];
    for (reader, as_text, as_binary, expected) in cases {
        for datum in [text(as_text), Datum::Binary(as_binary)] {
            let found = stored(reader.clone(), datum).unwrap();
            assert_eq!(found.as_deref(), Some(expected), "{reader:?} {datum:?}");
        }
        assert_eq!(
            stored(reader.clone(), Datum::Null).unwrap(),
            None,
            "{reader:?}"
        );
    }
}

#[test]
fn a_type_that_is_not_decoded_is_text_and_nothing_else() {
    let reader = Reader::OutputText;
    let address = stored(reader.clone(), text("10.0.0.1")).unwrap();
    assert_eq!(address.as_deref(), Some("10.0.0.1"));
    let error = stored(reader.clone(), Datum::Binary(b"10.0.0.1")).unwrap_err();
    assert_eq!(error.column, "c");
    // A copy selects the text, which then travels in binary.
    let copied = stored(reader.of_copy(), Datum::Binary(b"10.0.0.1")).unwrap();
    assert_eq!(copied.as_deref(), Some("10.0.0.1"));
}

#[test]
fn errors_name_the_column_and_hide_the_value() {
    let decimal = Reader::Decimal {
        precision: 4,
        scale: 2,
    };
    for (reader, datum) in [
        (Reader::Int4, text("secret")),
        (Reader::Int4, Datum::Binary(b"secret")),
        (Reader::Text, Datum::Text(b"secret\xff")),
        (Reader::Bool, text("secret")),
        (Reader::Uuid, text("secret")),
        (Reader::Date, text("secret")),
        (Reader::Bytea, text("\\xsecret")),
        (Reader::Jsonb, Datum::Binary(b"secret")),
        (decimal.clone(), text("secret")),
        (decimal, text("123.45")),
    ] {
        let error = stored(reader.clone(), datum).unwrap_err();
        assert_eq!(error.column, "c", "{reader:?}");
        let message = error.to_string();
        assert!(message.starts_with("column \"c\": "), "{message}");
        assert!(
            !message.contains("secret") && !message.contains("123"),
            "{message}"
        );
    }
}

#[test]
fn columns_that_the_wire_lacks_are_null() {
    let columns = [
        column("a", Reader::Int4),
        column("b", Reader::Int4),
        column("c", Reader::Int4),
    ];
    let mut batch = RowBatchBuilder::new(&schema(&columns));
    let mut encoder = encoder(&columns, &["c", "kept out", "a"]);
    assert_eq!(encoder.wire_columns(), 3);
    let row = [text("3"), text("x"), text("1")].into_iter();
    encoder
        .append(&mut batch, HEAD, row, none(), none())
        .unwrap();
    let [row] = rows(&batch.finish().unwrap()).try_into().unwrap();
    assert_eq!(
        row.values,
        [Some("1".to_owned()), None, Some("3".to_owned())]
    );
}

#[test]
fn an_abandoned_row_leaves_no_trace() {
    let columns = [column("a", Reader::Int4), column("b", Reader::Int4)];
    let mut batch = RowBatchBuilder::new(&schema(&columns));
    let mut encoder = encoder(&columns, &["a", "b"]);
    let mut append = |batch: &mut RowBatchBuilder, values: [Datum<'static>; 2]| {
        encoder.append(batch, HEAD, values.into_iter(), none(), none())
    };
    let toast = Datum::UnchangedToast;
    append(&mut batch, [text("1"), text("2")]).unwrap();
    append(&mut batch, [toast, text("no number")]).unwrap_err();
    assert_eq!(batch.abandon_row(), 1);
    append(&mut batch, [text("3"), text("4")]).unwrap();
    let found = rows(&batch.finish().unwrap());
    let expected = |values: [&str; 2]| Row {
        op: "insert".to_owned(),
        timestamp: 5,
        lsn: 6,
        seq: 7,
        unchanged: None,
        unrepresentable: None,
        values: values.map(|value| Some(value.to_owned())).to_vec(),
    };
    assert_eq!(found, [expected(["1", "2"]), expected(["3", "4"])]);
}

#[test]
fn unchanged_columns_are_named_in_the_order_of_the_wire() {
    let columns = [
        column("a", Reader::Int4),
        column("b", Reader::Text),
        column("c", Reader::Text),
    ];
    let mut batch = RowBatchBuilder::new(&schema(&columns));
    let mut encoder = encoder(&columns, &["c", "a", "b"]);
    let toast = Datum::UnchangedToast;
    let new = [toast, text("1"), toast].into_iter();
    let old = [text("from the old row"), text("0"), Datum::Null].into_iter();
    encoder
        .append(&mut batch, HEAD, new.clone(), none(), none())
        .unwrap();
    encoder
        .append(&mut batch, HEAD, new.clone(), Some(old), none())
        .unwrap();
    encoder
        .append(
            &mut batch,
            HEAD,
            new,
            Some([toast, toast, toast].into_iter()),
            none(),
        )
        .unwrap();
    let found: Vec<(Option<Vec<String>>, Option<String>)> = rows(&batch.finish().unwrap())
        .into_iter()
        .map(|row| (row.unchanged, row.values[2].clone()))
        .collect();
    let named = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(
        found,
        [
            (named(&["c", "b"]), None),
            (named(&["b"]), Some("from the old row".to_owned())),
            (named(&["c", "b"]), None),
        ]
    );
}

#[test]
fn markers_carry_no_values() {
    let columns = [column("a", Reader::Int4)];
    let mut batch = RowBatchBuilder::new(&schema(&columns));
    for op in [Op::Truncate, Op::Reset] {
        RowEncoder::append_marker(&mut batch, RowHead { op, ..HEAD }).unwrap();
    }
    let found = rows(&batch.finish().unwrap());
    assert_eq!((&*found[0].op, &*found[1].op), ("truncate", "reset"));
    assert!(
        found
            .iter()
            .all(|row| row.values == [None] && row.unchanged.is_none())
    );
}

#[test]
fn operations_have_the_names_that_readers_know() {
    let all = [
        Op::Insert,
        Op::Update,
        Op::Delete,
        Op::Truncate,
        Op::Snapshot,
        Op::Reset,
    ];
    assert_eq!(
        all.map(Op::as_str),
        [
            "insert", "update", "delete", "truncate", "snapshot", "reset"
        ]
    );
}

#[test]
fn a_value_that_does_not_fit_is_null_named_and_kept() {
    let decimal = Reader::Decimal {
        precision: 4,
        scale: 2,
    };
    let columns = [column("id", Reader::Int4), column("price", decimal)];
    let mut batch = RowBatchBuilder::new(&schema(&columns));
    let mut encoder = RowEncoder::new(&columns, &["id", "price"], RowOptions::default());
    let row = |price| [text("1"), text(price)].into_iter();
    encoder
        .append(&mut batch, HEAD, row("NaN"), none(), none())
        .unwrap();
    let [letter] = encoder.letters() else {
        panic!("one letter is expected: {:?}", encoder.letters());
    };
    assert_eq!(letter.column, "price");
    assert_eq!(letter.value.as_deref(), Some("NaN"));
    assert!(letter.reason.contains("not a number"), "{}", letter.reason);
    let key = encoder.key_text(&[0], row("NaN")).unwrap();
    assert_eq!(key, r#"{"id":"1"}"#);

    encoder
        .append(&mut batch, HEAD, row("1.25"), none(), none())
        .unwrap();
    assert!(
        encoder.letters().is_empty(),
        "the next row has nothing to say"
    );
    let error = encoder
        .append(&mut batch, HEAD, row("no number"), none(), none())
        .unwrap_err();
    assert_eq!(
        error.column, "price",
        "what is malformed stays an error under every policy"
    );
    batch.abandon_row();
    let found: Vec<_> = rows(&batch.finish().unwrap())
        .into_iter()
        .map(|row| (row.unrepresentable, row.values))
        .collect();
    let some = |value: &str| Some(value.to_owned());
    assert_eq!(
        found,
        [
            (Some(vec!["price".to_owned()]), vec![some("1"), None]),
            (None, vec![some("1"), some("1.25")]),
        ]
    );
}

#[test]
fn old_values_are_shown_where_they_were_sent() {
    let columns = [column("a", Reader::Int4), column("b", Reader::Text)];
    let options = RowOptions {
        before_image: true,
        ..RowOptions::default()
    };
    let defs = crate::layout::column_defs(&columns, true);
    let schema = crate::layout::file_schema("raw.t", &lake_columns(&defs), &defs).unwrap();
    let mut batch = RowBatchBuilder::new(&schema);
    // On the wire in another order, with a column that is kept out of the lake.
    let mut encoder = RowEncoder::new(&columns, &["b", "kept out", "a"], options);
    let row = |a, b| [b, text("x"), a].into_iter();
    let new = || row(text("2"), text("new"));
    let before = [
        None,
        Some(row(text("1"), Datum::Null)),
        Some(row(text("1"), text("old"))),
    ];
    for before in before {
        encoder
            .append(&mut batch, HEAD, new(), none(), before)
            .unwrap();
    }
    let shown: Vec<_> = cells(&batch.finish().unwrap())
        .into_iter()
        .map(|mut row| row.pop().unwrap())
        .collect();
    let some = |value: &str| Some(value.to_owned());
    assert_eq!(shown, [None, some("(1, )"), some("(1, old)")]);
}
