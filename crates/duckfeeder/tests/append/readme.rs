//! The blocks of the README about append streams, run.

use std::error::Error;

use crate::rig::with_rig;

const README: &str = include_str!("../../../../README.md");
const SOURCE: &str = include_str!("readme.rs");

/// The blocks of one language in the section.
fn blocks(language: &str) -> Vec<&'static str> {
    let (_, section) = README.split_once("### Append rows of your own").unwrap();
    let (section, _) = section.split_once("Two layers are useful alone").unwrap();
    let fence = format!("```{language}\n");
    let blocks = section.split(fence.as_str()).skip(1);
    blocks
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect()
}

#[rustfmt::skip]
async fn example(catalog: String, storage: String) -> Result<i64, Box<dyn Error>> {
    // BEGIN
    use duckfeeder::append::{AppendStream, AppendTable, ColumnType};

    let stream = AppendStream::builder()
        .catalog(catalog) // "postgres://feeder@localhost/lake"
        .storage(storage) // "file:///srv/lake"
        .table(AppendTable::new("events").column("at", ColumnType::TimestampTz))
        .spawn()?;
    let event = serde_json::json!({ "at": "2024-02-29T12:34:56Z", "kind": "login", "user": 7 });
    stream.append("events", &event).await?; // buffered
    let snapshot = stream.append_durable("events", &event).await?; // in the lake
    stream.shutdown().await?; // everything that was taken is in the lake
    // END
    Ok(snapshot)
}

#[test]
fn the_blocks_of_the_readme_run_as_they_are_printed() {
    let (_, run) = SOURCE.split_once("// BEGIN\n").unwrap();
    let (run, _) = run.split_once("    // END").unwrap();
    let lines = run
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(line));
    let run: Vec<&str> = lines.collect();
    assert_eq!(blocks("rust"), [run.join("\n") + "\n"]);
    with_rig(async |rig| {
        let snapshot = example(rig.catalog(), rig.storage()).await.unwrap();
        assert!(snapshot > 0);
        let [sql] = blocks("sql")[..] else {
            panic!("one block of SQL");
        };
        let sql = sql.trim().trim_end_matches(';');
        assert_eq!(rig.rows(sql), [["2024-02-29 12:00:00+00", "2"]]);
    });
}
