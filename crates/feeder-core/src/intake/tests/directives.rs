//! What an operator stated is used once, and not by what is taken back.

use super::*;
use crate::control::{Directive, SchemaChange};

const BODY: [Column; 2] = NOTE_COLUMNS;
const TEXT_COLUMNS: [Column; 2] = [("id", INT4, -1), ("text", TEXT, -1)];

/// A table that follows nothing of itself.
fn strict() -> Feed {
    let mut table = fed_table(NOTES, "notes", ReplicaIdentity::Default, &BODY);
    table.selection.changes.on_schema_change = OnSchemaChange::Stop;
    let mut feed = Feed::of(vec![table]);
    feed.transaction(100, 101, [relation(NOTES, ReplicaIdentity::Default, &BODY)]);
    feed
}

fn rename(id: &str, column: &str, to: &str) -> Directive {
    let (column, to) = (column.to_owned(), to.to_owned());
    Directive {
        id: id.to_owned(),
        source_oid: NOTES,
        table: "public.notes".to_owned(),
        change: SchemaChange::RenameColumn { column, to },
        next_type: None,
        stated_at: 0,
        applied: None,
    }
}

impl Feed {
    /// A row in this shape. The catalog shows these as pending, also those of evolutions that are not committed.
    fn in_shape(&mut self, columns: &[Column], pending: &[Directive]) {
        let relation = relation(NOTES, ReplicaIdentity::Default, columns);
        if let Message::Relation(relation) = &relation {
            self.relations.insert(NOTES, relation.clone());
        }
        for message in [relation, note("1")] {
            self.intake.message(message, self.start).unwrap();
            if let Some(question) = self.intake.question() {
                assert_eq!(question.source_oid, NOTES);
                let found = Found {
                    directives: pending.to_vec(),
                    ..self.catalog(NOTES)
                };
                self.intake.answer(NOTES, &found, self.start).unwrap();
            }
        }
    }
}

/// The directives of an epoch's evolutions.
fn used(end: &EpochEnd) -> Vec<Vec<String>> {
    let evolutions = end.evolutions.iter();
    evolutions
        .map(|evolution| evolution.directives.clone())
        .collect()
}

#[test]
fn two_changes_before_a_commit_need_two() {
    for sealed in [false, true] {
        let mut feed = strict();
        let stated = [
            rename("there", "body", "text"),
            rename("back", "text", "body"),
        ];
        feed.send(begin(200));
        feed.in_shape(&TEXT_COLUMNS, &stated);
        feed.send(commit(200, 210));
        if sealed {
            // Its commit may take its time.
            assert_eq!(used(&feed.seal().1), [["there"]]);
        }
        feed.send(begin(220));
        feed.in_shape(&BODY, &stated);
        feed.in_shape(&TEXT_COLUMNS, &stated);
        feed.send(commit(220, 230));
        let (_, end) = feed.seal();
        let (.., reason) = &failure(&end)[0];
        assert!(reason.contains("\"body\" is \"text\" now"), "{reason}");
        assert_eq!(feed.state(NOTES), TableState::Error);
        // The failed transaction keeps none of its evolutions.
        let before: &[[&str; 1]] = if sealed { &[] } else { &[["there"]] };
        assert_eq!(used(&end), before);
    }
}

#[test]
fn what_is_taken_back_has_used_nothing() {
    let mut feed = strict();
    let stated = [rename("one", "body", "text")];
    for _ in 0..2 {
        feed.send(begin(200));
        feed.in_shape(&TEXT_COLUMNS, &stated);
        feed.intake
            .restart(Coordinator::new(thresholds(), Lsn::new(101)));
    }
    feed.send(begin(200));
    feed.in_shape(&TEXT_COLUMNS, &stated);
    feed.send(commit(200, 210));
    let (tables, end) = feed.seal();
    assert_eq!(tables["raw.notes"].len(), 1);
    assert_eq!(used(&end), [["one"]]);
    assert_eq!(end.evolutions[0].at, Lsn::new(200));
    assert_eq!(feed.state(NOTES), TableState::Streaming);
}

#[test]
fn a_look_at_the_catalog_uses_them_at_its_position() {
    let mut feed = strict();
    feed.relations.insert(NOTES, {
        let Message::Relation(relation) = relation(NOTES, ReplicaIdentity::Default, &TEXT_COLUMNS)
        else {
            panic!("it is a relation");
        };
        relation
    });
    let found = Found {
        directives: vec![rename("one", "body", "text")],
        ..feed.catalog(NOTES)
    };
    let at = Lsn::new(101);
    for _ in 0..2 {
        feed.intake
            .follow_catalog(NOTES, &found, looked(at.get()), feed.start)
            .unwrap();
    }
    let (_, end) = feed.seal();
    assert_eq!(used(&end), [["one"]]);
    assert_eq!(end.evolutions[0].at, at);
}
