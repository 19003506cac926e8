//! Changes of tables that an operator stated ahead.

use std::fmt;

use ducklake_catalog::sqlx::{self, Row as _, postgres::PgRow};
use pgoutput::Lsn;
use serde::Serialize;
use uuid::Uuid;

use super::{Control, ControlError, parse_lsn};
use crate::FeederError;

/// A change of a table's definition at the source, as an operator states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SchemaChange {
    /// A column gets another name, and its history goes on under it.
    RenameColumn {
        /// Its name until then.
        column: String,
        /// Its name from then on.
        to: String,
    },
    /// A column gets another type.
    ChangeType {
        /// Its name before or after the change.
        column: String,
        /// The type as Postgres knows it: an alias such as `int` or `varchar(20)`, or what `format_type` prints. Types
        /// outside of `pg_catalog` need their schema.
        to: String,
        /// The rewritten rows keep their values, so that they need no other copy where the column becomes wider.
        values_unchanged: bool,
    },
    /// A column goes, in the lake too.
    DropColumn {
        /// Its name.
        column: String,
    },
}

impl SchemaChange {
    /// What the command line and the control tables call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RenameColumn { .. } => "rename-column",
            Self::ChangeType { .. } => "change-type",
            Self::DropColumn { .. } => "drop-column",
        }
    }

    /// The column that it is about.
    pub fn column(&self) -> &str {
        match self {
            Self::RenameColumn { column, .. }
            | Self::ChangeType { column, .. }
            | Self::DropColumn { column } => column,
        }
    }
}

/// As it is stated on the command line.
impl fmt::Display for SchemaChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.column())?;
        match self {
            Self::RenameColumn { to, .. } => write!(f, " {to}"),
            Self::ChangeType {
                to,
                values_unchanged,
                ..
            } => {
                write!(f, " {to}")?;
                if *values_unchanged {
                    f.write_str(" --values-unchanged")?;
                }
                Ok(())
            }
            Self::DropColumn { .. } => Ok(()),
        }
    }
}

/// A type as it comes in a Relation message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeId {
    /// `pg_type.oid`.
    pub oid: u32,
    /// -1 without one.
    pub modifier: i32,
}

/// A directive that is about to be stored.
#[derive(Clone, Debug)]
pub struct NewDirective {
    /// What it is called; one is made when there is none.
    pub id: Option<String>,
    /// The table's oid at the source.
    pub source_oid: u32,
    /// What is stated. A type has the name that the source prints.
    pub change: SchemaChange,
    /// The type of a [`SchemaChange::ChangeType`].
    pub next_type: Option<TypeId>,
}

/// A change that was stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// What it is called, of all of the feeder's.
    pub id: String,
    /// The table's oid at the source.
    pub source_oid: u32,
    /// The table: `schema.table` at the source.
    pub table: String,
    /// What is stated.
    pub change: SchemaChange,
    /// The type of a [`SchemaChange::ChangeType`].
    pub next_type: Option<TypeId>,
    /// When it was stated, in microseconds since 1970-01-01 UTC.
    pub stated_at: i64,
    /// Set once the lake has followed it.
    pub applied: Option<Applied>,
}

/// What became of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The transaction that brought the change, or the position that the stream had passed when the source's catalog
    /// showed it.
    pub lsn: Lsn,
    /// When its commit was written, in microseconds since 1970-01-01 UTC.
    pub at: i64,
}

/// What came of stating a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// As the control tables have it.
    pub directive: Directive,
    /// Whether it was not stated before.
    pub new: bool,
}

impl Control {
    /// Stores a directive, once. The same again is no error: under its id, or without one while it is pending. Needs no
    /// [`Fence`](super::Fence).
    ///
    /// # Errors
    /// Kind [`Config`](crate::FeederErrorKind::Config) when something else has the id, or errors of the database.
    pub async fn state_directive(&self, new: &NewDirective) -> Result<Statement, FeederError> {
        let failed = ControlError::database("storing what was stated of a table");
        let same = |found: &Directive| {
            found.source_oid == new.source_oid
                && found.change == new.change
                && found.next_type == new.next_type
        };
        if new.id.is_none() {
            let mut pending = self.pending_directives().await?.into_iter();
            if let Some(directive) = pending.find(same) {
                return Ok(Statement {
                    directive,
                    new: false,
                });
            }
        }
        let id = match &new.id {
            Some(id) => id.clone(),
            None => Uuid::now_v7().to_string(),
        };
        let (new_name, type_name, values_unchanged) = match &new.change {
            SchemaChange::RenameColumn { to, .. } => (Some(to), None, false),
            SchemaChange::ChangeType {
                to,
                values_unchanged,
                ..
            } => (None, Some(to), *values_unchanged),
            SchemaChange::DropColumn { .. } => (None, None, false),
        };
        let inserted = sqlx::query(
            "insert into duckfeeder.directives (feeder, id, source_oid, kind, column_name, new_name,
                 type_oid, type_modifier, type_name, values_unchanged)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             on conflict (feeder, id) do nothing",
        )
        .bind(self.feeder().as_str())
        .bind(&id)
        .bind(i64::from(new.source_oid))
        .bind(new.change.kind())
        .bind(new.change.column())
        .bind(new_name)
        .bind(new.next_type.map(|next| i64::from(next.oid)))
        .bind(new.next_type.map(|next| next.modifier))
        .bind(type_name)
        .bind(values_unchanged)
        .execute(&mut *self.connection().await?)
        .await
        .map_err(&failed)?
        .rows_affected();
        let mut stored = self.directives().await?.into_iter();
        let Some(directive) = stored.find(|directive| directive.id == id) else {
            // It was cancelled right away.
            return Err(ControlError::UnknownDirective {
                feeder: self.feeder().clone(),
                id,
            }
            .into());
        };
        if inserted == 0 && !same(&directive) {
            return Err(ControlError::DirectiveExists {
                id,
                found: format!("{} of {}", directive.change, directive.table),
                stated: new.change.to_string(),
            }
            .into());
        }
        Ok(Statement {
            directive,
            new: inserted > 0,
        })
    }

    /// All directives of the feeder, in the order in which they were stated.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn directives(&self) -> Result<Vec<Directive>, FeederError> {
        self.read_directives(false).await
    }

    /// Those whose change has not come.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn pending_directives(&self) -> Result<Vec<Directive>, FeederError> {
        self.read_directives(true).await
    }

    async fn read_directives(&self, pending: bool) -> Result<Vec<Directive>, FeederError> {
        let rows = sqlx::query(
            "select d.id, d.source_oid, t.source_schema, t.source_table, d.kind, d.column_name, d.new_name,
                 d.type_oid, d.type_modifier, d.type_name, d.values_unchanged,
                 (extract(epoch from d.stated_at) * 1000000)::bigint as stated_micros,
                 d.applied_lsn::text as applied_lsn,
                 (extract(epoch from d.applied_at) * 1000000)::bigint as applied_micros
             from duckfeeder.directives d
             join duckfeeder.tables t on t.feeder = d.feeder and t.source_oid = d.source_oid
             where d.feeder = $1 and (d.applied_lsn is null or not $2)
             order by d.stated_at, d.id",
        )
        .bind(self.feeder().as_str())
        .bind(pending)
        .fetch_all(&mut *self.connection().await?)
        .await
        .map_err(ControlError::database("reading what was stated of tables"))?;
        Ok(rows.iter().map(decode).collect::<Result<_, _>>()?)
    }

    /// Takes a directive back whose change has not come. An evolution that is on its way into the lake with it goes back
    /// to the checkpoint, and is judged again. Needs no [`Fence`](super::Fence).
    ///
    /// # Errors
    /// Kind [`Config`](crate::FeederErrorKind::Config) when there is none of that id, or it is applied; or errors of the
    /// database.
    pub async fn cancel_directive(&self, id: &str) -> Result<(), FeederError> {
        let failed = ControlError::database("cancelling what was stated of a table");
        let feeder = self.feeder().clone();
        let deleted = sqlx::query(
            "delete from duckfeeder.directives where feeder = $1 and id = $2 and applied_lsn is null",
        )
        .bind(feeder.as_str())
        .bind(id)
        .execute(&mut *self.connection().await?)
        .await
        .map_err(&failed)?;
        if deleted.rows_affected() > 0 {
            return Ok(());
        }
        let mut stored = self.directives().await?.into_iter();
        let applied = stored
            .find(|directive| directive.id == id)
            .and_then(|directive| directive.applied);
        let id = id.to_owned();
        Err(match applied {
            Some(Applied { lsn, .. }) => ControlError::DirectiveApplied { id, lsn },
            None => ControlError::UnknownDirective { feeder, id },
        }
        .into())
    }
}

fn decode(row: &PgRow) -> Result<Directive, ControlError> {
    let failed = ControlError::database("reading what was stated of tables");
    let corrupt = |column: &'static str| ControlError::Corrupt {
        table: "directives",
        column,
    };
    let text = |column: &'static str| -> Result<String, ControlError> {
        let text: Option<String> = row.try_get(column).map_err(&failed)?;
        text.ok_or_else(|| corrupt(column))
    };
    let oid = |column: &'static str, value: i64| u32::try_from(value).map_err(|_| corrupt(column));
    let column = text("column_name")?;
    let change = match text("kind")?.as_str() {
        "rename-column" => SchemaChange::RenameColumn {
            column,
            to: text("new_name")?,
        },
        "change-type" => SchemaChange::ChangeType {
            column,
            to: text("type_name")?,
            values_unchanged: row.try_get("values_unchanged").map_err(&failed)?,
        },
        "drop-column" => SchemaChange::DropColumn { column },
        _ => return Err(corrupt("kind")),
    };
    let type_oid: Option<i64> = row.try_get("type_oid").map_err(&failed)?;
    let modifier: Option<i32> = row.try_get("type_modifier").map_err(&failed)?;
    let next_type = match type_oid.zip(modifier) {
        Some((type_oid, modifier)) => Some(TypeId {
            oid: oid("type_oid", type_oid)?,
            modifier,
        }),
        None => None,
    };
    let applied_lsn: Option<String> = row.try_get("applied_lsn").map_err(&failed)?;
    let applied_at: Option<i64> = row.try_get("applied_micros").map_err(&failed)?;
    let applied = match applied_lsn.zip(applied_at) {
        Some((lsn, at)) => Some(Applied {
            lsn: parse_lsn(&lsn, "directives", "applied_lsn")?,
            at,
        }),
        None => None,
    };
    Ok(Directive {
        id: text("id")?,
        source_oid: oid("source_oid", row.try_get("source_oid").map_err(&failed)?)?,
        table: format!("{}.{}", text("source_schema")?, text("source_table")?),
        change,
        next_type,
        stated_at: row.try_get("stated_micros").map_err(&failed)?,
        applied,
    })
}
