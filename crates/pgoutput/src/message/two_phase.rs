//! Transactions that are prepared first: Begin Prepare, Prepare, Commit Prepared, Rollback Prepared
//! and Stream Prepare.

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::reader::Reader;
use crate::writer::{put_lsn, put_string, put_timestamp};
use crate::{Lsn, PgTimestamp, Xid};

const GID: &str = "global transaction id";

/// A transaction that will be prepared begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginPrepare {
    /// Where the prepare record begins.
    pub prepare_lsn: Lsn,
    /// Where the prepare record ends.
    pub end_lsn: Lsn,
    /// The time of the prepare.
    pub prepare_time: PgTimestamp,
    /// The transaction.
    pub xid: Xid,
    /// The name given in `PREPARE TRANSACTION`.
    pub gid: String,
}

impl BeginPrepare {
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            prepare_lsn: reader.lsn("prepare position")?,
            end_lsn: reader.lsn("end position")?,
            prepare_time: reader.timestamp("prepare time")?,
            xid: reader.xid("transaction id")?,
            gid: reader.string(GID)?,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) -> Result<(), EncodeError> {
        put_lsn(dst, self.prepare_lsn);
        put_lsn(dst, self.end_lsn);
        put_timestamp(dst, self.prepare_time);
        dst.put_u32(self.xid.get());
        put_string(dst, &self.gid, GID)
    }
}

macro_rules! prepare {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            /// Unused so far: zero.
            pub flags: u8,
            /// Where the prepare record begins.
            pub prepare_lsn: Lsn,
            /// Where the prepare record ends.
            pub end_lsn: Lsn,
            /// The time of the prepare.
            pub prepare_time: PgTimestamp,
            /// The transaction.
            pub xid: Xid,
            /// The name given in `PREPARE TRANSACTION`.
            pub gid: String,
        }

        impl $name {
            pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
                Ok(Self {
                    flags: reader.u8("flags")?,
                    prepare_lsn: reader.lsn("prepare position")?,
                    end_lsn: reader.lsn("end position")?,
                    prepare_time: reader.timestamp("prepare time")?,
                    xid: reader.xid("transaction id")?,
                    gid: reader.string(GID)?,
                })
            }

            pub(super) fn encode(&self, dst: &mut BytesMut) -> Result<(), EncodeError> {
                dst.put_u8(self.flags);
                put_lsn(dst, self.prepare_lsn);
                put_lsn(dst, self.end_lsn);
                put_timestamp(dst, self.prepare_time);
                dst.put_u32(self.xid.get());
                put_string(dst, &self.gid, GID)
            }
        }
    };
}

prepare! {
    /// The transaction that [`BeginPrepare`] began is prepared.
    Prepare
}
prepare! {
    /// A streamed transaction is prepared.
    StreamPrepare
}

/// A prepared transaction takes effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPrepared {
    /// Unused so far: zero.
    pub flags: u8,
    /// Where the commit record begins.
    pub commit_lsn: Lsn,
    /// Where the commit record ends.
    pub end_lsn: Lsn,
    /// The time of the commit.
    pub commit_time: PgTimestamp,
    /// The transaction.
    pub xid: Xid,
    /// The name given in `PREPARE TRANSACTION`.
    pub gid: String,
}

impl CommitPrepared {
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            flags: reader.u8("flags")?,
            commit_lsn: reader.lsn("commit position")?,
            end_lsn: reader.lsn("end position")?,
            commit_time: reader.timestamp("commit time")?,
            xid: reader.xid("transaction id")?,
            gid: reader.string(GID)?,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) -> Result<(), EncodeError> {
        dst.put_u8(self.flags);
        put_lsn(dst, self.commit_lsn);
        put_lsn(dst, self.end_lsn);
        put_timestamp(dst, self.commit_time);
        dst.put_u32(self.xid.get());
        put_string(dst, &self.gid, GID)
    }
}

/// A prepared transaction is void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackPrepared {
    /// Unused so far: zero.
    pub flags: u8,
    /// Where the prepare record ends.
    pub prepare_end_lsn: Lsn,
    /// Where the rollback record ends.
    pub rollback_end_lsn: Lsn,
    /// The time of the prepare.
    pub prepare_time: PgTimestamp,
    /// The time of the rollback.
    pub rollback_time: PgTimestamp,
    /// The transaction.
    pub xid: Xid,
    /// The name given in `PREPARE TRANSACTION`.
    pub gid: String,
}

impl RollbackPrepared {
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            flags: reader.u8("flags")?,
            prepare_end_lsn: reader.lsn("prepare end position")?,
            rollback_end_lsn: reader.lsn("rollback end position")?,
            prepare_time: reader.timestamp("prepare time")?,
            rollback_time: reader.timestamp("rollback time")?,
            xid: reader.xid("transaction id")?,
            gid: reader.string(GID)?,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) -> Result<(), EncodeError> {
        dst.put_u8(self.flags);
        put_lsn(dst, self.prepare_end_lsn);
        put_lsn(dst, self.rollback_end_lsn);
        put_timestamp(dst, self.prepare_time);
        put_timestamp(dst, self.rollback_time);
        dst.put_u32(self.xid.get());
        put_string(dst, &self.gid, GID)
    }
}
