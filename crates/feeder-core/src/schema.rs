//! Changes of tables that an operator states ahead: what a coming change is, and that it may pass.
//!
//! Each is stored once, in the control tables; the feeder follows it where the change comes, and notes that in the same
//! commit. docs/schema-changes.md says what each kind does.

use cdc_source::tables::{NamedType, named_type};
use cdc_source::{Connection, SessionKind};
use serde::Serialize;

use crate::check;
use crate::clock;
use crate::config::FeederConfig;
use crate::control::{Control, Directive, NewDirective, TableRow, TypeId, migrations};
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::lake_tables;
use crate::plan::SourceShape;
use crate::select;
use crate::status::TableState;

pub use crate::control::SchemaChange;

/// Longer ones are no ids.
const ID_LENGTH: usize = 200;

/// A change that was stated.
#[derive(Clone, Debug, Serialize)]
pub struct Stated {
    /// What it is called, of all of the feeder's.
    pub id: String,
    /// The table: `schema.table` at the source.
    pub table: String,
    /// What was stated. A type has the name that the source prints.
    pub change: SchemaChange,
    /// When, in UTC (RFC 3339).
    pub stated_at: String,
    /// Whether the change has come.
    pub state: State,
    /// Where it was in the stream: the transaction that brought it, or the position that the stream had passed when the
    /// source's catalog showed it.
    pub applied_lsn: Option<String>,
    /// When its commit was written, in UTC (RFC 3339).
    pub applied_at: Option<String>,
    /// Why a pending one may not come any more.
    pub remark: Option<String>,
}

/// What became of a stated change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has not come.
    Pending,
    /// The lake has followed it. It is not used again.
    Applied,
}

impl State {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Applied => "applied",
        }
    }
}

/// States a change of a table ahead, for the feeder of this configuration, running or not. Returns it, and whether it was
/// not stated before: the same under the same id, or while it is pending without one, is stored once.
///
/// # Errors
/// A table that is not fed, a column or type that is not known, something else under that id, or a database that cannot be
/// asked. The source is asked for types alone.
pub async fn state(
    config: &FeederConfig,
    table: &str,
    change: SchemaChange,
    id: Option<&str>,
) -> Result<(Stated, bool), FeederError> {
    if let Some(id) = id {
        check_id(id)?;
    }
    let (schema, name) = select::exact_name(table)?;
    let control = control(config).await?;
    let rows = control.tables().await?;
    let row = fed(config, &rows, &schema, &name)?;
    let directives = control.directives().await?;
    let (change, next_type) = match change {
        SchemaChange::ChangeType {
            column,
            to,
            values_unchanged,
        } => {
            let named = source_type(config, &to).await?;
            let next_type = TypeId {
                oid: named.oid.get(),
                modifier: named.modifier,
            };
            let to = named.name;
            let change = SchemaChange::ChangeType {
                column,
                to,
                values_unchanged,
            };
            (change, Some(next_type))
        }
        change => (change, None),
    };
    let new = NewDirective {
        id: id.map(str::to_owned),
        source_oid: row.source_oid,
        change,
        next_type,
    };
    // Whatever became of it, a script may state it again.
    let known = directives
        .iter()
        .any(|directive| Some(directive.id.as_str()) == id);
    if !known {
        let shape = lake_tables::stored_shape(row)?;
        let pending: Vec<&Directive> = pending_of(&directives, row.source_oid).collect();
        let judged = judge(&new.change, next_type, &shape, &pending);
        judged.map_err(|reason| refused(format!("{schema}.{name}: {reason}")))?;
        if let SchemaChange::RenameColumn { to, .. } = &new.change {
            select::check_columns(table, [to.as_str()].into_iter())?;
        }
    }
    let stored = control.state_directive(&new).await?;
    Ok((Stated::of(stored.directive, None), stored.new))
}

/// What was stated to the feeder, in that order.
///
/// # Errors
/// No such feeder, or a catalog that cannot be asked.
pub async fn list(config: &FeederConfig) -> Result<Vec<Stated>, FeederError> {
    let control = control(config).await?;
    let directives = control.directives().await?;
    let rows = control.tables().await?;
    directives
        .iter()
        .map(|directive| {
            let row = rows
                .iter()
                .find(|row| row.source_oid == directive.source_oid);
            let remark = match row.filter(|_| directive.applied.is_none()) {
                Some(row) => remark(directive, row, &directives)?,
                None => None,
            };
            Ok(Stated::of(directive.clone(), remark))
        })
        .collect()
}

/// Takes back what was stated and has not come.
///
/// # Errors
/// There is none of that id, the lake has followed it, or a catalog that cannot be asked.
pub async fn cancel(config: &FeederConfig, id: &str) -> Result<(), FeederError> {
    control(config).await?.cancel_directive(id).await
}

impl Stated {
    fn of(directive: Directive, remark: Option<String>) -> Self {
        Self {
            id: directive.id,
            table: directive.table,
            change: directive.change,
            stated_at: clock::utc_text(directive.stated_at),
            state: match directive.applied {
                Some(_) => State::Applied,
                None => State::Pending,
            },
            applied_lsn: directive.applied.map(|applied| applied.lsn.to_string()),
            applied_at: directive.applied.map(|applied| clock::utc_text(applied.at)),
            remark,
        }
    }
}

async fn control(config: &FeederConfig) -> Result<Control, FeederError> {
    let catalog = check::connect_catalog(&config.catalog).await?;
    migrations::require(&catalog).await?;
    let control = Control::new(&catalog, config.name.clone());
    if control.load_feeder().await?.is_none() {
        return Err(FeederError::permanent(
            FeederErrorKind::Config,
            format!("the catalog knows no feeder {}", config.name),
        )
        .with_remedy("`duckfeeder run` registers it; check the name and catalog.url"));
    }
    Ok(control)
}

fn fed<'a>(
    config: &FeederConfig,
    rows: &'a [TableRow],
    schema: &str,
    name: &str,
) -> Result<&'a TableRow, FeederError> {
    let fed = |row: &&TableRow| row.state != TableState::Paused;
    rows.iter()
        .filter(fed)
        .find(|row| (row.source_schema.as_str(), row.source_table.as_str()) == (schema, name))
        .ok_or_else(|| {
            let tables = rows
                .iter()
                .filter(fed)
                .map(|row| format!("{}.{}", row.source_schema, row.source_table));
            FeederError::permanent(
                FeederErrorKind::Config,
                format!(
                    "feeder {} does not feed {schema}.{name}; it feeds {}",
                    config.name,
                    named(tables)
                ),
            )
            .with_remedy(
                "correct the name; a table that is new is known once `duckfeeder status` shows it",
            )
        })
}

/// More names than these are counted only.
const NAMED: usize = 30;

fn named(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

fn check_id(id: &str) -> Result<(), FeederError> {
    let printed = |id: &str| id.trim() == id && !id.chars().any(char::is_control);
    if !id.is_empty() && id.chars().count() <= ID_LENGTH && printed(id) {
        return Ok(());
    }
    Err(refused(format!(
        "{id:?} is no id: up to {ID_LENGTH} characters, without control characters and blanks around them"
    )))
}

async fn source_type(config: &FeederConfig, text: &str) -> Result<NamedType, FeederError> {
    let mut connection = Connection::connect(&config.source.endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)?;
    let found = named_type(&mut connection, text).await;
    connection.close().await;
    found.map_err(|error| {
        if error.is_transient() || error.sqlstate().is_none() {
            return from_source(error);
        }
        FeederError::permanent(
            FeederErrorKind::Config,
            format!("{text:?} is no type of the source"),
        )
        .with_source(error)
        .with_remedy(
            "name it as in CREATE TABLE; one that is not Postgres' own with its schema: app.mood",
        )
    })
}

fn pending_of(directives: &[Directive], source_oid: u32) -> impl Iterator<Item = &Directive> {
    directives
        .iter()
        .filter(move |directive| directive.source_oid == source_oid && directive.applied.is_none())
}

/// Why a pending directive may not come any more.
fn remark(
    directive: &Directive,
    row: &TableRow,
    directives: &[Directive],
) -> Result<Option<String>, FeederError> {
    if row.state == TableState::Paused {
        return Ok(Some("the table is not fed any more".to_owned()));
    }
    let shape = lake_tables::stored_shape(row)?;
    let others: Vec<&Directive> = pending_of(directives, row.source_oid)
        .filter(|other| other.id != directive.id)
        .collect();
    Ok(judge(&directive.change, directive.next_type, &shape, &others).err())
}

/// Whether a change of a table of this shape can come, which others that are pending may come before.
fn judge(
    change: &SchemaChange,
    next_type: Option<TypeId>,
    shape: &SourceShape,
    others: &[&Directive],
) -> Result<(), String> {
    let column = change.column();
    let known = shape.columns.iter().find(|known| known.name == column);
    let comes = |name: &str| {
        others.iter().any(
            |other| matches!(&other.change, SchemaChange::RenameColumn { to, .. } if to == name),
        )
    };
    let leaves = |name: &str| {
        let leaving = |change: &SchemaChange| !matches!(change, SchemaChange::ChangeType { .. });
        others
            .iter()
            .any(|other| leaving(&other.change) && other.change.column() == name)
    };
    if known.is_none() && !comes(column) {
        let names = shape.columns.iter().map(|known| known.name.clone());
        return Err(format!(
            "there is no column {column:?}; its columns, as far as the feeder has come, are {}",
            named(names)
        ));
    }
    match change {
        SchemaChange::RenameColumn { to, .. } => {
            let taken = shape.columns.iter().any(|known| known.name == *to);
            if taken && !leaves(to) {
                return Err(format!("there is a column {to:?} already"));
            }
        }
        SchemaChange::ChangeType { to, .. } => {
            let now = known.map(|known| TypeId {
                oid: known.source_type.type_oid,
                modifier: known.source_type.type_modifier,
            });
            let retyped = others
                .iter()
                .any(|other| other.next_type.is_some() && other.change.column() == column);
            if now.is_some() && now == next_type && !retyped {
                return Err(format!("column {column:?} is {to} already"));
            }
        }
        SchemaChange::DropColumn { .. } => {}
    }
    Ok(())
}

fn refused(message: String) -> FeederError {
    FeederError::permanent(FeederErrorKind::Config, message)
        .with_remedy("correct what is stated; `duckfeeder schema list` shows what is pending")
}

#[cfg(test)]
mod tests;
