//! Object storage for immutable files: create-only puts, multipart uploads, one conformance suite.
//!
//! [`Storage`] is the trait, and its documentation the contract that all backends and layers keep. [`LocalStorage`]
//! keeps objects as files below a directory; `S3Storage` and `GcsStorage` (features `s3` and `gcs`) in a bucket;
//! [`RetryStorage`] wraps any store and repeats what failed for a passing
//! reason; [`open`] opens a store by its URL. With the feature `testing`, `storage::testing` holds the
//! conformance suite and a store that fails on demand.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod bucket;
mod error;
mod factory;
#[cfg(feature = "gcs")]
mod gcs;
mod local;
mod options;
mod path;
mod payload;
mod retry;
#[cfg(feature = "s3")]
mod s3;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{Operation, StorageError, StorageErrorKind};
pub use factory::{from_url, open};
#[cfg(feature = "gcs")]
pub use gcs::GcsStorage;
pub use local::LocalStorage;
pub use options::{CreateOnly, GcsOptions, S3Options, StoreOptions};
pub use path::ObjectPath;
pub use payload::PutPayload;
pub use retry::{RetryPolicy, RetryStorage};
#[cfg(feature = "s3")]
pub use s3::S3Storage;
pub use store::{
    ListPage, MultipartUpload, ObjectMeta, OpenUpload, PageToken, Storage, UploadPage,
};
