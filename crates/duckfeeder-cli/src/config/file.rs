//! The file layer: TOML, with the line of every value.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::keys::{self, Spec};
use super::layer::{Entry, Layer, TableEntry, Values};
use super::origin::Origin;
use super::raw::Raw;
use super::suggest::nearest;

/// Reads a configuration file.
pub(crate) fn read(path: &Path) -> Result<Layer, ConfigError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|cause| {
        ConfigError::new(
            format!("the configuration file {name} cannot be read"),
            "check that it exists, that it can be read and that it is UTF-8; `duckfeeder init` writes one",
        )
        .caused_by(cause)
    })?;
    parse(&name, &text)
}

/// Reads the text of a configuration file called `name`.
pub(crate) fn parse(name: &str, text: &str) -> Result<Layer, ConfigError> {
    let source = Source {
        name: Arc::from(name),
        text,
    };
    let document = DeTable::parse(text).map_err(|error| {
        let place = source.origin(error.span().map_or(0, |span| span.start));
        ConfigError::new(
            format!("{name} is not TOML: {}", error.message()),
            "correct the line; text is written in quotes",
        )
        .at(&place)
    })?;
    let mut layer = Layer::default();
    for (key, value) in in_order(document.get_ref()) {
        let section: &str = key.get_ref();
        let place = source.origin(key.span().start);
        if section == "tables" {
            layer.tables = Some(tables(&source, value, &place)?);
        } else if let Some(spec) = keys::find(section) {
            layer.values.insert(spec.path, source.entry(key, value));
        } else if is_section(section) {
            let DeValue::Table(table) = value.get_ref() else {
                return Err(ConfigError::new(
                    format!(
                        "`{section}` is a section, found {}",
                        raw(value.get_ref()).found()
                    ),
                    format!(
                        "write [{section}] and its keys below it: {}",
                        names(section)
                    ),
                )
                .at(&place));
            };
            fill(&source, section, table, &mut layer.values)?;
        } else {
            return Err(unknown("", section).at(&place));
        }
    }
    Ok(layer)
}

struct Source<'a> {
    name: Arc<str>,
    text: &'a str,
}

impl Source<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.bytes().take(offset);
        Origin::File {
            path: Arc::clone(&self.name),
            line: 1 + before.filter(|byte| *byte == b'\n').count(),
        }
    }

    fn entry<K>(&self, key: &Spanned<K>, value: &Spanned<DeValue<'_>>) -> Entry {
        Entry {
            raw: raw(value.get_ref()),
            origin: self.origin(key.span().start),
        }
    }
}

/// The pairs of a table in the order of the file, so that the first error is the topmost one.
fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(
    &'t Spanned<std::borrow::Cow<'i, str>>,
    &'t Spanned<DeValue<'i>>,
)> {
    let mut pairs: Vec<_> = table.iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    pairs
}

fn fill(
    source: &Source<'_>,
    section: &str,
    table: &DeTable<'_>,
    values: &mut Values,
) -> Result<(), ConfigError> {
    for (key, value) in in_order(table) {
        let path = format!("{section}.{}", key.get_ref());
        let Some(spec) = keys::find(&path) else {
            return Err(unknown(section, key.get_ref()).at(&source.origin(key.span().start)));
        };
        values.insert(spec.path, source.entry(key, value));
    }
    Ok(())
}

fn tables(
    source: &Source<'_>,
    value: &Spanned<DeValue<'_>>,
    place: &Origin,
) -> Result<Vec<TableEntry>, ConfigError> {
    let wrong = |raw: Raw| {
        ConfigError::new(
            format!("`tables` is a list of sections, found {}", raw.found()),
            "write [[tables]] and below it source = \"schema.table\", once for each entry",
        )
        .at(place)
    };
    let DeValue::Array(items) = value.get_ref() else {
        return Err(wrong(raw(value.get_ref())));
    };
    let mut entries = Vec::with_capacity(items.len());
    for item in items {
        let DeValue::Table(table) = item.get_ref() else {
            return Err(wrong(Raw::List(vec![raw(item.get_ref())])));
        };
        let mut entry = TableEntry {
            origin: source.origin(item.span().start),
            values: Values::new(),
        };
        fill(source, "tables", table, &mut entry.values)?;
        entries.push(entry);
    }
    Ok(entries)
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => {
            Raw::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
        }
        DeValue::Float(_) => Raw::Other("a number with a fraction"),
        DeValue::Boolean(value) => Raw::Boolean(*value),
        DeValue::Datetime(_) => Raw::Other("a date or time"),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Table(table) => Raw::Map(
            in_order(table)
                .into_iter()
                .map(|(key, value)| (key.get_ref().to_string(), raw(value.get_ref())))
                .collect(),
        ),
    }
}

fn is_section(name: &str) -> bool {
    keys::ALL.iter().any(|spec| spec.section() == name)
}

fn in_section(section: &str) -> impl Iterator<Item = &'static Spec> {
    keys::ALL
        .iter()
        .copied()
        .filter(move |spec| spec.section() == section)
}

fn names(section: &str) -> String {
    let names: Vec<_> = in_section(section).map(Spec::name).collect();
    names.join(", ")
}

/// The error of a key that does not exist; `section` is empty at the top of the file.
fn unknown(section: &str, name: &str) -> ConfigError {
    let path = if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    };
    let mut candidates: Vec<&str> = in_section(section).map(Spec::name).collect();
    if section.is_empty() {
        candidates.extend([
            "source", "tables", "catalog", "storage", "policy", "flush", "limits", "server",
        ]);
    }
    let remedy = match nearest(name, candidates.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        // The right name below the wrong heading.
        None => match keys::ALL.iter().find(|spec| spec.name() == name) {
            Some(spec) if spec.section().is_empty() => {
                format!("`{name}` belongs to the top of the file, above all sections")
            }
            Some(spec) => format!("`{name}` belongs to [{}]", spec.section()),
            None if section.is_empty() => {
                format!("at the top of the file there are {}", candidates.join(", "))
            }
            None => format!("the keys of [{section}] are {}", candidates.join(", ")),
        },
    };
    ConfigError::new(format!("unknown key `{path}`"), remedy)
}
