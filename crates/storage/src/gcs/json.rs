//! The JSON API: what there is to know about objects, and their deletion.

use std::time::SystemTime;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::client::{Client, Request};
use super::error::Subject;
use crate::bucket::BucketRoot;
use crate::{Operation, StorageError, StorageErrorKind};

/// The most that the API gives at once.
const PAGE_SIZE: &str = "1000";

/// A name of an object is one segment of an address, its slashes included.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What the API tells about an object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    pub(super) name: String,
    size: String,
    time_created: String,
    /// CRC32C of the contents, big-endian, in base64.
    pub(super) crc32c: Option<String>,
    /// Which of the objects that had this name; listings do not ask for it.
    pub(super) generation: Option<String>,
}

impl Object {
    pub(super) fn size(&self) -> Option<u64> {
        self.size.parse().ok()
    }

    pub(super) fn written(&self) -> Option<SystemTime> {
        humantime::parse_rfc3339(&self.time_created).ok()
    }
}

/// A page of a listing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    #[serde(default)]
    pub(super) items: Vec<Object>,
    pub(super) next_page_token: Option<String>,
}

fn object_url(client: &Client, root: &BucketRoot, key: &str) -> Url {
    client.url(&format!(
        "/storage/v1/b/{}/o/{}",
        root.bucket(),
        utf8_percent_encode(key, SEGMENT)
    ))
}

fn without_body(method: Method, url: Url) -> Request {
    Request {
        method,
        url,
        headers: Vec::new(),
        body: Bytes::new(),
    }
}

pub(super) async fn get(
    client: &Client,
    subject: Subject<'_>,
    root: &BucketRoot,
    key: &str,
) -> Result<Object, StorageError> {
    let mut url = object_url(client, root, key);
    url.query_pairs_mut()
        .append_pair("fields", "name,size,timeCreated,crc32c,generation");
    let answer = client
        .send(subject, &without_body(Method::GET, url))
        .await?;
    if answer.status != StatusCode::OK {
        return Err(answer.refusal(subject));
    }
    parse(subject, &answer.body)
}

/// Deletes an object, or this generation of it alone. An error tells that there is none.
pub(super) async fn delete(
    client: &Client,
    subject: Subject<'_>,
    root: &BucketRoot,
    key: &str,
    generation: Option<&str>,
) -> Result<(), StorageError> {
    let mut url = object_url(client, root, key);
    if let Some(generation) = generation {
        url.query_pairs_mut().append_pair("generation", generation);
    }
    let answer = client
        .send(subject, &without_body(Method::DELETE, url))
        .await?;
    if answer.status.is_success() {
        Ok(())
    } else {
        Err(answer.refusal(subject))
    }
}

/// Removes an object that is not what was sent, and gives the error to report.
pub(super) async fn discard(
    client: &Client,
    subject: Subject<'_>,
    root: &BucketRoot,
    key: &str,
    generation: &str,
) -> StorageError {
    let deletion = Subject {
        operation: Operation::Delete,
        ..subject
    };
    match delete(client, deletion, root, key, Some(generation)).await {
        Err(error) if error.kind() != StorageErrorKind::NotFound => error,
        _ => subject.unexpected("the store made something else of the contents than was sent"),
    }
}

pub(super) async fn list(
    client: &Client,
    subject: Subject<'_>,
    root: &BucketRoot,
    prefix: &str,
    token: Option<&str>,
) -> Result<Page, StorageError> {
    let mut url = client.url(&format!("/storage/v1/b/{}/o", root.bucket()));
    url.query_pairs_mut()
        .append_pair("prefix", prefix)
        .append_pair("maxResults", PAGE_SIZE)
        .append_pair("fields", "items(name,size,timeCreated),nextPageToken");
    if let Some(token) = token {
        url.query_pairs_mut().append_pair("pageToken", token);
    }
    let answer = client
        .send(subject, &without_body(Method::GET, url))
        .await?;
    if answer.status != StatusCode::OK {
        return Err(answer.refusal(subject));
    }
    parse(subject, &answer.body)
}

pub(super) fn parse<'a, T: Deserialize<'a>>(
    subject: Subject<'_>,
    body: &'a [u8],
) -> Result<T, StorageError> {
    serde_json::from_slice(body).map_err(|error| {
        subject
            .unexpected("the answer of the store is not what its API promises")
            .with_source(error)
    })
}
