//! The columns of a lake table while they change, and the steps that change them.

use ducklake_catalog::{ColumnDef, ColumnIds, LakeType};

use super::LakeStep;
use crate::file::LakeTable;
use crate::layout::{BEFORE, IN_BETWEEN, LakeColumn, SourceColumn};
use crate::plan::SourceShape;
use crate::types::Reader;

/// See the module's documentation.
pub(super) struct LakeColumns {
    columns: Vec<LakeColumn>,
    next_id: i64,
    steps: Vec<LakeStep>,
}

impl LakeColumns {
    pub(super) fn of(table: &LakeTable) -> Self {
        Self {
            columns: table.columns.clone(),
            next_id: table.next_column_id,
            steps: Vec::new(),
        }
    }

    pub(super) fn done(self) -> (Vec<LakeColumn>, i64, Vec<LakeStep>) {
        (self.columns, self.next_id, self.steps)
    }

    /// Readers of a lake ignore case.
    fn position(&self, name: &str) -> Option<usize> {
        self.columns
            .iter()
            .position(|column| column.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn drop(&mut self, name: &str) {
        if let Some(position) = self.position(name) {
            let column = self.columns.remove(position);
            self.steps.push(LakeStep::Drop(column.ids.id));
        }
    }

    pub(super) fn widen(&mut self, name: &str, lake_type: LakeType) {
        if let Some(position) = self.position(name)
            && let Some(column) = self.columns.get_mut(position)
        {
            column.lake_type = lake_type.clone();
            self.steps.push(LakeStep::Widen(column.ids.id, lake_type));
        }
    }

    /// Keeps a column that is not fed any more, under a name that says so: `total_v1`.
    pub(super) fn retire(&mut self, name: &str) {
        let free = (1..=u16::MAX)
            .map(|number| format!("{name}_v{number}"))
            .find(|name| self.position(name).is_none());
        if let Some(free) = free {
            self.set_name(name, &free);
        }
    }

    fn set_name(&mut self, name: &str, to: &str) {
        if let Some(position) = self.position(name)
            && let Some(column) = self.columns.get_mut(position)
        {
            to.clone_into(&mut column.name);
            self.steps
                .push(LakeStep::Rename(column.ids.id, to.to_owned()));
        }
    }

    /// Renames columns, some of which may take each other's names.
    pub(super) fn rename(&mut self, renames: &[(&str, &str)]) {
        let mut left = renames.to_vec();
        while !left.is_empty() {
            let leaving = |name: &str| left.iter().any(|(old, _)| old.eq_ignore_ascii_case(name));
            let free = left
                .iter()
                .position(|(old, new)| old.eq_ignore_ascii_case(new) || !leaving(new));
            match free {
                Some(index) => {
                    let (old, new) = left.swap_remove(index);
                    // One that was kept after it was dropped at the source.
                    if !old.eq_ignore_ascii_case(new) && self.position(new).is_some() {
                        self.retire(new);
                    }
                    self.set_name(old, new);
                }
                None => {
                    if let Some(first) = left.first_mut() {
                        self.set_name(first.0, IN_BETWEEN);
                        first.0 = IN_BETWEEN;
                    }
                }
            }
        }
    }

    /// Adds a column; one of that name which was kept makes room.
    pub(super) fn add(&mut self, definition: ColumnDef) {
        if self.position(&definition.name).is_some() {
            let name = definition.name.clone();
            self.retire(&name);
        }
        let ids = ColumnIds::allocate(&definition.ty, &mut self.next_id);
        self.steps.push(LakeStep::Add(ids.id, definition.clone()));
        self.columns.push(LakeColumn {
            name: definition.name,
            lake_type: definition.ty,
            ids,
        });
    }

    pub(super) fn comment(&mut self, name: &str, comment: Option<String>) {
        let column = self
            .position(name)
            .and_then(|position| self.columns.get(position));
        if let Some(column) = column {
            self.steps.push(LakeStep::Comment(column.ids.id, comment));
        }
    }

    pub(super) fn table_comment(&mut self, comment: String) {
        self.steps.push(LakeStep::TableComment(Some(comment)));
    }

    /// The old values follow the columns. Fields that come or change names do so in place; otherwise another struct
    /// begins, and the one before is kept.
    pub(super) fn before_image(
        &mut self,
        before: &SourceShape,
        next: &SourceShape,
        columns: &[SourceColumn],
        origins: &[Option<usize>],
    ) {
        if !next.before_image {
            return;
        }
        let fields: Vec<(String, LakeType)> = columns
            .iter()
            .map(|column| (column.name.clone(), column.reader.lake_type()))
            .collect();
        let known = before.columns.len();
        let in_order = (0..known).map(Some).eq(origins.iter().take(known).copied())
            && origins.iter().skip(known).all(Option::is_none);
        let wanted = LakeType::Struct(fields);
        if !(before.before_image && in_order && self.reshape(BEFORE, &wanted)) {
            self.add(ColumnDef::new(BEFORE, wanted));
        }
    }

    /// Makes a struct have these fields, if that takes no more than other names and more fields at the end.
    pub(super) fn reshape(&mut self, name: &str, wanted: &LakeType) -> bool {
        let position = self.position(name);
        let Some(held) = position.and_then(|position| self.columns.get_mut(position)) else {
            return false;
        };
        let (LakeType::Struct(had), LakeType::Struct(fields)) = (&held.lake_type, wanted) else {
            return false;
        };
        let kept =
            had.len() <= fields.len() && had.iter().zip(fields).all(|(had, now)| had.1 == now.1);
        if !kept {
            return false;
        }
        for ((had, now), ids) in had.iter().zip(fields).zip(&held.ids.children) {
            if had.0 != now.0 {
                self.steps
                    .push(LakeStep::RenameField(ids.id, now.0.clone()));
            }
        }
        for (name, lake_type) in fields.iter().skip(had.len()) {
            let ids = ColumnIds::allocate(lake_type, &mut self.next_id);
            let field = ColumnDef::new(name.as_str(), lake_type.clone());
            self.steps
                .push(LakeStep::AddField(held.ids.id, ids.id, field));
            held.ids.children.push(ids);
        }
        held.lake_type = wanted.clone();
        true
    }
}

/// The column with what rows before it read as, `text` being the source's; `None` when the lake cannot hold it.
pub(super) fn with_initial_default(
    definition: &ColumnDef,
    reader: &Reader,
    text: &str,
) -> Option<ColumnDef> {
    match reader {
        // Their text at the source is another than the lake's.
        Reader::List(_) | Reader::JsonArray(_) | Reader::Struct(_) | Reader::Money => None,
        _ => definition.clone().with_initial_default(text).ok(),
    }
}
