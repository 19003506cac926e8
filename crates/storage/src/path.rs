//! Names of objects.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Operation, StorageError, StorageErrorKind};

/// Name of an object below the root of its store: one or more segments separated by `/`. Cheap to clone.
///
/// Always clean: no empty, `.` or `..` segment, no `/` at either end, no backslash, no control character. So the
/// string is byte for byte what a glob over the root shows, which DuckLake needs: it takes a file whose stored path
/// differs from the listed one for an orphan, and deletes it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath(Arc<str>);

impl ObjectPath {
    /// Checks `path`; nothing is repaired.
    ///
    /// # Errors
    /// [`StorageErrorKind::InvalidPath`], with the rule that `path` breaks.
    pub fn parse(path: &str) -> Result<Self, StorageError> {
        match broken_rule(path) {
            None => Ok(Self(Arc::from(path))),
            Some(rule) => {
                let shown = path.escape_debug().to_string();
                Err(
                    StorageError::new(StorageErrorKind::InvalidPath, Operation::ParsePath, shown)
                        .with_detail(rule),
                )
            }
        }
    }

    /// The path as a string, without `/` at either end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of `relative` (one or more segments) below this one.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), for `relative`.
    pub fn join(&self, relative: &str) -> Result<Self, StorageError> {
        let relative = Self::parse(relative)?;
        Ok(Self(Arc::from(format!("{self}/{relative}"))))
    }

    /// True if this path lies below `prefix` in the sense of [`Storage::list`](crate::Storage::list): it starts with
    /// `prefix` and a `/`. A path is not below itself.
    pub fn is_below(&self, prefix: &Self) -> bool {
        self.0
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// The segments, first to last; never empty.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
}

fn broken_rule(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("an object path must not be empty");
    }
    if path.contains('\\') {
        return Some("an object path must not contain a backslash");
    }
    if path.chars().any(char::is_control) {
        return Some("an object path must not contain control characters");
    }
    path.split('/').find_map(|segment| match segment {
        "" => Some("an object path must not begin or end with '/', nor contain '//'"),
        "." | ".." => Some("an object path must not contain the segments '.' and '..'"),
        _ => None,
    })
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for ObjectPath {
    type Err = StorageError;

    fn from_str(path: &str) -> Result<Self, StorageError> {
        Self::parse(path)
    }
}

impl AsRef<str> for ObjectPath {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_paths_are_kept_byte_for_byte() {
        for path in [
            "a",
            "a/b",
            "main/t/x.parquet",
            "...",
            "a/..b/c.",
            ".hidden",
            "é b/=%+&?#*",
            "日本/語",
        ] {
            assert_eq!(ObjectPath::parse(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn unclean_paths_are_refused() {
        for path in [
            "", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/./b", "a/../b", "../a",
            "a\\b", "a\0b", "a\nb", "a\u{7f}",
        ] {
            let error = ObjectPath::parse(path).unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::InvalidPath, "{path:?}");
        }
    }

    #[test]
    fn a_refused_path_is_escaped_in_the_message() {
        let error = ObjectPath::parse("a\n\0b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "parse path 'a\\n\\0b': an object path must not contain control characters"
        );
    }

    #[test]
    fn join_checks_what_it_appends() {
        let base = ObjectPath::parse("main/t").unwrap();
        assert_eq!(
            base.join("y=1/x.parquet").unwrap().as_str(),
            "main/t/y=1/x.parquet"
        );
        for relative in ["", "/x", "x/", "../x", "a//b"] {
            assert!(base.join(relative).is_err(), "{relative:?}");
        }
    }

    #[test]
    fn below_means_below_a_directory() {
        let path = |path| ObjectPath::parse(path).unwrap();
        assert!(path("a/b/c").is_below(&path("a/b")));
        assert!(path("a/b/c").is_below(&path("a")));
        assert!(!path("a/bc").is_below(&path("a/b")));
        assert!(!path("a/b").is_below(&path("a/b")));
        assert!(!path("a").is_below(&path("a/b")));
    }
}
