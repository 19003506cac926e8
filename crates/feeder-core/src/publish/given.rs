//! Publications that somebody else makes (`manage_publication = false`): each fed table must be in the one that fits it,
//! with the columns and rows that are configured.

use std::collections::{BTreeMap, BTreeSet};

use cdc_source::publication::PublicationTable;
use cdc_source::tables::Generated;
use cdc_source::{ColumnInfo, Publication, PublishedTable, TableKind, quote_ident};

use super::row_filter::Entry;
use crate::check::Finding;
use crate::config::FeederConfig;
use crate::error::{FeederError, FeederErrorKind};
use crate::plan::TablePlan;

/// What there is, and what it is compared by.
pub(super) struct Given<'a> {
    found: &'a [Publication],
    /// Entries with another row filter than the configured one.
    filtered: BTreeSet<Entry>,
    /// The statement that makes a publication, by its name.
    create: BTreeMap<String, String>,
    /// The names of the publication of all changes and of that of inserts and truncates.
    main: String,
    insert_only: String,
    /// The server can publish generated columns, and counts them as part of a full replica identity.
    generated: bool,
}

impl<'a> Given<'a> {
    pub(super) fn new(
        config: &FeederConfig,
        found: &'a [Publication],
        filtered: BTreeSet<Entry>,
        create: BTreeMap<String, String>,
        generated: bool,
    ) -> Result<Self, FeederError> {
        Ok(Self {
            found,
            filtered,
            create,
            main: config.source.publication.as_str().to_owned(),
            insert_only: super::insert_only_name(config)?.as_str().to_owned(),
            generated,
        })
    }

    /// What keeps these tables from being fed through them.
    pub(super) fn findings(&self, plans: &[TablePlan]) -> Vec<Finding> {
        let mut findings = Vec::new();
        // Whether updates and deletes are needed, by publication.
        let mut needed: BTreeMap<&str, bool> = BTreeMap::new();
        // A publication is made once, with all its tables.
        let mut create = self.create.clone();
        for plan in plans {
            match self.home(plan) {
                Some(home) => *needed.entry(home.name.as_str()).or_default() |= !plan.keyless,
                None => findings.push(self.lacking(plan, &mut create)),
            }
            for publication in self.found.iter().filter(|given| covers(given, plan)) {
                findings.extend(self.entry(publication, plan));
            }
            findings.extend(self.divided(plan));
        }
        for publication in self.found {
            if let Some(changes) = needed.get(publication.name.as_str()) {
                findings.extend(actions(publication, *changes));
            }
        }
        findings
    }

    /// The publication that a table is fed through. The inserts of a table without a replica identity arrive through
    /// either.
    fn home(&self, plan: &TablePlan) -> Option<&'a Publication> {
        let names: &[&str] = if plan.keyless {
            &[&self.insert_only, &self.main]
        } else {
            &[&self.main]
        };
        names.iter().find_map(|name| {
            self.found
                .iter()
                .find(|given| given.name.as_str() == *name && covers(given, plan))
        })
    }

    fn lacking(&self, plan: &TablePlan, create: &mut BTreeMap<String, String>) -> Finding {
        let table = plan.source();
        let home = if plan.keyless {
            &self.insert_only
        } else {
            &self.main
        };
        let elsewhere = self.found.iter().any(|given| covers(given, plan));
        let message = if elsewhere {
            format!(
                "{table} is in publication {} alone, which is for inserts and truncates: its updates and deletes would be missing",
                self.insert_only
            )
        } else {
            format!("{table} is not in publication {home}: its changes would be missing")
        };
        let exists = self.found.iter().any(|given| given.name.as_str() == home);
        let sql = if exists {
            Some(add(home, plan))
        } else {
            create.remove(home)
        };
        let finding = failed(home, message);
        match sql {
            Some(sql) => finding.with_sql(sql),
            None => finding,
        }
    }

    /// The server ends the stream when publications do not agree about the generated columns of a table.
    fn divided(&self, plan: &TablePlan) -> Option<Finding> {
        let generated = |column: &ColumnInfo| column.generated != Generated::No;
        if !plan.info.columns.iter().any(generated) {
            return None;
        }
        let unlisted = |given: &&Publication| {
            covers(given, plan) && listed(given, plan).is_none_or(|table| table.columns.is_none())
        };
        let mut given = self.found.iter().filter(unlisted);
        let first = given.next()?;
        let other = given.find(|other| other.generated != first.generated)?;
        let (silent, sending) = if first.generated {
            (other, first)
        } else {
            (first, other)
        };
        let (silent, sending) = (silent.name.as_str(), sending.name.as_str());
        let message = format!(
            "publication {sending} publishes the generated columns of {}, and publication {silent} does not: the server refuses to send it through both",
            plan.source()
        );
        Some(failed(silent, message).with_sql(publish_generated(silent)))
    }

    /// Whether a table stands in a publication as it is configured.
    fn entry(&self, publication: &Publication, plan: &TablePlan) -> Vec<Finding> {
        let name = publication.name.as_str();
        let table = plan.source();
        let wanted = plan.published();
        let listed = listed(publication, plan);
        let replace = |message| {
            let sql = match listed {
                Some(_) => format!(
                    "ALTER PUBLICATION {} DROP TABLE ONLY {};\n{}",
                    quote_ident(name),
                    qualified(&wanted),
                    add(name, plan)
                ),
                // As a part of a schema or the database it cannot have lists of its own.
                None => String::new(),
            };
            let finding = failed(name, message);
            if sql.is_empty() {
                finding
            } else {
                finding.with_sql(sql)
            }
        };
        let mut findings = Vec::new();
        let columns = listed.and_then(|listed| listed.columns.as_ref());
        if sorted(columns) != sorted(wanted.columns.as_ref()) {
            findings.push(replace(format!(
                "publication {name} has columns {} of {table}; configured are {}",
                shown(columns),
                shown(wanted.columns.as_ref())
            )));
        }
        let filter = listed.and_then(|listed| listed.row_filter.as_ref());
        let entry = (name.to_owned(), wanted.schema.clone(), wanted.name.clone());
        if filter.is_some() != wanted.row_filter.is_some() || self.filtered.contains(&entry) {
            let text = |filter: Option<&String>| match filter {
                Some(filter) => format!("row filter {filter}"),
                None => "no row filter".to_owned(),
            };
            findings.push(replace(format!(
                "publication {name} has {} for {table}; configured is {}",
                text(filter),
                text(wanted.row_filter.as_ref())
            )));
        }
        if plan.info.id.kind == TableKind::Partitioned && !publication.via_root {
            let message = format!(
                "publication {name} publishes changes of partitions as their own, not as those of {table}"
            );
            findings.push(failed(name, message).with_sql(format!(
                "ALTER PUBLICATION {} SET (publish_via_partition_root = true);",
                quote_ident(name)
            )));
        }
        if columns.is_none()
            && !publication.generated
            && self.generated
            && publication.update
            && plan.whole_row_identity()
            && let Some(column) = plan.stored_columns().next()
        {
            let message = format!(
                "{table} has REPLICA IDENTITY FULL and the generated column {column:?}, which publication {name} does not publish: its updates fail at the source"
            );
            findings.push(failed(name, message).with_sql(publish_generated(name)));
        }
        if plan.keyless && (publication.update || publication.delete) {
            findings.push(Finding::warning(
                &format!("publication {name}"),
                format!("{table} has no replica identity, and publication {name} publishes updates: those of the application fail"),
                format!("unless rows are only ever inserted, publish it in {} instead", self.insert_only),
            ));
        }
        findings
    }
}

fn failed(publication: &str, message: String) -> Finding {
    Finding::failed(
        format!("publication {publication}"),
        FeederErrorKind::Source,
        message,
        "ask its owner to change it; duckfeeder does not, since manage_publication = false"
            .to_owned(),
    )
}

fn publish_generated(publication: &str) -> String {
    format!(
        "ALTER PUBLICATION {} SET (publish_generated_columns = stored);",
        quote_ident(publication)
    )
}

fn actions(publication: &Publication, changes: bool) -> Option<Finding> {
    let all = [
        ("insert", publication.insert, true),
        ("update", publication.update, changes),
        ("delete", publication.delete, changes),
        ("truncate", publication.truncate, true),
    ];
    let names = |filter: fn(bool, bool) -> bool| {
        let names: Vec<&str> = all
            .iter()
            .filter(|(_, published, needed)| filter(*published, *needed))
            .map(|(name, ..)| *name)
            .collect();
        names.join(", ")
    };
    let missing = names(|published, needed| needed && !published);
    if missing.is_empty() {
        return None;
    }
    let name = publication.name.as_str();
    let message = format!("publication {name} does not publish {missing}");
    Some(failed(name, message).with_sql(format!(
        "ALTER PUBLICATION {} SET (publish = '{}');",
        quote_ident(name),
        names(|published, needed| needed || published)
    )))
}

fn covers(publication: &Publication, plan: &TablePlan) -> bool {
    publication.all_tables
        || publication.schemas.contains(&plan.selection.schema)
        || listed(publication, plan).is_some()
}

fn listed<'a>(publication: &'a Publication, plan: &TablePlan) -> Option<&'a PublicationTable> {
    publication
        .tables
        .iter()
        .find(|table| table.relid == plan.info.id.oid)
}

/// The statement that puts a table into a publication as it is configured.
fn add(publication: &str, plan: &TablePlan) -> String {
    let table = plan.published();
    let columns = table.columns.as_ref().map_or_else(String::new, |columns| {
        let columns: Vec<String> = columns.iter().map(|name| quote_ident(name)).collect();
        format!(" ({})", columns.join(", "))
    });
    // The line break ends a comment at the end of the condition.
    let filter = table
        .row_filter
        .as_ref()
        .map_or_else(String::new, |filter| format!(" WHERE ({filter}\n)"));
    format!(
        "ALTER PUBLICATION {} ADD TABLE ONLY {}{columns}{filter};",
        quote_ident(publication),
        qualified(&table)
    )
}

fn qualified(table: &PublishedTable) -> String {
    format!(
        "{}.{}",
        quote_ident(&table.schema),
        quote_ident(&table.name)
    )
}

fn sorted(columns: Option<&Vec<String>>) -> Option<Vec<&String>> {
    columns.map(|columns| {
        let mut columns: Vec<_> = columns.iter().collect();
        columns.sort();
        columns
    })
}

fn shown(columns: Option<&Vec<String>>) -> String {
    columns.map_or_else(|| "all".to_owned(), |columns| columns.join(", "))
}
