//! From the payload of XLogData to a [`Message`].

use bytes::Bytes;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::message::{
    Begin, BeginPrepare, Commit, CommitPrepared, Delete, Insert, LogicalMessage, Message, Origin,
    Prepare, Relation, RollbackPrepared, StreamAbort, StreamCommit, StreamPrepare, StreamStart,
    Truncate, Type, Update, tag,
};
use crate::reader::Reader;

/// The value of the `proto_version` option with which the stream was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// Whole transactions in commit order. Postgres 10 and later.
    V1,
    /// Adds parts of open transactions. Postgres 14 and later.
    V2,
    /// Adds prepared transactions. Postgres 15 and later.
    V3,
    /// Adds position and time to aborts of open transactions. Postgres 16 and later.
    V4,
}

impl ProtocolVersion {
    /// The number for the `proto_version` option.
    pub const fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }
}

/// Decodes the logical messages of one replication session, in order.
///
/// The only state is whether a stream block is open, because messages inside one carry the id of
/// their transaction. A new session needs a new decoder.
#[derive(Debug, Clone)]
pub struct Decoder {
    version: ProtocolVersion,
    in_stream: bool,
}

impl Decoder {
    /// A decoder for a session that was started with `version`.
    pub const fn new(version: ProtocolVersion) -> Self {
        Self {
            version,
            in_stream: false,
        }
    }

    /// Decodes one message. Rows share the buffer of `payload`. After an error the decoder is as it
    /// was before.
    pub fn decode(&mut self, payload: Bytes) -> Result<Message, DecodeError> {
        let mut reader = Reader::new(payload);
        let tag = reader.tag()?;
        self.admit(tag)?;
        let message = self.body(tag, &mut reader)?;
        reader.finish()?;
        match message {
            Message::StreamStart(_) => self.in_stream = true,
            Message::StreamStop => self.in_stream = false,
            _ => {}
        }
        Ok(message)
    }

    fn body(&self, tag: u8, reader: &mut Reader) -> Result<Message, DecodeError> {
        let xid = match tag {
            tag::RELATION
            | tag::TYPE
            | tag::INSERT
            | tag::UPDATE
            | tag::DELETE
            | tag::TRUNCATE
            | tag::MESSAGE
                if self.in_stream =>
            {
                Some(reader.xid("transaction id")?)
            }
            _ => None,
        };
        Ok(match tag {
            tag::BEGIN => Message::Begin(Begin::decode(reader)?),
            tag::COMMIT => Message::Commit(Commit::decode(reader)?),
            tag::ORIGIN => Message::Origin(Origin::decode(reader)?),
            tag::RELATION => Message::Relation(Relation::decode(xid, reader)?),
            tag::TYPE => Message::Type(Type::decode(xid, reader)?),
            tag::INSERT => Message::Insert(Insert::decode(xid, reader)?),
            tag::UPDATE => Message::Update(Update::decode(xid, reader)?),
            tag::DELETE => Message::Delete(Delete::decode(xid, reader)?),
            tag::TRUNCATE => Message::Truncate(Truncate::decode(xid, reader)?),
            tag::MESSAGE => Message::Message(LogicalMessage::decode(xid, reader)?),
            tag::STREAM_START => Message::StreamStart(StreamStart::decode(reader)?),
            tag::STREAM_STOP => Message::StreamStop,
            tag::STREAM_COMMIT => Message::StreamCommit(StreamCommit::decode(reader)?),
            tag::STREAM_ABORT => {
                let with_info = self.version >= ProtocolVersion::V4;
                Message::StreamAbort(StreamAbort::decode(with_info, reader)?)
            }
            tag::BEGIN_PREPARE => Message::BeginPrepare(BeginPrepare::decode(reader)?),
            tag::PREPARE => Message::Prepare(Prepare::decode(reader)?),
            tag::COMMIT_PREPARED => Message::CommitPrepared(CommitPrepared::decode(reader)?),
            tag::ROLLBACK_PREPARED => Message::RollbackPrepared(RollbackPrepared::decode(reader)?),
            tag::STREAM_PREPARE => Message::StreamPrepare(StreamPrepare::decode(reader)?),
            _ => return Err(refuse(tag, DecodeErrorKind::UnknownValue)),
        })
    }

    /// Whether a message of this type may come now, by version and stream block.
    fn admit(&self, tag: u8) -> Result<(), DecodeError> {
        let since = match tag {
            tag::STREAM_START | tag::STREAM_STOP | tag::STREAM_COMMIT | tag::STREAM_ABORT => {
                ProtocolVersion::V2
            }
            tag::BEGIN_PREPARE
            | tag::PREPARE
            | tag::COMMIT_PREPARED
            | tag::ROLLBACK_PREPARED
            | tag::STREAM_PREPARE => ProtocolVersion::V3,
            _ => ProtocolVersion::V1,
        };
        if self.version < since {
            return Err(refuse(tag, DecodeErrorKind::LaterVersion));
        }
        match tag {
            tag::STREAM_STOP if !self.in_stream => Err(refuse(tag, DecodeErrorKind::OutsideStream)),
            tag::BEGIN
            | tag::COMMIT
            | tag::STREAM_START
            | tag::STREAM_COMMIT
            | tag::STREAM_ABORT
            | tag::BEGIN_PREPARE
            | tag::PREPARE
            | tag::COMMIT_PREPARED
            | tag::ROLLBACK_PREPARED
            | tag::STREAM_PREPARE
                if self.in_stream =>
            {
                Err(refuse(tag, DecodeErrorKind::InsideStream))
            }
            _ => Ok(()),
        }
    }
}

const fn refuse(tag: u8, kind: DecodeErrorKind) -> DecodeError {
    DecodeError::new(kind, "message type", Some(tag), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &[u8] = b"S\0\0\0\x07\x01";
    const STOP: &[u8] = b"E";
    const INSERT: &[u8] = b"I\0\0\0\x01N\0\0";
    const STREAMED_INSERT: &[u8] = b"I\0\0\0\x07\0\0\0\x01N\0\0";
    const BEGIN: &[u8] = b"B\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x03";
    const ABORT: &[u8] = b"A\0\0\0\x07\0\0\0\x08";
    const ABORT_WITH_INFO: &[u8] = b"A\0\0\0\x07\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02";

    fn kind(decoder: &mut Decoder, payload: &'static [u8]) -> Option<DecodeErrorKind> {
        decoder
            .decode(Bytes::from_static(payload))
            .err()
            .map(|error| error.kind())
    }

    fn insert_xid(decoder: &mut Decoder, payload: &'static [u8]) -> Option<u32> {
        match decoder.decode(Bytes::from_static(payload)) {
            Ok(Message::Insert(insert)) => insert.xid.map(crate::Xid::get),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stream_block_prefixes_changes_with_their_transaction() {
        let mut decoder = Decoder::new(ProtocolVersion::V2);
        assert_eq!(insert_xid(&mut decoder, INSERT), None);
        assert_eq!(kind(&mut decoder, START), None);
        assert_eq!(insert_xid(&mut decoder, STREAMED_INSERT), Some(7));
        assert_eq!(kind(&mut decoder, INSERT), Some(DecodeErrorKind::Truncated));
        assert_eq!(insert_xid(&mut decoder, STREAMED_INSERT), Some(7));
        assert_eq!(kind(&mut decoder, STOP), None);
        assert_eq!(
            kind(&mut decoder, STREAMED_INSERT),
            Some(DecodeErrorKind::UnknownValue)
        );
        assert_eq!(insert_xid(&mut decoder, INSERT), None);
    }

    #[test]
    fn blocks_neither_nest_nor_hold_transaction_boundaries() {
        let mut decoder = Decoder::new(ProtocolVersion::V4);
        assert_eq!(
            kind(&mut decoder, STOP),
            Some(DecodeErrorKind::OutsideStream)
        );
        assert_eq!(kind(&mut decoder, START), None);
        for payload in [START, BEGIN, ABORT] {
            assert_eq!(
                kind(&mut decoder, payload),
                Some(DecodeErrorKind::InsideStream)
            );
        }
        assert_eq!(kind(&mut decoder, STOP), None);
        for payload in [BEGIN, ABORT, START] {
            assert_eq!(kind(&mut decoder, payload), None);
        }
    }

    #[test]
    fn a_broken_start_or_stop_changes_nothing() {
        let mut decoder = Decoder::new(ProtocolVersion::V2);
        assert_eq!(
            kind(&mut decoder, b"S\0\0\0\x07\x02"),
            Some(DecodeErrorKind::UnknownValue)
        );
        assert_eq!(insert_xid(&mut decoder, INSERT), None);
        assert_eq!(kind(&mut decoder, START), None);
        assert_eq!(
            kind(&mut decoder, b"E\0"),
            Some(DecodeErrorKind::TrailingBytes)
        );
        assert_eq!(insert_xid(&mut decoder, STREAMED_INSERT), Some(7));
    }

    #[test]
    fn each_version_knows_its_messages() {
        for (version, tags) in [
            (ProtocolVersion::V1, b"BCORYIUDTM".as_slice()),
            (ProtocolVersion::V2, b"BCORYIUDTMScA"),
            (ProtocolVersion::V3, b"BCORYIUDTMScAbPKrp"),
            (ProtocolVersion::V4, b"BCORYIUDTMScAbPKrp"),
        ] {
            for tag in 0..=u8::MAX {
                let error = Decoder::new(version)
                    .decode(Bytes::from(vec![tag]))
                    .unwrap_err();
                // Known messages are refused too, for they have no content here.
                let expected = if tags.contains(&tag) {
                    DecodeErrorKind::Truncated
                } else if tag == b'E' && version >= ProtocolVersion::V2 {
                    DecodeErrorKind::OutsideStream
                } else if b"SEcAbPKrp".contains(&tag) {
                    DecodeErrorKind::LaterVersion
                } else {
                    DecodeErrorKind::UnknownValue
                };
                assert_eq!(error.kind(), expected, "{version:?} {}", tag.escape_ascii());
                assert_eq!(error.tag(), Some(tag));
            }
        }
        let numbers = [
            ProtocolVersion::V1,
            ProtocolVersion::V2,
            ProtocolVersion::V3,
            ProtocolVersion::V4,
        ]
        .map(ProtocolVersion::number);
        assert_eq!(numbers, [1, 2, 3, 4]);
    }

    #[test]
    fn only_version_4_knows_where_an_abort_was() {
        for version in [ProtocolVersion::V2, ProtocolVersion::V3] {
            let mut decoder = Decoder::new(version);
            assert_eq!(kind(&mut decoder, ABORT), None);
            assert_eq!(
                kind(&mut decoder, ABORT_WITH_INFO),
                Some(DecodeErrorKind::TrailingBytes)
            );
        }
        let mut decoder = Decoder::new(ProtocolVersion::V4);
        assert_eq!(kind(&mut decoder, ABORT), None);
        assert_eq!(kind(&mut decoder, ABORT_WITH_INFO), None);
    }

    #[test]
    fn empty_input_has_no_tag() {
        let error = Decoder::new(ProtocolVersion::V1)
            .decode(Bytes::new())
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.tag()),
            (DecodeErrorKind::Truncated, None)
        );
    }
}
