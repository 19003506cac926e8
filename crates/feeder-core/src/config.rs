//! What a feeder is asked to do: plain data. Parsing files, flags and environment is the caller's business.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use cdc_source::{
    Endpoint, PasswordProvider, PasswordSource, PublicationName, SlotName, TlsMode,
};

/// Everything one feeder needs to know, apart from the object store.
#[derive(Clone, Debug)]
pub struct FeederConfig {
    /// The feeder's name: its row in the control tables, and the default of slot and publication.
    pub name: FeederName,
    /// The database whose changes are fed.
    pub source: SourceConfig,
    /// Which tables, in order: an exact name beats a glob, a later rule beats an earlier one.
    pub tables: Vec<TableRule>,
    /// Where the lake's metadata lives.
    pub catalog: CatalogConfig,
    /// What happens to what cannot be fed.
    pub policy: Policy,
    /// When an epoch is sealed.
    pub flush: FlushConfig,
    /// The bounds of the process.
    pub limits: Limits,
    /// When the lake is cleaned up.
    pub maintenance: MaintenanceConfig,
}

/// A feeder's name: 1 to 40 of `a-z`, `0-9` and `_`, so that slot and publication names fit 63 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeederName(String);

impl FeederName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`] when it is empty, longer than 40 bytes or has another character.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || name.len() > 40 || !name.chars().all(allowed) {
            return Err(InvalidName(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FeederName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that is not a feeder name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a feeder name: use 1 to 40 of a-z, 0-9 and _")]
pub struct InvalidName(String);

/// The source database and how it is read.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// How to reach it.
    pub endpoint: Endpoint,
    /// The replication slot, `duckfeeder_<name>` unless given.
    pub slot: SlotName,
    /// The publication, `duckfeeder_<name>` unless given. Tables without a replica identity go into `<publication>_ins`.
    pub publication: PublicationName,
    /// Whether the feeder makes and alters the publication. When false it uses what is there and says what is missing.
    pub manage_publication: bool,
    /// What to do with tables that have no replica identity.
    pub keyless: KeylessPolicy,
    /// How `numeric` without a precision is stored.
    pub numeric: NumericMapping,
    /// Whether existing rows are copied first.
    pub backfill: BackfillMode,
}

/// What to do with a table whose updates Postgres would refuse to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeylessPolicy {
    /// Publish its inserts and truncates while its statistics show no update or delete.
    #[default]
    Auto,
    /// Refuse it.
    Refuse,
    /// Publish its inserts and truncates whatever its statistics show.
    Inserts,
}

/// How an unbounded `numeric` column is stored in the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NumericMapping {
    /// As text, without loss.
    #[default]
    Varchar,
    /// As a decimal; a value that does not fit is unrepresentable.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// As a double: the nearest one.
    Float64,
}

/// How the arrays of a column are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayMapping {
    /// As a list; an array of several dimensions, or one that does not begin at 1, is unrepresentable.
    List,
    /// As nested JSON arrays; one that does not begin at 1 is unrepresentable.
    Json,
}

/// Whether existing rows of a table are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BackfillMode {
    /// Once, before the table counts as streaming.
    #[default]
    Initial,
    /// Not at all: the changelog begins at the slot's consistent point.
    Never,
}

/// One `[[tables]]` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRule {
    /// `schema.table`; both parts may hold the globs `*` and `?`.
    pub source: String,
    /// False takes matching tables out again.
    pub enabled: bool,
    /// Schema in the lake; `raw` unless given.
    pub target_schema: Option<String>,
    /// Table in the lake; the source table's name unless given.
    pub target_table: Option<String>,
    /// Columns kept out of publication, copy and lake.
    pub exclude_columns: Vec<String>,
    /// Row filter, in publication and copy.
    pub row_filter: Option<String>,
    /// Overrides [`SourceConfig::backfill`].
    pub backfill: Option<BackfillMode>,
    /// Overrides [`SourceConfig::numeric`] for the named columns.
    pub numeric: BTreeMap<String, NumericMapping>,
    /// How the named array columns are stored. Without an entry, a column that declares several dimensions is JSON,
    /// any other a list.
    pub arrays: BTreeMap<String, ArrayMapping>,
    /// Whether the lake also gets the old values that the server sends, in `_df_before`.
    pub before_image: bool,
    /// Overrides [`Policy::changes`].
    pub changes: ChangeOverrides,
}

impl TableRule {
    /// A rule that only selects.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            enabled: true,
            target_schema: None,
            target_table: None,
            exclude_columns: Vec::new(),
            row_filter: None,
            backfill: None,
            numeric: BTreeMap::new(),
            arrays: BTreeMap::new(),
            before_image: false,
            changes: ChangeOverrides::default(),
        }
    }
}

/// Where the lake's metadata and the control tables live.
#[derive(Clone, Debug)]
pub struct CatalogConfig {
    /// How to reach the catalog database.
    pub endpoint: Endpoint,
    /// Schema of the `ducklake_*` tables.
    pub metadata_schema: String,
    /// Whether the control tables are created and migrated at start.
    pub migrate: bool,
}

/// What happens to what cannot be fed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    /// A deterministic error of one table.
    pub on_table_error: OnTableError,
    /// A value that its lake column cannot hold.
    pub on_unrepresentable: OnUnrepresentable,
    /// DDL at the source.
    pub changes: ChangePolicy,
}

/// What DDL at the source does to the lake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangePolicy {
    /// Which changes are followed at all.
    pub on_schema_change: OnSchemaChange,
    /// A column that was dropped.
    pub on_drop_column: OnDropColumn,
    /// A column whose new type its lake column cannot become.
    pub on_type_change: OnTypeChange,
    /// A table that was dropped.
    pub on_drop_table: OnDropTable,
    /// A partition that was detached or dropped.
    pub on_drop_partition: OnDropPartition,
}

/// A table's own choices, instead of those of the [`Policy`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeOverrides {
    /// Instead of [`ChangePolicy::on_schema_change`].
    pub on_schema_change: Option<OnSchemaChange>,
    /// Instead of [`ChangePolicy::on_drop_column`].
    pub on_drop_column: Option<OnDropColumn>,
    /// Instead of [`ChangePolicy::on_type_change`].
    pub on_type_change: Option<OnTypeChange>,
    /// Instead of [`ChangePolicy::on_drop_table`].
    pub on_drop_table: Option<OnDropTable>,
    /// Instead of [`ChangePolicy::on_drop_partition`].
    pub on_drop_partition: Option<OnDropPartition>,
}

impl ChangeOverrides {
    pub(crate) fn over(self, policy: ChangePolicy) -> ChangePolicy {
        ChangePolicy {
            on_schema_change: self.on_schema_change.unwrap_or(policy.on_schema_change),
            on_drop_column: self.on_drop_column.unwrap_or(policy.on_drop_column),
            on_type_change: self.on_type_change.unwrap_or(policy.on_type_change),
            on_drop_table: self.on_drop_table.unwrap_or(policy.on_drop_table),
            on_drop_partition: self.on_drop_partition.unwrap_or(policy.on_drop_partition),
        }
    }
}

/// Which changes of a table's definition are followed. One that is not is an error of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnSchemaChange {
    /// All of them.
    #[default]
    Follow,
    /// New columns only.
    AdditiveOnly,
    /// None.
    Stop,
}

impl OnSchemaChange {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Follow => "follow",
            Self::AdditiveOnly => "additive_only",
            Self::Stop => "stop",
        }
    }
}

/// What becomes of the lake's column when its source column is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDropColumn {
    /// It stays, NULL in new rows: the history stays readable.
    #[default]
    Keep,
    /// It is dropped too; earlier snapshots still have it.
    Drop,
}

/// What happens when a column's new type is no widening of its lake type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnTypeChange {
    /// The lake's column is kept under another name, and a new one begins; the table is copied again.
    #[default]
    NewColumn,
    /// It is an error of the table.
    Stop,
}

/// What becomes of the lake's table when its source table is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDropTable {
    /// It stays with all its history.
    #[default]
    Keep,
    /// It is dropped too; earlier snapshots still have it.
    Drop,
}

/// What happens when a partition is detached or dropped: its rows leave the source without being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDropPartition {
    /// It is an error of the table.
    #[default]
    Stop,
    /// The lake keeps the rows as they were, also in the view.
    Keep,
    /// The table is copied again.
    Resync,
}

/// What happens to a row with a value that its lake column cannot hold, such as `NaN` in a decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnUnrepresentable {
    /// The cell becomes NULL and is named in `_df_unrepresentable`; its exact text goes to the lake table
    /// `_df_dead_letters` in the same commit.
    #[default]
    Null,
    /// It is an error of its table.
    Stop,
}

/// What a deterministic error of one table does to the others (rule 7 of ARCHITECTURE.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnTableError {
    /// The table goes to state `error`, the others go on; `resync` is the way out.
    #[default]
    Isolate,
    /// The feeder stops acknowledging and waits.
    Hold,
}

/// When an epoch is sealed: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct FlushConfig {
    /// Age of its first row.
    pub interval: Duration,
    /// Rows over all tables.
    pub max_rows: u64,
    /// Bytes buffered over all tables.
    pub max_bytes: u64,
}

impl Default for FlushConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            max_rows: 1_000_000,
            max_bytes: 256 << 20,
        }
    }
}

/// The bounds of the process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Budget in bytes for rows that are buffered or being encoded.
    pub memory: u64,
    /// Retained WAL, in bytes, above which the feeder calls itself unhealthy.
    pub max_lag_bytes: u64,
    /// How long a stop may take before it gives up waiting for the last commit.
    pub shutdown_timeout: Duration,
    /// Parallel connections of a first copy.
    pub copy_workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            max_lag_bytes: 10 << 30,
            shutdown_timeout: Duration::from_secs(30),
            copy_workers: 2,
        }
    }
}

/// When a running feeder cleans its lake up, and what counts as left behind. See [`Janitor`](crate::Janitor).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaintenanceConfig {
    /// How often; `None` for never.
    pub interval: Option<Duration>,
    /// How old something must be that nothing names. Must be longer than the longest commit, and is at least
    /// [`MIN_GRACE`](Self::MIN_GRACE) wherever people set it.
    pub grace: Duration,
}

impl MaintenanceConfig {
    /// The shortest grace period that makes sense: a commit that waits for a store or a catalog that is away for some
    /// minutes shall not lose its files.
    pub const MIN_GRACE: Duration = Duration::from_hours(1);
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_hours(1)),
            grace: Duration::from_hours(24),
        }
    }
}
