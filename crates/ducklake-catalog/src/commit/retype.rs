//! A column that gets another type, and what that means for what is known of its values.

use super::table::{TableState, invalid};
use crate::stats::fits;
use crate::{CatalogError, ColumnId, LakeType, StatBounds, StatValue};

impl TableState<'_> {
    pub(super) fn set_column_type(
        &mut self,
        id: ColumnId,
        ty: &LakeType,
    ) -> Result<(), CatalogError> {
        let current = self
            .tree()
            .into_iter()
            .find(|column| column.id == id)
            .map(|column| column.ty);
        let object = format!("column {id} of {}", self.object);
        let row_of_column = self.top_level(id)?;
        let Some(current) = current.filter(|current| current.widens_to(ty)) else {
            let from = row_of_column.type_name.clone();
            return Err(invalid(object, format!("type {from} cannot become {ty}")));
        };
        if let Some(reason) = ty.refusal() {
            return Err(invalid(object, reason));
        }
        if current == *ty {
            return Ok(());
        }
        // Nested types widen to themselves only, so there are no child rows to change.
        row_of_column.type_name = ty.catalog_name();
        if !current.keeps_order_as(ty) {
            self.reordered.insert(id);
        }
        // Files that the change set appended before are of the old type.
        for file in &mut self.files {
            for stats in file.columns.iter_mut().filter(|stats| stats.column == id) {
                let StatBounds::Range { min, max } = &stats.bounds else {
                    continue;
                };
                if !(fits(min, &current) && fits(max, &current)) {
                    let detail = format!("the bounds of column {id} are not {current}");
                    return Err(invalid(
                        format!("file {} of {}", file.path, self.object),
                        detail,
                    ));
                }
                let bounds = match (bound_as(min, ty), bound_as(max, ty)) {
                    (Some(min), Some(max)) if current.keeps_order_as(ty) => {
                        StatBounds::Range { min, max }
                    }
                    _ => StatBounds::Unknown,
                };
                stats.bounds = bounds;
            }
        }
        Ok(())
    }
}

/// The same value as one of a wider type, where the two are ordered alike.
fn bound_as(value: &StatValue, ty: &LakeType) -> Option<StatValue> {
    match (value, ty) {
        (StatValue::Int(value), LakeType::Decimal { scale: 0, .. }) => Some(StatValue::Decimal {
            value: i128::from(*value),
            scale: 0,
        }),
        (StatValue::Uuid(bytes), LakeType::Varchar) => Some(StatValue::Utf8(
            uuid::Uuid::from_bytes(*bytes).hyphenated().to_string(),
        )),
        (value, ty) => fits(value, ty).then(|| value.clone()),
    }
}
