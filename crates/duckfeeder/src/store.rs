//! Where the files of the lake go.

use std::fmt;
use std::sync::Arc;

use feeder_core::{FeederError, FeederErrorKind};
use storage::{Storage, StorageErrorKind};

use crate::Error;

/// Where the files of the lake go.
#[derive(Clone)]
pub enum Store {
    /// A URL such as `file:///srv/lake`.
    Url(String),
    /// A store of the host.
    Opened(Arc<dyn Storage>),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A URL may hold a secret.
            Self::Url(_) => f.write_str("Url(..)"),
            Self::Opened(storage) => write!(f, "Opened({storage})"),
        }
    }
}

impl From<&str> for Store {
    fn from(url: &str) -> Self {
        Self::Url(url.to_owned())
    }
}

impl From<String> for Store {
    fn from(url: String) -> Self {
        Self::Url(url)
    }
}

impl From<Arc<dyn Storage>> for Store {
    fn from(storage: Arc<dyn Storage>) -> Self {
        Self::Opened(storage)
    }
}

impl Store {
    pub(crate) fn open(self) -> Result<Arc<dyn Storage>, Error> {
        match self {
            Self::Opened(storage) => Ok(storage),
            Self::Url(url) => open_store(&url),
        }
    }
}

/// Opens the store that a URL names. The directory of a `file://` store is made if it is missing.
///
/// # Errors
/// Of kind `Config` when the URL names no store that there is, of kind `Storage` when it cannot be
/// opened.
pub fn open_store(url: &str) -> Result<Arc<dyn Storage>, Error> {
    storage::from_url(url).map_err(|error| {
        let kind = match error.kind() {
            StorageErrorKind::InvalidPath | StorageErrorKind::Unsupported => {
                FeederErrorKind::Config
            }
            _ => FeederErrorKind::Storage,
        };
        let opened = FeederError::permanent(kind, format!("storage: {error}"));
        match error.remedy() {
            Some(remedy) => opened.with_remedy(remedy),
            None => opened,
        }
        .into()
    })
}
