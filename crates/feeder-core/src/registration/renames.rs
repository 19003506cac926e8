//! Tables that have another name or schema at the source. Where a table's name in the lake was the source's, it follows.

use super::taken::Foreign;
use crate::control::{TableRow, TableTransition};
use crate::layout::IN_BETWEEN;
use crate::plan::TablePlan;

/// A table with another name.
struct Renamed<'a> {
    row: &'a TableRow,
    plan: &'a TablePlan,
    /// Whether the lake's table gets the new name too.
    follows: bool,
}

impl Renamed<'_> {
    fn target(&self) -> &str {
        if self.follows {
            &self.plan.selection.target_table
        } else {
            &self.row.target_table
        }
    }
}

/// What the control tables get to know of it. Tables may have taken each other's names, and no two of them have one in the
/// lake at any time.
pub(super) fn transitions(
    plans: &[TablePlan],
    rows: &[TableRow],
    foreign: &Foreign,
) -> Vec<TableTransition> {
    let renamed = renamed(plans, rows, foreign);
    let away = renamed.iter().filter(|table| table.follows).map(|table| {
        let row = table.row;
        let source = (row.source_schema.as_str(), row.source_table.as_str());
        let between = format!("{IN_BETWEEN}_{}", row.source_oid);
        TableTransition::renamed(row.source_oid, source, &between)
    });
    let there = renamed.iter().map(|table| {
        let (row, selection) = (table.row, &table.plan.selection);
        let now = (selection.schema.as_str(), selection.name.as_str());
        tracing::info!(
            table = format!("{}.{}", row.source_schema, row.source_table),
            now = format!("{}.{}", now.0, now.1),
            target = format!("{}.{}", row.target_schema, table.target()),
            "the table has another name at the source"
        );
        TableTransition::renamed(row.source_oid, now, table.target())
    });
    away.chain(there).collect()
}

fn renamed<'a>(
    plans: &'a [TablePlan],
    rows: &'a [TableRow],
    foreign: &Foreign,
) -> Vec<Renamed<'a>> {
    let mut renamed: Vec<Renamed<'a>> = plans
        .iter()
        .filter_map(|plan| {
            let oid = plan.info.id.oid.get();
            let row = rows.iter().find(|row| row.source_oid == oid)?;
            let selection = &plan.selection;
            let same = row.source_schema == selection.schema && row.source_table == selection.name;
            (!same).then_some(Renamed {
                row,
                plan,
                follows: selection.target_table == selection.name
                    && row.target_table == row.source_table
                    && foreign
                        .met_by(&row.target_schema, &selection.target_table)
                        .is_none(),
            })
        })
        .collect();
    // One that finds its new name taken stays, and so keeps another one from the name that it has.
    while let Some(index) = (0..renamed.len()).find(|index| is_taken(*index, &renamed, rows)) {
        if let Some(table) = renamed.get_mut(index) {
            table.follows = false;
        }
    }
    renamed
}

/// Whether the name that a table wants in the lake is another's.
fn is_taken(index: usize, renamed: &[Renamed<'_>], rows: &[TableRow]) -> bool {
    let Some(table) = renamed.get(index).filter(|table| table.follows) else {
        return false;
    };
    rows.iter()
        .filter(|row| row.source_oid != table.row.source_oid)
        .any(|row| {
            let moved = renamed
                .iter()
                .find(|other| other.row.source_oid == row.source_oid);
            let name = moved.map_or(row.target_table.as_str(), Renamed::target);
            row.target_schema == table.row.target_schema
                && name.eq_ignore_ascii_case(table.target())
        })
}
#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::control::TableChange;
    use crate::status::TableState;
    use crate::testing::{INT8, found};

    fn plan(oid: u32, name: &str) -> TablePlan {
        found(oid, name, &[(1, ("id", INT8, -1))], oid)
            .plan
            .unwrap()
    }

    fn row(oid: u32, source: &str, target: &str) -> TableRow {
        TableRow {
            source_oid: oid,
            source_schema: "public".to_owned(),
            source_table: source.to_owned(),
            target_schema: "raw".to_owned(),
            target_table: target.to_owned(),
            lake_table_id: Some(i64::from(oid)),
            state: TableState::Streaming,
            copy_point: None,
            shape: serde_json::Value::Null,
            publication: None,
            partitions: None,
            truncated_by: None,
            error: None,
            resync_requested: false,
            copied_rows: 0,
            unrepresentable: 0,
        }
    }

    /// The names in the lake after the transitions, which never give one to two tables.
    fn names(plans: &[TablePlan], rows: &[TableRow]) -> BTreeMap<u32, String> {
        let mut names: BTreeMap<u32, String> = rows
            .iter()
            .map(|row| (row.source_oid, row.target_table.clone()))
            .collect();
        for transition in transitions(plans, rows, &Foreign::default()) {
            let TableChange::Renamed { target_table, .. } = transition.change else {
                panic!("{transition:?}")
            };
            names.remove(&transition.source_oid);
            let taken = names
                .values()
                .any(|name| name.eq_ignore_ascii_case(&target_table));
            assert!(!taken, "two tables are {target_table}");
            names.insert(transition.source_oid, target_table);
        }
        names
    }

    #[test]
    fn tables_that_take_each_others_names_follow() {
        let rows = [row(1, "a", "a"), row(2, "b", "b"), row(3, "c", "c")];
        let plans = [plan(1, "b"), plan(2, "c"), plan(3, "a")];
        let names = names(&plans, &rows);
        assert_eq!(names.into_values().collect::<Vec<_>>(), ["b", "c", "a"]);
    }

    #[test]
    fn a_name_that_is_taken_keeps_its_table_and_all_that_wait_for_it() {
        // The first is not at the source any more.
        let rows = [row(1, "a", "a"), row(2, "b", "b"), row(3, "c", "c")];
        let plans = [plan(2, "a"), plan(3, "b")];
        let names = names(&plans, &rows);
        assert_eq!(names.into_values().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn a_table_with_a_name_of_its_own_in_the_lake_keeps_it() {
        let rows = [row(1, "a", "other"), row(2, "b", "b")];
        let plans = [plan(1, "z"), plan(2, "b")];
        assert_eq!(transitions(&plans, &rows, &Foreign::default()).len(), 1);
        let names = names(&plans, &rows);
        assert_eq!(names.into_values().collect::<Vec<_>>(), ["other", "b"]);
    }
}
