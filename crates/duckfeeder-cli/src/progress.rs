//! How long work is going: a bar on a terminal, a log line every few seconds elsewhere.

use std::time::Duration;

use duckfeeder::{Phase, Status, TableState};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use crate::console::Console;

/// Between two log lines.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks at the status for the bar.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);

/// How far the first copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copied {
    /// Tables that wait or are being copied.
    tables: usize,
    /// Rows copied so far.
    rows: u64,
    /// The estimate of all rows, never below `rows`.
    estimate: u64,
}

fn copied(status: &Status) -> Option<Copied> {
    let unfinished = status
        .tables
        .iter()
        .filter(|table| matches!(table.state, TableState::Pending | TableState::Copying));
    let (mut tables, mut rows, mut estimate) = (0, 0_u64, 0_u64);
    for table in unfinished {
        let (done, all) = table.copied.unwrap_or((0, 0));
        tables += 1;
        rows = rows.saturating_add(done);
        estimate = estimate.saturating_add(all.max(done));
    }
    (status.phase == Phase::Copying && tables > 0).then_some(Copied {
        tables,
        rows,
        estimate,
    })
}

/// Tells how the feeder is doing until its status ends. `catching_up` tells of the stream as well.
pub(crate) async fn follow(
    mut status: watch::Receiver<Status>,
    console: Console,
    catching_up: bool,
) {
    let period = if console.interactive() {
        DRAW_INTERVAL
    } else {
        LOG_INTERVAL
    };
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is immediate.
    ticks.tick().await;
    let mut bar = Bar { console, bar: None };
    while status.has_changed().is_ok() {
        ticks.tick().await;
        let seen = status.borrow_and_update().clone();
        if bar.console.interactive() {
            bar.draw(copied(&seen));
        } else if let Some(copied) = copied(&seen) {
            tracing::info!(
                tables = copied.tables,
                rows = copied.rows,
                estimate = copied.estimate,
                "copying"
            );
        } else if catching_up && seen.phase == Phase::Streaming {
            tracing::info!(checkpoint = %seen.checkpoint, lag_bytes = seen.lag_bytes(), "catching up");
        }
    }
}

/// The bar, as long as there is something to see.
struct Bar {
    console: Console,
    bar: Option<ProgressBar>,
}

impl Bar {
    fn draw(&mut self, copied: Option<Copied>) {
        let Some(copied) = copied else {
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
                self.console.bars().remove(&bar);
            }
            return;
        };
        let console = &self.console;
        let bar = self
            .bar
            .get_or_insert_with(|| console.bars().add(new_bar()));
        bar.set_length(copied.estimate);
        bar.set_position(copied.rows);
        bar.set_message(match copied.tables {
            1 => "1 table left".to_owned(),
            tables => format!("{tables} tables left"),
        });
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.draw(None);
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "copying [{bar:30}] {human_pos}/{human_len} rows, {per_sec}, {msg}";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        // The plain style says as much, only less nicely.
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::tests::streaming;

    #[test]
    fn the_template_is_valid() {
        ProgressStyle::with_template(
            "copying [{bar:30}] {human_pos}/{human_len} rows, {per_sec}, {msg}",
        )
        .unwrap();
    }

    #[test]
    fn unfinished_tables_are_summed_up() {
        let mut status = streaming();
        assert_eq!(copied(&status), None);
        status.phase = Phase::Copying;
        assert_eq!(copied(&status), None);
        let mut tables = Vec::new();
        for (state, rows) in [
            (TableState::Copying, Some((10, 100))),
            // More rows than estimated.
            (TableState::Copying, Some((30, 20))),
            (TableState::Pending, None),
            (TableState::Streaming, Some((500, 500))),
        ] {
            let mut table = streaming().tables.remove(0);
            (table.state, table.copied) = (state, rows);
            tables.push(table);
        }
        status.tables = tables;
        assert_eq!(
            copied(&status),
            Some(Copied {
                tables: 3,
                rows: 40,
                estimate: 130
            })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn following_ends_with_the_status() {
        let (sender, receiver) = watch::channel(streaming());
        let follow = tokio::spawn(follow(
            receiver,
            Console::new(crate::args::LogFormat::Json),
            true,
        ));
        drop(sender);
        follow.await.unwrap();
    }
}
