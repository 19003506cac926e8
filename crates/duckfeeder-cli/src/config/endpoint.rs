//! The endpoint keys of `[source]` and `[catalog]`.

use std::path::PathBuf;

use duckfeeder::config::{Endpoint, PasswordSource, TlsMode};
use secrecy::SecretString;

use super::error::ConfigError;
use super::keys::{self, Key};
use super::layer::{Values, given, required};
use super::origin::Origin;

/// The keys of one endpoint.
struct EndpointKeys {
    url: &'static Key<String>,
    tls: &'static Key<TlsMode>,
    tls_ca_file: &'static Key<PathBuf>,
    tls_cert_file: &'static Key<PathBuf>,
    tls_key_file: &'static Key<PathBuf>,
    password: &'static Key<String>,
    password_file: &'static Key<PathBuf>,
    password_command: &'static Key<String>,
}

static SOURCE: EndpointKeys = EndpointKeys {
    url: &keys::SOURCE_URL,
    tls: &keys::SOURCE_TLS,
    tls_ca_file: &keys::SOURCE_TLS_CA_FILE,
    tls_cert_file: &keys::SOURCE_TLS_CERT_FILE,
    tls_key_file: &keys::SOURCE_TLS_KEY_FILE,
    password: &keys::SOURCE_PASSWORD,
    password_file: &keys::SOURCE_PASSWORD_FILE,
    password_command: &keys::SOURCE_PASSWORD_COMMAND,
};

static CATALOG: EndpointKeys = EndpointKeys {
    url: &keys::CATALOG_URL,
    tls: &keys::CATALOG_TLS,
    tls_ca_file: &keys::CATALOG_TLS_CA_FILE,
    tls_cert_file: &keys::CATALOG_TLS_CERT_FILE,
    tls_key_file: &keys::CATALOG_TLS_KEY_FILE,
    password: &keys::CATALOG_PASSWORD,
    password_file: &keys::CATALOG_PASSWORD_FILE,
    password_command: &keys::CATALOG_PASSWORD_COMMAND,
};

/// The source's endpoint.
pub(super) fn source(values: &Values) -> Result<Endpoint, ConfigError> {
    let url = required(values, SOURCE.url)?;
    settings(values, &SOURCE, parse(values, &SOURCE, &url)?)
}

/// The catalog's endpoint. Without a URL of its own it begins as the source's, settings included.
pub(super) fn catalog(values: &Values, source: &Endpoint) -> Result<Endpoint, ConfigError> {
    let endpoint = match given(values, CATALOG.url)? {
        Some(url) => parse(values, &CATALOG, &url.value)?,
        None => source.clone(),
    };
    settings(values, &CATALOG, endpoint)
}

fn parse(values: &Values, keys: &EndpointKeys, url: &str) -> Result<Endpoint, ConfigError> {
    // The error of the endpoint does not repeat the URL.
    Endpoint::parse(url).map_err(|error| {
        ConfigError::new(
            format!("`{}`: {error}", keys.url.spec.path),
            "write postgres://user@host:5432/database?sslmode=verify-full, with what is special in a URL percent-encoded",
        )
        .at(&place(values, keys.url))
    })
}

fn settings(
    values: &Values,
    keys: &EndpointKeys,
    mut endpoint: Endpoint,
) -> Result<Endpoint, ConfigError> {
    if let Some(mode) = given(values, keys.tls)? {
        endpoint.tls.mode = mode.value;
    }
    if let Some(file) = given(values, keys.tls_ca_file)? {
        endpoint.tls.ca_file = Some(file.value);
    }
    if let Some(file) = given(values, keys.tls_cert_file)? {
        endpoint.tls.cert_file = Some(file.value);
    }
    if let Some(file) = given(values, keys.tls_key_file)? {
        endpoint.tls.key_file = Some(file.value);
    }
    let (have, lack) = match (&endpoint.tls.cert_file, &endpoint.tls.key_file) {
        (Some(_), None) => (keys.tls_cert_file, keys.tls_key_file),
        (None, Some(_)) => (keys.tls_key_file, keys.tls_cert_file),
        _ => return password(values, keys, endpoint),
    };
    Err(ConfigError::new(
        format!("`{}` needs `{}`", have.spec.path, lack.spec.path),
        format!("set `{}` too", lack.spec.path),
    )
    .at(&place(values, have)))
}

fn password(
    values: &Values,
    keys: &EndpointKeys,
    mut endpoint: Endpoint,
) -> Result<Endpoint, ConfigError> {
    let fixed = given(values, keys.password)?.map(|found| {
        (
            PasswordSource::Fixed(SecretString::from(found.value)),
            found.origin,
            keys.password.spec.path,
        )
    });
    let file = given(values, keys.password_file)?.map(|found| {
        (
            PasswordSource::File(found.value),
            found.origin,
            keys.password_file.spec.path,
        )
    });
    let command = given(values, keys.password_command)?.map(|found| {
        (
            PasswordSource::Command(found.value),
            found.origin,
            keys.password_command.spec.path,
        )
    });
    // The higher layer wins; two of one layer contradict each other.
    let mut chosen: Option<(PasswordSource, Origin, &str)> = None;
    for (source, origin, path) in [fixed, file, command].into_iter().flatten() {
        match &chosen {
            Some((_, other, other_path)) if other.rank() == origin.rank() => {
                return Err(ConfigError::new(
                    format!("`{path}` and `{other_path}` are both set"),
                    "keep one of the two",
                )
                .at(&origin));
            }
            Some((_, other, _)) if other.rank() > origin.rank() => {}
            _ => chosen = Some((source, origin, path)),
        }
    }
    if let Some((source, _, _)) = chosen {
        endpoint.password = source;
    }
    Ok(endpoint)
}

fn place<T>(values: &Values, key: &Key<T>) -> Origin {
    values
        .get(key.spec.path)
        .map_or(Origin::Default, |entry| entry.origin.clone())
}
