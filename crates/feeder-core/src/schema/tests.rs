use super::*;
use crate::testing::{INT4, INT8, TEXT, fed_table};

const OID: u32 = 7;

fn directive(change: SchemaChange, next_type: Option<TypeId>) -> Directive {
    Directive {
        id: change.to_string(),
        source_oid: OID,
        table: "public.t".to_owned(),
        change,
        next_type,
        stated_at: 0,
        applied: None,
    }
}

fn rename(column: &str, to: &str) -> Directive {
    let (column, to) = (column.to_owned(), to.to_owned());
    directive(SchemaChange::RenameColumn { column, to }, None)
}

fn dropped(column: &str) -> Directive {
    let column = column.to_owned();
    directive(SchemaChange::DropColumn { column }, None)
}

fn retyped(column: &str, oid: u32) -> Directive {
    let change = SchemaChange::ChangeType {
        column: column.to_owned(),
        to: "bigint".to_owned(),
        values_unchanged: false,
    };
    directive(change, Some(TypeId { oid, modifier: -1 }))
}

/// Of a table `(id bigint, a integer, b text)`, with these pending.
fn judged(one: &Directive, others: &[Directive]) -> Result<(), String> {
    let columns = [("id", INT8, -1), ("a", INT4, -1), ("b", TEXT, -1)];
    let table = fed_table(OID, "t", pgoutput::ReplicaIdentity::Default, &columns);
    let others: Vec<&Directive> = others.iter().collect();
    judge(&one.change, one.next_type, &table.version.shape, &others)
}

#[test]
fn a_column_is_known_now_or_after_what_is_pending() {
    for known in [rename("a", "x"), dropped("b"), retyped("a", INT8)] {
        assert_eq!(judged(&known, &[]), Ok(()));
    }
    for unknown in [rename("x", "y"), dropped("A"), retyped("x", INT8)] {
        let refused = judged(&unknown, &[dropped("a")]).unwrap_err();
        assert!(refused.ends_with("are id, a, b"), "{refused}");
    }
    let first = [rename("a", "x")];
    for next in [rename("x", "y"), dropped("x"), retyped("x", INT8)] {
        assert_eq!(judged(&next, &first), Ok(()));
    }
}

#[test]
fn a_name_is_free_or_becomes_free() {
    let refused = judged(&rename("a", "b"), &[retyped("b", INT4)]).unwrap_err();
    assert!(refused.contains("\"b\" already"), "{refused}");
    assert!(judged(&rename("a", "a"), &[]).is_err());
    for leaves in [dropped("b"), rename("b", "c")] {
        assert_eq!(judged(&rename("a", "b"), &[leaves]), Ok(()));
    }
}

#[test]
fn a_type_is_another_one_or_comes_back() {
    let refused = judged(&retyped("a", INT4), &[retyped("b", INT8)]).unwrap_err();
    assert!(refused.contains("already"), "{refused}");
    assert_eq!(judged(&retyped("a", INT4), &[retyped("a", INT8)]), Ok(()));
}

#[test]
fn an_id_is_what_a_line_can_hold() {
    for id in ["1", "2026-12-orders", "two words", &"i".repeat(ID_LENGTH)] {
        assert!(check_id(id).is_ok(), "{id}");
    }
    for id in ["", " ", " 1", "a\nb", &"i".repeat(ID_LENGTH + 1)] {
        assert!(check_id(id).is_err(), "{id}");
    }
}

#[test]
fn changes_read_as_they_are_typed() {
    let shown = |directive: Directive| directive.change.to_string();
    assert_eq!(shown(rename("a", "x")), "rename-column a x");
    assert_eq!(shown(dropped("a")), "drop-column a");
    assert_eq!(shown(retyped("a", INT8)), "change-type a bigint");
    let stated = Stated::of(rename("a", "x"), None);
    let json = serde_json::to_value(&stated).unwrap();
    assert_eq!(
        json["change"],
        serde_json::json!({"kind": "rename-column", "column": "a", "to": "x"})
    );
    assert_eq!(
        (&json["state"], &json["applied_lsn"]),
        (&"pending".into(), &serde_json::Value::Null)
    );
}
