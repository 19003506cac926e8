//! The connection URI of libpq. Several hosts make it something other than a URL in the sense of
//! RFC 3986, so it is taken apart by hand, in the order libpq does it.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::{
    ChannelBindingMode, DEFAULT_APPLICATION_NAME, DEFAULT_CONNECT_TIMEOUT, DEFAULT_PORT,
    DEFAULT_SOCKET_DIR, Endpoint, EndpointError, Host, TargetSession, TlsMode, TlsOptions,
};
use crate::password::PasswordSource;

#[derive(Default)]
struct Parts {
    hosts: Vec<String>,
    ports: Vec<String>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    tls_mode: Option<TlsMode>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    channel_binding: ChannelBindingMode,
    connect_timeout: Option<Duration>,
    application_name: Option<String>,
    options: Option<String>,
    target_session: TargetSession,
}

pub(super) fn endpoint(
    url: &str,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Endpoint, EndpointError> {
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or(EndpointError::Scheme)?;
    let mut parts = Parts::default();

    // As in libpq, only the first of '@', '/' and '?' decides whether there is a user part.
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, None),
    };
    let hosts = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            parts.user = non_empty(decode(user, "user")?);
            parts.password = password.map(|text| decode(text, "password")).transpose()?;
            hosts
        }
        None => authority,
    };
    if !hosts.is_empty() {
        for item in hosts.split(',') {
            let (host, port) = split_port(item)?;
            parts.hosts.push(decode(host, "host")?);
            parts.ports.push(port.to_owned());
        }
    }
    if let Some(path) = path {
        parts.database = non_empty(decode(path, "database")?);
    }
    for item in query
        .unwrap_or_default()
        .split('&')
        .filter(|item| !item.is_empty())
    {
        parts.parameter(item)?;
    }
    parts.finish(env)
}

impl Parts {
    fn parameter(&mut self, item: &str) -> Result<(), EndpointError> {
        let Some((name, raw)) = item.split_once('=') else {
            return Err(EndpointError::MissingValue {
                name: decode(item, "parameter")?,
            });
        };
        let name = decode(name, "parameter")?;
        let value = decode(raw, "parameter value")?;
        match name.as_str() {
            "host" => self.hosts = value.split(',').map(str::to_owned).collect(),
            "port" => self.ports = value.split(',').map(str::to_owned).collect(),
            "user" => self.user = non_empty(value),
            "password" => self.password = Some(value),
            "dbname" => self.database = non_empty(value),
            "sslmode" => self.tls_mode = Some(value.parse()?),
            "sslrootcert" => self.ca_file = (value != "system").then(|| PathBuf::from(value)),
            "sslcert" => self.cert_file = Some(PathBuf::from(value)),
            "sslkey" => self.key_file = Some(PathBuf::from(value)),
            "channel_binding" => {
                self.channel_binding = match value.as_str() {
                    "disable" => ChannelBindingMode::Disable,
                    "prefer" => ChannelBindingMode::Prefer,
                    "require" => ChannelBindingMode::Require,
                    _ => {
                        return Err(EndpointError::Value {
                            name: "channel_binding",
                            value,
                            known: "disable, prefer, require",
                        });
                    }
                };
            }
            "connect_timeout" => {
                let Ok(seconds) = value.parse::<u32>() else {
                    return Err(EndpointError::Value {
                        name: "connect_timeout",
                        value,
                        known: "whole seconds",
                    });
                };
                self.connect_timeout =
                    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)));
            }
            "application_name" => self.application_name = Some(value),
            "options" => self.options = non_empty(value),
            "target_session_attrs" => {
                self.target_session = match value.as_str() {
                    "any" => TargetSession::Any,
                    "read-write" => TargetSession::ReadWrite,
                    "primary" => TargetSession::Primary,
                    _ => {
                        return Err(EndpointError::Value {
                            name: "target_session_attrs",
                            value,
                            known: "any, read-write, primary",
                        });
                    }
                };
            }
            "gssencmode" => {
                if !matches!(value.as_str(), "disable" | "prefer") {
                    return Err(EndpointError::Value {
                        name: "gssencmode",
                        value,
                        known: "disable, prefer (GSSAPI is never used)",
                    });
                }
            }
            _ => return Err(EndpointError::UnknownParameter { name }),
        }
        Ok(())
    }

    fn finish(self, env: impl Fn(&str) -> Option<String>) -> Result<Endpoint, EndpointError> {
        let hosts = pair(self.hosts, &self.ports)?;
        let user = match self.user {
            Some(user) => user,
            None => env("USER")
                .and_then(non_empty)
                .ok_or(EndpointError::NoUser)?,
        };
        let database = self.database.unwrap_or_else(|| user.clone());
        let default_mode = if hosts.iter().all(Host::is_local) {
            TlsMode::Prefer
        } else {
            TlsMode::VerifyFull
        };
        Ok(Endpoint {
            hosts,
            user,
            database,
            password: match self.password.and_then(non_empty) {
                Some(password) => PasswordSource::Fixed(SecretString::from(password)),
                None => PasswordSource::PgPass,
            },
            tls: TlsOptions {
                mode: self.tls_mode.unwrap_or(default_mode),
                ca_file: self.ca_file,
                cert_file: self.cert_file,
                key_file: self.key_file,
            },
            channel_binding: self.channel_binding,
            application_name: self
                .application_name
                .unwrap_or_else(|| String::from(DEFAULT_APPLICATION_NAME)),
            connect_timeout: self.connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            options: self.options,
            target_session: self.target_session,
        })
    }
}

fn pair(mut hosts: Vec<String>, ports: &[String]) -> Result<Vec<Host>, EndpointError> {
    if hosts.is_empty() {
        hosts.push(String::new());
    }
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err(EndpointError::PortCount {
            hosts: hosts.len(),
            ports: ports.len(),
        });
    }
    let port_of = |index: usize| match ports.get(index).or_else(|| ports.first()) {
        Some(port) => parse_port(port),
        None => Ok(DEFAULT_PORT),
    };
    hosts
        .into_iter()
        .enumerate()
        .map(|(index, host)| {
            let port = port_of(index)?;
            Ok(if host.is_empty() {
                Host::Unix {
                    dir: PathBuf::from(DEFAULT_SOCKET_DIR),
                    port,
                }
            } else if host.starts_with('/') {
                Host::Unix {
                    dir: PathBuf::from(host),
                    port,
                }
            } else {
                Host::Tcp { host, port }
            })
        })
        .collect()
}

/// An empty port means the default, as in libpq.
fn parse_port(port: &str) -> Result<u16, EndpointError> {
    if port.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    match port.parse::<u16>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(EndpointError::Port {
            port: port.to_owned(),
        }),
    }
}

fn split_port(item: &str) -> Result<(&str, &str), EndpointError> {
    if let Some(rest) = item.strip_prefix('[') {
        let (address, behind) = rest.split_once(']').ok_or(EndpointError::Brackets)?;
        return match behind.strip_prefix(':') {
            Some(port) => Ok((address, port)),
            None if behind.is_empty() => Ok((address, "")),
            None => Err(EndpointError::Brackets),
        };
    }
    match item.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(EndpointError::Brackets),
        Some((host, port)) => Ok((host, port)),
        None => Ok((item, "")),
    }
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn decode(text: &str, part: &'static str) -> Result<String, EndpointError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let escaped = rest.next().and_then(hex).zip(rest.next().and_then(hex));
            let (high, low) = escaped.ok_or(EndpointError::Encoding { part })?;
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    if bytes.contains(&0) {
        return Err(EndpointError::Nul { part });
    }
    String::from_utf8(bytes).map_err(|_| EndpointError::Encoding { part })
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn parse(url: &str) -> Result<Endpoint, EndpointError> {
        endpoint(url, |name| (name == "USER").then(|| String::from("me")))
    }

    fn tcp(host: &str, port: u16) -> Host {
        Host::Tcp {
            host: host.into(),
            port,
        }
    }

    fn unix(dir: &str, port: u16) -> Host {
        Host::Unix {
            dir: dir.into(),
            port,
        }
    }

    #[test]
    fn hosts_users_and_databases() {
        let table: &[(&str, &[Host], &str, &str)] = &[
            ("postgres://u@h/d", &[tcp("h", 5432)], "u", "d"),
            ("postgresql://u@h:6/d", &[tcp("h", 6)], "u", "d"),
            ("postgres://h", &[tcp("h", 5432)], "me", "me"),
            ("postgres://u@h", &[tcp("h", 5432)], "u", "u"),
            (
                "postgres://",
                &[unix("/var/run/postgresql", 5432)],
                "me",
                "me",
            ),
            (
                "postgres:///d",
                &[unix("/var/run/postgresql", 5432)],
                "me",
                "d",
            ),
            (
                "postgres://u@/d?host=/srv/pg&port=7",
                &[unix("/srv/pg", 7)],
                "u",
                "d",
            ),
            (
                "postgres://u@%2Fsrv%2Fpg:7/d",
                &[unix("/srv/pg", 7)],
                "u",
                "d",
            ),
            (
                "postgres://u@a:1,b:2,c/d",
                &[tcp("a", 1), tcp("b", 2), tcp("c", 5432)],
                "u",
                "d",
            ),
            (
                "postgres:///d?host=a,b&port=9",
                &[tcp("a", 9), tcp("b", 9)],
                "me",
                "d",
            ),
            (
                "postgres:///d?host=a,/s&port=9,8",
                &[tcp("a", 9), unix("/s", 8)],
                "me",
                "d",
            ),
            ("postgres://u@[::1]:6/d", &[tcp("::1", 6)], "u", "d"),
            ("postgres://u@[::1]/d", &[tcp("::1", 5432)], "u", "d"),
            (
                "postgres://u@h/?dbname=x&user=y",
                &[tcp("h", 5432)],
                "y",
                "x",
            ),
            (
                "postgres://a%40b:p%3A@h/d%2Fe",
                &[tcp("h", 5432)],
                "a@b",
                "d/e",
            ),
            ("postgres://u:p@ss@h/d", &[tcp("h", 5432)], "u", "d"),
        ];
        for (url, hosts, user, database) in table {
            let endpoint = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(&endpoint.hosts, hosts, "{url}");
            assert_eq!(&endpoint.user, user, "{url}");
            assert_eq!(&endpoint.database, database, "{url}");
        }
    }

    #[test]
    fn tls_is_verified_unless_every_host_is_local() {
        for (url, mode) in [
            ("postgres://u@db/d", TlsMode::VerifyFull),
            ("postgres://u@10.0.0.1/d", TlsMode::VerifyFull),
            ("postgres://u@localhost/d", TlsMode::Prefer),
            ("postgres://u@127.0.0.9/d", TlsMode::Prefer),
            ("postgres://u@[::1]/d", TlsMode::Prefer),
            ("postgres:///d", TlsMode::Prefer),
            ("postgres://u@localhost,db/d", TlsMode::VerifyFull),
            ("postgres://u@localhost.evil.example/d", TlsMode::VerifyFull),
            ("postgres://u@db/d?sslmode=disable", TlsMode::Disable),
            (
                "postgres://u@localhost/d?sslmode=verify-ca",
                TlsMode::VerifyCa,
            ),
            ("postgres://u@localhost/d?sslmode=require", TlsMode::Require),
        ] {
            assert_eq!(parse(url).unwrap().tls.mode, mode, "{url}");
        }
    }

    #[test]
    fn every_parameter_arrives() {
        let endpoint = parse(
            "postgres://u:s%20e@db/d?sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem\
             &connect_timeout=3&application_name=app%20x&options=-c%20geqo%3Doff\
             &target_session_attrs=read-write&channel_binding=require&gssencmode=disable",
        )
        .unwrap();
        assert_eq!(endpoint.tls.ca_file, Some("/ca.pem".into()));
        assert_eq!(endpoint.tls.cert_file, Some("/c.pem".into()));
        assert_eq!(endpoint.tls.key_file, Some("/k.pem".into()));
        assert_eq!(endpoint.connect_timeout, Duration::from_secs(3));
        assert_eq!(endpoint.application_name, "app x");
        assert_eq!(endpoint.options.as_deref(), Some("-c geqo=off"));
        assert_eq!(endpoint.target_session, TargetSession::ReadWrite);
        assert_eq!(endpoint.channel_binding, ChannelBindingMode::Require);
        let PasswordSource::Fixed(password) = &endpoint.password else {
            panic!("{:?}", endpoint.password);
        };
        assert_eq!(password.expose_secret(), "s e");
        assert_eq!(
            parse("postgres://u@db?sslrootcert=system")
                .unwrap()
                .tls
                .ca_file,
            None
        );
    }

    #[test]
    fn debug_shows_no_password() {
        let endpoint = parse("postgres://u:hunter2@db/d").unwrap();
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let value = |name, value: &str, known| EndpointError::Value {
            name,
            value: value.into(),
            known,
        };
        let table = [
            ("mysql://h/d", EndpointError::Scheme),
            ("host=h", EndpointError::Scheme),
            (
                "postgres://h/d?ssl_mode=x",
                EndpointError::UnknownParameter {
                    name: "ssl_mode".into(),
                },
            ),
            (
                "postgres://h/d?sslmode",
                EndpointError::MissingValue {
                    name: "sslmode".into(),
                },
            ),
            (
                "postgres://h/d?sslmode=allow",
                value(
                    "sslmode",
                    "allow",
                    "disable, prefer, require, verify-ca, verify-full",
                ),
            ),
            (
                "postgres://h/d?target_session_attrs=standby",
                value(
                    "target_session_attrs",
                    "standby",
                    "any, read-write, primary",
                ),
            ),
            (
                "postgres://h/d?connect_timeout=-1",
                value("connect_timeout", "-1", "whole seconds"),
            ),
            ("postgres://h:0/d", EndpointError::Port { port: "0".into() }),
            (
                "postgres://h:65536/d",
                EndpointError::Port {
                    port: "65536".into(),
                },
            ),
            ("postgres://h:x/d", EndpointError::Port { port: "x".into() }),
            ("postgres://::1/d", EndpointError::Brackets),
            ("postgres://[::1/d", EndpointError::Brackets),
            ("postgres://[::1]x/d", EndpointError::Brackets),
            (
                "postgres:///d?host=a,b,c&port=1,2",
                EndpointError::PortCount { hosts: 3, ports: 2 },
            ),
            (
                "postgres://%zz@h/d",
                EndpointError::Encoding { part: "user" },
            ),
            (
                "postgres://u@h/%f",
                EndpointError::Encoding { part: "database" },
            ),
            (
                "postgres://u@h/%ff",
                EndpointError::Encoding { part: "database" },
            ),
            (
                "postgres://u:%00@h/d",
                EndpointError::Nul { part: "password" },
            ),
        ];
        for (url, expected) in table {
            assert_eq!(parse(url).err(), Some(expected), "{url}");
        }
        assert_eq!(
            endpoint("postgres://h/d", |_| None).err(),
            Some(EndpointError::NoUser)
        );
    }
}
