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
