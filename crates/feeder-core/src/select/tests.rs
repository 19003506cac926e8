use super::*;
use crate::testing::config;

/// `schema.table` of the tables that `rules` select.
fn selected(rules: &[TableRule], tables: &[(&str, &str)]) -> Result<Vec<String>, FeederError> {
    let names = selections(rules, tables)?
        .into_iter()
        .map(|selection| format!("{}.{}", selection.schema, selection.name));
    Ok(names.collect())
}

fn selections(rules: &[TableRule], tables: &[(&str, &str)]) -> Result<Vec<Selection>, FeederError> {
    let mut config = config(&[]);
    config.tables = rules.to_vec();
    let tables: Vec<(String, String)> = tables
        .iter()
        .map(|(schema, name)| ((*schema).to_owned(), (*name).to_owned()))
        .collect();
    let mut selected = select(&config, &tables)?;
    if selected.mistakes.is_empty() {
        return Ok(selected.tables);
    }
    Err(selected.mistakes.remove(0))
}

fn rules(sources: &[&str]) -> Vec<TableRule> {
    sources
        .iter()
        .map(|source| TableRule::new(*source))
        .collect()
}

fn disabled(source: &str) -> TableRule {
    TableRule {
        enabled: false,
        ..TableRule::new(source)
    }
}

fn into_table(source: &str, target: &str) -> TableRule {
    TableRule {
        target_table: Some(target.to_owned()),
        ..TableRule::new(source)
    }
}

/// The error that says why nothing was selected.
fn refused(rules: &[TableRule], tables: &[(&str, &str)]) -> FeederError {
    let error = selected(rules, tables).unwrap_err();
    assert_eq!(error.kind(), FeederErrorKind::Config);
    assert!(!error.is_transient());
    error
}

const SHOP: [(&str, &str); 5] = [
    ("public", "orders"),
    ("public", "order_lines"),
    ("public", "users"),
    ("audit", "log"),
    ("audit", "log2"),
];

#[test]
fn names_and_globs_select_and_stay_in_the_order_of_the_source() {
    let pick = |sources: &[&str]| selected(&rules(sources), &SHOP).unwrap();
    assert_eq!(pick(&["public.users"]), ["public.users"]);
    assert_eq!(pick(&["audit.log"]), ["audit.log"], "a name is no prefix");
    assert_eq!(pick(&["audit.log?"]), ["audit.log2"]);
    assert_eq!(pick(&["audit.log*"]), ["audit.log", "audit.log2"]);
    assert_eq!(
        pick(&["*.*o*", "public.users"]),
        [
            "public.orders",
            "public.order_lines",
            "public.users",
            "audit.log",
            "audit.log2"
        ]
    );
    assert_eq!(pick(&["*.orders"]), ["public.orders"]);
    assert_eq!(pick(&["public.*"]).len(), 3);
}

#[test]
fn a_table_is_selected_once_by_the_rule_that_wins() {
    let target = |rules: &[TableRule]| {
        let found = selections(rules, &SHOP).unwrap();
        let orders: Vec<_> = found.iter().filter(|s| s.name == "orders").collect();
        assert_eq!(orders.len(), 1);
        orders[0].target_table.clone()
    };
    let glob = |name| into_table("public.order?", name);
    let exact = |name| into_table("public.orders", name);
    assert_eq!(target(&[exact("exact"), glob("glob")]), "exact");
    assert_eq!(target(&[glob("glob"), exact("exact")]), "exact");
    assert_eq!(target(&[exact("first"), exact("second")]), "second");
    assert_eq!(target(&[glob("first"), glob("second")]), "second");
    assert_eq!(target(&rules(&["public.orders"])), "orders");
}

#[test]
fn a_disabled_rule_takes_out_what_it_wins() {
    let pick = |rules: &[TableRule]| selected(rules, &SHOP).unwrap();
    let all = || TableRule::new("audit.*");
    assert_eq!(pick(&[all(), disabled("audit.log")]), ["audit.log2"]);
    assert_eq!(pick(&[disabled("audit.log"), all()]), ["audit.log2"]);
    assert_eq!(
        pick(&[all(), disabled("*.log*"), TableRule::new("audit.log")]),
        ["audit.log"],
        "an exact name beats a glob"
    );
    assert_eq!(
        pick(&[all(), disabled("public.gone")]).len(),
        2,
        "a disabled rule need not match"
    );
    let error = refused(&[all(), disabled("audit.*")], &SHOP);
    assert!(error.to_string().contains("leave no table"), "{error}");
}

#[test]
fn names_with_dots_capitals_and_signs_are_names() {
    let odd = [
        ("public", "a.b"),
        ("my.schema", "t"),
        ("public", "Orders"),
        ("public", "größe"),
        ("public", "a[b]{c,d}"),
        ("public", "x\\y"),
        ("public", "with space"),
        ("public", "star*"),
        ("public", "starry"),
    ];
    let pick = |source: &str| selected(&rules(&[source]), &odd).unwrap();
    assert_eq!(pick("public.\"a.b\""), ["public.a.b"]);
    assert_eq!(pick("\"my.schema\".t"), ["my.schema.t"]);
    assert_eq!(pick("\"my.schema\".*"), ["my.schema.t"]);
    assert_eq!(pick("public.Orders"), ["public.Orders"]);
    assert_eq!(pick("\"public\".\"Orders\""), ["public.Orders"]);
    assert_eq!(pick("public.größe"), ["public.größe"]);
    assert_eq!(pick("public.gr?ße"), ["public.größe"], "? is one character");
    assert_eq!(pick("public.a[b]{c,d}"), ["public.a[b]{c,d}"]);
    assert_eq!(pick("public.a[b]{c,*"), ["public.a[b]{c,d}"]);
    assert_eq!(pick("public.*\\y"), ["public.x\\y"]);
    assert_eq!(pick("public.with space"), ["public.with space"]);
    assert_eq!(
        pick("public.\"star*\""),
        ["public.star*"],
        "quoted: no glob"
    );
    assert_eq!(pick("public.star*").len(), 2);
    for wrong in [
        "public.orders",
        "public.a.b",
        "public.a?b?",
        "Public.Orders",
    ] {
        refused(&rules(&[wrong]), &odd);
    }
}

#[test]
fn globs_match_as_shells_do() {
    let matches = |glob: &str, text: &str| {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        glob_matches(&chars(glob), &chars(text))
    };
    for (glob, text) in [
        ("*", ""),
        ("*", "abc"),
        ("a*", "a"),
        ("a*c", "abbc"),
        ("a*c", "acbc"),
        ("*b*", "abc"),
        ("**", "x"),
        ("a**b", "ab"),
        ("?", "ß"),
        ("a?c*", "abc"),
        ("*ab", "aab"),
        ("*a?b", "aaxb"),
        ("a*b*c", "a1b2b3c"),
    ] {
        assert!(matches(glob, text), "{glob} {text}");
    }
    for (glob, text) in [
        ("?", ""),
        ("?", "ab"),
        ("a*", "ba"),
        ("a*c", "ab"),
        ("*b", "abc"),
        ("a?", "a"),
        ("*a?", "a"),
        ("a*b*c", "acb"),
        ("A*", "abc"),
    ] {
        assert!(!matches(glob, text), "{glob} {text}");
    }
    // Nor is it slow.
    assert!(!matches(&format!("{}b", "a*".repeat(30)), &"a".repeat(60)));
}

#[test]
fn malformed_rules_are_named() {
    for source in [
        "", "orders", "public.", ".orders", "a.b.c", "\"a.b", "\"\".x", "x.\"\"", "\"a\"b.c",
        "a.b.",
    ] {
        let error = refused(&rules(&[source]), &SHOP);
        assert!(
            error.to_string().contains(&format!("{source:?}")),
            "{source}: {error}"
        );
        assert!(error.remedy().is_some());
    }
}

#[test]
fn a_rule_that_matches_nothing_is_an_error() {
    let error = refused(&rules(&["public.*", "public.missing"]), &SHOP);
    assert_eq!(error.to_string(), "the source has no table public.missing");
    let error = refused(&rules(&["public.*", "shop.*"]), &SHOP);
    assert_eq!(error.to_string(), "no table of the source matches shop.*");
    assert!(error.remedy().is_some());
    for nothing in [vec![], vec![disabled("public.*")]] {
        let error = refused(&nothing, &SHOP);
        assert_eq!(error.to_string(), "no tables are configured");
    }
}

#[test]
fn the_lakes_own_tables_are_never_fed() {
    let tables = [
        ("public", "ducklake_snapshot"),
        ("public", "orders"),
        ("duckfeeder", "feeders"),
        ("lake", "ducklake_of_mine"),
    ];
    assert_eq!(
        selected(&rules(&["*.*"]), &tables).unwrap(),
        ["public.orders", "lake.ducklake_of_mine"]
    );
    for own in ["public.ducklake_snapshot", "duckfeeder.feeders"] {
        let error = refused(&rules(&[own]), &tables);
        assert!(error.to_string().contains("belongs to the lake"), "{error}");
    }
    refused(&rules(&["public.orders", "duckfeeder.*"]), &tables);
}

#[test]
fn settings_come_from_the_rule_and_then_from_the_source() {
    let mut rule = TableRule::new("public.orders");
    rule.target_schema = Some("lake".to_owned());
    rule.exclude_columns = vec!["secret".to_owned()];
    rule.row_filter = Some("id > 0".to_owned());
    rule.backfill = Some(BackfillMode::Never);
    rule.numeric = [("price".to_owned(), NumericMapping::Float64)].into();
    let found = selections(&[TableRule::new("public.users"), rule], &SHOP).unwrap();
    let orders = &found[0];
    assert_eq!(
        (&*orders.target_schema, &*orders.target_table),
        ("lake", "orders")
    );
    assert_eq!(orders.exclude_columns, ["secret"]);
    assert_eq!(orders.row_filter.as_deref(), Some("id > 0"));
    assert_eq!(orders.backfill, BackfillMode::Never);
    assert_eq!(orders.numeric["price"], NumericMapping::Float64);
    let users = &found[1];
    assert_eq!(
        (&*users.target_schema, &*users.target_table),
        ("raw", "users")
    );
    assert_eq!(users.backfill, BackfillMode::Initial);
}

#[test]
fn no_table_takes_the_name_of_the_dead_letters() {
    let error = refused(&rules(&["public.*"]), &[("public", "_DF_dead_letters")]);
    assert!(error.to_string().contains("dead letters"), "{error}");
    assert!(error.remedy().unwrap().contains("target_table"));
}

#[test]
fn two_tables_never_share_a_name_in_the_lake() {
    let collide = |rules: &[TableRule], tables: &[(&str, &str)]| {
        let error = refused(rules, tables);
        assert!(error.to_string().contains("would both use"), "{error}");
        assert!(error.remedy().unwrap().contains("target_table"));
    };
    let all = rules(&["*.*"]);
    collide(&all, &[("a", "orders"), ("b", "orders")]);
    collide(&all, &[("a", "orders"), ("a", "Orders")]);
    collide(&all, &[("a", "größe"), ("a", "GRÖSSE"), ("a", "GRÖßE")]);
    collide(&all, &[("a", "orders"), ("a", "orders_current")]);
    collide(&all, &[("a", "Orders_Current"), ("a", "orders")]);
    let renamed = [TableRule::new("a.x"), into_table("a.y", "X_current")];
    collide(&renamed, &[("a", "x"), ("a", "y")]);
    let mut apart = TableRule::new("b.*");
    apart.target_schema = Some("b".to_owned());
    assert_eq!(
        selected(
            &[TableRule::new("a.*"), apart],
            &[("a", "orders"), ("b", "orders")]
        )
        .unwrap()
        .len(),
        2
    );
}

#[test]
fn columns_that_the_lake_cannot_tell_apart_are_refused() {
    let check = |columns: &[&str]| check_columns("public.t", columns.iter().copied());
    check(&["id", "name", "_df", "größe"]).unwrap();
    for columns in [
        ["id", "ID"],
        ["id", "_df_op"],
        ["id", "_DF_Lsn"],
        ["id", "_df_before"],
        ["Ä", "ä"],
    ] {
        let error = check(&columns).unwrap_err();
        assert_eq!(error.kind(), FeederErrorKind::Config);
        assert!(error.to_string().contains("public.t"));
        assert!(error.to_string().contains(&format!("{:?}", columns[1])));
        assert!(error.remedy().unwrap().contains("exclude_columns"));
    }
}

#[test]
fn one_table_is_named_without_globs() {
    let name = |text: &str| exact_name(text);
    assert_eq!(
        name("public.\"a.b\"").unwrap(),
        ("public".to_owned(), "a.b".to_owned())
    );
    assert!(name("public.*").is_err());
    assert!(name("orders").is_err());
}
