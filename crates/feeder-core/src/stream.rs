//! Opening the stream, after the checks of every connect.

use std::sync::Arc;
use std::time::Duration;

use cdc_source::{
    Connection, PublicationName, ReplicationStream, SessionKind, SlotName, SourceError,
    SourceErrorKind, StreamOptions, slot,
};
use pgoutput::{Lsn, ProtocolVersion};

use crate::config::FeederConfig;
use crate::control::{Control, Fence};
use crate::ddl_trigger;
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::lineage::{Lineage, Present};

/// How to get at the stream.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) config: FeederConfig,
    pub(crate) slot: SlotName,
    pub(crate) publications: Vec<PublicationName>,
    pub(crate) system_id: u64,
    pub(crate) timeline: u32,
    pub(crate) control: Control,
    pub(crate) fence: Arc<Fence>,
}

/// A stream that was just opened.
pub(crate) struct Opened {
    pub(crate) stream: ReplicationStream,
    /// Where the source's WAL ended then.
    pub(crate) wal_end: Lsn,
    /// How the two ends tell each other that they are alive.
    pub(crate) pace: Pace,
}

/// How often the source wants to hear of us, and how long we wait for a sign of life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) status_interval: Duration,
    pub(crate) patience: Duration,
}

/// Why no stream was opened.
pub(crate) enum OpenError {
    /// Something that passes, or does not.
    Failed(FeederError),
    /// The source is not what it was: only a new start, with all its checks, can say what that means.
    Changed(FeederError),
}

/// Status updates keep the connection alive even while nothing moves (I6).
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// How long the source may be silent though it was asked, if it has no `wal_sender_timeout`, and at the least.
const PATIENCE: Duration = Duration::from_mins(1);
const LEAST_PATIENCE: Duration = Duration::from_secs(5);
/// How long the checks may take before the connection counts as dead.
const OPEN_TIMEOUT: Duration = Duration::from_mins(1);

/// Opens the stream at the checkpoint, after the checks of every connect (rule 3).
pub(crate) async fn open(
    source: &Source,
    checkpoint: Lsn,
    binary: bool,
) -> Result<Opened, OpenError> {
    tokio::time::timeout(OPEN_TIMEOUT, try_open(source, checkpoint, binary))
        .await
        .unwrap_or_else(|_elapsed| {
            Err(OpenError::Failed(FeederError::transient(
                FeederErrorKind::Source,
                "the source does not answer",
            )))
        })
}

async fn try_open(source: &Source, checkpoint: Lsn, binary: bool) -> Result<Opened, OpenError> {
    let failed = |error| OpenError::Failed(from_source(error));
    // Who has been taken over must not take the slot away from the other one (rule 13).
    let lease = source.fence.lease();
    lease.vouch().map_err(OpenError::Failed)?;
    let endpoint = &source.config.source.endpoint;
    let mut connection = Connection::connect(endpoint, SessionKind::Replication)
        .await
        .map_err(failed)?;
    // Known before anything is compared: a standby may still lack what the old primary had sent us.
    if connection.parameter("in_hot_standby") == Some("on") {
        return Err(OpenError::Failed(
            FeederError::transient(
                FeederErrorKind::Source,
                "the source is a standby in recovery; waiting until it is promoted",
            )
            .with_remedy("promote it, or point source.url at the primary"),
        ));
    }
    let identity = connection.identify_system().await.map_err(failed)?;
    let found = slot::inspect(&mut connection, &source.slot)
        .await
        .map_err(failed)?;
    let lineage = Lineage {
        system_id: source.system_id,
        timeline: source.timeline,
        checkpoint,
    };
    let present = Present {
        identity: &identity,
        history: &[],
        slot: found.as_ref(),
    };
    lineage.check(&source.slot, &present).map_err(|changed| {
        OpenError::Changed(FeederError::transient(FeederErrorKind::Source, changed))
    })?;
    let pace = pace(&mut connection).await?;
    // Without it the messages are somebody else's, and may be many.
    let messages = ddl_trigger::is_there(&mut connection)
        .await
        .map_err(OpenError::Failed)?;
    let options = StreamOptions {
        binary,
        messages,
        protocol: ProtocolVersion::V1,
    };
    let stream = connection
        .start_replication(&source.slot, checkpoint, &source.publications, options)
        .await
        .map_err(failed)?;
    lease.vouch().map_err(OpenError::Failed)?;
    tracing::info!(slot = source.slot.as_str(), from = %checkpoint, binary, "streaming");
    Ok(Opened {
        stream,
        wal_end: identity.xlog_pos,
        pace,
    })
}

/// While the intake is paused nobody reads what the server asks, so we must be heard without being asked: three times
/// within `wal_sender_timeout` (milliseconds, 0 for never).
async fn pace(connection: &mut Connection) -> Result<Pace, OpenError> {
    let rows = connection
        .query("select setting from pg_catalog.pg_settings where name = 'wal_sender_timeout'")
        .await
        .map_err(|error| OpenError::Failed(from_source(error)))?;
    let timeout = rows.first().and_then(|row| row.get(0));
    let timeout = timeout.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(match timeout {
        0 => Pace {
            status_interval: STATUS_INTERVAL,
            patience: PATIENCE,
        },
        timeout => {
            let timeout = Duration::from_millis(timeout);
            Pace {
                status_interval: STATUS_INTERVAL.min(timeout / 3),
                patience: timeout.max(LEAST_PATIENCE),
            }
        }
    })
}

/// An error of the running stream, in the feeder's terms.
///
/// The server looks a publication up as it was at each change, so one that was dropped is missing for good, even if it
/// is made again (Postgres 14 to 17): a gap.
pub(crate) fn broken(error: SourceError) -> FeederError {
    if error.kind() == SourceErrorKind::ObjectMissing {
        return FeederError::permanent(FeederErrorKind::Gap, error.to_string());
    }
    from_source(error)
}
