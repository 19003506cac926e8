//! Errors of the file system as errors of this crate.

use std::io;

use crate::{Operation, StorageError, StorageErrorKind};

/// The meaning of `error` for `operation` on `path`.
pub(super) fn io_error(operation: Operation, path: &str, error: io::Error) -> StorageError {
    use StorageErrorKind as Kind;
    let kind = match error.kind() {
        // What a write needs was there a moment ago, so somebody removed a directory; the next attempt makes it anew.
        io::ErrorKind::NotFound
            if matches!(
                operation,
                Operation::Put
                    | Operation::StartMultipart
                    | Operation::PutPart
                    | Operation::Complete
            ) =>
        {
            Kind::Unavailable
        }
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::AlreadyExists => Kind::AlreadyExists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Kind::PermissionDenied
        }
        io::ErrorKind::InvalidFilename
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidInput => Kind::InvalidPath,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::NoSpace,
        io::ErrorKind::TimedOut => Kind::Timeout,
        io::ErrorKind::ResourceBusy
        | io::ErrorKind::StaleNetworkFileHandle
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::NotConnected => Kind::Unavailable,
        io::ErrorKind::Unsupported => Kind::Unsupported,
        _ => Kind::Other,
    };
    StorageError::new(kind, operation, path).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_keep_their_meaning() {
        use StorageErrorKind as Kind;
        // Numbers of Linux, errno(3).
        for (errno, kind) in [
            (1, Kind::PermissionDenied),  // EPERM
            (2, Kind::NotFound),          // ENOENT
            (5, Kind::Other),             // EIO
            (13, Kind::PermissionDenied), // EACCES
            (17, Kind::AlreadyExists),    // EEXIST
            (20, Kind::InvalidPath),      // ENOTDIR
            (24, Kind::Other),            // EMFILE
            (28, Kind::NoSpace),          // ENOSPC
            (30, Kind::PermissionDenied), // EROFS
            (36, Kind::InvalidPath),      // ENAMETOOLONG
            (95, Kind::Unsupported),      // EOPNOTSUPP
            (107, Kind::Unavailable),     // ENOTCONN: a FUSE server died
            (110, Kind::Timeout),         // ETIMEDOUT
            (116, Kind::Unavailable),     // ESTALE
            (122, Kind::NoSpace),         // EDQUOT
        ] {
            let error = io_error(Operation::Head, "x", io::Error::from_raw_os_error(errno));
            assert_eq!(error.kind(), kind, "errno {errno}");
            assert!(std::error::Error::source(&error).is_some());
        }
    }

    #[test]
    fn a_directory_that_vanishes_under_a_write_is_a_passing_trouble() {
        for operation in [
            Operation::Put,
            Operation::StartMultipart,
            Operation::Complete,
        ] {
            let error = io_error(operation, "x", io::Error::from(io::ErrorKind::NotFound));
            assert!(error.is_transient(), "{operation:?}");
        }
    }
}
