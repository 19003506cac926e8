//! Parts of transactions that are still open: Stream Start, Stop, Commit and Abort.

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::reader::Reader;
use crate::writer::{put_lsn, put_timestamp};
use crate::{Lsn, PgTimestamp, Xid};

/// A part of an unfinished transaction begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamStart {
    /// The transaction.
    pub xid: Xid,
    /// Whether this is the transaction's first part.
    pub first_segment: bool,
}

impl StreamStart {
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            xid: reader.xid("transaction id")?,
            first_segment: reader.bool("first segment flag")?,
        })
    }

    pub(super) fn encode(self, dst: &mut BytesMut) {
        dst.put_u32(self.xid.get());
        dst.put_u8(u8::from(self.first_segment));
    }
}

/// A streamed transaction takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCommit {
    /// The transaction.
    pub xid: Xid,
    /// Unused so far: zero.
    pub flags: u8,
    /// Where the commit record begins.
    pub commit_lsn: Lsn,
    /// Where the commit record ends.
    pub end_lsn: Lsn,
    /// The time of the commit.
    pub commit_time: PgTimestamp,
}

impl StreamCommit {
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            xid: reader.xid("transaction id")?,
            flags: reader.u8("flags")?,
            commit_lsn: reader.lsn("commit position")?,
            end_lsn: reader.lsn("end position")?,
            commit_time: reader.timestamp("commit time")?,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) {
        dst.put_u32(self.xid.get());
        dst.put_u8(self.flags);
        put_lsn(dst, self.commit_lsn);
        put_lsn(dst, self.end_lsn);
        put_timestamp(dst, self.commit_time);
    }
}

/// A streamed transaction, or a subtransaction of one, is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamAbort {
    /// The transaction.
    pub xid: Xid,
    /// What is void: the same as `xid` for the whole transaction.
    pub subxid: Xid,
    /// Where and when; only with version 4 and `streaming 'parallel'`.
    pub abort: Option<AbortInfo>,
}

/// Where and when a streamed transaction was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortInfo {
    /// Where the abort record is in the log.
    pub lsn: Lsn,
    /// The time of the abort.
    pub time: PgTimestamp,
}

impl StreamAbort {
    /// `with_info` tells whether the protocol version knows abort information at all; whether it
    /// was asked for shows only in the length of the message.
    pub(crate) fn decode(with_info: bool, reader: &mut Reader) -> Result<Self, DecodeError> {
        let xid = reader.xid("transaction id")?;
        let subxid = reader.xid("subtransaction id")?;
        let abort = if with_info && !reader.rest().is_empty() {
            Some(AbortInfo {
                lsn: reader.lsn("abort position")?,
                time: reader.timestamp("abort time")?,
            })
        } else {
            None
        };
        Ok(Self { xid, subxid, abort })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) {
        dst.put_u32(self.xid.get());
        dst.put_u32(self.subxid.get());
        if let Some(abort) = &self.abort {
            put_lsn(dst, abort.lsn);
            put_timestamp(dst, abort.time);
        }
    }
}
