//! Fields of structs, at any depth: child rows of `ducklake_column`.

use super::table::{TableState, invalid};
use crate::read::ColumnRow;
use crate::{CatalogError, ColumnDef, ColumnId};

impl TableState<'_> {
    pub(super) fn add_field(
        &mut self,
        parent: ColumnId,
        field: &ColumnDef,
    ) -> Result<(), CatalogError> {
        let object = format!("field {} of column {parent} of {}", field.name, self.object);
        if !self.is_struct(parent) {
            return Err(self.changed(format!("column {parent} is no struct")));
        }
        self.check_column_name(&field.name, Some(parent), None)?;
        if let Some(reason) = field.ty.refusal() {
            return Err(invalid(object, reason));
        }
        if !field.nullable || field.comment.is_some() || field.initial_default().is_some() {
            let reason = "a field of a struct has no default and no comment, and may be NULL";
            return Err(invalid(object, reason));
        }
        self.add_rows(field, Some(parent));
        Ok(())
    }

    pub(super) fn rename_field(&mut self, id: ColumnId, name: &str) -> Result<(), CatalogError> {
        let parent = self.field(id)?.parent;
        self.check_column_name(name, parent, Some(id))?;
        name.clone_into(&mut self.field(id)?.name);
        Ok(())
    }

    pub(super) fn drop_field(&mut self, id: ColumnId) -> Result<(), CatalogError> {
        let parent = self.field(id)?.parent;
        self.drop_rows(id);
        let is_empty = !self.live_rows().any(|row| row.parent == parent);
        if is_empty {
            let object = format!("field {id} of {}", self.object);
            return Err(invalid(object, "a struct needs a field"));
        }
        Ok(())
    }

    /// The row of a live field of a struct.
    fn field(&mut self, id: ColumnId) -> Result<&mut ColumnRow, CatalogError> {
        let parent = self
            .live_rows()
            .find(|row| row.id == id)
            .and_then(|row| row.parent)
            .filter(|parent| self.is_struct(*parent));
        if parent.is_none() {
            return Err(self.changed(format!("it has no struct field {id}")));
        }
        let error = self.changed(format!("it has no struct field {id}"));
        self.columns
            .iter_mut()
            .filter(|column| column.is_live)
            .map(|column| &mut column.row)
            .find(|row| row.id == id)
            .ok_or(error)
    }

    fn is_struct(&self, id: ColumnId) -> bool {
        self.live_rows()
            .any(|row| row.id == id && row.type_name.eq_ignore_ascii_case("struct"))
    }

    fn live_rows(&self) -> impl Iterator<Item = &ColumnRow> {
        self.columns
            .iter()
            .filter(|column| column.is_live)
            .map(|column| &column.row)
    }
}
