//! Where a password comes from. Resolved anew for every connection, so that rotated files and
//! short-lived cloud tokens work.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::endpoint::{Endpoint, Host};
use crate::error::{SourceError, SourceErrorKind};
use crate::pgpass;

/// How long a password command may run.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A function that yields the password for the next connection.
pub type PasswordProvider = Arc<
    dyn Fn() -> Pin<
            Box<
                dyn Future<Output = Result<SecretString, Box<dyn std::error::Error + Send + Sync>>>
                    + Send,
            >,
        > + Send
        + Sync,
>;

/// Where the password of an [`Endpoint`] comes from.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum PasswordSource {
    /// There is none; a server that asks for one is an error.
    None,
    /// The password itself.
    Fixed(SecretString),
    /// The first line of a file, read for every connection.
    File(PathBuf),
    /// The first line that a shell command prints, run for every connection.
    Command(String),
    /// `PGPASSFILE`, else `~/.pgpass`, in libpq's format. No matching line means no password.
    #[default]
    PgPass,
    /// A function of the host program, called for every connection.
    Provider(PasswordProvider),
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Fixed(_) => f.write_str("Fixed([redacted])"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            // A command line may hold a secret.
            Self::Command(_) => f.write_str("Command([redacted])"),
            Self::PgPass => f.write_str("PgPass"),
            Self::Provider(_) => f.write_str("Provider(..)"),
        }
    }
}

impl PasswordSource {
    /// Whether it may yield another password the next time.
    pub fn may_change(&self) -> bool {
        match self {
            Self::None | Self::Fixed(_) => false,
            Self::File(_) | Self::Command(_) | Self::PgPass | Self::Provider(_) => true,
        }
    }

    /// The password for a connection to `host`, or `None` when there is none.
    ///
    /// # Errors
    /// The file cannot be read, the command fails or takes longer than 30 seconds, the provider
    /// fails, or the result is empty.
    pub async fn resolve(
        &self,
        endpoint: &Endpoint,
        host: &Host,
    ) -> Result<Option<SecretString>, SourceError> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(password) => Ok(Some(password.clone())),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await.map_err(|cause| {
                    SourceError::permanent(
                        SourceErrorKind::Config,
                        format!("password file {} cannot be read", path.display()),
                    )
                    .with_remedy("make the file readable for the user that duckfeeder runs as")
                    .caused_by(cause)
                })?;
                first_line(&text, || format!("password file {}", path.display())).map(Some)
            }
            Self::Command(command) => run_command(command).await.map(Some),
            Self::PgPass => pgpass::lookup(endpoint, host).await,
            Self::Provider(provider) => provider().await.map(Some).map_err(|cause| {
                SourceError::new(SourceErrorKind::Auth, "the password provider failed")
                    .caused_by(cause)
            }),
        }
    }
}

fn first_line(text: &str, what: impl Fn() -> String) -> Result<SecretString, SourceError> {
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(SecretString::from(line)),
        _ => Err(
            SourceError::permanent(SourceErrorKind::Config, format!("{} is empty", what()))
                .with_remedy("the password is its first line"),
        ),
    }
}

async fn run_command(command: &str) -> Result<SecretString, SourceError> {
    let failed = |message: String| {
        SourceError::new(SourceErrorKind::Auth, message)
            .with_remedy("run the command by hand as the user that duckfeeder runs as")
    };
    let run = tokio::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(COMMAND_TIMEOUT, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(cause)) => {
            return Err(failed(String::from("the password command cannot be run")).caused_by(cause));
        }
        Err(_) => {
            return Err(failed(format!(
                "the password command took longer than {} s",
                COMMAND_TIMEOUT.as_secs()
            )));
        }
    };
    if !output.status.success() {
        return Err(failed(format!(
            "the password command ended with {}",
            output.status
        )));
    }
    let text = String::from_utf8(output.stdout)
        .map_err(|_| failed(String::from("the password command printed no UTF-8 text")))?;
    first_line(&text, || String::from("the output of the password command"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn endpoint() -> (Endpoint, Host) {
        let endpoint = Endpoint::parse("postgres://feeder@db/shop").unwrap();
        let host = endpoint.hosts[0].clone();
        (endpoint, host)
    }

    #[tokio::test]
    async fn command_runs_every_time_and_yields_its_first_line() {
        let (endpoint, host) = endpoint();
        let source = PasswordSource::Command("printf 'to%s\\nrest' ken".into());
        for _ in 0..2 {
            let password = source.resolve(&endpoint, &host).await.unwrap().unwrap();
            assert_eq!(password.expose_secret(), "token");
        }
    }

    #[tokio::test]
    async fn failing_command_is_an_error_without_its_text() {
        let (endpoint, host) = endpoint();
        let source = PasswordSource::Command("exit 3 # hunter2".into());
        let error = source.resolve(&endpoint, &host).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        assert!(!format!("{error:?} {source:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn missing_file_is_permanent_and_named() {
        let (endpoint, host) = endpoint();
        let source = PasswordSource::File("/nonexistent/pw".into());
        let error = source.resolve(&endpoint, &host).await.unwrap_err();
        assert!(!error.is_transient());
        assert!(error.to_string().contains("/nonexistent/pw"));
    }

    #[tokio::test]
    async fn provider_is_asked() {
        let (endpoint, host) = endpoint();
        let source = PasswordSource::Provider(Arc::new(|| {
            Box::pin(async { Ok(SecretString::from("fresh")) })
        }));
        let password = source.resolve(&endpoint, &host).await.unwrap().unwrap();
        assert_eq!(password.expose_secret(), "fresh");
    }
}
