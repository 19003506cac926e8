//! The directory that holds a store, and the way from object paths to files below it.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::io_error;
use super::temp::{TempFile, is_temporary};
use crate::{ObjectPath, Operation, StorageError, StorageErrorKind};

/// DuckDB may run as another user, so the directories we make are open for reading whatever the umask says. Who
/// wants less gives the root itself a narrower mode; it is not changed when it exists.
const DIRECTORY_MODE: u32 = 0o755;

#[derive(Debug, Clone)]
pub(super) struct Root {
    path: Arc<Path>,
    url: Arc<str>,
}

/// Where a new object goes.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) file: PathBuf,
    pub(super) directory: PathBuf,
    root: Arc<Path>,
}

impl Target {
    /// Makes an object of `temp`, if there is none yet.
    pub(super) fn publish(
        &self,
        operation: Operation,
        path: &ObjectPath,
        temp: TempFile,
    ) -> Result<(), StorageError> {
        temp.publish(self).map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists && self.file.is_dir() {
                return StorageError::new(StorageErrorKind::InvalidPath, operation, path.as_str())
                    .with_detail("there is a directory of this name");
            }
            io_error(operation, path.as_str(), error)
        })
    }

    /// Makes the entry of the file durable, and those of the directories down to it: another writer may have made
    /// them a moment ago without having come to this point. Costs next to nothing for a directory without changes.
    pub(super) fn sync_directories(&self) -> io::Result<()> {
        for directory in self.directory.ancestors() {
            sync_directory(directory)?;
            if directory == &*self.root {
                break;
            }
        }
        Ok(())
    }
}

impl Root {
    /// Makes `path` if it is missing, and proves that files can be made and linked in it.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let shown = path.display().to_string();
        let failed = |error| io_error(Operation::Open, &shown, error);
        create_all(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let Some(text) = path.to_str() else {
            return Err(
                StorageError::new(StorageErrorKind::InvalidPath, Operation::Open, shown)
                    .with_detail("the path of a store must be valid UTF-8"),
            );
        };
        let url = if text.ends_with('/') {
            text.to_owned()
        } else {
            format!("{text}/")
        };
        TempFile::probe(&path).map_err(|error| {
            io_error(Operation::Open, &url, error)
                .with_detail("cannot create and link files in this directory")
                .with_remedy(
                    "let the user of this process write there, on a file system that has hard links",
                )
        })?;
        Ok(Self {
            path: Arc::from(path),
            url: Arc::from(url),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of an object that has to be there.
    pub(super) fn existing(
        &self,
        operation: Operation,
        path: &ObjectPath,
    ) -> Result<(PathBuf, Metadata), StorageError> {
        match self.locate(operation, path)? {
            (file, Some(metadata)) if metadata.is_file() => Ok((file, metadata)),
            _ => Err(self.missing(operation, path.as_str())),
        }
    }

    /// The directory that holds what lies below `prefix`, if there is one.
    pub(super) fn directory(&self, prefix: &ObjectPath) -> Result<Option<PathBuf>, StorageError> {
        let (directory, metadata) = self.locate(Operation::List, prefix)?;
        Ok(metadata
            .is_some_and(|metadata| metadata.is_dir())
            .then_some(directory))
    }

    /// The place of a new object; makes the directories down to it.
    pub(super) fn prepare(
        &self,
        operation: Operation,
        path: &ObjectPath,
    ) -> Result<Target, StorageError> {
        let mut directory = self.path.to_path_buf();
        let mut segments = path.segments();
        let name = segments.next_back().unwrap_or_default();
        refuse_temporary(operation, path)?;
        for segment in segments {
            directory.push(segment);
            match lstat(operation, path, &directory)? {
                Some(metadata) if metadata.is_dir() => {}
                Some(_) => {
                    return Err(StorageError::new(
                        StorageErrorKind::InvalidPath,
                        operation,
                        path.as_str(),
                    )
                    .with_detail("a part of the path is an object, and cannot hold others"));
                }
                None => create_directory(&directory).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => self.missing(operation, path.as_str()),
                    _ => io_error(operation, path.as_str(), error),
                })?,
            }
        }
        Ok(Target {
            file: directory.join(name),
            directory,
            root: Arc::clone(&self.path),
        })
    }

    /// Removes the file of an object, durably; `Ok` if there is no such object.
    pub(super) fn remove(&self, path: &ObjectPath) -> Result<(), StorageError> {
        let failed = |error| io_error(Operation::Delete, path.as_str(), error);
        let file = match self.existing(Operation::Delete, path) {
            Ok((file, _)) => file,
            Err(error) if error.kind() == StorageErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        match fs::remove_file(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        file.parent().map_or(Ok(()), sync_directory).map_err(failed)
    }

    /// Removes a temporary file; `Ok` if it is gone.
    pub(super) fn remove_temporary(&self, path: &ObjectPath) -> Result<(), StorageError> {
        let (directory, name) = match path.as_str().rsplit_once('/') {
            Some((directory, name)) => {
                let directory = ObjectPath::parse(directory)?;
                (self.directory(&directory)?, name)
            }
            None => (Some(self.path.to_path_buf()), path.as_str()),
        };
        if !is_temporary(OsStr::new(name)) {
            let kind = StorageErrorKind::InvalidPath;
            return Err(
                StorageError::new(kind, Operation::AbortUpload, path.as_str())
                    .with_detail("this is no upload of this store"),
            );
        }
        let Some(directory) = directory else {
            return Ok(());
        };
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(Operation::AbortUpload, path.as_str(), error))
            }
            _ => Ok(()),
        }
    }

    /// The error for what is not there: the object, or the whole store. The two must not be mixed up, or an
    /// unmounted volume would look like an empty lake.
    pub(super) fn missing(&self, operation: Operation, path: &str) -> StorageError {
        if self.path.is_dir() && !is_write(operation) {
            return StorageError::new(StorageErrorKind::NotFound, operation, path);
        }
        StorageError::new(StorageErrorKind::Unavailable, operation, path)
            .with_detail("the directory of the store is gone")
            .with_remedy("check that the volume of the store is mounted")
    }

    /// The file of `path`, and what is there now. No symbolic link below the root is followed, so no path leads out
    /// of it. This guards against mistakes, not against somebody who exchanges directories meanwhile.
    fn locate(
        &self,
        operation: Operation,
        path: &ObjectPath,
    ) -> Result<(PathBuf, Option<Metadata>), StorageError> {
        let mut file = self.path.to_path_buf();
        refuse_temporary(operation, path)?;
        let mut segments = path.segments().peekable();
        let mut found = None;
        while let Some(segment) = segments.next() {
            file.push(segment);
            let last = segments.peek().is_none();
            found = lstat(operation, path, &file)?;
            if !last && !found.as_ref().is_some_and(Metadata::is_dir) {
                return Ok((file, None));
            }
        }
        Ok((file, found))
    }
}

fn is_write(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Put | Operation::StartMultipart | Operation::Complete
    )
}

fn refuse_temporary(operation: Operation, path: &ObjectPath) -> Result<(), StorageError> {
    let name = path.segments().next_back().unwrap_or_default();
    if is_temporary(OsStr::new(name)) {
        return Err(
            StorageError::new(StorageErrorKind::InvalidPath, operation, path.as_str())
                .with_detail("names of this form are kept for temporary files"),
        );
    }
    Ok(())
}

/// What is at `file`, which is a symbolic link in no case.
fn lstat(
    operation: Operation,
    path: &ObjectPath,
    file: &Path,
) -> Result<Option<Metadata>, StorageError> {
    match fs::symlink_metadata(file) {
        Ok(metadata) if metadata.is_symlink() => {
            Err(
                StorageError::new(StorageErrorKind::InvalidPath, operation, path.as_str())
                    .with_detail("symbolic links below the root of a store are not followed")
                    .with_remedy("mount the other place there, or make it the root of the store"),
            )
        }
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(operation, path.as_str(), error)),
    }
}

/// Makes a directory and all that lead to it, durably.
fn create_all(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    create_all(parent)?;
    create_directory(path)?;
    sync_directory(parent)
}

/// Makes one directory; it is no error if somebody else does so at the same time.
fn create_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(path)?.is_dir() {
                Ok(())
            } else {
                Err(error)
            }
        }
        Err(error) => Err(error),
    }
}

/// Makes the entries of a directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // Some network file systems have no such call for directories, and no need of it.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}
