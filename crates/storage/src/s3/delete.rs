//! Deletions, of single objects and in batches.

use std::collections::HashMap;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::Bucket;
use super::error::Failure;
use crate::{ObjectPath, Operation, StorageError, StorageErrorKind};

/// The most that a store takes in one request.
const BATCH: usize = 1000;

impl Bucket {
    pub(super) async fn delete(&self, path: &ObjectPath) -> Result<(), Failure> {
        let key = self.root.key(path);
        let deleted = self
            .attempt(0, |client| async move {
                let request = client.delete_object().bucket(self.name()).key(key);
                request.send().await?;
                Ok(())
            })
            .await;
        match deleted {
            Err(failure) if failure.kind() == StorageErrorKind::NotFound => Ok(()),
            deleted => deleted,
        }
    }

    pub(super) async fn delete_all(&self, paths: &[ObjectPath]) -> Vec<Result<(), StorageError>> {
        let mut results = Vec::with_capacity(paths.len());
        for batch in paths.chunks(BATCH) {
            for (path, result) in batch.iter().zip(self.delete_batch(batch).await) {
                results.push(
                    result.map_err(|failure| self.error(failure, Operation::Delete, path.as_str())),
                );
            }
        }
        results
    }

    async fn delete_batch(&self, paths: &[ObjectPath]) -> Vec<Result<(), Failure>> {
        match self.delete_together(paths).await {
            Ok(failed) => {
                let result = |path: &ObjectPath| match failed.get(&self.root.key(path)) {
                    Some(failure) if failure.kind() != StorageErrorKind::NotFound => {
                        Err(failure.clone())
                    }
                    _ => Ok(()),
                };
                paths.iter().map(result).collect()
            }
            Err(failure) if failure.lacks_batches() => {
                let mut results = Vec::with_capacity(paths.len());
                for path in paths {
                    results.push(self.delete(path).await);
                }
                results
            }
            Err(failure) => paths.iter().map(|_| Err(failure.clone())).collect(),
        }
    }

    /// Deletes what fits into one request; gives those that failed by their keys.
    async fn delete_together(
        &self,
        paths: &[ObjectPath],
    ) -> Result<HashMap<String, Failure>, Failure> {
        let keys = paths.iter().map(|path| {
            let key = ObjectIdentifier::builder().key(self.root.key(path));
            key.build()
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let batch = Delete::builder().set_objects(Some(keys)).quiet(true);
        let batch = batch.build()?;
        let answer = self
            .attempt(0, |client| async move {
                let request = client.delete_objects().bucket(self.name()).delete(batch);
                Ok(request.send().await?)
            })
            .await?;
        let failed = answer.errors().iter().map(|error| {
            let failure = Failure::reported(error.code(), error.message());
            (error.key().unwrap_or_default().to_owned(), failure)
        });
        Ok(failed.collect())
    }
}
