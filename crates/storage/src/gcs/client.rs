//! Requests with credentials and within a time.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use google_cloud_storage::client::Storage as SdkClient;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::OnceCell;
use url::Url;

use super::credentials;
use super::error::{Refusal, Subject};
use crate::{GcsOptions, Operation, StorageError, StorageErrorKind};

const PUBLIC_ENDPOINT: &str = "https://storage.googleapis.com";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers are lists of objects at most; a page of a thousand with the longest names stays below a few MiB.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

/// How long one attempt may take that moves `bytes`: half a minute and what 100 KiB/s need.
pub(super) fn time_limit(bytes: u64) -> Duration {
    const SLOWEST_BYTES_PER_SECOND: u64 = 100 * 1024;
    Duration::from_secs(30_u64.saturating_add(bytes / SLOWEST_BYTES_PER_SECOND))
}

/// The clients of one store, made when they are first needed.
pub(super) struct Client {
    /// The root as a URL, for errors that are about no single object.
    root: String,
    options: GcsOptions,
    endpoint: Url,
    http: reqwest::Client,
    credentials: OnceCell<Credentials>,
    sdk: OnceCell<SdkClient>,
    /// Whether the credentials have ever given a token.
    proven: AtomicBool,
}

/// Without credentials and options, of which no part is worth the risk.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("root", &self.root)
            .field("endpoint", &self.endpoint.as_str())
            .finish_non_exhaustive()
    }
}

/// A request of the JSON API.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

/// A complete answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// The error that it is to `subject`.
    pub(super) fn refusal(&self, subject: Subject<'_>) -> StorageError {
        let refusal = Refusal::parse(self.status.as_u16(), &self.body);
        subject.refused(refusal, Some(&self.headers))
    }
}

impl Client {
    pub(super) fn new(root: String, options: &GcsOptions) -> Result<Self, StorageError> {
        let failed = |kind| StorageError::new(kind, Operation::Open, root.as_str());
        let endpoint = options.endpoint.as_deref().unwrap_or(PUBLIC_ENDPOINT);
        let endpoint = Url::parse(endpoint)
            .ok()
            .filter(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && matches!(url.path(), "" | "/")
                    && url.query().is_none()
                    && url.username().is_empty()
                    && url.password().is_none()
            })
            .ok_or_else(|| {
                failed(StorageErrorKind::InvalidPath)
                    .with_detail("the endpoint is no URL of a server")
                    .with_remedy("give the endpoint as http://host:port or https://host")
            })?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("duckfeeder-storage/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| failed(StorageErrorKind::Other).with_source(error))?;
        Ok(Self {
            root,
            options: options.clone(),
            endpoint,
            http,
            credentials: OnceCell::new(),
            sdk: OnceCell::new(),
            proven: AtomicBool::new(false),
        })
    }

    /// The address of the store's API followed by `path`, which begins with `/` and is percent-encoded.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(path);
        url
    }

    /// The endpoint, if it is not the public one.
    pub(super) fn endpoint(&self) -> Option<&str> {
        self.options.endpoint.as_deref()
    }

    async fn credentials(&self) -> Result<&Credentials, StorageError> {
        self.credentials
            .get_or_try_init(|| credentials::load(&self.options, &self.root))
            .await
    }

    /// The vendor's client. It repeats nothing by itself where it is told so for each call.
    pub(super) async fn sdk(&self, subject: Subject<'_>) -> Result<&SdkClient, StorageError> {
        self.sdk
            .get_or_try_init(|| async {
                // The client would say less about credentials that do not work.
                self.authorization(subject).await?;
                SdkClient::builder()
                    .with_endpoint(self.endpoint.as_str().trim_end_matches('/'))
                    .with_credentials(self.credentials().await?.clone())
                    .build()
                    .await
                    .map_err(|error| {
                        let kind = if error.is_universe_domain_mismatch() {
                            StorageErrorKind::Unsupported
                        } else {
                            StorageErrorKind::Other
                        };
                        subject
                            .error(kind)
                            .with_detail("the client cannot be made")
                            .with_source(error)
                    })
            })
            .await
    }

    async fn authorization(&self, subject: Subject<'_>) -> Result<HeaderMap, StorageError> {
        let credentials = self.credentials().await?;
        #[expect(
            clippy::default_trait_access,
            reason = "the type is of a crate that is needed for nothing else"
        )]
        match credentials.headers(Default::default()).await {
            Ok(CacheableResource::New { data, .. }) => {
                self.proven.store(true, Ordering::Relaxed);
                Ok(data)
            }
            Ok(CacheableResource::NotModified) => {
                Err(subject.unexpected("the credentials gave no token"))
            }
            Err(error)
                if self.options.credentials_file.is_none()
                    && !self.proven.load(Ordering::Relaxed) =>
            {
                Err(subject.no_credentials(error))
            }
            Err(error) => Err(subject.no_token(error)),
        }
    }

    /// Sends a request and reads its answer, within the time that its body needs. One that is refused for its token
    /// is sent once more with the token of then, because the first may have expired on its way.
    pub(super) async fn send(
        &self,
        subject: Subject<'_>,
        request: &Request,
    ) -> Result<Answer, StorageError> {
        let answer = self.send_once(subject, request).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            return self.send_once(subject, request).await;
        }
        Ok(answer)
    }

    async fn send_once(
        &self,
        subject: Subject<'_>,
        request: &Request,
    ) -> Result<Answer, StorageError> {
        let limit = time_limit(u64::try_from(request.body.len()).unwrap_or(u64::MAX));
        let attempt = async {
            let mut headers = self.authorization(subject).await?;
            for (name, value) in &request.headers {
                headers.insert(name, value.clone());
            }
            let response = self
                .http
                .request(request.method.clone(), request.url.clone())
                .headers(headers)
                .body(request.body.clone())
                .send()
                .await
                .map_err(|error| subject.interrupted(error))?;
            read(subject, response).await
        };
        tokio::time::timeout(limit, attempt)
            .await
            .unwrap_or_else(|_| Err(subject.timed_out(limit)))
    }
}

async fn read(subject: Subject<'_>, mut response: Response) -> Result<Answer, StorageError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| subject.interrupted(error))?
    {
        if body.len().saturating_add(chunk.len()) > LONGEST_ANSWER {
            return Err(subject.unexpected("the answer of the store does not end"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        status: response.status(),
        headers: std::mem::take(response.headers_mut()),
        body: body.freeze(),
    })
}
