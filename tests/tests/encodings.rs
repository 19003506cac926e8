//! Databases that are not UTF-8: what the server converts is fed, what it does not convert is refused.

use anyhow::{Result, ensure};
use duckfeeder_tests::{feeder::Config, postgres::SUPERUSER};

use crate::rig::{CATALOG, Rig, SOURCE};

/// A permanent error at the source.
const AT_SOURCE: i32 = 3;
/// A permanent error at the catalog or the store.
const AT_LAKE: i32 = 4;

impl Rig {
    /// With one of its two databases made anew.
    fn with_encoding(database: &str, encoding: &str) -> Result<Self> {
        let rig = Self::new()?;
        rig.pg
            .sql("postgres", &format!("drop database {database}"))?;
        rig.pg.sql(
            "postgres",
            &format!(
                "create database {database} encoding '{encoding}' locale 'C' template template0"
            ),
        )?;
        Ok(rig)
    }

    /// `check` and `run` say all of these words, and nothing is made.
    fn expect_encoding_refused(&self, code: i32, words: &[&str]) -> Result<()> {
        for (command, code) in [("check", 1), ("run", code)] {
            let ended = self.setup.run(&[command])?;
            ended.expect_code(code)?.expect_message(words)?;
            self.expect_nothing_created()?;
        }
        Ok(())
    }
}

const TABLE: &str = "Größe";

/// Every character of Latin-1 that can be printed, in names and values, and columns of all sorts of decoding.
const LATIN: &str = r#"create table "Größe" (id int primary key, "naïve ©" text, kind char(4), tags jsonb, "señor" varchar(9));
    insert into "Größe" select g, chr(g) || ' é ' || repeat('ÿ', g), 'ß', jsonb_build_object('clé', 'ü' || g), 'ñ'
    from generate_series(161, 255) g"#;

#[test]
fn a_latin_1_database_is_fed_as_utf_8() -> Result<()> {
    let rig = Rig::with_encoding(SOURCE, "LATIN1")?;
    rig.source(LATIN)?;
    rig.setup.run(&["check"])?.expect_code(0)?;
    let mut feeder = rig.stream(&[TABLE])?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;
    rig.source(
        r#"insert into "Größe" values (1, 'streamed: Ç Þ', 'æ', '{"à": "é"}', 'ø');
           update "Größe" set "naïve ©" = 'changed: ¿ÀÿÿÀ?', "señor" = null where id = 200;
           update "Größe" set id = 2 where id = 201; delete from "Größe" where id = 202"#,
    )?;
    rig.wait_until_equal(&mut feeder, &[TABLE])?;
    feeder.terminate()?;
    let value = rig
        .oracle()?
        .db()
        .query("select \"naïve ©\", \"señor\" from lake.raw.\"Größe_current\" where id = 1")?
        .rows;
    ensure!(
        value == [[Some("streamed: Ç Þ".to_owned()), Some("ø".to_owned())]],
        "{value:?}"
    );
    Ok(())
}

#[test]
fn a_source_that_does_not_convert_is_refused() -> Result<()> {
    let rig = Rig::with_encoding(SOURCE, "SQL_ASCII")?;
    rig.source("create table t (id int primary key, v text)")?;
    rig.expect_encoding_refused(AT_SOURCE, &[SOURCE, "SQL_ASCII", "UTF8"])
}

/// DuckDB, which does not ask the server to convert, could not read it.
#[test]
fn a_catalog_in_another_encoding_is_refused() -> Result<()> {
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let rig = Rig::with_encoding(CATALOG, encoding)?;
        rig.source("create table t (id int primary key, v text)")?;
        rig.expect_encoding_refused(AT_LAKE, &[CATALOG, encoding, "catalog.url", "UTF8"])?;
    }
    // So that a source in Latin-1 needs a catalog of its own.
    let rig = Rig::with_encoding(SOURCE, "LATIN1")?;
    rig.source("create table t (id int primary key, v text)")?;
    rig.setup
        .configure(&Config::new(&rig.pg.url(SUPERUSER, SOURCE), None))?;
    rig.expect_encoding_refused(AT_LAKE, &[SOURCE, "LATIN1", "catalog.url", "UTF8"])
}
