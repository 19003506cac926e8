//! The `<table>_current` view: the latest state of a changelog table, as SQL for DuckDB.
//!
//! The changelog is replayed by `(_df_lsn, _df_seq)` from the table's last `reset` or `truncate` row
//! on; before the first `reset` the view is empty. Per key:
//!
//! - the row is gone if the last change is a delete;
//! - *born* is the position of the last insert, snapshot or delete, and nothing before it counts: a
//!   value that the server did not send must not be taken from an earlier row with the same key;
//! - each column has the value of its last change from *born* on that carries one. A column that no
//!   change carries is NULL, and the view's own `_df_unchanged` names it.
//!
//! A row whose last change carries all columns is that change, so only the other keys are looked up
//! in the history; the result is the same, at half the time.
//!
//! What makes this right is the caller's choice of the key: the primary key, unless it is deferrable,
//! under replica identity DEFAULT and FULL; the columns of the identity index under USING INDEX; no
//! view otherwise. Every row of the changelog but `reset` and `truncate` carries its key.

use std::collections::BTreeMap;

/// The name of the view for a changelog table.
pub fn view_name(table: &str) -> String {
    format!("{table}_current")
}

/// A name that a column had before it was renamed. `_df_unchanged` of the rows before names it so.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FormerName {
    /// The name.
    pub name: String,
    /// `_df_lsn` of the first row with another name.
    pub until_lsn: i64,
    /// `_df_seq` of that row.
    pub until_seq: i64,
}

/// What a view shows.
#[derive(Clone, Debug)]
pub struct CurrentView<'a> {
    schema: &'a str,
    table: &'a str,
    key: &'a [String],
    columns: &'a [String],
    /// By column: the name that `_df_unchanged` has for it in a row of the history.
    unchanged_names: BTreeMap<&'a str, String>,
}

impl<'a> CurrentView<'a> {
    /// The view of the changelog table `schema.table` in the lake, whose source columns are `columns`
    /// and whose key is `key`.
    ///
    /// `None` when there is nothing to tell rows apart by: no key, or one with a column that the lake
    /// does not have.
    pub fn new(
        schema: &'a str,
        table: &'a str,
        key: &'a [String],
        columns: &'a [String],
    ) -> Option<Self> {
        if key.is_empty() || !key.iter().all(|column| columns.contains(column)) {
            return None;
        }
        Some(Self {
            schema,
            table,
            key,
            columns,
            unchanged_names: BTreeMap::new(),
        })
    }

    /// The same with names that columns had, oldest first.
    #[must_use]
    pub fn with_former_names(mut self, columns: &[(&'a str, &[FormerName])]) -> Self {
        for (column, former) in columns {
            if former.is_empty() {
                continue;
            }
            let cases: Vec<String> = former
                .iter()
                .map(|former| {
                    format!(
                        "when pos < {{'l': {}, 's': {}}} then {}",
                        former.until_lsn,
                        former.until_seq,
                        literal(&former.name)
                    )
                })
                .collect();
            let name = format!("case {} else {} end", cases.join(" "), literal(column));
            self.unchanged_names.insert(column, name);
        }
        self
    }

    fn unchanged_name(&self, column: &str) -> String {
        self.unchanged_names
            .get(column)
            .cloned()
            .unwrap_or_else(|| literal(column))
    }

    /// The view's query: every source column, then `_df_unchanged`.
    ///
    /// The lake's name stands in it as `{DUCKLAKE_CATALOG}`, which DuckLake replaces by the name that a
    /// reader attaches it as (`ducklake_view.sql`).
    pub fn sql(&self) -> String {
        let selected = self.list(|alias, name| format!("changes.{} as {alias}", quote(name)));
        let source = format!(
            "{{DUCKLAKE_CATALOG}}.{}.{}",
            quote(self.schema),
            quote(self.table)
        );
        let complete = self.list(|alias, name| format!("{alias} as {}", quote(name)));
        let key: Vec<String> = self
            .aliased()
            .filter(|(_, name)| self.key.contains(name))
            .map(|(alias, _)| alias)
            .collect();
        let key = key.join(", ");
        let head = format!(
            "\
with history as not materialized (
  select {selected},
    changes._df_op as op, changes._df_unchanged as unchanged,
    {{'l': changes._df_lsn, 's': changes._df_seq}} as pos
  from {source} as changes
  where {{'l': changes._df_lsn, 's': changes._df_seq}} > (
    select max({{'l': starts._df_lsn, 's': starts._df_seq}})
    from {source} as starts
    where starts._df_op in ('reset', 'truncate')
    having bool_or(starts._df_op = 'reset'))
), latest as not materialized (
  select * from history
  qualify row_number() over (partition by {key} order by pos desc) = 1
)"
        );
        if self.columns.len() == self.key.len() {
            return format!(
                "{head}
select {complete}, null::varchar[] as _df_unchanged
from latest
where op <> 'delete'"
            );
        }
        let filled = self.list(|alias, name| {
            if self.key.contains(name) {
                alias
            } else {
                let carried = format!(
                    "not coalesce(list_contains(unchanged, {}), false)",
                    self.unchanged_name(name)
                );
                format!("arg_max_null({alias}, pos) filter ({carried}) as {alias}")
            }
        });
        let unknown: Vec<String> = self
            .columns
            .iter()
            .filter(|name| !self.key.contains(name))
            .map(|name| {
                format!(
                    "case when bool_and(coalesce(list_contains(unchanged, {}), false)) then {} end",
                    self.unchanged_name(name),
                    literal(name)
                )
            })
            .collect();
        let unknown = unknown.join(", ");
        format!(
            "{head}, gaps as not materialized (
  select {key} from latest
  where op <> 'delete' and len(unchanged) > 0
), lives as not materialized (
  select history.*,
    max(pos) filter (op in ('insert', 'snapshot', 'delete')) over (partition by {key}) as born
  from history semi join gaps using ({key})
)
select {complete}, null::varchar[] as _df_unchanged
from latest
where op <> 'delete' and coalesce(len(unchanged), 0) = 0
union all
select {filled},
  nullif(list_filter([{unknown}]::varchar[], lambda name: name is not null), []::varchar[])
from lives
where op <> 'delete' and (born is null or pos >= born)
group by {key}"
        )
    }

    /// Columns under names of our own, so that none of the query's names can be a column's.
    fn aliased(&self) -> impl Iterator<Item = (String, &'a String)> {
        self.columns
            .iter()
            .enumerate()
            .map(|(number, name)| (format!("c{number}"), name))
    }

    fn list(&self, render: impl Fn(String, &String) -> String) -> String {
        let items: Vec<String> = self
            .aliased()
            .map(|(alias, name)| render(alias, name))
            .collect();
        items.join(", ")
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn no_view_without_a_key_that_the_lake_has() {
        let columns = names(&["id", "name"]);
        assert!(CurrentView::new("raw", "t", &[], &columns).is_none());
        assert!(CurrentView::new("raw", "t", &names(&["id", "secret"]), &columns).is_none());
        assert!(CurrentView::new("raw", "t", &names(&["id"]), &columns).is_some());
    }

    #[test]
    fn awkward_names_are_quoted() {
        let columns = names(&["id", "it's \"it\""]);
        let key = names(&["id"]);
        let sql = CurrentView::new("ra\"w", "T x", &key, &columns)
            .unwrap()
            .sql();
        assert!(sql.contains("from {DUCKLAKE_CATALOG}.\"ra\"\"w\".\"T x\" as changes"));
        assert!(sql.contains("c1 as \"it's \"\"it\"\"\""));
        assert!(sql.contains("list_contains(unchanged, 'it''s \"it\"')"));
    }

    #[test]
    fn a_table_of_keys_alone_needs_no_history() {
        let columns = names(&["a", "b"]);
        let sql = CurrentView::new("raw", "t", &columns, &columns)
            .unwrap()
            .sql();
        assert!(!sql.contains("union all"));
    }
}
