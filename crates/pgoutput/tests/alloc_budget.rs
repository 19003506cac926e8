//! Counts heap allocations: none per row, and none that follow a length which only claims to be.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panic"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use pgoutput::{
    CopyBinaryDecoder, Datum, Decoder, Delete, Insert, Lsn, Message, OldTuple, PgTimestamp,
    ProtocolVersion, RelationId, ReplicationFrame, Truncate, Update, XLogData, encode_copy_header,
    encode_copy_row, encode_copy_trailer, encode_tuple, value,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

impl Counting {
    fn count(size: usize) {
        // Fails only while a thread is being taken down, which no test measures.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        let _ = ALLOCATED_BYTES.try_with(|bytes| bytes.set(bytes.get() + size));
    }
}

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        Self::count(new_size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `run`, and their bytes.
fn measure<T>(run: impl FnOnce() -> T) -> (usize, usize, T) {
    let (count, bytes) = (ALLOCATIONS.get(), ALLOCATED_BYTES.get());
    let outcome = run();
    (
        ALLOCATIONS.get() - count,
        ALLOCATED_BYTES.get() - bytes,
        outcome,
    )
}

/// Parses every value, as a consumer does.
fn consume<'a>(row: impl Iterator<Item = Datum<'a>>) -> usize {
    row.map(|datum| match datum {
        Datum::Null | Datum::UnchangedToast => 0,
        Datum::Text(raw) => {
            let _ = black_box((value::text::int8(raw), value::text::numeric(raw, 12, 2)));
            let _ = black_box((value::text::timestamptz(raw), value::text::text(raw)));
            raw.len()
        }
        Datum::Binary(raw) => {
            let _ = black_box((value::binary::int8(raw), value::binary::numeric(raw, 12, 2)));
            let _ = black_box((value::binary::timestamptz(raw), value::binary::text(raw)));
            raw.len()
        }
    })
    .sum()
}

const ROWS: usize = 1000;

/// A receive buffer full of frames, and their lengths.
fn receive_buffer() -> (BytesMut, Vec<usize>) {
    let row = encode_tuple(&[
        Datum::Text(b"1234567890"),
        Datum::Text(b"12.50"),
        Datum::Null,
        Datum::UnchangedToast,
        Datum::Binary(&[7; 8]),
        Datum::Text(b"2024-02-29 12:34:56.789+00"),
    ])
    .unwrap();
    let relation = RelationId::new(1);
    let messages = [
        Message::Insert(Insert {
            xid: None,
            relation,
            new: row.clone(),
        }),
        Message::Update(Update {
            xid: None,
            relation,
            old: None,
            new: row.clone(),
        }),
        Message::Update(Update {
            xid: None,
            relation,
            old: Some(OldTuple::Full(row.clone())),
            new: row.clone(),
        }),
        Message::Delete(Delete {
            xid: None,
            relation,
            old: OldTuple::Key(row),
        }),
        Message::Truncate(Truncate::new(None, false, false, &[relation]).unwrap()),
    ];
    let mut buffer = BytesMut::new();
    let mut lengths = Vec::new();
    for message in messages.iter().cycle().take(ROWS) {
        let mut payload = BytesMut::new();
        message.encode(&mut payload).unwrap();
        let start = buffer.len();
        ReplicationFrame::XLogData(XLogData {
            wal_start: Lsn::ZERO,
            wal_end: Lsn::ZERO,
            server_time: PgTimestamp::default(),
            payload: payload.freeze(),
        })
        .encode(&mut buffer);
        lengths.push(buffer.len() - start);
    }
    (buffer, lengths)
}

#[test]
fn the_counter_counts() {
    let (count, bytes, _) = measure(|| black_box(vec![0_u8; 100]));
    assert_eq!((count, bytes), (1, 100));
}

#[test]
fn decoding_and_reading_a_row_allocates_nothing() {
    let (mut buffer, lengths) = receive_buffer();
    let mut decoder = Decoder::new(ProtocolVersion::V1);
    // The first cut turns the receive buffer into a shared one: once per buffer, not per row.
    let first = buffer.split_to(0).freeze();
    let (count, _, values) = measure(|| {
        let mut values = 0;
        for len in lengths {
            let frame = ReplicationFrame::decode(buffer.split_to(len).freeze()).unwrap();
            let ReplicationFrame::XLogData(data) = frame else {
                panic!("a keepalive")
            };
            values += match decoder.decode(data.payload).unwrap() {
                Message::Insert(insert) => consume(insert.new.iter()),
                Message::Update(update) => {
                    let old = update
                        .old
                        .as_ref()
                        .map_or(0, |old| consume(old.tuple().iter()));
                    old + consume(update.new.iter())
                }
                Message::Delete(delete) => consume(delete.old.tuple().iter()),
                Message::Truncate(truncate) => truncate.relations().count(),
                other => panic!("{other:?}"),
            };
        }
        values
    });
    assert!(values > ROWS);
    assert_eq!(count, 0);
    drop(first);
}

#[test]
fn an_insert_from_a_buffer_of_its_own_allocates_nothing() {
    let row = encode_tuple(&[Datum::Text(b"value")]).unwrap();
    let mut payload = BytesMut::new();
    Message::Insert(Insert {
        xid: None,
        relation: RelationId::new(1),
        new: row,
    })
    .encode(&mut payload)
    .unwrap();
    // Not yet shared: the first clone of this would allocate.
    let payload = Bytes::from(payload.to_vec());
    let mut decoder = Decoder::new(ProtocolVersion::V1);
    let (count, _, message) = measure(|| decoder.decode(payload).unwrap());
    assert!(matches!(message, Message::Insert(_)));
    assert_eq!(count, 0);
}

#[test]
fn a_copied_row_allocates_nothing() {
    let mut buffer = BytesMut::new();
    let mut lengths = Vec::new();
    for number in 0..ROWS {
        let start = buffer.len();
        if number == 0 {
            encode_copy_header(&mut buffer);
        }
        let row = [Datum::Binary(&[1; 8]), Datum::Null, Datum::Binary(b"text")];
        encode_copy_row(&mut buffer, &row).unwrap();
        // Every other message holds two rows.
        if number % 3 == 2 {
            encode_copy_row(&mut buffer, &row).unwrap();
        }
        lengths.push(buffer.len() - start);
    }
    encode_copy_trailer(&mut buffer);
    let first = buffer.split_to(0).freeze();
    let mut decoder = CopyBinaryDecoder::new(3);
    let (count, _, (rows, values)) = measure(|| {
        let (mut rows, mut values) = (0, 0);
        for len in lengths {
            decoder.push(buffer.split_to(len).freeze());
            while let Some(row) = decoder.next_row().unwrap() {
                rows += 1;
                values += consume(row.iter());
            }
        }
        (rows, values)
    });
    assert_eq!((rows, values), (ROWS + ROWS / 3, 12 * (ROWS + ROWS / 3)));
    assert_eq!(count, 0);
    decoder.push(buffer.freeze());
    assert_eq!(decoder.next_row(), Ok(None));
    assert_eq!(decoder.finish(), Ok(()));
    drop(first);
}

#[test]
fn a_claimed_count_or_length_allocates_nothing_of_that_size() {
    let huge = i32::MAX.to_be_bytes();
    let messages: [Vec<u8>; 5] = [
        [b"I\0\0\0\x01N\x7f\xffn".as_slice()].concat(),
        [b"I\0\0\0\x01N\0\x01t".as_slice(), &huge, b"abc"].concat(),
        [b"T".as_slice(), &huge, b"\0\0\0\0\x01"].concat(),
        [b"R\0\0\0\x01s\0t\0d\x7f\xff\0c\0\0\0\0\x17\xff\xff\xff\xff".as_slice()].concat(),
        [b"M\0\0\0\0\0\0\0\0\x01p\0".as_slice(), &huge, b"abc"].concat(),
    ];
    let mut decoder = Decoder::new(ProtocolVersion::V1);
    for message in messages {
        let message = Bytes::from(message);
        let (_, bytes, outcome) = measure(|| decoder.decode(message));
        assert!(outcome.is_err());
        assert!(bytes < 512, "{bytes} bytes for {outcome:?}");
    }

    for (header_extension, row) in [
        (huge, vec![]),
        ([0; 4], [b"\0\x01".as_slice(), &huge].concat()),
    ] {
        let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0".to_vec();
        data.extend(header_extension);
        data.extend(row);
        let data = Bytes::from(data);
        let mut decoder = CopyBinaryDecoder::new(1);
        let (_, bytes, outcome) = measure(|| {
            decoder.push(data);
            let first = decoder.next_row();
            decoder.push(Bytes::from_static(&[0; 10]));
            first.and(decoder.next_row())
        });
        assert_eq!(outcome, Ok(None));
        assert!(bytes < 512, "{bytes} bytes");
    }
}

#[test]
fn arrays_and_rows_allocate_only_what_is_escaped() {
    let text_array = br#"[0:1][1:2]={{a,"b c"},{NULL,d}}"#;
    let text_record = br#"(a,"b c",,d)"#;
    let binary_array = [
        &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 2, 0, 0, 0, 1][..],
        &[0, 0, 0, 1, b'a', 0xFF, 0xFF, 0xFF, 0xFF],
    ]
    .concat();
    let binary_record = [&[0, 0, 0, 1, 0, 0, 0, 25][..], &[0, 0, 0, 1, b'a']].concat();
    let (count, _, elements) = measure(|| {
        value::text::array(text_array, b',')
            .unwrap()
            .elements()
            .count()
            + value::text::record(text_record).unwrap().fields().count()
            + value::binary::array(&binary_array)
                .unwrap()
                .elements()
                .count()
            + value::binary::record(&binary_record)
                .unwrap()
                .fields()
                .count()
    });
    assert_eq!(elements, 4 + 4 + 2 + 1);
    assert_eq!(count, 0);

    // One part is escaped, and takes no more than it is long.
    let escaped = [b"{a,\"", "\\\"".repeat(500).as_bytes(), b"\"}"].concat();
    let (count, bytes, _) = measure(|| {
        value::text::array(&escaped, b',')
            .unwrap()
            .elements()
            .count()
    });
    assert_eq!((count, bytes), (1, 1000));
    let escaped = [b"(a,\"", "\"\"".repeat(500).as_bytes(), b"\")"].concat();
    let (count, bytes, _) = measure(|| value::text::record(&escaped).unwrap().fields().count());
    assert_eq!((count, bytes), (1, 1000));
}

#[test]
fn claimed_shapes_and_lengths_of_values_allocate_nothing() {
    let huge = [0x7F, 0xFF, 0xFF, 0xFF].repeat(15);
    // Six dimensions of the greatest length, and one element.
    let mut product = vec![0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 25];
    product.extend([0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0].repeat(6));
    product.extend([0xFF; 4]);
    let mut nested = vec![b'{'; 100_000];
    nested.extend(vec![b'}'; 100_000]);
    let mut dst = String::new();
    let (count, _, ()) = measure(|| {
        assert!(value::binary::array(&huge).is_err());
        assert!(value::binary::array(&product).is_err());
        assert!(value::binary::record(&huge).is_err());
        assert!(value::text::array(&nested, b',').is_err());
        assert!(value::text::array(b"[1:2147483646]={1}", b',').is_err());
        assert!(value::render::bit(&huge, &mut dst).is_err());
        assert!(value::render::varbit(&huge, &mut dst).is_err());
    });
    assert_eq!(count, 0);
}

#[test]
fn rendering_into_room_enough_allocates_nothing() {
    use value::render;
    let mut dst = String::with_capacity(4096);
    let (count, _, ()) = measure(|| {
        for number in [0, 1, -1, 7_723_456_789_012_345, 1_i64 << 62] {
            let raw = number.to_be_bytes();
            render::int8(&raw, &mut dst).unwrap();
            render::float8(&raw, &mut dst).unwrap();
            render::money(&raw, &mut dst).unwrap();
            render::pg_lsn(&raw, &mut dst).unwrap();
            render::bytea(&raw, &mut dst).unwrap();
            render::macaddr8(&raw, &mut dst).unwrap();
            let _ = render::timestamptz(&raw, &mut dst);
            let _ = render::time(&raw, &mut dst);
        }
        render::interval(&[1; 16], &mut dst).unwrap();
        render::uuid(&[1; 16], &mut dst).unwrap();
        render::array_element("a \"b", b',', &mut dst);
        render::record_field("a \"b", &mut dst);
    });
    assert_eq!(count, 0);
}
