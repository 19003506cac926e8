//! Whether the source still is what the checkpoint is about (I12, rules 3 and 14).

use cdc_source::{
    Connection, SessionKind, SlotInfo, SlotName, SystemIdentity, TimelineSwitch, quote_ident,
};
use ducklake_catalog::{Lake, TableId};
use pgoutput::Lsn;

use crate::config::FeederConfig;
use crate::control::{Control, FeederRow, TableRow};
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::status::TableState;

/// More tables than these are counted only.
const NAMED_TABLES: usize = 20;

/// What the feeder knows of its source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lineage {
    pub(crate) system_id: u64,
    pub(crate) timeline: u32,
    pub(crate) checkpoint: Lsn,
}

/// What the source says of itself.
pub(crate) struct Present<'a> {
    pub(crate) identity: &'a SystemIdentity,
    /// The timelines that led to the present one; empty when they were not asked for.
    pub(crate) history: &'a [TimelineSwitch],
    pub(crate) slot: Option<&'a SlotInfo>,
}

impl Lineage {
    /// Whether everything from the checkpoint on can still be read there, and nothing before it was undone.
    ///
    /// # Errors
    /// What is lost, in words that begin with its cause.
    pub(crate) fn check(&self, slot: &SlotName, present: &Present<'_>) -> Result<(), String> {
        let Self {
            system_id,
            checkpoint,
            ..
        } = *self;
        let identity = present.identity;
        if identity.system_id != system_id {
            return Err(format!(
                "the source has system identifier {}, the checkpoint {checkpoint} is about {system_id}: it is another server, and what changed after the checkpoint is unknown",
                identity.system_id
            ));
        }
        self.check_timeline(identity, present.history)?;
        let end = identity.xlog_pos;
        if end < checkpoint {
            return Err(format!(
                "the source's WAL ends at {end}, before the checkpoint {checkpoint}: it was restored from a backup, and the lake holds changes from {end} to {checkpoint} that the source does not have"
            ));
        }
        let slot_name = slot.as_str();
        let Some(slot) = present.slot else {
            return Err(format!(
                "slot {slot_name} is gone: the changes from {checkpoint} on (WAL end {end}) are lost"
            ));
        };
        if slot.wal_status.as_deref() == Some("lost") || slot.invalidation_reason.is_some() {
            return Err(format!(
                "slot {slot_name} was invalidated ({}): the changes from {checkpoint} on (WAL end {end}) are lost",
                invalidation(slot.invalidation_reason.as_deref())
            ));
        }
        match slot.confirmed_flush {
            Some(confirmed) if confirmed > checkpoint => Err(format!(
                "slot {slot_name} was moved to {confirmed}, beyond the checkpoint {checkpoint}: the changes from {checkpoint} to {confirmed} are lost"
            )),
            _ => Ok(()),
        }
    }

    /// Another timeline is gone over to if it left ours at the checkpoint or later (rule 14).
    fn check_timeline(
        &self,
        identity: &SystemIdentity,
        history: &[TimelineSwitch],
    ) -> Result<(), String> {
        let (old, new) = (self.timeline, identity.timeline);
        if new == old {
            return Ok(());
        }
        let fork = history.iter().find(|switch| switch.timeline == old);
        match fork {
            Some(fork) if fork.end >= self.checkpoint => Ok(()),
            Some(fork) => Err(format!(
                "the source is on timeline {new}, which left timeline {old} at {}, before the checkpoint {}: it failed over or was restored, and the lake holds changes from {} to {} that the source does not have",
                fork.end, self.checkpoint, fork.end, self.checkpoint
            )),
            None => Err(format!(
                "the source is on timeline {new}, which does not come from timeline {old} of the checkpoint {}: it failed over or was restored, and what changed after the checkpoint is unknown",
                self.checkpoint
            )),
        }
    }
}

fn invalidation(reason: Option<&str>) -> String {
    match reason {
        Some("wal_removed") | None => "its WAL was removed: max_slot_wal_keep_size".to_owned(),
        Some("idle_timeout") => "nobody read it for idle_replication_slot_timeout".to_owned(),
        Some(reason) => reason.to_owned(),
    }
}

/// Checks a start. Returns the timeline to go over to, if it is another one.
///
/// # Errors
/// [`FeederErrorKind::Gap`], or a source that cannot be asked.
pub(crate) async fn check_start(
    config: &FeederConfig,
    control: &Control,
    row: &FeederRow,
    identity: &SystemIdentity,
    slot: Option<&SlotInfo>,
) -> Result<Option<u32>, FeederError> {
    if row.torn_down {
        return Ok(None);
    }
    let system_id = row.system_identifier.parse().map_err(|_| {
        FeederError::permanent(
            FeederErrorKind::Catalog,
            "the control tables hold a system identifier that is no number",
        )
    })?;
    let lineage = Lineage {
        system_id,
        timeline: row.timeline,
        checkpoint: row.checkpoint,
    };
    let switched = identity.system_id == system_id && identity.timeline > row.timeline;
    let history = if switched {
        history(config, identity.timeline).await?
    } else {
        Vec::new()
    };
    let present = Present {
        identity,
        history: &history,
        slot,
    };
    if let Err(lost) = lineage.check(&config.source.slot, &present) {
        return Err(gap(config, control, lost).await);
    }
    if switched {
        tracing::warn!(
            from = row.timeline,
            to = identity.timeline,
            checkpoint = %row.checkpoint,
            "the source failed over; its history continues at the checkpoint, so the stream goes on there"
        );
    }
    Ok(switched.then_some(identity.timeline))
}

/// Checks a new start after `teardown`: the changelogs are ordered by LSN, so what the lake has must lie before the new
/// copies (rule 6).
///
/// # Errors
/// [`FeederErrorKind::Gap`] with the lake tables that have to go first.
pub(crate) fn check_order(
    row: &FeederRow,
    identity: &SystemIdentity,
    tables: &[TableRow],
    lake: &Lake,
) -> Result<(), FeederError> {
    if !row.torn_down || identity.xlog_pos >= row.checkpoint {
        return Ok(());
    }
    let drops: Vec<String> = tables
        .iter()
        .filter_map(|table| {
            lake.table(TableId::new(table.lake_table_id?))
                .and(Some(table))
        })
        .map(|table| {
            let (schema, name) = (&table.target_schema, &table.target_table);
            format!(
                "DROP TABLE lake.{}.{};",
                quote_ident(schema),
                quote_ident(name)
            )
        })
        .collect();
    if drops.is_empty() {
        return Ok(());
    }
    Err(FeederError::permanent(
        FeederErrorKind::Gap,
        format!(
            "the source's WAL ends at {}, and the lake has changes up to {}: it was restored or is another server, and the old changes would be replayed after the new copies",
            identity.xlog_pos, row.checkpoint
        ),
    )
    .with_remedy(format!(
        "drop these lake tables in DuckDB and start again (older snapshots keep them until they are expired): {}",
        drops.join(" ")
    )))
}

async fn history(config: &FeederConfig, timeline: u32) -> Result<Vec<TimelineSwitch>, FeederError> {
    let mut replication = Connection::connect(&config.source.endpoint, SessionKind::Replication)
        .await
        .map_err(from_source)?;
    let history = replication
        .timeline_history(timeline)
        .await
        .map_err(from_source)?;
    replication.close().await;
    Ok(history)
}

/// The error that a feeder stops with when changes are lost: which, of which tables, and what to do.
pub(crate) async fn gap(config: &FeederConfig, control: &Control, lost: String) -> FeederError {
    let tables = match control.tables().await {
        Ok(rows) => named(
            rows.iter()
                .filter(|row| row.state != TableState::Paused)
                .map(|row| format!("{}.{}", row.source_schema, row.source_table)),
        ),
        Err(error) => {
            tracing::debug!(error = %error, "the tables could not be read");
            "all tables".to_owned()
        }
    };
    FeederError::permanent(FeederErrorKind::Gap, format!("{lost}; concerned: {tables}")).with_remedy(format!(
        "run `duckfeeder teardown` and start again: all tables of feeder {} are copied anew into the same lake tables, which can be read meanwhile",
        config.name
    ))
}

fn named(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMED_TABLES);
    names.truncate(NAMED_TABLES);
    let text = names.join(", ");
    if more > 0 {
        format!("{text} and {more} more")
    } else {
        text
    }
}

#[cfg(test)]
mod tests;
