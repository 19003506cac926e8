//! Where things lie below the data path (DuckLake specification, "Paths").

use uuid::Uuid;

use crate::{CatalogError, CatalogErrorKind};

/// The directory of a schema or table, with its trailing slash: the name when it is harmless in
/// every store, else the object's uuid.
pub(crate) fn object_directory(name: &str, uuid: Uuid) -> String {
    let harmless = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if harmless {
        format!("{name}/")
    } else {
        format!("{uuid}/")
    }
}

/// Whether a relative path equals what a listing of the data path returns. Any other spelling makes
/// DuckDB take the live file for an orphan and delete it.
pub(crate) fn is_clean_relative_path(path: &str) -> bool {
    !path.contains('\\')
        && path
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."))
}

/// Brings a data path into the form that the catalog stores: absolute, with a trailing slash, and
/// without the `file://` that DuckDB would keep in every path.
pub(crate) fn normalize_data_path(path: &str) -> Result<String, CatalogError> {
    let invalid = || CatalogError::new(CatalogErrorKind::InvalidDataPath, path);
    let local = match path.strip_prefix("file://") {
        Some(rest) => Some(rest.strip_prefix("localhost").unwrap_or(rest)),
        None => path.starts_with('/').then_some(path),
    };
    let (prefix, below) = if let Some(path) = local {
        ("/".to_owned(), path.strip_prefix('/').ok_or_else(invalid)?)
    } else {
        let (scheme, rest) = path.split_once("://").ok_or_else(invalid)?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_scheme || rest.is_empty() {
            return Err(invalid());
        }
        (format!("{scheme}://"), rest)
    };
    let below = below.strip_suffix('/').unwrap_or(below);
    if below.is_empty() {
        // The root of the file system: legal, if nothing that one would want.
        return Ok(prefix);
    }
    if !is_clean_relative_path(below) {
        return Err(invalid());
    }
    Ok(format!("{prefix}{below}/"))
}

/// Whether a path of the catalog stands for itself. No schema or table has such a name as a
/// directory: [`object_directory`].
pub(crate) fn is_absolute(path: &str) -> bool {
    path.starts_with('/') || path.contains("://")
}

/// How the directory of a table is stored below a schema's: the rest of the path when it lies in the
/// schema's directory, else the whole of it. The directories are absolute, or relative to
/// `data_path`; the flag is `path_is_relative`.
pub(crate) fn stored_below(directory: &str, schema: &str, data_path: &str) -> (String, bool) {
    let whole = |path: &str| join(data_path, path, !is_absolute(path));
    let directory = whole(directory);
    match directory.strip_prefix(&whole(schema)) {
        Some(rest) if !rest.is_empty() => (rest.to_owned(), true),
        _ => (directory, false),
    }
}

/// Joins a path with the directory that it is relative to.
pub(crate) fn join(parent: &str, path: &str, is_relative: bool) -> String {
    if is_relative {
        format!("{parent}{path}")
    } else {
        path.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_harmless_names_are_the_names() {
        let uuid = Uuid::nil();
        for name in ["orders", "Orders_2-b", "9"] {
            assert_eq!(object_directory(name, uuid), format!("{name}/"));
        }
        for name in ["we ird", "a/b", "", ".", "..", "ä", "a.b", "a%20"] {
            assert_eq!(
                object_directory(name, uuid),
                "00000000-0000-0000-0000-000000000000/",
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_table_outside_of_its_schema_has_a_path_that_stands_for_itself() {
        for (directory, schema, stored, is_relative) in [
            ("raw/t/", "raw/", "t/", true),
            ("raw/t/", "other/", "/lake/raw/t/", false),
            ("/lake/raw/t/", "raw/", "t/", true),
            ("/mnt/t/", "raw/", "/mnt/t/", false),
            ("raw/t/", "/lake/raw/", "t/", true),
            ("raw2/t/", "raw/", "/lake/raw2/t/", false),
            ("raw/", "raw/", "/lake/raw/", false),
        ] {
            let found = stored_below(directory, schema, "/lake/");
            assert_eq!(
                found,
                (stored.to_owned(), is_relative),
                "{directory} {schema}"
            );
        }
        let moved = stored_below("raw/t/", "other/", "s3://bucket/lake/");
        assert_eq!(moved, ("s3://bucket/lake/raw/t/".to_owned(), false));
    }

    #[test]
    fn only_paths_that_a_listing_returns_are_clean() {
        for path in ["a.parquet", "2024/a.parquet", "a b/c"] {
            assert!(is_clean_relative_path(path), "{path}");
        }
        for path in ["", "/a", "a//b", "./a", "a/./b", "../a", "a/", "a\\b"] {
            assert!(!is_clean_relative_path(path), "{path}");
        }
    }

    #[test]
    fn data_paths_are_absolute_and_end_in_a_slash() {
        for (given, stored) in [
            ("/srv/lake", "/srv/lake/"),
            ("/srv/lake/", "/srv/lake/"),
            ("file:///srv/lake", "/srv/lake/"),
            ("file://localhost/srv/lake/", "/srv/lake/"),
            ("s3://bucket", "s3://bucket/"),
            ("s3://bucket/a/b/", "s3://bucket/a/b/"),
            ("gs://bucket/a", "gs://bucket/a/"),
        ] {
            assert_eq!(normalize_data_path(given).unwrap(), stored);
        }
        for given in [
            "",
            "lake",
            "./lake",
            "s3://",
            "s3:///a",
            "s3://b//c",
            "/a//b",
            "/a/../b",
            "/a//",
            "file://host/a",
            "://a",
            "3s://b",
        ] {
            let error = normalize_data_path(given).unwrap_err();
            assert_eq!(
                error.kind(),
                &CatalogErrorKind::InvalidDataPath,
                "{given:?}"
            );
        }
    }
}
