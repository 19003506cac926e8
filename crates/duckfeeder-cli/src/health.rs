//! What is wrong with a running feeder.

use duckfeeder::{Phase, Status, TableState};
use serde_json::{Value, json};

/// What one asks a feeder in order to judge it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge {
    /// Waiting WAL in bytes above which it is unhealthy.
    pub(crate) max_lag_bytes: u64,
    /// Whether it was asked to do anything at all.
    pub(crate) enabled: bool,
}

impl Judge {
    /// Whether the process does its work: false only once the feeder has ended.
    pub(crate) fn alive(self, status: &Status) -> bool {
        !self.enabled || status.phase != Phase::Stopped
    }

    /// Why the lake is not what readers expect; empty when it is.
    pub(crate) fn problems(self, status: &Status) -> Vec<String> {
        if !self.enabled {
            return Vec::new();
        }
        let mut problems = Vec::new();
        match status.phase {
            Phase::Streaming => {}
            Phase::Copying => problems.push("tables are being copied".to_owned()),
            Phase::Retrying => problems.push(match &status.last_error {
                Some(error) => format!("an error is being waited out: {error}"),
                None => "an error is being waited out".to_owned(),
            }),
            phase => problems.push(format!("the feeder is {phase:?}").to_lowercase()),
        }
        let lag = lag_bytes(status);
        if lag > self.max_lag_bytes {
            problems.push(format!(
                "the lake is {lag} bytes of WAL behind, more than limits.max_lag_bytes ({})",
                self.max_lag_bytes
            ));
        }
        for table in &status.tables {
            if table.state == TableState::Error {
                let reason = table.error.as_deref().unwrap_or("no reason is known");
                problems.push(format!("{}: {reason}", table.source));
            }
        }
        problems
    }

    /// The status as JSON, with what is wrong.
    pub(crate) fn describe(self, status: &Status) -> Result<Value, serde_json::Error> {
        let mut described = serde_json::to_value(status)?;
        if let Value::Object(fields) = &mut described {
            let commit = status
                .last_commit
                .map(|time| humantime::format_rfc3339_millis(time).to_string());
            fields.insert("last_commit".to_owned(), json!(commit));
            fields.insert("lag_bytes".to_owned(), json!(lag_bytes(status)));
            fields.insert("enabled".to_owned(), json!(self.enabled));
            fields.insert("problems".to_owned(), json!(self.problems(status)));
        }
        Ok(described)
    }
}

/// WAL between the checkpoint and the end that the server last reported, in bytes.
pub(crate) fn lag_bytes(status: &Status) -> u64 {
    status
        .server_wal_end
        .get()
        .saturating_sub(status.checkpoint.get())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::{Duration, SystemTime};

    use duckfeeder::{Lsn, TableStatus};

    use super::*;

    pub(crate) const JUDGE: Judge = Judge {
        max_lag_bytes: 1000,
        enabled: true,
    };

    /// A feeder that streams one table.
    pub(crate) fn streaming() -> Status {
        Status {
            name: "shop".into(),
            phase: Phase::Streaming,
            checkpoint: Lsn::new(1000),
            covered: Lsn::new(1000),
            server_wal_end: Lsn::new(2000),
            last_snapshot: Some(7),
            last_commit: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1500)),
            buffered_bytes: 0,
            paused: false,
            last_error: None,
            tables: vec![TableStatus {
                source: "public.orders".into(),
                target: "raw.orders".into(),
                state: TableState::Streaming,
                error: None,
                rows: 3,
                discarded: 0,
                unrepresentable: 0,
                copied: None,
            }],
        }
    }

    #[test]
    fn a_streaming_feeder_has_no_problems() {
        assert_eq!(JUDGE.problems(&streaming()), Vec::<String>::new());
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
            JUDGE.problems(&status),
            [
                "an error is being waited out: connection refused",
                "the lake is 1001 bytes of WAL behind, more than limits.max_lag_bytes (1000)",
                "public.orders: no replica identity",
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
            assert_eq!(JUDGE.problems(&status), [problem]);
            assert_eq!(JUDGE.alive(&status), phase != Phase::Stopped);
        }
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
        assert!(judge.problems(&status).is_empty() && judge.alive(&status));
    }

    #[test]
    fn the_description_is_readable_by_machines() {
        let described = JUDGE.describe(&streaming()).unwrap();
        assert_eq!(described["phase"], "streaming");
        assert_eq!(described["checkpoint"], "0/3E8");
        assert_eq!(described["lag_bytes"], 1000);
        assert_eq!(described["last_commit"], "1970-01-01T00:00:01.500Z");
        assert_eq!(described["tables"][0]["state"], "streaming");
        assert_eq!(described["problems"], json!([]));
    }
}
