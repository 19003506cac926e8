//! The types of a lake table's columns, as the catalog has them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::postgres::Postgres;

#[derive(Debug)]
struct Node {
    id: String,
    parent: Option<String>,
    name: String,
    lake_type: String,
}

/// By column, with the parts of nested types: `list(struct(a int32, b varchar))`.
///
/// # Errors
/// When the catalog cannot be read.
pub fn lake_types(pg: &Postgres, catalog: &str, table: &str) -> Result<BTreeMap<String, String>> {
    let rows = pg.sql(
        catalog,
        &format!(
            "select column_id, parent_column, column_name, column_type from ducklake_column \
             join ducklake_table using (table_id) where table_name = '{table}' \
             and ducklake_column.end_snapshot is null and ducklake_table.end_snapshot is null order by column_order, column_id"
        ),
    )?;
    let nodes = rows
        .into_iter()
        .map(|row| {
            let mut values = row.into_iter();
            let mut next = || values.next().flatten();
            let (id, parent, name, lake_type) = (next(), next(), next(), next());
            Some(Node {
                id: id?,
                parent,
                name: name?,
                lake_type: lake_type?,
            })
        })
        .collect::<Option<Vec<_>>>()
        .context("a column without a name or type")?;
    Ok(nodes
        .iter()
        .filter(|node| node.parent.is_none())
        .map(|node| (node.name.clone(), whole(&nodes, node)))
        .collect())
}

fn whole(nodes: &[Node], node: &Node) -> String {
    let parts: Vec<String> = nodes
        .iter()
        .filter(|part| part.parent.as_ref() == Some(&node.id))
        .map(|part| match node.lake_type.as_str() {
            "struct" => format!("{} {}", part.name, whole(nodes, part)),
            _ => whole(nodes, part),
        })
        .collect();
    if parts.is_empty() {
        node.lake_type.clone()
    } else {
        format!("{}({})", node.lake_type, parts.join(", "))
    }
}
