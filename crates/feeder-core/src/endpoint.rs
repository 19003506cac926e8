//! The one endpoint type of source and catalog, as the catalog's client wants it.

use cdc_source::{Endpoint, Host, TlsMode};
use ducklake_catalog::sqlx::postgres::{PgConnectOptions, PgSslMode};
use secrecy::ExposeSecret as _;

use crate::error::{FeederError, from_source};

/// Resolves the password and translates the rest.
pub(crate) async fn catalog_options(endpoint: &Endpoint) -> Result<PgConnectOptions, FeederError> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .username(&endpoint.user)
        .database(&endpoint.database)
        .application_name(&endpoint.application_name)
        .ssl_mode(match endpoint.tls.mode {
            TlsMode::Disable => PgSslMode::Disable,
            TlsMode::Prefer => PgSslMode::Prefer,
            TlsMode::Require => PgSslMode::Require,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
        });
    // The catalog's client knows one host; the first is the one that a single-host URL names.
    let Some(host) = endpoint.hosts.first() else {
        return Ok(options);
    };
    options = match host {
        Host::Tcp { host, port } => options.host(host).port(*port),
        Host::Unix { dir, port } => options.socket(dir).port(*port),
    };
    if let Some(file) = &endpoint.tls.ca_file {
        options = options.ssl_root_cert(file);
    }
    if let (Some(cert), Some(key)) = (&endpoint.tls.cert_file, &endpoint.tls.key_file) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    let password = endpoint.resolve_password(host).await.map_err(from_source)?;
    if let Some(password) = password {
        options = options.password(password.expose_secret());
    }
    Ok(options)
}
