//! What an operator stated of the changes that come: what they are, and that they may pass.

use super::Found;
use crate::control::{Directive, SchemaChange, TypeId};
use crate::plan::ShapeColumn;
use crate::types::SourceType;

/// The directives that an evolution may use, and those that it does.
pub(super) struct Stated<'a> {
    /// In the order in which they were stated.
    pending: Vec<&'a Directive>,
    used: Vec<&'a Directive>,
}

/// What was stated of a column's next type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatedType {
    pub(super) values_unchanged: bool,
}

impl<'a> Stated<'a> {
    pub(super) fn of(found: &'a Found, source_oid: u32) -> Self {
        let of_table = |directive: &&Directive| directive.source_oid == source_oid;
        Self {
            pending: found.directives.iter().filter(of_table).collect(),
            used: Vec::new(),
        }
    }

    /// The renames, old name and new name, that explain names on the wire: the old one is not there, the new one is.
    /// Several that follow each other are one.
    pub(super) fn renames(&self, before: &[ShapeColumn], wire: &[&str]) -> Vec<(String, String)> {
        let known = before.iter().map(|column| column.name.as_str());
        known
            .filter(|old| !wire.contains(old))
            .flat_map(|old| {
                let leads = |new: &&&str| self.path(old, new).is_some();
                wire.iter().filter(leads).map(move |new| (old, *new))
            })
            .map(|(old, new)| (old.to_owned(), new.to_owned()))
            .collect()
    }

    /// Whether a column's new name was stated.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> bool {
        let path = self.path(from, to);
        let stated = path.is_some();
        for directive in path.into_iter().flatten() {
            self.take(directive);
        }
        stated
    }

    /// Whether it was stated that a column goes.
    pub(super) fn drop(&mut self, column: &str) -> bool {
        let dropped = |change: &SchemaChange| matches!(change, SchemaChange::DropColumn { column: stated } if stated == column);
        let found = self.find(|directive| dropped(&directive.change));
        found.map(|directive| self.take(directive)).is_some()
    }

    /// What was stated of a column's next type, under either of its names.
    pub(super) fn change_type(&mut self, names: [&str; 2], now: &SourceType) -> Option<StatedType> {
        let now = TypeId {
            oid: now.type_oid,
            modifier: now.type_modifier,
        };
        let directive = self.find(|directive| {
            directive.next_type == Some(now) && names.contains(&directive.change.column())
        })?;
        self.take(directive);
        let values_unchanged = matches!(
            directive.change,
            SchemaChange::ChangeType {
                values_unchanged: true,
                ..
            }
        );
        Some(StatedType { values_unchanged })
    }

    /// The ids of those that were used.
    pub(super) fn used(self) -> Vec<String> {
        let used = self.used.into_iter();
        used.map(|directive| directive.id.clone()).collect()
    }

    fn find(&self, wanted: impl Fn(&Directive) -> bool) -> Option<&'a Directive> {
        let mut pending = self.pending.iter();
        pending.find(|directive| wanted(directive)).copied()
    }

    fn take(&mut self, directive: &'a Directive) {
        self.pending.retain(|pending| pending.id != directive.id);
        self.used.push(directive);
    }

    /// The renames that lead from one name to another, each of them once.
    fn path(&self, from: &str, to: &str) -> Option<Vec<&'a Directive>> {
        let mut path = Vec::new();
        self.extend(&mut path, from, to).then_some(path)
    }

    fn extend(&self, path: &mut Vec<&'a Directive>, from: &str, to: &str) -> bool {
        for directive in &self.pending {
            let SchemaChange::RenameColumn { column, to: next } = &directive.change else {
                continue;
            };
            if column != from || path.iter().any(|taken| taken.id == directive.id) {
                continue;
            }
            path.push(directive);
            if next == to || self.extend(path, next, to) {
                return true;
            }
            path.pop();
        }
        false
    }
}

#[cfg(test)]
mod tests;
