//! An append stream on its own: a feeder without a source.

use std::sync::Arc;
use std::time::Duration;

use ducklake_catalog::Catalog;
use parquet_writer::EncodeOptions;
use pgoutput::Lsn;
use storage::{RetryPolicy, RetryStorage, Storage};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::buffers::Buffers;
use super::options::AppendOptions;
use super::stream::AppendStream;
use super::{AppendTable, follow, lake};
use crate::check;
use crate::committer::{AppendWriter, Committer};
use crate::config::{CatalogConfig, FeederName, MaintenanceConfig};
use crate::control::{Control, FeederRow, Fence, NewFeeder, migrations};
use crate::epoch::{Report, Work};
use crate::error::{FeederError, FeederErrorKind, from_catalog};
use crate::failpoint::{self, Failpoint};
use crate::janitor::{self, Janitor};
use crate::meters::Meters;
use crate::own;
use crate::retry::Backoff;
use crate::setup::owner;

const REPORT_QUEUE: usize = 64;
/// How long the committer may take to end once it is told to give up.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything an append stream of its own needs to know, apart from the object store.
#[derive(Clone, Debug)]
pub struct AppendConfig {
    /// Its row in the control tables; a feeder of that name is refused, and so is a second stream.
    pub name: FeederName,
    /// Where the lake's metadata lives.
    pub catalog: CatalogConfig,
    /// How it behaves.
    pub options: AppendOptions,
    /// Tables that are declared.
    pub tables: Vec<AppendTable>,
    /// How long the end may take.
    pub shutdown_timeout: Duration,
    /// When the lake is cleaned up.
    pub maintenance: MaintenanceConfig,
}

/// The stream of a configuration, and what carries its rows into the lake until `stop` is cancelled: then everything
/// that was taken is committed. Dropping the future gives up what is not in the lake.
///
/// # Errors
/// Of kind `Config` when a declaration cannot be. The future's: what is proven permanent, or that the end took too long.
pub fn run(
    config: AppendConfig,
    storage: Arc<dyn Storage>,
    stop: CancellationToken,
) -> Result<
    (
        AppendStream,
        impl Future<Output = Result<(), FeederError>> + Send + 'static,
    ),
    FeederError,
> {
    let buffers = Arc::new(Buffers::new(config.options, config.tables.clone())?);
    let stream = AppendStream(Arc::clone(&buffers));
    let runner = Runner {
        config,
        storage,
        buffers,
        stop,
    };
    Ok((stream, own::task(runner.run())))
}

struct Runner {
    config: AppendConfig,
    storage: Arc<dyn Storage>,
    buffers: Arc<Buffers>,
    stop: CancellationToken,
}

/// Tells everybody that waits for a row, however the run ends.
pub(crate) struct Abandon(pub(crate) Arc<Buffers>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon(None);
    }
}

impl Runner {
    async fn run(self) -> Result<(), FeederError> {
        let _abandon = Abandon(Arc::clone(&self.buffers));
        let meters = Meters::new(self.config.name.as_str());
        meters.begin();
        let mut watching = JoinSet::new();
        let name = self.config.name.to_string();
        own::spawn(&mut watching, follow(name, Arc::clone(&self.buffers)));
        let closing = {
            let (buffers, stop) = (Arc::clone(&self.buffers), self.stop.clone());
            async move {
                stop.cancelled().await;
                buffers.close();
            }
        };
        own::spawn(&mut watching, closing);
        let end = async {
            self.stop.cancelled().await;
            tokio::time::sleep(self.config.shutdown_timeout).await;
        };
        tokio::pin!(end);
        let give_up = CancellationToken::new();
        let mut backoff = Backoff::new();
        loop {
            let attempt = self.attempt(&meters, &give_up);
            tokio::pin!(attempt);
            let result = tokio::select! {
                biased;
                result = &mut attempt => result,
                () = &mut end => {
                    give_up.cancel();
                    let _late = tokio::time::timeout(END_TIMEOUT, attempt).await;
                    return self.too_late();
                }
            };
            match result {
                Ok(()) => return Ok(()),
                Err(error) if !error.is_transient() => {
                    let error = Arc::new(error);
                    self.buffers.abandon(Some(Arc::clone(&error)));
                    return Err(FeederError::shared(&error));
                }
                Err(error) => {
                    tracing::warn!(
                        error = error.explained(),
                        remedy = error.remedy(),
                        "the append stream starts again"
                    );
                    meters.retry("start");
                }
            }
            if self.stop.is_cancelled() && self.buffers.is_empty() {
                return Ok(());
            }
            tokio::select! {
                () = &mut end => return self.too_late(),
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }

    fn too_late(&self) -> Result<(), FeederError> {
        if self.buffers.is_empty() {
            return Ok(());
        }
        Err(FeederError::transient(
            FeederErrorKind::Stopped,
            "the shutdown timeout is over and the last rows are not in the lake",
        ))
    }

    /// Until everything is committed after a stop, or an error.
    async fn attempt(
        &self,
        meters: &Meters,
        give_up: &CancellationToken,
    ) -> Result<(), FeederError> {
        let prepared = self.prepare().await?;
        let mut tasks = JoinSet::new();
        let maintenance = self.config.maintenance;
        if let Some(interval) = maintenance.interval {
            let storage = Arc::clone(&self.storage);
            let janitor = Janitor::new(&prepared.catalog, storage, maintenance.grace);
            let cleaning = janitor::keep_clean(janitor.delete(true), interval, meters.clone());
            own::spawn(&mut tasks, cleaning);
        }
        let retrying = RetryStorage::new(Arc::clone(&self.storage), RetryPolicy::default());
        // Closed at the end: the committer commits what is left, and ends.
        let (work, receiver) = mpsc::channel::<Work>(1);
        let (sender, mut reports) = mpsc::channel(REPORT_QUEUE);
        let committer = Committer {
            catalog: prepared.catalog,
            control: prepared.control,
            fence: prepared.fence,
            storage: Arc::new(meters.observe(retrying)),
            feeder: self.config.name.to_string(),
            options: EncodeOptions::default(),
            checkpoint: Lsn::ZERO,
            files: Vec::new(),
            stop: give_up.clone(),
            meters: meters.clone(),
            appends: AppendWriter::new(&self.buffers),
        };
        let mut committing = JoinSet::new();
        own::spawn(&mut committing, committer.run(receiver, sender));
        let mut changes = self.buffers.changes();
        let mut failed = None;
        while !(self.stop.is_cancelled() && self.buffers.is_empty()) {
            tokio::select! {
                report = reports.recv() => match report {
                    Some(Report::Failed(error)) => failed = Some(error),
                    Some(_progress) => {}
                    None => break,
                },
                _changed = changes.changed() => {}
                () = self.stop.cancelled(), if !self.stop.is_cancelled() => {}
            }
        }
        drop(work);
        // Nobody listens any more, and nothing is left to say but why it failed.
        while let Some(report) = reports.recv().await {
            if let Report::Failed(error) = report {
                failed = Some(error);
            }
        }
        while committing.join_next().await.is_some() {}
        match failed {
            Some(error) => Err(error),
            None if self.stop.is_cancelled() && self.buffers.is_empty() => Ok(()),
            None => Err(FeederError::transient(
                FeederErrorKind::Internal,
                "the committer is gone",
            )),
        }
    }

    async fn prepare(&self) -> Result<Prepared, FeederError> {
        let config = &self.config;
        let (catalog, findings) = check::catalog(&config.catalog, &self.storage.url()).await?;
        check::require(findings)?;
        check::probe(self.storage.as_ref()).await?;
        if config.catalog.migrate {
            migrations::up(&catalog).await?;
        } else {
            migrations::require(&catalog).await?;
        }
        let control = Control::new(&catalog, config.name.clone());
        let owner = owner();
        let mut claimant = control.claimant(&owner);
        let lease = control.lease(&mut claimant).await?;
        match control.load_feeder().await? {
            Some(row) => without_source(config, &row)?,
            None => control.register(&NO_SOURCE).await?,
        }
        failpoint::reach(Failpoint::FeederRegistered);
        catalog
            .bootstrap(&self.storage.url())
            .await
            .map_err(from_catalog)?;
        failpoint::reach(Failpoint::LakeMade);
        let fence = control.fence(lease, &owner).await?;
        failpoint::reach(Failpoint::FeederFenced);
        begin(&self.buffers, &catalog, &control).await?;
        Ok(Prepared {
            catalog,
            control,
            fence: Arc::new(fence),
        })
    }
}

/// Tells the buffers what the lake has, once nobody else can commit for this feeder.
pub(crate) async fn begin(
    buffers: &Buffers,
    catalog: &Catalog,
    control: &Control,
) -> Result<(), FeederError> {
    let stored = control.append_positions().await?;
    let lake = catalog.load().await.map_err(from_catalog)?;
    let columns = lake::known_columns(&lake, control.append_tables().await?);
    buffers.begin(columns, &stored);
    Ok(())
}

struct Prepared {
    catalog: Catalog,
    control: Control,
    fence: Arc<Fence>,
}

/// No server has this identity, so a feeder with a source never takes the row for its own.
const NO_SOURCE: NewFeeder = NewFeeder {
    system_identifier: String::new(),
    timeline: 0,
    slot: String::new(),
    publication: String::new(),
    checkpoint: Lsn::ZERO,
};

fn without_source(config: &AppendConfig, row: &FeederRow) -> Result<(), FeederError> {
    if row.system_identifier.is_empty() {
        return Ok(());
    }
    Err(FeederError::permanent(
        FeederErrorKind::Config,
        format!(
            "{} is a feeder with a source, which an append stream cannot be",
            config.name
        ),
    )
    .with_remedy("give the append stream another name, or take it from the feeder's handle"))
}
