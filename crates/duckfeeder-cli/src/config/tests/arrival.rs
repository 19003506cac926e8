//! Every key arrives from every layer.

use super::*;

/// One key: the value as the file writes it, as the environment writes it, and how it shows in the
/// settings. The shown text must not be what the minimal settings show.
struct Wire {
    path: &'static str,
    file: &'static str,
    variable: &'static str,
    arrived: fn(&Settings) -> String,
    expected: &'static str,
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
