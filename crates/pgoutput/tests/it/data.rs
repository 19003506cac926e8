//! The recorded files, and one sample of every message.

use bytes::{Buf, Bytes, BytesMut};
use pgoutput::{
    AbortInfo, Begin, BeginPrepare, Commit, CommitPrepared, Datum, Decoder, Delete, Insert,
    LogicalMessage, Lsn, Message, Oid, OldTuple, Origin, PgTimestamp, Prepare, ProtocolVersion,
    Relation, RelationColumn, RelationId, ReplicaIdentity, ReplicationFrame, RollbackPrepared,
    StreamAbort, StreamCommit, StreamPrepare, StreamStart, Truncate, Type, Update, Xid,
    encode_tuple,
};

pub(crate) const STREAMS: [(&str, ProtocolVersion); 5] = [
    ("v1_text", ProtocolVersion::V1),
    ("v1_binary", ProtocolVersion::V1),
    ("v2_streaming", ProtocolVersion::V2),
    ("v3_two_phase", ProtocolVersion::V3),
    ("v4_parallel", ProtocolVersion::V4),
];

pub(crate) fn read(file: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// The contents of the CopyData messages of a capture.
pub(crate) fn copy_data(name: &str) -> Vec<Bytes> {
    let mut rest = Bytes::from(read(&format!("{name}.capture")));
    let mut messages = Vec::new();
    while rest.has_remaining() {
        let len = usize::try_from(rest.get_u32()).unwrap();
        messages.push(rest.split_to(len));
    }
    messages
}

/// The logical messages of a capture.
pub(crate) fn payloads(name: &str) -> Vec<Bytes> {
    copy_data(name)
        .into_iter()
        .filter_map(|frame| match ReplicationFrame::decode(frame).unwrap() {
            ReplicationFrame::XLogData(data) => Some(data.payload),
            ReplicationFrame::PrimaryKeepalive(_) => None,
        })
        .collect()
}

pub(crate) fn messages(name: &str, version: ProtocolVersion) -> Vec<Message> {
    let mut decoder = Decoder::new(version);
    payloads(name)
        .into_iter()
        .map(|payload| decoder.decode(payload).unwrap())
        .collect()
}

pub(crate) fn encoded(message: &Message) -> Bytes {
    let mut buffer = BytesMut::new();
    message.encode(&mut buffer).unwrap();
    buffer.freeze()
}

/// A decoder of the highest version, inside a stream block or not.
pub(crate) fn decoder(in_stream: bool) -> Decoder {
    let mut decoder = Decoder::new(ProtocolVersion::V4);
    if in_stream {
        let start = StreamStart {
            xid: Xid::new(1),
            first_segment: true,
        };
        decoder
            .decode(encoded(&Message::StreamStart(start)))
            .unwrap();
    }
    decoder
}

/// At least one message of every kind, and whether it stands inside a stream block.
pub(crate) fn samples() -> Vec<(bool, Message)> {
    let lsn = Lsn::new(0x16_B374_D848);
    let end = Lsn::new(0x16_B374_D900);
    let time = PgTimestamp::from_pg_micros(772_345_678_901_234);
    let xid = Xid::new(771);
    let gid = || "gid 1".to_owned();
    let row = encode_tuple(&[
        Datum::Null,
        Datum::UnchangedToast,
        Datum::Text(b"text"),
        Datum::Binary(b"\0\xff"),
        Datum::Text(b""),
    ])
    .unwrap();
    let mut samples = vec![
        (
            false,
            Message::Begin(Begin {
                final_lsn: lsn,
                commit_time: time,
                xid,
            }),
        ),
        (
            false,
            Message::Commit(Commit {
                flags: 0,
                commit_lsn: lsn,
                end_lsn: end,
                commit_time: time,
            }),
        ),
        (true, Message::StreamStop),
        (
            false,
            Message::StreamStart(StreamStart {
                xid,
                first_segment: false,
            }),
        ),
        (
            false,
            Message::StreamCommit(StreamCommit {
                xid,
                flags: 0,
                commit_lsn: lsn,
                end_lsn: end,
                commit_time: time,
            }),
        ),
        (
            false,
            Message::StreamAbort(StreamAbort {
                xid,
                subxid: Xid::new(772),
                abort: Some(AbortInfo { lsn, time }),
            }),
        ),
        (
            false,
            Message::StreamAbort(StreamAbort {
                xid,
                subxid: xid,
                abort: None,
            }),
        ),
        (
            false,
            Message::BeginPrepare(BeginPrepare {
                prepare_lsn: lsn,
                end_lsn: end,
                prepare_time: time,
                xid,
                gid: gid(),
            }),
        ),
        (
            false,
            Message::Prepare(Prepare {
                flags: 0,
                prepare_lsn: lsn,
                end_lsn: end,
                prepare_time: time,
                xid,
                gid: gid(),
            }),
        ),
        (
            false,
            Message::StreamPrepare(StreamPrepare {
                flags: 0,
                prepare_lsn: lsn,
                end_lsn: end,
                prepare_time: time,
                xid,
                gid: gid(),
            }),
        ),
        (
            false,
            Message::CommitPrepared(CommitPrepared {
                flags: 0,
                commit_lsn: lsn,
                end_lsn: end,
                commit_time: time,
                xid,
                gid: gid(),
            }),
        ),
        (
            false,
            Message::RollbackPrepared(RollbackPrepared {
                flags: 0,
                prepare_end_lsn: lsn,
                rollback_end_lsn: end,
                prepare_time: time,
                rollback_time: time,
                xid,
                gid: gid(),
            }),
        ),
    ];
    for in_stream in [false, true] {
        let xid = in_stream.then_some(xid);
        let relation = RelationId::new(16_384);
        let origin = Origin {
            commit_lsn: lsn,
            name: "elsewhere".to_owned(),
        };
        samples.extend(
            [
                Message::Origin(origin),
                Message::Relation(Relation {
                    xid,
                    id: relation,
                    namespace: "sales".to_owned(),
                    name: "größe".to_owned(),
                    replica_identity: ReplicaIdentity::Index,
                    columns: vec![
                        RelationColumn {
                            flags: 1,
                            name: "id".to_owned(),
                            type_oid: Oid::new(20),
                            type_modifier: -1,
                        },
                        RelationColumn {
                            flags: 0,
                            name: "total".to_owned(),
                            type_oid: Oid::new(1700),
                            type_modifier: 786_438,
                        },
                    ],
                }),
                Message::Type(Type {
                    xid,
                    id: Oid::new(16_999),
                    namespace: "pg_catalog".to_owned(),
                    name: "status".to_owned(),
                }),
                Message::Insert(Insert {
                    xid,
                    relation,
                    new: row.clone(),
                }),
                Message::Update(Update {
                    xid,
                    relation,
                    old: None,
                    new: row.clone(),
                }),
                Message::Update(Update {
                    xid,
                    relation,
                    old: Some(OldTuple::Key(row.clone())),
                    new: row.clone(),
                }),
                Message::Update(Update {
                    xid,
                    relation,
                    old: Some(OldTuple::Full(row.clone())),
                    new: row.clone(),
                }),
                Message::Delete(Delete {
                    xid,
                    relation,
                    old: OldTuple::Key(row.clone()),
                }),
                Message::Delete(Delete {
                    xid,
                    relation,
                    old: OldTuple::Full(row.clone()),
                }),
                Message::Truncate(
                    Truncate::new(xid, true, false, &[relation, RelationId::new(7)]).unwrap(),
                ),
                Message::Truncate(Truncate::new(xid, false, true, &[]).unwrap()),
                Message::Message(LogicalMessage {
                    xid,
                    transactional: true,
                    lsn,
                    prefix: "shop".to_owned(),
                    content: Bytes::from_static(b"content"),
                }),
            ]
            .map(|message| (in_stream, message)),
        );
    }
    samples
}
