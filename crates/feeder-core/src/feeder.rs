//! The feeder as its callers see it: run until stopped, say how it goes.

use std::sync::Arc;

use storage::Storage;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::append::{self, Abandon, AppendOptions, AppendStream, AppendTable, Buffers};
use crate::config::FeederConfig;
use crate::error::{FeederError, FeederErrorKind};
use crate::janitor::{self, Janitor};
use crate::meters::{self, Meters};
use crate::own;
use crate::retry::Backoff;
use crate::run::{Engine, RunEnd};
use crate::setup;
use crate::status::{FeederStatus, Phase};

/// How long a feeder runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMode {
    /// Until it is stopped.
    Forever,
    /// Until everything is committed that the source's WAL held at the start, first copies included.
    UntilCaughtUp,
}

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was asked to stop; every transaction it had received is committed.
    Stopped,
    /// Everything up to the WAL end at the start is committed.
    CaughtUp,
}

/// One feeder: a source, a lake, and the stream between them.
#[derive(Debug)]
pub struct Feeder {
    config: FeederConfig,
    storage: Arc<dyn Storage>,
    status: watch::Sender<FeederStatus>,
    appends: Arc<Buffers>,
}

impl Feeder {
    /// A feeder that does nothing yet.
    pub fn new(mut config: FeederConfig, storage: Arc<dyn Storage>) -> Self {
        // So that a session that outlived its process is known for this feeder's, and not another's.
        let application = &mut config.source.endpoint.application_name;
        if application == "duckfeeder" {
            *application = format!("duckfeeder_{}", config.name);
        }
        let mut status = FeederStatus::new(&config.name, Phase::Starting);
        status.memory_budget = config.limits.memory;
        let (status, _) = watch::channel(status);
        let options = AppendOptions {
            flush: config.flush,
            ..AppendOptions::default()
        };
        Self {
            config,
            storage,
            status,
            appends: Arc::new(Buffers::empty(options)),
        }
    }

    /// Declares append tables, and how rows are appended.
    ///
    /// # Errors
    /// Of kind `Config` when a declaration cannot be.
    pub fn with_appends(
        self,
        options: AppendOptions,
        tables: Vec<AppendTable>,
    ) -> Result<Self, FeederError> {
        let appends = Arc::new(Buffers::new(options, tables)?);
        Ok(Self { appends, ..self })
    }

    /// Takes rows for append tables, which are committed together with the changes of the source.
    pub fn append_stream(&self) -> AppendStream {
        AppendStream(Arc::clone(&self.appends))
    }

    /// Follows what the feeder says of itself.
    pub fn status(&self) -> watch::Receiver<FeederStatus> {
        self.status.subscribe()
    }

    /// Copies what is missing, then streams. Cancelling `stop` flushes, commits, acknowledges and returns.
    ///
    /// Dropping the future stops without a flush and loses nothing: what is not committed is still at the source.
    ///
    /// # Errors
    /// Only what is proven permanent, with the object and a remedy; everything else is waited out (I5).
    pub async fn run(self, mode: RunMode, stop: CancellationToken) -> Result<Outcome, FeederError> {
        own::task(self.run_marked(mode, stop)).await
    }

    async fn run_marked(
        self,
        mode: RunMode,
        stop: CancellationToken,
    ) -> Result<Outcome, FeederError> {
        // Whoever waits for a row is told, however this ends.
        let _abandon = Abandon(Arc::clone(&self.appends));
        let meters = Meters::new(self.config.name.as_str());
        meters.begin();
        // Ends with this function, however that ends.
        let mut watching = JoinSet::new();
        own::spawn(&mut watching, meters::follow(self.status()));
        let name = self.config.name.to_string();
        own::spawn(
            &mut watching,
            append::follow(name, Arc::clone(&self.appends)),
        );
        let mut backoff = Backoff::new();
        let result = loop {
            let progress = self.status.borrow().checkpoint;
            let error = match self.attempt(mode, &stop, &meters).await {
                Ok(RunEnd::Done(outcome)) => break Ok(outcome),
                Ok(RunEnd::Restart) => continue,
                Err(error) if !error.is_transient() && !stands_by(mode, &error) => {
                    break Err(error);
                }
                Err(error) if stop.is_cancelled() => break Err(error),
                Err(error) => error,
            };
            if self.status.borrow().checkpoint > progress {
                backoff = Backoff::new();
            }
            tracing::warn!(
                error = error.explained(),
                remedy = error.remedy(),
                "starting again from the checkpoint"
            );
            meters.retry("start");
            self.status.send_modify(|status| {
                status.phase = Phase::Retrying;
                status.caught_up = false;
                status.last_error = Some(error.explained());
            });
            tokio::select! {
                () = stop.cancelled() => break Ok(Outcome::Stopped),
                () = tokio::time::sleep(backoff.next()) => {}
            }
        };
        if let Err(error) = &result {
            self.appends
                .abandon(Some(Arc::new(FeederError::shared(error))));
        }
        self.status
            .send_modify(|status| status.phase = Phase::Stopped);
        result
    }

    async fn attempt(
        &self,
        mode: RunMode,
        stop: &CancellationToken,
        meters: &Meters,
    ) -> Result<RunEnd, FeederError> {
        let prepared = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(RunEnd::Done(Outcome::Stopped)),
            prepared = setup::prepare(&self.config, &self.storage, &self.appends, mode, &self.status) => prepared?,
        };
        // Ends with this attempt, in the middle of its work if need be: what it leaves undone the next one finds again.
        let mut cleaning = JoinSet::new();
        let maintenance = self.config.maintenance;
        if let (RunMode::Forever, Some(interval)) = (mode, maintenance.interval) {
            let storage = Arc::clone(&self.storage);
            let janitor = Janitor::new(&prepared.catalog, storage, maintenance.grace);
            let cleaned = janitor::keep_clean(janitor.delete(true), interval, meters.clone());
            own::spawn(&mut cleaning, cleaned);
        }
        let lost = prepared.fence.lease().lost();
        let engine = Engine::start(
            &self.config,
            prepared,
            Arc::clone(&self.storage),
            &self.status,
            meters.clone(),
        );
        tokio::select! {
            biased;
            // Another process may take over: what is under way is dropped, not finished.
            lost = lost => Err(lost.into()),
            end = engine.run(mode, stop) => end,
        }
    }
}

/// A process that was taken over is the next standby: it begins anew with nothing of what it held, so it is worth as
/// much as a fresh one, and a pair stays a pair.
fn stands_by(mode: RunMode, error: &FeederError) -> bool {
    mode == RunMode::Forever && error.kind() == FeederErrorKind::Fenced
}
