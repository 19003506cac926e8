//! The password file of libpq (Postgres documentation, "The Password File").

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::endpoint::{Endpoint, Host};
use crate::error::{SourceError, SourceErrorKind};

/// Directories that libpq writes as `localhost` in a password file.
const DEFAULT_SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// The password of the first matching line of `PGPASSFILE`, else `~/.pgpass`.
pub(crate) async fn lookup(
    endpoint: &Endpoint,
    host: &Host,
) -> Result<Option<SecretString>, SourceError> {
    let Some(path) = location() else {
        return Ok(None);
    };
    lookup_in(&path, endpoint, host).await
}

fn location() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PGPASSFILE").filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(path));
    }
    std::env::home_dir().map(|home| home.join(".pgpass"))
}

async fn lookup_in(
    path: &Path,
    endpoint: &Endpoint,
    host: &Host,
) -> Result<Option<SecretString>, SourceError> {
    let metadata = match tokio::fs::metadata(path).await {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(unreadable(path).caused_by(cause)),
    };
    if !metadata.is_file() {
        tracing::warn!(path = %path.display(), "password file ignored: it is not a plain file");
        return Ok(None);
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            "password file ignored: group or others have access; permissions should be 0600 or less"
        );
        return Ok(None);
    }
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|cause| unreadable(path).caused_by(cause))?;
    Ok(find(&text, endpoint, host))
}

fn unreadable(path: &Path) -> SourceError {
    SourceError::permanent(
        SourceErrorKind::Config,
        format!("password file {} cannot be read", path.display()),
    )
}

fn find(text: &str, endpoint: &Endpoint, host: &Host) -> Option<SecretString> {
    let name = match host {
        Host::Tcp { host, .. } => host.clone(),
        Host::Unix { dir, .. } => {
            let dir = dir.to_string_lossy();
            if DEFAULT_SOCKET_DIRS.contains(&dir.as_ref()) {
                String::from("localhost")
            } else {
                dir.into_owned()
            }
        }
    };
    let port = host.port().to_string();
    let wanted = [name.as_str(), &port, &endpoint.database, &endpoint.user];
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut fields = split(line);
            let mut matches = true;
            for want in wanted {
                let (raw_star, field) = fields.next()?;
                matches &= raw_star || field == want;
            }
            let (_, password) = fields.next()?;
            (matches && !password.is_empty()).then(|| SecretString::from(password))
        })
}

/// The fields of one line: whether the field is a bare `*`, and its text without escapes.
fn split(line: &str) -> impl Iterator<Item = (bool, String)> {
    let mut rest = Some(line.chars());
    std::iter::from_fn(move || {
        let mut chars = rest.take()?;
        let mut field = String::new();
        let mut escaped = false;
        while let Some(next) = chars.next() {
            match next {
                '\\' => {
                    escaped = true;
                    field.extend(chars.next());
                }
                ':' => {
                    rest = Some(chars);
                    break;
                }
                other => field.push(other),
            }
        }
        Some((field == "*" && !escaped, field))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn found(text: &str, url: &str) -> Option<String> {
        let endpoint = Endpoint::parse(url).unwrap();
        find(text, &endpoint, &endpoint.hosts[0]).map(|p| p.expose_secret().to_owned())
    }

    #[test]
    fn first_matching_line_wins() {
        let text = "# comment\n\
                    other:5432:shop:feeder:no\n\
                    db:5433:shop:feeder:port\n\
                    db:*:shop:feeder:yes\n\
                    *:*:*:*:last\n";
        assert_eq!(
            found(text, "postgres://feeder@db/shop").as_deref(),
            Some("yes")
        );
        assert_eq!(
            found(text, "postgres://feeder@db:5433/shop").as_deref(),
            Some("port")
        );
        assert_eq!(
            found(text, "postgres://else@db/shop").as_deref(),
            Some("last")
        );
    }

    #[test]
    fn escapes_stars_and_short_lines() {
        assert_eq!(
            found(r"db:5432:a\:b:fe\\x:p\:w\\", r"postgres://fe%5Cx@db/a:b").as_deref(),
            Some(r"p:w\")
        );
        assert_eq!(
            found(r"\*:5432:shop:feeder:no", "postgres://feeder@db/shop"),
            None
        );
        assert_eq!(
            found("db:5432:shop:feeder", "postgres://feeder@db/shop"),
            None
        );
        assert_eq!(
            found("db:5432:shop:feeder:", "postgres://feeder@db/shop"),
            None
        );
    }

    #[test]
    fn sockets_are_localhost_only_in_default_directories() {
        let text = "localhost:5432:shop:feeder:default\n/srv/pg:5432:shop:feeder:own\n";
        assert_eq!(
            found(text, "postgres://feeder@/shop?host=/var/run/postgresql").as_deref(),
            Some("default")
        );
        assert_eq!(
            found(text, "postgres://feeder@/shop?host=/srv/pg").as_deref(),
            Some("own")
        );
    }

    #[tokio::test]
    async fn a_file_open_to_others_is_ignored() {
        let path = std::env::temp_dir().join(format!("pgpass-{}", std::process::id()));
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        let endpoint = Endpoint::parse("postgres://feeder@db/shop").unwrap();
        for (mode, expected) in [(0o644, false), (0o640, false), (0o600, true), (0o400, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let password = lookup_in(&path, &endpoint, &endpoint.hosts[0])
                .await
                .unwrap();
            assert_eq!(password.is_some(), expected, "{mode:o}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
