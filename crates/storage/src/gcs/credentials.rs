//! Who we are to the store.

use std::path::Path;

use google_cloud_auth::build_errors::Error as BuildError;
use google_cloud_auth::credentials::{
    AccessTokenCredentials, Builder, Credentials, anonymous, external_account,
    external_account_authorized_user, impersonated, service_account, user_account,
};
use serde_json::Value;

use super::error::NAME_A_FILE;
use crate::{GcsOptions, Operation, StorageError, StorageErrorKind};

/// Enough for objects, too little for anything about a bucket.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

/// Loads the credentials that `options` ask for. Reads files, and asks nobody over the network yet.
///
/// # Errors
/// [`PermissionDenied`](StorageErrorKind::PermissionDenied), which names the file, and never shows what it holds.
pub(super) async fn load(options: &GcsOptions, root: &str) -> Result<Credentials, StorageError> {
    if options.anonymous {
        return Ok(anonymous::Builder::new().build());
    }
    match &options.credentials_file {
        Some(file) => from_file(file, root).await,
        None => Builder::default()
            .with_scopes([SCOPE])
            .build()
            .map_err(|error| {
                refused(
                    root,
                    format!("no application default credentials: {}", shape(&error)),
                )
            }),
    }
}

async fn from_file(file: &Path, root: &str) -> Result<Credentials, StorageError> {
    let named = |what: &str| {
        let file = file.display();
        refused(root, format!("storage.credentials_file '{file}' {what}"))
    };
    let contents = tokio::fs::read(file)
        .await
        .map_err(|error| named("cannot be read").with_source(error))?;
    // The parser's own error would show what it stumbled over.
    let json: Value = serde_json::from_slice(&contents).map_err(|_| named("holds no JSON"))?;
    match from_json(json) {
        Some(built) => built
            .map(Credentials::from)
            .map_err(|error| named(shape(&error))),
        None => Err(named("holds no credentials of a type that is supported")),
    }
}

/// Credentials by the `type` that the vendor's tools write into such a file; `None` for one that is not known.
fn from_json(json: Value) -> Option<Result<AccessTokenCredentials, BuildError>> {
    let kind = json.get("type")?.as_str()?.to_owned();
    Some(match kind.as_str() {
        "service_account" => service_account::Builder::new(json)
            .with_access_specifier(service_account::AccessSpecifier::from_scopes([SCOPE]))
            .build_access_token_credentials(),
        "external_account" => external_account::Builder::new(json)
            .with_scopes([SCOPE])
            .build_access_token_credentials(),
        "external_account_authorized_user" => {
            external_account_authorized_user::Builder::new(json).build_access_token_credentials()
        }
        "impersonated_service_account" => impersonated::Builder::new(json)
            .with_scopes([SCOPE])
            .build_access_token_credentials(),
        "authorized_user" => user_account::Builder::new(json)
            .with_scopes([SCOPE])
            .build_access_token_credentials(),
        _ => return None,
    })
}

/// What is wrong, without the words of the file.
fn shape(error: &BuildError) -> &'static str {
    if error.is_loading() {
        "the file cannot be read"
    } else if error.is_unknown_type() || error.is_not_supported() {
        "holds no credentials of a type that is supported"
    } else if error.is_missing_field() {
        "lacks a field that its type needs"
    } else {
        "holds no well-formed credentials"
    }
}

fn refused(root: &str, detail: String) -> StorageError {
    StorageError::new(StorageErrorKind::PermissionDenied, Operation::Open, root)
        .with_detail(detail)
        .with_remedy(NAME_A_FILE)
}
