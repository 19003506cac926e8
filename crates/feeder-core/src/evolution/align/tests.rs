use super::*;
use crate::types::SourceType;

fn known(columns: &[(i16, &str)]) -> Vec<ShapeColumn> {
    columns
        .iter()
        .map(|(attnum, name)| ShapeColumn {
            attnum: (*attnum > 0).then_some(*attnum),
            ..ShapeColumn::new(name, SourceType::plain(pgoutput::Oid::new(23), -1))
        })
        .collect()
}

/// For each column on the wire the known column's name (or `new`) and its number.
fn aligned(
    before: &[(i16, &str)],
    wire: &[&str],
    live: &[(i16, &'static str)],
    renames: &[(&str, &str)],
) -> Vec<String> {
    let before = known(before);
    let live: Vec<LiveColumn<'_>> = live
        .iter()
        .map(|(attnum, name)| LiveColumn {
            attnum: *attnum,
            name,
        })
        .collect();
    let renames: Vec<(String, String)> = renames
        .iter()
        .map(|(old, new)| ((*old).to_owned(), (*new).to_owned()))
        .collect();
    align(&before, wire, &live, &renames)
        .iter()
        .map(|origin| {
            let name = origin
                .known
                .map_or("new", |index| before[index].name.as_str());
            match origin.attnum {
                Some(attnum) => format!("{name} {attnum}"),
                None => name.to_owned(),
            }
        })
        .collect()
}

#[test]
fn a_catalog_as_old_as_the_message_says_it_all() {
    let before = [(1, "id"), (2, "a"), (3, "b")];
    // Added.
    let live = [(1, "id"), (2, "a"), (3, "b"), (4, "c")];
    let wire = ["id", "a", "b", "c"];
    assert_eq!(
        aligned(&before, &wire, &live, &[]),
        ["id 1", "a 2", "b 3", "new 4"]
    );
    // Renamed.
    let live = [(1, "id"), (2, "a"), (3, "c")];
    assert_eq!(
        aligned(&before, &["id", "a", "c"], &live, &[]),
        ["id 1", "a 2", "b 3"]
    );
    // Dropped, and another one added.
    let live = [(1, "id"), (2, "a"), (4, "c")];
    assert_eq!(
        aligned(&before, &["id", "a", "c"], &live, &[]),
        ["id 1", "a 2", "new 4"]
    );
    // Dropped, and added under the same name.
    let live = [(1, "id"), (2, "a"), (4, "b")];
    assert_eq!(
        aligned(&before, &["id", "a", "b"], &live, &[]),
        ["id 1", "a 2", "new 4"]
    );
    // Names changed places.
    let live = [(1, "id"), (2, "b"), (3, "a")];
    assert_eq!(
        aligned(&before, &["id", "b", "a"], &live, &[]),
        ["id 1", "a 2", "b 3"]
    );
}

#[test]
fn a_newer_catalog_still_decides() {
    let before = [(1, "id"), (2, "a"), (3, "b")];
    // b became c, and d since.
    let live = [(1, "id"), (2, "a"), (3, "d")];
    assert_eq!(
        aligned(&before, &["id", "a", "c"], &live, &[]),
        ["id 1", "a 2", "b 3"]
    );
    // b was dropped and c added; c was dropped since, and d added.
    let live = [(1, "id"), (2, "a"), (5, "d")];
    assert_eq!(
        aligned(&before, &["id", "a", "c"], &live, &[]),
        ["id 1", "a 2", "new"]
    );
    // c was added, and d since.
    let live = [(1, "id"), (2, "a"), (3, "b"), (4, "c"), (5, "d")];
    let wire = ["id", "a", "b", "c"];
    assert_eq!(
        aligned(&before, &wire, &live, &[]),
        ["id 1", "a 2", "b 3", "new 4"]
    );
    // a was dropped, and b was renamed since.
    let live = [(1, "id"), (3, "z")];
    assert_eq!(aligned(&before, &["id", "b"], &live, &[]), ["id 1", "b 3"]);
    // b was dropped and made anew, and a column came since.
    let live = [(1, "id"), (2, "a"), (4, "b"), (5, "c")];
    assert_eq!(
        aligned(&before, &["id", "a", "b"], &live, &[]),
        ["id 1", "a 2", "new 4"]
    );
    // The first column is gone, the others keep their order.
    let live = [(2, "a"), (3, "b"), (4, "c")];
    assert_eq!(aligned(&before, &["a", "b"], &live, &[]), ["a 2", "b 3"]);
}

#[test]
fn without_a_catalog_names_decide_and_a_directive_does_more() {
    let before = [(1, "id"), (2, "a"), (3, "b")];
    assert_eq!(
        aligned(&before, &["id", "b", "c"], &[], &[]),
        ["id 1", "b 3", "new"]
    );
    assert_eq!(
        aligned(&before, &["id", "a", "c"], &[], &[]),
        ["id 1", "a 2", "new"]
    );
    let renames = [("b", "c")];
    assert_eq!(
        aligned(&before, &["id", "a", "c"], &[], &renames),
        ["id 1", "a 2", "b 3"]
    );
    assert_eq!(aligned(&before, &[], &[], &[]), [""; 0]);
    assert_eq!(aligned(&[], &["id"], &[], &[]), ["new"]);
}

#[test]
fn columns_without_numbers_are_told_by_name() {
    let before = [(0, "id"), (0, "a")];
    let live = [(1, "id"), (2, "a"), (3, "b")];
    assert_eq!(
        aligned(&before, &["id", "a", "b"], &live, &[]),
        ["id 1", "a 2", "new 3"]
    );
}
