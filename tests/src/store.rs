//! Homes for a lake: a directory, or a bucket of a server behind a proxy that makes faults.

use std::fmt;

use anyhow::{Context, Result, ensure};

use crate::{
    duckdb::literal,
    feeder::Config,
    gcs_emulator::GcsEmulator,
    lake::Lake,
    proxy::FaultProxy,
    s3::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY},
};

/// The bucket, and the prefix in it that the lake is below.
const BUCKET: &str = "test-bucket";
const PREFIX: &str = "some/lake";

/// The kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// A directory.
    Local,
    /// A bucket of an S3 server.
    S3,
    /// A bucket of an emulator of Google Cloud Storage.
    Gcs,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::S3 => "S3",
            Self::Gcs => "GCS",
        })
    }
}

/// A home for one lake.
#[derive(Debug)]
pub struct Store {
    kind: StoreKind,
    /// What the feeder talks to; declared before the server that it stands in front of.
    proxy: Option<FaultProxy>,
    s3: Option<S3Server>,
    gcs: Option<GcsEmulator>,
}

impl Store {
    /// An empty one, with a server of its own where one is needed.
    ///
    /// # Errors
    /// When the server cannot be had or does not start.
    pub fn start(kind: StoreKind) -> Result<Self> {
        let mut store = Self {
            kind,
            proxy: None,
            s3: None,
            gcs: None,
        };
        match kind {
            StoreKind::Local => {}
            StoreKind::S3 => {
                let server = S3Server::start()?;
                server.create_bucket(BUCKET)?;
                store.proxy = Some(FaultProxy::start(&server.address())?);
                store.s3 = Some(server);
            }
            StoreKind::Gcs => {
                let emulator = GcsEmulator::start()?;
                emulator.create_bucket(BUCKET)?;
                store.proxy = Some(FaultProxy::start(&emulator.address())?);
                store.gcs = Some(emulator);
            }
        }
        Ok(store)
    }

    /// The kind.
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// What stands between the feeder and the server.
    ///
    /// # Errors
    /// When there is no server.
    pub fn proxy(&self) -> Result<&FaultProxy> {
        self.proxy.as_ref().context("a directory has no proxy")
    }

    /// The S3 server.
    ///
    /// # Errors
    /// When there is none.
    pub fn s3(&self) -> Result<&S3Server> {
        self.s3.as_ref().context("this store is no S3 server")
    }

    /// A configuration whose lake is here.
    ///
    /// # Errors
    /// None that a store which started can have.
    pub fn configure(&self, config: Config) -> Result<Config> {
        match self.kind {
            StoreKind::Local => Ok(config),
            StoreKind::S3 => Ok(config
                .line("storage", &format!("url = \"s3://{BUCKET}/{PREFIX}\""))
                .line("storage", &format!("endpoint = {:?}", self.proxy()?.url()))
                .line("storage", &format!("access_key_id = {ACCESS_KEY_ID:?}"))
                .line(
                    "storage",
                    &format!("secret_access_key = {SECRET_ACCESS_KEY:?}"),
                )),
            StoreKind::Gcs => Ok(config
                .line("storage", &format!("url = \"gs://{BUCKET}/{PREFIX}\""))
                .line("storage", &format!("endpoint = {:?}", self.proxy()?.url()))
                .line("storage", "anonymous = true")),
        }
    }

    /// A lake that DuckDB reads from here, past the proxy.
    ///
    /// # Errors
    /// None that a store which started can have.
    pub fn readable(&self, lake: Lake) -> Result<Lake> {
        let (secret, scheme, address) = match self.kind {
            StoreKind::Local => return Ok(lake),
            StoreKind::S3 => ("type s3, region 'us-east-1'", "s3", self.s3()?.address()),
            StoreKind::Gcs => {
                let emulator = self.gcs.as_ref().context("this store is no emulator")?;
                ("type gcs", "gs", emulator.address())
            }
        };
        Ok(lake.with_bucket(&format!(
            "{secret}, key_id {}, secret {}, endpoint '{address}', url_style 'path', use_ssl false, \
             scope '{scheme}://{BUCKET}'",
            literal(ACCESS_KEY_ID),
            literal(SECRET_ACCESS_KEY),
        )))
    }

    /// The paths of all objects below the lake's path, in order.
    ///
    /// # Errors
    /// When the server does not answer, or has objects elsewhere.
    pub fn objects(&self) -> Result<Vec<String>> {
        let below = format!("{PREFIX}/");
        let mut paths = Vec::new();
        for key in self.s3()?.keys(BUCKET)? {
            let path = key.strip_prefix(&below);
            ensure!(path.is_some(), "{key} is not below {below}");
            paths.extend(path.map(str::to_owned));
        }
        Ok(paths)
    }

    /// The keys of all open multipart uploads.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn uploads(&self) -> Result<Vec<String>> {
        self.s3()?.uploads(BUCKET)
    }
}
