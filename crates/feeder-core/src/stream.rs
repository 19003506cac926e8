//! Opening the stream, after the checks of every connect.

use std::time::Duration;

use cdc_source::{
    Connection, PublicationName, ReplicationStream, SessionKind, SlotName, StreamOptions,
    SystemIdentity, slot,
};
use pgoutput::{Lsn, ProtocolVersion};

use crate::config::FeederConfig;
use crate::control::Control;
use crate::error::{FeederError, FeederErrorKind, from_source};

/// How to get at the stream.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) config: FeederConfig,
    pub(crate) slot: SlotName,
    pub(crate) publications: Vec<PublicationName>,
    pub(crate) system_id: u64,
    pub(crate) timeline: u32,
    pub(crate) control: Control,
}

/// A stream that was just opened.
pub(crate) struct Opened {
    pub(crate) stream: ReplicationStream,
    /// Where the source's WAL ended then.
    pub(crate) wal_end: Lsn,
    /// How often the source wants to hear of us.
    pub(crate) status_interval: Duration,
}

/// Status updates keep the connection alive even while nothing moves (I6).
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Opens the stream at the checkpoint, after the checks of every connect (rule 3).
pub(crate) async fn open(
    source: &Source,
    checkpoint: Lsn,
    binary: bool,
) -> Result<Opened, FeederError> {
    let endpoint = &source.config.source.endpoint;
    let mut connection = Connection::connect(endpoint, SessionKind::Replication)
        .await
        .map_err(from_source)?;
    let identity = connection.identify_system().await.map_err(from_source)?;
    check_identity(source, &identity, checkpoint)?;
    let found = slot::inspect(&mut connection, &source.slot)
        .await
        .map_err(from_source)?;
    let confirmed = found.and_then(|slot| slot.confirmed_flush).ok_or_else(|| {
        gap(
            source,
            format!(
                "slot {} is gone: the changes since {checkpoint} are lost",
                source.slot.as_str()
            ),
        )
    })?;
    if confirmed > checkpoint {
        return Err(gap(
            source,
            format!(
                "slot {} was moved to {confirmed}, beyond the checkpoint {checkpoint}",
                source.slot.as_str()
            ),
        ));
    }
    let status_interval = status_interval(&mut connection).await?;
    let options = StreamOptions {
        binary,
        messages: false,
        protocol: ProtocolVersion::V1,
    };
    let stream = connection
        .start_replication(&source.slot, checkpoint, &source.publications, options)
        .await
        .map_err(from_source)?;
    tracing::info!(slot = source.slot.as_str(), from = %checkpoint, binary, "streaming");
    Ok(Opened {
        stream,
        wal_end: identity.xlog_pos,
        status_interval,
    })
}

/// While the intake is paused nobody reads what the server asks, so we must be heard without being asked: three times
/// within `wal_sender_timeout` (milliseconds, 0 for never).
async fn status_interval(connection: &mut Connection) -> Result<Duration, FeederError> {
    let rows = connection
        .query("select setting from pg_catalog.pg_settings where name = 'wal_sender_timeout'")
        .await
        .map_err(from_source)?;
    let timeout = rows.first().and_then(|row| row.get(0));
    let timeout = timeout.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(match timeout {
        0 => STATUS_INTERVAL,
        timeout => STATUS_INTERVAL.min(Duration::from_millis(timeout) / 3),
    })
}

fn check_identity(
    source: &Source,
    identity: &SystemIdentity,
    checkpoint: Lsn,
) -> Result<(), FeederError> {
    if identity.system_id != source.system_id || identity.timeline != source.timeline {
        return Err(gap(
            source,
            "the source is another server or timeline than before".to_owned(),
        ));
    }
    if identity.xlog_pos < checkpoint {
        return Err(gap(
            source,
            format!(
                "the source's WAL ends at {}, before the checkpoint {checkpoint}",
                identity.xlog_pos
            ),
        ));
    }
    Ok(())
}

fn gap(source: &Source, message: String) -> FeederError {
    FeederError::permanent(FeederErrorKind::Gap, message).with_remedy(format!(
        "if this is meant, run `duckfeeder teardown` and start again: all tables of feeder {} are copied anew",
        source.config.name
    ))
}
