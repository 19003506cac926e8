//! What travels inside the CopyData messages of a replication connection
//! (Postgres documentation, "Streaming Replication Protocol").

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, DecodeErrorKind};
use crate::reader::Reader;
use crate::writer::{put_lsn, put_timestamp};
use crate::{Lsn, PgTimestamp};

const XLOG_DATA: u8 = b'w';
const PRIMARY_KEEPALIVE: u8 = b'k';
const STANDBY_STATUS_UPDATE: u8 = b'r';

/// What the server sends while it streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicationFrame {
    /// A piece of the stream.
    XLogData(XLogData),
    /// A sign of life.
    PrimaryKeepalive(PrimaryKeepalive),
}

impl ReplicationFrame {
    /// Decodes the content of one CopyData message that the server sent.
    pub fn decode(copy_data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(copy_data);
        let tag = reader.tag()?;
        let frame = match tag {
            XLOG_DATA => Self::XLogData(XLogData {
                wal_start: reader.lsn("start of data")?,
                wal_end: reader.lsn("end of log")?,
                server_time: reader.timestamp("server time")?,
                payload: reader.take_rest(),
            }),
            PRIMARY_KEEPALIVE => Self::PrimaryKeepalive(PrimaryKeepalive {
                wal_end: reader.lsn("end of log")?,
                server_time: reader.timestamp("server time")?,
                reply_requested: reader.bool("reply flag")?,
            }),
            _ => return Err(unknown_frame(tag)),
        };
        reader.finish()?;
        Ok(frame)
    }

    /// Appends the content of the CopyData message.
    pub fn encode(&self, dst: &mut BytesMut) {
        match self {
            Self::XLogData(data) => {
                dst.put_u8(XLOG_DATA);
                put_lsn(dst, data.wal_start);
                put_lsn(dst, data.wal_end);
                put_timestamp(dst, data.server_time);
                dst.put_slice(&data.payload);
            }
            Self::PrimaryKeepalive(keepalive) => {
                dst.put_u8(PRIMARY_KEEPALIVE);
                put_lsn(dst, keepalive.wal_end);
                put_timestamp(dst, keepalive.server_time);
                dst.put_u8(u8::from(keepalive.reply_requested));
            }
        }
    }
}

/// A piece of the stream. For a logical slot with `pgoutput` it holds exactly one logical message.
#[derive(Clone, PartialEq, Eq)]
pub struct XLogData {
    /// Where the data begins in the log; zero for messages that stand for no log record.
    pub wal_start: Lsn,
    /// The end of the log on the server; for a logical slot, the same as `wal_start`. It is not a
    /// position up to which anything was delivered.
    pub wal_end: Lsn,
    /// The server's clock when it sent this.
    pub server_time: PgTimestamp,
    /// The logical message: input of [`Decoder::decode`](crate::Decoder::decode).
    pub payload: Bytes,
}

impl fmt::Debug for XLogData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XLogData")
            .field("wal_start", &self.wal_start)
            .field("wal_end", &self.wal_end)
            .field("server_time", &self.server_time)
            .field("payload_len", &self.payload.len())
            .finish()
    }
}

/// A sign of life from the server, sent in between and when it wants an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrimaryKeepalive {
    /// How far the server has read the log: every transaction that commits before this position and
    /// that concerns the slot has been sent.
    pub wal_end: Lsn,
    /// The server's clock when it sent this.
    pub server_time: PgTimestamp,
    /// The server disconnects soon unless it gets a [`StandbyStatusUpdate`].
    pub reply_requested: bool,
}

/// The receiver's report of its progress. What is reported as flushed may be forgotten by the
/// server for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandbyStatusUpdate {
    /// Everything before this position has been received.
    pub written: Lsn,
    /// Everything before this position is durable at the receiver; becomes the slot's
    /// `confirmed_flush_lsn`.
    pub flushed: Lsn,
    /// Everything before this position is visible at the receiver.
    pub applied: Lsn,
    /// The receiver's clock.
    pub client_time: PgTimestamp,
    /// Asks the server for a keepalive right away.
    pub reply_requested: bool,
}

impl StandbyStatusUpdate {
    /// Appends the content of the CopyData message.
    pub fn encode(&self, dst: &mut BytesMut) {
        dst.put_u8(STANDBY_STATUS_UPDATE);
        put_lsn(dst, self.written);
        put_lsn(dst, self.flushed);
        put_lsn(dst, self.applied);
        put_timestamp(dst, self.client_time);
        dst.put_u8(u8::from(self.reply_requested));
    }

    /// Decodes the content of one CopyData message that a receiver sent.
    pub fn decode(copy_data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(copy_data);
        let tag = reader.tag()?;
        if tag != STANDBY_STATUS_UPDATE {
            return Err(unknown_frame(tag));
        }
        let update = Self {
            written: reader.lsn("written position")?,
            flushed: reader.lsn("flushed position")?,
            applied: reader.lsn("applied position")?,
            client_time: reader.timestamp("client time")?,
            reply_requested: reader.bool("reply flag")?,
        };
        reader.finish()?;
        Ok(update)
    }
}

const fn unknown_frame(tag: u8) -> DecodeError {
    DecodeError::new(DecodeErrorKind::UnknownValue, "frame type", Some(tag), 0)
}
