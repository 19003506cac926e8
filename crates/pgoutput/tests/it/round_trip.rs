//! What is encoded is decoded to the same: every message, with any content.

use bytes::{Bytes, BytesMut};
use pgoutput::{
    AbortInfo, Begin, BeginPrepare, Commit, CommitPrepared, Datum, Delete, EncodeError, Insert,
    LogicalMessage, Lsn, Message, Oid, OldTuple, Origin, PgTimestamp, Prepare, PrimaryKeepalive,
    Relation, RelationColumn, RelationId, ReplicaIdentity, ReplicationFrame, RollbackPrepared,
    StandbyStatusUpdate, StreamAbort, StreamCommit, StreamPrepare, StreamStart, Truncate, Tuple,
    TupleBuilder, Type, Update, XLogData, Xid, encode_tuple,
};
use proptest::prelude::*;

use crate::data;

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    Unchanged,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

impl Value {
    fn datum(&self) -> Datum<'_> {
        match self {
            Self::Null => Datum::Null,
            Self::Unchanged => Datum::UnchangedToast,
            Self::Text(bytes) => Datum::Text(bytes),
            Self::Binary(bytes) => Datum::Binary(bytes),
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..30)
}

fn values() -> impl Strategy<Value = Vec<Value>> {
    let value = prop_oneof![
        Just(Value::Null),
        Just(Value::Unchanged),
        bytes().prop_map(Value::Text),
        bytes().prop_map(Value::Binary),
    ];
    prop::collection::vec(value, 0..12)
}

fn tuple() -> impl Strategy<Value = Tuple> {
    values().prop_map(|values| {
        let datums: Vec<_> = values.iter().map(Value::datum).collect();
        encode_tuple(&datums).unwrap()
    })
}

fn old_tuple() -> impl Strategy<Value = OldTuple> {
    prop_oneof![
        tuple().prop_map(OldTuple::Key),
        tuple().prop_map(OldTuple::Full)
    ]
}

fn lsn() -> impl Strategy<Value = Lsn> {
    any::<u64>().prop_map(Lsn::new)
}

fn time() -> impl Strategy<Value = PgTimestamp> {
    any::<i64>().prop_map(PgTimestamp::from_pg_micros)
}

fn xid() -> impl Strategy<Value = Xid> {
    any::<u32>().prop_map(Xid::new)
}

fn string() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', ""))
}

/// An empty namespace means `pg_catalog`, so it does not come back as such.
fn namespace() -> impl Strategy<Value = String> {
    string().prop_map(|text| {
        if text.is_empty() {
            "pg_catalog".to_owned()
        } else {
            text
        }
    })
}

fn identity() -> impl Strategy<Value = ReplicaIdentity> {
    prop::sample::select(vec![
        ReplicaIdentity::Default,
        ReplicaIdentity::Nothing,
        ReplicaIdentity::Full,
        ReplicaIdentity::Index,
    ])
}

fn relation(xid: Option<Xid>) -> impl Strategy<Value = Message> {
    let column = (any::<u8>(), string(), any::<u32>(), any::<i32>()).prop_map(
        |(flags, name, type_oid, type_modifier)| RelationColumn {
            flags,
            name,
            type_oid: Oid::new(type_oid),
            type_modifier,
        },
    );
    let columns = prop::collection::vec(column, 0..8);
    (any::<u32>(), namespace(), string(), identity(), columns).prop_map(
        move |(id, namespace, name, replica_identity, columns)| {
            Message::Relation(Relation {
                xid,
                id: RelationId::new(id),
                namespace,
                name,
                replica_identity,
                columns,
            })
        },
    )
}

/// Messages that carry a transaction id inside a stream block.
fn change(xid: Option<Xid>) -> impl Strategy<Value = Message> {
    let id = || any::<u32>().prop_map(RelationId::new);
    let typ = (any::<u32>(), namespace(), string()).prop_map(move |(id, namespace, name)| {
        Message::Type(Type {
            xid,
            id: Oid::new(id),
            namespace,
            name,
        })
    });
    let insert = (id(), tuple())
        .prop_map(move |(relation, new)| Message::Insert(Insert { xid, relation, new }));
    let update =
        (id(), prop::option::of(old_tuple()), tuple()).prop_map(move |(relation, old, new)| {
            Message::Update(Update {
                xid,
                relation,
                old,
                new,
            })
        });
    let delete = (id(), old_tuple())
        .prop_map(move |(relation, old)| Message::Delete(Delete { xid, relation, old }));
    let truncate = (
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(id(), 0..6),
    )
        .prop_map(move |(cascade, restart, relations)| {
            Message::Truncate(Truncate::new(xid, cascade, restart, &relations).unwrap())
        });
    let message = (any::<bool>(), lsn(), string(), bytes()).prop_map(
        move |(transactional, lsn, prefix, content)| {
            let content = Bytes::from(content);
            Message::Message(LogicalMessage {
                xid,
                transactional,
                lsn,
                prefix,
                content,
            })
        },
    );
    prop_oneof![
        relation(xid),
        typ,
        insert,
        update,
        delete,
        truncate,
        message
    ]
}

fn transaction() -> impl Strategy<Value = Message> {
    prop_oneof![
        (lsn(), time(), xid()).prop_map(|(final_lsn, commit_time, xid)| {
            Message::Begin(Begin {
                final_lsn,
                commit_time,
                xid,
            })
        }),
        (any::<u8>(), lsn(), lsn(), time()).prop_map(
            |(flags, commit_lsn, end_lsn, commit_time)| {
                Message::Commit(Commit {
                    flags,
                    commit_lsn,
                    end_lsn,
                    commit_time,
                })
            }
        ),
        (xid(), any::<bool>()).prop_map(|(xid, first_segment)| {
            Message::StreamStart(StreamStart { xid, first_segment })
        }),
        (xid(), any::<u8>(), lsn(), lsn(), time()).prop_map(
            |(xid, flags, commit_lsn, end_lsn, commit_time)| {
                Message::StreamCommit(StreamCommit {
                    xid,
                    flags,
                    commit_lsn,
                    end_lsn,
                    commit_time,
                })
            }
        ),
        (xid(), xid(), prop::option::of((lsn(), time()))).prop_map(|(xid, subxid, abort)| {
            let abort = abort.map(|(lsn, time)| AbortInfo { lsn, time });
            Message::StreamAbort(StreamAbort { xid, subxid, abort })
        }),
    ]
}

fn two_phase() -> impl Strategy<Value = Message> {
    (
        any::<u8>(),
        lsn(),
        lsn(),
        time(),
        time(),
        xid(),
        string(),
        0..5,
    )
        .prop_map(
            |(flags, first, second, time, later, xid, gid, kind)| match kind {
                0 => Message::BeginPrepare(BeginPrepare {
                    prepare_lsn: first,
                    end_lsn: second,
                    prepare_time: time,
                    xid,
                    gid,
                }),
                1 => Message::Prepare(Prepare {
                    flags,
                    prepare_lsn: first,
                    end_lsn: second,
                    prepare_time: time,
                    xid,
                    gid,
                }),
                2 => Message::StreamPrepare(StreamPrepare {
                    flags,
                    prepare_lsn: first,
                    end_lsn: second,
                    prepare_time: time,
                    xid,
                    gid,
                }),
                3 => Message::CommitPrepared(CommitPrepared {
                    flags,
                    commit_lsn: first,
                    end_lsn: second,
                    commit_time: time,
                    xid,
                    gid,
                }),
                _ => Message::RollbackPrepared(RollbackPrepared {
                    flags,
                    prepare_end_lsn: first,
                    rollback_end_lsn: second,
                    prepare_time: time,
                    rollback_time: later,
                    xid,
                    gid,
                }),
            },
        )
}

fn origin() -> impl Strategy<Value = Message> {
    (lsn(), string()).prop_map(|(commit_lsn, name)| Message::Origin(Origin { commit_lsn, name }))
}

proptest! {
    #[test]
    fn outside_a_stream_block(
        message in prop_oneof![4 => change(None), 2 => transaction(), 2 => two_phase(), 1 => origin()]
    ) {
        let decoded = data::decoder(false).decode(data::encoded(&message));
        prop_assert_eq!(decoded, Ok(message));
    }

    #[test]
    fn inside_a_stream_block(
        message in xid().prop_flat_map(|xid| {
            prop_oneof![8 => change(Some(xid)), 1 => origin(), 1 => Just(Message::StreamStop)]
        })
    ) {
        let decoded = data::decoder(true).decode(data::encoded(&message));
        prop_assert_eq!(decoded, Ok(message));
    }

    #[test]
    fn tuples(values in values()) {
        let datums: Vec<_> = values.iter().map(Value::datum).collect();
        let tuple = encode_tuple(&datums).unwrap();
        prop_assert_eq!(tuple.len(), datums.len());
        prop_assert_eq!(tuple.is_empty(), datums.is_empty());
        prop_assert!(tuple.iter().eq(datums.iter().copied()));
        let left: Vec<_> = std::iter::successors(Some(tuple.iter()), |iter| {
            let mut iter = iter.clone();
            iter.next().map(|_| iter)
        })
        .map(|iter| iter.len())
        .collect();
        prop_assert!(left.into_iter().rev().eq(0..=datums.len()));
        let expected_len: usize = values
            .iter()
            .map(|value| match value {
                Value::Null | Value::Unchanged => 1,
                Value::Text(bytes) | Value::Binary(bytes) => 5 + bytes.len(),
            })
            .sum();
        prop_assert_eq!(tuple.wire_len(), expected_len + 2);
    }

    #[test]
    fn frames(
        wal_start in lsn(), wal_end in lsn(), server_time in time(), payload in bytes(),
        reply_requested: bool,
    ) {
        let payload = Bytes::from(payload);
        for frame in [
            ReplicationFrame::XLogData(XLogData { wal_start, wal_end, server_time, payload }),
            ReplicationFrame::PrimaryKeepalive(PrimaryKeepalive {
                wal_end,
                server_time,
                reply_requested,
            }),
        ] {
            let mut buffer = BytesMut::new();
            frame.encode(&mut buffer);
            prop_assert_eq!(ReplicationFrame::decode(buffer.freeze()), Ok(frame));
        }
    }

    #[test]
    fn status_updates(
        written in lsn(), flushed in lsn(), applied in lsn(), client_time in time(),
        reply_requested: bool,
    ) {
        let update = StandbyStatusUpdate { written, flushed, applied, client_time, reply_requested };
        let mut buffer = BytesMut::new();
        update.encode(&mut buffer);
        prop_assert_eq!(StandbyStatusUpdate::decode(buffer.freeze()), Ok(update));
    }
}

#[test]
fn what_the_wire_cannot_hold_is_refused_and_leaves_no_trace() {
    let mut buffer = BytesMut::from(&b"before"[..]);
    let origin = Message::Origin(Origin {
        commit_lsn: Lsn::ZERO,
        name: "a\0b".to_owned(),
    });
    assert_eq!(
        origin.encode(&mut buffer),
        Err(EncodeError::ZeroByte("origin name"))
    );
    assert_eq!(buffer, b"before"[..]);

    let mut builder = TupleBuilder::new();
    for _ in 0..i16::MAX {
        builder.push(Datum::Null).unwrap();
    }
    assert_eq!(builder.push(Datum::Null), Err(EncodeError::TooMany("row")));
    let tuple = builder.finish();
    assert_eq!(tuple.len(), 32_767);
    assert_eq!(tuple.wire_len(), 32_769);
}

#[test]
fn debug_output_holds_no_values() {
    let secret = b"hunter2";
    let tuple = encode_tuple(&[Datum::Text(secret), Datum::Binary(secret)]).unwrap();
    let mut shown = format!("{:?} {:?}", tuple, tuple.iter().collect::<Vec<_>>());
    let insert = Message::Insert(Insert {
        xid: None,
        relation: RelationId::new(1),
        new: tuple,
    });
    shown += &format!("{insert:?}");
    let message = Message::Message(LogicalMessage {
        xid: None,
        transactional: false,
        lsn: Lsn::ZERO,
        prefix: "p".to_owned(),
        content: Bytes::from_static(secret),
    });
    shown += &format!("{message:?}");
    let frame = ReplicationFrame::XLogData(XLogData {
        wal_start: Lsn::ZERO,
        wal_end: Lsn::ZERO,
        server_time: PgTimestamp::default(),
        payload: data::encoded(&insert),
    });
    shown += &format!("{frame:?}");
    let mut decoder = pgoutput::CopyBinaryDecoder::new(1);
    decoder.push(Bytes::from_static(secret));
    shown += &format!("{decoder:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("Text(7 bytes)"), "{shown}");
}
