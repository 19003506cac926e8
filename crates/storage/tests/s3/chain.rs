//! Region and credentials from outside. Variables of the environment belong to a process, so each test runs itself
//! again in one of its own.

use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use duckfeeder_tests::proxy::{Fault, Request};
use storage::{RetryPolicy, RetryStorage, S3Options, Storage, StorageErrorKind, StoreOptions};

use crate::support::{TestBucket, path};

const CHILD: &str = "STORAGE_TEST_CHILD";

/// Whether this is the process of its own; if not, runs the test in one, with these variables and no other ones of
/// the AWS tools.
fn alone(test: &str, variables: &[(&str, &str)]) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            child.env_remove(name);
        }
    }
    child
        .env(CHILD, "1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .envs(variables.iter().copied());
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

#[tokio::test]
async fn a_region_that_is_nowhere_is_asked_for() {
    if !alone("chain::a_region_that_is_nowhere_is_asked_for", &[]) {
        return;
    }
    let store = storage::from_url("s3://bucket").unwrap();
    let error = store.head(&path("x")).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::InvalidPath);
    assert_eq!(error.remedy(), Some("set storage.region"));
}

#[tokio::test]
async fn credentials_that_are_nowhere_are_asked_for() {
    if !alone("chain::credentials_that_are_nowhere_are_asked_for", &[]) {
        return;
    }
    let s3 = S3Options {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        ..S3Options::default()
    };
    let options = StoreOptions {
        s3,
        ..StoreOptions::default()
    };
    let store = storage::open("s3://bucket", &options).unwrap();
    let error = store.head(&path("x")).await.unwrap_err();
    assert_eq!(
        error.kind(),
        StorageErrorKind::PermissionDenied,
        "{error:?}"
    );
    assert!(error.remedy().unwrap().contains("AWS_ACCESS_KEY_ID"));
}

/// A profile whose keys come from a program, which gives new ones each time and notes that.
fn profile(folder: &Path) -> String {
    let script = folder.join("keys");
    let text = format!(
        "#!/bin/sh\necho x >> {0}/calls\nn=$(wc -l < {0}/calls)\n\
         echo \"{{\\\"Version\\\": 1, \\\"AccessKeyId\\\": \\\"AKIA$n\\\", \\\"SecretAccessKey\\\": \\\"s$n\\\"}}\"\n",
        folder.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = folder.join("config");
    let text = format!(
        "[profile lake]\ncredential_process = {}\n",
        script.display()
    );
    std::fs::write(&config, text).unwrap();
    config.display().to_string()
}

#[tokio::test]
async fn an_upload_goes_on_with_new_keys_when_the_old_ones_expire() {
    let folder = tempfile::tempdir().unwrap();
    let config = profile(folder.path());
    let calls = folder.path().join("calls").display().to_string();
    let variables = [("AWS_CONFIG_FILE", config.as_str()), ("CALLS", &calls)];
    let test = "chain::an_upload_goes_on_with_new_keys_when_the_old_ones_expire";
    if !alone(test, &variables) {
        return;
    }
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let store = bucket.open(S3Options {
        endpoint: Some(bucket.proxy.url()),
        profile: Some("lake".to_owned()),
        ..S3Options::default()
    });
    let policy = RetryPolicy {
        max_attempts: NonZeroU32::new(10).unwrap(),
        base: Duration::from_millis(10),
        cap: Duration::from_millis(10),
    };
    let store = RetryStorage::new(store, policy);
    let is_part = |request: &Request| request.target.contains("partNumber=");
    let expired = "<Error><Code>ExpiredToken</Code><Message>over</Message></Error>";
    let mut upload = store.start_multipart(&path("x")).await.unwrap();
    let part = Bytes::from(vec![7; 8 << 20]);
    upload.put_part(part.clone()).await.unwrap();
    let calls = || {
        let calls = std::fs::read_to_string(std::env::var_os("CALLS").unwrap());
        calls.unwrap().lines().count()
    };
    assert_eq!(calls(), 1);
    bucket.proxy.next(1, is_part, Fault::status(400, expired));
    for _ in 0..3 {
        upload.put_part(part.clone()).await.unwrap();
    }
    upload.complete().await.unwrap();
    assert_eq!(calls(), 2);
    assert_eq!(store.head(&path("x")).await.unwrap().size, 32 << 20);
}
