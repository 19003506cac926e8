//! Marks duckfeeder's own work, so that what forwards `tracing` events to a lake does not feed on it.
//!
//! The mark belongs to the task, not to a time: a task of ours is marked wherever and whenever it runs, and nobody else
//! ever is.

use std::future::Future;

use tokio::task::JoinSet;

tokio::task_local! {
    static OWN: ();
}

/// Whether the caller is a task of duckfeeder's, or inside one of its calls.
pub fn is_active() -> bool {
    OWN.try_with(|()| ()).is_ok()
}

/// Marks a task.
pub(crate) fn task<F: Future>(future: F) -> impl Future<Output = F::Output> {
    OWN.scope((), future)
}

/// Starts a marked task.
pub(crate) fn spawn<T: Send + 'static>(
    tasks: &mut JoinSet<T>,
    future: impl Future<Output = T> + Send + 'static,
) {
    tasks.spawn(task(future));
}

/// Marks a call.
pub(crate) fn sync<T>(call: impl FnOnce() -> T) -> T {
    OWN.sync_scope((), call)
}
