//! A feeder that is ready to start.

use std::future::Future;
use std::sync::Arc;

use crate::config::{FeederConfig, FeederName};
use feeder_core::{FeederStatus, Outcome, Phase, RunMode};
use storage::Storage;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::append::{AppendOptions, AppendStream, AppendTable};
use crate::{Builder, Error, Handle};

/// A feeder that has not been started. Starting is [`spawn`](Self::spawn), [`run`](Self::run) or
/// [`run_until_caught_up`](Self::run_until_caught_up).
pub struct Feeder {
    /// `None` when it is disabled.
    core: Option<feeder_core::Feeder>,
    status: watch::Receiver<FeederStatus>,
    appends: AppendStream,
}

impl Feeder {
    /// Begins to describe a feeder.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A feeder from a configuration that the host built itself.
    pub fn from_config(config: FeederConfig, storage: Arc<dyn Storage>) -> Self {
        let core = feeder_core::Feeder::new(config, storage);
        let status = core.status();
        Self {
            appends: AppendStream::of_feeder(core.append_stream()),
            core: Some(core),
            status,
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
    ) -> Result<Self, Error> {
        let Some(core) = self.core else {
            return Ok(self);
        };
        let core = core.with_appends(options, tables)?;
        Ok(Self {
            appends: AppendStream::of_feeder(core.append_stream()),
            core: Some(core),
            status: self.status,
        })
    }

    /// Takes rows for append tables, which are committed together with the changes of the source once the feeder runs.
    pub fn append_stream(&self) -> AppendStream {
        self.appends.clone()
    }

    /// A feeder that does nothing but wait.
    pub fn disabled(name: &FeederName) -> Self {
        let (_, status) = watch::channel(FeederStatus::new(name, Phase::Stopped));
        Self {
            core: None,
            status,
            appends: AppendStream::of_feeder(feeder_core::append::AppendStream::disabled()),
        }
    }

    /// What the feeder says of itself, from before it starts until after it ended.
    pub fn status(&self) -> watch::Receiver<FeederStatus> {
        self.status.clone()
    }

    /// Starts the feeder as a task of the current tokio runtime and returns at once. Outside a
    /// runtime, which must have its io and time drivers enabled, the handle holds the error.
    pub fn spawn(self) -> Handle {
        let Some(core) = self.core else {
            return Handle::disabled(self.status, self.appends);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let stop = CancellationToken::new();
                let run = core.run(RunMode::Forever, stop.clone());
                Handle::running(&runtime, run, self.status, stop, self.appends)
            }
            Err(_) => Handle::failed(
                self.status,
                Error::config(
                    "the feeder was started outside a tokio runtime",
                    "call spawn() inside one",
                ),
                self.appends,
            ),
        }
    }

    /// Feeds until `shutdown` resolves, then flushes, commits and acknowledges. Dropping the future
    /// stops without a flush, and loses nothing.
    ///
    /// # Errors
    /// What ended the feeder.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Outcome, Error> {
        self.run_in(RunMode::Forever, shutdown).await
    }

    /// Feeds until everything is committed that was in the source when it started. A disabled
    /// feeder is done at once.
    ///
    /// # Errors
    /// What ended the feeder.
    pub async fn run_until_caught_up(self) -> Result<Outcome, Error> {
        self.run_in(RunMode::UntilCaughtUp, std::future::pending())
            .await
    }

    /// Feeds until the mode is fulfilled or `shutdown` resolves, whichever is first.
    ///
    /// # Errors
    /// What ended the feeder.
    pub async fn run_in(
        self,
        mode: RunMode,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Outcome, Error> {
        let Some(core) = self.core else {
            if mode == RunMode::Forever {
                shutdown.await;
            }
            return Ok(Outcome::Stopped);
        };
        let stop = CancellationToken::new();
        // On the heap: the host's own future stays small.
        let mut feed = Box::pin(core.run(mode, stop.clone()));
        tokio::select! {
            outcome = &mut feed => return outcome.map_err(Error::from),
            () = shutdown => stop.cancel(),
        }
        feed.await.map_err(Error::from)
    }
}

impl std::fmt::Debug for Feeder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeder")
            .field("name", &self.status.borrow().name)
            .field("enabled", &self.core.is_some())
            .finish_non_exhaustive()
    }
}
