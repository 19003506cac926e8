//! Every key arrives from every layer; every mistake has its exact message.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use duckfeeder::Store;
use duckfeeder::config::{
    ArrayMapping, BackfillMode, ChangeOverrides, FlushConfig, KeylessPolicy, Limits,
    NumericMapping, OnDropColumn, OnDropPartition, OnDropTable, OnSchemaChange, OnTableError,
    OnTypeChange, OnUnrepresentable,
};
use duckfeeder::config::{PasswordSource, TlsMode};
use duckfeeder::storage::{GcsOptions, S3Options};
use secrecy::{ExposeSecret, SecretString};

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
        .collect()
}

/// All layers, the file being `text`.
fn merged(text: &str, variables: &[(&str, &str)], flags: Flags) -> Result<Merged, ConfigError> {
    let mut layer = file::parse("duckfeeder.toml", text)?;
    layer.overlay(environment::read(environment(variables))?);
    layer.overlay(flags.layer());
    Ok(Merged(layer))
}

fn settings(text: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    merged(text, variables, Flags::default())?.resolve()
}

/// What is needed besides the key under test.
const MINIMAL: &str = "[source]\nurl = \"postgres://feeder@localhost/shop\"\n";

/// One key: the value as the file writes it, as the environment writes it, and how it shows in the
/// settings. The shown text must not be what the minimal settings show.
struct Wire {
    path: &'static str,
    file: &'static str,
    variable: &'static str,
    arrived: fn(&Settings) -> String,
    expected: &'static str,
}

fn password(source: &PasswordSource) -> String {
    match source {
        PasswordSource::Fixed(password) => password.expose_secret().to_owned(),
        PasswordSource::File(path) => format!("file {}", path.display()),
        PasswordSource::Command(command) => format!("command {command}"),
        other => format!("{other:?}"),
    }
}

fn shown(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}

const WIRES: &[Wire] = &[
    Wire {
        path: "name",
        file: "\"shop\"",
        variable: "shop",
        arrived: |s| s.feeder.name.to_string(),
        expected: "shop",
    },
    Wire {
        path: "enabled",
        file: "false",
        variable: "false",
        arrived: |s| s.enabled.to_string(),
        expected: "false",
    },
    Wire {
        path: "source.url",
        file: "\"postgres://f@h/other\"",
        variable: "postgres://f@h/other",
        arrived: |s| s.feeder.source.endpoint.database.clone(),
        expected: "other",
    },
    Wire {
        path: "source.tls",
        file: "\"verify-ca\"",
        variable: "verify-ca",
        arrived: |s| s.feeder.source.endpoint.tls.mode.to_string(),
        expected: "verify-ca",
    },
    Wire {
        path: "source.tls_ca_file",
        file: "\"/ca\"",
        variable: "/ca",
        arrived: |s| shown(s.feeder.source.endpoint.tls.ca_file.as_ref()),
        expected: "/ca",
    },
    Wire {
        path: "source.tls_cert_file",
        file: "\"/cert\"\ntls_key_file = \"/key\"",
        variable: "/cert",
        arrived: |s| shown(s.feeder.source.endpoint.tls.cert_file.as_ref()),
        expected: "/cert",
    },
    Wire {
        path: "source.tls_key_file",
        file: "\"/key\"\ntls_cert_file = \"/cert\"",
        variable: "/key",
        arrived: |s| shown(s.feeder.source.endpoint.tls.key_file.as_ref()),
        expected: "/key",
    },
    Wire {
        path: "source.password",
        file: "\"pw\"",
        variable: "pw",
        arrived: |s| password(&s.feeder.source.endpoint.password),
        expected: "pw",
    },
    Wire {
        path: "source.password_file",
        file: "\"/pw\"",
        variable: "/pw",
        arrived: |s| password(&s.feeder.source.endpoint.password),
        expected: "file /pw",
    },
    Wire {
        path: "source.password_command",
        file: "\"token\"",
        variable: "token",
        arrived: |s| password(&s.feeder.source.endpoint.password),
        expected: "command token",
    },
    Wire {
        path: "source.slot",
        file: "\"other\"",
        variable: "other",
        arrived: |s| s.feeder.source.slot.as_str().to_owned(),
        expected: "other",
    },
    Wire {
        path: "source.publication",
        file: "\"other\"",
        variable: "other",
        arrived: |s| s.feeder.source.publication.as_str().to_owned(),
        expected: "other",
    },
    Wire {
        path: "source.manage_publication",
        file: "false",
        variable: "false",
        arrived: |s| s.feeder.source.manage_publication.to_string(),
        expected: "false",
    },
    Wire {
        path: "source.keyless",
        file: "\"refuse\"",
        variable: "refuse",
        arrived: |s| format!("{:?}", s.feeder.source.keyless),
        expected: "Refuse",
    },
    Wire {
        path: "source.numeric",
        file: "\"decimal(38, 9)\"",
        variable: "decimal(38,9)",
        arrived: |s| format!("{:?}", s.feeder.source.numeric),
        expected: "Decimal { precision: 38, scale: 9 }",
    },
    Wire {
        path: "source.backfill",
        file: "\"never\"",
        variable: "never",
        arrived: |s| format!("{:?}", s.feeder.source.backfill),
        expected: "Never",
    },
    Wire {
        path: "catalog.url",
        file: "\"postgres://f@h/lake\"",
        variable: "postgres://f@h/lake",
        arrived: |s| s.feeder.catalog.endpoint.database.clone(),
        expected: "lake",
    },
    Wire {
        path: "catalog.tls",
        file: "\"verify-ca\"",
        variable: "verify-ca",
        arrived: |s| s.feeder.catalog.endpoint.tls.mode.to_string(),
        expected: "verify-ca",
    },
    Wire {
        path: "catalog.tls_ca_file",
        file: "\"/ca\"",
        variable: "/ca",
        arrived: |s| shown(s.feeder.catalog.endpoint.tls.ca_file.as_ref()),
        expected: "/ca",
    },
    Wire {
        path: "catalog.tls_cert_file",
        file: "\"/cert\"\ntls_key_file = \"/key\"",
        variable: "/cert",
        arrived: |s| shown(s.feeder.catalog.endpoint.tls.cert_file.as_ref()),
        expected: "/cert",
    },
    Wire {
        path: "catalog.tls_key_file",
        file: "\"/key\"\ntls_cert_file = \"/cert\"",
        variable: "/key",
        arrived: |s| shown(s.feeder.catalog.endpoint.tls.key_file.as_ref()),
        expected: "/key",
    },
    Wire {
        path: "catalog.password",
        file: "\"pw\"",
        variable: "pw",
        arrived: |s| password(&s.feeder.catalog.endpoint.password),
        expected: "pw",
    },
    Wire {
        path: "catalog.password_file",
        file: "\"/pw\"",
        variable: "/pw",
        arrived: |s| password(&s.feeder.catalog.endpoint.password),
        expected: "file /pw",
    },
    Wire {
        path: "catalog.password_command",
        file: "\"token\"",
        variable: "token",
        arrived: |s| password(&s.feeder.catalog.endpoint.password),
        expected: "command token",
    },
    Wire {
        path: "catalog.metadata_schema",
        file: "\"meta\"",
        variable: "meta",
        arrived: |s| s.feeder.catalog.metadata_schema.clone(),
        expected: "meta",
    },
    Wire {
        path: "catalog.migrate",
        file: "false",
        variable: "false",
        arrived: |s| s.feeder.catalog.migrate.to_string(),
        expected: "false",
    },
    Wire {
        path: "storage.url",
        file: "\"file:///lake\"",
        variable: "file:///lake",
        arrived: |s| {
            s.store().map_or_else(
                |error| error.to_string(),
                |store| store.url().unwrap().to_owned(),
            )
        },
        expected: "file:///lake",
    },
    Wire {
        path: "storage.endpoint",
        file: "\"http://h:1\"\nurl = \"s3://b\"",
        variable: "http://h:1",
        arrived: |s| s3(s).endpoint.unwrap_or_default(),
        expected: "http://h:1",
    },
    Wire {
        path: "storage.region",
        file: "\"eu-west-1\"\nurl = \"s3://b\"",
        variable: "eu-west-1",
        arrived: |s| s3(s).region.unwrap_or_default(),
        expected: "eu-west-1",
    },
    Wire {
        path: "storage.path_style",
        file: "true\nurl = \"s3://b\"",
        variable: "true",
        arrived: |s| format!("{:?}", s3(s).path_style),
        expected: "Some(true)",
    },
    Wire {
        path: "storage.profile",
        file: "\"p\"\nurl = \"s3://b\"",
        variable: "p",
        arrived: |s| s3(s).profile.unwrap_or_default(),
        expected: "p",
    },
    Wire {
        path: "storage.access_key_id",
        file: "\"id\"\nurl = \"s3://b\"\nsecret_access_key = \"s\"",
        variable: "id",
        arrived: |s| s3(s).access_key_id.unwrap_or_default(),
        expected: "id",
    },
    Wire {
        path: "storage.secret_access_key",
        file: "\"hidden\"\nurl = \"s3://b\"\naccess_key_id = \"k\"",
        variable: "hidden",
        arrived: |s| secret(s3(s).secret_access_key),
        expected: "hidden",
    },
    Wire {
        path: "storage.secret_access_key_file",
        file: concat!(
            "\"",
            env!("CARGO_MANIFEST_DIR"),
            "/src/config/tests/secret\"\nurl = \"s3://b\"\naccess_key_id = \"k\""
        ),
        variable: concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/secret"),
        arrived: |s| secret(s3(s).secret_access_key),
        expected: "from a file",
    },
    Wire {
        path: "storage.session_token",
        file: "\"token\"\nurl = \"s3://b\"\naccess_key_id = \"k\"\nsecret_access_key = \"s\"",
        variable: "token",
        arrived: |s| secret(s3(s).session_token),
        expected: "token",
    },
    Wire {
        path: "storage.create_only",
        file: "\"head\"\nurl = \"s3://b\"",
        variable: "head",
        arrived: |s| format!("{:?}", s3(s).create_only),
        expected: "Head",
    },
    Wire {
        path: "storage.credentials_file",
        file: "\"/key.json\"\nurl = \"gs://b\"",
        variable: "/key.json",
        arrived: |s| shown(gcs(s).credentials_file.as_ref()),
        expected: "/key.json",
    },
    Wire {
        path: "storage.anonymous",
        file: "true\nurl = \"gs://b\"",
        variable: "true",
        arrived: |s| gcs(s).anonymous.to_string(),
        expected: "true",
    },
    Wire {
        path: "policy.on_table_error",
        file: "\"hold\"",
        variable: "hold",
        arrived: |s| format!("{:?}", s.feeder.policy.on_table_error),
        expected: "Hold",
    },
    Wire {
        path: "policy.on_unrepresentable",
        file: "\"stop\"",
        variable: "stop",
        arrived: |s| format!("{:?}", s.feeder.policy.on_unrepresentable),
        expected: "Stop",
    },
    Wire {
        path: "policy.on_schema_change",
        file: "\"additive_only\"",
        variable: "additive_only",
        arrived: |s| format!("{:?}", s.feeder.policy.changes.on_schema_change),
        expected: "AdditiveOnly",
    },
    Wire {
        path: "policy.on_drop_column",
        file: "\"drop\"",
        variable: "drop",
        arrived: |s| format!("{:?}", s.feeder.policy.changes.on_drop_column),
        expected: "Drop",
    },
    Wire {
        path: "policy.on_type_change",
        file: "\"stop\"",
        variable: "stop",
        arrived: |s| format!("{:?}", s.feeder.policy.changes.on_type_change),
        expected: "Stop",
    },
    Wire {
        path: "policy.on_drop_table",
        file: "\"drop\"",
        variable: "drop",
        arrived: |s| format!("{:?}", s.feeder.policy.changes.on_drop_table),
        expected: "Drop",
    },
    Wire {
        path: "policy.on_drop_partition",
        file: "\"keep\"",
        variable: "keep",
        arrived: |s| format!("{:?}", s.feeder.policy.changes.on_drop_partition),
        expected: "Keep",
    },
    Wire {
        path: "flush.interval",
        file: "\"1m 30s\"",
        variable: "90s",
        arrived: |s| format!("{:?}", s.feeder.flush.interval),
        expected: "90s",
    },
    Wire {
        path: "flush.max_rows",
        file: "2_000",
        variable: "2_000",
        arrived: |s| s.feeder.flush.max_rows.to_string(),
        expected: "2000",
    },
    Wire {
        path: "flush.max_bytes",
        file: "\"1KiB\"",
        variable: "1024",
        arrived: |s| s.feeder.flush.max_bytes.to_string(),
        expected: "1024",
    },
    Wire {
        path: "limits.memory",
        file: "2_048",
        variable: "2KiB",
        arrived: |s| s.feeder.limits.memory.to_string(),
        expected: "2048",
    },
    Wire {
        path: "limits.max_lag_bytes",
        file: "\"1MiB\"",
        variable: "1MiB",
        arrived: |s| s.feeder.limits.max_lag_bytes.to_string(),
        expected: "1048576",
    },
    Wire {
        path: "limits.shutdown_timeout",
        file: "\"500ms\"",
        variable: "500ms",
        arrived: |s| format!("{:?}", s.feeder.limits.shutdown_timeout),
        expected: "500ms",
    },
    Wire {
        path: "limits.copy_workers",
        file: "8",
        variable: "8",
        arrived: |s| s.feeder.limits.copy_workers.to_string(),
        expected: "8",
    },
    Wire {
        path: "maintenance.interval",
        file: "\"off\"",
        variable: "off",
        arrived: |s| format!("{:?}", s.feeder.maintenance.interval),
        expected: "None",
    },
    Wire {
        path: "maintenance.grace",
        file: "\"2h\"",
        variable: "2h",
        arrived: |s| format!("{:?}", s.feeder.maintenance.grace),
        expected: "7200s",
    },
    Wire {
        path: "server.listen",
        file: "\"[::1]:9187\"",
        variable: "[::1]:9187",
        arrived: |s| format!("{:?}", s.listen),
        expected: "Some([::1]:9187)",
    },
];

/// The file with one key beside what is minimal.
fn file_with(wire: &Wire) -> String {
    match wire.path.split_once('.') {
        None => format!("{} = {}\n{MINIMAL}", wire.path, wire.file),
        Some(("source", "url")) => format!("[source]\nurl = {}\n", wire.file),
        Some(("source", key)) => format!("{MINIMAL}{key} = {}\n", wire.file),
        Some((section, key)) => format!("{MINIMAL}[{section}]\n{key} = {}\n", wire.file),
    }
}

/// What a key does not come without: the other half of a client certificate, the store that it is a setting of.
fn partners(path: &str) -> Vec<(String, &'static str)> {
    let others: &[(&str, &str)] = match path {
        "source.tls_cert_file" => &[("source.tls_key_file", "/other")],
        "source.tls_key_file" => &[("source.tls_cert_file", "/other")],
        "catalog.tls_cert_file" => &[("catalog.tls_key_file", "/other")],
        "catalog.tls_key_file" => &[("catalog.tls_cert_file", "/other")],
        "storage.credentials_file" | "storage.anonymous" => &[("storage.url", "gs://b")],
        "storage.access_key_id" => &[
            ("storage.url", "s3://b"),
            ("storage.secret_access_key", "s"),
        ],
        "storage.secret_access_key"
        | "storage.secret_access_key_file"
        | "storage.session_token" => &[
            ("storage.url", "s3://b"),
            ("storage.access_key_id", "k"),
            ("storage.secret_access_key", "s"),
        ],
        "storage.url" => &[],
        path if path.starts_with("storage.") => &[("storage.url", "s3://b")],
        _ => &[],
    };
    let replaced = match path {
        "storage.secret_access_key_file" => "storage.secret_access_key",
        path => path,
    };
    others
        .iter()
        .filter(|(other, _)| *other != replaced)
        .map(|(other, value)| (keys::environment_name(other), *value))
        .collect()
}

/// The options of the store.
fn s3(settings: &Settings) -> S3Options {
    let options = settings.store().ok().and_then(Store::options);
    options
        .map(|options| options.s3.clone())
        .unwrap_or_default()
}

fn gcs(settings: &Settings) -> GcsOptions {
    let options = settings.store().ok().and_then(Store::options);
    options
        .map(|options| options.gcs.clone())
        .unwrap_or_default()
}

fn secret(secret: Option<SecretString>) -> String {
    secret.map_or_else(String::new, |secret| secret.expose_secret().to_owned())
}

#[test]
fn every_key_arrives_from_file_and_environment_in_both_spellings() {
    let minimal = settings(MINIMAL, &[]).unwrap();
    for wire in WIRES {
        let Wire {
            path,
            arrived,
            expected,
            variable,
            ..
        } = wire;
        assert_ne!(
            arrived(&minimal),
            *expected,
            "{path}: the default proves nothing"
        );
        let from_file = settings(&file_with(wire), &[]).unwrap();
        assert_eq!(arrived(&from_file), *expected, "{path} in the file");
        let long = keys::environment_name(path);
        for name in BTreeSet::from([long.clone(), long.replace("__", "_")]) {
            let partners = partners(path);
            let mut variables = vec![(name.as_str(), *variable)];
            variables.extend(partners.iter().map(|(name, value)| (name.as_str(), *value)));
            let from_environment = settings(MINIMAL, &variables).unwrap();
            assert_eq!(arrived(&from_environment), *expected, "{name}");
        }
    }
}

/// The keys of `[[tables]]` exist in the file only, apart from their patterns.
#[test]
fn no_key_is_left_out_of_the_tests() {
    let wired: BTreeSet<&str> = WIRES.iter().map(|wire| wire.path).collect();
    let missing: Vec<&str> = keys::ALL
        .iter()
        .map(|spec| spec.path)
        .filter(|path| !wired.contains(path))
        .collect();
    assert_eq!(
        missing,
        [
            "tables.source",
            "tables.enabled",
            "tables.target_schema",
            "tables.target_table",
            "tables.exclude_columns",
            "tables.where",
            "tables.backfill",
            "tables.numeric",
            "tables.arrays",
            "tables.before_image",
            "tables.on_schema_change",
            "tables.on_drop_column",
            "tables.on_type_change",
            "tables.on_drop_table",
            "tables.on_drop_partition",
        ]
    );
}

#[test]
fn every_key_of_a_table_arrives() {
    let text = format!(
        r#"{MINIMAL}
[[tables]]
source = "public.*"
[[tables]]
source = "public.orders"
enabled = false
target_schema = "analytics"
target_table = "order_events"
exclude_columns = ["card_number", "cvv"]
where = "region = 'eu'"
backfill = "never"
numeric = {{ price = "decimal(10,2)", weight = "float64" }}
arrays = {{ matrix = "json", tags = "list" }}
before_image = true
on_schema_change = "additive_only"
on_drop_column = "drop"
on_type_change = "stop"
on_drop_table = "drop"
on_drop_partition = "keep"
"#
    );
    let settings = settings(&text, &[]).unwrap();
    let [all, orders] = settings.feeder.tables.as_slice() else {
        panic!("two entries are expected");
    };
    assert_eq!(*all, duckfeeder::config::TableRule::new("public.*"));
    assert_eq!(orders.source, "public.orders");
    assert!(!orders.enabled);
    assert_eq!(orders.target_schema.as_deref(), Some("analytics"));
    assert_eq!(orders.target_table.as_deref(), Some("order_events"));
    assert_eq!(orders.exclude_columns, ["card_number", "cvv"]);
    assert_eq!(orders.row_filter.as_deref(), Some("region = 'eu'"));
    assert_eq!(orders.backfill, Some(BackfillMode::Never));
    assert_eq!(
        orders.arrays,
        [
            ("matrix".to_owned(), ArrayMapping::Json),
            ("tags".to_owned(), ArrayMapping::List),
        ]
        .into()
    );
    assert!(orders.before_image);
    assert_eq!(
        orders.changes,
        ChangeOverrides {
            on_schema_change: Some(OnSchemaChange::AdditiveOnly),
            on_drop_column: Some(OnDropColumn::Drop),
            on_type_change: Some(OnTypeChange::Stop),
            on_drop_table: Some(OnDropTable::Drop),
            on_drop_partition: Some(OnDropPartition::Keep),
        }
    );
    assert_eq!(
        orders.numeric,
        [
            (
                "price".to_owned(),
                NumericMapping::Decimal {
                    precision: 10,
                    scale: 2
                }
            ),
            ("weight".to_owned(), NumericMapping::Float64),
        ]
        .into()
    );
}

#[test]
fn defaults_are_those_of_the_feeder() {
    let settings = settings(MINIMAL, &[]).unwrap();
    let (flush, limits) = (FlushConfig::default(), Limits::default());
    assert_eq!(format!("{:?}", settings.feeder.flush), format!("{flush:?}"));
    assert_eq!(
        format!("{:?}", settings.feeder.limits),
        format!("{limits:?}")
    );
    assert_eq!(settings.feeder.source.keyless, KeylessPolicy::default());
    assert_eq!(settings.feeder.source.numeric, NumericMapping::default());
    assert_eq!(settings.feeder.source.backfill, BackfillMode::default());
    assert_eq!(
        settings.feeder.policy.on_table_error,
        OnTableError::default()
    );
    assert_eq!(
        settings.feeder.policy.on_unrepresentable,
        OnUnrepresentable::default()
    );
    assert_eq!(settings.feeder.name.as_str(), "default");
    assert_eq!(
        settings.feeder.source.slot.as_str().to_owned(),
        "duckfeeder_default"
    );
    assert_eq!(
        settings.feeder.source.publication.as_str().to_owned(),
        "duckfeeder_default"
    );
    assert!(settings.enabled);
    assert!(settings.listen.is_none());
    assert!(
        settings
            .store()
            .map(|store| store.url().unwrap_or_default().to_owned())
            .is_err()
    );
    assert!(settings.require_tables().is_err());
}

#[test]
fn flag_beats_environment_beats_file() {
    let text = "name = \"from_file\"\n[source]\nurl = \"postgres://f@h/file\"\n[storage]\nurl = \"file:///file\"\n\
                [catalog]\nurl = \"postgres://f@h/cfile\"\n[[tables]]\nsource = \"file.*\"\n";
    let variables = [
        ("DUCKFEEDER_NAME", "from_env"),
        ("DUCKFEEDER_SOURCE_URL", "postgres://f@h/env"),
        ("DUCKFEEDER_STORAGE_URL", "file:///env"),
        ("DUCKFEEDER_CATALOG_URL", "postgres://f@h/cenv"),
        ("DUCKFEEDER_TABLES", "env.a, env.b"),
    ];
    let flags = Flags {
        config: None,
        name: Some("from_flag".into()),
        source: Some("postgres://f@h/flag".into()),
        storage: Some("file:///flag".into()),
        catalog: Some("postgres://f@h/cflag".into()),
        tables: vec!["flag.*".into()],
    };
    let seen = |variables: &[(&str, &str)], flags: Flags| {
        let settings = merged(text, variables, flags).unwrap().resolve().unwrap();
        let tables: Vec<String> = settings
            .feeder
            .tables
            .iter()
            .map(|rule| rule.source.clone())
            .collect();
        [
            settings.feeder.name.to_string(),
            settings.feeder.source.endpoint.database.clone(),
            settings.store().unwrap().url().unwrap().to_owned(),
            settings.feeder.catalog.endpoint.database.clone(),
            tables.join(" "),
        ]
    };
    assert_eq!(
        seen(&[], Flags::default()),
        ["from_file", "file", "file:///file", "cfile", "file.*"]
    );
    assert_eq!(
        seen(&variables, Flags::default()),
        ["from_env", "env", "file:///env", "cenv", "env.a env.b"]
    );
    assert_eq!(
        seen(&variables, flags),
        ["from_flag", "flag", "file:///flag", "cflag", "flag.*"]
    );
}

#[test]
fn the_catalog_is_the_source_unless_it_has_a_url() {
    let both = "[source]\nurl = \"postgres://f@db/shop\"\ntls = \"require\"\npassword = \"a\"\n[catalog]\n";
    let own_password = settings(&format!("{both}password = \"b\"\n"), &[]).unwrap();
    let catalog = &own_password.feeder.catalog.endpoint;
    assert_eq!(catalog.database, "shop");
    assert_eq!(catalog.tls.mode, TlsMode::Require);
    assert_eq!(password(&catalog.password), "b");
    assert_eq!(password(&own_password.feeder.source.endpoint.password), "a");
    let own_url = settings(&format!("{both}url = \"postgres://g@meta/lake\"\n"), &[]).unwrap();
    let catalog = &own_url.feeder.catalog.endpoint;
    assert_eq!(catalog.tls.mode, TlsMode::VerifyFull);
    assert_eq!(password(&catalog.password), "PgPass");
}

#[test]
fn tls_key_beats_the_url() {
    let text = "[source]\nurl = \"postgres://f@db/shop?sslmode=disable\"\n";
    assert_eq!(
        settings(text, &[]).unwrap().feeder.source.endpoint.tls.mode,
        TlsMode::Disable
    );
    let text = format!("{text}tls = \"verify-full\"\n");
    assert_eq!(
        settings(&text, &[])
            .unwrap()
            .feeder
            .source
            .endpoint
            .tls
            .mode,
        TlsMode::VerifyFull
    );
}

#[test]
fn a_password_of_a_higher_layer_wins() {
    let text = format!("{MINIMAL}password_file = \"/pw\"\n");
    let settings = settings(&text, &[("DUCKFEEDER_SOURCE_PASSWORD", "pw")]).unwrap();
    assert_eq!(password(&settings.feeder.source.endpoint.password), "pw");
}

#[test]
fn secrets_are_read_from_files_that_the_environment_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("url");
    std::fs::write(&path, "postgres://f:pw@h/secret\n").unwrap();
    let path = path.to_str().unwrap();
    for name in ["DUCKFEEDER_SOURCE_URL_FILE", "DUCKFEEDER_SOURCE__URL_FILE"] {
        let settings = settings("", &[(name, path)]).unwrap();
        assert_eq!(settings.feeder.source.endpoint.database, "secret");
        assert_eq!(password(&settings.feeder.source.endpoint.password), "pw");
    }
    let settings = settings(MINIMAL, &[("DUCKFEEDER_SOURCE_PASSWORD_FILE", path)]).unwrap();
    assert_eq!(
        password(&settings.feeder.source.endpoint.password),
        format!("file {path}")
    );
}

#[test]
fn variables_that_are_not_ours_are_left_alone() {
    let variables = [
        ("DUCKFEEDER_CONFIG", "x.toml"),
        ("DUCKFEEDER_LOG", "debug"),
        ("DUCKFEEDER_TOOLS_DIR", "/tools"),
        ("DUCKFEEDER_TEST_PG_BIN_17", "/pg"),
        ("DUCKFEEDER_SERVICE_HOST", "10.0.0.1"),
        ("DUCKFEEDER_SERVICE_PORT_HTTP", "9187"),
        ("DUCKFEEDER_PORT", "tcp://10.0.0.1:9187"),
        ("DUCKFEEDER_PORT_9187_TCP_ADDR", "10.0.0.1"),
        ("OTHER", "x"),
        ("DUCKFEEDER_NAME", ""),
    ];
    assert_eq!(
        settings(MINIMAL, &variables).unwrap().feeder.name.as_str(),
        "default"
    );
}

#[test]
fn the_file_is_found_by_flag_then_variable_then_place() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = directory.path().join(format!("{name}.toml"));
        std::fs::write(&path, format!("name = \"{name}\"\n{MINIMAL}")).unwrap();
        path
    };
    let name = |flags: &Flags, variables: &[(&str, &str)]| {
        let merged = Merged::read(flags.clone(), environment(variables), directory.path()).unwrap();
        merged.text("name").map(str::to_owned)
    };
    let none = Flags::default();
    assert_eq!(name(&none, &[]), None);
    write("duckfeeder");
    assert_eq!(name(&none, &[]).as_deref(), Some("duckfeeder"));
    let variable = write("variable");
    let variables = [("DUCKFEEDER_CONFIG", variable.to_str().unwrap())];
    assert_eq!(name(&none, &variables).as_deref(), Some("variable"));
    let flags = Flags {
        config: Some(write("flag")),
        ..Flags::default()
    };
    assert_eq!(name(&flags, &variables).as_deref(), Some("flag"));
    let missing = Flags {
        config: Some("/nonexistent/x.toml".into()),
        ..Flags::default()
    };
    let error = Merged::read(missing, Vec::new(), Path::new("")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the configuration file /nonexistent/x.toml cannot be read"
    );
}

/// A mistake in the file: text, message, remedy.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "nam = \"x\"",
        "unknown key `nam` (duckfeeder.toml:1)",
        "did you mean `name`?",
    ),
    (
        "\n\n[flush]\nmax_row = 5",
        "unknown key `flush.max_row` (duckfeeder.toml:4)",
        "did you mean `max_rows`?",
    ),
    (
        "[flsh]\nmax_rows = 5",
        "unknown key `flsh` (duckfeeder.toml:1)",
        "did you mean `flush`?",
    ),
    (
        "[flush]\nfoo = 5",
        "unknown key `flush.foo` (duckfeeder.toml:2)",
        "the keys of [flush] are interval, max_rows, max_bytes",
    ),
    (
        "interval = \"5s\"",
        "unknown key `interval` (duckfeeder.toml:1)",
        "`interval` belongs to [flush]",
    ),
    (
        "[flush]\nname = \"x\"",
        "unknown key `flush.name` (duckfeeder.toml:2)",
        "`name` belongs to the top of the file, above all sections",
    ),
    (
        "[[tables]]\nsource = \"a.b\"\ntarget = \"c\"",
        "unknown key `tables.target` (duckfeeder.toml:3)",
        "the keys of [tables] are source, enabled, target_schema, target_table, exclude_columns, where, backfill, numeric, arrays, before_image, on_schema_change, on_drop_column, on_type_change, on_drop_table, on_drop_partition",
    ),
    (
        "[storage]\nurl = \"file:///lake\"\nregion = \"eu\"",
        "`storage.region` is a setting of S3 (duckfeeder.toml:3)",
        "remove it, or let `storage.url` begin with s3://",
    ),
    (
        "[storage]\nurl = \"s3://b\"\nanonymous = true",
        "`storage.anonymous` is a setting of Google Cloud Storage (duckfeeder.toml:3)",
        "remove it, or let `storage.url` begin with gs://",
    ),
    (
        "[storage]\nurl = \"/lake\"\nendpoint = \"http://h\"",
        "`storage.endpoint` is a setting of object stores (duckfeeder.toml:3)",
        "remove it, or let `storage.url` begin with s3:// or gs://",
    ),
    (
        "[storage]\nurl = \"s3://b\"\naccess_key_id = \"k\"",
        "`storage.access_key_id` needs `storage.secret_access_key` (duckfeeder.toml:3)",
        "set `storage.secret_access_key` too, or leave both out to use the credentials that the AWS tools find",
    ),
    (
        "[storage]\nurl = \"s3://b\"\nsession_token = \"t\"",
        "`storage.session_token` needs `storage.access_key_id` (duckfeeder.toml:3)",
        "set `storage.access_key_id` too, or leave both out to use the credentials that the AWS tools find",
    ),
    (
        "[storage]\nurl = \"s3://b\"\naccess_key_id = \"k\"\nsecret_access_key = \"s\"\nsecret_access_key_file = \"/f\"",
        "`storage.secret_access_key` and `storage.secret_access_key_file` are both set (duckfeeder.toml:5)",
        "keep one of the two",
    ),
    (
        "[storage]\nurl = \"s3://b\"\naccess_key_id = \"k\"\nsecret_access_key_file = \"/not/there\"",
        "`storage.secret_access_key_file`: cannot read /not/there: No such file or directory (os error 2) (duckfeeder.toml:4)",
        "name a file with the secret access key that this process may read",
    ),
    (
        "[storage]\nurl = \"gs://b\"\ncredentials_file = \"/k\"\nanonymous = true",
        "`storage.credentials_file` and `storage.anonymous` contradict each other (duckfeeder.toml:3)",
        "keep one of the two",
    ),
    (
        "[storage]\nurl = \"s3://b\"\nendpoint = \"http://key:secret@h/\"",
        "`storage.endpoint`: is no URL of a server (duckfeeder.toml:3)",
        "write http:// or https:// with host and port, such as \"http://127.0.0.1:9000\"",
    ),
    (
        "source = \"postgres://f@h/d\"",
        "`source` is a section, found text (duckfeeder.toml:1)",
        "write [source] and its keys below it: url, tls, tls_ca_file, tls_cert_file, tls_key_file, password, password_file, password_command, slot, publication, manage_publication, keyless, numeric, backfill",
    ),
    (
        "tables = \"public.*\"",
        "`tables` is a list of sections, found text (duckfeeder.toml:1)",
        "write [[tables]] and below it source = \"schema.table\", once for each entry",
    ),
    (
        "tables = [\"public.*\"]",
        "`tables` is a list of sections, found a list (duckfeeder.toml:1)",
        "write [[tables]] and below it source = \"schema.table\", once for each entry",
    ),
    (
        "enabled = \"false\"",
        "`enabled`: expected true or false, found text (duckfeeder.toml:1)",
        "write true or false",
    ),
    (
        "name = 5",
        "`name`: expected text, found a whole number (duckfeeder.toml:1)",
        "write it in quotes",
    ),
    (
        "name = \"Shop!\"",
        "`name`: `Shop!` is not a feeder name (duckfeeder.toml:1)",
        "use 1 to 40 characters of a-z, 0-9 and _",
    ),
    (
        "name = \" \"",
        "`name`: must not be empty (duckfeeder.toml:1)",
        "give it a value, or remove it",
    ),
    (
        "[flush]\nmax_rows = true",
        "`flush.max_rows`: expected a whole number, found a boolean (duckfeeder.toml:2)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "[flush]\nmax_rows = 1.5",
        "`flush.max_rows`: expected a whole number, found a number with a fraction (duckfeeder.toml:2)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "[flush]\nmax_rows = 0",
        "`flush.max_rows`: not a whole number from 1 (duckfeeder.toml:2)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "[flush]\nmax_rows = -5",
        "`flush.max_rows`: not a whole number from 1 (duckfeeder.toml:2)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "[flush]\nmax_rows = \"5\"",
        "`flush.max_rows`: expected a whole number, found text (duckfeeder.toml:2)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "[flush]\ninterval = 5",
        "`flush.interval`: expected a duration, found a whole number (duckfeeder.toml:2)",
        "write a duration with its unit, such as \"5s\", \"500ms\" or \"2m\"",
    ),
    (
        "[flush]\ninterval = \"5\"",
        "`flush.interval`: `5` is not a duration (duckfeeder.toml:2)",
        "write a duration with its unit, such as \"5s\", \"500ms\" or \"2m\"",
    ),
    (
        "[flush]\ninterval = \"0s\"",
        "`flush.interval`: must be above zero (duckfeeder.toml:2)",
        "write a duration with its unit, such as \"5s\", \"500ms\" or \"2m\"",
    ),
    (
        "[limits]\nmemory = \"lots\"",
        "`limits.memory`: `lots` is not a size (duckfeeder.toml:2)",
        "write a size such as \"256MiB\" or \"1GB\", or a number of bytes",
    ),
    (
        "[limits]\nmemory = 0",
        "`limits.memory`: must be above zero (duckfeeder.toml:2)",
        "write a size such as \"256MiB\" or \"1GB\", or a number of bytes",
    ),
    (
        "[limits]\nmemory = 2024-01-01",
        "`limits.memory`: expected a size, found a date or time (duckfeeder.toml:2)",
        "write a size such as \"256MiB\" or \"1GB\", or a number of bytes",
    ),
    (
        "[maintenance]\ninterval = \"10ms\"",
        "`maintenance.interval`: must not be below 1s (duckfeeder.toml:2)",
        "write \"1s\" or more",
    ),
    (
        "[maintenance]\ngrace = \"59m\"",
        "`maintenance.grace`: must not be below 1h (duckfeeder.toml:2)",
        "write \"1h\" or more",
    ),
    (
        "[limits]\ncopy_workers = 65",
        "`limits.copy_workers`: must not be above 64 (duckfeeder.toml:2)",
        "write a whole number from 1 to 64",
    ),
    (
        "[server]\nlisten = \"9187\"",
        "`server.listen`: `9187` is not an address with a port (duckfeeder.toml:2)",
        "write an IP address and a port, such as \"127.0.0.1:9187\" or \"[::]:9187\"",
    ),
    (
        "[policy]\non_table_error = \"stop\"",
        "`policy.on_table_error`: unknown value `stop` (duckfeeder.toml:2)",
        "write \"isolate\" or \"hold\"",
    ),
    (
        "[[tables]]\nsource = \"orders\"",
        "`tables.source`: `orders` names no schema (duckfeeder.toml:2)",
        "write schema.table, such as \"public.orders\" or \"public.*\"",
    ),
    (
        "\n[[tables]]\nenabled = true",
        "`tables.source` is missing (duckfeeder.toml:2)",
        "write source = \"schema.table\" in this [[tables]] entry",
    ),
    (
        "[[tables]]\nsource = \"a.b\"\nexclude_columns = \"c\"",
        "`tables.exclude_columns`: expected a list of texts, found text (duckfeeder.toml:3)",
        "write a list such as [\"a\", \"b\"]",
    ),
    (
        "[[tables]]\nsource = \"a.b\"\nexclude_columns = [5]",
        "`tables.exclude_columns`: expected text, found a whole number (duckfeeder.toml:3)",
        "write it in quotes",
    ),
    (
        "[[tables]]\nsource = \"a.b\"\nnumeric = { price = \"decimal(39,9)\" }",
        "`tables.numeric`: column `price`: unknown value `decimal(39,9)` (duckfeeder.toml:3)",
        "write \"varchar\", \"float64\" or \"decimal(p,s)\" with p from 1 to 38 and s from 0 to p",
    ),
    (
        "name = shop",
        "duckfeeder.toml is not TOML: string values must be quoted, expected literal string (duckfeeder.toml:1)",
        "correct the line; text is written in quotes",
    ),
];

/// A mistake in `[source]`, below what is minimal.
const SOURCE_MISTAKES: &[(&str, &str, &str)] = &[
    (
        "keyless = \"skip\"",
        "`source.keyless`: unknown value `skip` (duckfeeder.toml:3)",
        "write \"auto\", \"refuse\" or \"inserts\"",
    ),
    (
        "numeric = \"decimal(5,6)\"",
        "`source.numeric`: unknown value `decimal(5,6)` (duckfeeder.toml:3)",
        "write \"varchar\", \"float64\" or \"decimal(p,s)\" with p from 1 to 38 and s from 0 to p",
    ),
    (
        "slot = \"Shop\"",
        "`source.slot`: `Shop` is not a slot name (duckfeeder.toml:3)",
        "use 1 to 63 characters of a-z, 0-9 and _",
    ),
    (
        "tls_key_file = \"/k\"",
        "`source.tls_key_file` needs `source.tls_cert_file` (duckfeeder.toml:3)",
        "set `source.tls_cert_file` too",
    ),
    (
        "password = \"a\"\npassword_file = \"/b\"",
        "`source.password_file` and `source.password` are both set (duckfeeder.toml:4)",
        "keep one of the two",
    ),
    (
        "slto = \"shop\"",
        "unknown key `source.slto` (duckfeeder.toml:3)",
        "did you mean `slot`?",
    ),
];

#[test]
fn mistakes_in_the_file_are_named_with_place_and_remedy() {
    let source = [("DUCKFEEDER_SOURCE_URL", "postgres://feeder@localhost/shop")];
    let check = |text: &str, message: &str, remedy: &str| {
        let error = settings(text, &source)
            .err()
            .unwrap_or_else(|| panic!("no error: {text}"));
        assert_eq!(
            (error.to_string().as_str(), error.remedy()),
            (message, remedy),
            "{text}"
        );
    };
    for (text, message, remedy) in MISTAKES {
        check(text, message, remedy);
    }
    for (text, message, remedy) in SOURCE_MISTAKES {
        check(&format!("{MINIMAL}{text}\n"), message, remedy);
    }
}

/// A mistake in the environment: name, value, message, remedy.
const VARIABLE_MISTAKES: &[(&str, &str, &str, &str)] = &[
    (
        "DUCKFEEDER_SOURCE_ULR",
        "x",
        "unknown environment variable DUCKFEEDER_SOURCE_ULR",
        "did you mean DUCKFEEDER_SOURCE__URL?",
    ),
    (
        "DUCKFEEDER_STORAGE",
        "x",
        "unknown environment variable DUCKFEEDER_STORAGE",
        "did you mean DUCKFEEDER_STORAGE__URL?",
    ),
    (
        "DUCKFEEDER_FLUSH__MAXROWS",
        "5",
        "unknown environment variable DUCKFEEDER_FLUSH__MAXROWS",
        "did you mean DUCKFEEDER_FLUSH__MAX_ROWS?",
    ),
    (
        "DUCKFEEDER_TABLE",
        "a.b",
        "unknown environment variable DUCKFEEDER_TABLE",
        "did you mean DUCKFEEDER_TABLES?",
    ),
    (
        "DUCKFEEDER_COLOUR",
        "x",
        "unknown environment variable DUCKFEEDER_COLOUR",
        "unset it; the variables are DUCKFEEDER_<SECTION>__<KEY>, such as DUCKFEEDER_SOURCE__URL",
    ),
    (
        "DUCKFEEDER_COLOUR",
        "",
        "unknown environment variable DUCKFEEDER_COLOUR",
        "unset it; the variables are DUCKFEEDER_<SECTION>__<KEY>, such as DUCKFEEDER_SOURCE__URL",
    ),
    (
        "DUCKFEEDER_FLUSH__MAX_ROWS",
        "many",
        "`flush.max_rows`: not a whole number from 1 (environment variable DUCKFEEDER_FLUSH__MAX_ROWS)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "DUCKFEEDER_ENABLED",
        "yes",
        "`enabled`: `yes` is neither true nor false (environment variable DUCKFEEDER_ENABLED)",
        "write true or false",
    ),
    (
        "DUCKFEEDER_TABLES",
        "orders",
        "`tables.source`: `orders` names no schema (environment variable DUCKFEEDER_TABLES)",
        "write schema.table, such as \"public.orders\" or \"public.*\"",
    ),
    (
        "DUCKFEEDER_SOURCE_URL",
        "mysql://f:hunter2@h/d",
        "`source.url`: connection url must begin with postgres:// or postgresql:// (environment variable DUCKFEEDER_SOURCE_URL)",
        "write postgres://user@host:5432/database?sslmode=verify-full, with what is special in a URL percent-encoded",
    ),
    (
        "DUCKFEEDER_SOURCE_URL_FILE",
        "/nonexistent/url",
        "`source.url`: the file /nonexistent/url cannot be read (environment variable DUCKFEEDER_SOURCE_URL_FILE)",
        "let DUCKFEEDER_SOURCE_URL_FILE name a readable file that holds the value",
    ),
    (
        "DUCKFEEDER_FLUSH__INTERVAL_FILE",
        "/x",
        "unknown environment variable DUCKFEEDER_FLUSH__INTERVAL_FILE",
        "unset it; the variables are DUCKFEEDER_<SECTION>__<KEY>, such as DUCKFEEDER_SOURCE__URL",
    ),
];

#[test]
fn mistakes_in_the_environment_are_named_with_remedy() {
    for (name, value, message, remedy) in VARIABLE_MISTAKES {
        let error = settings(MINIMAL, &[(name, value)]).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.remedy()),
            (*message, *remedy),
            "{name}"
        );
    }
    let twice = [
        ("DUCKFEEDER_SOURCE_URL", "a"),
        ("DUCKFEEDER_SOURCE__URL", "b"),
    ];
    assert_eq!(
        settings("", &twice).unwrap_err().to_string(),
        "`source.url` is set twice, the other time by environment variable DUCKFEEDER_SOURCE_URL \
         (environment variable DUCKFEEDER_SOURCE__URL)"
    );
}

#[test]
fn what_is_missing_is_named_with_every_way_to_give_it() {
    let error = settings("", &[]).unwrap_err();
    assert_eq!(error.to_string(), "`source.url` is missing");
    assert_eq!(
        error.remedy(),
        "set `source.url` in the configuration file or the environment variable DUCKFEEDER_SOURCE__URL, or give --source"
    );
}

#[test]
fn show_is_toml_with_origins_and_without_secrets() {
    let text = "name = \"shop\"\n[source]\nurl = \"postgres://f:hunter2@h/d?password=hunter2\"\n\
                password_command = \"echo hunter2\"\n[[tables]]\nsource = \"public.*\"\nexclude_columns = [\"a\"]\n\
                numeric = { price = \"float64\" }\n[flush]\nmax_rows = 5\n";
    let variables = [
        ("DUCKFEEDER_SOURCE_PASSWORD", "hunter2"),
        ("DUCKFEEDER_CATALOG_URL", "postgres://g:hunter2@h/d"),
        ("DUCKFEEDER_LIMITS__COPY_WORKERS", "3"),
    ];
    let flags = Flags {
        storage: Some("file:///lake".into()),
        ..Flags::default()
    };
    let shown = merged(text, &variables, flags).unwrap().show();
    assert!(!shown.contains("hunter2"), "{shown}");
    let document: toml::Table =
        toml::from_str(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(
        document["source"]["url"].as_str(),
        Some("postgres://f:***@h/d?password=***")
    );
    assert_eq!(document["source"]["password"].as_str(), Some("***"));
    assert_eq!(
        document["catalog"]["url"].as_str(),
        Some("postgres://g:***@h/d")
    );
    assert_eq!(document["limits"]["copy_workers"].as_integer(), Some(3));
    assert_eq!(document["flush"]["max_bytes"].as_str(), Some("256MiB"));
    let remark = |start: &str| {
        let line = shown
            .lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_default();
        line.split_once("  # ")
            .map(|(_, remark)| remark.trim().to_owned())
    };
    assert_eq!(remark("name = ").as_deref(), Some("duckfeeder.toml:1"));
    assert_eq!(
        remark("password = ").as_deref(),
        Some("environment variable DUCKFEEDER_SOURCE_PASSWORD")
    );
    assert_eq!(remark("url = \"file:").as_deref(), Some("flag --storage"));
    assert_eq!(remark("interval = ").as_deref(), Some("default"));
    assert_eq!(remark("[[tables]]").as_deref(), Some("duckfeeder.toml:5"));
    assert_eq!(remark("max_rows = ").as_deref(), Some("duckfeeder.toml:10"));
}

#[test]
fn the_template_is_a_configuration_without_secrets() {
    let variables = [
        ("DUCKFEEDER_SOURCE_URL", "postgres://f:hunter2@h/d"),
        ("DUCKFEEDER_SOURCE_PASSWORD", "hunter2"),
    ];
    let flags = Flags {
        storage: Some("file:///lake".into()),
        name: Some("shop".into()),
        ..Flags::default()
    };
    let merged = merged("", &variables, flags).unwrap();
    let found = ["public.orders".to_owned(), "sales.events".to_owned()];
    let text = template::render(&merged, &found);
    assert!(!text.contains("hunter2"), "{text}");
    for spec in keys::ALL {
        assert!(text.contains(spec.name()), "{} is missing", spec.path);
    }
    assert!(text.contains("#   sales.events"));
    let settings = settings(&text, &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(settings.feeder.source.endpoint.database, "d");
    assert_eq!(settings.feeder.name.as_str(), "shop");
    assert_eq!(
        settings
            .store()
            .map(|store| store.url().unwrap_or_default().to_owned())
            .unwrap(),
        "file:///lake"
    );
    let sources: Vec<&str> = settings
        .feeder
        .tables
        .iter()
        .map(|rule| rule.source.as_str())
        .collect();
    assert_eq!(sources, ["public.*", "sales.*"]);
    assert_eq!(settings.feeder.flush.interval, Duration::from_secs(5));
}

#[test]
fn the_template_without_any_knowledge_says_what_is_required() {
    let text = template::render(&merged("", &[], Flags::default()).unwrap(), &[]);
    let error = settings(&text, &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("`source.url`: must not be empty"),
        "{error}"
    );
}

/// docs/configuration.md holds exactly this table; the message of the failure is what belongs there.
#[test]
fn the_page_lists_every_key() {
    const PAGE: &str = include_str!("../../../../docs/configuration.md");
    let (_, rest) = PAGE.split_once("<!-- keys: begin -->\n").unwrap();
    let (listed, _) = rest.split_once("<!-- keys: end -->").unwrap();
    let expected = reference();
    assert!(
        listed == expected,
        "docs/configuration.md should hold:\n{expected}"
    );
}

/// The list of keys as the page shows it.
fn reference() -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for name in std::iter::once("").chain(show::sections()) {
        let heading = match name {
            "" => "### Top of the file".to_owned(),
            "tables" => "### `[[tables]]`".to_owned(),
            name => format!("### `[{name}]`"),
        };
        writeln!(
            text,
            "{heading}\n\n| key | type | default | environment | meaning |\n|---|---|---|---|---|"
        )
        .unwrap();
        for spec in show::section(name) {
            let default = match spec.default {
                keys::Fallback::Value(value) => format!("`{value}`"),
                keys::Fallback::Derived(words) => words.to_owned(),
                keys::Fallback::Required => "required".to_owned(),
                keys::Fallback::Absent => "none".to_owned(),
            };
            let variable = match (spec.path, spec.environment()) {
                (_, Some(name)) if spec.secrecy == keys::Secrecy::Url => {
                    format!("`{name}`, `{name}_FILE`")
                }
                (_, Some(name)) => format!("`{name}`"),
                ("tables.source", None) => "`DUCKFEEDER_TABLES`".to_owned(),
                (_, None) => "none".to_owned(),
            };
            let cells = [
                &format!("`{}`", spec.name()),
                spec.kind,
                &default,
                &variable,
                spec.meaning,
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|").replace('<', "&lt;"));
            writeln!(text, "| {} |", cells.join(" | ")).unwrap();
        }
        writeln!(text).unwrap();
    }
    text
}
