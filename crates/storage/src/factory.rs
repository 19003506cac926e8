//! Stores by their URL.

use std::path::Path;
use std::sync::Arc;

use url::Url;

use crate::bucket::BucketRoot;
use crate::{
    GcsOptions, LocalStorage, Operation, S3Options, Storage, StorageError, StorageErrorKind,
    StoreOptions,
};

/// [`open`] without options.
///
/// # Errors
/// As [`open`].
pub fn from_url(url: &str) -> Result<Arc<dyn Storage>, StorageError> {
    open(url, &StoreOptions::default())
}

/// Opens the store that `url` names: `s3://bucket/prefix` (feature `s3`), `gs://bucket/prefix` (feature `gcs`),
/// `file:///srv/lake`, or a plain absolute path such as `/srv/lake`, which is taken literally, as is the prefix in a
/// bucket. May block for a moment for a directory, as [`LocalStorage::open`] does; a bucket is not asked before the
/// first operation.
///
/// # Errors
/// [`InvalidPath`](StorageErrorKind::InvalidPath) if it is neither an absolute path nor a URL,
/// [`Unsupported`](StorageErrorKind::Unsupported) for other schemes and for those whose feature is off, and what
/// opening the store reports. Messages leave out user information and query of the URL.
pub fn open(url: &str, options: &StoreOptions) -> Result<Arc<dyn Storage>, StorageError> {
    if url.starts_with('/') {
        return open_local(Path::new(url));
    }
    match url.split_once("://") {
        Some(("s3", rest)) => return open_s3(rest, &options.s3),
        Some(("gs", rest)) => return open_gcs(rest, &options.gcs),
        _ => {}
    }
    let parsed = Url::parse(url).map_err(|error| {
        invalid(url, "a store is named by an absolute path or by a URL").with_source(error)
    })?;
    match parsed.scheme() {
        "file" => open_local(&file_path(url, &parsed)?),
        scheme => {
            let detail = format!("stores with the URL scheme '{scheme}' are not supported");
            Err(
                StorageError::new(StorageErrorKind::Unsupported, Operation::Open, shown(url))
                    .with_detail(detail)
                    .with_remedy("name the store by s3://bucket/prefix, gs://bucket/prefix, or file:///directory"),
            )
        }
    }
}

#[cfg(feature = "s3")]
fn open_s3(rest: &str, options: &S3Options) -> Result<Arc<dyn Storage>, StorageError> {
    let root = BucketRoot::parse("s3", rest)?;
    Ok(Arc::new(crate::s3::S3Storage::open(root, options)?))
}

#[cfg(not(feature = "s3"))]
fn open_s3(rest: &str, _options: &S3Options) -> Result<Arc<dyn Storage>, StorageError> {
    Err(without_feature(
        &BucketRoot::parse("s3", rest)?,
        "build with the feature 's3'",
    ))
}

#[cfg(feature = "gcs")]
fn open_gcs(rest: &str, options: &GcsOptions) -> Result<Arc<dyn Storage>, StorageError> {
    let root = BucketRoot::parse("gs", rest)?;
    Ok(Arc::new(crate::gcs::GcsStorage::open(root, options)?))
}

#[cfg(not(feature = "gcs"))]
fn open_gcs(rest: &str, _options: &GcsOptions) -> Result<Arc<dyn Storage>, StorageError> {
    Err(without_feature(
        &BucketRoot::parse("gs", rest)?,
        "build with the feature 'gcs'",
    ))
}

#[cfg(not(all(feature = "s3", feature = "gcs")))]
fn without_feature(root: &BucketRoot, remedy: &'static str) -> StorageError {
    StorageError::new(StorageErrorKind::Unsupported, Operation::Open, root.url())
        .with_detail("this build has no client for stores of this kind")
        .with_remedy(remedy)
}

fn open_local(root: &Path) -> Result<Arc<dyn Storage>, StorageError> {
    Ok(Arc::new(LocalStorage::open(root)?))
}

fn file_path(url: &str, parsed: &Url) -> Result<std::path::PathBuf, StorageError> {
    // The parser would make `/lake` out of `file:lake`.
    let absolute = url
        .split_once(':')
        .is_some_and(|(_, rest)| rest.starts_with('/'));
    if !absolute {
        return Err(invalid(
            url,
            "a file URL must hold an absolute path, as in file:///srv/lake",
        ));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(invalid(
            url,
            "a file URL must have neither query nor fragment; write '?' as %3F and '#' as %23",
        ));
    }
    parsed.to_file_path().map_err(|()| {
        invalid(
            url,
            "a file URL must name no other host, as in file:///srv/lake with three slashes",
        )
    })
}

fn invalid(url: &str, detail: &'static str) -> StorageError {
    StorageError::new(StorageErrorKind::InvalidPath, Operation::Open, shown(url))
        .with_detail(detail)
}

/// `url` without the places where people put secrets.
pub(crate) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.rsplit_once('@') {
        None => url.to_owned(),
        Some((before, after)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://{after}"),
            None => after.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> StorageError {
        from_url(url).unwrap_err()
    }

    #[test]
    fn file_urls_and_absolute_paths_open_the_same_directory() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap().join("a lake");
        let root = root.to_str().unwrap();
        let expected = format!("{root}/");
        assert_eq!(from_url(root).unwrap().url(), expected);
        assert_eq!(from_url(&format!("{root}/")).unwrap().url(), expected);
        let encoded = root.replace(' ', "%20");
        for prefix in ["file://", "file:", "FILE://", "file://localhost"] {
            assert_eq!(
                from_url(&format!("{prefix}{encoded}")).unwrap().url(),
                expected
            );
        }
    }

    #[test]
    fn other_schemes_are_refused_by_name() {
        for (url, scheme) in [
            ("gcs://bucket", "'gcs'"),
            ("s3a://bucket/lake", "'s3a'"),
            ("http://x/", "'http'"),
        ] {
            let error = error(url);
            assert_eq!(error.kind(), StorageErrorKind::Unsupported);
            assert!(error.to_string().contains(scheme), "{error}");
        }
    }

    #[test]
    fn relative_and_foreign_paths_are_refused() {
        for url in [
            "lake",
            "./lake",
            "",
            "file:lake",
            "file://server/lake",
            "file:///lake?x",
            "file:///lake#x",
        ] {
            assert_eq!(error(url).kind(), StorageErrorKind::InvalidPath, "{url:?}");
        }
    }

    #[test]
    fn secrets_in_a_url_stay_out_of_the_error() {
        for url in [
            "s3://key:hunter2@bucket/lake",
            "s3://bucket/lake?secret=hunter2",
            "key:hunter2@bucket",
        ] {
            let error = error(url);
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }
}
