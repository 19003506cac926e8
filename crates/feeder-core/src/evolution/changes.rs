//! What an evolution changes, for people, and what a strict table lets pass of it.

use super::{Next, key_changed};
use crate::config::{ChangePolicy, OnSchemaChange};
use crate::plan::SourceShape;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Changes(Vec<Change>);

struct Change {
    text: String,
    passes: Passes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Passes {
    /// An operator stated it.
    Stated,
    /// Nothing that was there before is touched.
    Additive,
    /// Where everything is followed.
    Followed,
}

impl Changes {
    /// A change of a column that was there before.
    pub(super) fn known(&mut self, text: String, stated: bool) {
        let passes = if stated {
            Passes::Stated
        } else {
            Passes::Followed
        };
        self.0.push(Change { text, passes });
    }

    /// A column that was not there before.
    pub(super) fn added(&mut self, text: String) {
        let passes = Passes::Additive;
        self.0.push(Change { text, passes });
    }

    pub(super) fn into_texts(self) -> Vec<String> {
        self.0.into_iter().map(|change| change.text).collect()
    }

    /// What the policies `additive_only` and `stop` do not let pass.
    pub(super) fn refuse(
        &self,
        policy: ChangePolicy,
        before: &SourceShape,
        next: &Next,
    ) -> Result<(), String> {
        let any = |passes: Passes| self.0.iter().any(|change| change.passes == passes);
        let refused = match policy.on_schema_change {
            OnSchemaChange::Follow => return Ok(()),
            OnSchemaChange::AdditiveOnly => any(Passes::Followed),
            OnSchemaChange::Stop => {
                any(Passes::Followed) || any(Passes::Additive) || !any(Passes::Stated)
            }
        };
        // No directive states a key.
        let keyed = before.identity != next.shape.identity || key_changed(before, next).is_some();
        if !refused && !keyed {
            return Ok(());
        }
        let unstated: Vec<&str> = self
            .0
            .iter()
            .filter(|change| change.passes != Passes::Stated)
            .map(|change| change.text.as_str())
            .collect();
        let unstated = if unstated.is_empty() {
            "its key or replica identity changed".to_owned()
        } else {
            unstated.join(", ")
        };
        Err(format!(
            "{unstated}; on_schema_change is {:?}",
            policy.on_schema_change.as_str()
        ))
    }
}
