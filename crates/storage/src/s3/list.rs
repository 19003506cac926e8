//! Listings: objects, and uploads that nobody has ended.

use super::error::Failure;
use super::{Bucket, meta, time};
use crate::{ListPage, ObjectPath, OpenUpload, PageToken, UploadPage};

/// The most that a store puts on a page.
const PAGE: i32 = 1000;

impl Bucket {
    /// What a listing is of, for errors.
    pub(super) fn shown(&self, prefix: Option<&ObjectPath>) -> String {
        prefix.map_or_else(|| self.root.url(), ObjectPath::to_string)
    }

    pub(super) async fn list(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<ListPage, Failure> {
        let answer = self
            .attempt(0, |client| async move {
                let request = client
                    .list_objects_v2()
                    .bucket(self.name())
                    .prefix(self.root.key_prefix(prefix))
                    .max_keys(PAGE)
                    .set_continuation_token(token.map(|token| token.as_str().to_owned()));
                Ok(request.send().await?)
            })
            .await?;
        let objects = answer
            .contents()
            .iter()
            // Other tools may keep objects here whose names are none of ours.
            .filter_map(|object| Some((self.root.path(object.key()?)?, object)))
            .map(|(path, object)| meta(path, object.size(), object.last_modified()))
            .collect::<Result<_, _>>()?;
        let next = match (answer.is_truncated(), answer.next_continuation_token()) {
            (Some(true), None) => return Err(Failure::incomplete("where the listing goes on")),
            (Some(true), Some(next)) => Some(PageToken::new(next)),
            _ => None,
        };
        Ok(ListPage { objects, next })
    }

    pub(super) async fn list_uploads(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<UploadPage, Failure> {
        // An id has no line feed, so it comes first; see below.
        let marker = token.and_then(|token| token.as_str().split_once('\n'));
        let answer = self
            .attempt(0, |client| async move {
                let request = client
                    .list_multipart_uploads()
                    .bucket(self.name())
                    .prefix(self.root.key_prefix(prefix))
                    .max_uploads(PAGE)
                    .set_upload_id_marker(marker.map(|(id, _)| id.to_owned()))
                    .set_key_marker(marker.map(|(_, key)| key.to_owned()));
                Ok(request.send().await?)
            })
            .await?;
        let uploads = answer
            .uploads()
            .iter()
            .filter_map(|upload| Some((self.root.path(upload.key()?)?, upload)))
            .map(|(path, upload)| {
                let id = upload.upload_id().unwrap_or_default().to_owned();
                let started = time(upload.initiated())?;
                Ok(OpenUpload { path, id, started })
            })
            .collect::<Result<_, Failure>>()?;
        let next = match (answer.is_truncated(), answer.next_key_marker()) {
            (Some(true), None) => return Err(Failure::incomplete("where the listing goes on")),
            (Some(true), Some(key)) => {
                let id = answer.next_upload_id_marker().unwrap_or_default();
                Some(PageToken::new(format!("{id}\n{key}")))
            }
            _ => None,
        };
        Ok(UploadPage { uploads, next })
    }
}
