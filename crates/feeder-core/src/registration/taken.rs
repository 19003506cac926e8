//! Names in the lake: whose they are, and which new tables of the source want one of somebody else.

use std::collections::{BTreeMap, BTreeSet};

use ducklake_catalog::{Lake, TableId};

use crate::control::TableRow;
use crate::current_view::view_name;
use crate::dead_letters;
use crate::error::{FeederError, FeederErrorKind};
use crate::plan::TablePlan;
use crate::select::names_in_lake;

/// A schema and a name, in lower case, since DuckDB ignores it.
type Name = (String, String);

fn key(schema: &str, name: &str) -> Name {
    (schema.to_lowercase(), name.to_lowercase())
}

/// What the lake has that is not the feeder's.
#[derive(Debug, Default)]
pub(super) struct Foreign(BTreeSet<Name>);

impl Foreign {
    pub(super) fn of(lake: &Lake, rows: &[TableRow]) -> Self {
        let own: BTreeSet<TableId> = rows
            .iter()
            .filter_map(|row| row.lake_table_id.map(TableId::new))
            .collect();
        let made = lake
            .tables()
            .filter(|table| own.contains(&table.id))
            .map(|table| (table.schema_name.as_str(), table.name.as_str()));
        // The view of a table that somebody dropped is left.
        let were_made = rows
            .iter()
            .filter(|row| row.lake_table_id.is_some())
            .map(|row| (row.target_schema.as_str(), row.target_table.as_str()));
        let own_views: BTreeSet<Name> = made
            .chain(were_made)
            .map(|(schema, name)| key(schema, &view_name(name)))
            .collect();
        let tables = lake
            .tables()
            .filter(|table| !own.contains(&table.id))
            .map(|table| key(&table.schema_name, &table.name));
        let views = lake.views().iter().filter_map(|view| {
            let schema = lake.schemas().iter().find(|one| one.id == view.schema)?;
            Some(key(&schema.name, &view.name))
        });
        Self(
            tables
                .chain(views.filter(|view| !own_views.contains(view)))
                .collect(),
        )
    }

    /// The name that a table of this one, or its view, would share with it.
    pub(super) fn met_by(&self, schema: &str, table: &str) -> Option<String> {
        names_in_lake(table)
            .into_iter()
            .find(|name| self.0.contains(&key(schema, name)))
    }
}

/// Names that are taken, and by which tables of the source.
pub(super) struct Taken<'a> {
    foreign: &'a Foreign,
    by_tables: BTreeMap<Name, String>,
}

impl<'a> Taken<'a> {
    pub(super) fn by(rows: &[TableRow], foreign: &'a Foreign) -> Self {
        let mut by_tables = BTreeMap::new();
        for row in rows {
            let source = format!("{}.{}", row.source_schema, row.source_table);
            for name in names_in_lake(&row.target_table) {
                by_tables.insert(key(&row.target_schema, &name), source.clone());
            }
        }
        Self { foreign, by_tables }
    }

    /// Gives a new table its names.
    ///
    /// # Errors
    /// Kind [`FeederErrorKind::Config`] where one of them is another's.
    pub(super) fn claim(&mut self, plan: &TablePlan) -> Result<(), FeederError> {
        let target = &plan.selection;
        let schema = target.target_schema.as_str();
        let refused = |message: String| {
            Err(
                FeederError::permanent(FeederErrorKind::Config, message).with_remedy(format!(
                    "feed {} into another target_schema or target_table",
                    plan.source()
                )),
            )
        };
        if let Some(name) = self.foreign.met_by(schema, &target.target_table) {
            return refused(format!(
                "the lake has a {schema}.{name} already, which this feeder did not make; {} would use that name",
                plan.source()
            ));
        }
        let names = names_in_lake(&target.target_table).map(|name| key(schema, &name));
        for name in &names {
            if name.1 == dead_letters::TABLE {
                return refused(format!(
                    "{} would use the name of the dead letters",
                    plan.source()
                ));
            }
            if let Some(other) = self.by_tables.get(name) {
                return refused(format!(
                    "{} would use the lake name {schema}.{}, which {other} has (case is ignored, and each table has a view `<table>_current`)",
                    plan.source(),
                    name.1
                ));
            }
        }
        for name in names {
            self.by_tables.insert(name, plan.source());
        }
        Ok(())
    }
}
