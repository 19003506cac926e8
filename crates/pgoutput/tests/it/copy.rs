//! Rows of a binary COPY, however the messages are cut.

use bytes::{Bytes, BytesMut};
use pgoutput::{
    CopyBinaryDecoder, CopyRow, Datum, DecodeError, DecodeErrorKind, EncodeError,
    encode_copy_header, encode_copy_row, encode_copy_trailer,
};
use proptest::prelude::*;

type Row = Vec<Option<Vec<u8>>>;

fn encode(rows: &[Row]) -> Bytes {
    let mut buffer = BytesMut::new();
    encode_copy_header(&mut buffer);
    for row in rows {
        let datums: Vec<_> = row
            .iter()
            .map(|value| value.as_deref().map_or(Datum::Null, Datum::Binary))
            .collect();
        encode_copy_row(&mut buffer, &datums).unwrap();
    }
    encode_copy_trailer(&mut buffer);
    buffer.freeze()
}

fn drain(decoder: &mut CopyBinaryDecoder, rows: &mut Vec<Row>) -> Result<(), DecodeError> {
    while let Some(row) = decoder.next_row()? {
        rows.push(values(&row));
    }
    Ok(())
}

fn values(row: &CopyRow) -> Row {
    assert_eq!(row.iter().len(), row.len());
    row.iter()
        .map(|datum| match datum {
            Datum::Null => None,
            Datum::Binary(bytes) => Some(bytes.to_vec()),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn decode(columns: usize, messages: &[&[u8]]) -> Result<Vec<Row>, DecodeError> {
    let mut decoder = CopyBinaryDecoder::new(columns);
    let mut rows = Vec::new();
    for message in messages {
        decoder.push(Bytes::copy_from_slice(message));
        drain(&mut decoder, &mut rows)?;
    }
    decoder.finish().map(|()| rows)
}

fn example() -> (Vec<Row>, Bytes) {
    let rows = vec![
        vec![Some(b"one".to_vec()), None],
        vec![None, None],
        vec![Some(Vec::new()), Some(vec![0xFF; 40])],
    ];
    let bytes = encode(&rows);
    (rows, bytes)
}

#[test]
fn cut_anywhere() {
    let (rows, bytes) = example();
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(decode(2, &[head, tail]).as_ref(), Ok(&rows), "cut at {cut}");
    }
    let single: Vec<_> = bytes.chunks(1).collect();
    assert_eq!(decode(2, &single), Ok(rows));
}

#[test]
fn truncated_anywhere() {
    let (rows, bytes) = example();
    for len in 0..bytes.len() {
        let error = decode(2, &[&bytes[..len]]).unwrap_err();
        assert_eq!(error.kind(), DecodeErrorKind::Truncated, "cut at {len}");
        assert_eq!(error.offset(), len);
        assert_eq!(error.tag(), None);
    }
    assert_eq!(decode(2, &[&bytes]), Ok(rows));
}

#[test]
fn pushed_before_rows_are_taken() {
    let (expected, bytes) = example();
    let mut decoder = CopyBinaryDecoder::new(2);
    for chunk in bytes.chunks(7) {
        decoder.push(Bytes::copy_from_slice(chunk));
    }
    let mut rows = Vec::new();
    drain(&mut decoder, &mut rows).unwrap();
    assert_eq!(rows, expected);
    assert_eq!(decoder.finish(), Ok(()));
}

#[test]
fn rows_left_behind_are_an_error() {
    let (_, bytes) = example();
    let mut decoder = CopyBinaryDecoder::new(2);
    decoder.push(bytes);
    assert!(decoder.next_row().unwrap().is_some());
    assert_eq!(
        decoder.finish().unwrap_err().kind(),
        DecodeErrorKind::Truncated
    );
}

#[test]
fn a_table_without_columns() {
    assert_eq!(
        decode(0, &[&encode(&[vec![], vec![]])]),
        Ok(vec![vec![], vec![]])
    );
}

#[test]
fn header() {
    let error = |bytes: &[u8]| {
        decode(1, &[bytes])
            .map(drop)
            .map_err(|e| (e.kind(), e.field()))
    };
    let header = |flags: u32, extension: i32| {
        let mut bytes = b"PGCOPY\n\xff\r\n\0".to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(extension.to_be_bytes());
        bytes
    };
    // The lower flags and the extension are for readers that know them.
    let mut extended = header(1, 3);
    extended.extend(b"ext\xff\xff");
    assert_eq!(error(&extended), Ok(()));
    assert_eq!(
        error(&header(1 << 16, 0)),
        Err((DecodeErrorKind::UnknownValue, "COPY flags"))
    );
    assert_eq!(
        error(&header(0, -1)),
        Err((DecodeErrorKind::Negative, "COPY header extension length"))
    );
    assert_eq!(
        error(&header(0, i32::MAX)),
        Err((DecodeErrorKind::Truncated, "COPY header extension"))
    );
    let mut text = header(0, 0);
    text[6] = b' ';
    assert_eq!(
        error(&text),
        Err((DecodeErrorKind::UnknownValue, "COPY signature"))
    );
}

#[test]
fn rows_that_lie() {
    let with_header = |row: &[u8]| {
        let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend(row);
        decode(1, &[&bytes]).map_err(|error| (error.kind(), error.offset()))
    };
    assert_eq!(
        with_header(b"\0\x02"),
        Err((DecodeErrorKind::WrongCount, 19))
    );
    assert_eq!(
        with_header(b"\xff\xfe"),
        Err((DecodeErrorKind::Negative, 19))
    );
    assert_eq!(
        with_header(b"\0\x01\xff\xff\xff\xfe"),
        Err((DecodeErrorKind::Negative, 21))
    );
    assert_eq!(
        with_header(b"\0\x01\x7f\xff\xff\xff"),
        Err((DecodeErrorKind::Truncated, 25))
    );
    assert_eq!(
        with_header(b"\xff\xff\0"),
        Err((DecodeErrorKind::TrailingBytes, 21))
    );
}

#[test]
fn only_null_and_binary_can_be_encoded() {
    let mut buffer = BytesMut::from(&b"before"[..]);
    for datum in [Datum::Text(b"x"), Datum::UnchangedToast] {
        let outcome = encode_copy_row(&mut buffer, &[Datum::Null, datum]);
        assert_eq!(outcome, Err(EncodeError::NotInCopy));
    }
    assert_eq!(buffer, b"before"[..]);
}

proptest! {
    #[test]
    fn cut_at_random(
        (columns, rows) in (0_usize..5).prop_flat_map(|columns| {
            let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..30));
            let row = prop::collection::vec(value, columns);
            (Just(columns), prop::collection::vec(row, 0..10))
        }),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes = encode(&rows);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(0);
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let messages: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(decode(columns, &messages), Ok(rows));
    }
}
