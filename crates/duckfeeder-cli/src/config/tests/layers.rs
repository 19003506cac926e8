//! Which layer wins, and where the file is.

use super::*;

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
