//! `duckfeeder run`

use duckfeeder::{Feeder, Outcome, RunMode};
use tokio::task::JoinSet;

use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Result};
use crate::exporter::Exporter;
use crate::health::Judge;
use crate::server::{self, Server};
use crate::{progress, signals};

/// Feeds until a signal comes, or until it has caught up.
pub(super) async fn run(settings: Settings, until_caught_up: bool, console: &Console) -> Result {
    settings.require_tables()?;
    let store = settings.store()?;
    let stop = signals::stop_token()?;
    let judge = Judge {
        max_lag_bytes: settings.feeder.limits.max_lag_bytes,
        stall_after: Judge::patience(settings.feeder.flush.interval),
        enabled: settings.enabled,
    };
    // Before the feeder begins, so that nothing of it is missed.
    let exporter = match settings.listen {
        Some(_) => Some(Exporter::install()?),
        None => None,
    };
    let feeder = if settings.enabled {
        Feeder::from_config(settings.feeder.clone(), store.open()?)
    } else {
        tracing::warn!("`enabled` is false: nothing is fed");
        Feeder::disabled(&settings.feeder.name)
    };
    let _server = match settings.listen.zip(exporter) {
        Some((listen, exporter)) => {
            let listener = server::bind(listen).await?;
            tracing::info!(%listen, "serving /healthz, /readyz, /status and /metrics");
            Some(Server::start(listener, feeder.status(), judge, exporter))
        }
        None => None,
    };
    // Ends with this function.
    let mut background = JoinSet::new();
    background.spawn(progress::follow(
        feeder.status(),
        console.clone(),
        until_caught_up,
    ));
    let mode = if until_caught_up {
        RunMode::UntilCaughtUp
    } else {
        RunMode::Forever
    };
    let outcome = feeder.run_in(mode, stop.cancelled_owned()).await?;
    match outcome {
        Outcome::Stopped => tracing::info!("stopped"),
        Outcome::CaughtUp => tracing::info!("caught up"),
    }
    Ok(Exit::Done)
}
