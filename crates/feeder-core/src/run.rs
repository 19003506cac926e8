//! The async shell: one task moves bytes, asks the coordinator, and runs what it says.
//!
//! Beside it run the committer, at most one round of copies, and a watch over publication and requests. Nothing is
//! detached: all of them end with the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cdc_source::{Connection, ReplicationStream};
use parquet_writer::EncodeOptions;
use pgoutput::{Decoder, Lsn, ProtocolVersion};
use storage::{RetryPolicy, RetryStorage, Storage};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::append::Buffers;
use crate::backfill::{CopyContext, CopyEvent};
use crate::committer::{AppendWriter, Committer};
use crate::config::FeederConfig;
use crate::coordinator::{Action, Coordinator, Thresholds};
use crate::copy_round::CopySnapshot;
use crate::epoch::{Report, Work};
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::evolution::Found;
use crate::feeder::{Outcome, RunMode};
use crate::intake::Intake;
use crate::meters::Meters;
use crate::retry::Backoff;
use crate::setup::Prepared;
use crate::source_watch::{self, Definitions, LookAgain, WatchEvent, Watched};
use crate::status::{FeederStatus, Phase};
use crate::stream::{self, OpenError, Source};
use crate::table_look::LookedAt;

/// How often the server is asked for its position while somebody waits for it.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// How often the status is renewed at the most.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
/// Parts, copies and idle checkpoints on their way to the committer: two parts of a spill and one of each other kind.
const WORK_QUEUE: usize = 8;
/// How long the tasks may take to end once their channels are closed.
const END_TIMEOUT: Duration = Duration::from_secs(10);
const REPORT_QUEUE: usize = 64;
const COPY_QUEUE: usize = 64;

mod answers;
mod copies;
mod ending;
mod events;
mod frames;
mod freshness;
mod insistence;
mod progress;
mod silence;
mod truncations;

use answers::Answer;
use copies::{FinishedCopy, PATIENCE};
use ending::shutdown_timeout;
use frames::{DrainError, Drained};
use freshness::Freshness;
use insistence::Insistence;
use silence::Silence;
use truncations::Truncations;

/// See the module's documentation.
pub(crate) struct Engine<'a> {
    config: &'a FeederConfig,
    status: &'a watch::Sender<FeederStatus>,
    meters: Meters,
    source: Source,
    intake: Intake,
    copy_context: CopyContext,
    appends: Arc<Buffers>,
    work: mpsc::Sender<Work>,
    reports: mpsc::Receiver<Report>,
    copy_events: mpsc::Receiver<CopyEvent>,
    copy_sender: mpsc::Sender<CopyEvent>,
    watch_events: mpsc::Receiver<WatchEvent>,
    tasks: JoinSet<()>,
    ended: CancellationToken,

    first_snapshot: Option<(Connection, CopySnapshot)>,
    round_running: bool,
    round_backoff: Backoff,
    next_round: Option<Instant>,
    truncations: Truncations,
    /// Copies that wait until the checkpoint has reached their point.
    finished: Vec<FinishedCopy>,
    /// The copy that is being committed.
    committing: Option<u32>,
    /// Tables that were found changed at the source, and when.
    changed: BTreeMap<u32, (Found, LookedAt)>,
    /// Of these looks at tables the stream was ahead.
    look_again: LookAgain,
    /// Whether the source was looked at for changes that no row shows.
    looked: bool,
    /// Answers about tables whose changes wait for them.
    answers: mpsc::Receiver<Answer>,
    answer_sender: mpsc::Sender<Answer>,
    asking: bool,
    /// Tables that were dropped at the source, which the stream shows before this position.
    leaving: BTreeSet<u32>,
    position: Lsn,
    /// Some of them are fed to their end.
    left: bool,
    /// A table has columns that only text can carry (rule 9).
    text_only: bool,
    /// Whether the session is binary.
    binary: bool,
    server_wal_end: Lsn,
    freshness: Freshness,
    rows: BTreeMap<u32, u64>,
    copied: BTreeMap<u32, (u64, u64)>,
    last_snapshot: Option<i64>,
    last_commit: Option<SystemTime>,
    last_error: Option<String>,
    /// Set once nothing more is read: how the run will have ended.
    stopping: Option<Outcome>,
    restart_wanted: bool,
    status_due: Instant,
    status_interval: Duration,
    silence: Silence,
    insistence: Insistence,
    asked_at: Option<Instant>,
    acknowledged: Lsn,
    published_at: Option<Instant>,
}

/// How an engine ended without an error.
pub(crate) enum RunEnd {
    Done(Outcome),
    /// A resync was asked for: begin again with the tables as they are now.
    Restart,
}

/// Why a session with the source ended.
enum SessionEnd {
    Done(RunEnd),
    /// The source failed; the rest goes on and a new session begins at the checkpoint.
    Source(FeederError),
}

impl<'a> Engine<'a> {
    pub(crate) fn start(
        config: &'a FeederConfig,
        prepared: Prepared,
        storage: Arc<dyn Storage>,
        status: &'a watch::Sender<FeederStatus>,
        meters: Meters,
    ) -> Self {
        for table in &prepared.tables {
            meters.table(&table.lake().source);
        }
        // A copy that fails begins anew, and holds a snapshot of the source meanwhile; an upload of the stream is
        // repeated by the committer, which says what it waits for.
        let for_copies: Arc<dyn Storage> =
            Arc::new(meters.observe(RetryStorage::new(Arc::clone(&storage), PATIENCE)));
        let storage: Arc<dyn Storage> =
            Arc::new(meters.observe(RetryStorage::new(storage, RetryPolicy::default())));
        let (work, work_receiver) = mpsc::channel(WORK_QUEUE);
        let (report_sender, reports) = mpsc::channel(REPORT_QUEUE);
        let (copy_sender, copy_events) = mpsc::channel(COPY_QUEUE);
        let (watch_sender, watch_events) = mpsc::channel(COPY_QUEUE);
        let (answer_sender, answers) = mpsc::channel(1);
        let ended = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let committer = Committer {
            catalog: prepared.catalog,
            control: prepared.control.clone(),
            fence: Arc::clone(&prepared.fence),
            storage,
            feeder: config.name.to_string(),
            options: EncodeOptions::default(),
            checkpoint: prepared.checkpoint,
            files: Vec::new(),
            stop: ended.clone(),
            meters: meters.clone(),
            appends: AppendWriter::new(&prepared.appends),
        };
        crate::own::spawn(&mut tasks, committer.run(work_receiver, report_sender));
        let look_again = LookAgain::default();
        let watched = Watched {
            published: prepared.published,
            tables: prepared.covered,
            keyless: prepared.keyless,
            roots: prepared.roots,
            names: prepared.names,
            definitions: Definitions::of(&prepared.tables, look_again.clone()),
        };
        let watch = source_watch::run(
            prepared.source.clone(),
            prepared.control.clone(),
            Arc::clone(&prepared.fence),
            watched,
            watch_sender,
            ended.clone(),
        );
        crate::own::spawn(&mut tasks, watch);
        let copy_memory = usize::try_from(config.limits.memory).unwrap_or(usize::MAX)
            / 4
            / config.limits.copy_workers.max(1);
        let options = EncodeOptions {
            row_group_bytes: EncodeOptions::default()
                .row_group_bytes
                .min(copy_memory.max(4 << 20)),
            ..EncodeOptions::default()
        };
        let copy_context = CopyContext {
            endpoint: config.source.endpoint.clone(),
            storage: for_copies,
            control: prepared.control,
            fence: prepared.fence,
            options,
            workers: config.limits.copy_workers,
            stop: ended.clone(),
        };
        let coordinator = Coordinator::new(Thresholds::of(config), prepared.checkpoint);
        let now = Instant::now();
        let freshness = Freshness::new(
            &status.borrow(),
            prepared.checkpoint,
            prepared.commit_timestamp,
        );
        Self {
            config,
            status,
            meters,
            source: prepared.source,
            intake: Intake::new(coordinator, prepared.tables, config.policy.on_table_error),
            copy_context,
            appends: prepared.appends,
            work,
            reports,
            copy_events,
            copy_sender,
            watch_events,
            tasks,
            ended,
            first_snapshot: prepared.first_snapshot,
            round_running: false,
            round_backoff: Backoff::new(),
            next_round: Some(now),
            truncations: Truncations::new(prepared.doubts),
            finished: Vec::new(),
            committing: None,
            changed: BTreeMap::new(),
            look_again,
            looked: false,
            answers,
            answer_sender,
            asking: false,
            leaving: prepared.leaving,
            position: prepared.position,
            left: false,
            text_only: false,
            binary: false,
            server_wal_end: Lsn::ZERO,
            freshness,
            rows: BTreeMap::new(),
            copied: BTreeMap::new(),
            last_snapshot: prepared.last_snapshot,
            last_commit: None,
            last_error: None,
            stopping: None,
            restart_wanted: false,
            status_due: now,
            status_interval: Duration::ZERO,
            silence: Silence::new(Duration::MAX, now),
            insistence: Insistence::default(),
            asked_at: None,
            acknowledged: prepared.checkpoint,
            published_at: None,
        }
    }

    /// Sessions with the source, one after the other, until the work is done or an error proves permanent.
    pub(crate) async fn run(
        mut self,
        mode: RunMode,
        stop: &CancellationToken,
    ) -> Result<RunEnd, FeederError> {
        let result = self.sessions(mode, stop).await;
        let result = result.map_err(|error| self.cause(error));
        self.ended.cancel();
        let Self {
            work,
            reports,
            copy_events,
            watch_events,
            mut tasks,
            ..
        } = self;
        // Closed channels end the committer and the copies once they are done with what they hold.
        drop((work, reports, copy_events, watch_events));
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END_TIMEOUT, all).await.is_err() {
            tracing::warn!(
                "a task did not end in time and is abandoned; its transaction is resolved at the next start"
            );
        }
        result
    }

    async fn sessions(
        &mut self,
        mode: RunMode,
        stop: &CancellationToken,
    ) -> Result<RunEnd, FeederError> {
        let mut target = None;
        let mut backoff = Backoff::new();
        let mut broken = false;
        loop {
            let before = self.intake.coordinator.checkpoint();
            self.binary = !self.text_only && self.intake.binary();
            let opened = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.discard(stop).await?;
                    return Ok(RunEnd::Done(Outcome::Stopped));
                }
                opened = stream::open(&self.source, before, self.binary) => opened,
            };
            let error = match opened {
                Ok(opened) => {
                    if mode == RunMode::UntilCaughtUp && target.is_none() {
                        target = Some(opened.wal_end);
                    }
                    if broken {
                        self.meters.reconnected();
                        // It was the stream's: the committer was done with everything before.
                        self.last_error = None;
                    }
                    self.server_wal_end = opened.wal_end;
                    self.status_interval = opened.pace.status_interval;
                    self.silence = Silence::new(opened.pace.patience, Instant::now());
                    self.insistence = Insistence::default();
                    match self.session(opened.stream, target, stop).await? {
                        SessionEnd::Done(end) => return Ok(end),
                        SessionEnd::Source(error) => error,
                    }
                }
                Err(OpenError::Failed(error)) => error,
                // What this is about, a new start says.
                Err(OpenError::Changed(error)) => return Err(error),
            };
            if !error.is_transient() {
                return Err(self.lost(error).await);
            }
            tracing::warn!(
                error = error.explained(),
                remedy = error.remedy(),
                "the stream broke; it goes on from the checkpoint"
            );
            broken = true;
            self.meters.retry("source");
            self.freshness.disconnected();
            self.last_error = Some(error.explained());
            self.discard(stop).await?;
            if self.intake.coordinator.checkpoint() > before {
                backoff = Backoff::new();
            }
            self.publish(Phase::Retrying);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }

    /// I4: unsealed rows are dropped, an epoch in commit is awaited, and the next session starts at the checkpoint.
    ///
    /// A stop bounds how long an epoch that cannot be committed is awaited.
    async fn discard(&mut self, stop: &CancellationToken) -> Result<(), FeederError> {
        let (sender, mut done) = oneshot::channel();
        self.submit(Work::Discard(sender))?;
        let timeout = self.config.limits.shutdown_timeout;
        let gave_up = async {
            stop.cancelled().await;
            tokio::time::sleep(timeout).await;
        };
        tokio::pin!(gave_up);
        loop {
            tokio::select! {
                biased;
                () = &mut gave_up => return Err(shutdown_timeout()),
                report = self.reports.recv() => self.report(report)?,
                answer = &mut done => {
                    answer.map_err(|_gone| committer_gone())?;
                    break;
                }
            }
        }
        while let Ok(report) = self.reports.try_recv() {
            self.report(Some(report))?;
        }
        let checkpoint = self.intake.coordinator.checkpoint();
        self.intake
            .restart(Coordinator::new(Thresholds::of(self.config), checkpoint));
        Ok(())
    }

    async fn session(
        &mut self,
        mut stream: ReplicationStream,
        target: Option<Lsn>,
        stop: &CancellationToken,
    ) -> Result<SessionEnd, FeederError> {
        let mut decoder = Decoder::new(ProtocolVersion::V1);
        let mut stop_deadline = None;
        if let Some(target) = target {
            self.intake.coordinator.want(target);
        }
        self.status_due = Instant::now();
        loop {
            let now = Instant::now();
            let ending = if stop.is_cancelled() {
                Some(Outcome::Stopped)
            } else {
                self.caught_up(target)
            };
            if self.stopping.is_none() && ending.is_some() {
                self.stopping = ending;
                stop_deadline = Some(now + self.config.limits.shutdown_timeout);
                if let Err(error) = self.drain_buffered(&mut stream, &mut decoder, now) {
                    return Ok(SessionEnd::Source(error));
                }
                self.begin_stop()?;
            }
            let mut more = false;
            if self.stopping.is_none() {
                match self.drain(&mut stream, &mut decoder, now) {
                    Ok(Drained::Quota) => more = true,
                    Ok(Drained::Empty) => {}
                    Err(DrainError::Source(error)) => return Ok(SessionEnd::Source(error)),
                    Err(DrainError::Feeder(error)) => return Err(error),
                }
            }
            if self.silence.is_over(now, self.deaf()) {
                return Ok(SessionEnd::Source(silence::error()));
            }
            if self.insistence.is_over() {
                return Ok(SessionEnd::Source(insistence::error()));
            }
            self.ask();
            self.leave(now);
            self.settle_doubts(now)?;
            self.act(now)?;
            self.copies(now)?;
            if let Some(outcome) = self.finished() {
                self.acknowledge(&mut stream, now, true)
                    .await
                    .map_err(from_source)?;
                if let Err(error) = stream.stop().await {
                    tracing::debug!(error = %error, "the stream did not end in good order; everything is committed");
                }
                self.publish(Phase::Stopping);
                return Ok(SessionEnd::Done(RunEnd::Done(outcome)));
            }
            if self.restart_wanted
                && !self.round_running
                && self.finished.is_empty()
                && self.committing.is_none()
            {
                return Ok(SessionEnd::Done(RunEnd::Restart));
            }
            if let Err(error) = self.acknowledge(&mut stream, now, false).await {
                return Ok(SessionEnd::Source(from_source(error)));
            }
            let paused = self.intake.coordinator.paused() || self.intake.waits_for_answer();
            let wake_up = self.wake_up(now);
            if self
                .published_at
                .is_none_or(|at| now.duration_since(at) >= PUBLISH_INTERVAL)
            {
                self.published_at = Some(now);
                self.freshness.look(
                    &self.intake.coordinator,
                    self.server_wal_end,
                    SystemTime::now(),
                );
                self.publish(self.phase());
            }
            tokio::select! {
                biased;
                // A stop is answered at once.
                () = stop.cancelled(), if self.stopping.is_none() => {}
                // Memory and acknowledgements hang on the committer's answers.
                report = self.reports.recv() => self.report(report)?,
                Some(event) = self.copy_events.recv() => self.copy_event(event, now)?,
                Some(event) = self.watch_events.recv() => self.watch_event(event, now)?,
                Some(answer) = self.answers.recv() => {
                    if let Some(end) = self.answered(answer)? {
                        return Ok(end);
                    }
                }
                () = at(stop_deadline) => {
                    return Err(shutdown_timeout());
                }
                () = tokio::time::sleep_until(wake_up.into()) => {}
                // More frames are buffered already.
                () = std::future::ready(()), if more => {}
                // Back-pressure: while memory is used up nothing is read (I6), and status updates go on.
                frame = stream.next_frame(), if !paused && self.stopping.is_none() && !more => {
                    let frame = match frame {
                        Ok(Some(frame)) => frame,
                        Ok(None) => {
                            return Ok(SessionEnd::Source(FeederError::transient(
                                FeederErrorKind::Source,
                                "the server ended the stream",
                            )));
                        }
                        Err(error) => return Ok(SessionEnd::Source(stream::broken(error))),
                    };
                    self.frame(frame, &mut decoder, Instant::now())?;
                }
            }
        }
    }

    /// Runs what the coordinator wants.
    fn act(&mut self, now: Instant) -> Result<(), FeederError> {
        match self.intake.coordinator.poll(now) {
            None => Ok(()),
            Some(Action::Seal) => {
                self.filled(now);
                let part = self.intake.seal()?;
                self.submit_part(part)
            }
            Some(Action::Spill) => {
                self.filled(now);
                let (head, tail) = self.intake.spill()?;
                if let Some(head) = head {
                    self.submit_part(head)?;
                }
                self.submit_part(tail)
            }
            Some(Action::Idle(to)) => {
                self.intake.coordinator.idle_handed_over(now);
                self.submit(Work::Idle(to))
            }
        }
    }

    fn submit(&self, work: Work) -> Result<(), FeederError> {
        self.work.try_send(work).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => FeederError::permanent(
                FeederErrorKind::Internal,
                "the committer's queue is full, which the coordinator should have prevented",
            ),
            mpsc::error::TrySendError::Closed(_) => committer_gone(),
        })
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn committer_gone() -> FeederError {
    FeederError::permanent(FeederErrorKind::Internal, "the committer is gone")
}
