//! `duckfeeder schema`

use std::fmt::Write as _;

use duckfeeder::schema::{self, SchemaChange, Stated};

use crate::args::{DirectiveId, SchemaCommand};
use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};

/// States a change ahead, or shows and takes back what was stated.
pub(super) async fn schema(
    settings: &Settings,
    command: SchemaCommand,
    console: &Console,
) -> Result {
    let (table, change, DirectiveId { id }) = match command {
        SchemaCommand::RenameColumn {
            table,
            column,
            to,
            id,
        } => (table, SchemaChange::RenameColumn { column, to }, id),
        SchemaCommand::ChangeType {
            table,
            column,
            to,
            values_unchanged,
            id,
        } => {
            let change = SchemaChange::ChangeType {
                column,
                to,
                values_unchanged,
            };
            (table, change, id)
        }
        SchemaCommand::DropColumn { table, column, id } => {
            (table, SchemaChange::DropColumn { column }, id)
        }
        SchemaCommand::List { json } => return list(settings, json, console).await,
        SchemaCommand::Cancel { id } => {
            schema::cancel(&settings.feeder, &id).await?;
            console.print(&format!("{id} is taken back"))?;
            return Ok(Exit::Done);
        }
    };
    let (stated, new) = schema::state(&settings.feeder, &table, change, id.as_deref()).await?;
    let Stated {
        id, table, change, ..
    } = &stated;
    console.print(&match (new, &stated.applied_lsn) {
        (true, _) => format!(
            "stated as {id}: {change} of {table}; `duckfeeder schema list` shows when it was applied"
        ),
        (false, None) => format!("already stated as {id}: {change} of {table}"),
        (false, Some(lsn)) => {
            format!("already stated as {id}, and applied at {lsn}: {change} of {table}")
        }
    })?;
    Ok(Exit::Done)
}

async fn list(settings: &Settings, json: bool, console: &Console) -> Result {
    let stated = schema::list(&settings.feeder).await?;
    let text = if json {
        serde_json::to_string_pretty(&stated).map_err(|error| {
            Failure::usage(
                "what was stated cannot be written as JSON",
                "this is a defect, please report it",
            )
            .caused_by(&error)
        })?
    } else {
        describe(&stated)
    };
    console.print(&text)?;
    Ok(Exit::Done)
}

fn describe(stated: &[Stated]) -> String {
    if stated.is_empty() {
        return "nothing was stated".to_owned();
    }
    let rows: Vec<[String; 5]> = stated
        .iter()
        .map(|one| {
            let state = match (&one.applied_lsn, &one.applied_at) {
                (Some(lsn), Some(at)) => format!("{} at {lsn}, {at}", one.state.as_str()),
                _ => one.state.as_str().to_owned(),
            };
            let state = match &one.remark {
                Some(remark) => format!("{state}; may not come any more: {remark}"),
                None => state,
            };
            let (id, table) = (one.id.clone(), one.table.clone());
            [
                id,
                table,
                one.change.to_string(),
                one.stated_at.clone(),
                state,
            ]
        })
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), width(3)];
    let [id_width, table_width, change_width, stated_width] = widths;
    let mut text = String::new();
    for [id, table, change, stated_at, state] in &rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{id:<id_width$}  {table:<table_width$}  {change:<change_width$}  stated {stated_at:<stated_width$}  {state}"
        );
    }
    text
}
