//! The one error type of the feeder, and what an operator can do about it.

use std::fmt;

use crate::control::ControlError;

/// Where an error belongs; decides retry and exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeederErrorKind {
    /// The configuration is wrong or does not fit the databases.
    Config,
    /// The source Postgres.
    Source,
    /// Changes between the checkpoint and the slot are lost; never resumed over (I12).
    Gap,
    /// The catalog Postgres or the lake in it.
    Catalog,
    /// The object store.
    Storage,
    /// Another feeder of this name took over, or runs already (I8).
    Fenced,
    /// A value or a message that could not be decoded or encoded.
    Data,
    /// A buffer of an append stream is full, or dropped the row to make room.
    Overflow,
    /// The feeder or append stream was stopped.
    Stopped,
    /// A defect of duckfeeder itself.
    Internal,
}

/// An error of the feeder: its kind, the object it is about, and a remedy where one is known.
pub struct FeederError {
    kind: FeederErrorKind,
    transient: bool,
    message: String,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl FeederError {
    /// A permanent error: trying again without a change would fail again.
    pub fn permanent(kind: FeederErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            transient: false,
            message: message.into(),
            remedy: None,
            source: None,
        }
    }

    /// An error that may pass by itself.
    pub fn transient(kind: FeederErrorKind, message: impl Into<String>) -> Self {
        Self {
            transient: true,
            ..Self::permanent(kind, message)
        }
    }

    /// Adds what the operator can do.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Names what the error is about, unless its message does already.
    #[must_use]
    pub(crate) fn about(mut self, object: &str) -> Self {
        if !self.message.contains(object) {
            self.message = format!("{object}: {}", self.message);
        }
        self
    }

    /// The same error, for one more that is told.
    pub(crate) fn shared(error: &Self) -> Self {
        Self {
            kind: error.kind,
            transient: error.transient,
            message: error.message.clone(),
            remedy: error.remedy.clone(),
            source: error
                .source
                .as_ref()
                .map(|source| Box::from(source.to_string())),
        }
    }

    /// Where the error belongs.
    pub fn kind(&self) -> FeederErrorKind {
        self.kind
    }

    /// Whether trying again may help. Errors are transient unless proven permanent.
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// The message with its cause, on one line: for status and log.
    pub fn explained(&self) -> String {
        match self.source.as_ref().map(ToString::to_string) {
            // Some messages repeat their cause.
            Some(cause) if !self.message.contains(&cause) => format!("{}: {cause}", self.message),
            _ => self.message.clone(),
        }
    }

    /// What the operator can do, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

impl fmt::Display for FeederError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for FeederError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeederError")
            .field("kind", &self.kind)
            .field("transient", &self.transient)
            .field("message", &self.message)
            .field("remedy", &self.remedy)
            .field("source", &self.source)
            .finish()
    }
}

impl std::error::Error for FeederError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// A store's error, in the feeder's terms.
pub(crate) fn from_storage(error: storage::StorageError) -> FeederError {
    let transient = error.is_transient();
    let remedy = error.remedy().map(ToString::to_string);
    mapped(FeederErrorKind::Storage, transient, remedy, error)
}

/// The catalog's error, in the feeder's terms. What the feeder's own hook reported comes back as it was.
pub(crate) fn from_catalog(error: ducklake_catalog::CatalogError) -> FeederError {
    if let Some(control) = control_error(&error) {
        return FeederError::from(control);
    }
    let transient = error.is_transient();
    let remedy = error.remedy();
    mapped(FeederErrorKind::Catalog, transient, remedy, error)
}

/// What the feeder's part of a commit failed with, if that is what failed.
pub(crate) fn control_error(error: &ducklake_catalog::CatalogError) -> Option<&ControlError> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref())
}

/// The source's error, in the feeder's terms.
pub(crate) fn from_source(error: cdc_source::SourceError) -> FeederError {
    from_server(FeederErrorKind::Source, error)
}

/// What the source's client says of the server that is meant by `kind`.
pub(crate) fn from_server(kind: FeederErrorKind, error: cdc_source::SourceError) -> FeederError {
    let transient = error.is_transient();
    let remedy = error.remedy();
    mapped(kind, transient, remedy, error)
}

/// An error and what is below it, in words.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some errors repeat their cause.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

fn mapped<E>(
    kind: FeederErrorKind,
    transient: bool,
    remedy: Option<String>,
    error: E,
) -> FeederError
where
    E: std::error::Error + Send + Sync + 'static,
{
    FeederError {
        kind,
        transient,
        message: error.to_string(),
        remedy,
        source: error.source().map(|source| Box::from(chain(source))),
    }
}
