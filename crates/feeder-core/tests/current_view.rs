//! The `_current` view, run by DuckDB on changelogs and compared with a plain replay of them.
//!
//! Needs `DUCKFEEDER_TEST_DUCKDB`, the path of DuckDB's command line program. Random histories take
//! their seed from `DUCKFEEDER_TEST_SEED` and print it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use feeder_core::current_view::CurrentView;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value as Json;

/// Awkward on purpose; the last one is what the view calls another column inside.
const COLUMNS: [&str; 4] = ["id", "co\"de", "it's", "c1"];
const ID: usize = 0;
const CODE: usize = 1;
const NAME: usize = 2;
const BODY: usize = 3;

type Text = Option<&'static str>;

#[test]
fn the_first_reset_opens_the_view() {
    let rows = vec![
        row("insert", 10, 0, [Some("1"), Some("a"), None, None]),
        row("truncate", 11, 0, [None; 4]),
        row("insert", 12, 0, [Some("2"), Some("b"), None, None]),
    ];
    check("before the first reset", &[ID], &rows, &[]);
    // A copy whose consistent point lies before rows that were streamed beside it.
    let mut copied = rows;
    copied.extend([
        row("reset", 9, -2, [None; 4]),
        row("snapshot", 9, -1, [Some("7"), Some("g"), None, None]),
    ]);
    check(
        "the truncate is later than the copy",
        &[ID],
        &copied,
        &[([Some("2"), Some("b"), None, None], &[])],
    );
}

#[test]
fn a_copy_ends_where_its_point_is() {
    // Streamed rows below the point are in the copy; those at it and beyond are not (rule 1).
    let rows = vec![
        row("insert", 10, 0, [Some("1"), Some("a"), Some("old"), None]),
        row("insert", 19, 5, [Some("2"), Some("b"), Some("gone"), None]),
        row("reset", 20, -9, [None; 4]),
        row(
            "snapshot",
            20,
            -8,
            [Some("1"), Some("a"), Some("copied"), None],
        ),
        row("update", 20, 0, [Some("1"), Some("a"), Some("new"), None]),
        row("insert", 21, 0, [Some("3"), Some("c"), None, None]),
    ];
    check(
        "rows at the copy's point",
        &[ID],
        &rows,
        &[
            ([Some("1"), Some("a"), Some("new"), None], &[]),
            ([Some("3"), Some("c"), None, None], &[]),
        ],
    );
    let mut resynced = rows;
    resynced.extend([
        row("reset", 30, -1, [None; 4]),
        row("insert", 30, 1, [Some("4"), Some("d"), None, None]),
    ]);
    check(
        "a resync forgets everything before it",
        &[ID],
        &resynced,
        &[([Some("4"), Some("d"), None, None], &[])],
    );
}

#[test]
fn truncate_empties_what_was_before_it() {
    let rows = vec![
        row("reset", 1, -1, [None; 4]),
        row("insert", 2, 0, [Some("1"), Some("a"), None, None]),
        row("truncate", 3, 1, [None; 4]),
        row("insert", 3, 0, [Some("2"), Some("b"), None, None]),
        row("insert", 3, 2, [Some("3"), Some("c"), None, None]),
    ];
    check(
        "truncate in mid-transaction",
        &[ID],
        &rows,
        &[([Some("3"), Some("c"), None, None], &[])],
    );
}

#[test]
fn a_real_null_is_a_value() {
    let rows = vec![
        row("reset", 1, -2, [None; 4]),
        row(
            "snapshot",
            1,
            -1,
            [Some("1"), Some("a"), Some("x"), Some("y")],
        ),
        row("update", 2, 0, [Some("1"), Some("a"), None, Some("y")]),
        unsent("update", 3, 0, [Some("1"), Some("a"), None, None], &[BODY]),
    ];
    check(
        "NULL written, then left alone",
        &[ID],
        &rows,
        &[([Some("1"), Some("a"), None, Some("y")], &[])],
    );
}

#[test]
fn a_reborn_row_does_not_inherit() {
    let rows = vec![
        row("reset", 1, -3, [None; 4]),
        row(
            "snapshot",
            1,
            -2,
            [Some("1"), Some("a"), None, Some("mine")],
        ),
        row(
            "snapshot",
            1,
            -1,
            [Some("2"), Some("b"), None, Some("other")],
        ),
        row("delete", 2, 0, [Some("1"), None, None, None]),
        // 2 becomes 1, and the server does not send the unchanged value.
        row("delete", 3, 0, [Some("2"), None, None, None]),
        unsent(
            "update",
            3,
            1,
            [Some("1"), Some("b"), Some("n"), None],
            &[BODY],
        ),
    ];
    check(
        "delete, key change, unchanged value",
        &[ID],
        &rows,
        &[([Some("1"), Some("b"), Some("n"), None], &[BODY])],
    );
    let mut again = rows;
    again.extend([
        row("delete", 4, 0, [Some("1"), None, None, None]),
        row("insert", 5, 0, [Some("1"), Some("z"), None, Some("whole")]),
        unsent("update", 6, 0, [Some("1"), Some("y"), None, None], &[BODY]),
    ]);
    check(
        "delete, insert, unchanged value",
        &[ID],
        &again,
        &[([Some("1"), Some("y"), None, Some("whole")], &[])],
    );
}

#[test]
fn full_identity_with_keys_that_change_places() {
    let rows = vec![
        row("reset", 1, -3, [None; 4]),
        row("snapshot", 1, -2, [Some("1"), Some("a"), Some("one"), None]),
        row("snapshot", 1, -1, [Some("2"), Some("b"), Some("two"), None]),
        row("delete", 2, 0, [Some("1"), Some("a"), Some("one"), None]),
        row("update", 2, 1, [Some("3"), Some("a"), Some("one"), None]),
        row("delete", 2, 2, [Some("2"), Some("b"), Some("two"), None]),
        row("update", 2, 3, [Some("1"), Some("b"), Some("two"), None]),
        row("delete", 2, 4, [Some("3"), Some("a"), Some("one"), None]),
        row("update", 2, 5, [Some("2"), Some("a"), Some("one"), None]),
    ];
    check(
        "1 -> 3, 2 -> 1, 3 -> 2",
        &[ID],
        &rows,
        &[
            ([Some("1"), Some("b"), Some("two"), None], &[]),
            ([Some("2"), Some("a"), Some("one"), None], &[]),
        ],
    );
}

#[test]
fn identity_by_index_goes_by_the_index() {
    let rows = vec![
        row("reset", 1, -3, [None; 4]),
        row(
            "snapshot",
            1,
            -2,
            [Some("1"), Some("a"), Some("x"), Some("long")],
        ),
        row("snapshot", 1, -1, [Some("2"), Some("b"), Some("y"), None]),
        // The primary key changes: no old row is sent.
        unsent(
            "update",
            2,
            0,
            [Some("9"), Some("a"), Some("x"), None],
            &[BODY],
        ),
        // A delete carries the index columns alone.
        row("delete", 3, 0, [None, Some("b"), None, None]),
    ];
    check(
        "USING INDEX",
        &[CODE],
        &rows,
        &[([Some("9"), Some("a"), Some("x"), Some("long")], &[])],
    );
}

#[test]
fn keys_of_several_columns_and_of_all() {
    let rows = vec![
        row("reset", 1, -3, [None; 4]),
        row("snapshot", 1, -2, [Some("1"), Some("a"), None, Some("p")]),
        row("snapshot", 1, -1, [Some("1"), Some("b"), None, Some("q")]),
        unsent(
            "update",
            2,
            0,
            [Some("1"), Some("b"), Some("n"), None],
            &[BODY],
        ),
        row("delete", 3, 0, [Some("1"), Some("a"), None, None]),
    ];
    check(
        "two key columns",
        &[ID, CODE],
        &rows,
        &[([Some("1"), Some("b"), Some("n"), Some("q")], &[])],
    );
    let all = [Some("1"), Some("a"), Some("n"), Some("q")];
    let rows = vec![
        row("reset", 1, -3, [None; 4]),
        row("snapshot", 1, -2, all),
        row("insert", 2, 0, [Some("1"), Some("a"), Some("n"), Some("r")]),
        row("delete", 3, 0, [Some("1"), Some("a"), Some("n"), Some("r")]),
    ];
    check(
        "nothing but key columns",
        &[ID, CODE, NAME, BODY],
        &rows,
        &[(all, &[])],
    );
}

/// Random histories of a source table: the view equals a plain replay, and whatever it does not call
/// unsent equals the source.
#[test]
fn random_histories_end_as_the_source_does() {
    const HISTORIES: u64 = 150;
    let Some(duckdb) = duckdb() else { return };
    let seed: u64 = match std::env::var("DUCKFEEDER_TEST_SEED") {
        Ok(seed) => seed.parse().expect("DUCKFEEDER_TEST_SEED is a number"),
        Err(_) => rand::random_range(0..1_000_000_000),
    };
    eprintln!("DUCKFEEDER_TEST_SEED={seed}");
    let histories: Vec<History> = (0..HISTORIES)
        .map(|number| History::random(&mut StdRng::seed_from_u64(seed.wrapping_add(number))))
        .collect();
    let views = run(
        &duckdb,
        histories
            .iter()
            .map(|history| (history.key.as_slice(), history.changes.as_slice())),
    );
    let (mut rows, mut unsent_values) = (0, 0);
    for (number, (history, view)) in histories.iter().zip(&views).enumerate() {
        let name = format!("history {number} of seed {seed}, {:?}", history.identity);
        assert_eq!(*view, replay(&history.changes, &history.key), "{name}");
        if !history.changes.iter().any(|change| change.op == "reset") {
            assert!(view.is_empty(), "{name}");
            continue;
        }
        assert_eq!(view.len(), history.source.len(), "{name}");
        for source in &history.source {
            let key: Vec<_> = history
                .key
                .iter()
                .map(|&column| source[column].clone())
                .collect();
            let shown = view
                .get(&key)
                .unwrap_or_else(|| panic!("{name}: no row {key:?}"));
            for (column, value) in source.iter().enumerate() {
                match &shown[column] {
                    Shown::Known(known) => assert_eq!(known, value, "{name}: {key:?}"),
                    Shown::Unsent => {
                        assert_eq!(column, BODY, "{name}: {key:?}");
                        unsent_values += 1;
                    }
                }
            }
            rows += 1;
        }
    }
    assert!(rows > 100, "the histories leave rows behind");
    assert!(unsent_values > 0, "some value stays unknown");
}

/// A row of a changelog.
#[derive(Clone, Debug)]
struct Change {
    op: &'static str,
    lsn: i64,
    seq: i64,
    unsent: Vec<usize>,
    values: [Option<String>; 4],
}

fn row(op: &'static str, lsn: i64, seq: i64, values: [Text; 4]) -> Change {
    unsent(op, lsn, seq, values, &[])
}

fn unsent(op: &'static str, lsn: i64, seq: i64, values: [Text; 4], unsent: &[usize]) -> Change {
    Change {
        op,
        lsn,
        seq,
        unsent: unsent.to_vec(),
        values: values.map(|value| value.map(str::to_owned)),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    Known(Option<String>),
    Unsent,
}

type Key = Vec<Option<String>>;
type State = BTreeMap<Key, Vec<Shown>>;

/// The definition in its plainest form: one change after the other.
fn replay(changes: &[Change], key: &[usize]) -> State {
    let mut ordered: Vec<&Change> = changes.iter().collect();
    ordered.sort_by_key(|change| (change.lsn, change.seq));
    let mut state = State::new();
    if !ordered.iter().any(|change| change.op == "reset") {
        return state;
    }
    for change in ordered {
        let at: Key = key
            .iter()
            .map(|&column| change.values[column].clone())
            .collect();
        let new = change
            .values
            .iter()
            .cloned()
            .map(Shown::Known)
            .collect::<Vec<_>>();
        match change.op {
            "reset" | "truncate" => state.clear(),
            "insert" | "snapshot" => {
                state.insert(at, new);
            }
            "update" => {
                let old = state.remove(&at);
                let mut merged = new;
                for &column in &change.unsent {
                    merged[column] = old
                        .as_ref()
                        .map_or(Shown::Unsent, |old| old[column].clone());
                }
                state.insert(at, merged);
            }
            "delete" => {
                state.remove(&at);
            }
            op => panic!("no such operation: {op}"),
        }
    }
    state
}

/// Runs the view on one changelog and compares it with `expected`, and with the replay.
fn check(name: &str, key: &[usize], changes: &[Change], expected: &[([Text; 4], &[usize])]) {
    let Some(duckdb) = duckdb() else { return };
    let expected: State = expected
        .iter()
        .map(|(values, unsent)| {
            let text = |column: usize| values[column].map(str::to_owned);
            let shown = (0..4).map(|column| {
                if unsent.contains(&column) {
                    Shown::Unsent
                } else {
                    Shown::Known(text(column))
                }
            });
            (
                key.iter().map(|&column| text(column)).collect(),
                shown.collect(),
            )
        })
        .collect();
    assert_eq!(replay(changes, key), expected, "{name}: the replay");
    let views = run(&duckdb, std::iter::once((key, changes)));
    assert_eq!(views, [expected], "{name}");
}

fn duckdb() -> Option<PathBuf> {
    let path = std::env::var_os("DUCKFEEDER_TEST_DUCKDB").map(PathBuf::from);
    if path.is_none() {
        assert!(
            std::env::var_os("REQUIRE_SERVICES").is_none_or(|value| value != "1"),
            "DUCKFEEDER_TEST_DUCKDB is not set"
        );
        eprintln!("SKIPPED: DUCKFEEDER_TEST_DUCKDB is not set");
    }
    path
}

/// One process for all changelogs; every view comes back as one line of JSON.
fn run<'a>(
    duckdb: &PathBuf,
    logs: impl Iterator<Item = (&'a [usize], &'a [Change])>,
) -> Vec<State> {
    let mut script = String::from(".bail on\n.mode list\n.headers off\n");
    let mut keys = Vec::new();
    for (number, (key, changes)) in logs.enumerate() {
        let table = format!("T \"{number}");
        script.push_str(&set_up(&table, key, changes));
        keys.push(key);
    }
    let mut process = Command::new(duckdb)
        .args(["-no-init", "-batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("DuckDB starts");
    let mut stdin = process.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "DuckDB refuses the script");
    writer.join().unwrap().unwrap();
    let states: Vec<State> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .zip(&keys)
        .map(|(line, key)| parse(line, key))
        .collect();
    assert_eq!(states.len(), keys.len());
    states
}

fn set_up(table: &str, key: &[usize], changes: &[Change]) -> String {
    let names = COLUMNS.map(str::to_owned);
    let key: Vec<String> = key.iter().map(|&column| names[column].clone()).collect();
    let view = CurrentView::new("raw s", table, &key, &names)
        .expect("a view")
        .sql()
        .replace("{DUCKLAKE_CATALOG}", "memory");
    let table = format!("\"raw s\".\"{}\"", table.replace('"', "\"\""));
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|name| format!("\"{}\" varchar", name.replace('"', "\"\"")))
        .collect();
    let mut script = format!(
        "create schema if not exists \"raw s\";
         create table {table} (_df_op varchar, _df_timestamp timestamptz, _df_lsn bigint, _df_seq bigint,
             _df_unchanged varchar[], _df_unrepresentable varchar[], {});\n",
        columns.join(", ")
    );
    let rows: Vec<String> = changes.iter().map(values).collect();
    writeln!(script, "insert into {table} values {};", rows.join(",\n")).unwrap();
    writeln!(script, "create or replace view shown as {view};").unwrap();
    writeln!(
        script,
        "select coalesce(to_json(list(shown)), '[]') from shown;"
    )
    .unwrap();
    script
}

fn values(change: &Change) -> String {
    let text = |value: &str| format!("'{}'", value.replace('\'', "''"));
    let unsent: Vec<String> = change
        .unsent
        .iter()
        .map(|&column| text(COLUMNS[column]))
        .collect();
    let unsent = if unsent.is_empty() {
        "null".to_owned()
    } else {
        format!("[{}]", unsent.join(", "))
    };
    let values: Vec<String> = change
        .values
        .iter()
        .map(|value| value.as_deref().map_or("null".to_owned(), text))
        .collect();
    format!(
        "({}, now(), {}, {}, {unsent}, null, {})",
        text(change.op),
        change.lsn,
        change.seq,
        values.join(", ")
    )
}

fn parse(line: &str, key: &[usize]) -> State {
    let rows: Vec<BTreeMap<String, Json>> = serde_json::from_str(line).expect(line);
    let count = rows.len();
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let state: State = rows
        .iter()
        .map(|row| {
            assert_eq!(row.len(), COLUMNS.len() + 1, "{line}");
            let unsent: Vec<&str> = match &row["_df_unchanged"] {
                Json::Null => Vec::new(),
                Json::Array(names) => {
                    assert!(!names.is_empty(), "none is NULL, not an empty list: {line}");
                    names.iter().map(|name| name.as_str().unwrap()).collect()
                }
                other => panic!("_df_unchanged is {other}"),
            };
            let shown = COLUMNS.iter().map(|&name| {
                let value = &row[name];
                if unsent.contains(&name) {
                    assert!(value.is_null(), "{line}");
                    Shown::Unsent
                } else {
                    Shown::Known(text(value))
                }
            });
            (
                key.iter()
                    .map(|&column| text(&row[COLUMNS[column]]))
                    .collect(),
                shown.collect(),
            )
        })
        .collect();
    assert_eq!(state.len(), count, "a key appears twice: {line}");
    state
}

#[derive(Clone, Copy, Debug)]
enum Identity {
    Default,
    Full,
    Index,
}

/// What a source table went through, and what the feeder wrote of it.
struct History {
    identity: Identity,
    key: Vec<usize>,
    changes: Vec<Change>,
    /// The table as it is now.
    source: Vec<[Option<String>; 4]>,
}

impl History {
    fn random(random: &mut StdRng) -> Self {
        let identity = *[Identity::Default, Identity::Full, Identity::Index]
            .choose(random)
            .unwrap();
        let key = match identity {
            Identity::Default | Identity::Full => vec![ID],
            Identity::Index => vec![CODE],
        };
        let mut history = Self {
            identity,
            key,
            changes: Vec::new(),
            source: Vec::new(),
        };
        let mut lsn = 100;
        for _ in 0..random.random_range(1..25) {
            // A copy and the first transaction that is not in it share a position (rule 1).
            if random.random_bool(0.08) {
                history.copy(lsn);
            }
            let mut seq = 0;
            for _ in 0..random.random_range(1..6) {
                history.change(random, lsn, &mut seq);
            }
            lsn += random.random_range(1..3);
        }
        if random.random_bool(0.9) && !history.changes.iter().any(|change| change.op == "reset") {
            history.copy(lsn);
        }
        // Files arrive in any order.
        history.changes.shuffle(random);
        history
    }

    fn copy(&mut self, lsn: i64) {
        let rows = i64::try_from(self.source.len()).unwrap();
        self.write("reset", lsn, -1 - rows, [const { None }; 4], Vec::new());
        for (seq, row) in (-rows..).zip(self.source.clone()) {
            self.write("snapshot", lsn, seq, row, Vec::new());
        }
    }

    fn change(&mut self, random: &mut StdRng, lsn: i64, seq: &mut i64) {
        let mut next = || {
            *seq += random_gap(lsn, *seq);
            *seq
        };
        let choice = random.random_range(0..100);
        if choice < 3 {
            self.source.clear();
            self.write("truncate", lsn, next(), [const { None }; 4], Vec::new());
        } else if choice < 35 || self.source.is_empty() {
            let row = [
                Some(random.random_range(0..5).to_string()),
                Some(random.random_range(0..5).to_string()),
                text(random),
                text(random),
            ];
            if self.is_free(&row, usize::MAX) {
                self.source.push(row.clone());
                self.write("insert", lsn, next(), row, Vec::new());
            }
        } else if choice < 55 {
            let row = self
                .source
                .swap_remove(random.random_range(0..self.source.len()));
            let old = self.old(&row);
            self.write("delete", lsn, next(), old, Vec::new());
        } else {
            let number = random.random_range(0..self.source.len());
            let old = self.source[number].clone();
            let mut new = old.clone();
            if random.random_bool(0.3) {
                new[ID] = Some(random.random_range(0..5).to_string());
            }
            if random.random_bool(0.3) {
                new[CODE] = Some(random.random_range(0..5).to_string());
            }
            new[NAME] = text(random);
            let keeps_body = random.random_bool(0.6);
            if !keeps_body {
                new[BODY] = text(random);
            }
            if !self.is_free(&new, number) {
                return;
            }
            self.source[number].clone_from(&new);
            if self.key.iter().any(|&column| old[column] != new[column]) {
                let old = self.old(&old);
                self.write("delete", lsn, next(), old, Vec::new());
            }
            // The server leaves out long values that did not change; never NULLs.
            let unsent = if keeps_body && old[BODY].is_some() {
                vec![BODY]
            } else {
                Vec::new()
            };
            if !unsent.is_empty() {
                new[BODY] = None;
            }
            self.write("update", lsn, next(), new, unsent);
        }
    }

    /// What the server sends of an old row.
    fn old(&self, row: &[Option<String>; 4]) -> [Option<String>; 4] {
        let mut old = row.clone();
        for (column, value) in old.iter_mut().enumerate() {
            if !matches!(self.identity, Identity::Full) && !self.key.contains(&column) {
                *value = None;
            }
        }
        old
    }

    fn is_free(&self, row: &[Option<String>; 4], but: usize) -> bool {
        self.source.iter().enumerate().all(|(number, other)| {
            number == but || (other[ID] != row[ID] && other[CODE] != row[CODE])
        })
    }

    fn write(
        &mut self,
        op: &'static str,
        lsn: i64,
        seq: i64,
        values: [Option<String>; 4],
        unsent: Vec<usize>,
    ) {
        self.changes.push(Change {
            op,
            lsn,
            seq,
            unsent,
            values,
        });
    }
}

/// Gaps are allowed.
fn random_gap(lsn: i64, seq: i64) -> i64 {
    1 + (lsn + seq) % 2
}

fn text(random: &mut StdRng) -> Option<String> {
    random
        .random_bool(0.8)
        .then(|| format!("v{}", random.random_range(0..1000)))
}
