//! One rule of which tables are fed, and how.

use crate::config::{ArrayMapping, BackfillMode, ChangeOverrides, NumericMapping, TableRule};

/// A rule for the tables that match `schema.table`; both parts may hold the globs `*` and `?`. An
/// exact name beats a glob, a later rule beats an earlier one.
#[derive(Clone, Debug)]
pub struct Table(TableRule);

impl Table {
    /// Feeds matching tables into the schema `raw` of the lake, under their own names.
    pub fn new(source: impl Into<String>) -> Self {
        Self(TableRule::new(source))
    }

    /// Feeds into this schema and table of the lake.
    #[must_use]
    pub fn target(self, schema: impl Into<String>, table: impl Into<String>) -> Self {
        let mut this = self.target_schema(schema);
        this.0.target_table = Some(table.into());
        this
    }

    /// Feeds into this schema of the lake, under the table's own name.
    #[must_use]
    pub fn target_schema(mut self, schema: impl Into<String>) -> Self {
        self.0.target_schema = Some(schema.into());
        self
    }

    /// Keeps columns out of publication (Postgres 15 and later), copy and lake.
    #[must_use]
    pub fn exclude_columns<C: Into<String>>(
        mut self,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        self.0
            .exclude_columns
            .extend(columns.into_iter().map(Into::into));
        self
    }

    /// Feeds only rows that meet an SQL condition, in publication (Postgres 15 and later) and copy.
    #[must_use]
    pub fn row_filter(mut self, condition: impl Into<String>) -> Self {
        self.0.row_filter = Some(condition.into());
        self
    }

    /// Whether existing rows are copied; the feeder's setting unless given.
    #[must_use]
    pub fn backfill(mut self, mode: BackfillMode) -> Self {
        self.0.backfill = Some(mode);
        self
    }

    /// How one column of type `numeric` without a precision is stored.
    #[must_use]
    pub fn numeric(mut self, column: impl Into<String>, mapping: NumericMapping) -> Self {
        self.0.numeric.insert(column.into(), mapping);
        self
    }

    /// How one array column is stored.
    #[must_use]
    pub fn arrays(mut self, column: impl Into<String>, mapping: ArrayMapping) -> Self {
        self.0.arrays.insert(column.into(), mapping);
        self
    }

    /// True: updates and deletes carry the old values that the server sends, in `_df_before`.
    #[must_use]
    pub fn before_image(mut self, before_image: bool) -> Self {
        self.0.before_image = before_image;
        self
    }

    /// What DDL does to the lake's tables, instead of what the feeder does with the others.
    #[must_use]
    pub fn on_change(mut self, overrides: ChangeOverrides) -> Self {
        self.0.changes = overrides;
        self
    }

    /// False leaves matching tables out.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.0.enabled = enabled;
        self
    }
}

impl From<Table> for TableRule {
    fn from(table: Table) -> Self {
        table.0
    }
}
