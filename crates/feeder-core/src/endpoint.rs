//! The one endpoint type of source and catalog, as the catalog's client wants it.

use std::sync::Arc;

use cdc_source::{ChannelBindingMode, Endpoint, Host, SourceError, TlsMode};
use ducklake_catalog::sqlx::postgres::{PgConnectOptions, PgSslMode};
use ducklake_catalog::{ConnectProvider, CredentialsError};
use secrecy::ExposeSecret as _;

use crate::error::{FeederError, FeederErrorKind, from_server};

/// How the catalog's client reaches an endpoint, and where it gets a new password from, if that may change.
///
/// # Errors
/// Kind [`Config`](FeederErrorKind::Config) for what that client cannot do, and those of the password.
pub(crate) async fn catalog_options(
    endpoint: &Endpoint,
) -> Result<(PgConnectOptions, Option<ConnectProvider>), FeederError> {
    refuse_channel_binding(endpoint)?;
    let options = without_password(endpoint);
    if !endpoint.password.may_change() {
        let options = with_password(options, endpoint).await;
        return Ok((
            options.map_err(|error| from_server(FeederErrorKind::Catalog, error))?,
            None,
        ));
    }
    let (endpoint, with_each) = (Arc::new(endpoint.clone()), options.clone());
    let provider: ConnectProvider = Arc::new(move || {
        let (endpoint, options) = (Arc::clone(&endpoint), with_each.clone());
        Box::pin(async move {
            let options = with_password(options, &endpoint).await;
            options.map_err(|error| CredentialsError {
                transient: error.is_transient(),
                remedy: error.remedy(),
                cause: Box::new(error),
            })
        })
    });
    Ok((options, Some(provider)))
}

/// What would be ignored is refused: whoever asks for it relies on it.
fn refuse_channel_binding(endpoint: &Endpoint) -> Result<(), FeederError> {
    if endpoint.channel_binding != ChannelBindingMode::Require {
        return Ok(());
    }
    Err(FeederError::permanent(
        FeederErrorKind::Config,
        format!(
            "the catalog's client cannot bind SCRAM to its TLS channel, which channel_binding=require of database \"{}\" asks for",
            endpoint.database
        ),
    )
    .with_remedy(
        "give a catalog.url without it; tls = \"verify-full\" keeps others from sitting in between",
    ))
}

fn without_password(endpoint: &Endpoint) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .username(&endpoint.user)
        .database(&endpoint.database)
        .application_name(&endpoint.application_name);
    // That client knows one host; the first is the one that a single-host URL names.
    let mut options = match endpoint.hosts.first() {
        Some(Host::Tcp { host, port }) => options.host(host).port(*port),
        // As for the source, sockets never use TLS.
        Some(Host::Unix { dir, port }) => {
            return options.socket(dir).port(*port).ssl_mode(PgSslMode::Disable);
        }
        None => options,
    };
    options = options.ssl_mode(match endpoint.tls.mode {
        TlsMode::Disable => PgSslMode::Disable,
        TlsMode::Prefer => PgSslMode::Prefer,
        // As libpq: require with a CA file at hand verifies the chain.
        TlsMode::Require if endpoint.tls.ca_file.is_some() => PgSslMode::VerifyCa,
        TlsMode::Require => PgSslMode::Require,
        TlsMode::VerifyCa => PgSslMode::VerifyCa,
        TlsMode::VerifyFull => PgSslMode::VerifyFull,
    });
    if let Some(file) = &endpoint.tls.ca_file {
        options = options.ssl_root_cert(file);
    }
    if let (Some(cert), Some(key)) = (&endpoint.tls.cert_file, &endpoint.tls.key_file) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options
}

async fn with_password(
    options: PgConnectOptions,
    endpoint: &Endpoint,
) -> Result<PgConnectOptions, SourceError> {
    let Some(host) = endpoint.hosts.first() else {
        return Ok(options);
    };
    Ok(match endpoint.resolve_password(host).await? {
        Some(password) => options.password(password.expose_secret()),
        None => options,
    })
}
