//! The replica identity of a table: what follows from it for the view's key, and what must not be published because the
//! server would then refuse the source's own updates (rule 12).

use cdc_source::tables::Generated;
use cdc_source::{KeyInfo, TableInfo, TableKind};
use pgoutput::ReplicaIdentity;

use super::TablePlan;
use super::row_filter::Mentions;
use crate::check::Finding;
use crate::error::FeederErrorKind;

/// The first server version with column lists and row filters in publications.
pub(super) const LISTS_SINCE: u32 = 15;

/// The view's key (rule 10), and whether the server would refuse updates of the table if they were published
/// (rule 12).
pub(super) fn of(info: &TableInfo) -> (Vec<String>, bool) {
    let primary = info.primary_key.as_ref().filter(|key| !key.deferrable);
    let index = info.identity_index.as_ref();
    let names = |key: Option<&KeyInfo>| key.map(|key| key.columns.clone()).unwrap_or_default();
    let (key, usable) = match info.replica_identity {
        ReplicaIdentity::Default => (names(primary), primary.is_some()),
        ReplicaIdentity::Index => (names(index), index.is_some()),
        ReplicaIdentity::Full => (names(primary), true),
        ReplicaIdentity::Nothing => (Vec::new(), false),
    };
    if info.leaves.is_empty() || !usable {
        return (key, !usable);
    }
    // A partition has the primary key of its root, and an identity of its own.
    let leaves = || info.leaves.iter().map(|leaf| leaf.replica_identity);
    let usable = leaves().all(|identity| match identity {
        ReplicaIdentity::Default => primary.is_some(),
        ReplicaIdentity::Index | ReplicaIdentity::Full => true,
        ReplicaIdentity::Nothing => false,
    });
    let key = if leaves().any(|identity| identity == ReplicaIdentity::Index) {
        Vec::new()
    } else {
        names(primary)
    };
    (key, !usable)
}

impl TablePlan {
    /// Column lists and row filters that would make the source's own updates fail (rule 12).
    pub(super) fn identity_findings(
        &self,
        failed: &impl Fn(String, String) -> Finding,
    ) -> Vec<Finding> {
        let table = self.source();
        let mut findings = Vec::new();
        if self.keyless {
            return findings;
        }
        let full = |identity| identity == ReplicaIdentity::Full;
        let excluded: Vec<String> = self
            .selection
            .exclude_columns
            .iter()
            .map(|name| format!("{name:?}"))
            .collect();
        // The columns of a partition's own identity index are not known here.
        let whole_row = self.identities().any(full)
            || self
                .info
                .leaves
                .iter()
                .any(|leaf| leaf.replica_identity == ReplicaIdentity::Index);
        if self.column_lists && !excluded.is_empty() && whole_row {
            let finding = failed(
                format!(
                    "{table} has REPLICA IDENTITY FULL, which covers all columns: without {} its updates would fail at the source",
                    excluded.join(", ")
                ),
                format!(
                    "take exclude_columns out, or give the table{} a primary key and REPLICA IDENTITY DEFAULT",
                    self.and_partitions()
                ),
            );
            findings.push(self.with_default_identity(finding));
        }
        if let Some(filter) = &self.selection.row_filter
            && !self.identities().all(full)
            && let Some(name) = self.outside_of_identity(filter)
        {
            let finding = failed(
                format!(
                    "{table}: its row filter may use {name}, which is not part of the replica identity: updates would fail at the source"
                ),
                format!(
                    "filter by columns of the key alone, or give the table{} REPLICA IDENTITY FULL",
                    self.and_partitions()
                ),
            );
            findings.push(finding.with_sql(self.identity_sql("FULL")));
        }
        if self.lists_stored() && excluded.is_empty() && whole_row {
            let finding = failed(
                format!(
                    "{table} has REPLICA IDENTITY FULL and is published with a column list: its updates would fail at the source"
                ),
                "publish it without a column list, with publish_generated_columns = stored"
                    .to_owned(),
            );
            findings.push(self.with_default_identity(finding));
        }
        let unpublished = self
            .stored_columns()
            .find(|name| !self.stored.contain(name) && self.shape.key.contains(name));
        if let Some(name) = unpublished {
            findings.push(failed(
                format!("{table}: column {name:?} is generated, is not published, and is part of the replica identity"),
                "give it another replica identity, leave it out with enabled = false, or publish it: on Postgres 18, with publish_generated_columns = stored".to_owned(),
            ));
        }
        findings
    }

    /// What a filter may use that its replica identity does not cover.
    fn outside_of_identity(&self, filter: &str) -> Option<String> {
        let mentions = Mentions::of(filter);
        let mut outside = self
            .info
            .columns
            .iter()
            .map(|column| &column.name)
            .filter(|name| !self.shape.key.contains(name));
        if let Some(name) = outside.find(|name| mentions.contain(name)) {
            return Some(format!("column {name:?}"));
        }
        // The name of the table stands for a whole row, where it does not stand before a column.
        let name = &self.selection.name;
        (!self.shape.key.contains(name) && mentions.contain(name))
            .then(|| format!("the whole row ({name:?}; name columns without their table)"))
    }

    /// What depends on the server's version, and what may go wrong with partitions that are yet to come.
    pub(crate) fn publishing_findings(&self, major: u32) -> Vec<Finding> {
        let table = self.source();
        let mut findings = Vec::new();
        let failed = |message, remedy: &str| {
            let check = format!("table {table}");
            Finding::failed(check, FeederErrorKind::Source, message, remedy.to_owned())
        };
        if major < LISTS_SINCE && self.selection.row_filter.is_some() {
            findings.push(failed(
                format!(
                    "{table}: where needs Postgres {LISTS_SINCE} at the source, this is {major}"
                ),
                "take it out, or upgrade the source",
            ));
        }
        if !self.whole_row_identity() {
            return findings;
        }
        // There are none before Postgres 18.
        let mut columns = self.info.columns.iter();
        if let Some(column) = columns.find(|column| column.generated == Generated::Virtual) {
            let finding = failed(
                format!(
                    "{table} has REPLICA IDENTITY FULL and the virtual generated column {:?}, which cannot be published: its updates would fail at the source",
                    column.name
                ),
                "give it a primary key and REPLICA IDENTITY DEFAULT, or leave it out with enabled = false",
            );
            findings.push(self.with_default_identity(finding));
        }
        if !self.info.leaves.is_empty() {
            findings.push(Finding::warning(
                &format!("table {table}"),
                format!("partitions of {table} have REPLICA IDENTITY FULL, which Postgres does not pass on: updates of a new partition without a primary key would fail at the source"),
                "give each new partition REPLICA IDENTITY FULL before it is attached, or the table a primary key and REPLICA IDENTITY DEFAULT".to_owned(),
            ));
        }
        findings
    }

    /// Whether a change of a row needs all its columns published.
    pub(crate) fn whole_row_identity(&self) -> bool {
        !self.keyless
            && self
                .identities()
                .any(|identity| identity == ReplicaIdentity::Full)
    }

    /// Proposes the primary key as identity, if there is one.
    pub(crate) fn with_default_identity(&self, finding: Finding) -> Finding {
        match &self.info.primary_key {
            Some(key) if !key.deferrable => finding.with_sql(self.identity_sql("DEFAULT")),
            _ => finding,
        }
    }

    /// Gives the table an identity, and its partitions, since Postgres does not pass it on.
    pub(super) fn identity_sql(&self, identity: &str) -> String {
        let leaves = self.info.leaves.iter().map(|leaf| &leaf.id);
        let tables = std::iter::once(&self.info.id).chain(leaves);
        let statements: Vec<String> = tables
            .filter(|table| table.kind != TableKind::Foreign)
            .map(|table| {
                format!(
                    "ALTER TABLE {}.{} REPLICA IDENTITY {identity};",
                    cdc_source::quote_ident(&table.schema),
                    cdc_source::quote_ident(&table.name)
                )
            })
            .collect();
        statements.join("\n")
    }

    pub(super) fn and_partitions(&self) -> &'static str {
        if self.info.leaves.is_empty() {
            ""
        } else {
            " and each partition"
        }
    }

    /// The identities that count when a row changes: of the partitions, if there are any.
    fn identities(&self) -> impl Iterator<Item = ReplicaIdentity> + Clone {
        let own = self
            .info
            .leaves
            .is_empty()
            .then_some(self.info.replica_identity);
        let leaves = self.info.leaves.iter().map(|leaf| leaf.replica_identity);
        own.into_iter().chain(leaves)
    }
}
