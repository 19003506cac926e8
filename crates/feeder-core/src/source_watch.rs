//! Looks at the publications, at keyless tables and at partitions while the stream runs (rules 4, 12 and 22), and for
//! requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cdc_source::{Connection, SessionKind, server, slot, tables};
use pgoutput::{Lsn, Oid};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::KeylessPolicy;
use crate::control::{Control, Fence};
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::evolution::Found;
use crate::partitions::{self, Doubt, PartitionsLook, Roots};
use crate::publish::{self, Covered, Published};
use crate::status::SlotStatus;
use crate::stream::Source;
use crate::table_look::LookedAt;

mod definitions;
mod names;

pub(crate) use definitions::{Definitions, LookAgain};

/// How often the source is looked at.
const SOURCE_INTERVAL: Duration = Duration::from_secs(10);
/// How often the control tables are looked at.
const CONTROL_INTERVAL: Duration = Duration::from_secs(2);
/// How long a look may take before its connection counts as dead.
const LOOK_TIMEOUT: Duration = Duration::from_mins(1);

/// What was found.
#[derive(Debug)]
pub(crate) enum WatchEvent {
    /// Changes of the table may be missing.
    TableLost { source_oid: u32, reason: String },
    /// The same, unless the stream says otherwise.
    Doubted(Doubt),
    /// A look at the source came to its end; what it found was told before.
    Looked,
    /// What the source keeps for us, and where its WAL ends.
    Slot { slot: SlotStatus, wal_end: Lsn },
    /// Tables came, went, or have other names: begin again with the tables as they are now.
    TablesChanged,
    /// These tables are defined otherwise than before; the lake follows once the stream has passed the look at them.
    Redefined {
        tables: Vec<(u32, Found)>,
        looked: LookedAt,
    },
    /// `duckfeeder resync` was called.
    ResyncRequested,
    /// `duckfeeder wait` waits for this position.
    Wanted(Lsn),
}

/// What is watched.
pub(crate) struct Watched {
    pub(crate) published: Published,
    /// All fed tables.
    pub(crate) tables: Vec<Covered>,
    pub(crate) keyless: BTreeSet<u32>,
    /// Tables with partitions.
    pub(crate) roots: Roots,
    /// Names of the tables that there are to be fed, by OID.
    pub(crate) names: BTreeMap<u32, (String, String)>,
    /// What the fed tables look like.
    pub(crate) definitions: Definitions,
}

/// Watches until it is stopped. Errors are logged and waited out: the stream itself decides what is fatal.
pub(crate) async fn run(
    source: Source,
    control: Control,
    fence: Arc<Fence>,
    watched: Watched,
    events: mpsc::Sender<WatchEvent>,
    stop: CancellationToken,
) {
    let mut source_timer = tokio::time::interval(SOURCE_INTERVAL);
    let mut control_timer = tokio::time::interval(CONTROL_INTERVAL);
    let mut look = Look {
        source,
        control,
        fence,
        watched,
        connection: None,
        changes: BTreeMap::new(),
        refused: BTreeMap::new(),
    };
    loop {
        let found = tokio::select! {
            () = stop.cancelled() => return,
            _ = source_timer.tick() => bounded(look.at_source()).await,
            _ = control_timer.tick() => bounded(requests(&look.control)).await,
        };
        match found {
            Ok(found) => {
                for event in found {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "publication and requests could not be looked at; trying again");
            }
        }
    }
}

async fn bounded(
    look: impl Future<Output = Result<Vec<WatchEvent>, FeederError>>,
) -> Result<Vec<WatchEvent>, FeederError> {
    tokio::time::timeout(LOOK_TIMEOUT, look)
        .await
        .unwrap_or_else(|_elapsed| {
            Err(FeederError::transient(
                FeederErrorKind::Source,
                "there was no answer in time",
            ))
        })
}

async fn requests(control: &Control) -> Result<Vec<WatchEvent>, FeederError> {
    let requests = control.requests().await?;
    let resync = requests.resync.then_some(WatchEvent::ResyncRequested);
    let wanted = requests.wanted.map(WatchEvent::Wanted);
    Ok(resync.into_iter().chain(wanted).collect())
}

struct Look {
    source: Source,
    control: Control,
    fence: Arc<Fence>,
    watched: Watched,
    connection: Option<Connection>,
    /// Updates and deletes of keyless tables, as the statistics showed them first.
    changes: BTreeMap<u32, u64>,
    /// New tables that cannot be fed, with what was said of them.
    refused: BTreeMap<u32, String>,
}

impl Look {
    async fn at_source(&mut self) -> Result<Vec<WatchEvent>, FeederError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::connect(&self.source.config.source.endpoint, SessionKind::Sql)
                .await
                .map_err(from_source)?,
        };
        let slot = self.slot(&mut connection).await?;
        let found = publish::read(&mut connection, &self.source.config).await?;
        let now = Published::of(&found, &self.watched.tables);
        let mut lost = self.watched.published.lost(&now);
        let keyless = if self.source.config.source.keyless == KeylessPolicy::Auto {
            self.keyless(&mut connection).await?
        } else {
            Vec::new()
        };
        // What else was found is told all the same.
        let partitions = match self.partitions(&mut connection).await {
            Ok(partitions) => {
                self.connection = Some(connection);
                partitions
            }
            Err(error) => {
                tracing::warn!(error = %error, "partitions could not be looked at; trying again");
                PartitionsLook::default()
            }
        };
        lost.extend(partitions.lost);
        let (listed, came_or_went) = self.tables_changed().await?;
        let (redefined, other_identities) = self.redefined().await?;
        // One that got a key is put into the other publication and copied.
        lost.extend(
            keyless
                .into_iter()
                .filter(|(oid, _)| !other_identities.contains(oid)),
        );
        // One that was dropped is fed to its end.
        if !listed.is_empty() {
            lost.retain(|(oid, _)| listed.contains(oid));
        }
        let lost = lost
            .into_iter()
            .map(|(source_oid, reason)| WatchEvent::TableLost { source_oid, reason });
        let doubts = partitions.doubts.into_iter().map(WatchEvent::Doubted);
        let changed =
            (came_or_went || !other_identities.is_empty()).then_some(WatchEvent::TablesChanged);
        Ok(slot
            .into_iter()
            .chain(lost)
            .chain(doubts)
            .chain(changed)
            .chain(redefined)
            .chain([WatchEvent::Looked])
            .collect())
    }

    /// All tables that there are, and whether those to be fed are others.
    async fn tables_changed(&mut self) -> Result<(BTreeSet<u32>, bool), FeederError> {
        let Some(connection) = &mut self.connection else {
            return Ok((BTreeSet::new(), false));
        };
        let config = &self.source.config;
        let names = &self.watched.names;
        let listed = names::listed(connection).await?;
        let changed = names::changed(&listed, connection, config, names, &mut self.refused).await?;
        Ok((
            listed.iter().map(|table| table.oid.get()).collect(),
            changed,
        ))
    }

    /// Tables that are defined otherwise than before, and those that belong into the other publication.
    async fn redefined(&mut self) -> Result<(Option<WatchEvent>, BTreeSet<u32>), FeederError> {
        let Some(connection) = &mut self.connection else {
            return Ok((None, BTreeSet::new()));
        };
        let config = &self.source.config;
        let before = server::wal_position(connection)
            .await
            .map_err(from_source)?;
        let definitions = &mut self.watched.definitions;
        let look = definitions.look(connection, config, &self.control).await?;
        let other_identities = look
            .keyless
            .into_iter()
            .filter(|(oid, keyless)| *keyless != self.watched.keyless.contains(oid))
            .map(|(oid, _)| oid)
            .collect();
        if look.changed.is_empty() {
            return Ok((None, other_identities));
        }
        let after = server::wal_position(connection)
            .await
            .map_err(from_source)?;
        let tables = look.changed;
        let looked = LookedAt { before, after };
        let redefined = WatchEvent::Redefined { tables, looked };
        Ok((Some(redefined), other_identities))
    }

    /// `None` when it is gone: the stream finds out.
    async fn slot(&self, connection: &mut Connection) -> Result<Option<WatchEvent>, FeederError> {
        let found = slot::inspect(connection, &self.source.slot)
            .await
            .map_err(from_source)?;
        Ok(found.map(|slot| WatchEvent::Slot {
            wal_end: slot
                .restart
                .zip(slot.retained_bytes)
                .map_or(Lsn::ZERO, |(restart, retained)| {
                    Lsn::new(restart.get().saturating_add(retained))
                }),
            slot: SlotStatus {
                retained_bytes: slot.retained_bytes,
                wal_status: slot.wal_status,
            },
        }))
    }

    async fn partitions(&self, connection: &mut Connection) -> Result<PartitionsLook, FeederError> {
        let roots = &self.watched.roots;
        if roots.is_empty() {
            return Ok(PartitionsLook::default());
        }
        // The control rows first: a copy that begins in between has partitions of its own, which are not replaced then.
        let rows = self.control.tables().await?;
        let trees = partitions::read(connection, roots.keys()).await?;
        let look = PartitionsLook::of(connection, &trees, roots, &rows).await?;
        look.record(&self.control, &self.fence).await?;
        Ok(look)
    }

    async fn keyless(
        &mut self,
        connection: &mut Connection,
    ) -> Result<Vec<(u32, String)>, FeederError> {
        let oids: Vec<Oid> = self
            .watched
            .keyless
            .iter()
            .map(|oid| Oid::new(*oid))
            .collect();
        let infos = tables::describe(connection, &oids)
            .await
            .map_err(from_source)?;
        let mut lost = Vec::new();
        for info in infos {
            let changes = info.updates + info.deletes;
            let first = *self.changes.entry(info.id.oid.get()).or_insert(changes);
            if changes > first {
                lost.push((
                    info.id.oid.get(),
                    "it has no replica identity and saw updates or deletes, which are not published; give it a primary key or REPLICA IDENTITY FULL".to_owned(),
                ));
            }
        }
        Ok(lost)
    }
}
