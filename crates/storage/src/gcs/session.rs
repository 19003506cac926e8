//! Resumable uploads: the place in the store that takes an object's contents piece by piece.
//!
//! The vendor's client has them too, but keeps the session to itself: it cannot be ended when an upload is given up,
//! and all attempts at one object share one budget of time, however long the object takes.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE,
};
use url::Url;

use super::client::{Answer, Client, Request};
use super::error::Subject;
use super::json::{self, Object};
use crate::StorageError;
use crate::bucket::BucketRoot;

/// Pieces other than the last are multiples of this, in bytes.
pub(super) const QUANTUM: usize = 256 * 1024;

const HASH: HeaderName = HeaderName::from_static("x-goog-hash");
/// The answer to a piece that is not the last.
const RESUME_INCOMPLETE: u16 = 308;
/// The answer to the end of a session.
const CANCELLED: u16 = 499;

/// Whoever has the address of a session can write into it, so it is shown nowhere.
#[derive(Clone)]
pub(super) struct Session(Url);

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

/// How far an upload is.
#[derive(Debug)]
pub(super) enum Progress {
    /// The store has this many bytes.
    Stored(u64),
    /// The object is there.
    Complete(Object),
    /// The store does not know the session, or not any more.
    Gone,
}

/// A piece of the contents.
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
    /// If this is the last one.
    pub(super) last: Option<Whole>,
}

/// What is known about the contents when all of them are.
pub(super) struct Whole {
    pub(super) size: u64,
    pub(super) crc32c: u32,
}

/// As the API writes it.
pub(super) fn encode_crc32c(crc32c: u32) -> String {
    BASE64_STANDARD.encode(crc32c.to_be_bytes())
}

impl Session {
    /// Begins an upload that will create the object, and not replace one.
    pub(super) async fn start(
        client: &Client,
        subject: Subject<'_>,
        root: &BucketRoot,
        key: &str,
    ) -> Result<Self, StorageError> {
        let mut url = client.url(&format!("/upload/storage/v1/b/{}/o", root.bucket()));
        url.query_pairs_mut()
            .append_pair("uploadType", "resumable")
            .append_pair("name", key)
            .append_pair("ifGenerationMatch", "0");
        let request = Request {
            method: Method::POST,
            url,
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            body: Bytes::from_static(b"{}"),
        };
        let answer = client.send(subject, &request).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal(subject));
        }
        answer
            .headers
            .get(LOCATION)
            .and_then(|location| Url::parse(location.to_str().ok()?).ok())
            .map(Self)
            .ok_or_else(|| subject.unexpected("the store began an upload and did not say where"))
    }

    /// Adds a piece.
    pub(super) async fn append(
        &self,
        client: &Client,
        subject: Subject<'_>,
        piece: Piece,
    ) -> Result<Progress, StorageError> {
        let length = u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX);
        let end = piece.offset.saturating_add(length);
        let total = match &piece.last {
            Some(whole) => whole.size.to_string(),
            None => "*".to_owned(),
        };
        let range = match end.checked_sub(1) {
            Some(last) if length > 0 => format!("bytes {}-{last}/{total}", piece.offset),
            _ => format!("bytes */{total}"),
        };
        let mut headers = vec![range_header(subject, &range)?];
        if let Some(whole) = &piece.last {
            let hash = format!("crc32c={}", encode_crc32c(whole.crc32c));
            let hash = HeaderValue::from_str(&hash).map_err(|error| {
                subject
                    .unexpected("a checksum is no header")
                    .with_source(error)
            })?;
            headers.push((HASH, hash));
        }
        self.put(client, subject, headers, piece.bytes).await
    }

    /// Asks how far the upload is.
    pub(super) async fn query(
        &self,
        client: &Client,
        subject: Subject<'_>,
    ) -> Result<Progress, StorageError> {
        let headers = vec![range_header(subject, "bytes */*")?];
        self.put(client, subject, headers, Bytes::new()).await
    }

    async fn put(
        &self,
        client: &Client,
        subject: Subject<'_>,
        mut headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<Progress, StorageError> {
        headers.push((CONTENT_LENGTH, HeaderValue::from(body.len())));
        let request = Request {
            method: Method::PUT,
            url: self.0.clone(),
            headers,
            body,
        };
        let answer = client.send(subject, &request).await?;
        match answer.status.as_u16() {
            200 | 201 => json::parse(subject, &answer.body).map(Progress::Complete),
            RESUME_INCOMPLETE => stored(subject, &answer).map(Progress::Stored),
            404 | 410 | CANCELLED => Ok(Progress::Gone),
            _ => Err(answer.refusal(subject)),
        }
    }

    /// Ends the session; what it has taken is gone. Ending one that is not there is no error.
    pub(super) async fn cancel(
        &self,
        client: &Client,
        subject: Subject<'_>,
    ) -> Result<(), StorageError> {
        let request = Request {
            method: Method::DELETE,
            url: self.0.clone(),
            headers: vec![(CONTENT_LENGTH, HeaderValue::from(0))],
            body: Bytes::new(),
        };
        let answer = client.send(subject, &request).await?;
        match answer.status.as_u16() {
            200..300 | 400 | 404 | 410 | 412 | CANCELLED => Ok(()),
            _ => Err(answer.refusal(subject)),
        }
    }
}

fn range_header(
    subject: Subject<'_>,
    range: &str,
) -> Result<(HeaderName, HeaderValue), StorageError> {
    HeaderValue::from_str(range)
        .map(|value| (CONTENT_RANGE, value))
        .map_err(|error| {
            subject
                .unexpected("a range is no header")
                .with_source(error)
        })
}

/// How much the store has: without the header nothing, else all from the first byte to the one that it names.
fn stored(subject: Subject<'_>, answer: &Answer) -> Result<u64, StorageError> {
    let Some(range) = answer.headers.get(RANGE) else {
        return Ok(0);
    };
    range
        .to_str()
        .ok()
        .and_then(|range| range.strip_prefix("bytes=0-")?.parse::<u64>().ok())
        .and_then(|last| last.checked_add(1))
        .ok_or_else(|| subject.unexpected("the store does not say how far an upload is"))
}
