//! The logical messages (Postgres documentation, "Logical Replication Message Formats").
//!
//! Each struct is beside its decoder and encoder; [`Message`] joins them.

mod change;
mod relation;
mod stream;
mod transaction;
mod two_phase;

use bytes::{BufMut, BytesMut};

pub use change::{Delete, Insert, OldTuple, Truncate, TruncatedRelations, Update};
pub use relation::{Relation, RelationColumn, ReplicaIdentity, Type};
pub use stream::{AbortInfo, StreamAbort, StreamCommit, StreamStart};
pub use transaction::{Begin, Commit, LogicalMessage, Origin};
pub use two_phase::{BeginPrepare, CommitPrepared, Prepare, RollbackPrepared, StreamPrepare};

use crate::error::EncodeError;
use crate::writer::all_or_nothing;

/// The first byte of each message.
pub(crate) mod tag {
    pub(crate) const BEGIN: u8 = b'B';
    pub(crate) const COMMIT: u8 = b'C';
    pub(crate) const ORIGIN: u8 = b'O';
    pub(crate) const RELATION: u8 = b'R';
    pub(crate) const TYPE: u8 = b'Y';
    pub(crate) const INSERT: u8 = b'I';
    pub(crate) const UPDATE: u8 = b'U';
    pub(crate) const DELETE: u8 = b'D';
    pub(crate) const TRUNCATE: u8 = b'T';
    pub(crate) const MESSAGE: u8 = b'M';
    pub(crate) const STREAM_START: u8 = b'S';
    pub(crate) const STREAM_STOP: u8 = b'E';
    pub(crate) const STREAM_COMMIT: u8 = b'c';
    pub(crate) const STREAM_ABORT: u8 = b'A';
    pub(crate) const BEGIN_PREPARE: u8 = b'b';
    pub(crate) const PREPARE: u8 = b'P';
    pub(crate) const COMMIT_PREPARED: u8 = b'K';
    pub(crate) const ROLLBACK_PREPARED: u8 = b'r';
    pub(crate) const STREAM_PREPARE: u8 = b'p';
}

/// One logical message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// A transaction begins.
    Begin(Begin),
    /// The transaction ends and takes effect.
    Commit(Commit),
    /// The transaction came from another server.
    Origin(Origin),
    /// Describes a table, before its first change and after each change of its shape.
    Relation(Relation),
    /// Describes a type that is not built in.
    Type(Type),
    /// A new row.
    Insert(Insert),
    /// A changed row.
    Update(Update),
    /// A removed row.
    Delete(Delete),
    /// Tables were emptied.
    Truncate(Truncate),
    /// The output of `pg_logical_emit_message`.
    Message(LogicalMessage),
    /// A part of an unfinished transaction begins (version 2).
    StreamStart(StreamStart),
    /// The part ends.
    StreamStop,
    /// A streamed transaction takes effect.
    StreamCommit(StreamCommit),
    /// A streamed transaction, or a subtransaction of one, is void.
    StreamAbort(StreamAbort),
    /// A transaction that will be prepared begins (version 3).
    BeginPrepare(BeginPrepare),
    /// The transaction is prepared.
    Prepare(Prepare),
    /// A prepared transaction takes effect.
    CommitPrepared(CommitPrepared),
    /// A prepared transaction is void.
    RollbackPrepared(RollbackPrepared),
    /// A streamed transaction is prepared.
    StreamPrepare(StreamPrepare),
}

impl Message {
    /// The first byte of the message on the wire.
    pub const fn tag(&self) -> u8 {
        match self {
            Self::Begin(_) => tag::BEGIN,
            Self::Commit(_) => tag::COMMIT,
            Self::Origin(_) => tag::ORIGIN,
            Self::Relation(_) => tag::RELATION,
            Self::Type(_) => tag::TYPE,
            Self::Insert(_) => tag::INSERT,
            Self::Update(_) => tag::UPDATE,
            Self::Delete(_) => tag::DELETE,
            Self::Truncate(_) => tag::TRUNCATE,
            Self::Message(_) => tag::MESSAGE,
            Self::StreamStart(_) => tag::STREAM_START,
            Self::StreamStop => tag::STREAM_STOP,
            Self::StreamCommit(_) => tag::STREAM_COMMIT,
            Self::StreamAbort(_) => tag::STREAM_ABORT,
            Self::BeginPrepare(_) => tag::BEGIN_PREPARE,
            Self::Prepare(_) => tag::PREPARE,
            Self::CommitPrepared(_) => tag::COMMIT_PREPARED,
            Self::RollbackPrepared(_) => tag::ROLLBACK_PREPARED,
            Self::StreamPrepare(_) => tag::STREAM_PREPARE,
        }
    }

    /// Appends the message as [`Decoder::decode`](crate::Decoder::decode) takes it. On an error
    /// nothing is appended.
    pub fn encode(&self, dst: &mut BytesMut) -> Result<(), EncodeError> {
        all_or_nothing(dst, |dst| {
            dst.put_u8(self.tag());
            match self {
                Self::Begin(message) => message.encode(dst),
                Self::Commit(message) => message.encode(dst),
                Self::Origin(message) => return message.encode(dst),
                Self::Relation(message) => return message.encode(dst),
                Self::Type(message) => return message.encode(dst),
                Self::Insert(message) => message.encode(dst),
                Self::Update(message) => message.encode(dst),
                Self::Delete(message) => message.encode(dst),
                Self::Truncate(message) => message.encode(dst),
                Self::Message(message) => return message.encode(dst),
                Self::StreamStart(message) => message.encode(dst),
                Self::StreamStop => {}
                Self::StreamCommit(message) => message.encode(dst),
                Self::StreamAbort(message) => message.encode(dst),
                Self::BeginPrepare(message) => return message.encode(dst),
                Self::Prepare(message) => return message.encode(dst),
                Self::CommitPrepared(message) => return message.encode(dst),
                Self::RollbackPrepared(message) => return message.encode(dst),
                Self::StreamPrepare(message) => return message.encode(dst),
            }
            Ok(())
        })
    }
}
