//! What the source's event trigger says of a table: its definition, at the place in the stream where it changed.
//!
//! The trigger is the source's to have or not ([`SQL`]). Its messages are transactional
//! (`pg_logical_emit_message`), so they come between the rows of the shape before and those of the next.

use cdc_source::tables::{ColumnInfo, Generated, Persistence, TableId, TableKind};
use cdc_source::{Connection, KeyInfo, TableInfo};
use pgoutput::{LogicalMessage, Oid, ReplicaIdentity};
use serde::Deserialize;

use crate::error::{FeederError, from_source};

/// Makes the trigger.
pub const SQL: &str = include_str!("ddl_trigger.sql");

/// Tells its messages from those of others.
const PREFIX: &str = "duckfeeder.ddl";

/// Whether the source has the trigger, and does not keep it disabled.
pub(crate) async fn is_there(connection: &mut Connection) -> Result<bool, FeederError> {
    let rows = connection
        .query(
            "select 1 from pg_catalog.pg_event_trigger \
             where evtname = 'duckfeeder_ddl' and evtenabled <> 'D'",
        )
        .await
        .map_err(from_source)?;
    Ok(!rows.is_empty())
}

/// A table's definition, as the trigger found it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Announcement {
    pub(crate) oid: u32,
    schema: String,
    table: String,
    kind: char,
    identity: char,
    files: Vec<(u32, u32)>,
    /// Its rows were written anew, maybe with other values.
    pub(crate) rewritten: bool,
    keys: Vec<AnnouncedKey>,
    comment: Option<String>,
    columns: Vec<AnnouncedColumn>,
}

#[derive(Clone, Debug, Deserialize)]
struct AnnouncedKey {
    primary: bool,
    identity: bool,
    deferrable: bool,
    columns: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct AnnouncedColumn {
    attnum: i16,
    name: String,
    #[serde(rename = "type")]
    type_oid: u32,
    modifier: i32,
    dimensions: i16,
    not_null: bool,
    default: bool,
    generated: String,
    missing: Option<String>,
    comment: Option<String>,
}

impl Announcement {
    /// What the message announces; `None` for a message of somebody else.
    pub(crate) fn of(message: &LogicalMessage) -> Option<Result<Self, serde_json::Error>> {
        (message.transactional && message.prefix == PREFIX)
            .then(|| serde_json::from_slice(&message.content))
    }

    pub(crate) fn types(&self) -> Vec<Oid> {
        self.columns
            .iter()
            .map(|column| Oid::new(column.type_oid))
            .collect()
    }

    /// The files of the relations that hold the rows, by OID.
    pub(crate) fn files(&self) -> impl Iterator<Item = (u32, u32)> {
        self.files.iter().copied().filter(|(_, file)| *file != 0)
    }

    /// The table as [`tables::describe`](cdc_source::tables::describe) would have found it then, without what only a
    /// copy needs.
    pub(crate) fn info(&self) -> TableInfo {
        let key = |wanted: fn(&AnnouncedKey) -> bool| {
            let found = self.keys.iter().find(|key| wanted(key))?;
            Some(KeyInfo {
                columns: found.columns.clone(),
                deferrable: found.deferrable,
            })
        };
        TableInfo {
            id: TableId {
                oid: Oid::new(self.oid),
                schema: self.schema.clone(),
                name: self.table.clone(),
                kind: if self.kind == 'p' {
                    TableKind::Partitioned
                } else {
                    TableKind::Ordinary
                },
                persistence: Persistence::Permanent,
            },
            replica_identity: match self.identity {
                'n' => ReplicaIdentity::Nothing,
                'f' => ReplicaIdentity::Full,
                'i' => ReplicaIdentity::Index,
                _ => ReplicaIdentity::Default,
            },
            relfilenode: 0,
            columns_ever: i16::MAX,
            pages: 0,
            rows: None,
            primary_key: key(|key| key.primary),
            identity_index: key(|key| key.identity),
            columns: self.columns.iter().map(AnnouncedColumn::info).collect(),
            row_security: false,
            row_security_forced: false,
            row_security_applies: false,
            schema_usage: true,
            select_privilege: true,
            updates: 0,
            deletes: 0,
            is_inheritance_parent: false,
            comment: self.comment.clone(),
            leaves: Vec::new(),
        }
    }
}

impl AnnouncedColumn {
    fn info(&self) -> ColumnInfo {
        ColumnInfo {
            attnum: self.attnum,
            name: self.name.clone(),
            type_oid: Oid::new(self.type_oid),
            type_name: String::new(),
            type_modifier: self.modifier,
            dimensions: self.dimensions,
            not_null: self.not_null,
            has_default: self.default,
            missing_value: self.missing.clone(),
            altered_by: None,
            comment: self.comment.clone(),
            generated: match self.generated.as_str() {
                "s" => Generated::Stored,
                "v" => Generated::Virtual,
                _ => Generated::No,
            },
            select_privilege: true,
        }
    }
}
