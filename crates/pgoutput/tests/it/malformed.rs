//! Cut off, changed and random input: an error that names the place, never a panic.

use bytes::Bytes;
use pgoutput::{
    CopyBinaryDecoder, DecodeErrorKind, Decoder, Message, PrimaryKeepalive, ProtocolVersion,
    ReplicationFrame, StandbyStatusUpdate, StreamAbort, value,
};
use proptest::prelude::*;

use crate::data;

/// Cuts `message` at every place. What is left must be refused, at a place within it.
fn refuse_all_prefixes(decoder: &Decoder, bytes: &Bytes, message: &Message) {
    for len in 0..bytes.len() {
        let prefix = bytes.slice(..len);
        match decoder.clone().decode(prefix) {
            Err(error) => {
                assert!(
                    matches!(
                        error.kind(),
                        DecodeErrorKind::Truncated | DecodeErrorKind::Unterminated
                    ),
                    "{message:?} cut at {len}: {error}"
                );
                assert!(error.offset() <= len, "{message:?} cut at {len}: {error}");
                assert_eq!(
                    error.tag(),
                    bytes.get(..len).and_then(|b| b.first().copied())
                );
            }
            // An abort without its information is complete.
            Ok(Message::StreamAbort(StreamAbort { abort: None, .. })) => assert_eq!(len, 9),
            Ok(other) => panic!("{message:?} cut at {len} became {other:?}"),
        }
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(
        decoder.clone().decode(Bytes::from(longer)).is_err(),
        "{message:?} with a byte more"
    );
}

#[test]
fn truncation_at_every_offset_of_every_message() {
    for (in_stream, message) in data::samples() {
        refuse_all_prefixes(
            &data::decoder(in_stream),
            &data::encoded(&message),
            &message,
        );
    }
}

#[test]
fn truncation_at_every_offset_of_every_recorded_message() {
    for (name, version) in data::STREAMS {
        let mut decoder = Decoder::new(version);
        for payload in data::payloads(name) {
            let before = decoder.clone();
            let message = decoder.decode(payload.clone()).unwrap();
            refuse_all_prefixes(&before, &payload, &message);
        }
    }
}

#[test]
fn truncation_at_every_offset_of_every_frame() {
    for copy_data in data::copy_data("v1_text") {
        let header = if copy_data[0] == b'w' { 25 } else { 18 };
        for len in 0..header {
            let error = ReplicationFrame::decode(copy_data.slice(..len)).unwrap_err();
            assert_eq!(error.kind(), DecodeErrorKind::Truncated);
            assert!(error.offset() <= len);
        }
    }
    let mut status = bytes::BytesMut::new();
    StandbyStatusUpdate {
        written: pgoutput::Lsn::MAX,
        flushed: pgoutput::Lsn::ZERO,
        applied: pgoutput::Lsn::ZERO,
        client_time: pgoutput::PgTimestamp::default(),
        reply_requested: false,
    }
    .encode(&mut status);
    let status = status.freeze();
    for len in 0..status.len() {
        assert!(StandbyStatusUpdate::decode(status.slice(..len)).is_err());
    }
}

/// Everything that can be done with a message.
fn walk(message: &Message) {
    let tuples = match message {
        Message::Insert(insert) => vec![&insert.new],
        Message::Update(update) => {
            let old = update.old.as_ref().map(pgoutput::OldTuple::tuple);
            old.into_iter().chain([&update.new]).collect()
        }
        Message::Delete(delete) => vec![delete.old.tuple()],
        Message::Truncate(truncate) => {
            assert_eq!(truncate.relations().count(), truncate.relations().len());
            vec![]
        }
        _ => vec![],
    };
    for tuple in tuples {
        assert_eq!(tuple.iter().count(), tuple.len());
    }
    assert!(!format!("{message:?}").is_empty());
}

/// What is accepted must be encoded back to the same bytes: nothing is ignored.
fn decode_is_faithful(decoder: &Decoder, bytes: &Bytes) {
    if let Ok(message) = decoder.clone().decode(bytes.clone()) {
        walk(&message);
        assert_eq!(&data::encoded(&message), bytes, "{message:?}");
    }
}

#[test]
fn every_change_of_every_byte_is_refused_or_understood() {
    for (name, version) in data::STREAMS {
        let mut decoder = Decoder::new(version);
        for payload in data::payloads(name) {
            let before = decoder.clone();
            decoder.decode(payload.clone()).unwrap();
            // The long value of the first row would take minutes and tell nothing.
            for position in (0..payload.len()).filter(|position| *position < 200) {
                for value in [
                    0x00,
                    0x01,
                    0x7F,
                    0x80,
                    0xFF,
                    b'n',
                    b'N',
                    payload[position] ^ 0x20,
                ] {
                    let mut mutated = payload.to_vec();
                    mutated[position] = value;
                    decode_is_faithful(&before, &Bytes::from(mutated));
                }
            }
        }
    }
}

#[test]
fn counts_and_lengths_that_lie() {
    use DecodeErrorKind::{Negative, Truncated};
    let mut version_1 = Decoder::new(ProtocolVersion::V1);
    let mut kind = |bytes: &[u8]| {
        let error = version_1.decode(Bytes::copy_from_slice(bytes)).unwrap_err();
        (error.kind(), error.field(), error.offset())
    };
    // Column counts of rows.
    assert_eq!(kind(b"I\0\0\0\x01N\xff\xff"), (Negative, "column count", 6));
    assert_eq!(kind(b"I\0\0\0\x01N\x7f\xff"), (Truncated, "column kind", 8));
    // Value lengths.
    assert_eq!(
        kind(b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff"),
        (Negative, "column length", 9)
    );
    assert_eq!(
        kind(b"I\0\0\0\x01N\0\x02nt\x7f\xff\xff\xffabc"),
        (Truncated, "column value", 14)
    );
    assert_eq!(
        kind(b"I\0\0\0\x01N\0\x01x"),
        (DecodeErrorKind::UnknownValue, "column kind", 8)
    );
    // Relations of a truncation.
    assert_eq!(
        kind(b"T\xff\xff\xff\xff\0"),
        (Negative, "relation count", 1)
    );
    assert_eq!(
        kind(b"T\x7f\xff\xff\xff\0\0\0\0\x01"),
        (Truncated, "relation list", 6)
    );
    // Columns of a relation.
    assert_eq!(
        kind(b"R\0\0\0\x01s\0t\0d\x7f\xff"),
        (Truncated, "column flags", 12)
    );
    assert_eq!(
        kind(b"R\0\0\0\x01s\0t\0d\x80\0"),
        (Negative, "column count", 10)
    );
    // Content of a message.
    let mut message = b"M\x01\0\0\0\0\0\0\0\x01p\0".to_vec();
    message.extend(i32::MIN.to_be_bytes());
    assert_eq!(kind(&message), (Negative, "content length", 12));
}

#[test]
fn unknown_flags_are_refused() {
    let mut decoder = Decoder::new(ProtocolVersion::V1);
    for (bytes, field) in [
        (b"T\0\0\0\0\x04".as_slice(), "flags"),
        (b"M\x02\0\0\0\0\0\0\0\x01p\0\0\0\0\0", "flags"),
        (b"R\0\0\0\x01s\0t\0x\0\0", "replica identity"),
        (b"D\0\0\0\x01N\0\0", "row kind"),
        (b"U\0\0\0\x01K\0\0K\0\0", "row kind"),
    ] {
        let error = decoder.decode(Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(
            (error.kind(), error.field()),
            (DecodeErrorKind::UnknownValue, field)
        );
    }
    let mut keepalive = bytes::BytesMut::new();
    ReplicationFrame::PrimaryKeepalive(PrimaryKeepalive {
        wal_end: pgoutput::Lsn::ZERO,
        server_time: pgoutput::PgTimestamp::default(),
        reply_requested: false,
    })
    .encode(&mut keepalive);
    *keepalive.last_mut().unwrap() = 2;
    let error = ReplicationFrame::decode(keepalive.freeze()).unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (DecodeErrorKind::UnknownValue, 17)
    );
}

#[test]
fn names_must_be_utf8() {
    let mut decoder = Decoder::new(ProtocolVersion::V1);
    let error = decoder
        .decode(Bytes::from_static(b"O\0\0\0\0\0\0\0\x01a\xff\0"))
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (DecodeErrorKind::InvalidUtf8, 9)
    );
    assert_eq!(
        error.to_string(),
        "cannot decode replication data of type 'O': origin name is not valid UTF-8 at byte 9"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_messages(
        tag in prop::sample::select(b"BCORYIUDTMSEcAbPKrpX".to_vec()),
        body in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..80),
        in_stream: bool,
    ) {
        let mut bytes = vec![tag];
        bytes.extend(body);
        decode_is_faithful(&data::decoder(in_stream), &Bytes::from(bytes));
    }

    #[test]
    fn random_frames(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let bytes = Bytes::from(bytes);
        let _ = ReplicationFrame::decode(bytes.clone());
        let _ = StandbyStatusUpdate::decode(bytes);
    }

    #[test]
    fn random_copy_data(
        header: bool,
        chunks in prop::collection::vec(
            prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xFF), any::<u8>()], 0..20),
            0..8,
        ),
        columns in 0_usize..3,
    ) {
        let mut decoder = CopyBinaryDecoder::new(columns);
        if header {
            decoder.push(Bytes::from_static(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"));
        }
        let mut failed = None;
        for chunk in chunks {
            decoder.push(Bytes::from(chunk));
            loop {
                match decoder.next_row() {
                    Ok(Some(row)) => {
                        prop_assert!(failed.is_none());
                        prop_assert_eq!(row.iter().count(), columns);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        // An error is final.
                        prop_assert_eq!(*failed.get_or_insert(error), error);
                        break;
                    }
                }
            }
        }
        if let Some(error) = failed {
            prop_assert_eq!(decoder.finish(), Err(error));
        }
    }

    #[test]
    fn random_values(
        raw in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            prop::collection::vec(prop::sample::select(b"0123456789-+:. BCxe\\".to_vec()), 0..40),
            prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xFF)], 0..20),
        ],
        precision: u8,
        scale: u8,
    ) {
        let mut bytes = b"kept".to_vec();
        let mut text = "kept".to_owned();
        let mut intact = true;
        {
            use value::text as t;
            let _ = (t::bool(&raw), t::int2(&raw), t::int4(&raw), t::int8(&raw), t::oid(&raw));
            let _ = (t::float4(&raw), t::float8(&raw), t::numeric(&raw, precision, scale));
            let _ = (t::date(&raw), t::time(&raw), t::timestamp(&raw), t::timestamptz(&raw));
            let _ = (t::uuid(&raw), t::text(&raw), t::json(&raw), t::jsonb(&raw));
            intact &= t::bytea(&raw, &mut bytes).is_ok() || bytes == b"kept";
            intact &= t::numeric_text(&raw, &mut text).is_ok() || text == "kept";
        }
        text.truncate(4);
        {
            use value::binary as b;
            let _ = (b::bool(&raw), b::int2(&raw), b::int4(&raw), b::int8(&raw), b::oid(&raw));
            let _ = (b::float4(&raw), b::float8(&raw), b::numeric(&raw, precision, scale));
            let _ = (b::date(&raw), b::time(&raw), b::timestamp(&raw), b::timestamptz(&raw));
            let _ = (b::uuid(&raw), b::text(&raw), b::json(&raw), b::jsonb(&raw), b::bytea(&raw));
            intact &= b::numeric_text(&raw, &mut text).is_ok() || text == "kept";
        }
        prop_assert!(intact && bytes.starts_with(b"kept") && text.starts_with("kept"));
    }
}
