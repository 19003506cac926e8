//! A version of a fed table: what the source sends, and the lake's columns that it goes into.

use std::sync::Arc;

use ducklake_catalog::ViewDef;

use crate::current_view::{self, CurrentView, FormerName};
use crate::file::LakeTable;
use crate::layout::SourceColumn;
use crate::plan::SourceShape;
use crate::types::ColumnSettings;

/// See the module's documentation. One is never changed: the source's DDL makes the next
/// ([`Evolution`](crate::evolution::Evolution)).
#[derive(Clone, Debug)]
pub(crate) struct TableVersion {
    pub(crate) lake: Arc<LakeTable>,
    pub(crate) shape: SourceShape,
    /// The shape's columns with their readers.
    pub(crate) columns: Vec<SourceColumn>,
    /// Columns that may be on the wire and are not the lake's: excluded ones, and generated ones that were not
    /// published when the table was copied.
    pub(crate) ignored: Vec<String>,
    /// Stored generated columns of the lake's table: rows from before they were published come without them.
    pub(crate) generated: Vec<String>,
}

impl TableVersion {
    pub(crate) fn new(
        lake: Arc<LakeTable>,
        shape: SourceShape,
        settings: &ColumnSettings,
        ignored: Vec<String>,
        generated: Vec<String>,
    ) -> Self {
        Self {
            lake,
            columns: shape.source_columns(settings),
            shape,
            ignored,
            generated,
        }
    }

    /// The view of the latest state; `None` when there can be none (rule 10).
    pub(crate) fn view(&self) -> Option<ViewDef> {
        view(
            &self.lake.target_schema,
            &self.lake.target_table,
            &self.shape,
        )
    }
}

/// The view of the latest state of a table of this shape; `None` when there can be none (rule 10).
pub(crate) fn view(schema: &str, table: &str, shape: &SourceShape) -> Option<ViewDef> {
    let columns: Vec<String> = shape
        .columns
        .iter()
        .map(|column| column.name.clone())
        .collect();
    let former: Vec<(&str, &[FormerName])> = shape
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.former.as_slice()))
        .collect();
    let view = CurrentView::new(schema, table, &shape.key, &columns)?.with_former_names(&former);
    let comment = format!("the latest state of {schema}.{table}");
    Some(ViewDef::new(current_view::view_name(table), view.sql()).with_comment(comment))
}
