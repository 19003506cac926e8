//! A prefix in a bucket, the root of every object store.

use crate::{ObjectPath, Operation, StorageError, StorageErrorKind};

/// What `s3://bucket/some/prefix` names. The prefix is taken literally, as DuckDB takes it: `%20` are three characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketRoot {
    scheme: &'static str,
    bucket: String,
    /// Without `/` at its ends; `None` for the whole bucket.
    prefix: Option<ObjectPath>,
}

impl BucketRoot {
    /// Reads what follows `scheme://`.
    pub(crate) fn parse(scheme: &'static str, rest: &str) -> Result<Self, StorageError> {
        let invalid = |detail: &'static str| {
            let shown = crate::factory::shown(&format!("{scheme}://{rest}"));
            StorageError::new(StorageErrorKind::InvalidPath, Operation::Open, shown)
                .with_detail(detail)
        };
        if rest.contains(['?', '#']) {
            return Err(invalid(
                "the URL of a bucket has neither query nor fragment; settings have keys of their own",
            ));
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains(['@', ':']) {
            return Err(invalid(
                "the URL of a bucket has no user, password or port; settings have keys of their own",
            ));
        }
        let well_formed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if bucket.is_empty() || !bucket.bytes().all(well_formed) {
            return Err(invalid("there is no valid name of a bucket after '://'"));
        }
        let prefix = match prefix.strip_suffix('/').unwrap_or(prefix) {
            "" => None,
            prefix => Some(
                ObjectPath::parse(prefix)
                    .map_err(|error| invalid("the prefix is no valid path").with_source(error))?,
            ),
        };
        Ok(Self {
            scheme,
            bucket: bucket.to_owned(),
            prefix,
        })
    }

    /// With a `/` at its end, as [`Storage::url`](crate::Storage::url) wants it.
    pub(crate) fn url(&self) -> String {
        format!(
            "{}://{}/{}",
            self.scheme,
            self.bucket,
            self.key_prefix(None)
        )
    }

    /// What the keys of all objects below `prefix` begin with: empty for a whole bucket, with a `/` at its end
    /// otherwise.
    pub(crate) fn key_prefix(&self, prefix: Option<&ObjectPath>) -> String {
        match (&self.prefix, prefix) {
            (None, None) => String::new(),
            (Some(root), None) => format!("{root}/"),
            (None, Some(prefix)) => format!("{prefix}/"),
            (Some(root), Some(prefix)) => format!("{root}/{prefix}/"),
        }
    }
}

/// What the clients of buckets need.
#[cfg(any(test, feature = "s3", feature = "gcs"))]
impl BucketRoot {
    /// The name of the bucket.
    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key of an object.
    pub(crate) fn key(&self, path: &ObjectPath) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{path}"),
            None => path.to_string(),
        }
    }

    /// The path of the object with this key; `None` if it is not below the root or is none that a store of ours can
    /// have made, such as the placeholders of directories that some tools make.
    pub(crate) fn path(&self, key: &str) -> Option<ObjectPath> {
        ObjectPath::parse(key.strip_prefix(&self.key_prefix(None))?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(rest: &str) -> BucketRoot {
        BucketRoot::parse("s3", rest).unwrap()
    }

    #[test]
    fn keys_and_paths_are_each_others_inverse() {
        let path = ObjectPath::parse("main/t/x y%20.parquet").unwrap();
        for (rest, url, key) in [
            ("b", "s3://b/", "main/t/x y%20.parquet"),
            ("b/", "s3://b/", "main/t/x y%20.parquet"),
            ("b/p", "s3://b/p/", "p/main/t/x y%20.parquet"),
            ("b/p/q r/", "s3://b/p/q r/", "p/q r/main/t/x y%20.parquet"),
        ] {
            let root = root(rest);
            assert_eq!(root.url(), url);
            assert_eq!(root.key(&path), key);
            assert_eq!(root.path(key), Some(path.clone()));
        }
        assert_eq!(root("b/p").bucket(), "b");
        assert_eq!(root("b/p").path("q/x"), None);
        assert_eq!(root("b/p").path("p"), None);
        assert_eq!(root("b/p").path("p/dir/"), None);
    }

    #[test]
    fn a_prefix_ends_with_a_slash() {
        let below = ObjectPath::parse("main").unwrap();
        assert_eq!(root("b").key_prefix(None), "");
        assert_eq!(root("b").key_prefix(Some(&below)), "main/");
        assert_eq!(root("b/p").key_prefix(None), "p/");
        assert_eq!(root("b/p").key_prefix(Some(&below)), "p/main/");
    }

    #[test]
    fn anything_but_bucket_and_prefix_is_refused_without_showing_it() {
        for rest in [
            "",
            "/p",
            "b//p",
            "b/p//",
            "b/../p",
            "b?region=x",
            "b#x",
            "b:9000/p",
            "sp ace/p",
        ] {
            assert!(BucketRoot::parse("s3", rest).is_err(), "{rest}");
        }
        let error = BucketRoot::parse("s3", "key:secret@b/p?token=secret").unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("secret"),
            "{error:?}"
        );
    }
}
