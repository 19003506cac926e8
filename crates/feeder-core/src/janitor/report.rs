//! What a janitor found, and what became of it.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;
use storage::ObjectPath;

use super::{Deleted, file_name};
use crate::FeederError;

/// Entries of a section that are kept; all are counted.
const KEPT: usize = 10_000;

/// What one run of a [`Janitor`](super::Janitor) found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Whether nothing was deleted, only looked for.
    pub dry_run: bool,
    /// Files that a feeder declared and never committed.
    pub declared: Section,
    /// Objects of duckfeeder's that nothing names.
    pub stray: Section,
    /// Uploads that were begun and never completed.
    pub uploads: Section,
    /// Files that the catalog scheduled for deletion.
    pub scheduled: Section,
}

/// One of the four kinds of things that a janitor looks for.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Section {
    /// What they are, for people.
    #[serde(skip)]
    title: &'static str,
    /// Files that were removed, or would be in a dry run.
    pub files: u64,
    /// Their bytes, as far as they are known; parts of open uploads have no known size.
    pub bytes: u64,
    /// Files without an object any more: only their rows were, or would be, removed.
    pub already_gone: u64,
    /// Files that are left because removing them would be wrong.
    pub refused: u64,
    /// Files that the store failed to remove; the next run tries again.
    pub failed: u64,
    /// Why the section ended before its time.
    pub error: Option<String>,
    /// The files one by one, up to 10,000 of them.
    pub entries: Vec<Entry>,
}

/// A file in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Entry {
    /// Path below the data path; the whole path of a file elsewhere.
    pub path: String,
    /// Size, where it is known.
    pub bytes: Option<u64>,
    /// Time since it was declared, stored, begun or scheduled.
    pub age_seconds: u64,
    /// Why the janitor looked at it.
    pub why: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was refused, or what the store said.
    pub problem: Option<String>,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It is still there; without the dry run it would have been removed.
    WouldRemove,
    /// It is gone.
    Removed,
    /// It is left where it is, for the reason given.
    Refused,
    /// The store failed to remove it.
    Failed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::WouldRemove => "would remove",
            Self::Removed => "removed",
            Self::Refused => "refused",
            Self::Failed => "FAILED",
        }
    }
}

/// Something that may be removed.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: ObjectPath,
    pub(super) bytes: Option<u64>,
    age: Duration,
    why: &'static str,
}

impl Found {
    pub(super) fn new(path: ObjectPath, age: Duration, why: &'static str) -> Self {
        Self {
            path,
            bytes: None,
            age,
            why,
        }
    }

    /// Its last segment.
    pub(super) fn name(&self) -> &str {
        file_name::of(self.path.as_str())
    }

    fn entry(self, outcome: Outcome, problem: Option<String>) -> Entry {
        Entry {
            path: self.path.to_string(),
            bytes: self.bytes,
            age_seconds: self.age.as_secs(),
            why: self.why,
            outcome,
            problem,
        }
    }
}

impl Report {
    pub(crate) fn new(dry_run: bool) -> Self {
        Self {
            dry_run,
            declared: Section::new("files that were declared and never committed"),
            stray: Section::new("objects that nothing names"),
            uploads: Section::new("uploads that were never completed"),
            scheduled: Section::new("files that the catalog scheduled for deletion"),
        }
    }

    /// The four sections.
    pub fn sections(&self) -> [&Section; 4] {
        [&self.declared, &self.stray, &self.uploads, &self.scheduled]
    }

    /// Whether everything that should be gone is, or would be.
    pub fn complete(&self) -> bool {
        self.sections()
            .iter()
            .all(|section| section.failed == 0 && section.error.is_none())
    }

    /// Files that were removed, or would be in a dry run.
    pub fn files(&self) -> u64 {
        self.sections().iter().map(|section| section.files).sum()
    }

    /// Their bytes, as far as they are known.
    pub fn bytes(&self) -> u64 {
        self.sections().iter().map(|section| section.bytes).sum()
    }
}

impl Section {
    fn new(title: &'static str) -> Self {
        Self {
            title,
            files: 0,
            bytes: 0,
            already_gone: 0,
            refused: 0,
            failed: 0,
            error: None,
            entries: Vec::new(),
        }
    }

    /// Adds a file with the store's answer; there is none in a dry run.
    pub(super) fn found(&mut self, file: Found, answer: Option<Deleted>) {
        let (outcome, problem) = match answer {
            None => (Outcome::WouldRemove, None),
            Some(Ok(())) => (Outcome::Removed, None),
            Some(Err(error)) => {
                self.failed += 1;
                return self.keep(file.entry(Outcome::Failed, Some(error.to_string())));
            }
        };
        self.files += 1;
        self.bytes = self.bytes.saturating_add(file.bytes.unwrap_or_default());
        self.keep(file.entry(outcome, problem));
    }

    pub(super) fn refuse(&mut self, file: Found, reason: &str) {
        self.refused += 1;
        self.keep(file.entry(Outcome::Refused, Some(reason.to_owned())));
    }

    /// A file that is not in the store at hand.
    pub(super) fn refuse_elsewhere(&mut self, path: &str, age: Duration, why: &'static str) {
        self.refused += 1;
        self.keep(Entry {
            path: path.to_owned(),
            bytes: None,
            age_seconds: age.as_secs(),
            why,
            outcome: Outcome::Refused,
            problem: Some("it is not below the lake's data path".to_owned()),
        });
    }

    pub(super) fn end(&mut self, result: Result<(), FeederError>) {
        self.error = result.err().map(|error| match error.remedy() {
            Some(remedy) => format!("{error}; remedy: {remedy}"),
            None => error.to_string(),
        });
    }

    fn keep(&mut self, entry: Entry) {
        if self.entries.len() < KEPT {
            self.entries.push(entry);
        }
    }
}

/// A heading for each kind, a line for each file, and the sum.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in self.sections() {
            section.fmt(f)?;
        }
        let (files, size) = (self.files(), ByteSize(self.bytes()));
        let would_be = if self.dry_run { "would be " } else { "" };
        write!(f, "{files} files, {size}, {would_be}removed")?;
        if !self.complete() {
            f.write_str("; not all could be looked at or removed")?;
        }
        Ok(())
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries.is_empty() && self.error.is_none() && self.already_gone == 0 {
            return writeln!(f, "{}: none", self.title);
        }
        write!(
            f,
            "{}: {}, {}",
            self.title,
            self.files,
            ByteSize(self.bytes)
        )?;
        for (count, what) in [
            (self.already_gone, "without an object"),
            (self.refused, "refused"),
            (self.failed, "failed"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        f.write_str("\n")?;
        for entry in &self.entries {
            writeln!(f, "  {entry}")?;
        }
        let counted = self.files + self.refused + self.failed;
        let kept = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        if counted > kept {
            writeln!(f, "  and {} more", counted - kept)?;
        }
        match &self.error {
            Some(error) => writeln!(f, "  error: {error}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self
            .bytes
            .map_or_else(|| "-".to_owned(), |bytes| ByteSize(bytes).to_string());
        let age = humantime::format_duration(Duration::from_secs(self.age_seconds));
        write!(
            f,
            "{:<12}  {}  {size}  {age} old, {}",
            self.outcome.as_str(),
            self.path,
            self.why
        )?;
        match &self.problem {
            Some(problem) => write!(f, ": {problem}"),
            None => Ok(()),
        }
    }
}
