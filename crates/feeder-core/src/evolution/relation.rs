//! What a Relation message says of a table, with what the catalog adds to it.

use pgoutput::{Relation, RelationColumn, ReplicaIdentity};

use super::Found;
use super::align::Origin;
use crate::plan::{ShapeColumn, identity_name};
use crate::types::SourceType;
use crate::version::TableVersion;

/// Whether rows of this relation go into the version as it is. Of a table that `waits` for its copy, generated columns
/// may be lacking.
pub(crate) fn fits(version: &TableVersion, relation: &Relation, waits: bool) -> bool {
    let shape = &version.shape;
    if identity_name(relation.replica_identity) != shape.identity {
        return false;
    }
    if relation.replica_identity == ReplicaIdentity::Default && !shape.key.is_empty() {
        let in_key = relation.columns.iter().filter(|column| column.is_key());
        let names: Vec<&str> = in_key.map(|column| column.name.as_str()).collect();
        if names.len() != shape.key.len() || !shape.key.iter().all(|key| names.contains(&&**key)) {
            return false;
        }
    }
    let mut wire = sent(version, relation).peekable();
    for column in &shape.columns {
        let same = wire.next_if(|found| {
            found.name == column.name
                && found.type_oid.get() == column.source_type.type_oid
                && found.type_modifier == column.source_type.type_modifier
        });
        let lacking = waits && version.generated.contains(&column.name);
        if same.is_none() && !lacking {
            return false;
        }
    }
    wire.next().is_none()
}

/// The columns on the wire that are not ignored.
pub(super) fn sent<'a>(
    version: &'a TableVersion,
    relation: &'a Relation,
) -> impl Iterator<Item = &'a RelationColumn> {
    relation
        .columns
        .iter()
        .filter(|column| !version.ignored.contains(&column.name))
}

/// The type of a column on the wire: as the version before or the catalog takes it apart, where it is the same type. The
/// catalog may be ahead of the stream, so that it is asked first only of the column that was seen to be `altered`.
pub(super) fn source_type(
    column: &RelationColumn,
    origin: Origin,
    before: &[ShapeColumn],
    altered: Option<&str>,
    found: &Found,
) -> SourceType {
    let plan = found.plan.iter().flat_map(|plan| &plan.shape.columns);
    let live = plan
        .filter(|live| live.attnum.is_some() && live.attnum == origin.attnum)
        .map(|live| &live.source_type);
    let known = origin
        .known
        .and_then(|index| before.get(index))
        .map(|known| &known.source_type);
    let known = known.filter(|_| altered != Some(&*column.name));
    let same = known
        .into_iter()
        .chain(live)
        .find(|source_type| source_type.type_oid == column.type_oid.get());
    match same {
        Some(source_type) => SourceType {
            type_modifier: column.type_modifier,
            ..source_type.clone()
        },
        None => SourceType::resolve(&found.types, column.type_oid, column.type_modifier, 0),
    }
}

/// What a column on the wire is described as now, as far as anybody can tell.
pub(super) fn comment(origin: Origin, before: &[ShapeColumn], found: &Found) -> Option<String> {
    let plan = found.plan.iter().flat_map(|plan| &plan.shape.columns);
    let live = plan.into_iter().find(|live| live.attnum == origin.attnum);
    let known = || origin.known.and_then(|index| before.get(index));
    live.filter(|live| live.attnum.is_some())
        .or_else(known)
        .and_then(|column| column.comment.clone())
}

/// The view's key (rule 10) by the names of the relation.
pub(super) fn key(
    version: &TableVersion,
    relation: &Relation,
    origins: &[Origin],
    found: &Found,
) -> Vec<String> {
    let columns = sent(version, relation);
    match relation.replica_identity {
        ReplicaIdentity::Nothing => Vec::new(),
        ReplicaIdentity::Default | ReplicaIdentity::Index => columns
            .filter(|column| column.is_key())
            .map(|column| column.name.clone())
            .collect(),
        // Every column counts as key on the wire; the primary key is the catalog's to tell.
        ReplicaIdentity::Full => {
            let numbers: Vec<i16> = found
                .plan
                .iter()
                .flat_map(|plan| {
                    let in_key = |column: &&ShapeColumn| plan.shape.key.contains(&column.name);
                    plan.shape.columns.iter().filter(in_key)
                })
                .filter_map(|column| column.attnum)
                .collect();
            let key: Vec<String> = columns
                .zip(origins)
                .filter(|(_, origin)| origin.attnum.is_some_and(|found| numbers.contains(&found)))
                .map(|(column, _)| column.name.clone())
                .collect();
            // One that came later has columns that this relation has not.
            if key.len() == numbers.len() {
                key
            } else {
                Vec::new()
            }
        }
    }
}
