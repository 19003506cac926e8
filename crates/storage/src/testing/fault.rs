//! A store that fails on demand.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    ListPage, MultipartUpload, ObjectMeta, ObjectPath, OpenUpload, Operation, PageToken,
    PutPayload, Storage, StorageError, StorageErrorKind, UploadPage,
};

/// One way of failing.
#[derive(Debug, Clone)]
pub struct Fault {
    kind: StorageErrorKind,
    retry_after: Option<Duration>,
    moment: Moment,
}

/// Before or after the wrapped store does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The wrapped store has not been asked yet.
    BeforeWork,
    /// The wrapped store has done its work, successfully; only the answer is missing.
    AfterWork,
}

impl Fault {
    /// The call fails with `kind`, and nothing is done.
    pub fn refused(kind: StorageErrorKind) -> Self {
        Self {
            kind,
            retry_after: None,
            moment: Moment::BeforeWork,
        }
    }

    /// The work is done, but the call fails with `kind` (if the work fails, with its own error). For
    /// [`Operation::PutPart`], where the contract of [`MultipartUpload::put_part`] forbids that, nothing is done.
    pub fn answer_lost(kind: StorageErrorKind) -> Self {
        Self {
            kind,
            retry_after: None,
            moment: Moment::AfterWork,
        }
    }

    /// The error asks for this wait ([`StorageError::retry_after`]).
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    fn error(&self, operation: Operation, path: &str) -> StorageError {
        let error =
            StorageError::new(self.kind, operation, path).with_source("fault injected by a test");
        match self.retry_after {
            Some(delay) => error.with_retry_after(delay),
            None => error,
        }
    }
}

/// Wraps a store and follows a script: fail the next calls, lose answers, hold calls until released, be slow, count.
/// Clones share one script, so a test keeps a clone as its remote control. Nothing is scripted at first.
#[derive(Debug, Clone)]
pub struct FaultStorage {
    inner: Arc<dyn Storage>,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    steps: HashMap<Operation, Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    calls: u64,
    next: VecDeque<(u32, Fault)>,
    each_path: Option<(u32, Fault)>,
    /// How often `each_path` has struck.
    failed_by_path: HashMap<String, u32>,
    delay: Duration,
    hold: Option<(Moment, Arc<Gate>)>,
}

#[derive(Debug)]
struct Gate {
    held: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Gate {
    async fn pass(&self) {
        self.held.send_modify(|held| *held = held.saturating_add(1));
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

/// Holds the calls of one operation until it is released or dropped.
#[derive(Debug)]
pub struct Hold {
    gate: Arc<Gate>,
}

impl Hold {
    /// Waits until `calls` calls have arrived here, counted from the beginning of the hold.
    pub async fn arrived(&self, calls: usize) {
        let _ = self
            .gate
            .held
            .subscribe()
            .wait_for(|held| *held >= calls)
            .await;
    }

    /// Lets all calls go on, those to come too.
    pub fn release(&self) {
        self.gate.open.send_replace(true);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

impl FaultStorage {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            script: Arc::default(),
        }
    }

    /// The next `times` calls of `operation` fail with `fault`, once those injected before are used up.
    pub fn inject(&self, operation: Operation, times: u32, fault: Fault) {
        self.script()
            .steps(operation)
            .next
            .push_back((times, fault));
    }

    /// The first `times` calls of `operation` on each path fail with `fault`, once those of [`inject`](Self::inject)
    /// are used up.
    pub fn inject_on_each_path(&self, operation: Operation, times: u32, fault: Fault) {
        self.script().steps(operation).each_path = Some((times, fault));
    }

    /// From now on each call of `operation` takes this much longer.
    pub fn delay(&self, operation: Operation, delay: Duration) {
        self.script().steps(operation).delay = delay;
    }

    /// From now on each call of `operation` waits at `moment` for the release of the returned hold. Replaces an
    /// earlier hold of the same operation, whose calls stay under the old one.
    #[must_use = "dropping the hold releases it"]
    pub fn hold(&self, operation: Operation, moment: Moment) -> Hold {
        let gate = Arc::new(Gate {
            held: watch::Sender::new(0),
            open: watch::Sender::new(false),
        });
        self.script().steps(operation).hold = Some((moment, Arc::clone(&gate)));
        Hold { gate }
    }

    /// How often `operation` was called so far, failures included.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.script().steps(operation).calls
    }

    /// Forgets all faults, delays and holds; calls that wait in a hold stay there until it is released.
    pub fn clear(&self) {
        for steps in self.script().steps.values_mut() {
            *steps = Steps {
                calls: steps.calls,
                ..Steps::default()
            };
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.script)
    }
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Steps {
    fn take_fault(&mut self, path: &str) -> Option<Fault> {
        while let Some((times, fault)) = self.next.front_mut() {
            if *times > 0 {
                *times -= 1;
                return Some(fault.clone());
            }
            self.next.pop_front();
        }
        let (times, fault) = self.each_path.as_ref()?;
        let failed = self.failed_by_path.entry(path.to_owned()).or_default();
        if *failed >= *times {
            return None;
        }
        *failed += 1;
        Some(fault.clone())
    }
}

impl Script {
    fn steps(&mut self, operation: Operation) -> &mut Steps {
        self.steps.entry(operation).or_default()
    }

    /// Counts a call and says what is to happen to it.
    fn begin(&mut self, operation: Operation, path: &str) -> Plan {
        let steps = self.steps(operation);
        steps.calls = steps.calls.saturating_add(1);
        let fault = steps.take_fault(path);
        Plan {
            fault,
            delay: steps.delay,
            hold: steps.hold.clone(),
        }
    }
}

/// What happens to one call.
struct Plan {
    fault: Option<Fault>,
    delay: Duration,
    hold: Option<(Moment, Arc<Gate>)>,
}

impl Plan {
    async fn at(
        &self,
        moment: Moment,
        operation: Operation,
        path: &str,
    ) -> Result<(), StorageError> {
        if moment == Moment::BeforeWork && !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        if let Some((held_at, gate)) = &self.hold
            && *held_at == moment
        {
            gate.pass().await;
        }
        match &self.fault {
            Some(fault) if fault.moment == moment => Err(fault.error(operation, path)),
            _ => Ok(()),
        }
    }
}

/// Runs `work` as `operation` on `path` under the script.
async fn scripted<T>(
    script: &Mutex<Script>,
    operation: Operation,
    path: &str,
    work: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    let mut plan = lock(script).begin(operation, path);
    if operation == Operation::PutPart
        && let Some(fault) = &mut plan.fault
    {
        fault.moment = Moment::BeforeWork;
    }
    plan.at(Moment::BeforeWork, operation, path).await?;
    let done = work.await?;
    plan.at(Moment::AfterWork, operation, path).await?;
    Ok(done)
}

impl fmt::Display for FaultStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for FaultStorage {
    async fn put(&self, path: &ObjectPath, payload: PutPayload) -> Result<(), StorageError> {
        let work = self.inner.put(path, payload);
        scripted(&self.script, Operation::Put, path.as_str(), work).await
    }

    async fn start_multipart(
        &self,
        path: &ObjectPath,
    ) -> Result<Box<dyn MultipartUpload>, StorageError> {
        let work = self.inner.start_multipart(path);
        let inner = scripted(&self.script, Operation::StartMultipart, path.as_str(), work).await?;
        Ok(Box::new(FaultUpload {
            inner,
            script: Arc::clone(&self.script),
            path: path.clone(),
        }))
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StorageError> {
        let work = self.inner.get_range(path, range);
        scripted(&self.script, Operation::GetRange, path.as_str(), work).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError> {
        let work = self.inner.head(path);
        scripted(&self.script, Operation::Head, path.as_str(), work).await
    }

    async fn list(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<ListPage, StorageError> {
        let path = prefix.map_or("", ObjectPath::as_str);
        let work = self.inner.list(prefix, token);
        scripted(&self.script, Operation::List, path, work).await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StorageError> {
        let work = self.inner.delete(path);
        scripted(&self.script, Operation::Delete, path.as_str(), work).await
    }

    /// A fault strikes the whole call: nothing is deleted, or all answers are lost.
    async fn delete_all(&self, paths: &[ObjectPath]) -> Vec<Result<(), StorageError>> {
        let first = paths.first().map_or("", ObjectPath::as_str);
        let work = async { Ok(self.inner.delete_all(paths).await) };
        match scripted(&self.script, Operation::Delete, first, work).await {
            Ok(results) => results,
            Err(error) => {
                let failed = |path: &ObjectPath| {
                    Err(
                        StorageError::new(error.kind(), Operation::Delete, path.as_str())
                            .with_source("fault injected by a test"),
                    )
                };
                paths.iter().map(failed).collect()
            }
        }
    }

    async fn list_uploads(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<UploadPage, StorageError> {
        let path = prefix.map_or("", ObjectPath::as_str);
        let work = self.inner.list_uploads(prefix, token);
        scripted(&self.script, Operation::ListUploads, path, work).await
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError> {
        let path = upload.path.as_str();
        let work = self.inner.abort_upload(upload);
        scripted(&self.script, Operation::AbortUpload, path, work).await
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[derive(Debug)]
struct FaultUpload {
    inner: Box<dyn MultipartUpload>,
    script: Arc<Mutex<Script>>,
    path: ObjectPath,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for FaultUpload {
    async fn put_part(&mut self, part: Bytes) -> Result<(), StorageError> {
        let work = self.inner.put_part(part);
        scripted(&self.script, Operation::PutPart, self.path.as_str(), work).await
    }

    async fn complete(&mut self) -> Result<(), StorageError> {
        let work = self.inner.complete();
        scripted(&self.script, Operation::Complete, self.path.as_str(), work).await
    }

    async fn abort(&mut self) -> Result<(), StorageError> {
        let work = self.inner.abort();
        scripted(&self.script, Operation::Abort, self.path.as_str(), work).await
    }
}
