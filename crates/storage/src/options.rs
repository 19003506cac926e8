//! What opening a store takes beside its URL.

use std::path::PathBuf;

use secrecy::SecretString;

/// Settings of all kinds of stores; each looks at its own. The default finds region and credentials where the tools of
/// the store's vendor look for them.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// For `s3://` URLs.
    pub s3: S3Options,
    /// For `gs://` URLs.
    pub gcs: GcsOptions,
}

/// Settings of Amazon S3 and of stores that speak its protocol. What is not given is taken from the environment, the
/// shared configuration files, or the metadata service of the machine, as the AWS tools do.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// Region of the bucket, such as `eu-west-1`.
    pub region: Option<String>,
    /// URL of a store other than Amazon's, such as `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// Whether the bucket goes into the path of the request instead of the host name. By default so exactly when
    /// there is an endpoint.
    pub path_style: Option<bool>,
    /// Profile of the shared configuration files.
    pub profile: Option<String>,
    /// Key that stands for the whole credential chain; needs a secret access key.
    pub access_key_id: Option<String>,
    /// Secret of that key.
    pub secret_access_key: Option<SecretString>,
    /// Token of temporary keys.
    pub session_token: Option<SecretString>,
    /// How an object is kept from being replaced.
    pub create_only: CreateOnly,
}

/// How a write to S3 makes sure that it replaces nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CreateOnly {
    /// By `If-None-Match: *`, which Amazon S3 and most others know.
    #[default]
    Conditional,
    /// By looking whether there is an object before writing, for stores that lack conditional writes. Two writers
    /// that look at the same moment both write, and the later one wins; under names that are never used twice, as
    /// those of a lake's files, that cannot happen.
    Head,
}

/// Settings of Google Cloud Storage. Without any, the application default credentials are used.
#[derive(Debug, Clone, Default)]
pub struct GcsOptions {
    /// URL of an emulator or a private endpoint, such as `http://127.0.0.1:9023`.
    pub endpoint: Option<String>,
    /// File with the key of a service account, or the configuration of a workload identity.
    pub credentials_file: Option<PathBuf>,
    /// No credentials at all, for emulators.
    pub anonymous: bool,
}
