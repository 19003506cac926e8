//! The example of the README, run.

use super::support::TestDb;

#[path = "../../examples/register_file.rs"]
#[allow(dead_code, reason = "its main is not called here")]
mod register_file;

#[tokio::test]
async fn the_example_registers_a_file_that_duckdb_reads() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let file = register_file::sample(db.folder.path()).unwrap();
    let register = async || {
        register_file::register(db.options.clone(), &db.data_path(), "raw", "numbers", &file).await
    };
    assert_eq!(register().await.unwrap(), 1);
    assert_eq!(register().await.unwrap(), 2);
    let shown = db.duck(
        "SELECT id, name, rowid FROM raw.numbers ORDER BY rowid;
         SELECT count(*) FROM raw.numbers WHERE name = 'two'; SELECT max(id) FROM raw.numbers;
         SELECT count(*) FROM raw.numbers AT (VERSION => 1);",
    );
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        [
            "1|one|0", "2|two|1", "3|NULL|2", "1|one|3", "2|two|4", "3|NULL|5", "2", "3", "3"
        ]
    );
    db.duck("ALTER TABLE raw.numbers RENAME COLUMN name TO called;");
    let error = register().await.unwrap_err().to_string();
    assert!(
        error.contains("table raw.numbers is not what the change expects"),
        "{error}"
    );
}
