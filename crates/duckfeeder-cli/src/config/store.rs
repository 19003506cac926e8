//! The keys of `[storage]`.

use std::fs;
use std::path::Path;

use duckfeeder::Store;
use duckfeeder::storage::{GcsOptions, S3Options, StoreOptions};
use secrecy::SecretString;

use super::error::ConfigError;
use super::keys::{self, Spec};
use super::layer::{Found, Values, given};
use super::origin::Origin;

/// Where the files go; `None` when nobody said so.
pub(super) fn store(values: &Values) -> Result<Option<Store>, ConfigError> {
    let Some(url) = given(values, &keys::STORAGE_URL)? else {
        return Ok(None);
    };
    let url = url.value;
    let scheme = Scheme::of(&url);
    refuse_foreign(values, scheme)?;
    let mut options = StoreOptions::default();
    match scheme {
        Scheme::S3 => options.s3 = s3(values)?,
        Scheme::Gcs => options.gcs = gcs(values)?,
        Scheme::Other => {}
    }
    Ok(Some(Store::with_options(url, options)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    S3,
    Gcs,
    Other,
}

impl Scheme {
    fn of(url: &str) -> Self {
        match url.split_once("://") {
            Some(("s3", _)) => Self::S3,
            Some(("gs", _)) => Self::Gcs,
            _ => Self::Other,
        }
    }
}

/// The keys that only some stores have.
fn particular() -> [(&'static Spec, &'static [Scheme]); 11] {
    const S3: &[Scheme] = &[Scheme::S3];
    const GCS: &[Scheme] = &[Scheme::Gcs];
    [
        (&keys::STORAGE_ENDPOINT.spec, &[Scheme::S3, Scheme::Gcs]),
        (&keys::STORAGE_REGION.spec, S3),
        (&keys::STORAGE_PATH_STYLE.spec, S3),
        (&keys::STORAGE_PROFILE.spec, S3),
        (&keys::STORAGE_ACCESS_KEY_ID.spec, S3),
        (&keys::STORAGE_SECRET_ACCESS_KEY.spec, S3),
        (&keys::STORAGE_SECRET_ACCESS_KEY_FILE.spec, S3),
        (&keys::STORAGE_SESSION_TOKEN.spec, S3),
        (&keys::STORAGE_CREATE_ONLY.spec, S3),
        (&keys::STORAGE_CREDENTIALS_FILE.spec, GCS),
        (&keys::STORAGE_ANONYMOUS.spec, GCS),
    ]
}

/// A setting that would be ignored is a mistake.
fn refuse_foreign(values: &Values, scheme: Scheme) -> Result<(), ConfigError> {
    for (spec, schemes) in particular() {
        if let Some(entry) = values.get(spec.path)
            && !schemes.contains(&scheme)
        {
            let (wanted, prefix) = match schemes {
                [Scheme::S3] => ("S3", "s3://"),
                [Scheme::Gcs] => ("Google Cloud Storage", "gs://"),
                _ => ("object stores", "s3:// or gs://"),
            };
            return Err(ConfigError::new(
                format!("`{}` is a setting of {wanted}", spec.path),
                format!("remove it, or let `storage.url` begin with {prefix}"),
            )
            .at(&entry.origin));
        }
    }
    Ok(())
}

fn s3(values: &Values) -> Result<S3Options, ConfigError> {
    let access_key_id = given(values, &keys::STORAGE_ACCESS_KEY_ID)?;
    let secret_access_key = secret_access_key(values)?;
    let session_token = given(values, &keys::STORAGE_SESSION_TOKEN)?;
    let (id, secret) = (
        &keys::STORAGE_ACCESS_KEY_ID.spec,
        &keys::STORAGE_SECRET_ACCESS_KEY.spec,
    );
    if access_key_id.is_some() && secret_access_key.is_none() {
        return Err(lacks(values, id, secret.path));
    }
    if access_key_id.is_none() {
        let file = &keys::STORAGE_SECRET_ACCESS_KEY_FILE.spec;
        let token = &keys::STORAGE_SESSION_TOKEN.spec;
        for spec in [secret, file, token] {
            if values.contains_key(spec.path) {
                return Err(lacks(values, spec, id.path));
            }
        }
    }
    Ok(S3Options {
        region: value(given(values, &keys::STORAGE_REGION)?),
        endpoint: value(given(values, &keys::STORAGE_ENDPOINT)?),
        path_style: value(given(values, &keys::STORAGE_PATH_STYLE)?),
        profile: value(given(values, &keys::STORAGE_PROFILE)?),
        access_key_id: value(access_key_id),
        secret_access_key,
        session_token: session_token.map(|token| token.value.into()),
        create_only: value(given(values, &keys::STORAGE_CREATE_ONLY)?).unwrap_or_default(),
    })
}

/// The secret itself or the contents of its file; of the two the higher layer wins.
fn secret_access_key(values: &Values) -> Result<Option<SecretString>, ConfigError> {
    let fixed = given(values, &keys::STORAGE_SECRET_ACCESS_KEY)?;
    let file = given(values, &keys::STORAGE_SECRET_ACCESS_KEY_FILE)?;
    match (fixed, file) {
        (Some(fixed), Some(file)) if fixed.origin.rank() == file.origin.rank() => {
            Err(ConfigError::new(
                "`storage.secret_access_key` and `storage.secret_access_key_file` are both set",
                "keep one of the two",
            )
            .at(&file.origin))
        }
        (Some(fixed), Some(file)) if fixed.origin.rank() < file.origin.rank() => {
            read_secret(&file.value, &file.origin).map(Some)
        }
        (Some(fixed), _) => Ok(Some(fixed.value.into())),
        (None, Some(file)) => read_secret(&file.value, &file.origin).map(Some),
        (None, None) => Ok(None),
    }
}

fn read_secret(file: &Path, origin: &Origin) -> Result<SecretString, ConfigError> {
    let path = keys::STORAGE_SECRET_ACCESS_KEY_FILE.spec.path;
    let text = fs::read_to_string(file).map_err(|error| {
        ConfigError::new(
            format!("`{path}`: cannot read {}: {error}", file.display()),
            "name a file with the secret access key that this process may read",
        )
        .at(origin)
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(ConfigError::new(
            format!("`{path}`: {} is empty", file.display()),
            "write the secret access key into it",
        )
        .at(origin));
    }
    Ok(text.to_owned().into())
}

fn gcs(values: &Values) -> Result<GcsOptions, ConfigError> {
    let credentials_file = given(values, &keys::STORAGE_CREDENTIALS_FILE)?;
    let anonymous = given(values, &keys::STORAGE_ANONYMOUS)?;
    if let (Some(file), Some(anonymous)) = (&credentials_file, &anonymous)
        && anonymous.value
    {
        return Err(ConfigError::new(
            "`storage.credentials_file` and `storage.anonymous` contradict each other",
            "keep one of the two",
        )
        .at(&file.origin));
    }
    Ok(GcsOptions {
        endpoint: value(given(values, &keys::STORAGE_ENDPOINT)?),
        credentials_file: value(credentials_file),
        anonymous: value(anonymous).unwrap_or_default(),
    })
}

fn value<T>(found: Option<Found<T>>) -> Option<T> {
    found.map(|found| found.value)
}

fn lacks(values: &Values, have: &Spec, lack: &str) -> ConfigError {
    let error = ConfigError::new(
        format!("`{}` needs `{lack}`", have.path),
        format!(
            "set `{lack}` too, or leave both out to use the credentials that the AWS tools find"
        ),
    );
    match values.get(have.path) {
        Some(entry) => error.at(&entry.origin),
        None => error,
    }
}
