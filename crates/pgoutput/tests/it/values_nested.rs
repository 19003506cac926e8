//! Arrays and rows: what is one, what is none, and what comes back.

use std::borrow::Cow;

use pgoutput::value::ValueErrorKind::{Malformed, OutOfRange};
use pgoutput::value::{Dimension, ValueError, binary, render, text};
use proptest::prelude::*;

use crate::values_awkward::kind;

type Shown = Option<Vec<u8>>;

fn collect<'a>(
    values: impl Iterator<Item = Result<Option<Cow<'a, [u8]>>, ValueError>>,
) -> Vec<Shown> {
    values
        .map(|value| value.unwrap().map(Cow::into_owned))
        .collect()
}

fn shown(values: &[Option<&str>]) -> Vec<Shown> {
    values
        .iter()
        .map(|value| value.map(|text| text.as_bytes().to_vec()))
        .collect()
}

fn dimensions(shape: &[(u32, i32)]) -> Vec<Dimension> {
    shape
        .iter()
        .map(|&(length, lower)| Dimension { length, lower })
        .collect()
}

#[test]
fn array_texts() {
    for (raw, delimiter, shape, elements) in [
        ("{}", b',', &[][..], &[][..]),
        ("{1}", b',', &[(1, 1)], &[Some("1")]),
        ("{1,NULL}", b',', &[(2, 1)], &[Some("1"), None]),
        (
            "{\"NULL\",\"\"}",
            b',',
            &[(2, 1)],
            &[Some("NULL"), Some("")],
        ),
        ("{NULLs}", b',', &[(1, 1)], &[Some("NULLs")]),
        (
            r#"{"a\"b","c\\d","e f","{"}"#,
            b',',
            &[(4, 1)],
            &[Some("a\"b"), Some("c\\d"), Some("e f"), Some("{")],
        ),
        (
            "{(1,1),(0,0);(2,2),(1,1)}",
            b';',
            &[(2, 1)],
            &[Some("(1,1),(0,0)"), Some("(2,2),(1,1)")],
        ),
        (
            "{{1,2},{3,4},{5,6}}",
            b',',
            &[(3, 1), (2, 1)],
            &[
                Some("1"),
                Some("2"),
                Some("3"),
                Some("4"),
                Some("5"),
                Some("6"),
            ],
        ),
        (
            "[-1:0][7:7]={{x},{[0:1]=}}",
            b',',
            &[(2, -1), (1, 7)],
            &[Some("x"), Some("[0:1]=")],
        ),
        (
            "{{{{{{é}}}}}}",
            b',',
            &[(1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1)],
            &[Some("é")],
        ),
    ] {
        let array = text::array(raw.as_bytes(), delimiter).unwrap();
        assert_eq!(array.shape(), dimensions(shape), "{raw}");
        assert_eq!(collect(array.elements()), shown(elements), "{raw}");
    }
}

#[test]
fn texts_that_are_no_arrays() {
    for raw in [
        "",
        "{",
        "}",
        "1",
        "{1",
        "1}",
        "{1}}",
        "{{1}",
        "{1,}",
        "{,1}",
        "{1,,2}",
        "{1}x",
        " {1}",
        "{1} ",
        "{1 }",
        "{ 1}",
        "{1, 2}",
        "{{}}",
        "{{},{}}",
        "{1,{2}}",
        "{{1},2}",
        "{{1,2},{3}}",
        "{{1},{2,3}}",
        "{{{1}},{2}}",
        "{{{{{{{1}}}}}}}",
        "{null}",
        "{Null}",
        "{\"}",
        "{\"a\"b}",
        "{a\"b\"}",
        "{a\\b}",
        "{\"a\\\"}",
        "{\"a\\",
        "{1}{2}",
        "[1:2]={1}",
        "[1:1]={1,2}",
        "[1:1]={}",
        "[1:0]={}",
        "[1:1]",
        "[1:1]=",
        "[1]={1}",
        "[:1]={1}",
        "[1:]={1}",
        "[+1:1]={1}",
        "[2:1]={1}",
        "[1:1][1:1]={1}",
        "[1:1]={{1}}",
        "[2147483647:2147483647]={1}",
        "[1:99999999999999999999]={1}",
        "[-2147483649:-2147483649]={1}",
        "[-2147483648:2147483647]={1}",
        "[0:0][0:0][0:0][0:0][0:0][0:0][0:0]={{{{{{{1}}}}}}}",
    ] {
        assert_eq!(
            kind(text::array(raw.as_bytes(), b',').map(|_| ())),
            Some(Malformed),
            "{raw}"
        );
    }
    for delimiter in *b"{}\"\\ " {
        assert_eq!(
            kind(text::array(b"{1}", delimiter).map(|_| ())),
            Some(Malformed)
        );
    }
}

#[test]
fn record_texts() {
    for (raw, fields) in [
        ("()", &[None][..]),
        ("(,)", &[None, None]),
        ("(\"\",)", &[Some(""), None]),
        ("(a,1)", &[Some("a"), Some("1")]),
        ("(NULL,{1})", &[Some("NULL"), Some("{1}")]),
        (
            r#"("a""b","c\\d","e f",",")"#,
            &[Some("a\"b"), Some("c\\d"), Some("e f"), Some(",")],
        ),
        (r#"("(1,"" "")")"#, &[Some("(1,\" \")")]),
    ] {
        let record = text::record(raw.as_bytes()).unwrap();
        assert_eq!(collect(record.fields()), shown(fields), "{raw}");
    }
}

#[test]
fn texts_that_are_no_records() {
    for raw in [
        "",
        "(",
        ")",
        "a",
        "(a",
        "a)",
        "(a))",
        "((a)",
        "(a)b",
        " (a)",
        "(a) ",
        "(a b)",
        "(\"a)",
        "(\"a\"b)",
        "(a\"b\")",
        "(a\\b)",
        "(\"a\\\")",
        "(\"a\\",
        "(\"a\"\")",
    ] {
        assert_eq!(
            kind(text::record(raw.as_bytes()).map(|_| ())),
            Some(Malformed),
            "{raw}"
        );
    }
}

#[test]
fn values_without_escapes_are_borrowed() {
    let array = text::array(br#"{a,"b c","d\"e"}"#, b',').unwrap();
    let borrowed: Vec<_> = array
        .elements()
        .map(|element| matches!(element, Ok(Some(Cow::Borrowed(_)))))
        .collect();
    assert_eq!(borrowed, [true, true, false]);
    let record = text::record(br#"(a,"b c","d""e")"#).unwrap();
    let borrowed: Vec<_> = record
        .fields()
        .map(|field| matches!(field, Ok(Some(Cow::Borrowed(_)))))
        .collect();
    assert_eq!(borrowed, [true, true, false]);
}

/// The send format of an array of `text`.
fn send_array(shape: &[(i32, i32)], elements: &[Option<&[u8]>]) -> Vec<u8> {
    let mut sent = i32::try_from(shape.len()).unwrap().to_be_bytes().to_vec();
    sent.extend(i32::from(elements.contains(&None)).to_be_bytes());
    sent.extend(25_u32.to_be_bytes());
    for (length, lower) in shape {
        sent.extend(length.to_be_bytes());
        sent.extend(lower.to_be_bytes());
    }
    for element in elements {
        sent.extend(sized(*element));
    }
    sent
}

fn sized(value: Option<&[u8]>) -> Vec<u8> {
    value.map_or_else(
        || vec![0xFF; 4],
        |value| {
            [
                &i32::try_from(value.len()).unwrap().to_be_bytes()[..],
                value,
            ]
            .concat()
        },
    )
}

#[test]
fn binary_arrays() {
    let elements = [Some(&b"a"[..]), None, Some(b""), Some(b"bcd")];
    let sent = send_array(&[(2, 1), (2, -5)], &elements);
    let array = binary::array(&sent).unwrap();
    assert_eq!(array.element_type(), 25);
    assert_eq!(array.shape(), dimensions(&[(2, 1), (2, -5)]));
    let parsed: Result<Vec<_>, _> = array.elements().collect();
    assert_eq!(parsed.unwrap(), elements);

    let empty = send_array(&[], &[]);
    assert_eq!(binary::array(&empty).unwrap().shape(), []);
    assert_eq!(binary::array(&empty).unwrap().elements().count(), 0);
}

#[test]
fn bytes_that_are_no_arrays() {
    let one = [Some(&b"a"[..])];
    for sent in [
        send_array(&[], &one),
        send_array(&[(0, 1)], &[]),
        send_array(&[(-1, 1)], &[]),
        send_array(&[(2, 1)], &one),
        send_array(&[(1, i32::MAX)], &one),
        send_array(&[(1, 1); 7], &one),
        send_array(&[(i32::MAX, 0); 6], &one),
        [&send_array(&[(1, 1)], &one)[..], &[0]].concat(),
        [&send_array(&[(2, 1)], &one)[..], &(-2_i32).to_be_bytes()].concat(),
        [&[0x7F; 12][..], &[0; 40]].concat(),
        [&[0xFF; 12][..], &[0; 40]].concat(),
        [&[0, 0, 0, 0, 0, 0, 0, 2][..], &[0; 4]].concat(),
    ] {
        assert_eq!(
            kind(binary::array(&sent).map(|_| ())),
            Some(Malformed),
            "{sent:?}"
        );
    }
}

#[test]
fn binary_records() {
    let field = |type_oid: u32, value| [&type_oid.to_be_bytes()[..], &sized(value)].concat();
    let sent = [&[0, 0, 0, 2][..], &field(25, Some(b"a")), &field(23, None)].concat();
    let record = binary::record(&sent).unwrap();
    assert_eq!(record.len(), 2);
    assert!(!record.is_empty());
    let parsed: Result<Vec<_>, _> = record.fields().collect();
    assert_eq!(parsed.unwrap(), [(25, Some(&b"a"[..])), (23, None)]);
    assert!(binary::record(&[0; 4]).unwrap().is_empty());

    for wrong in [
        &sent[..sent.len() - 1],
        &[&sent[..], &[0]].concat(),
        &[&[0, 0, 0, 1], &sent[4..]].concat(),
        &[&[0, 0, 0, 3], &sent[4..]].concat(),
        &[0xFF; 4],
        &[0x7F, 0xFF, 0xFF, 0xFF],
        &[],
    ] {
        assert_eq!(
            kind(binary::record(wrong).map(|_| ())),
            Some(Malformed),
            "{wrong:?}"
        );
    }
}

#[test]
fn money_and_large_numbers() {
    assert_eq!(text::money(b"$1,234.56"), Ok(123_456));
    assert_eq!(text::money(b"-$0.05"), Ok(-5));
    assert_eq!(text::money(b"-$92,233,720,368,547,758.08"), Ok(i64::MIN));
    assert_eq!(
        kind(text::money(b"$92,233,720,368,547,758.08")),
        Some(OutOfRange)
    );
    assert_eq!(
        kind(text::money(b"$999,999,999,999,999,999,999.00")),
        Some(OutOfRange)
    );
    for raw in [
        "", "$", "1.00", "$1", "$1.0", "$1.000", "$1234.00", "$1,23.00", "$,123.00", "$-1.00",
        "$1.00 ",
    ] {
        assert_eq!(kind(text::money(raw.as_bytes())), Some(Malformed), "{raw}");
    }
    assert_eq!(text::uint8(b"18446744073709551615"), Ok(u64::MAX));
    assert_eq!(kind(text::uint8(b"18446744073709551616")), Some(OutOfRange));
    assert_eq!(kind(text::uint8(b"-1")), Some(Malformed));
}

/// Texts with much of what needs quotes.
fn awkward() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a\"\\\\{}(),; \t\n\x0B\r\x0Cé]{0,8}",
        Just("NULL".to_owned()),
        Just("nUlL".to_owned()),
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn arrays_come_back(
        rows in 1_usize..4,
        columns in 1_usize..4,
        values in prop::collection::vec(prop::option::of(awkward()), 9),
        delimiter in prop_oneof![Just(b','), Just(b';')],
    ) {
        let separator = char::from(delimiter).to_string();
        let values = &values[..rows * columns];
        let rows_shown: Vec<String> = values
            .chunks(columns)
            .map(|row| {
                let elements: Vec<String> = row
                    .iter()
                    .map(|value| {
                        let mut out = String::new();
                        match value {
                            Some(value) => render::array_element(value, delimiter, &mut out),
                            None => out.push_str("NULL"),
                        }
                        out
                    })
                    .collect();
                format!("{{{}}}", elements.join(&separator))
            })
            .collect();
        let raw = format!("{{{}}}", rows_shown.join(&separator));
        let array = text::array(raw.as_bytes(), delimiter).unwrap();
        let length = |count| Dimension { length: u32::try_from(count).unwrap(), lower: 1 };
        prop_assert_eq!(array.shape(), [length(rows), length(columns)]);
        let expected: Vec<_> = values.iter().map(Option::as_deref).collect();
        prop_assert_eq!(collect(array.elements()), shown(&expected));
    }

    #[test]
    fn records_come_back(values in prop::collection::vec(prop::option::of(awkward()), 1..6)) {
        let fields: Vec<String> = values
            .iter()
            .map(|value| {
                let mut out = String::new();
                if let Some(value) = value {
                    render::record_field(value, &mut out);
                }
                out
            })
            .collect();
        let raw = format!("({})", fields.join(","));
        let expected: Vec<_> = values.iter().map(Option::as_deref).collect();
        prop_assert_eq!(collect(text::record(raw.as_bytes()).unwrap().fields()), shown(&expected));
    }

    /// What is accepted has as many elements as its shape says, and none of them is an error.
    #[test]
    fn any_text_is_regular_or_refused(raw in "[\\[]?[-0-2:\\]\\[]{0,6}=?[{},a1\"\\\\ ()NUL]{0,24}") {
        if let Ok(array) = text::array(raw.as_bytes(), b',') {
            let promised: u32 = array.shape().iter().map(|dimension| dimension.length).product();
            let promised = if array.shape().is_empty() { 0 } else { promised };
            prop_assert_eq!(u32::try_from(collect(array.elements()).len()).unwrap(), promised);
        }
        if let Ok(record) = text::record(raw.as_bytes()) {
            prop_assert!(!collect(record.fields()).is_empty());
        }
    }

    #[test]
    fn any_bytes_are_regular_or_refused(
        raw in prop::collection::vec(prop_oneof![Just(0), 0_u8..4, Just(255), any::<u8>()], 0..60),
    ) {
        let _ = text::array(&raw, b',').map(|array| collect(array.elements()));
        let _ = text::record(&raw).map(|record| collect(record.fields()));
        let _ = text::money(&raw);
        let _ = text::uint8(&raw);
        if let Ok(array) = binary::array(&raw) {
            prop_assert!(array.elements().all(|element| element.is_ok()));
        }
        if let Ok(record) = binary::record(&raw) {
            prop_assert!(record.fields().all(|field| field.is_ok()));
            prop_assert_eq!(record.fields().count(), record.len());
        }
    }
}

#[test]
fn texts_cut_short_or_changed_do_not_panic() {
    for raw in [
        r#"[0:1][-3:-2]={{a,"b\"c"},{NULL,"d e"}}"#,
        r#"(a,"b""c",,"d\\e")"#,
        "-$1,234,567.89",
    ] {
        let raw = raw.as_bytes();
        for end in 0..raw.len() {
            assert!(text::array(&raw[..end], b',').is_err());
            assert!(text::record(&raw[..end]).is_err());
            assert!(text::money(&raw[..end]).is_err());
            for byte in *b"{}(),\"\\[]:= a\xFF" {
                let mut changed = raw.to_vec();
                changed[end] = byte;
                let _ = text::array(&changed, b',').map(|array| collect(array.elements()));
                let _ = text::record(&changed).map(|record| collect(record.fields()));
                let _ = text::money(&changed);
            }
        }
    }
}
