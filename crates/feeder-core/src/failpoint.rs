//! Points where a test lets the process die as if it were killed: one before or after every durable step.
//!
//! Only debug builds have them; in a release build `reach` is empty. Which point is armed is state of the process,
//! which nothing else in this crate has: a crash ends a process, not a feeder, and handing the point through every
//! layer would put the tests into all signatures. The crate still reads no environment; the binary does, and calls
//! [`arm`].

#[cfg(debug_assertions)]
pub use armed::{UnknownFailpoint, arm};

/// Names the points once: as variants, in their order on the way of a feeder, and as text.
macro_rules! failpoints {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place in the code, next to a durable step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Failpoint {
            $($(#[$doc])* $point,)*
        }

        impl Failpoint {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// What a test calls it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

failpoints! {
    /// A migration of the control tables is written and not committed. Reached once for each.
    MigrationBeforeCommit = "migration-before-commit",
    /// A migration is committed.
    MigrationCommitted = "migration-committed",
    /// The lake is there, without a table.
    LakeMade = "lake-made",
    /// The publications are as wanted.
    PublicationsMade = "publications-made",
    /// The slot was made; nobody has taken down where it begins.
    SlotMade = "slot-made",
    /// The feeder's row is there, with its first checkpoint.
    FeederRegistered = "feeder-registered",
    /// The generation was raised: whoever wrote before cannot any more.
    FeederFenced = "feeder-fenced",
    /// The tables' control rows are as the configuration wants them.
    TablesRegistered = "tables-registered",
    /// The lake's tables are there.
    LakeTablesMade = "lake-tables-made",
    /// What the publications looked like is taken down.
    PublicationsStored = "publications-stored",

    /// The tables of a round are in state `copying`; there is no snapshot yet.
    CopyStatesWritten = "copy-states-written",
    /// A temporary slot exported the round's snapshot.
    CopySnapshotExported = "copy-snapshot-exported",
    /// The round's leader holds the snapshot and exported it again; the slot's session is closed.
    CopySnapshotShared = "copy-snapshot-shared",
    /// All rows of a range are read; its file is not finished.
    CopyRangeRead = "copy-range-read",
    /// A range's files are complete.
    CopyRangeUploaded = "copy-range-uploaded",
    /// All files of a table are complete; their commit waits for the checkpoint.
    CopyFinished = "copy-finished",
    /// A copy is handed to the catalog.
    CopyBeforeCommit = "copy-before-commit",
    /// A copy is in the lake; nobody was told.
    CopyCommitted = "copy-committed",

    /// A TRUNCATE arrived, in an open transaction.
    TruncateReceived = "truncate-received",
    /// A file was declared; no byte is uploaded.
    FileDeclared = "file-declared",
    /// Rows are handed to the encoder.
    EncodeBefore = "encode-before",
    /// The encoder has taken them.
    EncodeAfter = "encode-after",
    /// The file's last bytes are encoded.
    FileEncoded = "file-encoded",
    /// A small file is put as a whole.
    PutBefore = "put-before",
    /// It is stored.
    PutAfter = "put-after",
    /// An upload in parts was begun.
    UploadBegun = "upload-begun",
    /// A part of it is uploaded.
    UploadPart = "upload-part",
    /// All parts are uploaded; there is no object.
    UploadBeforeComplete = "upload-before-complete",
    /// There is.
    UploadComplete = "upload-complete",
    /// A file of dead letters is complete.
    DeadLettersUploaded = "dead-letters-uploaded",
    /// A part of an open transaction is uploaded.
    SpillUploaded = "spill-uploaded",

    /// A commit begins: nothing is locked.
    CommitBeforeLock = "commit-before-lock",
    /// Everything of a commit is written; COMMIT was not sent.
    CommitBeforeCommit = "commit-before-commit",
    /// An epoch is in the lake; nobody was told.
    CommitAfter = "commit-after",
    /// A commit is in the lake, its answer is thrown away: the feeder must find out by itself, and does not die.
    CommitAnswerLost = "commit-answer-lost",
    /// An epoch's commit begins; it waits until the process was stopped and continued, and does not die. From then on
    /// the lease is not looked at, so that the generation alone decides what becomes of the commit.
    CommitOverslept = "commit-overslept",
    /// The checkpoint is to move alone.
    AdvanceBefore = "advance-before",
    /// It has moved; nobody was told.
    AdvanceAfter = "advance-after",
    /// The source is to be told of a new checkpoint.
    AcknowledgeBefore = "acknowledge-before",
    /// It was told.
    AcknowledgeAfter = "acknowledge-after",

    /// A resync was asked for from outside.
    ResyncRequested = "resync-requested",
    /// A start has taken the requests: their tables are pending.
    ResyncsTaken = "resyncs-taken",
    /// The janitor has claimed files; all of them are still there.
    JanitorClaimed = "janitor-claimed",
    /// Their objects are deleted, their declarations are there.
    JanitorDeleted = "janitor-deleted",
    /// Their declarations are gone too.
    JanitorReleased = "janitor-released",
}

/// Dies here if this point is armed and it is its time. No destructor runs and nothing is flushed.
pub(crate) fn reach(point: Failpoint) {
    if is_due(point) {
        std::process::abort();
    }
}

/// Whether this point is armed and it is its time, for a fault that is not a death.
#[cfg(debug_assertions)]
pub(crate) fn is_due(point: Failpoint) -> bool {
    armed::is_due(point)
}

/// Waits here, if this point is armed and it is its time, until the process was stopped (SIGSTOP) and continued.
#[cfg(debug_assertions)]
pub(crate) async fn oversleep(point: Failpoint) {
    if is_due(point) {
        armed::standstill().await;
    }
}

/// Stays here for ever once this point was reached.
#[cfg(debug_assertions)]
pub(crate) async fn stall(point: Failpoint) {
    if armed::is_past(point) {
        std::future::pending::<()>().await;
    }
}

/// Goes on at once: this is no debug build.
#[cfg(not(debug_assertions))]
pub(crate) async fn oversleep(_point: Failpoint) {}

/// As [`oversleep`].
#[cfg(not(debug_assertions))]
pub(crate) async fn stall(_point: Failpoint) {}

/// Never: this is no debug build.
#[cfg(not(debug_assertions))]
pub(crate) const fn is_due(_point: Failpoint) -> bool {
    false
}

#[cfg(debug_assertions)]
mod armed {
    use std::num::NonZeroU32;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use super::Failpoint;

    static ARMED: OnceLock<Armed> = OnceLock::new();

    struct Armed {
        point: Failpoint,
        /// How often it is still to be reached; 0 once it was its time.
        left: AtomicU32,
    }

    /// There is no such point.
    #[derive(Debug, thiserror::Error)]
    #[error("there is no failpoint {wanted:?}; there are: {}", names())]
    pub struct UnknownFailpoint {
        wanted: String,
    }

    fn names() -> String {
        let names: Vec<&str> = Failpoint::ALL.iter().map(|point| point.name()).collect();
        names.join(" ")
    }

    /// Arms one point for the rest of the process: `name`, or `name:3` for the third time that it is reached. The first
    /// call counts.
    ///
    /// # Errors
    /// Another name; the error lists all of them. Or a number that is none.
    pub fn arm(wanted: &str) -> Result<(), UnknownFailpoint> {
        let (point, times) = parse(wanted).ok_or_else(|| UnknownFailpoint {
            wanted: wanted.to_owned(),
        })?;
        ARMED.get_or_init(|| Armed {
            point,
            left: AtomicU32::new(times.get()),
        });
        Ok(())
    }

    fn parse(wanted: &str) -> Option<(Failpoint, NonZeroU32)> {
        let (name, times) = match wanted.split_once(':') {
            Some((name, times)) => (name, times.parse().ok()?),
            None => (wanted, NonZeroU32::MIN),
        };
        let point = Failpoint::ALL.iter().find(|point| point.name() == name)?;
        Some((*point, times))
    }

    pub(super) fn is_due(point: Failpoint) -> bool {
        let due = ARMED.get().is_some_and(|armed| armed.count_down(point));
        if due {
            // The last line of a log that ends here says why it does.
            tracing::warn!(failpoint = point.name(), "reached");
        }
        due
    }

    pub(super) fn is_past(point: Failpoint) -> bool {
        let past = |armed: &Armed| armed.point == point && armed.left.load(Ordering::Relaxed) == 0;
        ARMED.get().is_some_and(past)
    }

    /// Between two looks at the clock while a standstill is waited for, and the least that counts as one.
    const LOOK: Duration = Duration::from_millis(50);
    const STANDSTILL: Duration = Duration::from_secs(5);

    pub(super) async fn standstill() {
        loop {
            let before = Instant::now();
            tokio::time::sleep(LOOK).await;
            if before.elapsed() >= STANDSTILL {
                tracing::warn!("continued after a standstill");
                return;
            }
        }
    }

    impl Armed {
        fn count_down(&self, point: Failpoint) -> bool {
            let less = |left: u32| left.checked_sub(1);
            self.point == point
                && self
                    .left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                    == Ok(1)
        }
    }

    #[cfg(test)]
    mod tests {
        use std::collections::BTreeSet;

        use super::*;

        #[test]
        fn a_name_may_say_which_time_counts() {
            let times = |text| parse(text).map(|(point, times)| (point.name(), times.get()));
            assert_eq!(times("slot-made"), Some(("slot-made", 1)));
            assert_eq!(times("slot-made:3"), Some(("slot-made", 3)));
            for wrong in ["", "slot", "slot-made:", "slot-made:0", "slot-made:x"] {
                assert_eq!(times(wrong), None, "{wrong:?}");
            }
        }

        #[test]
        fn names_are_unique_and_an_unknown_one_lists_them() {
            let unique: BTreeSet<&str> = Failpoint::ALL.iter().map(|point| point.name()).collect();
            assert_eq!(unique.len(), Failpoint::ALL.len());
            let error = arm("?").unwrap_err().to_string();
            assert!(unique.iter().all(|name| error.contains(name)), "{error}");
        }

        #[test]
        fn an_armed_point_is_due_once() {
            let armed = Armed {
                point: Failpoint::SlotMade,
                left: AtomicU32::new(2),
            };
            let due = (0..4).map(|_| armed.count_down(Failpoint::SlotMade));
            assert!(due.eq([false, true, false, false]));
            assert!(!armed.count_down(Failpoint::LakeMade));
        }
    }
}
