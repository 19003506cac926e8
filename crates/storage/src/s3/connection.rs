//! The client of the SDK, and what it is made of: region, endpoint, credentials, limits of time.

use std::fmt;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use url::Url;

use super::error::Failure;
use super::quiet::QuietAnswers;
use crate::{S3Options, StorageErrorKind};

const CONNECT: Duration = Duration::from_secs(10);
/// How long one attempt may take, beside its transfer.
pub(super) const ATTEMPT: Duration = Duration::from_secs(30);
/// Slower than this, and the attempt counts as failed: 100 KiB/s.
const SLOWEST_BYTES_PER_SECOND: u64 = 100 * 1024;
/// For stores that have an endpoint of their own and do not care.
const ANY_REGION: &str = "us-east-1";

/// The way to a store. The client is made at the first request, and again when the store finds its credentials
/// expired; a failure to make it is not remembered.
pub(super) struct Connection {
    options: S3Options,
    attempt_timeout: Duration,
    client: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    client: Option<Client>,
    /// Grows with each client.
    generation: u64,
}

impl Connection {
    /// Checks that the options fit together.
    pub(super) fn new(options: &S3Options, attempt_timeout: Duration) -> Result<Self, Failure> {
        let pair = (&options.access_key_id, &options.secret_access_key);
        match pair {
            (Some(_), None) => {
                return Err(Failure::configuration(
                    StorageErrorKind::InvalidPath,
                    "there is an access key id, but no secret access key",
                    "set storage.secret_access_key, or remove storage.access_key_id",
                ));
            }
            (None, Some(_)) => {
                return Err(Failure::configuration(
                    StorageErrorKind::InvalidPath,
                    "there is a secret access key, but no access key id",
                    "set storage.access_key_id, or remove storage.secret_access_key",
                ));
            }
            (None, None) if options.session_token.is_some() => {
                return Err(Failure::configuration(
                    StorageErrorKind::InvalidPath,
                    "there is a session token, but no access key id",
                    "set storage.access_key_id and storage.secret_access_key, or remove storage.session_token",
                ));
            }
            _ => {}
        }
        if let Some(endpoint) = &options.endpoint {
            let valid = Url::parse(endpoint).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.query().is_none()
                    && url.fragment().is_none()
            });
            if !valid {
                return Err(Failure::configuration(
                    StorageErrorKind::InvalidPath,
                    "the endpoint is no URL like https://host:port, without user, query and fragment",
                    "correct storage.endpoint",
                ));
            }
        }
        Ok(Self {
            options: options.clone(),
            attempt_timeout,
            client: Mutex::default(),
        })
    }

    /// The endpoint, where it is not Amazon's. Never holds credentials.
    pub(super) fn endpoint(&self) -> Option<&str> {
        self.options.endpoint.as_deref()
    }

    /// False if the credentials are in the options and therefore stay what they are.
    pub(super) fn renews_credentials(&self) -> bool {
        self.options.access_key_id.is_none()
    }

    /// How long an attempt may take that transfers so many bytes.
    pub(super) fn limit(&self, bytes: u64) -> Duration {
        let transfer = Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
        self.attempt_timeout.saturating_add(transfer)
    }

    /// How long the store may take to put the parts of an object together, which it does with all of them at once.
    pub(super) fn completion_limit(&self) -> Duration {
        self.attempt_timeout.saturating_mul(4)
    }

    /// The client and its generation.
    pub(super) async fn client(&self) -> Result<(Client, u64), Failure> {
        let mut made = self.client.lock().await;
        if let Some(client) = &made.client {
            return Ok((client.clone(), made.generation));
        }
        let client = Box::pin(self.make()).await?;
        made.generation += 1;
        made.client = Some(client.clone());
        Ok((client, made.generation))
    }

    /// Makes the next request begin with a new client, and so with credentials that are asked for again, unless that
    /// has happened since `generation`. The SDK renews credentials by their own time of expiry only.
    pub(super) async fn forget(&self, generation: u64) {
        if !self.renews_credentials() {
            return;
        }
        let mut made = self.client.lock().await;
        if made.generation == generation {
            made.client = None;
        }
    }

    async fn make(&self) -> Result<Client, Failure> {
        let options = &self.options;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
            // The limit of the whole attempt is the one that counts.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &options.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(endpoint) = &options.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let (Some(id), Some(secret)) = (&options.access_key_id, &options.secret_access_key) {
            let token = options.session_token.as_ref();
            loader = loader.credentials_provider(Credentials::new(
                id,
                secret.expose_secret(),
                token.map(|token| token.expose_secret().to_owned()),
                None,
                "options",
            ));
        }
        let shared = loader.load().await;
        let elsewhere = shared.endpoint_url().is_some();
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .interceptor(QuietAnswers)
            .force_path_style(options.path_style.unwrap_or(elsewhere));
        if shared.region().is_none() {
            if !elsewhere {
                return Err(Failure::configuration(
                    StorageErrorKind::InvalidPath,
                    "the region of the bucket is not known",
                    "set storage.region",
                ));
            }
            config = config.region(Region::new(ANY_REGION));
        }
        Ok(Client::from_conf(config.build()))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
