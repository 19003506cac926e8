//! What is written from the list of keys: `config show`, the template of `init`, the page of the documentation.

use super::*;

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
    const PAGE: &str = include_str!("../../../../../docs/configuration.md");
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
