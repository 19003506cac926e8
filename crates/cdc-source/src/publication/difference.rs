//! What differs between publications; pure.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{Publication, PublicationTable, PublishActions, WantedPublication};
use crate::sql::qualified;

/// One difference. Its text names the publication and the object.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublicationDifference {
    /// There is no such publication.
    #[error("publication \"{publication}\" does not exist")]
    Missing {
        /// The publication.
        publication: String,
    },
    /// It was dropped and made again: changes in between are lost.
    #[error("publication \"{publication}\" was dropped and created again")]
    Recreated {
        /// The publication.
        publication: String,
    },
    /// It is FOR ALL TABLES, which makes updates of tables without replica identity fail.
    #[error("publication \"{publication}\" is for all tables")]
    AllTables {
        /// The publication.
        publication: String,
    },
    /// It was for all tables and is not any more.
    #[error("publication \"{publication}\" is no longer for all tables")]
    NoLongerAllTables {
        /// The publication.
        publication: String,
    },
    /// It publishes a whole schema.
    #[error("publication \"{publication}\" publishes all tables in schema \"{schema}\"")]
    Schema {
        /// The publication.
        publication: String,
        /// The schema.
        schema: String,
    },
    /// It published a whole schema and does not any more.
    #[error("publication \"{publication}\" no longer publishes schema \"{schema}\"")]
    SchemaMissing {
        /// The publication.
        publication: String,
        /// The schema.
        schema: String,
    },
    /// An action is not published.
    #[error("publication \"{publication}\" does not publish {action}")]
    ActionMissing {
        /// The publication.
        publication: String,
        /// `insert`, `update`, `delete` or `truncate`.
        action: &'static str,
    },
    /// An action is published that should not be.
    #[error("publication \"{publication}\" publishes {action} and should not")]
    ActionUnwanted {
        /// The publication.
        publication: String,
        /// `insert`, `update`, `delete` or `truncate`.
        action: &'static str,
    },
    /// `publish_via_partition_root` differs.
    #[error("publication \"{publication}\" has publish_via_partition_root = {found}")]
    ViaRoot {
        /// The publication.
        publication: String,
        /// What it is.
        found: bool,
    },
    /// `publish_generated_columns` differs.
    #[error("publication \"{publication}\" {}", if *.found { "publishes generated columns" } else { "does not publish generated columns" })]
    Generated {
        /// The publication.
        publication: String,
        /// Whether it publishes the stored ones.
        found: bool,
    },
    /// A table is not in it.
    #[error("publication \"{publication}\" lacks table {}", qualified(.schema, .table))]
    TableMissing {
        /// The publication.
        publication: String,
        /// The table's schema.
        schema: String,
        /// The table.
        table: String,
    },
    /// A table is in it that should not be.
    #[error("publication \"{publication}\" has table {}, which is not asked for", qualified(.schema, .table))]
    TableUnwanted {
        /// The publication.
        publication: String,
        /// The table's schema.
        schema: String,
        /// The table.
        table: String,
    },
    /// A table was taken out and put in again, or replaced: changes in between are lost.
    #[error("publication \"{publication}\": table {} was taken out and put in again", qualified(.schema, .table))]
    TableReplaced {
        /// The publication.
        publication: String,
        /// The table's schema.
        schema: String,
        /// The table.
        table: String,
    },
    /// The column list of a table differs.
    #[error("publication \"{publication}\": table {} has the column list ({}), not ({})", qualified(.schema, .table), .found, .wanted)]
    Columns {
        /// The publication.
        publication: String,
        /// The table's schema.
        schema: String,
        /// The table.
        table: String,
        /// What it is; `all`, or names.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// The row filter of a table differs.
    #[error("publication \"{publication}\": table {} has {}, not {}", qualified(.schema, .table), .found, .wanted)]
    RowFilter {
        /// The publication.
        publication: String,
        /// The table's schema.
        schema: String,
        /// The table.
        table: String,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
}

/// Compares a publication with what is wanted of it. Row filters are compared only as to whether
/// there is one, since the server renders them anew. A table covered by FOR ALL TABLES or TABLES IN
/// SCHEMA is not missing; that the publication is of this kind is a difference of its own.
pub fn diff(wanted: &WantedPublication, found: Option<&Publication>) -> Vec<PublicationDifference> {
    let publication = wanted.name.as_str().to_owned();
    let Some(found) = found else {
        return vec![PublicationDifference::Missing { publication }];
    };
    let mut differences = Vec::new();
    if found.all_tables {
        differences.push(PublicationDifference::AllTables {
            publication: publication.clone(),
        });
    }
    for schema in &found.schemas {
        differences.push(PublicationDifference::Schema {
            publication: publication.clone(),
            schema: schema.clone(),
        });
    }
    let changing = wanted.actions == PublishActions::All;
    compare_actions(
        &publication,
        [true, changing, changing, true],
        found,
        &mut differences,
    );
    compare_via_root(&publication, wanted.via_root, found, &mut differences);
    compare_generated(&publication, wanted.generated, found, &mut differences);

    let mut rest = by_name(found);
    for table in &wanted.tables {
        let Some(actual) = rest.remove(&(table.schema.as_str(), table.name.as_str())) else {
            if !found.all_tables && !found.schemas.contains(&table.schema) {
                differences.push(PublicationDifference::TableMissing {
                    publication: publication.clone(),
                    schema: table.schema.clone(),
                    table: table.name.clone(),
                });
            }
            continue;
        };
        let same_columns = match (&table.columns, &actual.columns) {
            (None, None) => true,
            (Some(wanted), Some(found)) => sorted(wanted) == sorted(found),
            _ => false,
        };
        if !same_columns {
            differences.push(columns(&publication, actual, table.columns.as_ref()));
        }
        if table.row_filter.is_some() != actual.row_filter.is_some() {
            differences.push(row_filter(&publication, actual, table.row_filter.as_ref()));
        }
    }
    for table in rest.into_values() {
        differences.push(PublicationDifference::TableUnwanted {
            publication: publication.clone(),
            schema: table.schema.clone(),
            table: table.name.clone(),
        });
    }
    differences
}

/// Compares a publication with what it was before (correctness rule 4). Everything that can lose
/// changes counts: oids, flags, tables, column lists, row filters. The owner does not.
pub fn changes(before: &Publication, now: Option<&Publication>) -> Vec<PublicationDifference> {
    let publication = before.name.as_str().to_owned();
    let Some(now) = now else {
        return vec![PublicationDifference::Missing { publication }];
    };
    let mut differences = Vec::new();
    if before.oid != now.oid {
        differences.push(PublicationDifference::Recreated {
            publication: publication.clone(),
        });
    }
    match (before.all_tables, now.all_tables) {
        (false, true) => {
            differences.push(PublicationDifference::AllTables {
                publication: publication.clone(),
            });
        }
        (true, false) => differences.push(PublicationDifference::NoLongerAllTables {
            publication: publication.clone(),
        }),
        _ => {}
    }
    for schema in now
        .schemas
        .iter()
        .filter(|schema| !before.schemas.contains(schema))
    {
        differences.push(PublicationDifference::Schema {
            publication: publication.clone(),
            schema: schema.clone(),
        });
    }
    for schema in before
        .schemas
        .iter()
        .filter(|schema| !now.schemas.contains(schema))
    {
        differences.push(PublicationDifference::SchemaMissing {
            publication: publication.clone(),
            schema: schema.clone(),
        });
    }
    let actions = [before.insert, before.update, before.delete, before.truncate];
    compare_actions(&publication, actions, now, &mut differences);
    compare_via_root(&publication, before.via_root, now, &mut differences);
    compare_generated(&publication, before.generated, now, &mut differences);

    let mut rest = by_name(now);
    for table in &before.tables {
        let Some(actual) = rest.remove(&(table.schema.as_str(), table.name.as_str())) else {
            differences.push(PublicationDifference::TableMissing {
                publication: publication.clone(),
                schema: table.schema.clone(),
                table: table.name.clone(),
            });
            continue;
        };
        if (table.rel_oid, table.relid) != (actual.rel_oid, actual.relid) {
            differences.push(PublicationDifference::TableReplaced {
                publication: publication.clone(),
                schema: table.schema.clone(),
                table: table.name.clone(),
            });
        }
        if table.columns != actual.columns {
            differences.push(columns(&publication, actual, table.columns.as_ref()));
        }
        if table.row_filter != actual.row_filter {
            differences.push(row_filter(&publication, actual, table.row_filter.as_ref()));
        }
    }
    for table in rest.into_values() {
        differences.push(PublicationDifference::TableUnwanted {
            publication: publication.clone(),
            schema: table.schema.clone(),
            table: table.name.clone(),
        });
    }
    differences
}

fn by_name(publication: &Publication) -> BTreeMap<(&str, &str), &PublicationTable> {
    publication
        .tables
        .iter()
        .map(|table| ((table.schema.as_str(), table.name.as_str()), table))
        .collect()
}

fn compare_actions(
    publication: &str,
    wanted: [bool; 4],
    found: &Publication,
    differences: &mut Vec<PublicationDifference>,
) {
    let actual = [found.insert, found.update, found.delete, found.truncate];
    let names = ["insert", "update", "delete", "truncate"];
    for ((wanted, actual), action) in wanted.into_iter().zip(actual).zip(names) {
        let publication = publication.to_owned();
        match (wanted, actual) {
            (true, false) => {
                differences.push(PublicationDifference::ActionMissing {
                    publication,
                    action,
                });
            }
            (false, true) => {
                differences.push(PublicationDifference::ActionUnwanted {
                    publication,
                    action,
                });
            }
            _ => {}
        }
    }
}

fn compare_via_root(
    publication: &str,
    wanted: bool,
    found: &Publication,
    differences: &mut Vec<PublicationDifference>,
) {
    if wanted != found.via_root {
        differences.push(PublicationDifference::ViaRoot {
            publication: publication.to_owned(),
            found: found.via_root,
        });
    }
}

fn compare_generated(
    publication: &str,
    wanted: bool,
    found: &Publication,
    differences: &mut Vec<PublicationDifference>,
) {
    if wanted != found.generated {
        differences.push(PublicationDifference::Generated {
            publication: publication.to_owned(),
            found: found.generated,
        });
    }
}

fn columns(
    publication: &str,
    table: &PublicationTable,
    wanted: Option<&Vec<String>>,
) -> PublicationDifference {
    PublicationDifference::Columns {
        publication: publication.to_owned(),
        schema: table.schema.clone(),
        table: table.name.clone(),
        found: column_list(table.columns.as_ref()),
        wanted: column_list(wanted),
    }
}

fn column_list(columns: Option<&Vec<String>>) -> String {
    columns.map_or_else(|| String::from("all"), |columns| columns.join(", "))
}

fn row_filter(
    publication: &str,
    table: &PublicationTable,
    wanted: Option<&String>,
) -> PublicationDifference {
    PublicationDifference::RowFilter {
        publication: publication.to_owned(),
        schema: table.schema.clone(),
        table: table.name.clone(),
        found: filter_text(table.row_filter.as_ref()),
        wanted: filter_text(wanted),
    }
}

fn filter_text(filter: Option<&String>) -> String {
    filter.map_or_else(
        || String::from("no row filter"),
        |filter| format!("row filter {filter}"),
    )
}

fn sorted(names: &[String]) -> Vec<&String> {
    let mut names: Vec<_> = names.iter().collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
