//! Where a value comes from. Every value remembers it: errors and `config show` name it.

use std::fmt;
use std::sync::Arc;

/// The place of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A command line flag, with its dashes.
    Flag(&'static str),
    /// An environment variable.
    Environment(String),
    /// A line of the configuration file, from 1.
    File {
        /// The path as it was given.
        path: Arc<str>,
        /// The line, from 1.
        line: usize,
    },
    /// Nobody said anything.
    Default,
}

impl Origin {
    /// Precedence: the greater one wins.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Flag(_) => 3,
            Self::Environment(_) => 2,
            Self::File { .. } => 1,
            Self::Default => 0,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Default => f.write_str("default"),
        }
    }
}
