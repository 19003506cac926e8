//! Where the files of the lake go.

use std::fmt;
use std::sync::Arc;

use feeder_core::{FeederError, FeederErrorKind};
use storage::{Storage, StorageError, StorageErrorKind, StoreOptions};

use crate::Error;

/// Where the files of the lake go: a URL such as `s3://bucket/prefix` or `file:///srv/lake` with
/// its options, or a store of the host. Cheap to clone.
#[derive(Clone)]
pub struct Store(Place);

#[derive(Clone)]
enum Place {
    Url(String, Box<StoreOptions>),
    Opened(Arc<dyn Storage>),
}

impl Store {
    /// The store that a URL names, with settings that are not part of a URL.
    pub fn with_options(url: impl Into<String>, options: StoreOptions) -> Self {
        Self(Place::Url(url.into(), Box::new(options)))
    }

    /// The URL as it was given; `None` for a store of the host.
    pub fn url(&self) -> Option<&str> {
        match &self.0 {
            Place::Url(url, _) => Some(url),
            Place::Opened(_) => None,
        }
    }

    /// The settings that go with the URL; none for a store of the host.
    pub fn options(&self) -> Option<&StoreOptions> {
        match &self.0 {
            Place::Url(_, options) => Some(options),
            Place::Opened(_) => None,
        }
    }

    /// Opens the store. The directory of a `file://` store is made if it is missing; a bucket is not
    /// asked before it is used.
    ///
    /// # Errors
    /// Of kind `Config` when the URL names no store that there is, of kind `Storage` when it cannot be
    /// opened.
    pub fn open(&self) -> Result<Arc<dyn Storage>, Error> {
        match &self.0 {
            Place::Opened(storage) => Ok(Arc::clone(storage)),
            Place::Url(url, options) => {
                storage::open(url, options).map_err(|error| not_opened(&error))
            }
        }
    }
}

fn not_opened(error: &StorageError) -> Error {
    let kind = match error.kind() {
        StorageErrorKind::InvalidPath | StorageErrorKind::Unsupported => FeederErrorKind::Config,
        _ => FeederErrorKind::Storage,
    };
    let opened = FeederError::permanent(kind, format!("storage: {error}"));
    match error.remedy() {
        Some(remedy) => opened.with_remedy(remedy),
        None => opened,
    }
    .into()
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // A URL may hold a secret.
            Place::Url(..) => f.write_str("Url(..)"),
            Place::Opened(storage) => write!(f, "Opened({storage})"),
        }
    }
}

impl From<&str> for Store {
    fn from(url: &str) -> Self {
        Self::from(url.to_owned())
    }
}

impl From<String> for Store {
    fn from(url: String) -> Self {
        Self::with_options(url, StoreOptions::default())
    }
}

impl From<Arc<dyn Storage>> for Store {
    fn from(storage: Arc<dyn Storage>) -> Self {
        Self(Place::Opened(storage))
    }
}
