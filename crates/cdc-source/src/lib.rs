//! The source Postgres: connection, slot, publication, COPY and the change stream.
//!
//! One [`Endpoint`] describes a server (the source and the catalog share the type), one
//! [`Connection`] speaks the frontend/backend protocol to it over TCP or a Unix socket, plain or
//! with TLS. An idle connection becomes a [`ReplicationStream`] by value, so no query can be sent
//! into a running stream by mistake. Everything else here is SQL on such a connection: slots,
//! publications, tables, facts about the server, and copy sessions under an exported snapshot.
//!
//! What this crate does not do: it decodes no change (that is `pgoutput`), retries nothing but a
//! refused password that may have changed, spawns no task and keeps no state between connections.
//! Errors say what they are about ([`SourceError`]), and never contain row values or secrets.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use cdc_source::{Connection, Endpoint, SessionKind};
//!
//! let endpoint = Endpoint::parse("postgres://feeder@db.example.com/shop")?;
//! let mut connection = Connection::connect(&endpoint, SessionKind::Sql).await?;
//! let rows = connection.query("select 1 as one").await?;
//! assert_eq!(rows.first().and_then(|row| row.get(0)), Some("1"));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod auth;
mod certificate;
mod connection;
mod copy;
mod dial;
mod endpoint;
mod error;
pub mod partitions;
mod password;
mod pgpass;
pub mod publication;
mod replication;
mod row;
pub mod server;
pub mod shape;
pub mod slot;
mod sql;
pub mod tables;
mod tls;
mod wire;

#[cfg(test)]
mod scripted;

pub use connection::{Connection, CopyOut, ServerVersion, SessionKind};
pub use copy::{CopySession, CtidRange, ctid_ranges, render_copy};
pub use endpoint::{
    ChannelBindingMode, Endpoint, EndpointError, Host, TargetSession, TlsMode, TlsOptions,
};
pub use error::{SourceError, SourceErrorKind};
pub use password::{PasswordProvider, PasswordSource};
pub use publication::{Publication, PublicationName, PublishActions, PublishedTable};
pub use replication::{
    CreatedSlot, ReplicationStream, StreamOptions, SystemIdentity, TimelineSwitch,
};
pub use row::Row;
pub use server::ServerFacts;
pub use shape::TableShape;
pub use slot::{SlotInfo, SlotName};
pub use sql::{quote_ident, quote_literal};
pub use tables::{ColumnInfo, KeyInfo, LeafInfo, TableId, TableInfo, TableKind};
