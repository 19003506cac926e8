//! Waiting while another process feeds (rule 13).

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::config::FeederName;
use crate::control::{Claimant, Lease, Look};
use crate::error::FeederError;
use crate::retry::Backoff;
use crate::status::{FeederStatus, Phase};

/// How often the lease of the other process is looked at.
const POLL: Duration = Duration::from_millis(500);
/// How often the log says that this process still stands by.
const REMINDER: Duration = Duration::from_mins(10);

/// Waits until the lease is ours. The status says who feeds meanwhile.
///
/// # Errors
/// Only what is proven permanent; everything else is waited out.
pub(crate) async fn wait(
    claimant: &mut Claimant,
    name: &FeederName,
    status: &watch::Sender<FeederStatus>,
) -> Result<Lease, FeederError> {
    let mut backoff = Backoff::new();
    let mut told: Option<(String, Instant)> = None;
    loop {
        let wait = match claimant.look().await {
            Ok(Look::Taken(lease)) => {
                tracing::info!(hung = lease.seized(), "taking over");
                status.send_modify(|status| {
                    status.phase = Phase::Starting;
                    status.active = None;
                });
                return Ok(lease);
            }
            Ok(Look::Held(owner)) => {
                let owner = owner.unwrap_or_else(|| "another process".to_owned());
                let silent = told
                    .as_ref()
                    .is_some_and(|(last, at)| *last == owner && at.elapsed() < REMINDER);
                if !silent {
                    tracing::info!(active = owner, "standing by: another process feeds");
                    told = Some((owner.clone(), Instant::now()));
                }
                status.send_if_modified(|status| {
                    let known = status.phase == Phase::Standby
                        && status.active.as_ref() == Some(&owner)
                        && status.last_error.is_none();
                    if !known {
                        // What it knew from the time when it fed itself is over.
                        *status = FeederStatus {
                            active: Some(owner),
                            memory_budget: status.memory_budget,
                            ..FeederStatus::new(name, Phase::Standby)
                        };
                    }
                    !known
                });
                backoff = Backoff::new();
                POLL
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(
                    error = error.explained(),
                    "the lease cannot be looked at; trying again"
                );
                status.send_modify(|status| status.last_error = Some(error.explained()));
                backoff.next()
            }
            Err(error) => return Err(error),
        };
        sleep(wait).await;
    }
}
