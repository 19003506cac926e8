//! The error of this crate.

use std::fmt;
use std::sync::Arc;

use feeder_core::{FeederError, FeederErrorKind};

/// Why a feeder cannot be built, or why it ended. The message names the object it is about, and
/// holds neither row values nor secrets. Cheap to clone: everybody who waits for a feeder gets the
/// same one.
#[derive(Clone)]
pub struct Error(Arc<FeederError>);

impl Error {
    /// Where the error belongs.
    pub fn kind(&self) -> FeederErrorKind {
        self.0.kind()
    }

    /// Whether the same call may succeed later without a change of the configuration.
    pub fn is_transient(&self) -> bool {
        self.0.is_transient()
    }

    /// What to do about it, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.0.remedy()
    }

    pub(crate) fn config(message: impl Into<String>, remedy: &str) -> Self {
        FeederError::permanent(FeederErrorKind::Config, message)
            .with_remedy(remedy)
            .into()
    }
}

impl From<FeederError> for Error {
    fn from(error: FeederError) -> Self {
        Self(Arc::new(error))
    }
}

impl From<Arc<FeederError>> for Error {
    fn from(error: Arc<FeederError>) -> Self {
        Self(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(self.0.as_ref())
    }
}
