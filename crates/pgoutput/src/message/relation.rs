//! Relation and Type: what the rows that follow look like.

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::reader::Reader;
use crate::writer::{put_count16, put_stream_xid, put_string};
use crate::{Oid, RelationId, Xid};

/// Which columns of the old row the log holds for updates and deletes
/// (Postgres documentation, `ALTER TABLE ... REPLICA IDENTITY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplicaIdentity {
    /// Those of the primary key, if there is one.
    Default,
    /// None.
    Nothing,
    /// All.
    Full,
    /// Those of a chosen unique index.
    Index,
}

impl ReplicaIdentity {
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let unknown = reader.error(DecodeErrorKind::UnknownValue, "replica identity");
        match reader.u8("replica identity")? {
            b'd' => Ok(Self::Default),
            b'n' => Ok(Self::Nothing),
            b'f' => Ok(Self::Full),
            b'i' => Ok(Self::Index),
            _ => Err(unknown),
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Default => b'd',
            Self::Nothing => b'n',
            Self::Full => b'f',
            Self::Index => b'i',
        }
    }
}

/// Describes a table. Sent in a session before the first change of the table, and again after
/// anything about the table may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The transaction or subtransaction, inside a stream block only.
    pub xid: Option<Xid>,
    /// The table.
    pub id: RelationId,
    /// The table's schema. An empty name on the wire stands for `pg_catalog`, and is read as that.
    pub namespace: String,
    /// The table's name.
    pub name: String,
    /// What the log holds of old rows.
    pub replica_identity: ReplicaIdentity,
    /// The published columns, in the order of the values in each row.
    pub columns: Vec<RelationColumn>,
}

impl Relation {
    pub(crate) fn decode(xid: Option<Xid>, reader: &mut Reader) -> Result<Self, DecodeError> {
        let id = reader.relation_id()?;
        let namespace = decode_namespace(reader)?;
        let name = reader.string("relation name")?;
        let replica_identity = ReplicaIdentity::decode(reader)?;
        let count = reader.count16("column count")?;
        // A column takes ten bytes at least: the count alone cannot make us allocate.
        let mut columns = Vec::with_capacity(usize::from(count).min(reader.rest().len() / 10));
        for _ in 0..count {
            columns.push(RelationColumn::decode(reader)?);
        }
        Ok(Self {
            xid,
            id,
            namespace,
            name,
            replica_identity,
            columns,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) -> Result<(), EncodeError> {
        put_stream_xid(dst, self.xid);
        dst.put_u32(self.id.get());
        encode_namespace(dst, &self.namespace)?;
        put_string(dst, &self.name, "relation name")?;
        dst.put_u8(self.replica_identity.byte());
        put_count16(dst, self.columns.len(), "column list")?;
        for column in &self.columns {
            column.encode(dst)?;
        }
        Ok(())
    }
}

/// One column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationColumn {
    /// Bit 0: see [`is_key`](Self::is_key).
    pub flags: u8,
    /// The column's name.
    pub name: String,
    /// The column's data type.
    pub type_oid: Oid,
    /// `pg_attribute.atttypmod`, for example precision and scale of a numeric; -1 if the type has
    /// none.
    pub type_modifier: i32,
}

impl RelationColumn {
    const KEY: u8 = 1;

    /// Whether the column is part of the replica identity. With identity full, every column is.
    pub const fn is_key(&self) -> bool {
        self.flags & Self::KEY != 0
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            flags: reader.u8("column flags")?,
            name: reader.string("column name")?,
            type_oid: reader.oid("column type")?,
            type_modifier: reader.i32("type modifier")?,
        })
    }

    fn encode(&self, dst: &mut BytesMut) -> Result<(), EncodeError> {
        dst.put_u8(self.flags);
        put_string(dst, &self.name, "column name")?;
        dst.put_u32(self.type_oid.get());
        dst.put_i32(self.type_modifier);
        Ok(())
    }
}

/// Names a type that is not built in, before the first [`Relation`] that uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// The transaction or subtransaction, inside a stream block only.
    pub xid: Option<Xid>,
    /// The type. For a domain, the id of the domain with the name of its base type.
    pub id: Oid,
    /// The type's schema; `pg_catalog` as in [`Relation::namespace`].
    pub namespace: String,
    /// The type's name.
    pub name: String,
}

impl Type {
    pub(crate) fn decode(xid: Option<Xid>, reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            xid,
            id: reader.oid("type id")?,
            namespace: decode_namespace(reader)?,
            name: reader.string("type name")?,
        })
    }

    pub(super) fn encode(&self, dst: &mut BytesMut) -> Result<(), EncodeError> {
        put_stream_xid(dst, self.xid);
        dst.put_u32(self.id.get());
        encode_namespace(dst, &self.namespace)?;
        put_string(dst, &self.name, "type name")
    }
}

const PG_CATALOG: &str = "pg_catalog";

fn decode_namespace(reader: &mut Reader) -> Result<String, DecodeError> {
    let name = reader.string("namespace")?;
    Ok(if name.is_empty() {
        PG_CATALOG.to_owned()
    } else {
        name
    })
}

fn encode_namespace(dst: &mut BytesMut, name: &str) -> Result<(), EncodeError> {
    put_string(dst, if name == PG_CATALOG { "" } else { name }, "namespace")
}
