//! Keys and tokens show nowhere: not in logs at any level, not in errors, not in `Debug`. Alone in its process, as
//! `log.rs` is.

#![cfg(feature = "s3")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "helpers of tests may fail loudly"
)]

#[path = "support/s3.rs"]
mod support;

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use duckfeeder_tests::proxy::Fault;
use storage::{S3Options, StorageError};
use support::{SECRET, TestBucket, path};

const TOKEN: &str = "ToKeNoFtHeSeSsIoN0123456789abcdefghijkl";

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

/// All that an error can show.
fn tell(text: &mut String, error: &StorageError) {
    write!(text, "{error} {error:?} {error:#?} {:?}", error.remedy()).unwrap();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, "{error} {error:?}").unwrap();
        cause = error.source();
    }
}

#[tokio::test]
async fn keys_and_tokens_show_nowhere() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let options = S3Options {
        session_token: Some(TOKEN.into()),
        ..bucket.options()
    };
    let store = bucket.open(options.clone());
    let mut text = format!("{store} {store:?} {store:#?} {options:?} {}", store.url());

    let x = path("x");
    store.put(&x, "contents".into()).await.unwrap();
    store.get_range(&x, 0..9).await.unwrap();
    store.list(None, None).await.unwrap();
    let mut upload = store.start_multipart(&path("y")).await.unwrap();
    upload
        .put_part(Bytes::from(vec![1; 9 << 20]))
        .await
        .unwrap();
    write!(text, "{upload:?} {upload:#?}").unwrap();
    upload.complete().await.unwrap();
    store.delete(&x).await.unwrap();

    // As Amazon S3 answers to a wrong signature: it repeats what was signed.
    let echo = |code: &str| {
        format!(
            "<Error><Code>{code}</Code><Message>no</Message><AWSAccessKeyId>AKIATEST</AWSAccessKeyId>\
             <CanonicalRequest>GET\n/\n\nx-amz-security-token:{TOKEN}\n</CanonicalRequest></Error>"
        )
    };
    for (status, code) in [
        (403, "SignatureDoesNotMatch"),
        (400, "ExpiredToken"),
        (400, "InvalidToken"),
        (403, "InvalidAccessKeyId"),
    ] {
        bucket.proxy.set(Fault::status(status, echo(code)));
        tell(&mut text, &store.put(&x, "x".into()).await.unwrap_err());
        tell(&mut text, &store.head(&x).await.unwrap_err());
        tell(&mut text, &store.get_range(&x, 0..1).await.unwrap_err());
        tell(&mut text, &store.list(None, None).await.unwrap_err());
    }
    for fault in [
        Fault::Refuse,
        Fault::status(200, "no XML"),
        Fault::Cut {
            after_body_bytes: 1,
        },
    ] {
        bucket.proxy.set(fault);
        tell(&mut text, &store.list(None, None).await.unwrap_err());
    }
    drop(guard);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("list_objects_v2") || log.contains("ListObjectsV2"),
        "the SDK is heard"
    );
    for secret in [SECRET, TOKEN] {
        assert!(!text.contains(secret), "a secret in {text}");
        let mut lines = log.lines().filter(|line| line.contains(secret));
        let line = lines.next();
        assert!(
            line.is_none(),
            "a secret in the log: {line:?}, and {} more",
            lines.count()
        );
    }
}
