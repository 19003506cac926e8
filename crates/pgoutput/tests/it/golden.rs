//! What real servers sent means what it should, and is encoded back to the same bytes.

use bytes::{Bytes, BytesMut};
use pgoutput::{
    CopyBinaryDecoder, Datum, Lsn, Message, OldTuple, PrimaryKeepalive, ProtocolVersion,
    RelationColumn, ReplicaIdentity, ReplicationFrame, StandbyStatusUpdate, Tuple,
    value::{binary as b, text as t},
};

use crate::data;

fn tags(messages: &[Message]) -> String {
    messages
        .iter()
        .map(|message| char::from(message.tag()))
        .collect()
}

fn texts(tuple: &Tuple) -> Vec<Option<&str>> {
    tuple
        .iter()
        .map(|datum| match datum {
            Datum::Null => None,
            Datum::UnchangedToast => Some("(unchanged)"),
            Datum::Text(raw) => Some(t::text(raw).unwrap()),
            Datum::Binary(_) => Some("(binary)"),
        })
        .collect()
}

#[test]
fn every_frame_and_message_is_encoded_back_to_the_same_bytes() {
    for (name, version) in data::STREAMS {
        for copy_data in data::copy_data(name) {
            let mut buffer = BytesMut::new();
            ReplicationFrame::decode(copy_data.clone())
                .unwrap()
                .encode(&mut buffer);
            assert_eq!(buffer, copy_data, "{name}");
        }
        let payloads = data::payloads(name);
        for (message, payload) in data::messages(name, version).iter().zip(payloads) {
            assert_eq!(data::encoded(message), payload, "{name}: {message:?}");
        }
    }
}

#[test]
fn the_streams_hold_what_the_scripts_did() {
    let tags_of = |name, version| tags(&data::messages(name, version));
    let version_1 = "BYRIIYRIRIIRICBUUUURIUMCMBODDDCBYRICBYRYRTC";
    assert_eq!(tags_of("v1_text", ProtocolVersion::V1), version_1);
    assert_eq!(tags_of("v1_binary", ProtocolVersion::V1), version_1);
    let two_phase = "BYRIYRIMDYRTCbIPKbIPr";
    assert_eq!(tags_of("v3_two_phase", ProtocolVersion::V3), two_phase);
    let streamed = tags_of("v2_streaming", ProtocolVersion::V2).replace("SE", "");
    assert_eq!(streamed, "SYRIESUEASYRIESMESYRDESYRTEcSYRIEASYRIEcSYRIEA");
    let parallel = tags_of("v4_parallel", ProtocolVersion::V4).replace("SE", "");
    assert_eq!(parallel, "SYRIESUEASYRIESMESYRDESYRTEcSYRIEASYRIEpKSYRIEpr");
}

#[test]
fn keepalives() {
    let keepalives: Vec<PrimaryKeepalive> = data::copy_data("v1_text")
        .into_iter()
        .filter_map(|frame| match ReplicationFrame::decode(frame).unwrap() {
            ReplicationFrame::PrimaryKeepalive(keepalive) => Some(keepalive),
            ReplicationFrame::XLogData(_) => None,
        })
        .collect();
    assert!(keepalives.len() >= 2);
    assert!(keepalives.is_sorted_by_key(|keepalive| (keepalive.wal_end, keepalive.server_time)));
    assert!(keepalives[0].wal_end > Lsn::ZERO);
    // The capture was made after 2020 and before 2100.
    let seconds = keepalives[0].server_time.unix_micros() / 1_000_000;
    assert!((1_577_836_800..4_102_444_800).contains(&seconds));
}

#[test]
fn begin_names_the_position_of_its_commit_and_ends_may_touch() {
    let messages = data::messages("v1_text", ProtocolVersion::V1);
    let mut begin = None;
    let mut transactions = 0;
    for message in &messages {
        match message {
            Message::Begin(message) => begin = Some(*message),
            Message::Commit(commit) => {
                let begin = begin.take().unwrap();
                assert_eq!(begin.final_lsn, commit.commit_lsn);
                assert_eq!(begin.commit_time, commit.commit_time);
                assert!(commit.commit_lsn < commit.end_lsn);
                assert_eq!(commit.flags, 0);
                transactions += 1;
            }
            _ => {}
        }
    }
    assert_eq!(transactions, 5);
}

#[test]
fn relations_and_types() {
    let messages = data::messages("v1_text", ProtocolVersion::V1);
    let relations: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            Message::Relation(relation) => Some(relation),
            _ => None,
        })
        .collect();
    let names: Vec<_> = relations
        .iter()
        .map(|relation| relation.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "customer",
            "invoice",
            "Log lines",
            "bare",
            "audit",
            "customer",
            "customer",
            "invoice"
        ]
    );
    assert!(
        relations
            .iter()
            .all(|relation| relation.namespace == "sales")
    );
    assert!(relations.iter().all(|relation| relation.xid.is_none()));
    let identities: Vec<_> = relations
        .iter()
        .take(5)
        .map(|relation| relation.replica_identity)
        .collect();
    assert_eq!(
        identities,
        [
            ReplicaIdentity::Default,
            ReplicaIdentity::Index,
            ReplicaIdentity::Nothing,
            ReplicaIdentity::Default,
            ReplicaIdentity::Full,
        ]
    );
    let invoice: Vec<_> = relations[1]
        .columns
        .iter()
        .map(|column| {
            (
                column.name.as_str(),
                column.is_key(),
                column.type_oid.get(),
                column.type_modifier,
            )
        })
        .collect();
    let Message::Type(status) = &messages[5] else {
        panic!("{:?}", messages[5])
    };
    assert_eq!(
        (status.namespace.as_str(), status.name.as_str()),
        ("sales", "status")
    );
    assert_eq!(
        invoice,
        [
            ("number", true, 23, -1),
            ("status", false, status.id.get(), -1),
            ("total", false, 1700, (12 << 16 | 2) + 4),
            ("made_at", false, 1184, -1),
            ("tags", false, 3802, -1),
            ("ref", false, 2950, -1),
        ]
    );
    assert!(relations[4].columns.iter().all(RelationColumn::is_key));
    // The base type of a domain is in pg_catalog, whose name is left out on the wire.
    let Message::Type(email) = &messages[1] else {
        panic!("{:?}", messages[1])
    };
    assert_eq!(
        (email.namespace.as_str(), email.name.as_str()),
        ("pg_catalog", "text")
    );
    assert_eq!(relations[0].columns[1].type_oid, email.id);
    assert_eq!(relations[5].columns.len(), relations[0].columns.len() + 1);
}

#[test]
fn rows_in_text() {
    let messages = data::messages("v1_text", ProtocolVersion::V1);
    let inserts: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            Message::Insert(insert) => Some(&insert.new),
            _ => None,
        })
        .collect();
    let notes = "n".repeat(3000);
    assert_eq!(
        texts(inserts[0]),
        [
            Some("1"),
            Some("ann@example.org"),
            Some(notes.as_str()),
            Some("\\x00ff10")
        ]
    );
    assert_eq!(
        texts(inserts[1]),
        [Some("2"), Some("bob@example.org"), None, None]
    );
    assert_eq!(
        texts(inserts[2]),
        [
            Some("10"),
            Some("open"),
            Some("12.50"),
            Some("2024-02-29 12:34:56.789+00"),
            Some("{\"a\": [1, null]}"),
            Some("6f1c6a0e-3a51-4b7e-9a55-0d2a1d3c9b10"),
        ]
    );
    assert_eq!(texts(inserts[3]), [Some("first")]);
    assert_eq!(texts(inserts[4]), [Some("")]);
    assert!(inserts[5].is_empty());

    let updates: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            Message::Update(update) => Some(update),
            _ => None,
        })
        .collect();
    assert_eq!(updates[0].old, None);
    assert_eq!(
        texts(&updates[0].new),
        [
            Some("1"),
            Some("ann@example.com"),
            Some("(unchanged)"),
            Some("\\x00ff10")
        ]
    );
    let Some(OldTuple::Key(old)) = &updates[1].old else {
        panic!("{:?}", updates[1])
    };
    assert_eq!(texts(old), [Some("2"), None, None, None]);
    assert_eq!(
        texts(&updates[1].new),
        [Some("3"), Some("bob@example.org"), None, None]
    );
    assert_eq!(updates[2].old, None);
    let Some(OldTuple::Key(old)) = &updates[3].old else {
        panic!("{:?}", updates[3])
    };
    assert_eq!(texts(old), [Some("10"), None, None, None, None, None]);
    let Some(OldTuple::Full(old)) = &updates[4].old else {
        panic!("{:?}", updates[4])
    };
    assert_eq!(
        texts(old),
        [Some("ann"), Some("2024-01-01 00:00:00"), Some("{\"k\":1}")]
    );
    assert_eq!(
        texts(&updates[4].new),
        [Some("ann"), Some("2024-01-01 00:00:00"), None]
    );

    let deletes: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            Message::Delete(delete) => Some(&delete.old),
            _ => None,
        })
        .collect();
    assert!(matches!(
        deletes.as_slice(),
        [OldTuple::Key(_), OldTuple::Key(_), OldTuple::Full(_)]
    ));
    assert_eq!(
        texts(deletes[2].tuple()),
        [Some("ann"), Some("2024-01-01 00:00:00"), None]
    );
}

#[test]
fn rows_in_binary_hold_the_values_of_those_in_text() {
    let rows = |name| -> Vec<Tuple> {
        data::messages(name, ProtocolVersion::V1)
            .into_iter()
            .filter_map(|message| match message {
                Message::Insert(insert) => Some(insert.new),
                _ => None,
            })
            .collect()
    };
    let (text, binary) = (rows("v1_text"), rows("v1_binary"));
    let (text, binary): (Vec<_>, Vec<_>) = (text[2].iter().collect(), binary[2].iter().collect());
    let pairs: Vec<_> = text
        .iter()
        .zip(&binary)
        .map(|pair| match pair {
            (Datum::Text(text), Datum::Binary(binary)) => (*text, *binary),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(t::int4(pairs[0].0), b::int4(pairs[0].1));
    assert_eq!(t::text(pairs[1].0), b::text(pairs[1].1));
    assert_eq!(t::numeric(pairs[2].0, 12, 2), Ok(1250));
    assert_eq!(b::numeric(pairs[2].1, 12, 2), Ok(1250));
    assert_eq!(t::timestamptz(pairs[3].0), b::timestamptz(pairs[3].1));
    assert_eq!(t::jsonb(pairs[4].0), b::jsonb(pairs[4].1));
    assert_eq!(t::uuid(pairs[5].0), b::uuid(pairs[5].1));
}

#[test]
fn origin_message_and_truncate() {
    let messages = data::messages("v1_text", ProtocolVersion::V1);
    let origin = messages.iter().find_map(|message| match message {
        Message::Origin(origin) => Some(origin),
        _ => None,
    });
    let origin = origin.unwrap();
    assert_eq!(origin.name, "elsewhere");
    assert_eq!(origin.commit_lsn, Lsn::new(0x00AB_CDEF));

    let emitted: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            Message::Message(m) => Some((m.transactional, m.prefix.as_str(), &m.content[..])),
            _ => None,
        })
        .collect();
    assert_eq!(
        emitted,
        [
            (true, "shop", b"inside the transaction".as_slice()),
            (false, "shop", b"outside".as_slice()),
        ]
    );

    let relation_ids: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            Message::Relation(relation) => Some(relation.id),
            _ => None,
        })
        .collect();
    let Message::Truncate(truncate) = &messages[messages.len() - 2] else {
        panic!()
    };
    assert!(truncate.cascade && truncate.restart_identity);
    assert_eq!(truncate.relations().len(), 2);
    assert!(
        truncate
            .relations()
            .eq(relation_ids[relation_ids.len() - 2..].iter().copied())
    );
}

#[test]
fn streamed_messages_carry_their_transaction_or_subtransaction() {
    for (name, version, with_info) in [
        ("v2_streaming", ProtocolVersion::V2, false),
        ("v4_parallel", ProtocolVersion::V4, true),
    ] {
        let mut open = None;
        let mut first_segments = 0;
        // Of the first transaction: the id of each change, and what was rolled back.
        let mut changes = Vec::new();
        let mut aborted = None;
        for message in data::messages(name, version) {
            let xid = match &message {
                Message::StreamStart(start) => {
                    assert_eq!(open, None);
                    open = Some(start.xid);
                    first_segments += usize::from(start.first_segment);
                    continue;
                }
                Message::StreamStop => {
                    open = None;
                    continue;
                }
                Message::StreamAbort(abort) => {
                    assert_eq!(abort.abort.is_some(), with_info, "{name}");
                    if abort.xid != abort.subxid {
                        assert_eq!(aborted.replace(abort.subxid), None);
                    }
                    continue;
                }
                Message::Relation(message) => message.xid,
                Message::Type(message) => message.xid,
                Message::Insert(message) => message.xid,
                Message::Update(message) => message.xid,
                Message::Delete(message) => message.xid,
                Message::Truncate(message) => message.xid,
                Message::Message(message) => message.xid,
                _ => continue,
            };
            assert!(open.is_some() && xid.is_some(), "{name}: {message:?}");
            if first_segments == 1 {
                changes.push((char::from(message.tag()), xid == open, xid));
            }
        }
        assert_eq!(first_segments, 4, "{name}");
        let update = changes.iter().find(|(tag, ..)| *tag == 'U').unwrap();
        assert_eq!(update.2, aborted, "{name}");
        let insert = changes.iter().find(|(tag, ..)| *tag == 'I').unwrap();
        assert!(insert.1, "{name}");
        // After the rollback to the savepoint a second subtransaction goes on.
        let delete = changes.iter().find(|(tag, ..)| *tag == 'D').unwrap();
        assert!(!delete.1 && delete.2 != aborted, "{name}");
    }
}

#[test]
fn prepared_transactions() {
    let gids: Vec<_> = data::messages("v3_two_phase", ProtocolVersion::V3)
        .into_iter()
        .filter_map(|message| match message {
            Message::BeginPrepare(m) => Some(('b', m.gid, m.prepare_lsn < m.end_lsn)),
            Message::Prepare(m) => Some(('P', m.gid, m.prepare_lsn < m.end_lsn)),
            Message::CommitPrepared(m) => Some(('K', m.gid, m.commit_lsn < m.end_lsn)),
            Message::RollbackPrepared(m) => {
                let ordered =
                    m.prepare_end_lsn < m.rollback_end_lsn && m.prepare_time <= m.rollback_time;
                Some(('r', m.gid, ordered))
            }
            _ => None,
        })
        .collect();
    let expected = [
        ('b', "first of two"),
        ('P', "first of two"),
        ('K', "first of two"),
        ('b', "second of two"),
        ('P', "second of two"),
        ('r', "second of two"),
    ];
    assert_eq!(gids, expected.map(|(tag, gid)| (tag, gid.to_owned(), true)));
}

#[test]
fn status_update_by_hand() {
    let update = StandbyStatusUpdate {
        written: Lsn::new(0x0102_0304_0506_0708),
        flushed: Lsn::new(2),
        applied: Lsn::new(3),
        client_time: pgoutput::PgTimestamp::from_pg_micros(-1),
        reply_requested: true,
    };
    let mut buffer = BytesMut::new();
    update.encode(&mut buffer);
    let mut expected = b"r\x01\x02\x03\x04\x05\x06\x07\x08".to_vec();
    expected.extend(2_u64.to_be_bytes());
    expected.extend(3_u64.to_be_bytes());
    expected.extend([0xFF; 8]);
    expected.push(1);
    assert_eq!(buffer, expected);
    assert_eq!(StandbyStatusUpdate::decode(buffer.freeze()), Ok(update));
}

#[test]
fn rows_of_a_binary_copy() {
    let mut decoder = CopyBinaryDecoder::new(16);
    let mut rows = Vec::new();
    for message in data::copy_data("copy_binary") {
        decoder.push(message);
        while let Some(row) = decoder.next_row().unwrap() {
            rows.push(row);
        }
    }
    decoder.finish().unwrap();
    let raw = |row: usize| -> Vec<Option<Bytes>> {
        rows[row]
            .iter()
            .map(|datum| match datum {
                Datum::Null => None,
                Datum::Binary(raw) => Some(Bytes::copy_from_slice(raw)),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(rows.len(), 4);
    let first: Vec<Bytes> = raw(0).into_iter().map(Option::unwrap).collect();
    assert_eq!(b::bool(&first[0]), Ok(true));
    assert_eq!(b::int2(&first[1]), Ok(1));
    assert_eq!(b::int4(&first[2]), Ok(2));
    assert_eq!(b::int8(&first[3]), Ok(3));
    assert_eq!(b::float4(&first[4]), Ok(1.5));
    assert_eq!(b::float8(&first[5]), Ok(-2.25));
    assert_eq!(b::numeric(&first[6], 12, 2), Ok(1250));
    assert_eq!(b::text(&first[7]), Ok("hello"));
    assert_eq!(b::bytea(&first[8]), b"\x00\xff");
    assert_eq!(b::date(&first[9]), Ok(19_782));
    assert_eq!(b::time(&first[10]), Ok(45_296_000_000));
    assert_eq!(b::timestamp(&first[11]), Ok(1_709_210_096_500_000));
    assert_eq!(b::timestamptz(&first[12]), Ok(1_709_210_096_500_000));
    assert_eq!(b::uuid(&first[13]).map(|uuid| uuid[0]), Ok(0x6f));
    assert_eq!(b::json(&first[14]), Ok("{\"a\":1}"));
    assert_eq!(b::jsonb(&first[15]), Ok("{\"a\": 1}"));
    let texts: Vec<_> = (1..4)
        .map(|row| raw(row)[7].clone().map(|text| text.len()))
        .collect();
    assert_eq!(texts, [Some(0), None, Some(500)]);
    assert_eq!(raw(2), vec![None; 16]);
}
