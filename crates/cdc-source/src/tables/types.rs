//! Types and what they are made of.

use std::collections::BTreeMap;

use pgoutput::Oid;

use super::oid_array;
use crate::connection::Connection;
use crate::error::SourceError;
use crate::sql::quote_literal;

/// A type of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeInfo {
    /// `pg_type.oid`.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `typtype`: `b` base, `c` composite, `d` domain, `e` enum, `p` pseudo, `r` range, `m`
    /// multirange.
    pub kind: char,
    /// What it is made of: the element of an array, the base of a domain, the subtype of a range or
    /// multirange, the attributes of a composite in order.
    pub parts: Vec<TypePart>,
    /// Whether it is an array.
    pub is_array: bool,
    /// `pg_type.typndims`: the declared dimensions of a domain over an array, else 0. The server does
    /// not enforce them.
    pub dimensions: i32,
    /// What separates its values within the text of an array: a semicolon for `box`, a comma for all
    /// others.
    pub delimiter: u8,
}

/// A part of a [`TypeInfo`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypePart {
    /// Its type.
    pub oid: Oid,
    /// Its type modifier; -1 without one.
    pub modifier: i32,
    /// The name of a composite's attribute.
    pub name: Option<String>,
    /// The number of a composite's attribute (`pg_attribute.attnum`), which no later one gets again.
    pub number: Option<i16>,
    /// The declared dimensions of a composite's attribute.
    pub dimensions: i32,
}

/// A type that was asked for by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedType {
    /// `pg_type.oid`.
    pub oid: Oid,
    /// Its type modifier; -1 without one.
    pub modifier: i32,
    /// As `format_type` prints both.
    pub name: String,
}

/// The type that this text means in a column's definition: `bigint`, `varchar(20)`, `app.mood[]`. Types that are not
/// in `pg_catalog` need their schema.
///
/// # Errors
/// The server's when the text is no type, which is permanent; or the connection is lost.
pub async fn named_type(connection: &mut Connection, text: &str) -> Result<NamedType, SourceError> {
    // `regtype` takes nothing but a type's name, modifier included (Postgres source, `parseTypeString`), so that the text
    // cannot be more than that below. It drops the modifier, and takes numbers for OIDs.
    let parsed = connection
        .query(&format!(
            "select oid, typtype = 'd' as is_domain from pg_catalog.pg_type \
             where oid = {}::pg_catalog.regtype",
            quote_literal(text)
        ))
        .await?;
    let cast = format!("select null::{text}\n where false");
    let modifiers = connection.modifiers(&cast).await?;
    let (Some(row), [modifier]) = (parsed.first(), &modifiers[..]) else {
        return Err(SourceError::protocol("one type was asked for"));
    };
    let oid = Oid::new(row.parse("oid")?);
    // A result has the base type of a domain, which takes no modifier itself.
    let modifier = if row.flag("is_domain")? {
        -1
    } else {
        *modifier
    };
    let print = format!(
        "select pg_catalog.format_type({}, {modifier}) as name",
        oid.get()
    );
    let name = connection.query_one(&print).await?.text("name")?.to_owned();
    Ok(NamedType {
        oid,
        modifier,
        name,
    })
}

/// The types given and, recursively, all they are made of, by oid.
pub async fn type_closure(
    connection: &mut Connection,
    oids: &[Oid],
) -> Result<BTreeMap<Oid, TypeInfo>, SourceError> {
    let mut types = BTreeMap::new();
    if oids.is_empty() {
        return Ok(types);
    }
    for row in connection
        .query(&CLOSURE.replace("{oids}", &oid_array(oids)))
        .await?
    {
        let oid = Oid::new(row.parse("oid")?);
        let part = match row.parse_opt::<u32>("part")? {
            None => None,
            Some(part) => Some(TypePart {
                oid: Oid::new(part),
                modifier: row.parse("modifier")?,
                name: row.opt("attname")?.map(str::to_owned),
                number: row.parse_opt("attnum")?,
                dimensions: row.parse("part_dimensions")?,
            }),
        };
        if let Some(known) = types.get_mut(&oid) {
            let known: &mut TypeInfo = known;
            known.parts.extend(part);
            continue;
        }
        types.insert(
            oid,
            TypeInfo {
                oid,
                schema: row.text("nspname")?.to_owned(),
                name: row.text("typname")?.to_owned(),
                kind: row.parse("typtype")?,
                parts: part.into_iter().collect(),
                is_array: row.flag("is_array")?,
                dimensions: row.parse("typndims")?,
                delimiter: row.text("typdelim")?.bytes().next().unwrap_or(b','),
            },
        );
    }
    Ok(types)
}

/// `typelem` of a type that is no true array (`point`, `name`) is not a part.
const CLOSURE: &str = "with recursive part (oid, attnum, part, modifier, attname, dimensions) as ( \
    select t.oid, null::pg_catalog.int2, t.typelem, -1, null::pg_catalog.text, 0 from pg_catalog.pg_type t \
    where t.typelem <> 0 and t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc \
    union all \
    select t.oid, null, t.typbasetype, t.typtypmod, null, 0 from pg_catalog.pg_type t \
    where t.typtype = 'd' \
    union all \
    select r.rngtypid, null, r.rngsubtype, -1, null, 0 from pg_catalog.pg_range r \
    union all \
    select r.rngmultitypid, null, r.rngsubtype, -1, null, 0 from pg_catalog.pg_range r \
    union all \
    select t.oid, a.attnum, a.atttypid, a.atttypmod, a.attname::pg_catalog.text, a.attndims \
    from pg_catalog.pg_type t \
    join pg_catalog.pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0 \
    and not a.attisdropped where t.typtype = 'c'), \
    closure (oid) as ( \
    select pg_catalog.unnest({oids}) \
    union \
    select part.part from closure join part on part.oid = closure.oid) \
    select t.oid, n.nspname, t.typname, t.typtype, t.typndims, t.typdelim, part.part, \
    part.modifier, part.attname, part.attnum, part.dimensions as part_dimensions, \
    t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc as is_array \
    from closure join pg_catalog.pg_type t on t.oid = closure.oid \
    join pg_catalog.pg_namespace n on n.oid = t.typnamespace \
    left join part on part.oid = t.oid order by t.oid, part.attnum";
