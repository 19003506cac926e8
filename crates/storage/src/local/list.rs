//! Listings of a directory tree, page by page.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::io_error;
use super::root::Root;
use super::temp::is_temporary;
use crate::{
    ListPage, ObjectMeta, ObjectPath, Operation, PageToken, StorageError, StorageErrorKind,
};

/// Which files a listing is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    Objects,
    /// Those of uploads that go on or were left behind.
    Temporary,
}

/// One page of at most `limit` files below `prefix`, after the path that `token` holds. In the order of bytes of
/// the whole path, so that a token says all there is to know about the pages before it.
///
/// Holds the names of one directory per level in memory at a time. Skips the files of the other kind, links, anything
/// that is neither file nor directory, and names that are no object paths, which this store cannot have made.
pub(super) fn list_page(
    root: &Root,
    files: Files,
    prefix: Option<&ObjectPath>,
    token: Option<&PageToken>,
    limit: usize,
) -> Result<ListPage, StorageError> {
    let shown = prefix.map_or(root.url(), ObjectPath::as_str);
    let start = match prefix {
        None => Some((root.path().to_path_buf(), String::new())),
        Some(prefix) => root
            .directory(prefix)?
            .map(|directory| (directory, format!("{prefix}/"))),
    };
    let after = token.map(PageToken::as_str);
    let mut page = ListPage::default();
    let mut levels = Vec::new();
    if let Some((directory, prefix)) = start {
        levels.push(
            Level::read(directory, files, &prefix, after).map_err(|error| failed(shown, error))?,
        );
    }
    if !root.path().is_dir() {
        return Err(root.missing(Operation::List, shown));
    }
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.pop() else {
            levels.pop();
            continue;
        };
        let file = level.directory.join(&entry.name);
        if entry.is_directory {
            match Level::read(file, files, &entry.path, after) {
                Ok(below) => levels.push(below),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(shown, error)),
            }
            continue;
        }
        let metadata = match fs::symlink_metadata(&file) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(shown, error)),
        };
        if page.objects.len() == limit {
            page.next = page
                .objects
                .last()
                .map(|last| PageToken::new(last.path.as_str()));
            return Ok(page);
        }
        page.objects.push(ObjectMeta {
            path: ObjectPath::parse(&entry.path)?,
            size: metadata.len(),
            last_modified: metadata.modified().map_err(|error| failed(shown, error))?,
        });
    }
    Ok(page)
}

fn failed(shown: &str, error: io::Error) -> StorageError {
    // Not `NotFound`: that would say that there is nothing below the prefix.
    match error.kind() {
        io::ErrorKind::NotFound => {
            StorageError::new(StorageErrorKind::Unavailable, Operation::List, shown)
                .with_source(error)
        }
        _ => io_error(Operation::List, shown, error),
    }
}

/// What is left to visit of one directory; the next entry is the last of `entries`.
struct Level {
    directory: PathBuf,
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    /// The path below the root; that of a directory ends with `/`, which also puts it in its place among the files.
    path: String,
    is_directory: bool,
}

impl Level {
    /// Reads `directory`, whose entries' paths begin with `prefix`, without what lies at or before `after`.
    fn read(
        directory: PathBuf,
        files: Files,
        prefix: &str,
        after: Option<&str>,
    ) -> io::Result<Self> {
        let mut entries = Vec::new();
        for entry in read_directory(&directory, files)? {
            let (name, is_directory) = entry?;
            let path = if is_directory {
                format!("{prefix}{name}/")
            } else {
                format!("{prefix}{name}")
            };
            let done = after.is_some_and(|after| {
                path.as_str() <= after && !(is_directory && after.starts_with(path.as_str()))
            });
            if !done {
                entries.push(Entry {
                    name,
                    path,
                    is_directory,
                });
            }
        }
        entries.sort_unstable_by(|a, b| b.path.cmp(&a.path));
        Ok(Self { directory, entries })
    }
}

/// Names of the `files` and directories in `directory`, and whether each is a directory.
fn read_directory(
    directory: &Path,
    files: Files,
) -> io::Result<impl Iterator<Item = io::Result<(String, bool)>>> {
    Ok(fs::read_dir(directory)?.filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Err(error)),
        };
        let is_temporary = is_temporary(&entry.file_name());
        let wanted = match files {
            Files::Objects => !is_temporary,
            Files::Temporary => is_temporary || kind.is_dir(),
        };
        if !kind.is_dir() && !kind.is_file() || !wanted {
            return None;
        }
        let name = entry.file_name().into_string().ok()?;
        ObjectPath::parse(&name).ok()?;
        Some(Ok((name, kind.is_dir())))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 9] = [
        "a", "b.c", "b/c", "b/d/e", "b/d.e", "b0", "c/c/c", "c/c.c", "z",
    ];

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        for file in FILES {
            let file = directory.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "x").unwrap();
        }
        (directory, root)
    }

    fn pages(root: &Root, prefix: Option<&str>, limit: usize) -> Vec<Vec<String>> {
        let prefix = prefix.map(|prefix| ObjectPath::parse(prefix).unwrap());
        let mut pages = Vec::new();
        let mut token = None;
        loop {
            let page =
                list_page(root, Files::Objects, prefix.as_ref(), token.as_ref(), limit).unwrap();
            pages.push(
                page.objects
                    .iter()
                    .map(|object| object.path.to_string())
                    .collect(),
            );
            token = page.next;
            if token.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn pages_of_every_size_make_the_same_listing_in_the_order_of_bytes() {
        let (_directory, root) = root();
        let mut expected = FILES.map(str::to_owned).to_vec();
        expected.sort();
        for limit in 1..=FILES.len() + 1 {
            let pages = pages(&root, None, limit);
            assert!(pages.iter().all(|page| page.len() <= limit));
            assert_eq!(pages.len(), FILES.len().div_ceil(limit), "limit {limit}");
            assert_eq!(pages.concat(), expected, "limit {limit}");
        }
    }

    #[test]
    fn a_prefix_is_a_directory() {
        let (_directory, root) = root();
        for limit in 1..4 {
            assert_eq!(
                pages(&root, Some("b"), limit).concat(),
                ["b/c", "b/d.e", "b/d/e"]
            );
            assert_eq!(pages(&root, Some("c/c"), limit).concat(), ["c/c/c"]);
        }
        for nothing in ["a", "b0", "y", "a/b"] {
            assert_eq!(
                pages(&root, Some(nothing), 9).concat(),
                [""; 0],
                "{nothing}"
            );
        }
    }

    #[test]
    fn a_page_that_goes_on_after_its_last_object_was_deleted_loses_nothing() {
        let (directory, root) = root();
        let first = list_page(&root, Files::Objects, None, None, 4).unwrap();
        assert_eq!(first.objects.last().unwrap().path.as_str(), "b/d.e");
        fs::remove_file(directory.path().join("b/d.e")).unwrap();
        let rest = list_page(&root, Files::Objects, None, first.next.as_ref(), 99).unwrap();
        let rest: Vec<_> = rest
            .objects
            .iter()
            .map(|object| object.path.as_str())
            .collect();
        assert_eq!(rest, ["b/d/e", "b0", "c/c.c", "c/c/c", "z"]);
    }

    #[test]
    fn strangers_are_skipped() {
        use std::os::unix::ffi::OsStrExt;
        let (directory, root) = root();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("x.parquet"), "x").unwrap();
        let here = directory.path();
        std::os::unix::fs::symlink(other.path(), here.join("link")).unwrap();
        std::os::unix::fs::symlink(other.path().join("x.parquet"), here.join("link.parquet"))
            .unwrap();
        fs::write(here.join(std::ffi::OsStr::from_bytes(b"\xff.parquet")), "x").unwrap();
        fs::write(here.join("back\\slash.parquet"), "x").unwrap();
        let temp = super::super::temp::TempFile::create(&here.join("b")).unwrap();
        assert_eq!(pages(&root, None, 99).concat().len(), FILES.len());
        drop(temp);
    }

    #[test]
    fn a_vanished_root_is_no_empty_store() {
        let (directory, root) = root();
        directory.close().unwrap();
        assert_eq!(
            list_page(&root, Files::Objects, None, None, 9)
                .unwrap_err()
                .kind(),
            StorageErrorKind::Unavailable
        );
        let prefix = ObjectPath::parse("b").unwrap();
        assert_eq!(
            list_page(&root, Files::Objects, Some(&prefix), None, 9)
                .unwrap_err()
                .kind(),
            StorageErrorKind::Unavailable
        );
    }
}
