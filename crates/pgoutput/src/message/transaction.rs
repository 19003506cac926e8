//! Begin, Commit, Origin and Message.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::reader::Reader;
use crate::writer::{put_bytes32, put_lsn, put_stream_xid, put_string, put_timestamp};
use crate::{Lsn, PgTimestamp, Xid};

/// A transaction begins. Without streaming, transactions arrive whole, in commit order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Where the commit record begins: the same position as [`Commit::commit_lsn`].
    pub final_lsn: Lsn,
    /// The time of the commit.
    pub commit_time: PgTimestamp,
    /// The transaction.
    pub xid: Xid,
}

impl Begin {
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            final_lsn: reader.lsn("final position")?,
            commit_time: reader.timestamp("commit time")?,
            xid: reader.xid("transaction id")?,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) {
        put_lsn(dst, self.final_lsn);
        put_timestamp(dst, self.commit_time);
        dst.put_u32(self.xid.get());
    }
}

/// The transaction ends and takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Unused so far: zero.
    pub flags: u8,
    /// Where the commit record begins.
    pub commit_lsn: Lsn,
    /// Where the commit record ends. The next transaction may have this as its `commit_lsn`.
    pub end_lsn: Lsn,
    /// The time of the commit.
    pub commit_time: PgTimestamp,
}

impl Commit {
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            flags: reader.u8("flags")?,
            commit_lsn: reader.lsn("commit position")?,
            end_lsn: reader.lsn("end position")?,
            commit_time: reader.timestamp("commit time")?,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) {
        dst.put_u8(self.flags);
        put_lsn(dst, self.commit_lsn);
        put_lsn(dst, self.end_lsn);
        put_timestamp(dst, self.commit_time);
    }
}

/// The transaction was itself replicated from another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Where the commit is in the other server's log.
    pub commit_lsn: Lsn,
    /// The replication origin's name.
    pub name: String,
}

impl Origin {
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            commit_lsn: reader.lsn("commit position")?,
            name: reader.string("origin name")?,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) -> Result<(), EncodeError> {
        put_lsn(dst, self.commit_lsn);
        put_string(dst, &self.name, "origin name")
    }
}

const TRANSACTIONAL: u8 = 1;

/// The output of `pg_logical_emit_message`, sent when the stream was started with `messages 'on'`.
#[derive(Clone, PartialEq, Eq)]
pub struct LogicalMessage {
    /// The transaction or subtransaction, inside a stream block only.
    pub xid: Option<Xid>,
    /// Whether the message belongs to the surrounding transaction. If not, it arrives at once, also
    /// between a Begin and a Commit that have nothing to do with it.
    pub transactional: bool,
    /// Where the message is in the log.
    pub lsn: Lsn,
    /// Tells apart the messages of several applications.
    pub prefix: String,
    /// Whatever the application wrote.
    pub content: Bytes,
}

impl LogicalMessage {
    pub(crate) fn decode(xid: Option<Xid>, reader: &mut Reader) -> Result<Self, DecodeError> {
        let unknown = reader.error(DecodeErrorKind::UnknownValue, "flags");
        let transactional = match reader.u8("flags")? {
            0 => false,
            TRANSACTIONAL => true,
            _ => return Err(unknown),
        };
        let lsn = reader.lsn("message position")?;
        let prefix = reader.string("message prefix")?;
        let len = reader.count32("content length")?;
        let content = reader.take(len, "content")?;
        Ok(Self {
            xid,
            transactional,
            lsn,
            prefix,
            content,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) -> Result<(), EncodeError> {
        put_stream_xid(dst, self.xid);
        dst.put_u8(if self.transactional { TRANSACTIONAL } else { 0 });
        put_lsn(dst, self.lsn);
        put_string(dst, &self.prefix, "message prefix")?;
        put_bytes32(dst, &self.content, "content")
    }
}

/// Shows the size of the content, never the content.
impl fmt::Debug for LogicalMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogicalMessage")
            .field("xid", &self.xid)
            .field("transactional", &self.transactional)
            .field("lsn", &self.lsn)
            .field("prefix", &self.prefix)
            .field("content_len", &self.content.len())
            .finish()
    }
}
