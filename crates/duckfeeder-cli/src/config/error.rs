//! What is wrong with a configuration: the key, the place, the remedy.

use std::error::Error as StdError;
use std::fmt;

use super::origin::Origin;

/// A configuration that cannot be used. Never holds a secret.
#[derive(Debug)]
pub(crate) struct ConfigError {
    message: String,
    place: Option<Origin>,
    remedy: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl ConfigError {
    /// An error and what to do about it. The message names the key.
    pub(crate) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
            remedy: remedy.into(),
            cause: None,
        }
    }

    /// Adds where the value was found.
    pub(crate) fn at(mut self, place: &Origin) -> Self {
        if *place != Origin::Default {
            self.place = Some(place.clone());
        }
        self
    }

    /// Adds the cause.
    pub(crate) fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.place {
            Some(place) => write!(f, " ({place})"),
            None => Ok(()),
        }
    }
}

impl StdError for ConfigError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            Some(cause) => Some(cause.as_ref()),
            None => None,
        }
    }
}
