//! Files that nobody sees yet.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tracing::warn;
use uuid::Uuid;

use super::root::Target;

/// DuckDB may run as another user, so objects are readable for all whatever the umask says.
const FILE_MODE: u32 = 0o644;

/// The name of a temporary file: hidden, in the directory of the object it becomes, and not ending like any object,
/// so that neither a listing nor a glob for `*.parquet` shows it.
fn temporary_name() -> String {
    format!(".{}.tmp", Uuid::new_v4())
}

pub(super) fn is_temporary(name: &OsStr) -> bool {
    name.to_str()
        .and_then(|name| name.strip_prefix('.')?.strip_suffix(".tmp"))
        .is_some_and(|id| Uuid::try_parse(id).is_ok())
}

/// A file on its way to become an object. Removed when dropped, unless the process dies first.
#[derive(Debug)]
pub(super) struct TempFile {
    file: File,
    path: PathBuf,
    length: u64,
}

impl TempFile {
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let path = directory.join(temporary_name());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)?;
        let temp = Self {
            file,
            path,
            length: 0,
        };
        temp.file
            .set_permissions(Permissions::from_mode(FILE_MODE))?;
        Ok(temp)
    }

    /// Proves that `directory` allows what a put needs, and leaves nothing behind.
    pub(super) fn probe(directory: &Path) -> io::Result<()> {
        let mut temp = Self::create(directory)?;
        temp.append(b"probe")?;
        let link = directory.join(temporary_name());
        fs::hard_link(&temp.path, &link)?;
        fs::remove_file(&link)
    }

    /// Appends `bytes`. After an error none of them count as written, and the call may be repeated.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        let end = self
            .length
            .checked_add(length)
            .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.file.write_all_at(bytes, self.length)?;
        self.length = end;
        Ok(())
    }

    /// Gives the file its name, if nothing has that name, and makes both durable. After an error neither name is
    /// there: what the system could not write to disk once must not be taken for written in a second attempt.
    pub(super) fn publish(self, target: &Target) -> io::Result<()> {
        // An append that failed half way may have left bytes behind the end.
        self.file.set_len(self.length)?;
        self.file.sync_all()?;
        if let Err(error) = fs::hard_link(&self.path, &target.file)
            // A network file system may repeat a request whose answer was lost, and find its own link.
            && !(error.kind() == io::ErrorKind::AlreadyExists && self.is_same(&target.file))
        {
            return Err(error);
        }
        drop(self);
        target
            .sync_directories()
            .inspect_err(|_| remove(&target.file))
    }

    fn is_same(&self, other: &Path) -> bool {
        match (self.file.metadata(), fs::symlink_metadata(other)) {
            (Ok(own), Ok(other)) => own.dev() == other.dev() && own.ino() == other.ino(),
            _ => false,
        }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(
            path = %path.display(),
            error = &error as &dyn std::error::Error,
            "file could not be removed; delete it by hand"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_recognised_and_nothing_else_is() {
        assert!(is_temporary(OsStr::new(&temporary_name())));
        for name in [
            ".x.tmp",
            "x.tmp",
            ".tmp",
            "..tmp",
            "67e55044-10b1-426f-9247-bb680e5fe0c8.tmp",
        ] {
            assert!(!is_temporary(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_dropped_file_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut temp = TempFile::create(directory.path()).unwrap();
        temp.append(b"x").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(temp);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    fn target(directory: &Path) -> Target {
        let object = crate::ObjectPath::parse("object").unwrap();
        let root = super::super::root::Root::open(directory).unwrap();
        root.prepare(crate::Operation::Put, &object).unwrap()
    }

    #[test]
    fn what_a_failed_append_left_behind_is_cut_off_or_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let target = target(directory.path());
        let mut temp = TempFile::create(directory.path()).unwrap();
        temp.append(b"one ").unwrap();
        temp.file
            .write_all_at(b"half of a part", temp.length)
            .unwrap();
        temp.append(b"two").unwrap();
        temp.publish(&target).unwrap();
        assert_eq!(fs::read(&target.file).unwrap(), b"one two");
    }

    #[test]
    fn a_link_that_was_made_although_its_answer_was_lost_counts() {
        let directory = tempfile::tempdir().unwrap();
        let target = target(directory.path());
        let temp = TempFile::create(directory.path()).unwrap();
        fs::hard_link(&temp.path, &target.file).unwrap();
        temp.publish(&target).unwrap();
        let other = TempFile::create(directory.path()).unwrap();
        let error = other.publish(&target).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_probe_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        TempFile::probe(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
