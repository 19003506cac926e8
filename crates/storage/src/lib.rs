//! Object storage for immutable files: create-only puts, multipart uploads, one conformance suite.
//!
//! [`Storage`] is the trait, and its documentation the contract that all backends and layers keep. [`LocalStorage`]
//! keeps objects as files below a directory; [`RetryStorage`] wraps any store and repeats what failed for a passing
//! reason; [`from_url`] opens a store by its URL. With the feature `testing`, `storage::testing` holds the
//! conformance suite and a store that fails on demand.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod error;
mod factory;
mod local;
mod path;
mod payload;
mod retry;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{Operation, StorageError, StorageErrorKind};
pub use factory::from_url;
pub use local::LocalStorage;
pub use path::ObjectPath;
pub use payload::PutPayload;
pub use retry::{RetryPolicy, RetryStorage};
pub use store::{ListPage, MultipartUpload, ObjectMeta, PageToken, Storage};
