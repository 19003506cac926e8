//! What is to be done with each selected source table, and what speaks against it.

use std::collections::BTreeMap;

use cdc_source::tables::{ColumnInfo, Generated, Persistence};
use cdc_source::{PublishedTable, TableInfo};
use pgoutput::ReplicaIdentity;
use serde::{Deserialize, Serialize};

use crate::check::Finding;
use crate::config::{FeederConfig, KeylessPolicy};
use crate::current_view::FormerName;
use crate::error::FeederErrorKind;
use crate::layout::SourceColumn;
use crate::select::{self, Selection};
use crate::types::{ColumnSettings, SourceType, Types};

mod identity;
mod row_filter;

/// Which stored generated columns of a table its publication sends. Virtual ones never travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoredColumns {
    /// None: before Postgres 18 always.
    Unpublished,
    /// All of them, by `publish_generated_columns = stored`.
    Published,
    /// Those in the column list of a publication that somebody else made.
    Listed(Vec<String>),
}

impl StoredColumns {
    fn contain(&self, name: &String) -> bool {
        match self {
            Self::Unpublished => false,
            Self::Published => true,
            Self::Listed(columns) => columns.contains(name),
        }
    }
}

/// A selected table with everything that follows from its definition.
#[derive(Clone, Debug)]
pub(crate) struct TablePlan {
    pub(crate) selection: Selection,
    pub(crate) info: TableInfo,
    pub(crate) shape: SourceShape,
    /// Its updates and deletes cannot be published: it belongs into the publication of inserts and truncates.
    pub(crate) keyless: bool,
    /// Whether the server's publications have column lists; without them it sends excluded columns, which are
    /// dropped before they are buffered.
    pub(crate) column_lists: bool,
    pub(crate) settings: ColumnSettings,
    pub(crate) stored: StoredColumns,
}

/// What the lake's table and its view are made from; kept in the control tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceShape {
    pub(crate) columns: Vec<ShapeColumn>,
    /// The view's key; empty when there can be no view (rule 10).
    pub(crate) key: Vec<String>,
    /// `default`, `index`, `full` or `nothing`.
    pub(crate) identity: String,
    /// Whether the lake has the old values too.
    #[serde(default)]
    pub(crate) before_image: bool,
    /// What `COMMENT ON TABLE` set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<String>,
    /// The files of the relations that hold the rows (`pg_class.relfilenode` by OID), as of the last copy, change of the
    /// shape, or look that found no other values. Another file means that rows were rewritten, of which the stream says
    /// nothing.
    #[serde(default)]
    pub(crate) files: BTreeMap<u32, u32>,
    /// Who altered each column last, by number, as of the same moment. Empty where an event trigger told of the table,
    /// until the next look.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) altered_by: BTreeMap<i16, u32>,
}

/// One column of a [`SourceShape`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShapeColumn {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) source_type: SourceType,
    /// `pg_attribute.attnum`, where the catalog could tell it.
    #[serde(default)]
    pub(crate) attnum: Option<i16>,
    /// What `COMMENT ON COLUMN` set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<String>,
    /// The names that it had, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) former: Vec<FormerName>,
}

impl ShapeColumn {
    pub(crate) fn new(name: &str, source_type: SourceType) -> Self {
        Self {
            name: name.to_owned(),
            source_type,
            attnum: None,
            comment: None,
            former: Vec::new(),
        }
    }

    /// Whether it is the same column of the same type, and is described alike.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.attnum == other.attnum
            && self.name == other.name
            && self.source_type.agrees(&other.source_type)
            && self.comment == other.comment
    }
}

/// Whether anything that both have is another.
fn differ<K: Ord>(one: &BTreeMap<K, u32>, other: &BTreeMap<K, u32>) -> bool {
    one.iter()
        .any(|(key, value)| other.get(key).is_some_and(|other| other != value))
}

/// The files of the relations that hold the table's rows.
fn files(info: &TableInfo) -> BTreeMap<u32, u32> {
    let leaves = info
        .leaves
        .iter()
        .map(|leaf| (leaf.id.oid.get(), leaf.relfilenode));
    let own = (info.id.oid.get(), info.relfilenode);
    leaves.chain([own]).filter(|(_, file)| *file != 0).collect()
}

/// The name that the control tables hold.
pub(crate) fn identity_name(identity: ReplicaIdentity) -> &'static str {
    match identity {
        ReplicaIdentity::Default => "default",
        ReplicaIdentity::Index => "index",
        ReplicaIdentity::Full => "full",
        ReplicaIdentity::Nothing => "nothing",
    }
}

impl SourceShape {
    /// Whether tables of the two shapes are fed alike.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let sorted = |key: &[String]| {
            let mut key = key.to_vec();
            key.sort_unstable();
            key
        };
        self.identity == other.identity
            && self.comment == other.comment
            && self.before_image == other.before_image
            && self.columns.len() == other.columns.len()
            && self
                .columns
                .iter()
                .zip(&other.columns)
                .all(|(one, other)| one.agrees(other))
            && sorted(&self.key) == sorted(&other.key)
    }

    /// For a table that takes the place of this one: the same lake's columns, and nothing else in common.
    pub(crate) fn of_another_table(mut self) -> Self {
        self.files.clear();
        self.altered_by.clear();
        for column in &mut self.columns {
            column.attnum = None;
        }
        self
    }

    /// Whether a relation that holds rows has another file than before.
    pub(crate) fn has_other_files(&self, now: &Self) -> bool {
        differ(&self.files, &now.files)
    }

    /// Whether the rows may have got other values in columns that they had before; `None` if there is no telling. A column's
    /// new type, also if it is the one it had, comes with new files; these alone come with `TRUNCATE`, `VACUUM FULL` and the
    /// like.
    pub(crate) fn has_other_values(&self, now: &Self) -> Option<bool> {
        if !self.has_other_files(now) {
            return Some(false);
        }
        let is_known = !self.altered_by.is_empty() && !now.altered_by.is_empty();
        is_known.then(|| differ(&self.altered_by, &now.altered_by))
    }

    /// The rows are those of the other shape, whatever the columns are.
    pub(crate) fn take_rows_of(&mut self, other: &Self) {
        self.files.clone_from(&other.files);
        self.altered_by.clone_from(&other.altered_by);
    }

    /// Whether [`SourceShape::take_rows_of`] would change anything.
    pub(crate) fn has_rows_of(&self, other: &Self) -> bool {
        self.files == other.files && self.altered_by == other.altered_by
    }

    fn has_column(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    /// The columns with their readers.
    pub(crate) fn source_columns(&self, settings: &ColumnSettings) -> Vec<SourceColumn> {
        self.columns
            .iter()
            .map(|column| SourceColumn {
                name: column.name.clone(),
                source_type: column.source_type.clone(),
                reader: settings.reader(&column.name, &column.source_type),
            })
            .collect()
    }
}

impl TablePlan {
    /// `types` are those of its columns, taken apart; `stored` says which generated ones are sent.
    pub(crate) fn new(
        config: &FeederConfig,
        selection: Selection,
        info: TableInfo,
        types: &Types,
        stored: StoredColumns,
    ) -> Self {
        let columns: Vec<&ColumnInfo> = info
            .columns
            .iter()
            // What the stream does not carry, a copy must not either.
            .filter(|column| match column.generated {
                Generated::No => true,
                Generated::Stored => stored.contain(&column.name),
                Generated::Virtual => false,
            })
            .filter(|column| !selection.exclude_columns.contains(&column.name))
            .collect();
        let altered_by = columns
            .iter()
            .filter_map(|column| Some((column.attnum, column.altered_by?)))
            .collect();
        let columns = columns
            .into_iter()
            .map(|column| {
                let source_type = SourceType::resolve(
                    types,
                    column.type_oid,
                    column.type_modifier,
                    column.dimensions.into(),
                );
                ShapeColumn {
                    attnum: Some(column.attnum),
                    comment: column.comment.clone(),
                    ..ShapeColumn::new(&column.name, source_type)
                }
            })
            .collect();
        let (key, keyless) = identity::of(&info);
        let settings = ColumnSettings::of(config, &selection);
        let shape = SourceShape {
            columns,
            key,
            identity: identity_name(info.replica_identity).to_owned(),
            before_image: selection.before_image,
            comment: info.comment.clone(),
            files: files(&info),
            altered_by,
        };
        Self {
            selection,
            info,
            shape,
            keyless,
            column_lists: true,
            settings,
            stored,
        }
    }

    /// The same for a server of this major version.
    pub(crate) fn on_server(mut self, major: u32) -> Self {
        self.column_lists = major >= identity::LISTS_SINCE;
        self
    }

    /// Its stored generated columns that the configuration does not exclude, published or not.
    pub(crate) fn stored_columns(&self) -> impl Iterator<Item = &String> {
        self.info
            .columns
            .iter()
            .filter(|column| column.generated == Generated::Stored)
            .map(|column| &column.name)
            .filter(|name| !self.selection.exclude_columns.contains(name))
    }

    fn has_source_column(&self, name: &str) -> bool {
        self.info.columns.iter().any(|column| column.name == name)
    }

    /// A column that the configuration excludes and the table has not: one that was renamed must not slip in.
    pub(crate) fn unknown_exclusion(&self) -> Option<&String> {
        let excluded = &self.selection.exclude_columns;
        excluded.iter().find(|name| !self.has_source_column(name))
    }

    /// Whether a column list of a publication that somebody else made sends generated columns.
    fn lists_stored(&self) -> bool {
        matches!(self.stored, StoredColumns::Listed(_))
            && self.stored_columns().any(|name| self.stored.contain(name))
    }

    /// What may be on the wire and is no column of the lake's table: what is excluded, and the stored generated columns
    /// that a publication sends which did not when the table was last copied.
    pub(crate) fn ignored(&self, recorded: &SourceShape) -> Vec<String> {
        let unknown = self
            .stored_columns()
            .filter(|name| !recorded.has_column(name));
        let excluded = self.selection.exclude_columns.iter();
        excluded.chain(unknown).cloned().collect()
    }

    /// `schema.table` at the source.
    pub(crate) fn source(&self) -> String {
        format!("{}.{}", self.selection.schema, self.selection.name)
    }

    /// The columns that a copy made now would have, and the recorded shape has not, because they are generated.
    pub(crate) fn unfed(&self, recorded: &SourceShape) -> Vec<String> {
        self.stored_columns()
            .filter(|name| self.shape.has_column(name) && !recorded.has_column(name))
            .cloned()
            .collect()
    }

    /// The shape without what only a copy brings: generated columns that were not published when the recorded one was made.
    pub(crate) fn shape_as_fed(&self, recorded: &SourceShape) -> SourceShape {
        let unfed = self.unfed(recorded);
        let mut shape = self.shape.clone();
        shape.columns.retain(|column| !unfed.contains(&column.name));
        shape
    }

    /// As it should stand in its publication.
    pub(crate) fn published(&self) -> PublishedTable {
        let listed =
            self.column_lists && !self.selection.exclude_columns.is_empty() || self.lists_stored();
        let columns = listed.then(|| {
            self.shape
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect()
        });
        PublishedTable {
            schema: self.selection.schema.clone(),
            name: self.selection.name.clone(),
            columns,
            row_filter: self.selection.row_filter.clone(),
        }
    }

    /// What speaks against feeding it.
    pub(crate) fn findings(&self, config: &FeederConfig) -> Vec<Finding> {
        let table = self.source();
        let quoted = format!(
            "{}.{}",
            cdc_source::quote_ident(&self.selection.schema),
            cdc_source::quote_ident(&self.selection.name)
        );
        let role = cdc_source::quote_ident(&config.source.endpoint.user);
        let leave_out =
            format!("or leave it out: [[tables]] source = \"{table}\", enabled = false");
        let failed = |message: String, remedy: String| {
            Finding::failed(
                format!("table {table}"),
                FeederErrorKind::Source,
                message,
                remedy,
            )
        };
        let mut findings = Vec::new();
        if !self.info.schema_usage || !self.info.select_privilege {
            findings.push(
                failed(
                    format!("role {} may not read {table}", config.source.endpoint.user),
                    format!("grant it the privilege, {leave_out}"),
                )
                .with_sql(format!(
                    "GRANT USAGE ON SCHEMA {} TO {role};\nGRANT SELECT ON TABLE {quoted} TO {role};",
                    cdc_source::quote_ident(&self.selection.schema)
                )),
            );
        }
        if self.info.row_security_applies {
            findings.push(
                failed(
                    format!(
                        "row-level security would hide rows of {table} from role {}",
                        config.source.endpoint.user
                    ),
                    format!("let the role bypass it, {leave_out}"),
                )
                .with_sql(format!("ALTER ROLE {role} BYPASSRLS;")),
            );
        }
        if self.info.id.persistence == Persistence::Unlogged {
            findings.push(
                failed(
                    format!("{table} is unlogged: its changes are not in the WAL"),
                    format!("make it logged, {leave_out}"),
                )
                .with_sql(format!("ALTER TABLE {quoted} SET LOGGED;")),
            );
        }
        if self.info.is_inheritance_parent {
            findings.push(failed(
                format!("{table} has inheritance children, whose rows the stream would not show as its own"),
                format!("feed the children, {leave_out}"),
            ));
        }
        findings.extend(self.keyless_finding(config, &failed));
        findings.extend(self.column_findings(&failed));
        findings
    }

    fn keyless_finding(
        &self,
        config: &FeederConfig,
        failed: &impl Fn(String, String) -> Finding,
    ) -> Option<Finding> {
        let table = self.source();
        let changed = self.info.updates + self.info.deletes;
        let refused = match config.source.keyless {
            KeylessPolicy::Auto => changed > 0,
            KeylessPolicy::Refuse => true,
            KeylessPolicy::Inserts => false,
        };
        if !self.keyless || !refused {
            return None;
        }
        let seen = if changed > 0 {
            ", and it sees updates or deletes"
        } else {
            ""
        };
        let mut finding = failed(
            format!("{table} has no replica identity{seen}: publishing its updates would make them fail at the source"),
            format!("give it{} a primary key or REPLICA IDENTITY FULL, leave it out with enabled = false, or feed its inserts alone with keyless = \"inserts\" ({table})", self.and_partitions()),
        )
        .with_sql(self.identity_sql("FULL"));
        if config.source.keyless == KeylessPolicy::Auto {
            finding = finding.of_new_table(self.info.id.oid);
        }
        Some(finding)
    }

    fn column_findings(&self, failed: &impl Fn(String, String) -> Finding) -> Vec<Finding> {
        let table = self.source();
        let mut findings = Vec::new();
        let names = self.shape.columns.iter().map(|column| column.name.as_str());
        if let Err(error) = select::check_columns(&table, names) {
            findings.push(failed(
                error.to_string(),
                error.remedy().unwrap_or_default().to_owned(),
            ));
        }
        if self.shape.columns.is_empty() {
            findings.push(failed(
                format!("{table} has no column that can be fed"),
                "excluded columns and generated ones that are not published do not count; leave the table out with enabled = false".to_owned(),
            ));
        }
        findings.extend(self.identity_findings(failed));
        for name in &self.selection.exclude_columns {
            if !self.has_source_column(name) {
                findings.push(failed(
                    format!("{table} has no column {name:?}, which exclude_columns names"),
                    "correct the name".to_owned(),
                ));
            }
            if self.shape.key.contains(name) {
                findings.push(failed(
                    format!("{table}: column {name:?} is part of the replica identity and cannot be excluded"),
                    "take it out of exclude_columns".to_owned(),
                ));
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests;
