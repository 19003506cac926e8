//! How a fed table stands at the source now: asked for when the stream shows another shape than the one that is known,
//! and before a table is copied.

use cdc_source::{Connection, SessionKind, TableInfo, tables};
use pgoutput::{Lsn, Oid};

use crate::config::FeederConfig;
use crate::control::Control;
use crate::ddl_trigger::Announcement;
use crate::error::{FeederError, from_source};
use crate::evolution::Found;
use crate::plan::TablePlan;
use crate::publish;
use crate::select::Selection;

/// A table to be looked at.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) source_oid: u32,
    pub(crate) selection: Selection,
    /// Types that the stream named, beside those of the columns.
    pub(crate) types: Vec<Oid>,
    /// Its definition, where the source's event trigger has told it: then only its types are looked up.
    pub(crate) announced: Option<Announcement>,
}

/// The ends of the source's WAL before and after a look at its catalog. It shows no commit after the second, and all before
/// the first, but those that still wait for a standby.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookedAt {
    pub(crate) before: Lsn,
    pub(crate) after: Lsn,
}

/// Looks at tables over a connection of its own. They come in the order in which they were asked for.
pub(crate) async fn look(
    config: &FeederConfig,
    wanted: &[Wanted],
) -> Result<Vec<Found>, FeederError> {
    let mut connection = Connection::connect(&config.source.endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)?;
    let found = over(&mut connection, config, wanted).await?;
    connection.close().await;
    Ok(found)
}

/// Adds what operators stated of the tables. Comes after the look: what was stated before a change is among it then.
///
/// # Errors
/// A catalog that cannot be asked.
pub(crate) async fn add_stated(
    control: &Control,
    found: &mut [&mut Found],
) -> Result<(), FeederError> {
    if found.is_empty() {
        return Ok(());
    }
    let pending = control.pending_directives().await?;
    for found in found {
        found.directives.clone_from(&pending);
    }
    Ok(())
}

/// As [`look`], over a connection that is there.
pub(crate) async fn over(
    connection: &mut Connection,
    config: &FeederConfig,
    wanted: &[Wanted],
) -> Result<Vec<Found>, FeederError> {
    let major = connection.server_version().major();
    let oids: Vec<Oid> = wanted
        .iter()
        .map(|table| Oid::new(table.source_oid))
        .collect();
    let infos = tables::describe(connection, &oids)
        .await
        .map_err(from_source)?;
    let mut types: Vec<Oid> = wanted
        .iter()
        .flat_map(|table| table.types.clone())
        .collect();
    let columns = infos.iter().flat_map(|info| &info.columns);
    types.extend(columns.map(|column| column.type_oid));
    types.sort_unstable();
    types.dedup();
    let types = tables::type_closure(connection, &types)
        .await
        .map_err(from_source)?;
    let publications = publish::read(connection, config).await?;
    Ok(wanted
        .iter()
        .map(|table| {
            let plan_of = |info: &TableInfo| {
                let stored = publish::stored_columns(config, major, &publications, info);
                let selection = table.selection.clone();
                TablePlan::new(config, selection, info.clone(), &types, stored).on_server(major)
            };
            let plan = if let Some(announced) = &table.announced {
                let mut plan = plan_of(&announced.info());
                plan.shape.files = announced.files().collect();
                Some(plan)
            } else {
                let there = |info: &&TableInfo| info.id.oid.get() == table.source_oid;
                infos.iter().find(there).map(plan_of)
            };
            Found {
                rewritten: table
                    .announced
                    .as_ref()
                    .map(|announced| announced.rewritten),
                plan,
                types: types.clone(),
                directives: Vec::new(),
            }
        })
        .collect())
}
