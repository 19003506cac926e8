//! Definitions of tables, columns and views that a change set creates.

use uuid::Uuid;

use crate::initial_default::spell;
use crate::layout::object_directory;
use crate::{ColumnId, InvalidDefault, LakeType};

/// A column to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ColumnDef {
    /// Name, unique in its table when compared without case.
    pub name: String,
    /// Type.
    pub ty: LakeType,
    /// Whether it may hold NULL. Readers do not enforce it; DuckDB does when it inserts.
    pub nullable: bool,
    /// What `COMMENT ON COLUMN` sets.
    pub comment: Option<String>,
    /// As DuckDB casts it.
    initial_default: Option<String>,
}

impl ColumnDef {
    /// A nullable column.
    pub fn new(name: impl Into<String>, ty: LakeType) -> Self {
        Self {
            name: name.into(),
            ty,
            nullable: true,
            comment: None,
            initial_default: None,
        }
    }

    /// Makes the column NOT NULL.
    #[must_use]
    pub fn not_null(mut self) -> Self {
        self.nullable = false;
        self
    }

    /// Sets the comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// Gives the column a constant value in the rows that are there, and in rows that others insert
    /// without naming it, as DuckDB's `ADD COLUMN ... DEFAULT` does. Without it, they have NULL.
    ///
    /// The text is the value's as Postgres (with ISO dates and hexadecimal `bytea`) or DuckDB prints
    /// it; a `blob` is taken in Postgres' form only, `\x00ff`. Files of the column are written with
    /// their values and never read it.
    ///
    /// # Errors
    /// When the text is no value of the column's type, or DuckDB reads no default of such a type:
    /// lists, structs, maps, `timetz`, `interval` and what cannot be written.
    pub fn with_initial_default(mut self, text: &str) -> Result<Self, InvalidDefault> {
        self.initial_default = Some(spell(text, &self.ty)?);
        Ok(self)
    }

    /// The value in the rows that are there, as DuckDB casts it.
    pub fn initial_default(&self) -> Option<&str> {
        self.initial_default.as_deref()
    }
}

/// A table to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableDef {
    /// Name, unique among the tables and views of its schema when compared without case.
    pub name: String,
    /// Columns, at least one.
    pub columns: Vec<ColumnDef>,
    /// Tags; the key `comment` is what `COMMENT ON TABLE` sets.
    pub tags: Vec<(String, String)>,
    uuid: Uuid,
}

impl TableDef {
    /// A table with these columns. Its uuid, and with it its directory, is chosen here.
    pub fn new(name: impl Into<String>, columns: Vec<ColumnDef>) -> Self {
        Self {
            name: name.into(),
            columns,
            tags: Vec::new(),
            uuid: Uuid::now_v7(),
        }
    }

    /// Sets the comment.
    #[must_use]
    pub fn with_comment(self, comment: impl Into<String>) -> Self {
        self.with_tag("comment", comment)
    }

    /// Sets a tag; DuckDB shows tags in `duckdb_tables()`.
    #[must_use]
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let key = key.into();
        self.tags.retain(|(other, _)| *other != key);
        self.tags.push((key, value.into()));
        self
    }

    /// The uuid that the table will have.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The table's directory below its schema's, with a trailing slash.
    pub fn directory(&self) -> String {
        object_directory(&self.name, self.uuid)
    }

    /// The id that the first column added later will have.
    pub fn next_column_id(&self) -> ColumnId {
        let mut next = FIRST_COLUMN_ID;
        for column in &self.columns {
            ColumnIds::allocate(&column.ty, &mut next);
        }
        ColumnId::new(next)
    }

    /// The ids that the columns will have, in order: counted from 1, depth first. They are the
    /// Parquet field ids of the table's files, so that files can be written before the commit.
    pub fn column_ids(&self) -> Vec<ColumnIds> {
        let mut next = FIRST_COLUMN_ID;
        self.columns
            .iter()
            .map(|column| ColumnIds::allocate(&column.ty, &mut next))
            .collect()
    }
}

/// The first column id of every table.
pub(crate) const FIRST_COLUMN_ID: i64 = 1;

/// The id of a column and those of its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnIds {
    /// The column's own id.
    pub id: ColumnId,
    /// The children's: `element` of a list, the fields of a struct, `key` and `value` of a map.
    pub children: Vec<ColumnIds>,
}

impl ColumnIds {
    /// The id of a list's element; `None` for a column without children.
    pub fn element(&self) -> Option<ColumnId> {
        self.children.first().map(|child| child.id)
    }

    /// The ids of a new column of this type and its children, counted from `next` on, which is moved behind them.
    pub fn allocate(ty: &LakeType, next: &mut i64) -> Self {
        let id = ColumnId::new(*next);
        *next += 1;
        let children = ty
            .children()
            .iter()
            .map(|child| Self::allocate(child.ty, next))
            .collect();
        Self { id, children }
    }
}

/// A view to be created or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewDef {
    /// Name, unique among the tables and views of its schema when compared without case.
    pub name: String,
    /// The SELECT in DuckDB's dialect. `{DUCKLAKE_CATALOG}` stands for the name under which the
    /// lake is attached.
    pub sql: String,
    /// Names for the view's columns; empty to keep those of the SELECT.
    pub column_aliases: Vec<String>,
    /// What `COMMENT ON VIEW` sets.
    pub comment: Option<String>,
}

impl ViewDef {
    /// A view with the column names of its SELECT.
    pub fn new(name: impl Into<String>, sql: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            sql: sql.into(),
            column_aliases: Vec::new(),
            comment: None,
        }
    }

    /// Names the view's columns.
    #[must_use]
    pub fn with_column_aliases<I, S>(mut self, aliases: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.column_aliases = aliases.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// The aliases as `ducklake_view.column_aliases` stores them: empty, or `"a","b"`.
    pub(crate) fn aliases_text(&self) -> String {
        self.column_aliases
            .iter()
            .map(|alias| crate::changes_made::quote(alias))
            .collect::<Vec<_>>()
            .join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_ids_are_counted_depth_first() {
        let inner = LakeType::Struct(vec![("z".into(), LakeType::Float64)]);
        let table = TableDef::new(
            "t",
            vec![
                ColumnDef::new("a", LakeType::Int32),
                ColumnDef::new("l", LakeType::list(LakeType::Varchar)),
                ColumnDef::new(
                    "s",
                    LakeType::Struct(vec![("x".into(), LakeType::Int32), ("y".into(), inner)]),
                ),
                ColumnDef::new(
                    "m",
                    LakeType::Map(Box::new(LakeType::Varchar), Box::new(LakeType::Int32)),
                ),
                ColumnDef::new("d", LakeType::Date),
            ],
        );
        let ids = table.column_ids();
        let top: Vec<i64> = ids.iter().map(|ids| ids.id.get()).collect();
        assert_eq!(top, [1, 2, 4, 8, 11]);
        assert_eq!(ids[1].element(), Some(ColumnId::new(3)));
        assert_eq!(ids[2].children[1].children[0].id, ColumnId::new(7));
        assert_eq!(ids[3].children[1].id, ColumnId::new(10));
        assert_eq!(ids[0].element(), None);
    }

    #[test]
    fn view_aliases_are_quoted() {
        let view = ViewDef::new("v", "SELECT 1");
        assert_eq!(view.aliases_text(), "");
        let view = view.with_column_aliases(["x", "Y \"y"]);
        assert_eq!(view.aliases_text(), "\"x\",\"Y \"\"y\"");
    }
}
