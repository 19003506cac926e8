//! What the store's refusals mean.
//!
//! Errors of the SDK are not kept: they hold the whole answer, and the answer to a wrong signature repeats the key id
//! and what was signed, session token included. What is kept is code, message and request id.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::primitives::{ByteStreamError, DateTime, DateTimeFormat};

use crate::StorageErrorKind as Kind;
use crate::{Operation, StorageError};

/// Why a request failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    cause: Cause,
    retry_after: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Cause {
    /// The store answered.
    Answer(Answer),
    /// It did not, in this time.
    Timeout(String),
    /// There was no connection, or it broke.
    Connection(String),
    /// There are no credentials to sign with, for good or for now.
    Credentials { text: String, passing: bool },
    /// Known without asking the store.
    Known(Verdict),
}

/// An answer in the store's own words.
#[derive(Debug, Clone)]
struct Answer {
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
}

/// What is made of a failure.
#[derive(Debug, Clone)]
struct Verdict {
    kind: Kind,
    detail: Option<Cow<'static, str>>,
    remedy: Option<&'static str>,
}

impl Verdict {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            detail: None,
            remedy: None,
        }
    }

    fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn remedy(mut self, remedy: &'static str) -> Self {
        self.remedy = Some(remedy);
        self
    }
}

impl Failure {
    fn new(cause: Cause) -> Self {
        Self {
            cause,
            retry_after: None,
        }
    }

    pub(super) fn configuration(kind: Kind, detail: &'static str, remedy: &'static str) -> Self {
        Self::new(Cause::Known(
            Verdict::new(kind).detail(detail).remedy(remedy),
        ))
    }

    pub(super) fn timeout(limit: Duration) -> Self {
        Self::new(Cause::Timeout(format!("no answer within {limit:?}")))
    }

    pub(super) fn invalid_range() -> Self {
        Self::new(Cause::Known(Verdict::new(Kind::InvalidRange)))
    }

    pub(super) fn range_ignored() -> Self {
        Self::new(Cause::Known(Verdict::new(Kind::Unsupported).detail(
            "the store answered with other bytes than those of the range",
        )))
    }

    /// An answer that lacks something which every store sends.
    pub(super) fn incomplete(what: &str) -> Self {
        let detail = format!("the answer of the store does not say {what}");
        Self::new(Cause::Known(Verdict::new(Kind::Other).detail(detail)))
    }

    /// The upload has not gone away, although the store agreed to abort it.
    pub(super) fn upload_remains() -> Self {
        let detail = "the store still knows the upload after it was aborted";
        Self::new(Cause::Known(Verdict::new(Kind::Unavailable).detail(detail)))
    }

    /// What an answer reports about one of several objects.
    pub(super) fn reported(code: Option<&str>, message: Option<&str>) -> Self {
        Self::new(Cause::Answer(Answer::new(None, code, message, None)))
    }

    /// What kind of failure it is, as far as that does not depend on where the credentials come from.
    pub(super) fn kind(&self) -> Kind {
        self.verdict(Operation::Open, "", true).kind
    }

    /// True if the store takes the credentials for expired. It cannot say so to a `HEAD`, which has no body.
    pub(super) fn doubts_credentials(&self) -> bool {
        match &self.cause {
            Cause::Answer(answer) => match answer.code.as_deref() {
                Some(code) => EXPIRED.contains(&code),
                None => answer.status == Some(400),
            },
            _ => false,
        }
    }

    /// True if the store does not take deletions of many objects, or not without the MD5 that Amazon S3 has given up.
    pub(super) fn lacks_batches(&self) -> bool {
        match &self.cause {
            Cause::Answer(answer) => match answer.code.as_deref() {
                Some(code) => matches!(
                    code,
                    "NotImplemented" | "MissingContentMD5" | "MethodNotAllowed"
                ),
                None => matches!(answer.status, Some(405 | 501)),
            },
            _ => false,
        }
    }

    /// The error of `operation` on `path` in `bucket`; `renewed` if the credentials come from where there are new
    /// ones.
    pub(super) fn into_error(
        self,
        operation: Operation,
        path: &str,
        bucket: &str,
        renewed: bool,
    ) -> StorageError {
        let verdict = self.verdict(operation, bucket, renewed);
        let mut error = StorageError::new(verdict.kind, operation, path);
        if let Some(detail) = verdict.detail {
            error = error.with_detail(detail);
        }
        if let Some(remedy) = verdict.remedy {
            error = error.with_remedy(remedy);
        }
        if let Some(delay) = self.retry_after {
            error = error.with_retry_after(delay);
        }
        match self.cause {
            Cause::Known(_) => error,
            Cause::Answer(answer) => error.with_source(answer.to_string()),
            Cause::Timeout(text) | Cause::Connection(text) | Cause::Credentials { text, .. } => {
                error.with_source(text)
            }
        }
    }

    fn verdict(&self, operation: Operation, bucket: &str, renewed: bool) -> Verdict {
        match &self.cause {
            Cause::Known(verdict) => verdict.clone(),
            Cause::Timeout(_) => Verdict::new(Kind::Timeout),
            Cause::Connection(_) => Verdict::new(Kind::Unavailable),
            Cause::Credentials { passing: true, .. } => Verdict::new(Kind::Unavailable)
                .detail("the credentials for the store cannot be had at the moment"),
            Cause::Credentials { .. } => Verdict::new(Kind::PermissionDenied)
                .detail("there are no credentials for the store")
                .remedy(
                    "set storage.access_key_id and storage.secret_access_key, or AWS_ACCESS_KEY_ID and \
                     AWS_SECRET_ACCESS_KEY, or give this machine a profile or a role",
                ),
            Cause::Answer(answer) => answer
                .by_code(operation, bucket, renewed)
                .unwrap_or_else(|| answer.by_status(operation)),
        }
    }
}

/// Codes of credentials whose time is over.
const EXPIRED: [&str; 4] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "InvalidToken",
];
/// Codes whose message repeats what was signed or by whom.
const ABOUT_KEYS: [&str; 3] = [
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "AuthorizationHeaderMalformed",
];

impl Answer {
    fn new(
        status: Option<u16>,
        code: Option<&str>,
        message: Option<&str>,
        request_id: Option<&str>,
    ) -> Self {
        /// More than any store says.
        const LONGEST: usize = 500;
        let cut = |text: &str| text.chars().take(LONGEST).collect::<String>();
        let quiet = code.is_some_and(|code| ABOUT_KEYS.contains(&code) || EXPIRED.contains(&code));
        Self {
            status,
            code: code.map(cut),
            message: message.filter(|_| !quiet).map(cut),
            request_id: request_id.map(cut),
        }
    }

    /// What the code of the store says, if it is one that says more than the status.
    fn by_code(&self, operation: Operation, bucket: &str, renewed: bool) -> Option<Verdict> {
        let code = self.code.as_deref()?;
        Some(match code {
            "NoSuchKey" | "NotFound" | "NoSuchVersion" => Verdict::new(Kind::NotFound),
            "NoSuchBucket" => Verdict::new(Kind::InvalidPath)
                .detail(format!("there is no bucket '{bucket}'"))
                .remedy("make the bucket, or correct storage.url"),
            "InvalidBucketName" => Verdict::new(Kind::InvalidPath)
                .detail(format!("'{bucket}' is no name of a bucket"))
                .remedy("correct storage.url"),
            "KeyTooLongError" => Verdict::new(Kind::InvalidPath)
                .detail("the name of the object is longer than the store takes"),
            "NoSuchUpload" | "InvalidPart" | "InvalidPartOrder" => {
                Verdict::new(Kind::UploadClosed)
            }
            "PreconditionFailed" => Verdict::new(Kind::AlreadyExists),
            "ConditionalRequestConflict" | "OperationAborted" => Verdict::new(Kind::Unavailable)
                .detail("another write to the same object is under way"),
            "InvalidRange" => Verdict::new(Kind::InvalidRange),
            "NotImplemented" => return Some(not_implemented(operation)),
            "BadDigest"
            | "InvalidDigest"
            | "XAmzContentChecksumMismatch"
            | "XAmzContentSHA256Mismatch"
            | "IncompleteBody" => Verdict::new(Kind::Unavailable)
                .detail("the contents did not arrive as they were sent")
                .remedy("check the network between here and the store if this goes on"),
            "RequestTimeout" => Verdict::new(Kind::Timeout),
            "SlowDown" | "ServiceUnavailable" | "InternalError" | "Throttling"
            | "ThrottlingException" | "TooManyRequests" | "RequestLimitExceeded"
            | "XMinioServerNotInitialized" => Verdict::new(Kind::Unavailable),
            "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => {
                Verdict::new(Kind::NoSpace)
            }
            "RequestTimeTooSkewed" | "RequestExpired" => Verdict::new(Kind::Unavailable)
                .detail("the clocks of this machine and of the store differ too much")
                .remedy("set the clock of this machine"),
            "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException" => {
                wrong_region()
            }
            "AuthorizationHeaderMalformed" => wrong_region(),
            "SignatureDoesNotMatch" => Verdict::new(Kind::PermissionDenied)
                .detail("the store does not accept the signature")
                .remedy("correct the secret access key of the store"),
            "InvalidAccessKeyId" => Verdict::new(Kind::PermissionDenied)
                .detail("the store does not know the access key id")
                .remedy("correct the access key id of the store"),
            code if EXPIRED.contains(&code) && renewed => Verdict::new(Kind::Unavailable)
                .detail("the credentials have expired and are asked for again")
                .remedy("check that the source of the credentials still gives new ones"),
            code if EXPIRED.contains(&code) => Verdict::new(Kind::PermissionDenied)
                .detail("the credentials have expired")
                .remedy(
                    "set new values of storage.access_key_id, storage.secret_access_key and storage.session_token, \
                     or leave them out and use a profile or role, whose credentials are renewed",
                ),
            _ => return None,
        })
    }

    fn by_status(&self, operation: Operation) -> Verdict {
        match self.status {
            // As to a `HEAD`, which is answered without a reason.
            Some(400) if self.code.is_none() => Verdict::new(Kind::Other)
                .detail("the store refused the request and did not say why")
                .remedy("check credentials and storage.region"),
            Some(404) => Verdict::new(Kind::NotFound),
            Some(412) => Verdict::new(Kind::AlreadyExists),
            Some(416) => Verdict::new(Kind::InvalidRange),
            Some(401 | 403) => Verdict::new(Kind::PermissionDenied).remedy(permission(operation)),
            Some(301 | 307) => wrong_region(),
            Some(405 | 501) => not_implemented(operation),
            Some(408) => Verdict::new(Kind::Timeout),
            Some(507) => Verdict::new(Kind::NoSpace),
            Some(409 | 429 | 500 | 502..=504) => Verdict::new(Kind::Unavailable),
            // As in the list of a batch, which has no status of its own.
            None if self.code.as_deref() == Some("AccessDenied") => {
                Verdict::new(Kind::PermissionDenied).remedy(permission(operation))
            }
            _ => Verdict::new(Kind::Other),
        }
    }
}

fn wrong_region() -> Verdict {
    Verdict::new(Kind::InvalidPath)
        .detail("the bucket is in another region")
        .remedy("set storage.region to the region of the bucket")
}

fn not_implemented(operation: Operation) -> Verdict {
    let verdict = Verdict::new(Kind::Unsupported);
    match operation {
        Operation::Put | Operation::Complete => verdict
            .detail("the store does not know writes under a condition")
            .remedy("set storage.create_only = \"head\""),
        _ => verdict.detail("the store does not know this operation"),
    }
}

/// What has to be allowed for an operation.
fn permission(operation: Operation) -> &'static str {
    match operation {
        Operation::Put | Operation::StartMultipart | Operation::PutPart | Operation::Complete => {
            "allow s3:PutObject for the objects below storage.url"
        }
        Operation::GetRange | Operation::Head => {
            "allow s3:GetObject for the objects below storage.url, and s3:ListBucket for the bucket, without which a \
             missing object is refused in the same way"
        }
        Operation::List => "allow s3:ListBucket for the bucket",
        Operation::Delete => "allow s3:DeleteObject for the objects below storage.url",
        Operation::Abort | Operation::AbortUpload => {
            "allow s3:AbortMultipartUpload for the objects below storage.url"
        }
        Operation::ListUploads => "allow s3:ListBucketMultipartUploads for the bucket",
        Operation::Open | Operation::ParsePath => "allow the operation in the store",
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store answered")?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        if let Some(raw) = error.raw_response() {
            let meta = error.as_service_error().map(ProvideErrorMetadata::meta);
            let answer = Answer::new(
                Some(raw.status().as_u16()),
                meta.and_then(|meta| meta.code()),
                meta.and_then(|meta| meta.message()),
                raw.request_id().or_else(|| error.request_id()),
            );
            return Self {
                cause: Cause::Answer(answer),
                retry_after: raw.headers().get("retry-after").and_then(retry_after),
            };
        }
        let timed_out = match &error {
            SdkError::TimeoutError(_) => true,
            SdkError::DispatchFailure(failure) => failure.is_timeout(),
            _ => false,
        };
        let text = chain(&error);
        Self::new(match credentials(&error) {
            Some(passing) => Cause::Credentials { text, passing },
            None if timed_out => Cause::Timeout(text),
            None => Cause::Connection(text),
        })
    }
}

impl From<ByteStreamError> for Failure {
    fn from(error: ByteStreamError) -> Self {
        Self::new(Cause::Connection(chain(&error)))
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self::new(Cause::Connection(chain(&error)))
    }
}

/// Whether credentials are what is missing, and then whether for a passing reason.
fn credentials(error: &(dyn Error + 'static)) -> Option<bool> {
    let mut causes = std::iter::successors(Some(error), |cause| (*cause).source());
    causes
        .find_map(|cause| cause.downcast_ref::<CredentialsError>())
        .map(|cause| {
            matches!(
                cause,
                CredentialsError::ProviderTimedOut(_)
                    | CredentialsError::ProviderError(_)
                    | CredentialsError::Unhandled(_)
            )
        })
}

/// The messages of an error and of its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |cause| (*cause).source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

/// The wait that a header asks for: seconds, or a date.
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::from_str(value.trim(), DateTimeFormat::HttpDate).ok()?;
    let date = SystemTime::try_from(date).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, code: Option<&str>, operation: Operation, renewed: bool) -> StorageError {
        let answer = Answer::new(Some(status), code, Some("key AKIDSECRET"), Some("r1"));
        Failure::new(Cause::Answer(answer)).into_error(operation, "x", "b", renewed)
    }

    #[test]
    fn codes_and_statuses_have_their_kinds() {
        for (status, code, kind) in [
            (404, Some("NoSuchKey"), Kind::NotFound),
            (404, None, Kind::NotFound),
            (404, Some("NoSuchBucket"), Kind::InvalidPath),
            (404, Some("NoSuchUpload"), Kind::UploadClosed),
            (412, None, Kind::AlreadyExists),
            (409, Some("ConditionalRequestConflict"), Kind::Unavailable),
            (416, Some("InvalidRange"), Kind::InvalidRange),
            (400, Some("BadDigest"), Kind::Unavailable),
            (400, Some("RequestTimeout"), Kind::Timeout),
            (400, Some("SomethingNew"), Kind::Other),
            (403, Some("AccessDenied"), Kind::PermissionDenied),
            (403, Some("RequestTimeTooSkewed"), Kind::Unavailable),
            (301, Some("PermanentRedirect"), Kind::InvalidPath),
            (503, Some("SlowDown"), Kind::Unavailable),
            (500, None, Kind::Unavailable),
            (507, None, Kind::NoSpace),
            (501, Some("NotImplemented"), Kind::Unsupported),
            (200, Some("InternalError"), Kind::Unavailable),
            (200, None, Kind::Other),
        ] {
            let error = error(status, code, Operation::Put, true);
            assert_eq!(error.kind(), kind, "{status} {code:?}");
        }
    }

    #[test]
    fn expired_credentials_pass_only_where_there_are_new_ones() {
        for code in EXPIRED {
            let renewed = error(400, Some(code), Operation::Put, true);
            assert!(renewed.is_transient(), "{code}");
            let fixed = error(400, Some(code), Operation::Put, false);
            assert_eq!(fixed.kind(), Kind::PermissionDenied, "{code}");
            assert!(fixed.remedy().unwrap().contains("storage.session_token"));
        }
    }

    #[test]
    fn a_refusal_names_the_action_that_is_missing() {
        for (operation, action) in [
            (Operation::Put, "s3:PutObject"),
            (Operation::Complete, "s3:PutObject"),
            (Operation::Head, "s3:GetObject"),
            (Operation::List, "s3:ListBucket"),
            (Operation::Delete, "s3:DeleteObject"),
            (Operation::Abort, "s3:AbortMultipartUpload"),
            (Operation::ListUploads, "s3:ListBucketMultipartUploads"),
        ] {
            let error = error(403, Some("AccessDenied"), operation, true);
            assert!(error.remedy().unwrap().contains(action), "{operation}");
        }
    }

    #[test]
    fn what_stores_say_about_keys_is_left_out() {
        for code in ABOUT_KEYS {
            let error = error(403, Some(code), Operation::Put, true);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("AKIDSECRET"), "{shown}");
            assert!(shown.contains(code) && shown.contains("r1"), "{shown}");
        }
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_by_a_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        let past = retry_after("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(past, Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
