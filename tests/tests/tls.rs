//! TLS and authentication, from end to end and for both servers: what works, and what is said when it does not.
//!
//! The certificates are those of `crates/cdc-source/tests/tls`, where a README says who signed what.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{
    Options,
    feeder::{Config, Ended},
    postgres::{SUPERUSER, connect},
    tools::workspace_root,
};

use crate::rig::{CATALOG, PATIENCE, Rig, SOURCE, wait};

const PASSWORD: &str = "a-password-that-nobody-shows";

/// A cluster with TLS, whose roles prove who they are in different ways.
struct Secured {
    rig: Rig,
}

/// Which server a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Catalog,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Source, Self::Catalog];

    fn section(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Catalog => "catalog",
        }
    }

    fn database(self) -> &'static str {
        match self {
            Self::Source => SOURCE,
            Self::Catalog => CATALOG,
        }
    }

    /// What a permanent error there ends the process with.
    fn exit_code(self) -> i32 {
        match self {
            Self::Source => 3,
            Self::Catalog => 4,
        }
    }
}

fn fixture(name: &str) -> Result<PathBuf> {
    Ok(workspace_root()?
        .join("crates/cdc-source/tests/tls")
        .join(name))
}

fn line(key: &str, name: &str) -> Result<String> {
    Ok(format!(
        "{key} = {:?}",
        fixture(name)?.display().to_string()
    ))
}

impl Secured {
    fn new(hba: &[&str]) -> Result<Self> {
        let mut options = Options::default()
            .setting("ssl", "on")
            .setting("ssl_cert_file", "server.pem")
            .setting("ssl_key_file", "server.key")
            .setting("ssl_ca_file", "ca.pem");
        for name in ["server.pem", "server.key", "ca.pem"] {
            options
                .files
                .push((name.to_owned(), fs::read(fixture(name)?)?));
        }
        for line in hba {
            options = options.hba(line);
        }
        let rig = Rig::with(&options, |config| config)?;
        rig.source(&format!(
            "create table t (id int primary key, v text); insert into t values (0, 'copied');
             create role feeder login superuser password '{PASSWORD}';
             create role certer login superuser password '{PASSWORD}'"
        ))?;
        Ok(Self { rig })
    }

    fn url(&self, side: Side, user: &str, host: &str) -> String {
        let port = self.rig.pg.port();
        format!("postgres://{user}@{host}:{port}/{}", side.database())
    }

    /// The side is reached as given, the other one by the superuser in plain text.
    fn configure(&self, side: Side, url: &str, lines: &[String]) -> Result<()> {
        let pg = &self.rig.pg;
        let plain = |side: Side| pg.url(SUPERUSER, side.database());
        let config = match side {
            Side::Source => Config::new(url, Some(&plain(Side::Catalog))),
            Side::Catalog => Config::new(&plain(Side::Source), Some(url)),
        };
        self.configure_by(
            lines
                .iter()
                .fold(config, |config, line| config.line(side.section(), line)),
        )
    }

    fn configure_by(&self, config: Config) -> Result<()> {
        self.rig.setup.configure(&self.rig.store.configure(config)?)
    }

    /// Other certificates or rules for the running server.
    fn serve(&self, files: &[(&str, Vec<u8>)]) -> Result<()> {
        for (name, content) in files {
            self.rig.pg.write_file(name, content)?;
        }
        self.rig
            .pg
            .sql("postgres", "select pg_reload_conf()")
            .map(drop)
    }

    fn file(&self, name: &str, content: &str) -> Result<String> {
        let path = self.rig.setup.config_file().with_file_name(name);
        fs::write(&path, content)?;
        Ok(path.display().to_string())
    }

    /// `run` and `check` say the same, and make nothing.
    fn expect_refusal(&self, side: Side, host: &str, parts: &[&str]) -> Result<()> {
        self.expect_refusal_by(&["check", "run"], side, host, parts)
    }

    fn expect_refusal_by(
        &self,
        commands: &[&str],
        side: Side,
        host: &str,
        parts: &[&str],
    ) -> Result<()> {
        let endpoint = format!(
            "database \"{}\" at {host}:{}",
            side.database(),
            self.rig.pg.port()
        );
        for command in commands {
            let ended = self.rig.setup.run(&[command])?;
            let code = if *command == "run" {
                side.exit_code()
            } else {
                1
            };
            ended
                .expect_code(code)?
                .expect_message(&[&endpoint])?
                .expect_message(parts)?;
            expect_no_secret(&ended)?;
            if code != 1 {
                println!("{}", ended.stderr.trim_end());
            }
        }
        self.rig.expect_nothing_created()
    }

    fn works(&self, next: i32) -> Result<()> {
        self.rig
            .source(&format!("insert into t values ({next}, 'streamed')"))?;
        self.rig.setup.run(&["check"])?.expect_code(0)?;
        self.rig.catch_up()?;
        self.rig.oracle()?.check_all(&["t"])
    }
}

fn expect_no_secret(ended: &Ended) -> Result<()> {
    let shown = format!("{}{}", ended.stdout, ended.stderr);
    ensure!(!shown.contains(PASSWORD), "a password is shown:\n{shown}");
    Ok(())
}

const SCRAM: &str = "hostssl all feeder 127.0.0.1/32 scram-sha-256";

#[test]
fn a_private_ca_is_verified_in_full_and_passwords_are_bound_to_the_channel() -> Result<()> {
    let secured = Secured::new(&[SCRAM])?;
    let password = format!("password_file = {:?}", secured.file("password", PASSWORD)?);
    let bound = format!(
        "{}?channel_binding=require",
        secured.url(Side::Source, "feeder", "localhost")
    );
    let mut config = Config::new(
        &bound,
        Some(&secured.url(Side::Catalog, "feeder", "localhost")),
    );
    for side in Side::BOTH {
        for line in [
            "tls = \"verify-full\"".to_owned(),
            line("tls_ca_file", "ca.pem")?,
            password.clone(),
        ] {
            config = config.line(side.section(), &line);
        }
    }
    secured.configure_by(config)?;
    secured.works(1)?;
    let mut feeder = secured.rig.stream(&["t"])?;
    secured.rig.source("insert into t values (2, 'streamed')")?;
    secured.rig.wait_until_equal(&mut feeder, &["t"])?;
    let sessions = secured.rig.pg.sql(
        "postgres",
        "select datname::text, ssl::text, count(*)::text from pg_stat_activity join pg_stat_ssl using (pid)
         where usename = 'feeder' group by 1, 2 order by 1",
    )?;
    println!("{sessions:?}");
    ensure!(
        sessions.len() == 2
            && sessions
                .iter()
                .all(|row| row.get(1) == Some(&Some("true".to_owned()))),
        "{sessions:?}"
    );
    feeder.terminate()
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_with_endpoint_and_remedy() -> Result<()> {
    let secured = Secured::new(&[SCRAM])?;
    let password = format!("password_file = {:?}", secured.file("password", PASSWORD)?);
    let full = "tls = \"verify-full\"".to_owned();
    let cases: [(&str, &str, Option<&str>, &[&str]); 3] = [
        (
            "no CA",
            "localhost",
            None,
            &["UnknownIssuer", "tls_ca_file"],
        ),
        (
            "another CA",
            "localhost",
            Some("other-ca.pem"),
            &["UnknownIssuer", "tls_ca_file"],
        ),
        (
            "wrong host name",
            "127.0.0.1",
            Some("ca.pem"),
            &["not valid for name", "connect by a name"],
        ),
    ];
    for side in Side::BOTH {
        for (name, host, ca, parts) in cases {
            println!("{side:?}, {name}:");
            let mut lines = vec![password.clone(), full.clone()];
            if let Some(ca) = ca {
                lines.push(line("tls_ca_file", ca)?);
            }
            secured.configure(side, &secured.url(side, "feeder", host), &lines)?;
            secured
                .expect_refusal(side, host, parts)
                .with_context(|| format!("{side:?}, {name}"))?;
        }
    }
    secured.serve(&[
        ("server.pem", fs::read(fixture("expired.pem")?)?),
        ("server.key", fs::read(fixture("expired.key")?)?),
    ])?;
    for side in Side::BOTH {
        println!("{side:?}, expired:");
        let ca = line("tls_ca_file", "expired-ca.pem")?;
        secured.configure(
            side,
            &secured.url(side, "feeder", "localhost"),
            &[password.clone(), full.clone(), ca],
        )?;
        secured.expect_refusal(
            side,
            "localhost",
            &["expired", "renew the server's certificate"],
        )?;
    }
    Ok(())
}

#[test]
fn a_certificate_that_expires_under_a_running_feeder_stops_it_with_the_remedy() -> Result<()> {
    let secured = Secured::new(&[SCRAM])?;
    let password = format!("password_file = {:?}", secured.file("password", PASSWORD)?);
    let own = fs::read_to_string(fixture("ca.pem")?)?;
    let old = fs::read_to_string(fixture("expired-ca.pem")?)?;
    let both = format!(
        "tls_ca_file = {:?}",
        secured.file("both.pem", &format!("{own}{old}"))?
    );
    let (url, full) = (
        secured.url(Side::Catalog, "feeder", "localhost"),
        "tls = \"verify-full\"".to_owned(),
    );
    secured.configure(Side::Catalog, &url, &[password, full, both])?;
    let mut feeder = secured.rig.stream(&["t"])?;
    secured.serve(&[
        ("server.pem", fs::read(fixture("expired.pem")?)?),
        ("server.key", fs::read(fixture("expired.key")?)?),
    ])?;
    secured.rig.pg.sql(
        "postgres",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'feeder'",
    )?;
    secured.rig.source("insert into t values (1, 'streamed')")?;
    let status = feeder.wait(PATIENCE)?;
    ensure!(status.code() == Some(4), "{status}\n{}", feeder.log());
    let endpoint = format!("\"{CATALOG}\" at localhost:{}", secured.rig.pg.port());
    for part in [&*endpoint, "expired", "renew the server's certificate"] {
        ensure!(feeder.log().contains(part), "{part}\n{}", feeder.log());
    }
    Ok(())
}

#[test]
fn client_certificates_are_shown_where_they_are_asked_for() -> Result<()> {
    let by_certificate = "cert";
    let by_both = "scram-sha-256 clientcert=verify-full";
    let secured = Secured::new(&[SCRAM])?;
    let rules = |source: &str, catalog: &str| {
        format!(
            "host all {SUPERUSER} 127.0.0.1/32 trust\n\
             hostssl {SOURCE} certer 127.0.0.1/32 {source}\n\
             hostssl {CATALOG} certer 127.0.0.1/32 {catalog}\n"
        )
        .into_bytes()
    };
    let password = format!("password_file = {:?}", secured.file("password", PASSWORD)?);
    let common = [
        "tls = \"verify-full\"".to_owned(),
        line("tls_ca_file", "ca.pem")?,
        password,
    ];
    let certificate = [
        line("tls_cert_file", "client.pem")?,
        line("tls_key_file", "client.key")?,
    ];
    let stranger = [
        line("tls_cert_file", "expired.pem")?,
        line("tls_key_file", "expired.key")?,
    ];
    secured.serve(&[("pg_hba.conf", rules(by_certificate, by_certificate))])?;
    for side in Side::BOTH {
        let url = secured.url(side, "certer", "localhost");
        println!("{side:?}, none:");
        secured.configure(side, &url, &common)?;
        secured.expect_refusal(
            side,
            "localhost",
            &["certificate", "28000", "tls_cert_file"],
        )?;
        println!("{side:?}, one that the server does not trust:");
        secured.configure(side, &url, &[&common[..], &stranger].concat())?;
        secured.expect_refusal(
            side,
            "localhost",
            &["refused our client certificate", "ssl_ca_file"],
        )?;
    }
    let mut config = Config::new(
        &secured.url(Side::Source, "certer", "localhost"),
        Some(&secured.url(Side::Catalog, "certer", "localhost")),
    );
    for side in Side::BOTH {
        for line in common.iter().chain(&certificate) {
            config = config.line(side.section(), line);
        }
    }
    secured.configure_by(config)?;
    for (next, source, catalog) in [(1, by_certificate, by_both), (2, by_both, by_certificate)] {
        secured.serve(&[("pg_hba.conf", rules(source, catalog))])?;
        secured.works(next)?;
    }
    Ok(())
}

#[test]
fn channel_binding_that_cannot_be_had_is_refused() -> Result<()> {
    let secured = Secured::new(&["host all feeder 127.0.0.1/32 scram-sha-256"])?;
    let password = format!("password_file = {:?}", secured.file("password", PASSWORD)?);
    let plain = |side| {
        format!(
            "{}?channel_binding=require",
            secured.url(side, "feeder", "localhost")
        )
    };
    let lines = [password, "tls = \"disable\"".to_owned()];
    secured.configure(Side::Source, &plain(Side::Source), &lines)?;
    secured.expect_refusal(
        Side::Source,
        "localhost",
        &["channel binding is required", "it needs TLS"],
    )?;
    // What the catalog's client cannot do is not left out in silence.
    let lines = [
        lines[0].clone(),
        "tls = \"verify-full\"".to_owned(),
        line("tls_ca_file", "ca.pem")?,
    ];
    secured.configure(Side::Catalog, &plain(Side::Catalog), &lines)?;
    let ended = secured.rig.setup.run(&["run"])?;
    ended
        .expect_code(2)?
        .expect_message(&["channel_binding=require", CATALOG, "catalog.url"])?;
    expect_no_secret(&ended)?;
    secured.rig.setup.run(&["check"])?.expect_code(1)?;
    secured.rig.expect_nothing_created()
}

#[test]
fn a_password_that_is_wrong_or_not_to_be_had_is_said_with_endpoint_and_remedy() -> Result<()> {
    let secured = Secured::new(&[SCRAM])?;
    let wrong = secured.file("wrong", "not-the-password")?;
    let both = &["check", "run"][..];
    let refused = &["28P01", "the password or where it comes from"][..];
    // A password that may change is fetched again for five seconds, and a command that fails is waited for.
    let cases: [(&str, String, &[&str], &[&str]); 5] = [
        (
            "wrong in its file",
            format!("password_file = {wrong:?}"),
            &["run"],
            refused,
        ),
        (
            "wrong",
            "password = \"not-the-password\"".to_owned(),
            both,
            refused,
        ),
        (
            "no such file",
            "password_file = \"/no/such/file\"".to_owned(),
            both,
            &["/no/such/file", "readable"],
        ),
        (
            "a command that fails",
            format!("password_command = \"echo {PASSWORD}; exit 3\""),
            &["check"],
            &["exit status: 3", "by hand"],
        ),
        (
            "none",
            "tls = \"require\"".to_owned(),
            both,
            &["asks for a password", "password command"],
        ),
    ];
    for side in Side::BOTH {
        for (name, setting, commands, parts) in &cases {
            println!("{side:?}, {name}:");
            secured.configure(
                side,
                &secured.url(side, "feeder", "localhost"),
                &[setting.clone(), "tls = \"require\"".to_owned()],
            )?;
            secured
                .expect_refusal_by(commands, side, "localhost", parts)
                .with_context(|| format!("{side:?}, {name}"))?;
        }
    }
    Ok(())
}

#[test]
fn passwords_are_found_in_pgpass() -> Result<()> {
    let secured = Secured::new(&[SCRAM])?;
    let port = secured.rig.pg.port();
    let pgpass = secured.file(
        "pgpass",
        &format!("localhost:{port}:*:feeder:{PASSWORD}\n*:*:*:*:not-the-password\n"),
    )?;
    fs::set_permissions(&pgpass, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    secured.configure_by(Config::new(
        &secured.url(Side::Source, "feeder", "localhost"),
        Some(&secured.url(Side::Catalog, "feeder", "localhost")),
    ))?;
    let mut command = secured.rig.setup.command(&["run", "--until-caught-up"])?;
    command.env("PGPASSFILE", &pgpass);
    let ended = secured.rig.setup.run_command(command, PATIENCE)?;
    ended.expect_code(0)?;
    expect_no_secret(&ended)?;
    secured.rig.oracle()?.check_all(&["t"])
}

/// The server takes the new password first, and only then is it where the feeder looks.
#[test]
fn a_password_that_is_changed_under_a_running_feeder_is_fetched_anew_for_every_connection()
-> Result<()> {
    let secured = Secured::new(&["host all feeder 127.0.0.1/32 scram-sha-256"])?;
    let kept = secured.file("kept", PASSWORD)?;
    let fetched = secured.file("fetched", "")?;
    let command = format!("password_command = \"echo >> {fetched}; cat {kept}\"");
    let file = format!("password_file = {kept:?}");
    let pg = &secured.rig.pg;
    let mut passwords = vec![PASSWORD.to_owned()];
    for (source, catalog, rotations) in [(&command, &file, 2), (&file, &command, 1)] {
        let config = Config::new(
            &secured.url(Side::Source, "feeder", "localhost"),
            Some(&secured.url(Side::Catalog, "feeder", "localhost")),
        );
        secured.configure_by(config.line("source", source).line("catalog", catalog))?;
        let mut feeder = secured.rig.stream(&["t"])?;
        for _ in 0..rotations {
            let before = fs::read_to_string(&fetched)?.len();
            let refusals = refusals(&secured);
            let new = format!("{PASSWORD}-{}", passwords.len());
            pg.sql("postgres", &format!("alter role feeder password '{new}'"))?;
            pg.sql(
                "postgres",
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'feeder'",
            )?;
            let id = passwords.len();
            secured
                .rig
                .source(&format!("insert into t values ({id}, 'streamed')"))?;
            feeder.wait_until("the old password is refused", PATIENCE, || {
                Ok((self::refusals(&secured) > refusals).then_some(()))
            })?;
            fs::write(&kept, &new)?;
            secured.rig.wait_until_equal(&mut feeder, &["t"])?;
            let after = fs::read_to_string(&fetched)?.len();
            ensure!(after > before, "the command was not run again");
            passwords.push(new);
        }
        for old in passwords.iter().rev().skip(1) {
            let url = secured.url(Side::Source, &format!("feeder:{old}"), "127.0.0.1");
            ensure!(
                connect(&url).is_err(),
                "the server still takes an old password"
            );
        }
        let log = feeder.log();
        for password in &passwords {
            ensure!(!log.contains(password), "a password is in the log:\n{log}");
        }
        feeder.terminate()?;
        wait("the slot is free", || {
            Ok((secured.rig.slot("active")?.as_deref() == Some("false")).then_some(()))
        })?;
    }
    secured.rig.oracle()?.check_all(&["t"])
}

/// How often the server has refused a password.
fn refusals(secured: &Secured) -> usize {
    let log = secured.rig.pg.log_tail(usize::MAX);
    log.matches("password authentication failed for user")
        .count()
}
