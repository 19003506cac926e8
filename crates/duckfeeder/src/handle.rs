//! A feeder that was started.

use std::future::Future;

use crate::Lsn;
use feeder_core::{FeederError, FeederErrorKind, FeederStatus, Outcome, Phase};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::append::AppendStream;

type Ended = Result<Outcome, Error>;

/// A feeder that runs as a task. Dropping it stops the feeder at once, without a flush; nothing is
/// lost, what was not committed is fed again by the next start.
#[derive(Debug)]
pub struct Handle {
    status: watch::Receiver<FeederStatus>,
    stop: CancellationToken,
    /// `None` while it runs. Closed without a value when the runtime went away.
    ended: watch::Receiver<Option<Ended>>,
    task: Option<AbortHandle>,
    enabled: bool,
    appends: AppendStream,
}

impl Handle {
    pub(crate) fn running(
        runtime: &tokio::runtime::Handle,
        run: impl Future<Output = Result<Outcome, FeederError>> + Send + 'static,
        status: watch::Receiver<FeederStatus>,
        stop: CancellationToken,
        appends: AppendStream,
    ) -> Self {
        let (report, ended) = watch::channel(None);
        let task = runtime.spawn(run);
        let abort = task.abort_handle();
        runtime.spawn(async move {
            let outcome = match task.await {
                Ok(outcome) => outcome.map_err(Error::from),
                Err(join) if join.is_panic() => Err(panicked()),
                // Aborted: the handle is gone.
                Err(_) => return,
            };
            report.send_replace(Some(outcome));
        });
        Self {
            status,
            stop,
            ended,
            task: Some(abort),
            enabled: true,
            appends,
        }
    }

    pub(crate) fn failed(
        status: watch::Receiver<FeederStatus>,
        error: Error,
        appends: AppendStream,
    ) -> Self {
        let (_, ended) = watch::channel(Some(Err(error)));
        Self {
            status,
            stop: CancellationToken::new(),
            ended,
            task: None,
            enabled: true,
            appends,
        }
    }

    pub(crate) fn disabled(status: watch::Receiver<FeederStatus>, appends: AppendStream) -> Self {
        let (_, ended) = watch::channel(None);
        Self {
            status,
            stop: CancellationToken::new(),
            ended,
            task: None,
            enabled: false,
            appends,
        }
    }

    /// Whether this is a feeder at all, and not one that was built with `enabled(false)`.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Takes rows for append tables: they are committed together with the changes of the source, also while there are
    /// none. A disabled feeder's forgets them.
    pub fn append_stream(&self) -> AppendStream {
        self.appends.clone()
    }

    /// What the feeder says of itself.
    pub fn status(&self) -> watch::Receiver<FeederStatus> {
        self.status.clone()
    }

    /// Waits until all tables stream; tables in state `error` do not count. A disabled feeder is
    /// ready at once. Cancel safe.
    ///
    /// # Errors
    /// What ended the feeder before.
    pub async fn ready(&self) -> Result<(), Error> {
        if !self.enabled {
            return Ok(());
        }
        self.until(|status| status.phase == Phase::Streaming).await
    }

    /// Waits until everything that committed before `lsn` is in the lake: for a commit of one's
    /// own, what `pg_current_wal_lsn()` yields after it. Cancel safe.
    ///
    /// # Errors
    /// What ended the feeder before. Of kind `Config` when the feeder is disabled: nothing will
    /// ever be in the lake.
    pub async fn wait_for_lsn(&self, lsn: Lsn) -> Result<(), Error> {
        if !self.enabled {
            return Err(Error::config(
                "the feeder is disabled, nothing reaches the lake",
                "ask is_enabled() first",
            ));
        }
        self.until(|status| status.covered >= lsn).await
    }

    /// Waits until the feeder ends by itself, which only an error makes it do, and yields its
    /// outcome, to any number of callers. Never resolves for a disabled feeder. Cancel safe.
    ///
    /// # Errors
    /// What ended the feeder.
    pub async fn wait(&self) -> Result<Outcome, Error> {
        if !self.enabled {
            return std::future::pending().await;
        }
        self.outcome().await
    }

    /// Stops the feeder: flush, commit, acknowledge. Takes at most the shutdown timeout.
    ///
    /// # Errors
    /// What ended the feeder, or that the last commit took too long; nothing is lost by that.
    pub async fn shutdown(self) -> Result<Outcome, Error> {
        if !self.enabled {
            return Ok(Outcome::Stopped);
        }
        self.stop.cancel();
        self.outcome().await
    }

    async fn outcome(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(runtime_gone())),
            Err(_) => Err(runtime_gone()),
        }
    }

    /// Waits for a status; an error when the feeder ends before.
    async fn until(&self, condition: impl Fn(&FeederStatus) -> bool) -> Result<(), Error> {
        let mut status = self.status.clone();
        let reached = status.wait_for(|status| condition(status));
        tokio::select! {
            biased;
            Ok(_) = reached => Ok(()),
            outcome = self.outcome() => match outcome {
                // It may have come true with the very last commit.
                _ if condition(&self.status.borrow()) => Ok(()),
                Ok(_) => Err(FeederError::permanent(FeederErrorKind::Internal, "the feeder was stopped").into()),
                Err(error) => Err(error),
            },
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

pub(crate) fn panicked() -> Error {
    FeederError::permanent(FeederErrorKind::Internal, "the feeder's task panicked")
        .with_remedy("the runtime must have its io and time drivers enabled; otherwise this is a defect, please report it")
        .into()
}

pub(crate) fn runtime_gone() -> Error {
    FeederError::permanent(
        FeederErrorKind::Internal,
        "the runtime of the feeder was shut down",
    )
    .into()
}
