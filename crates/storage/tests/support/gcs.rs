//! Buckets of their own on the emulator that `DUCKFEEDER_TEST_GCS_ENDPOINT` names.

#![allow(dead_code, reason = "each binary of tests uses a part")]

use std::sync::Arc;

use storage::{GcsOptions, Storage, StoreOptions};
use uuid::Uuid;

/// A bucket that nobody else uses.
pub(crate) struct Bucket {
    pub(crate) endpoint: String,
    pub(crate) name: String,
}

impl Bucket {
    /// Makes a bucket, or says that the test is skipped.
    pub(crate) async fn create() -> Option<Self> {
        let endpoint = endpoint()?;
        let name = format!("test-{}", Uuid::new_v4());
        let answer = reqwest::Client::new()
            .post(format!("{endpoint}/storage/v1/b?project=test"))
            .header("content-type", "application/json")
            .body(format!(r#"{{"name": "{name}"}}"#))
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        Some(Self { endpoint, name })
    }

    /// The store below `prefix` in the bucket.
    pub(crate) fn store(&self, prefix: &str) -> Arc<dyn Storage> {
        self.store_at(&self.endpoint, prefix)
    }

    /// The same by way of another endpoint.
    pub(crate) fn store_at(&self, endpoint: &str, prefix: &str) -> Arc<dyn Storage> {
        open(&format!("gs://{}/{prefix}", self.name), endpoint)
    }

    /// How many resumable uploads have been begun, and neither completed nor cancelled.
    pub(crate) async fn open_uploads(&self) -> String {
        let url = format!("{}/_test/sessions/{}", self.endpoint, self.name);
        let answer = reqwest::get(url).await.unwrap();
        answer.text().await.unwrap()
    }
}

/// Where the emulator is; without one the test is skipped loudly, or fails if it must run.
pub(crate) fn endpoint() -> Option<String> {
    const NAME: &str = "DUCKFEEDER_TEST_GCS_ENDPOINT";
    if let Ok(endpoint) = std::env::var(NAME) {
        return Some(endpoint);
    }
    assert!(
        std::env::var("REQUIRE_SERVICES").as_deref() != Ok("1"),
        "{NAME} is not set, and REQUIRE_SERVICES=1"
    );
    eprintln!("SKIPPED: {NAME} is not set");
    None
}

/// A store without credentials at this endpoint.
pub(crate) fn open(url: &str, endpoint: &str) -> Arc<dyn Storage> {
    let gcs = GcsOptions {
        endpoint: Some(endpoint.to_owned()),
        anonymous: true,
        ..GcsOptions::default()
    };
    let options = StoreOptions {
        gcs,
        ..StoreOptions::default()
    };
    storage::open(url, &options).unwrap()
}
