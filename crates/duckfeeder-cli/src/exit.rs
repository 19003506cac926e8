//! How the process ends: exit codes, and how errors are told.

use std::error::Error as StdError;
use std::fmt::Write as _;

use duckfeeder::ErrorKind;
use feeder_core::FeederError;

use crate::config::ConfigError;

/// The exit codes. Part of the interface: scripts depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// A check failed, the feeder is unhealthy, or a wait ended without what was waited for.
    Unhealthy = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// A permanent error at the source.
    Source = 3,
    /// A permanent error at the catalog or the store.
    Catalog = 4,
}

impl Exit {
    fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Config => Self::Usage,
            ErrorKind::Source | ErrorKind::Gap | ErrorKind::Data => Self::Source,
            // Catalog, Storage, Fenced, Internal, and whatever a later version adds.
            _ => Self::Catalog,
        }
    }
}

/// An error that ends the process.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    remedy: Option<String>,
}

/// What commands return.
pub(crate) type Result<T = Exit> = std::result::Result<T, Failure>;

impl Failure {
    /// Wrong usage.
    pub(crate) fn usage(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            message: message.into(),
            causes: Vec::new(),
            remedy: Some(remedy.into()),
        }
    }

    /// Adds the cause.
    pub(crate) fn caused_by(mut self, cause: &dyn StdError) -> Self {
        self.causes = causes(Some(cause));
        self
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The whole story: message, causes, remedy, a line each.
    pub(crate) fn story(&self) -> String {
        let mut story = format!("error: {}\n", self.message);
        // Writing to a string cannot fail.
        for cause in &self.causes {
            let _ = writeln!(story, "  because: {cause}");
        }
        if let Some(remedy) = &self.remedy {
            let _ = writeln!(story, "remedy: {remedy}");
        }
        story
    }
}

/// The chain of causes that begins with this one.
fn causes(mut next: Option<&dyn StdError>) -> Vec<String> {
    let mut causes = Vec::new();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Some errors repeat their cause.
        if causes.last() != Some(&text) {
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self {
            exit: Exit::Usage,
            message: error.to_string(),
            causes: causes(error.source()),
            remedy: Some(error.remedy().to_owned()),
        }
    }
}

impl From<FeederError> for Failure {
    fn from(error: FeederError) -> Self {
        duckfeeder::Error::from(error).into()
    }
}

impl From<duckfeeder::Error> for Failure {
    fn from(error: duckfeeder::Error) -> Self {
        Self {
            exit: Exit::of(error.kind()),
            message: error.to_string(),
            causes: causes(error.source()),
            remedy: error.remedy().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_documented_codes() {
        for (kind, code) in [
            (ErrorKind::Config, 2),
            (ErrorKind::Source, 3),
            (ErrorKind::Gap, 3),
            (ErrorKind::Data, 3),
            (ErrorKind::Catalog, 4),
            (ErrorKind::Storage, 4),
            (ErrorKind::Fenced, 4),
            (ErrorKind::Internal, 4),
        ] {
            assert_eq!(Exit::of(kind) as u8, code, "{kind:?}");
        }
    }

    #[test]
    fn the_story_is_message_causes_remedy() {
        let cause = std::io::Error::other("disk on fire");
        let error = FeederError::permanent(ErrorKind::Storage, "store /lake cannot be written")
            .with_source(cause)
            .with_remedy("put it out");
        assert_eq!(
            Failure::from(error).story(),
            "error: store /lake cannot be written\n  because: disk on fire\nremedy: put it out\n"
        );
    }
}
