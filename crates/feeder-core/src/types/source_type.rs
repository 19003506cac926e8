//! A type of the source with what it is made of.

use std::collections::BTreeMap;

use cdc_source::tables::{TypeInfo, TypePart};
use pgoutput::Oid;
use serde::{Deserialize, Serialize};

/// Types and all they are made of, by OID.
pub(crate) type Types = BTreeMap<Oid, TypeInfo>;

/// Types that are arrays by their subscripts but print otherwise: `int2vector`, `oidvector`.
const VECTORS: [u32; 2] = [22, 30];
/// Deeper types are carried as text.
const MAX_DEPTH: usize = 8;

/// A type, its modifier, and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceType {
    pub(crate) type_oid: u32,
    /// -1 without one.
    pub(crate) type_modifier: i32,
    #[serde(default, skip_serializing_if = "MadeOf::is_itself")]
    pub(crate) made_of: MadeOf,
}

/// What a type is made of, as far as that decides how it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MadeOf {
    /// Nothing else, or nothing that matters here.
    #[default]
    Itself,
    /// Text under another name, in both forms: an enum, `citext`.
    Label,
    Domain(Box<SourceType>),
    Array(Box<ArrayType>),
    Composite(Vec<Attribute>),
}

/// An array's element and shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArrayType {
    pub(crate) element: SourceType,
    /// Declared; the server does not enforce them.
    pub(crate) dimensions: i32,
    pub(crate) delimiter: u8,
}

/// An attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    /// `pg_attribute.attnum`, where the control row was written by a release that kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) number: Option<i16>,
    #[serde(flatten)]
    pub(crate) source_type: SourceType,
}

impl Attribute {
    /// Whether it is the same attribute, whatever its name.
    fn is(&self, other: &Self) -> bool {
        let numbers = self.number.zip(other.number);
        numbers.is_none_or(|(one, other)| one == other)
    }
}

impl MadeOf {
    pub(crate) fn is_itself(&self) -> bool {
        *self == Self::Itself
    }
}

impl SourceType {
    /// A type that is made of nothing else.
    pub(crate) fn plain(type_oid: Oid, type_modifier: i32) -> Self {
        Self {
            type_oid: type_oid.get(),
            type_modifier,
            made_of: MadeOf::Itself,
        }
    }

    /// Takes a column's or attribute's type apart. `dimensions` are its declared ones.
    pub(crate) fn resolve(
        types: &Types,
        type_oid: Oid,
        type_modifier: i32,
        dimensions: i32,
    ) -> Self {
        let made_of = made_of(types, type_oid, dimensions, 0).unwrap_or_default();
        Self {
            made_of,
            ..Self::plain(type_oid, type_modifier)
        }
    }

    /// Whether values of it are read and understood alike.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let alike = match (&self.made_of, &other.made_of) {
            (MadeOf::Composite(these), MadeOf::Composite(those)) => {
                these.len() == those.len()
                    && these.iter().zip(those).all(|(this, that)| {
                        this.is(that)
                            && this.name == that.name
                            && this.source_type.agrees(&that.source_type)
                    })
            }
            (MadeOf::Array(this), MadeOf::Array(that)) => {
                this.dimensions == that.dimensions
                    && this.delimiter == that.delimiter
                    && this.element.agrees(&that.element)
            }
            (MadeOf::Domain(this), MadeOf::Domain(that)) => this.agrees(that),
            (this, that) => this == that,
        };
        alike && self.type_oid == other.type_oid && self.type_modifier == other.type_modifier
    }

    /// Whether all attributes that a value of it has, at any depth, are still there in `now`, in their places: they may
    /// have other names, and more may have come after them.
    pub(crate) fn keeps_attributes(&self, now: &Self) -> bool {
        match (&self.made_of, &now.made_of) {
            (MadeOf::Composite(these), MadeOf::Composite(those)) => {
                these.len() <= those.len()
                    && these.iter().zip(those).all(|(this, that)| {
                        this.is(that) && this.source_type.keeps_attributes(&that.source_type)
                    })
            }
            (MadeOf::Array(this), MadeOf::Array(that)) => {
                this.element.keeps_attributes(&that.element)
            }
            (MadeOf::Domain(this), MadeOf::Domain(that)) => this.keeps_attributes(that),
            _ => true,
        }
    }
}

/// `None` for a type whose parts are nested too deep.
fn made_of(types: &Types, oid: Oid, dimensions: i32, depth: usize) -> Option<MadeOf> {
    if depth > MAX_DEPTH {
        return None;
    }
    let Some(info) = types.get(&oid) else {
        return Some(MadeOf::Itself);
    };
    let part = |part: &TypePart, dimensions: i32| {
        Some(SourceType {
            type_oid: part.oid.get(),
            type_modifier: part.modifier,
            made_of: made_of(types, part.oid, dimensions, depth + 1)?,
        })
    };
    Some(match info.kind {
        'e' => MadeOf::Label,
        // An extension's type, so its OID differs between databases; `citextsend` is `textsend`.
        'b' if info.name == "citext" => MadeOf::Label,
        'd' => match info.parts.first() {
            Some(base) => MadeOf::Domain(Box::new(part(base, info.dimensions)?)),
            None => MadeOf::Itself,
        },
        'c' => MadeOf::Composite(
            info.parts
                .iter()
                .map(|attribute| {
                    Some(Attribute {
                        name: attribute.name.clone().unwrap_or_default(),
                        number: attribute.number,
                        source_type: part(attribute, attribute.dimensions)?,
                    })
                })
                .collect::<Option<Vec<_>>>()?,
        ),
        _ if info.is_array && !VECTORS.contains(&oid.get()) => match info.parts.first() {
            Some(element) => MadeOf::Array(Box::new(ArrayType {
                element: part(element, 0)?,
                dimensions,
                delimiter: types
                    .get(&element.oid)
                    .map_or(b',', |element| element.delimiter),
            })),
            None => MadeOf::Itself,
        },
        _ => MadeOf::Itself,
    })
}
