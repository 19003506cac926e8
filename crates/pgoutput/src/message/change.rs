//! Insert, Update, Delete and Truncate.

use std::fmt;
use std::iter::FusedIterator;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::reader::{Cursor, Reader};
use crate::writer::put_stream_xid;
use crate::{RelationId, Tuple, Xid};

const NEW: u8 = b'N';
const KEY: u8 = b'K';
const OLD: u8 = b'O';

/// A new row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// The transaction or subtransaction, inside a stream block only.
    pub xid: Option<Xid>,
    /// The table.
    pub relation: RelationId,
    /// The row.
    pub new: Tuple,
}

impl Insert {
    pub(crate) fn decode(xid: Option<Xid>, reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            xid,
            relation: reader.relation_id()?,
            new: decode_new(reader)?,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) {
        put_stream_xid(dst, self.xid);
        dst.put_u32(self.relation.get());
        dst.put_u8(NEW);
        self.new.encode(dst);
    }
}

/// What the log holds of a row before the change, as its
/// [`ReplicaIdentity`](crate::ReplicaIdentity) asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldTuple {
    /// The key columns; all other columns are null here, whatever they were.
    Key(Tuple),
    /// The whole row.
    Full(Tuple),
}

impl OldTuple {
    /// The row, whichever part of it there is.
    pub const fn tuple(&self) -> &Tuple {
        match self {
            Self::Key(tuple) | Self::Full(tuple) => tuple,
        }
    }

    fn encode(&self, dst: &mut BytesMut) {
        dst.put_u8(match self {
            Self::Key(_) => KEY,
            Self::Full(_) => OLD,
        });
        self.tuple().encode(dst);
    }
}

/// A changed row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The transaction or subtransaction, inside a stream block only.
    pub xid: Option<Xid>,
    /// The table.
    pub relation: RelationId,
    /// The row before the change. With identity default or index it is only there when a key column
    /// changed.
    pub old: Option<OldTuple>,
    /// The row after the change.
    pub new: Tuple,
}

impl Update {
    pub(crate) fn decode(xid: Option<Xid>, reader: &mut Reader) -> Result<Self, DecodeError> {
        let relation = reader.relation_id()?;
        let unknown = reader.error(DecodeErrorKind::UnknownValue, "row kind");
        let (old, new) = match reader.u8("row kind")? {
            NEW => (None, Tuple::decode(reader)?),
            KEY => (
                Some(OldTuple::Key(Tuple::decode(reader)?)),
                decode_new(reader)?,
            ),
            OLD => (
                Some(OldTuple::Full(Tuple::decode(reader)?)),
                decode_new(reader)?,
            ),
            _ => return Err(unknown),
        };
        Ok(Self {
            xid,
            relation,
            old,
            new,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) {
        put_stream_xid(dst, self.xid);
        dst.put_u32(self.relation.get());
        if let Some(old) = &self.old {
            old.encode(dst);
        }
        dst.put_u8(NEW);
        self.new.encode(dst);
    }
}

/// A removed row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The transaction or subtransaction, inside a stream block only.
    pub xid: Option<Xid>,
    /// The table.
    pub relation: RelationId,
    /// The row that was removed.
    pub old: OldTuple,
}

impl Delete {
    pub(crate) fn decode(xid: Option<Xid>, reader: &mut Reader) -> Result<Self, DecodeError> {
        let relation = reader.relation_id()?;
        let unknown = reader.error(DecodeErrorKind::UnknownValue, "row kind");
        let old = match reader.u8("row kind")? {
            KEY => OldTuple::Key(Tuple::decode(reader)?),
            OLD => OldTuple::Full(Tuple::decode(reader)?),
            _ => return Err(unknown),
        };
        Ok(Self { xid, relation, old })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) {
        put_stream_xid(dst, self.xid);
        dst.put_u32(self.relation.get());
        self.old.encode(dst);
    }
}

fn decode_new(reader: &mut Reader) -> Result<Tuple, DecodeError> {
    let unknown = reader.error(DecodeErrorKind::UnknownValue, "row kind");
    if reader.u8("row kind")? != NEW {
        return Err(unknown);
    }
    Tuple::decode(reader)
}

const CASCADE: u8 = 1;
const RESTART_IDENTITY: u8 = 2;

/// Tables were emptied, all by one `TRUNCATE`.
#[derive(Clone, PartialEq, Eq)]
pub struct Truncate {
    /// The transaction or subtransaction, inside a stream block only.
    pub xid: Option<Xid>,
    /// The statement said `CASCADE`. The tables it reached are listed all the same.
    pub cascade: bool,
    /// The statement said `RESTART IDENTITY`.
    pub restart_identity: bool,
    /// A whole number of four-byte ids, fewer than 2^31.
    relations: Bytes,
}

impl Truncate {
    /// A truncation of `relations`. Fails when there are more than the wire format can count.
    pub fn new(
        xid: Option<Xid>,
        cascade: bool,
        restart_identity: bool,
        relations: &[RelationId],
    ) -> Result<Self, EncodeError> {
        i32::try_from(relations.len()).map_err(|_| EncodeError::TooMany("relation list"))?;
        let mut ids = BytesMut::with_capacity(relations.len().saturating_mul(RelationId::WIRE_LEN));
        for relation in relations {
            ids.put_u32(relation.get());
        }
        Ok(Self {
            xid,
            cascade,
            restart_identity,
            relations: ids.freeze(),
        })
    }

    /// The tables.
    pub fn relations(&self) -> TruncatedRelations<'_> {
        TruncatedRelations {
            cursor: Cursor::new(&self.relations),
        }
    }

    pub(crate) fn decode(xid: Option<Xid>, reader: &mut Reader) -> Result<Self, DecodeError> {
        let count = reader.count32("relation count")?;
        let unknown = reader.error(DecodeErrorKind::UnknownValue, "flags");
        let flags = reader.u8("flags")?;
        if flags & !(CASCADE | RESTART_IDENTITY) != 0 {
            return Err(unknown);
        }
        let relations = reader.take(count.saturating_mul(RelationId::WIRE_LEN), "relation list")?;
        Ok(Self {
            xid,
            cascade: flags & CASCADE != 0,
            restart_identity: flags & RESTART_IDENTITY != 0,
            relations,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) {
        put_stream_xid(dst, self.xid);
        // Both constructors checked that the count fits.
        dst.put_i32(i32::try_from(self.relations().len()).unwrap_or(i32::MAX));
        let cascade = if self.cascade { CASCADE } else { 0 };
        let restart = if self.restart_identity {
            RESTART_IDENTITY
        } else {
            0
        };
        dst.put_u8(cascade | restart);
        dst.put_slice(&self.relations);
    }
}

impl fmt::Debug for Truncate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Truncate")
            .field("xid", &self.xid)
            .field("cascade", &self.cascade)
            .field("restart_identity", &self.restart_identity)
            .field("relations", &self.relations())
            .finish()
    }
}

/// Iterates over the tables of a [`Truncate`].
#[derive(Clone)]
pub struct TruncatedRelations<'a> {
    cursor: Cursor<'a>,
}

impl Iterator for TruncatedRelations<'_> {
    type Item = RelationId;

    fn next(&mut self) -> Option<RelationId> {
        self.cursor
            .fixed()
            .map(u32::from_be_bytes)
            .map(RelationId::new)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.cursor.len() / RelationId::WIRE_LEN;
        (left, Some(left))
    }
}

impl ExactSizeIterator for TruncatedRelations<'_> {}
impl FusedIterator for TruncatedRelations<'_> {}

impl fmt::Debug for TruncatedRelations<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
