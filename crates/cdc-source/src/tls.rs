//! TLS through rustls, with the aws-lc-rs provider named explicitly, so that neither the process
//! default nor another crate's features decide.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::tls_server_end_point;
use crate::endpoint::{TlsMode, TlsOptions};
use crate::error::{SourceError, SourceErrorKind};

/// A TLS session, and the data that binds SCRAM to it.
pub(crate) struct TlsSession {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) channel_binding: Option<Vec<u8>>,
}

/// What is checked of the server's certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verification {
    Nothing,
    Chain,
    ChainAndName,
}

impl Verification {
    fn of(options: &TlsOptions) -> Self {
        match options.mode {
            TlsMode::VerifyFull => Self::ChainAndName,
            TlsMode::VerifyCa => Self::Chain,
            // As libpq: require with a CA file at hand verifies the chain.
            TlsMode::Require if options.ca_file.is_some() => Self::Chain,
            TlsMode::Require | TlsMode::Prefer | TlsMode::Disable => Self::Nothing,
        }
    }
}

/// Runs the TLS handshake on a stream whose server has agreed to it.
pub(crate) async fn handshake(
    stream: TcpStream,
    host: &str,
    options: &TlsOptions,
) -> Result<TlsSession, SourceError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verification = Verification::of(options);
    let config = {
        // Certificate stores are files, and parsing them takes milliseconds.
        let (options, provider) = (options.clone(), Arc::clone(&provider));
        tokio::task::spawn_blocking(move || client_config(&options, verification, provider))
            .await
            .map_err(|cause| {
                SourceError::new(SourceErrorKind::Tls, "loading certificates was interrupted")
                    .caused_by(cause)
            })??
    };
    let name = match ServerName::try_from(host.to_owned()) {
        Ok(name) => name,
        Err(cause) if verification == Verification::ChainAndName => {
            return Err(SourceError::permanent(
                SourceErrorKind::Tls,
                "the host name cannot appear in a certificate",
            )
            .caused_by(cause));
        }
        // Not sent and not looked at: an address leaves server name indication out.
        Err(_) => ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()),
    };
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(handshake_failed)?;
    let channel_binding = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(|certificate| tls_server_end_point(certificate, &provider));
    Ok(TlsSession {
        stream,
        channel_binding,
    })
}

/// An error of a TLS session whose end one side's certificate caused, which nobody but a person can mend; else `None`.
pub(crate) fn refused_certificate(cause: &std::io::Error) -> Option<SourceError> {
    let error = cause.get_ref()?.downcast_ref::<rustls::Error>()?;
    let (message, remedy) = match error {
        rustls::Error::InvalidCertificate(why) => (
            format!("the server's certificate was refused: {error}"),
            match why {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "renew the server's certificate, or set the clock of this machine"
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    "connect by a name that the certificate is issued for, or use tls = \"verify-ca\""
                }
                _ => {
                    "name the CA that signed the server's certificate: tls_ca_file, or sslrootcert in the url"
                }
            },
        ),
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA,
        ) => (
            format!("the server refused our client certificate: {error}"),
            "give one (tls_cert_file, tls_key_file) that a CA in the server's ssl_ca_file has signed and that is valid",
        ),
        _ => return None,
    };
    Some(SourceError::permanent(SourceErrorKind::Tls, message).with_remedy(remedy))
}

fn handshake_failed(cause: std::io::Error) -> SourceError {
    let error = refused_certificate(&cause).unwrap_or_else(|| {
        SourceError::new(
            SourceErrorKind::Tls,
            format!("the TLS handshake broke off: {cause}"),
        )
    });
    error.caused_by(cause)
}

fn client_config(
    options: &TlsOptions,
    verification: Verification,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, SourceError> {
    let invalid = |message: String| SourceError::permanent(SourceErrorKind::Config, message);
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|cause| invalid(String::from("TLS versions cannot be used")).caused_by(cause))?;
    let builder = match verification {
        Verification::Nothing => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(RelaxedVerifier {
                roots: None,
                algorithms,
            })),
        Verification::Chain => {
            let roots = Some(Arc::new(roots(options)?));
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(RelaxedVerifier { roots, algorithms }))
        }
        Verification::ChainAndName => {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots(options)?), provider)
                    .build()
                    .map_err(|cause| {
                        invalid(String::from("CA certificates cannot be used")).caused_by(cause)
                    })?;
            builder.with_webpki_verifier(verifier)
        }
    };
    match (&options.cert_file, &options.key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert_file), Some(key_file)) => {
            let chain = certificates(cert_file)?;
            let key = PrivateKeyDer::from_pem_file(key_file).map_err(|cause| {
                invalid(format!("key file {} cannot be read", key_file.display())).caused_by(cause)
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|cause| {
                invalid(format!(
                    "client certificate {} and key {} cannot be used together",
                    cert_file.display(),
                    key_file.display()
                ))
                .caused_by(cause)
            })
        }
        (Some(_), None) => Err(invalid(String::from(
            "a client certificate (sslcert) needs its key (sslkey)",
        ))),
        (None, Some(_)) => Err(invalid(String::from(
            "a client key (sslkey) needs its certificate (sslcert)",
        ))),
    }
}

fn roots(options: &TlsOptions) -> Result<RootCertStore, SourceError> {
    let mut roots = RootCertStore::empty();
    match &options.ca_file {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|cause| {
                    SourceError::permanent(
                        SourceErrorKind::Config,
                        format!("a certificate in {} cannot be used", path.display()),
                    )
                    .caused_by(cause)
                })?;
            }
        }
        None => {
            // System stores hold oddities that nobody here can repair; what remains is trusted.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(SourceError::permanent(
            SourceErrorKind::Config,
            match &options.ca_file {
                Some(path) => format!("CA file {} holds no certificate", path.display()),
                None => String::from("the system has no CA certificates"),
            },
        )
        .with_remedy("name a CA file (sslrootcert or tls_ca_file)"));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let unreadable = |cause| {
        SourceError::permanent(
            SourceErrorKind::Config,
            format!("certificate file {} cannot be read", path.display()),
        )
        .caused_by(cause)
    };
    CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, rustls_pki_types::pem::Error>>()
        .map_err(unreadable)
}

/// Checks the chain but not the name (`verify-ca`), or, without roots, neither (`require`,
/// `prefer`). The handshake's signatures are checked in both cases.
#[derive(Debug)]
struct RelaxedVerifier {
    roots: Option<Arc<RootCertStore>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for RelaxedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
