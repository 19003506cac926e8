use super::*;

const ROOT: u32 = 1;

fn partition(oid: u32) -> Partition {
    Partition {
        oid: Oid::new(oid),
        parent: Oid::new(ROOT),
        schema: "public".to_owned(),
        name: format!("p{oid}"),
        storage: PartitionStorage::Heap,
        file: oid,
        attached_by: 50,
        altered_by: 50,
        made_as_partition: false,
    }
}

fn made(oid: u32) -> Partition {
    Partition {
        made_as_partition: true,
        ..partition(oid)
    }
}

fn below(parent: u32, partition: Partition) -> Partition {
    Partition {
        parent: Oid::new(parent),
        ..partition
    }
}

fn divided(partition: Partition) -> Partition {
    Partition {
        storage: PartitionStorage::Partitions,
        file: 0,
        ..partition
    }
}

fn known(partitions: &[Partition]) -> Vec<Known> {
    partitions.iter().map(Known::of).collect()
}

/// What is said when these of the partitions hold something, and these of those that are gone exist.
fn compare(
    before: &[Partition],
    now: &[Partition],
    filled: &[u32],
    existing: &[u32],
) -> Option<String> {
    let oids = |oids: &[u32]| oids.iter().map(|oid| Oid::new(*oid)).collect();
    let answers = Answers {
        filled: oids(filled),
        existing: oids(existing),
    };
    lost(&known(before), now, &answers, "public.events")
}

fn expect_reason(reason: Option<String>, words: &[&str]) {
    let reason = reason.unwrap();
    assert!(reason.starts_with("needs resync: "), "{reason}");
    for word in words {
        assert!(reason.contains(word), "{reason:?} does not say {word:?}");
    }
}

fn doubted(before: &[Partition], now: &[Partition], truncated_by: Option<u32>) -> Vec<u32> {
    doubt(&known(before), now, truncated_by)
        .map(|(transactions, _)| transactions.into_iter().collect())
        .unwrap_or_default()
}

#[test]
fn nothing_is_asked_nor_said_of_what_stayed() {
    let tree = [partition(10), divided(partition(20)), below(20, made(30))];
    assert_eq!(questions(&known(&tree), &tree), Questions::default());
    assert_eq!(compare(&tree, &tree, &[10, 30], &[]), None);
    assert_eq!(doubted(&tree, &tree, None), [0; 0]);
}

#[test]
fn a_partition_that_was_made_as_one_is_accepted_filled_or_not() {
    let now = [
        partition(10),
        made(11),
        divided(made(20)),
        below(20, made(30)),
    ];
    assert_eq!(
        questions(&known(&now[..1]), &now),
        Questions::default(),
        "nothing needs to be asked"
    );
    assert_eq!(compare(&now[..1], &now, &[11, 30], &[]), None);
    assert_eq!(doubted(&now[..1], &now, None), [0; 0]);
}

#[test]
fn one_that_was_attached_must_be_empty() {
    let now = [partition(10), partition(11)];
    assert_eq!(questions(&known(&now[..1]), &now).filled, [Oid::new(11)]);
    assert_eq!(compare(&now[..1], &now, &[], &[]), None);
    expect_reason(
        compare(&now[..1], &now, &[11], &[]),
        &["public.p11", "attached"],
    );
}

#[test]
fn what_is_below_an_attached_table_came_with_it() {
    let now = [
        divided(partition(20)),
        below(20, divided(made(21))),
        below(21, made(30)),
        below(20, made(31)),
    ];
    assert_eq!(
        questions(&[], &now).filled,
        [Oid::new(30), Oid::new(31)],
        "a table without rows of its own is not asked about"
    );
    assert_eq!(compare(&[], &now, &[], &[]), None);
    expect_reason(
        compare(&[], &now, &[30, 31], &[]),
        &["partitions public.p30, public.p31 were attached"],
    );
    // Known already: what comes into it now is judged for itself.
    let before = &now[..1];
    assert_eq!(compare(before, &now, &[30, 31], &[]), None);
}

#[test]
fn a_foreign_partition_is_never_accepted() {
    let foreign = Partition {
        storage: PartitionStorage::Foreign,
        file: 0,
        ..made(11)
    };
    expect_reason(compare(&[], &[foreign], &[], &[]), &["public.p11"]);
}

#[test]
fn detached_and_dropped_are_told_apart() {
    let before = [partition(10), partition(11), divided(partition(20))];
    assert_eq!(
        questions(&known(&before), &before[..1]).existing,
        [Oid::new(11)]
    );
    expect_reason(
        compare(&before, &before[..1], &[], &[11]),
        &["public.p11 was detached", "public.events", "lake"],
    );
    expect_reason(
        compare(&before, &before[..1], &[], &[]),
        &["public.p11 was dropped", "public.events", "lake"],
    );
    assert_eq!(
        compare(&before, &before[..2], &[], &[]),
        None,
        "a partitioned table without partitions had no rows"
    );
}

#[test]
fn detached_and_attached_again_is_not_what_stayed_even_if_it_is_empty() {
    let again = Partition {
        attached_by: 60,
        altered_by: 60,
        ..partition(10)
    };
    expect_reason(
        compare(&[partition(10)], &[again], &[], &[]),
        &["public.p10", "attached again"],
    );
    let tree = [divided(partition(20)), below(20, made(30))];
    let again = [
        divided(Partition {
            attached_by: 60,
            ..partition(20)
        }),
        below(20, made(30)),
    ];
    expect_reason(
        compare(&tree, &again, &[], &[]),
        &["public.p30", "attached again"],
    );
    let elsewhere = [divided(partition(20)), below(20, partition(10))];
    expect_reason(
        compare(&[partition(10)], &elsewhere, &[], &[]),
        &["public.p10", "attached again"],
    );
}

#[test]
fn a_new_file_is_doubted_unless_the_last_change_truncated_the_root() {
    let now = Partition {
        file: 900,
        altered_by: 70,
        ..partition(10)
    };
    let now = [now];
    assert_eq!(doubted(&[partition(10)], &now, None), [70]);
    assert_eq!(doubted(&[partition(10)], &now, Some(69)), [70]);
    assert_eq!(doubted(&[partition(10)], &now, Some(70)), [0; 0]);
    assert_eq!(doubted(&now, &now, None), [0; 0]);
    let (_, reason) = doubt(&known(&[partition(10)]), &now, None).unwrap();
    expect_reason(Some(reason), &["public.p10", "truncated", "VACUUM FULL"]);
}

#[test]
fn a_new_partition_may_have_been_truncated_before_it_was_attached_but_not_since() {
    let fresh = Partition {
        file: 900,
        ..partition(10)
    };
    assert_eq!(doubted(&[], std::slice::from_ref(&fresh), None), [0; 0]);
    let since = Partition {
        altered_by: 70,
        ..fresh
    };
    assert_eq!(doubted(&[], std::slice::from_ref(&since), None), [70]);
    assert_eq!(doubted(&[], std::slice::from_ref(&since), Some(70)), [0; 0]);
    // Truncating the root and making the partition in one transaction proves nothing about the partition.
    let together = Partition {
        file: 900,
        ..made(10)
    };
    assert_eq!(doubted(&[], &[together], Some(50)), [NOBODY]);
}

#[test]
fn a_new_name_is_no_change_but_is_kept() {
    let renamed = Partition {
        name: "renamed".to_owned(),
        altered_by: 80,
        ..partition(10)
    };
    let trees = |partition: &Partition| PartitionTrees {
        at: Lsn::ZERO,
        trees: BTreeMap::from([(Oid::new(ROOT), vec![partition.clone()])]),
    };
    let now = std::slice::from_ref(&renamed);
    assert_eq!(compare(&[partition(10)], now, &[], &[]), None);
    assert_eq!(doubted(&[partition(10)], now, None), [0; 0]);
    let root = Oid::new(ROOT);
    assert_ne!(
        to_keep(&trees(&partition(10)), root).unwrap(),
        to_keep(&trees(&renamed), root).unwrap()
    );
}

#[test]
fn many_names_are_cut_short() {
    let names = |count: usize| list(["a", "b", "c", "d", "e"].into_iter().take(count));
    assert_eq!(names(1), "partition a was");
    assert_eq!(names(3), "partitions a, b, c were");
    assert_eq!(names(5), "partitions a, b, c and 2 more were");
}
