//! Where credentials for Google Cloud Storage come from, and that they show nowhere. One test to a process looks at
//! the log: another's thread without a subscriber could make tracing remember that nobody listens.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may fail loudly, and say what they skip"
)]

#[path = "support/gcs.rs"]
mod support;

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use duckfeeder_tests::proxy::{Fault, FaultProxy};
use storage::{
    GcsOptions, ObjectPath, RetryPolicy, RetryStorage, Storage, StorageError, StorageErrorKind,
    StoreOptions,
};

use self::support::Bucket;

/// Takes the part of a machine that has nothing.
const BARE: &str = "DUCKFEEDER_TEST_BARE_MACHINE";

fn open(url: &str, gcs: GcsOptions) -> Arc<dyn Storage> {
    let options = StoreOptions {
        gcs,
        ..StoreOptions::default()
    };
    storage::open(url, &options).unwrap()
}

fn with_file(file: &Path, endpoint: &str) -> GcsOptions {
    GcsOptions {
        endpoint: Some(endpoint.to_owned()),
        credentials_file: Some(file.to_owned()),
        anonymous: false,
    }
}

fn path(path: &str) -> ObjectPath {
    ObjectPath::parse(path).unwrap()
}

/// A fresh private key, in lines as they stand in such a file.
fn private_key() -> Vec<String> {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let text = BASE64_STANDARD.encode(der.as_ref());
    let lines = text.as_bytes().chunks(64);
    lines
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect()
}

fn key_file(folder: &Path, key: &[String]) -> PathBuf {
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----\\n",
        key.join("\\n")
    );
    let file = folder.join("key.json");
    let json = format!(
        r#"{{"type": "service_account", "project_id": "p", "private_key_id": "the-key-id",
            "private_key": "{pem}", "client_email": "feeder@p.iam.gserviceaccount.com",
            "client_id": "1", "universe_domain": "googleapis.com"}}"#
    );
    std::fs::write(&file, json).unwrap();
    file
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All operations, with a service account's key, and all errors that an answer of the store can make.
async fn use_everything(bucket: &Bucket, proxy: &FaultProxy, file: &Path) -> String {
    let url = format!("gs://{}/p", bucket.name);
    let store = open(&url, with_file(file, &proxy.url()));
    let retrying = RetryStorage::new(Arc::clone(&store), RetryPolicy::default());
    let mut shown = format!("{store} {store:?} {retrying:?}");
    let mut show = |error: StorageError| {
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            writeln!(shown, "{error} {error:?}").unwrap();
            cause = error.source();
        }
    };
    let object = path("object");
    store.put(&object, "contents".into()).await.unwrap();
    store.list(None, None).await.unwrap();
    store.get_range(&object, 0..3).await.unwrap();
    show(store.get_range(&object, 9..10).await.unwrap_err());
    show(store.put(&object, "contents".into()).await.unwrap_err());
    let part = Bytes::from(vec![7; 20_000_000]);
    let mut upload = store.start_multipart(&path("other")).await.unwrap();
    upload.put_part(part.clone()).await.unwrap();
    let state = format!("{upload:?}");
    upload.complete().await.unwrap();
    let mut shown_errors = 0;
    let faults = [
        Fault::status(401, "no"),
        Fault::status(403, "no"),
        Fault::status(503, "no"),
        Fault::Refuse,
        Fault::CutAnswer {
            after_body_bytes: 0,
        },
        Fault::Cut {
            after_body_bytes: 0,
        },
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        // A connection that the last fault has closed may be tried once more.
        let mut upload = retrying
            .start_multipart(&path(&format!("third/{number}")))
            .await
            .unwrap();
        upload.put_part(part.clone()).await.unwrap();
        proxy.set(fault);
        let outcomes = [
            upload.complete().await,
            upload.abort().await,
            store
                .put(&path(&format!("fourth/{number}")), "x".into())
                .await,
            store.get_range(&object, 0..3).await.map(drop),
            store.head(&object).await.map(drop),
            store.delete(&path("nothing")).await,
            retrying.start_multipart(&path("fifth")).await.map(drop),
        ];
        let errors = outcomes.into_iter().filter_map(Result::err);
        shown_errors += errors.map(&mut show).count();
        proxy.clear();
    }
    assert!(shown_errors >= 30, "{shown_errors} errors");
    format!("{shown} {state}")
}

#[tokio::test]
async fn neither_key_nor_token_nor_address_of_an_upload_shows() {
    let Some(bucket) = Bucket::create().await else {
        return;
    };
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let backend = bucket.endpoint.strip_prefix("http://").unwrap();
    let proxy = FaultProxy::start(backend).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = private_key();
    let file = key_file(folder.path(), &key);

    let shown = use_everything(&bucket, &proxy, &file).await;
    drop(guard);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("TRACE"), "the log listens to everything");
    assert!(shown.contains("bucket gs://"), "{shown}");
    // A token of a service account is a JWT, whose header begins so in base64.
    for secret in key.iter().map(String::as_str).chain(["eyJ", "upload_id"]) {
        for (name, text) in [("the log", &log), ("what is shown", &shown)] {
            let found = text.lines().find(|line| line.contains(secret));
            assert!(found.is_none(), "{name} has '{secret}': {found:?}");
        }
    }
}

#[tokio::test]
async fn a_file_that_holds_no_credentials_is_named_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in [
        ("missing.json", None),
        ("text.json", Some("hunter2")),
        ("list.json", Some(r#"["hunter2"]"#)),
        ("type.json", Some(r#"{"type": "hunter2"}"#)),
        (
            "fields.json",
            Some(r#"{"type": "service_account", "private_key": "hunter2"}"#),
        ),
        (
            "key.json",
            Some(
                r#"{"type": "service_account", "private_key": "hunter2", "private_key_id": "hunter2",
                    "client_email": "a@b", "project_id": "p"}"#,
            ),
        ),
        (
            "external.json",
            Some(r#"{"type": "external_account", "audience": "hunter2"}"#),
        ),
    ] {
        let file = folder.path().join(name);
        if let Some(contents) = contents {
            std::fs::write(&file, contents).unwrap();
        }
        let store = open("gs://b/p", with_file(&file, "http://127.0.0.1:9"));
        for error in [
            store.head(&path("x")).await.unwrap_err(),
            store.put(&path("x"), "x".into()).await.unwrap_err(),
        ] {
            assert_eq!(
                error.kind(),
                StorageErrorKind::PermissionDenied,
                "{name} {error:?}"
            );
            let text = format!("{error} {error:?} {}", error.remedy().unwrap());
            assert!(text.contains("storage.credentials_file"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}

/// A failed load is not remembered.
#[tokio::test]
async fn a_file_that_appears_later_is_found() {
    let Some(bucket) = Bucket::create().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let url = format!("gs://{}/p", bucket.name);
    let file = folder.path().join("key.json");
    let store = open(&url, with_file(&file, &bucket.endpoint));
    store.list(None, None).await.unwrap_err();
    key_file(folder.path(), &private_key());
    store.list(None, None).await.unwrap();
}

#[test]
fn a_machine_without_any_credentials_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "on_a_bare_machine", "--nocapture"])
        .env(BARE, "1")
        .env("HOME", folder.path())
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
        .env("GCE_METADATA_HOST", "127.0.0.1:9")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{text}");
}

/// The part of a child process, whose environment can be bare.
#[tokio::test]
async fn on_a_bare_machine() {
    if std::env::var_os(BARE).is_none() {
        return;
    }
    let options = GcsOptions {
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        ..GcsOptions::default()
    };
    let store = open("gs://b/p", options);
    for error in [
        store.head(&path("x")).await.unwrap_err(),
        store.put(&path("x"), "x".into()).await.unwrap_err(),
    ] {
        eprintln!("{error:?}");
        assert_eq!(
            error.kind(),
            StorageErrorKind::PermissionDenied,
            "{error:?}"
        );
        assert!(error.remedy().unwrap().contains("storage.credentials_file"));
    }
}
