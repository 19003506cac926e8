//! The feeder's slot: made, or taken over from a process that is gone (rule 3).

use std::time::{Duration, Instant};

use cdc_source::{Connection, SessionKind, slot};

use crate::check::SourceInspection;
use crate::config::FeederConfig;
use crate::control::{Control, FeederRow, NewFeeder};
use crate::copy_round::CopySnapshot;
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::failpoint::{self, Failpoint};

/// How long the walsender of a process that is gone may hold the slot before it is ended.
const SLOT_WAIT: Duration = Duration::from_secs(3);
/// How long a walsender may take to end before it is told again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Makes the slot or takes over what is there (rule 3). The last value says that every table needs a copy.
pub(crate) async fn claim(
    config: &FeederConfig,
    control: &Control,
    source: &mut SourceInspection,
    known: Option<FeederRow>,
) -> Result<(FeederRow, Option<(Connection, CopySnapshot)>, bool), FeederError> {
    let registered = known.as_ref().is_some_and(|row| !row.torn_down);
    if let (Some(row), true) = (&known, registered) {
        release(config, source, SLOT_WAIT).await?;
        return Ok((row.clone(), None, false));
    }
    let confirmed = source.slot.as_ref().and_then(|slot| slot.confirmed_flush);
    let (checkpoint, snapshot) = if let Some(confirmed) = confirmed {
        // A slot without a checkpoint: what it confirmed is lost to us, so everything is copied again.
        release(config, source, SLOT_WAIT).await?;
        (confirmed, None)
    } else {
        let mut replication =
            Connection::connect(&config.source.endpoint, SessionKind::Replication)
                .await
                .map_err(from_source)?;
        let created = replication
            .create_slot(&config.source.slot, false)
            .await
            .map_err(from_source)?;
        failpoint::reach(Failpoint::SlotMade);
        let point = created.consistent_point;
        let name = created.snapshot;
        (point, Some((replication, CopySnapshot { point, name })))
    };
    let new = NewFeeder {
        system_identifier: source.identity.system_id.to_string(),
        timeline: source.identity.timeline,
        slot: config.source.slot.as_str().to_owned(),
        publication: config.source.publication.as_str().to_owned(),
        checkpoint,
    };
    control.register(&new).await?;
    failpoint::reach(Failpoint::FeederRegistered);
    let row = control.load_feeder().await?.ok_or_else(|| {
        FeederError::permanent(FeederErrorKind::Internal, "the feeder's row is gone")
    })?;
    Ok((row, snapshot, true))
}

/// Waits until nobody streams from the slot. The lease is ours, so whoever does is a session that outlived its process,
/// and is ended after `patience`.
///
/// # Errors
/// A session that is not this feeder's, or that does not end.
pub(crate) async fn release(
    config: &FeederConfig,
    source: &mut SourceInspection,
    patience: Duration,
) -> Result<(), FeederError> {
    let begun = Instant::now();
    let mut end_at = begun + patience;
    loop {
        let found = slot::inspect(&mut source.connection, &config.source.slot)
            .await
            .map_err(from_source)?;
        let Some(pid) = found.and_then(|slot| slot.active_pid) else {
            return Ok(());
        };
        if Instant::now() >= end_at {
            if !is_ours(
                &mut source.connection,
                pid,
                &config.source.endpoint.application_name,
            )
            .await?
            {
                return Err(FeederError::permanent(
                    FeederErrorKind::Source,
                    format!(
                        "slot {} is in use by process {pid}, which is not this feeder's",
                        config.source.slot.as_str()
                    ),
                )
                .with_remedy("end that process, or name another slot as source.slot"));
            }
            tracing::warn!(pid, "ending the walsender of a duckfeeder that is gone");
            slot::terminate_walsender(&mut source.connection, pid)
                .await
                .map_err(from_source)?;
            // Once may not do: while its last words find no reader, it waits until it is told again.
            end_at = Instant::now() + ASK_AGAIN;
        }
        if begun.elapsed() >= 4 * SLOT_WAIT {
            return Err(FeederError::transient(
                FeederErrorKind::Source,
                format!(
                    "slot {} is still in use by process {pid}",
                    config.source.slot.as_str()
                ),
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn is_ours(
    connection: &mut Connection,
    pid: i32,
    application: &str,
) -> Result<bool, FeederError> {
    let sql =
        format!("select application_name from pg_catalog.pg_stat_replication where pid = {pid}");
    let rows = connection.query(&sql).await.map_err(from_source)?;
    Ok(rows
        .first()
        .and_then(|row| row.get(0))
        .is_none_or(|name| name == application))
}
