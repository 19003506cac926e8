//! Tables whose definition changes, also where no row shows it to the stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cdc_source::Connection;

use crate::config::FeederConfig;
use crate::control::Control;
use crate::error::FeederError;
use crate::evolution::Found;
use crate::intake::FedTable;
use crate::plan::SourceShape;
use crate::select::Selection;
use crate::table_look;

/// What the fed tables looked like last, by OID.
pub(crate) struct Definitions {
    seen: BTreeMap<u32, (Selection, SourceShape)>,
    again: LookAgain,
}

/// Tables of which a look came to nothing, because the stream was ahead of it: the next one tells them all the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct LookAgain(Arc<Mutex<BTreeSet<u32>>>);

impl LookAgain {
    pub(crate) fn insert(&self, source_oid: u32) {
        self.tables().insert(source_oid);
    }

    fn take(&self) -> BTreeSet<u32> {
        std::mem::take(&mut *self.tables())
    }

    fn tables(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        // A set is whole whatever thread panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the fed tables look like now.
pub(super) struct DefinitionsLook {
    /// Those that changed since.
    pub(super) changed: Vec<(u32, Found)>,
    /// By OID, whether a table has nothing that tells its rows apart.
    pub(super) keyless: BTreeMap<u32, bool>,
}

impl Definitions {
    pub(crate) fn of(tables: &[FedTable], again: LookAgain) -> Self {
        Self {
            again,
            seen: tables
                .iter()
                .map(|table| {
                    let known = (table.selection.clone(), table.version.shape.clone());
                    (table.lake().source_oid, known)
                })
                .collect(),
        }
    }

    pub(super) async fn look(
        &mut self,
        connection: &mut Connection,
        config: &FeederConfig,
        control: &Control,
    ) -> Result<DefinitionsLook, FeederError> {
        let wanted: Vec<table_look::Wanted> = self
            .seen
            .iter()
            .map(|(source_oid, (selection, _))| table_look::Wanted {
                source_oid: *source_oid,
                selection: selection.clone(),
                types: Vec::new(),
                announced: None,
            })
            .collect();
        let again = self.again.take();
        let found = table_look::over(connection, config, &wanted).await?;
        let keyless = found
            .iter()
            .zip(self.seen.keys())
            .filter_map(|(found, oid)| Some((*oid, found.plan.as_ref()?.keyless)))
            .collect();
        let mut changed: Vec<(u32, Found)> = Vec::new();
        for ((source_oid, (_, seen)), mut found) in self.seen.iter().zip(found) {
            let Some(plan) = &mut found.plan else {
                continue;
            };
            let now = plan.shape_as_fed(seen);
            if again.contains(source_oid) || !seen.agrees(&now) {
                changed.push((*source_oid, found));
            } else if !seen.has_rows_of(&now) {
                // Other files alone are no reason to feed what only a copy brings.
                plan.shape = now;
                changed.push((*source_oid, found));
            }
        }
        let mut redefined: Vec<&mut Found> = changed.iter_mut().map(|(_, found)| found).collect();
        table_look::add_stated(control, &mut redefined).await?;
        // Last: what fails is looked at again.
        for (source_oid, found) in &changed {
            if let (Some((_, seen)), Some(plan)) = (self.seen.get_mut(source_oid), &found.plan) {
                seen.clone_from(&plan.shape);
            }
        }
        Ok(DefinitionsLook { changed, keyless })
    }
}
