//! SIGTERM and SIGINT: the first stops gracefully, the second at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Failure, Result};

/// Added to the number of the signal that ended the process, as shells do.
const SIGNALLED: i32 = 128;

/// A token that the first signal cancels. The second one ends the process.
///
/// # Errors
/// The handlers cannot be installed.
pub(crate) fn stop_token() -> Result<CancellationToken> {
    let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
    let mut terminations = install(terminate)?;
    let mut interruptions = install(interrupt)?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        loop {
            let received = tokio::select! {
                Some(()) = terminations.recv() => terminate,
                Some(()) = interruptions.recv() => interrupt,
                else => return,
            };
            if token.is_cancelled() {
                // Nothing is lost: what is not committed is still at the source.
                std::process::exit(SIGNALLED + received.as_raw_value());
            }
            tracing::info!(
                "stopping: the last rows are being committed; a second signal ends at once"
            );
            token.cancel();
        }
    });
    Ok(stop)
}

fn install(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| {
        Failure::usage(
            "signal handlers cannot be installed",
            "check the limits of this process",
        )
        .caused_by(&error)
    })
}
