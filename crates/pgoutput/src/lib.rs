#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod copy;
mod decoder;
mod error;
mod frame;
mod ids;
mod lsn;
mod message;
mod reader;
mod tuple;
pub mod value;
mod writer;

pub use copy::{
    CopyBinaryDecoder, CopyRow, CopyRowIter, encode_copy_header, encode_copy_row,
    encode_copy_trailer,
};
pub use decoder::{Decoder, ProtocolVersion};
pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use frame::{PrimaryKeepalive, ReplicationFrame, StandbyStatusUpdate, XLogData};
pub use ids::{Oid, PgTimestamp, RelationId, Xid};
pub use lsn::{Lsn, ParseLsnError};
pub use message::{
    AbortInfo, Begin, BeginPrepare, Commit, CommitPrepared, Delete, Insert, LogicalMessage,
    Message, OldTuple, Origin, Prepare, Relation, RelationColumn, ReplicaIdentity,
    RollbackPrepared, StreamAbort, StreamCommit, StreamPrepare, StreamStart, Truncate,
    TruncatedRelations, Type, Update,
};
pub use tuple::{Datum, Tuple, TupleBuilder, TupleIter, encode_tuple};
