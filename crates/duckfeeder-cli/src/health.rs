//! What is wrong with a running feeder.

use std::time::{Duration, SystemTime};

use duckfeeder::{Phase, SlotStatus, Status, TableState};
use serde_json::{Value, json};

/// Longer than a commit takes on a bad day, shorter than a disk takes to fill.
const STALLED: Duration = Duration::from_mins(1);

/// What one asks a feeder in order to judge it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge {
    /// Waiting WAL in bytes above which it is unhealthy.
    pub(crate) max_lag_bytes: u64,
    /// How long the source may be ahead while nothing is committed.
    pub(crate) stall_after: Duration,
    /// Whether it was asked to do anything at all.
    pub(crate) enabled: bool,
}

impl Judge {
    /// How long a feeder that flushes so often may take for one commit.
    pub(crate) fn patience(flush_interval: Duration) -> Duration {
        STALLED + flush_interval.saturating_mul(2)
    }

    /// Whether the process does its work: false only once the feeder has ended.
    pub(crate) fn alive(self, status: &Status) -> bool {
        !self.enabled || status.phase != Phase::Stopped
    }

    /// Why the lake is not what readers expect; empty when it is.
    pub(crate) fn problems(self, status: &Status, now: SystemTime) -> Vec<String> {
        if !self.enabled {
            return Vec::new();
        }
        let mut problems = Vec::new();
        match status.phase {
            Phase::Streaming => {}
            Phase::Standby => {
                let active = status.active.as_deref().unwrap_or("another process");
                problems.push(format!("standby: {active} is active"));
                // The lag is that of the process that feeds.
                return problems;
            }
            Phase::Copying => problems.push("tables are being copied".to_owned()),
            Phase::Retrying => problems.push(match &status.last_error {
                Some(error) => format!("an error is being waited out: {error}"),
                None => "an error is being waited out".to_owned(),
            }),
            phase => problems.push(format!("the feeder is {phase:?}").to_lowercase()),
        }
        let stalled = status.stalled(now);
        if stalled > self.stall_after {
            problems.push(format!(
                "nothing was committed for {}, and the source is {} bytes of WAL ahead",
                seconds(stalled),
                status.lag_bytes()
            ));
        }
        let lag = status.lag_bytes();
        if lag > self.max_lag_bytes {
            problems.push(format!(
                "the lake is {lag} bytes of WAL behind, more than limits.max_lag_bytes ({})",
                self.max_lag_bytes
            ));
        }
        if let Some(slot) = &status.slot {
            problems.extend(self.slot_problem(slot));
        }
        for table in &status.tables {
            if table.state == TableState::Error {
                let reason = table.error.as_deref().unwrap_or("no reason is known");
                problems.push(format!(
                    "{}: {reason}; {} changes were dropped since, `duckfeeder resync {0}` copies it again",
                    table.source, table.discarded
                ));
            }
        }
        problems
    }

    /// What the slot keeps may be far more than the lag: a transaction that is open for long holds it too.
    fn slot_problem(self, slot: &SlotStatus) -> Option<String> {
        let retained = slot.retained_bytes.unwrap_or_default();
        if matches!(slot.wal_status.as_deref(), Some("unreserved" | "lost")) {
            return Some("the slot keeps more WAL than max_slot_wal_keep_size allows".to_owned());
        }
        (retained > self.max_lag_bytes).then(|| {
            format!(
                "the slot keeps {retained} bytes of WAL at the source, more than limits.max_lag_bytes ({})",
                self.max_lag_bytes
            )
        })
    }

    /// The status as JSON, with what is wrong.
    pub(crate) fn describe(
        self,
        status: &Status,
        now: SystemTime,
    ) -> Result<Value, serde_json::Error> {
        let mut described = serde_json::to_value(status)?;
        if let Value::Object(fields) = &mut described {
            for (key, time) in [
                ("last_commit", status.last_commit),
                ("last_progress", status.progressed_at),
            ] {
                let time = time.map(|time| humantime::format_rfc3339_millis(time).to_string());
                fields.insert(key.to_owned(), json!(time));
            }
            let lag = status.lag(now).map(|lag| lag.as_secs_f64());
            fields.insert("lag_seconds".to_owned(), json!(lag));
            fields.insert("lag_bytes".to_owned(), json!(status.lag_bytes()));
            fields.insert("enabled".to_owned(), json!(self.enabled));
            fields.insert("problems".to_owned(), json!(self.problems(status, now)));
        }
        Ok(described)
    }
}

fn seconds(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
pub(crate) mod tests {
    use duckfeeder::config::FeederName;
    use duckfeeder::{Lsn, TableStatus};

    use super::*;

    pub(crate) const JUDGE: Judge = Judge {
        max_lag_bytes: 1000,
        stall_after: Duration::from_mins(1),
        enabled: true,
    };

    /// A feeder that streams one table.
    pub(crate) fn streaming() -> Status {
        let mut status = Status::new(&FeederName::parse("shop").unwrap(), Phase::Streaming);
        status.checkpoint = Lsn::new(1000);
        status.covered = Lsn::new(1000);
        status.received = Lsn::new(1000);
        status.server_wal_end = Lsn::new(2000);
        status.last_snapshot = Some(7);
        status.last_commit = Some(at(1500));
        status.fresh_until = Some(at(1000));
        status.progressed_at = Some(at(1500));
        status.slot = Some(SlotStatus {
            retained_bytes: Some(1000),
            wal_status: Some("reserved".into()),
        });
        status.tables = vec![TableStatus {
            source: "public.orders".into(),
            target: "raw.orders".into(),
            state: TableState::Streaming,
            error: None,
            rows: 3,
            discarded: 0,
            unrepresentable: 0,
            copied: None,
        }];
        status
    }

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn problems(status: &Status) -> Vec<String> {
        JUDGE.problems(status, at(2000))
    }

    #[test]
    fn a_streaming_feeder_has_no_problems() {
        assert_eq!(problems(&streaming()), Vec::<String>::new());
        assert!(JUDGE.alive(&streaming()));
    }

    #[test]
    fn each_problem_is_named() {
        let mut status = streaming();
        status.phase = Phase::Retrying;
        status.last_error = Some("connection refused".into());
        status.server_wal_end = Lsn::new(2001);
        for table in &mut status.tables {
            table.state = TableState::Error;
            table.error = Some("no replica identity".into());
        }
        assert_eq!(
            problems(&status),
            [
                "an error is being waited out: connection refused",
                "the lake is 1001 bytes of WAL behind, more than limits.max_lag_bytes (1000)",
                "public.orders: no replica identity; 0 changes were dropped since, `duckfeeder resync public.orders` copies it again",
            ]
        );
        for (phase, problem) in [
            (Phase::Starting, "the feeder is starting"),
            (Phase::Copying, "tables are being copied"),
            (Phase::Stopped, "the feeder is stopped"),
        ] {
            let status = Status {
                phase,
                ..streaming()
            };
            assert_eq!(problems(&status), [problem]);
            assert_eq!(JUDGE.alive(&status), phase != Phase::Stopped);
        }
    }

    #[test]
    fn a_lake_that_does_not_move_while_the_source_does_is_a_problem() {
        let mut status = streaming();
        let later = at(1500) + Duration::from_secs(61);
        assert_eq!(
            JUDGE.problems(&status, later),
            ["nothing was committed for 1m 1s, and the source is 1000 bytes of WAL ahead"]
        );
        status.caught_up = true;
        assert_eq!(JUDGE.problems(&status, later), [""; 0]);
    }

    #[test]
    fn the_slot_is_judged_by_what_it_keeps() {
        let mut status = streaming();
        for (retained, state, problem) in [
            (1000, "extended", None),
            (
                1001,
                "reserved",
                Some(
                    "the slot keeps 1001 bytes of WAL at the source, more than limits.max_lag_bytes (1000)",
                ),
            ),
            (
                1,
                "unreserved",
                Some("the slot keeps more WAL than max_slot_wal_keep_size allows"),
            ),
        ] {
            status.slot = Some(SlotStatus {
                retained_bytes: Some(retained),
                wal_status: Some(state.into()),
            });
            assert_eq!(
                problems(&status),
                Vec::from_iter(problem),
                "{retained} {state}"
            );
        }
    }

    #[test]
    fn a_standby_is_well_and_not_ready() {
        let mut status = streaming();
        status.phase = Phase::Standby;
        status.active = Some("db2:77".into());
        status.server_wal_end = Lsn::new(9000);
        assert_eq!(problems(&status), ["standby: db2:77 is active"]);
        assert!(JUDGE.alive(&status));
    }

    #[test]
    fn a_disabled_feeder_is_well() {
        let judge = Judge {
            enabled: false,
            ..JUDGE
        };
        let status = Status {
            phase: Phase::Stopped,
            ..streaming()
        };
        assert!(judge.problems(&status, at(2000)).is_empty() && judge.alive(&status));
    }

    #[test]
    fn the_description_is_readable_by_machines() {
        let described = JUDGE.describe(&streaming(), at(2500)).unwrap();
        assert_eq!(described["phase"], "streaming");
        assert_eq!(described["checkpoint"], "0/3E8");
        assert_eq!(described["lag_bytes"], 1000);
        assert_eq!(described["lag_seconds"], 1.5);
        assert_eq!(described["last_progress"], "1970-01-01T00:00:01.500Z");
        assert_eq!(described["slot"]["retained_bytes"], 1000);
        assert_eq!(described["last_commit"], "1970-01-01T00:00:01.500Z");
        assert_eq!(described["tables"][0]["state"], "streaming");
        assert_eq!(described["problems"], json!([]));
    }
}
