//! What a type becomes in the lake, and the SQL on both sides that brings values into one canonical form.
//!
//! Postgres prints a value, or the parts of a nested one as a JSON document of texts; DuckDB reads that as the lake's
//! type. A canonical form is the text of the typed value, part by part, so that `-0` and `0` are told apart.

use crate::duckdb::ident;

/// What a type becomes.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A value of a type without parts.
    Leaf {
        /// The lake's name of the type.
        lake: &'static str,
        /// What Postgres prints, `$` being the value.
        text: &'static str,
        /// Which values the lake's type does not have.
        unfit: Option<&'static str>,
    },
    /// An array of one dimension.
    List(Box<Shape>),
    /// An array of several dimensions as JSON.
    Json {
        /// The JSON that Postgres makes of it, `$` being the value.
        text: &'static str,
    },
    /// A composite type, with the names of its attributes.
    Struct(Vec<(&'static str, Shape)>),
}

/// A lake type whose values Postgres prints by its output function; a cast to text would not always be the same.
pub(super) fn leaf(lake: &'static str) -> Shape {
    Shape::Leaf {
        lake,
        text: "pg_catalog.concat($)",
        unfit: None,
    }
}

/// A `numeric` as a decimal.
pub(super) fn decimal(lake: &'static str) -> Shape {
    Shape::Leaf {
        lake,
        text: "pg_catalog.concat($)",
        unfit: Some("$ in ('NaN', 'Infinity', '-Infinity')"),
    }
}

/// A timestamp: the last moment before the lake's infinity is a microsecond before this one.
pub(super) fn timestamp(lake: &'static str) -> Shape {
    Shape::Leaf {
        lake,
        text: "pg_catalog.concat($)",
        unfit: Some(match lake {
            "timestamp" => "$ >= '294247-01-10 04:00:54.775807' and $ <> 'infinity'",
            _ => "$ >= '294247-01-10 04:00:54.775807+00' and $ <> 'infinity'",
        }),
    }
}

/// A `json`: each half of a surrogate pair that has no other half, between escaped backslashes.
pub(super) fn json() -> Shape {
    Shape::Leaf {
        lake: "json",
        text: "pg_catalog.concat($)",
        unfit: Some(
            r"pg_catalog.regexp_replace(pg_catalog.replace($::text, '\\', ''), '\\u[dD][89abAB]..\\u[dD][c-fC-F]..', '', 'g') ~ '\\u[dD][89a-fA-F]'",
        ),
    }
}

pub(super) fn list(element: Shape) -> Shape {
    Shape::List(Box::new(element))
}

fn fill(template: &str, value: &str) -> String {
    template.replace('$', value)
}

impl Shape {
    /// The type as the lake's catalog writes it, with its parts.
    pub fn lake(&self) -> String {
        match self {
            Self::Leaf { lake, .. } => (*lake).to_owned(),
            Self::List(element) => format!("list({})", element.lake()),
            Self::Json { .. } => "json".to_owned(),
            Self::Struct(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, shape)| format!("{name} {}", shape.lake()))
                    .collect();
                format!("struct({})", fields.join(", "))
            }
        }
    }

    /// Whether values can be compared and have statistics of their own.
    pub fn is_scalar(&self) -> bool {
        matches!(self, Self::Leaf { .. } | Self::Json { .. })
    }

    /// DuckDB's name for the type.
    pub fn duck(&self) -> String {
        match self {
            Self::Leaf { lake, .. } => match *lake {
                "int16" => "SMALLINT".to_owned(),
                "int32" => "INTEGER".to_owned(),
                "int64" => "BIGINT".to_owned(),
                "uint32" => "UINTEGER".to_owned(),
                "uint64" => "UBIGINT".to_owned(),
                "float32" => "FLOAT".to_owned(),
                "float64" => "DOUBLE".to_owned(),
                "timestamptz" => "TIMESTAMP WITH TIME ZONE".to_owned(),
                other => other.to_uppercase(),
            },
            Self::Json { .. } => "JSON".to_owned(),
            Self::List(_) | Self::Struct(_) => self.duck_of(&Self::duck),
        }
    }

    /// DuckDB's type for the same nesting with texts as leaves.
    fn duck_texts(&self) -> String {
        match self {
            Self::Leaf { .. } | Self::Json { .. } => "VARCHAR".to_owned(),
            Self::List(_) | Self::Struct(_) => self.duck_of(&Self::duck_texts),
        }
    }

    fn duck_of(&self, part: &dyn Fn(&Self) -> String) -> String {
        match self {
            Self::List(element) => format!("{}[]", part(element)),
            Self::Struct(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, shape)| format!("{} {}", ident(name), part(shape)))
                    .collect();
                format!("STRUCT({})", fields.join(", "))
            }
            Self::Leaf { .. } | Self::Json { .. } => part(self),
        }
    }

    /// At the source: the text of a value, or the JSON document of its parts' texts; NULL for NULL.
    pub(super) fn source_text(&self, value: &str) -> String {
        let text = match self {
            Self::Leaf { text, .. } | Self::Json { text } => fill(text, value),
            Self::List(_) | Self::Struct(_) => {
                return format!("({})::text", self.source_json(value, 0));
            }
        };
        format!("case when pg_catalog.num_nulls({value}) = 0 then {text} end")
    }

    fn source_json(&self, value: &str, depth: usize) -> String {
        let made = match self {
            Self::Leaf { text, .. } | Self::Json { text } => {
                format!("pg_catalog.to_json({})", fill(text, value))
            }
            Self::List(element) => {
                let index = format!("i{depth}");
                let part = element.source_json(&format!("({value})[{index}]"), depth + 1);
                format!(
                    "coalesce((select pg_catalog.json_agg({part} order by {index}) \
                     from pg_catalog.generate_subscripts({value}, 1) {index}), '[]')"
                )
            }
            Self::Struct(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, shape)| {
                        let part = format!("({value}).{}", ident(name));
                        format!(
                            "{}, {}",
                            crate::duckdb::literal(name),
                            shape.source_json(&part, depth)
                        )
                    })
                    .collect();
                format!("pg_catalog.json_build_object({})", fields.join(", "))
            }
        };
        // `is null` would be true of a row of NULLs.
        format!("case when pg_catalog.num_nulls({value}) = 0 then {made} end")
    }

    /// At the source: whether the lake's type lacks the value; never NULL.
    pub(super) fn source_unfit(&self, value: &str) -> String {
        let conditions = self.unfit_parts(value, 0);
        if conditions.is_empty() {
            return "false".to_owned();
        }
        format!("coalesce({}, false)", conditions.join(" or "))
    }

    fn unfit_parts(&self, value: &str, depth: usize) -> Vec<String> {
        match self {
            Self::Leaf { unfit, .. } => unfit
                .iter()
                .map(|unfit| format!("coalesce({}, false)", fill(unfit, value)))
                .collect(),
            Self::List(element) => {
                let mut conditions = vec![format!(
                    "coalesce(pg_catalog.array_ndims({value}) > 1 or pg_catalog.array_lower({value}, 1) <> 1, false)"
                )];
                let index = format!("i{depth}");
                let parts = element.unfit_parts(&format!("({value})[{index}]"), depth + 1);
                if !parts.is_empty() {
                    conditions.push(format!(
                        "exists (select from pg_catalog.generate_subscripts({value}, 1) {index} where {})",
                        parts.join(" or ")
                    ));
                }
                conditions
            }
            Self::Json { .. } => vec![format!(
                "coalesce(pg_catalog.array_lower({value}, 1) <> 1 or pg_catalog.array_lower({value}, 2) <> 1, false)"
            )],
            Self::Struct(fields) => fields
                .iter()
                .flat_map(|(name, shape)| {
                    shape.unfit_parts(&format!("({value}).{}", ident(name)), depth)
                })
                .collect(),
        }
    }

    /// In DuckDB: the canonical form of a value of the lake.
    pub(super) fn canonical(&self, value: &str) -> String {
        self.parts(value, 0, &|shape, value| match shape.duck().as_str() {
            "VARCHAR" => value.to_owned(),
            "BLOB" => format!("hex({value})"),
            // Printing a far timestamp with time zone loses digits.
            "TIMESTAMP" | "TIMESTAMP WITH TIME ZONE" => format!(
                "case when isinf({value}) then {value}::varchar else epoch_us({value})::varchar end"
            ),
            _ => format!("cast({value} as varchar)"),
        })
    }

    /// In DuckDB: the canonical form of what [`Self::source_text`] returned.
    pub(super) fn expected(&self, text: &str) -> String {
        let texts = match self {
            Self::Leaf { .. } | Self::Json { .. } => text.to_owned(),
            Self::List(_) | Self::Struct(_) => format!("({text}::JSON::{})", self.duck_texts()),
        };
        self.parts(&texts, 0, &|shape, text| {
            let duck = shape.duck();
            let typed = match duck.as_str() {
                "VARCHAR" | "JSON" => return text.to_owned(),
                "BLOB" => return format!("upper(substr({text}, 3))"),
                "DATE" => format!("cast(regexp_replace({text}, ' BC$', ' (BC)') as date)"),
                // Without the zone, which is always UTC: the cast to one with a time zone loses digits.
                "TIMESTAMP" | "TIMESTAMP WITH TIME ZONE" => format!(
                    r"cast(regexp_replace(replace({text}, '+00', ''), '^(\S+) (.*) BC$', '\1 (BC) \2') as timestamp)"
                ),
                other => format!("cast({text} as {other})"),
            };
            shape.canonical(&typed)
        })
    }

    /// Applies the expression `leaf` to all parts that have no parts of their own.
    pub(super) fn parts(
        &self,
        value: &str,
        depth: usize,
        leaf: &dyn Fn(&Self, &str) -> String,
    ) -> String {
        match self {
            Self::Leaf { .. } | Self::Json { .. } => leaf(self, value),
            Self::List(element) => {
                let name = format!("x{depth}");
                let part = element.parts(&name, depth + 1, leaf);
                format!("list_transform({value}, lambda {name}: {part})")
            }
            Self::Struct(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, shape)| {
                        let part = format!("({value}).{}", ident(name));
                        format!("{} := {}", ident(name), shape.parts(&part, depth, leaf))
                    })
                    .collect();
                format!(
                    "case when {value} is not null then struct_pack({}) end",
                    fields.join(", ")
                )
            }
        }
    }
}
