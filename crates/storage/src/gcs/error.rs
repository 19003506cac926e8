//! What the store's answers mean.

use std::fmt;
use std::time::Duration;

use google_cloud_auth::errors::CredentialsError;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use crate::{Operation, StorageError, StorageErrorKind as Kind};

/// The operation an error belongs to and what it was about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) operation: Operation,
    pub(super) path: &'a str,
}

impl Subject<'_> {
    pub(super) fn error(self, kind: Kind) -> StorageError {
        StorageError::new(kind, self.operation, self.path)
    }

    /// An answer of the store other than success.
    pub(super) fn refused(self, refusal: Refusal, headers: Option<&HeaderMap>) -> StorageError {
        let error = refusal.error(self).with_source(refusal);
        match headers.and_then(retry_after) {
            Some(delay) if error.is_transient() => error.with_retry_after(delay),
            _ => error,
        }
    }

    /// No answer, or half of one.
    pub(super) fn interrupted(self, error: reqwest::Error) -> StorageError {
        let kind = if error.is_timeout() {
            Kind::Timeout
        } else {
            Kind::Unavailable
        };
        // The address of an upload is as good as a password for it.
        self.error(kind).with_source(error.without_url())
    }

    pub(super) fn timed_out(self, limit: Duration) -> StorageError {
        self.error(Kind::Timeout).with_detail(format!(
            "the store did not answer within {} s",
            limit.as_secs()
        ))
    }

    /// An answer that is not what the protocol promises.
    pub(super) fn unexpected(self, detail: &'static str) -> StorageError {
        self.error(Kind::Other).with_detail(detail)
    }

    /// The credentials are there, but nobody turns them into a token.
    pub(super) fn no_token(self, error: CredentialsError) -> StorageError {
        let kind = if error.is_transient() {
            Kind::Unavailable
        } else {
            Kind::PermissionDenied
        };
        self.error(kind)
            .with_detail("there is no token to be had for the credentials")
            .with_remedy(CHECK_CREDENTIALS)
            .with_source(error)
    }

    /// Nothing was named, and nothing that was found, the metadata server at the least, has ever given a token. That
    /// looks like an outage, but on a machine without credentials it lasts.
    pub(super) fn no_credentials(self, error: CredentialsError) -> StorageError {
        self.error(Kind::PermissionDenied)
            .with_detail(
                "this machine has no application default credentials, or none that give a token",
            )
            .with_remedy(NAME_A_FILE)
            .with_source(error)
    }

    /// An error of the vendor's client, from any of its layers.
    pub(super) fn client(self, error: google_cloud_storage::Error) -> StorageError {
        if let Some(status) = error.http_status_code() {
            let refusal = match (error.status(), error.http_payload()) {
                (Some(status_of), _) => Refusal::new(status, &status_of.message),
                (None, Some(payload)) => Refusal::parse(status, payload),
                (None, None) => Refusal::new(status, ""),
            };
            return self.refused(refusal, error.http_headers());
        }
        if error.is_authentication() {
            let transient = std::error::Error::source(&error)
                .and_then(|source| source.downcast_ref::<CredentialsError>())
                .is_some_and(CredentialsError::is_transient);
            return self.no_token(CredentialsError::from_source(transient, error));
        }
        let kind = if error.is_timeout() {
            Kind::Timeout
        } else if error.is_io() || error.is_connect() || error.is_transport() {
            Kind::Unavailable
        } else {
            Kind::Other
        };
        self.error(kind).with_source(error)
    }
}

/// What an answer other than success says.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    reason: String,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorInfo,
}

#[derive(Deserialize)]
struct ErrorInfo {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<ErrorItem>,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(default)]
    reason: String,
}

impl Refusal {
    /// An answer with this text, which may be long or not meant for people.
    pub(super) fn new(status: u16, message: &str) -> Self {
        const LONGEST_MESSAGE: usize = 400;
        let message = message.trim().chars().filter(|c| !c.is_control());
        Self {
            status,
            reason: String::new(),
            message: message.take(LONGEST_MESSAGE).collect(),
        }
    }

    /// Reads the body of an answer: JSON by the API's convention, or text.
    pub(super) fn parse(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { error }) => {
                let reason = error.errors.into_iter().next().map(|item| item.reason);
                Self {
                    reason: reason.unwrap_or_default(),
                    ..Self::new(status, &error.message)
                }
            }
            Err(_) => Self::new(status, &String::from_utf8_lossy(body)),
        }
    }

    /// Whether it is the bucket that is not there, and not an object in it.
    fn bucket_missing(&self, operation: Operation) -> bool {
        match operation {
            Operation::GetRange | Operation::Head | Operation::Delete => {
                self.message.contains("bucket does not exist")
            }
            _ => true,
        }
    }

    fn error(&self, subject: Subject<'_>) -> StorageError {
        match self.status {
            401 => subject
                .error(Kind::PermissionDenied)
                .with_detail("the store does not accept the credentials")
                .with_remedy(CHECK_CREDENTIALS),
            403 => self.forbidden(subject),
            404 if self.bucket_missing(subject.operation) => subject
                .error(Kind::InvalidPath)
                .with_detail("the bucket does not exist")
                .with_remedy("make the bucket, or correct storage.url"),
            404 => subject.error(Kind::NotFound),
            408 | 504 => subject.error(Kind::Timeout),
            412 => subject.error(Kind::AlreadyExists),
            416 => subject.error(Kind::InvalidRange),
            429 | 500..600 => subject.error(Kind::Unavailable),
            _ => subject.error(Kind::Other),
        }
    }

    fn unpaid(subject: Subject<'_>) -> StorageError {
        subject
            .error(Kind::PermissionDenied)
            .with_detail("the account of the project is closed or disabled")
            .with_remedy("enable billing for the project of the bucket")
    }

    fn forbidden(&self, subject: Subject<'_>) -> StorageError {
        match self.reason.as_str() {
            "rateLimitExceeded" | "userRateLimitExceeded" => subject.error(Kind::Unavailable),
            "quotaExceeded" | "dailyLimitExceeded" => subject.error(Kind::NoSpace),
            "retentionPolicyNotMet" | "objectUnderActiveHold" => subject
                .error(Kind::PermissionDenied)
                .with_detail("a retention policy or a hold keeps the object")
                .with_remedy("let the retention policy of the bucket permit deletions"),
            "accountDisabled" | "userProjectAccountProblem" => Self::unpaid(subject),
            _ if self.message.contains("billing") => Self::unpaid(subject),
            _ => subject
                .error(Kind::PermissionDenied)
                .with_remedy(missing_permission(subject.operation)),
        }
    }
}

pub(super) const NAME_A_FILE: &str = "set storage.credentials_file to the key of a service account or the configuration \
     of a workload identity, or give this machine application default credentials";

const CHECK_CREDENTIALS: &str =
    "check storage.credentials_file, or the application default credentials of this machine";

fn missing_permission(operation: Operation) -> &'static str {
    match operation {
        Operation::GetRange | Operation::Head => {
            "grant the permission storage.objects.get on the bucket, as the role Storage Object User does"
        }
        Operation::List => {
            "grant the permission storage.objects.list on the bucket, as the role Storage Object User does"
        }
        Operation::Delete => {
            "grant the permission storage.objects.delete on the bucket, as the role Storage Object User does"
        }
        _ => {
            "grant the permission storage.objects.create on the bucket, as the role Storage Object User does"
        }
    }
}

/// How long the store asks to be left alone. It says so in seconds; a date is not understood and left to the backoff.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(operation: Operation, status: u16, body: &str) -> StorageError {
        let subject = Subject {
            operation,
            path: "x",
        };
        subject.refused(Refusal::parse(status, body.as_bytes()), None)
    }

    fn body(reason: &str, message: &str) -> String {
        format!(r#"{{"error": {{"message": "{message}", "errors": [{{"reason": "{reason}"}}]}}}}"#)
    }

    #[test]
    fn answers_mean_what_the_store_documents() {
        use Operation::{Head, Put};
        let bucket = body("notFound", "The specified bucket does not exist.");
        let object = body("notFound", "No such object: b/x");
        let billing = body("forbidden", "The billing account is disabled.");
        for (operation, status, body, kind) in [
            (Head, 404, object.as_str(), Kind::NotFound),
            (Head, 404, "", Kind::NotFound),
            (Head, 404, bucket.as_str(), Kind::InvalidPath),
            (Put, 404, "Not Found", Kind::InvalidPath),
            (Put, 412, "", Kind::AlreadyExists),
            (Head, 416, "", Kind::InvalidRange),
            (Head, 401, "", Kind::PermissionDenied),
            (Head, 403, billing.as_str(), Kind::PermissionDenied),
            (Put, 400, "Provided CRC32C", Kind::Other),
            (Put, 409, "", Kind::Other),
            (Head, 408, "", Kind::Timeout),
            (Head, 504, "", Kind::Timeout),
            (Head, 429, "", Kind::Unavailable),
            (Head, 500, "<html>", Kind::Unavailable),
            (Head, 502, "", Kind::Unavailable),
            (Head, 503, "", Kind::Unavailable),
        ] {
            assert_eq!(error(operation, status, body).kind(), kind, "{status}");
        }
        let remedy = error(Put, 403, &billing).remedy();
        assert!(remedy.unwrap().contains("billing"));
    }

    #[test]
    fn the_words_of_the_store_are_kept_within_bounds() {
        let text = Refusal::parse(503, body("backendError", "We are sorry.").as_bytes());
        assert_eq!(text.to_string(), "HTTP 503 (backendError): We are sorry.");
        let long = Refusal::parse(500, "\u{1b}[31mö".repeat(10_000).as_bytes()).to_string();
        assert!(long.chars().count() < 500 && !long.contains('\u{1b}'));
        assert_eq!(
            Refusal::parse(500, b"\xff").to_string(),
            "HTTP 500: \u{fffd}"
        );
    }
}
