//! What a local store does beyond the contract: files, modes, links, leftovers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use storage::{LocalStorage, ObjectPath, Storage, StorageErrorKind};
use tempfile::TempDir;

fn store() -> (TempDir, LocalStorage) {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStorage::open(directory.path()).unwrap();
    (directory, store)
}

fn path(path: &str) -> ObjectPath {
    ObjectPath::parse(path).unwrap()
}

/// All files below `directory`, hidden ones too.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return files,
        entries => entries.unwrap(),
    };
    for entry in entries {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(self::files(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

/// Waits until background work has left exactly `count` files.
async fn until_files(directory: &Path, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while files(directory).len() != count {
        assert!(Instant::now() < deadline, "{:?}", files(directory));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn listed_paths_are_byte_for_byte_what_a_glob_finds() {
    let (directory, store) = store();
    for name in [
        "a",
        "main/t/x.parquet",
        "main/t/d=1/y.parquet",
        "ü ü/%20+.parquet",
    ] {
        store.put(&path(name), "x".into()).await.unwrap();
    }
    let page = store.list(None, None).await.unwrap();
    let mut listed: Vec<_> = page
        .objects
        .iter()
        .map(|object| format!("{}{}", store.url(), object.path))
        .collect();
    listed.sort();
    let root = directory.path().canonicalize().unwrap();
    let found: Vec<_> = files(&root)
        .into_iter()
        .map(|file| file.into_os_string().into_string().unwrap())
        .collect();
    assert_eq!(listed, found);
}

#[test]
fn opening_makes_the_directory_and_resolves_it() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().canonicalize().unwrap().join("real");
    let store = LocalStorage::open(&real.join("deep/lake")).unwrap();
    assert_eq!(store.url(), format!("{}/deep/lake/", real.display()));
    assert_eq!(
        store.to_string(),
        format!("directory {}/deep/lake/", real.display())
    );
    let link = directory.path().join("link");
    symlink(&real, &link).unwrap();
    let through = LocalStorage::open(&link.join("deep//./lake/../lake/")).unwrap();
    assert_eq!(through.url(), store.url());
    assert_eq!(files(directory.path()), [link], "opening leaves no files");
}

#[test]
fn opening_keeps_the_mode_of_a_directory_that_exists() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    LocalStorage::open(directory.path()).unwrap();
    assert_eq!(mode(directory.path()), 0o700);
}

#[test]
fn a_root_that_is_no_writable_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    for root in [file.clone(), file.join("below")] {
        let error = LocalStorage::open(&root).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::InvalidPath, "{error:?}");
        assert!(error.to_string().contains("file"), "{error}");
    }
    // Nobody, not even root, can make files there.
    let error = LocalStorage::open(Path::new("/sys")).unwrap_err();
    assert_eq!(
        error.kind(),
        StorageErrorKind::PermissionDenied,
        "{error:?}"
    );
    assert!(error.remedy().unwrap().contains("write"), "{error:?}");
    assert!(error.to_string().contains("'/sys/'"), "{error}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The mask belongs to the whole process, so the test runs itself again in a child that has a narrow one.
#[test]
fn objects_are_readable_for_others_whatever_the_umask() {
    const CHILD: &str = "STORAGE_TEST_UMASK_DIRECTORY";
    if let Ok(directory) = std::env::var(CHILD) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = LocalStorage::open(&Path::new(&directory).join("made/lake")).unwrap();
            store.put(&path("d/e/put"), "x".into()).await.unwrap();
            let mut upload = store.start_multipart(&path("f/upload")).await.unwrap();
            upload.put_part(Bytes::from_static(b"x")).await.unwrap();
            upload.complete().await.unwrap();
        });
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let name = "objects_are_readable_for_others_whatever_the_umask";
    let status = Command::new("sh")
        .args(["-c", "umask 077 && exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(CHILD, directory.path())
        .status()
        .unwrap();
    assert!(status.success());
    for made in [
        "made",
        "made/lake",
        "made/lake/d",
        "made/lake/d/e",
        "made/lake/f",
    ] {
        assert_eq!(mode(&directory.path().join(made)), 0o755, "{made}");
    }
    for object in ["made/lake/d/e/put", "made/lake/f/upload"] {
        assert_eq!(mode(&directory.path().join(object)), 0o644, "{object}");
    }
}

#[tokio::test]
async fn no_path_leads_out_of_the_root() {
    let (directory, store) = store();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), directory.path().join("dir")).unwrap();
    symlink(outside.path().join("secret"), directory.path().join("file")).unwrap();
    symlink(
        outside.path().join("nothing"),
        directory.path().join("dangling"),
    )
    .unwrap();
    for name in ["dir/secret", "dir/new", "dir/deep/new", "file", "dangling"] {
        let path = path(name);
        let kinds = [
            store.head(&path).await.unwrap_err().kind(),
            store.get_range(&path, 0..1).await.unwrap_err().kind(),
            store.delete(&path).await.unwrap_err().kind(),
        ];
        assert_eq!(kinds, [StorageErrorKind::InvalidPath; 3], "{name}");
        assert!(store.put(&path, "x".into()).await.is_err(), "{name}");
        let written = match store.start_multipart(&path).await {
            Ok(mut upload) => upload.complete().await,
            Err(error) => Err(error),
        };
        assert!(written.is_err(), "{name}");
    }
    assert_eq!(store.list(None, None).await.unwrap().objects, []);
    assert_eq!(files(outside.path()), [outside.path().join("secret")]);
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert!(
        fs::symlink_metadata(directory.path().join("file"))
            .unwrap()
            .is_symlink()
    );
}

#[tokio::test]
async fn names_of_temporary_files_are_reserved() {
    let (_directory, store) = store();
    let name = path("a/.67e55044-10b1-426f-9247-bb680e5fe0c8.tmp");
    let invalid = StorageErrorKind::InvalidPath;
    assert_eq!(
        store.put(&name, "x".into()).await.unwrap_err().kind(),
        invalid
    );
    assert_eq!(
        store.start_multipart(&name).await.unwrap_err().kind(),
        invalid
    );
    assert_eq!(store.delete(&name).await.unwrap_err().kind(), invalid);
    assert_eq!(store.head(&name).await.unwrap_err().kind(), invalid);
    store
        .put(&path("a/.67e55044.tmp"), "x".into())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_segment_that_is_too_long_is_refused() {
    let (_directory, store) = store();
    for name in ["x".repeat(256), format!("{}/x", "x".repeat(256))] {
        let name = path(&name);
        let invalid = StorageErrorKind::InvalidPath;
        assert_eq!(
            store.put(&name, "x".into()).await.unwrap_err().kind(),
            invalid
        );
        assert_eq!(store.head(&name).await.unwrap_err().kind(), invalid);
    }
    store
        .put(&path(&"x".repeat(255)), "x".into())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_puts_can_make_the_same_directories_at_once() {
    let (_directory, store) = store();
    let store = &store;
    for round in 0..20 {
        let puts = (0..16).map(|i| async move {
            store
                .put(&path(&format!("{round}/a/b/c/{i}")), "x".into())
                .await
        });
        for result in join_all(puts).await {
            result.unwrap();
        }
    }
}

#[tokio::test]
async fn a_refused_write_leaves_no_temporary_file() {
    let (directory, store) = store();
    let object = path("a/object");
    store.put(&object, "x".into()).await.unwrap();
    store.put(&object, "y".into()).await.unwrap_err();
    let mut upload = store.start_multipart(&object).await.unwrap();
    upload.put_part(Bytes::from_static(b"z")).await.unwrap();
    assert_eq!(files(directory.path()).len(), 2);
    upload.complete().await.unwrap_err();
    assert_eq!(files(directory.path()), [directory.path().join("a/object")]);
}

/// Runs `test` where file operations wait in a queue of one thread, which [`busy`] can keep occupied.
fn with_one_blocking_thread(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .max_blocking_threads(1)
        .build()
        .unwrap()
        .block_on(test);
}

/// Occupies the one thread until the answer is dropped.
fn busy() -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    tokio::task::spawn_blocking(move || receiver.recv());
    sender
}

#[test]
fn a_dropped_put_still_makes_the_whole_object_and_leaves_nothing_else() {
    with_one_blocking_thread(async {
        let (directory, store) = store();
        let object = path("a/object");
        let busy = busy();
        let put = store.put(&object, Bytes::from(vec![7; 4_000_000]).into());
        assert!(put.now_or_never().is_none());
        drop(busy);
        until_files(directory.path(), 1).await;
        // Behind the put in the queue, so it sees what has become of it.
        assert_eq!(store.head(&object).await.unwrap().size, 4_000_000);
        assert_eq!(files(directory.path()), [directory.path().join("a/object")]);
    });
}

#[test]
fn an_upload_whose_part_was_dropped_is_closed_and_cleans_up() {
    with_one_blocking_thread(async {
        let (directory, store) = store();
        let object = path("object");
        let mut upload = store.start_multipart(&object).await.unwrap();
        let busy = busy();
        let part = Bytes::from_static(b"part");
        assert!(upload.put_part(part.clone()).now_or_never().is_none());
        assert_eq!(files(directory.path()).len(), 1);
        drop(busy);
        until_files(directory.path(), 0).await;
        let closed = StorageErrorKind::UploadClosed;
        assert_eq!(upload.put_part(part).await.unwrap_err().kind(), closed);
        assert_eq!(upload.complete().await.unwrap_err().kind(), closed);
        upload.abort().await.unwrap();
        let head = store.head(&object).await;
        assert_eq!(head.unwrap_err().kind(), StorageErrorKind::NotFound);
    });
}

#[tokio::test]
async fn a_store_that_is_gone_is_unavailable_not_empty() {
    let (directory, store) = store();
    let object = path("a/object");
    store.put(&object, "x".into()).await.unwrap();
    let mut upload = store.start_multipart(&path("a/upload")).await.unwrap();
    upload.put_part(Bytes::from_static(b"x")).await.unwrap();
    let root = directory.path().to_owned();
    directory.close().unwrap();
    let gone = StorageErrorKind::Unavailable;
    for name in ["a/object", "object"] {
        let object = path(name);
        assert_eq!(store.head(&object).await.unwrap_err().kind(), gone);
        assert_eq!(
            store.get_range(&object, 0..1).await.unwrap_err().kind(),
            gone
        );
        assert_eq!(store.delete(&object).await.unwrap_err().kind(), gone);
        assert_eq!(
            store.put(&object, "x".into()).await.unwrap_err().kind(),
            gone
        );
        assert_eq!(
            store.start_multipart(&object).await.unwrap_err().kind(),
            gone
        );
    }
    assert_eq!(upload.complete().await.unwrap_err().kind(), gone);
    assert!(
        !root.exists(),
        "a write must not make the root of a volume that is not mounted"
    );
}

#[tokio::test]
async fn a_put_makes_a_directory_anew_that_somebody_removed() {
    let (directory, store) = store();
    store.put(&path("a/b/1"), "x".into()).await.unwrap();
    fs::remove_dir_all(directory.path().join("a")).unwrap();
    store.put(&path("a/b/2"), "x".into()).await.unwrap();
    assert_eq!(store.head(&path("a/b/2")).await.unwrap().size, 1);
}
