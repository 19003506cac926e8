//! Buckets of their own on the server that `DUCKFEEDER_TEST_S3_ENDPOINT` names.

#![allow(
    dead_code,
    clippy::expect_used,
    reason = "each binary of tests uses a part, and helpers may fail loudly"
)]

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use duckfeeder_tests::proxy::FaultProxy;
use storage::{ObjectPath, S3Options, S3Storage, Storage, StoreOptions};

pub(crate) const ACCESS_KEY_ID: &str = "AKIATESTKEYIDOFOURS0";
pub(crate) const SECRET: &str = "sEcReTaCcEsSkEyOfTheTest0123456789abcdef";

/// A bucket with nothing in it, behind a proxy that makes faults.
pub(crate) struct TestBucket {
    pub(crate) proxy: FaultProxy,
    pub(crate) name: String,
    /// The server itself.
    direct: String,
}

impl TestBucket {
    /// Makes a bucket, or says that the test is skipped.
    pub(crate) async fn create() -> Option<Self> {
        let Ok(direct) = std::env::var("DUCKFEEDER_TEST_S3_ENDPOINT") else {
            assert!(
                std::env::var("REQUIRE_SERVICES").as_deref() != Ok("1"),
                "DUCKFEEDER_TEST_S3_ENDPOINT is not set, and REQUIRE_SERVICES=1"
            );
            eprintln!("SKIPPED: DUCKFEEDER_TEST_S3_ENDPOINT is not set");
            return None;
        };
        let address = direct.trim_start_matches("http://").trim_end_matches('/');
        let bucket = Self {
            proxy: FaultProxy::start(address).unwrap(),
            name: format!("storage-{}", uuid::Uuid::new_v4()),
            direct: direct.clone(),
        };
        let made = bucket.sdk().create_bucket().bucket(&bucket.name);
        made.send().await.expect("a bucket");
        Some(bucket)
    }

    /// A client of the test's own, past the proxy.
    pub(crate) fn sdk(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.direct)
            .force_path_style(true)
            .credentials_provider(Credentials::new(ACCESS_KEY_ID, SECRET, None, None, "test"))
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    pub(crate) fn url(&self) -> String {
        format!("s3://{}/some/lake", self.name)
    }

    /// Through the proxy, with keys that do not change.
    pub(crate) fn options(&self) -> S3Options {
        S3Options {
            endpoint: Some(self.proxy.url()),
            access_key_id: Some(ACCESS_KEY_ID.to_owned()),
            secret_access_key: Some(SECRET.into()),
            ..S3Options::default()
        }
    }

    pub(crate) fn open(&self, s3: S3Options) -> Arc<dyn Storage> {
        let options = StoreOptions {
            s3,
            ..StoreOptions::default()
        };
        storage::open(&self.url(), &options).unwrap()
    }

    /// The store through the proxy.
    pub(crate) fn store(&self) -> Arc<dyn Storage> {
        self.open(self.options())
    }

    /// The store through the proxy, with attempts that may take so long.
    pub(crate) fn impatient(&self, limit: Duration) -> Arc<dyn Storage> {
        Arc::new(S3Storage::with_attempt_timeout(&self.url(), &self.options(), limit).unwrap())
    }

    /// The store without the proxy, for looking at what is there.
    pub(crate) fn direct(&self) -> Arc<dyn Storage> {
        self.open(S3Options {
            endpoint: Some(self.direct.clone()),
            ..self.options()
        })
    }
}

pub(crate) fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}
