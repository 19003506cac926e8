//! `config show`: the merged result as TOML, each value with its origin, secrets hidden.

use std::fmt::Write as _;

use super::keys::{self, Fallback, Secrecy, Spec};
use super::layer::{Entry, Layer, Values};
use super::origin::Origin;
use super::raw::Raw;
use super::redact::{REDACTED, redact_url};

/// The merged layers as text.
pub(crate) fn show(layer: &Layer) -> String {
    let mut lines = Lines::default();
    for spec in section("") {
        key(&mut lines, spec, &layer.values, true);
    }
    for name in sections() {
        if name == "tables" {
            for entry in layer.tables.iter().flatten() {
                lines.push("[[tables]]", &entry.origin.to_string());
                for spec in section(name) {
                    key(&mut lines, spec, &entry.values, false);
                }
            }
        } else {
            lines.push(&format!("[{name}]"), "");
            for spec in section(name) {
                key(&mut lines, spec, &layer.values, true);
            }
        }
    }
    lines.render()
}

/// The sections, in the order in which they are shown.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for spec in keys::ALL {
        let name = spec.section();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The keys of a section.
pub(crate) fn section(name: &str) -> impl Iterator<Item = &'static Spec> {
    keys::ALL
        .iter()
        .copied()
        .filter(move |spec| spec.section() == name)
}

fn key(lines: &mut Lines, spec: &Spec, values: &Values, with_defaults: bool) {
    if let Some(Entry { raw, origin }) = values.get(spec.path) {
        let value = value(spec, raw);
        lines.push(&format!("{} = {value}", spec.name()), &origin.to_string());
        return;
    }
    if !with_defaults {
        return;
    }
    let default = Origin::Default.to_string();
    match spec.default {
        Fallback::Value(text) => {
            let raw = Raw::Unquoted(text.to_owned());
            lines.push(
                &format!("{} = {}", spec.name(), value(spec, &raw)),
                &default,
            );
        }
        Fallback::Derived(words) => {
            lines.push(&format!("# {} = {words}", spec.name()), &default);
        }
        Fallback::Required => lines.push(&format!("# {}", spec.name()), "missing"),
        Fallback::Absent => lines.push(&format!("# {}", spec.name()), "not set"),
    }
}

/// A value as TOML, unless it is a secret.
pub(crate) fn value(spec: &Spec, raw: &Raw) -> String {
    match (spec.secrecy, raw) {
        (Secrecy::Url, Raw::Text(url) | Raw::Unquoted(url)) => quote(&redact_url(url)),
        (Secrecy::Secret | Secrecy::Url, _) => quote(REDACTED),
        (Secrecy::Open, Raw::Unquoted(text)) if bare(spec, text) => text.clone(),
        (Secrecy::Open, raw) => plain(raw),
    }
}

/// Whether text from outside the file stands for something that TOML writes without quotes.
fn bare(spec: &Spec, text: &str) -> bool {
    match spec.kind {
        "boolean" => text == "true" || text == "false",
        "count" => {
            !text.is_empty()
                && !text.starts_with('0')
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'_')
                && !text.starts_with('_')
                && !text.ends_with('_')
                && !text.contains("__")
        }
        _ => false,
    }
}

fn plain(raw: &Raw) -> String {
    match raw {
        Raw::Boolean(value) => value.to_string(),
        Raw::Integer(Some(number)) => number.to_string(),
        Raw::Integer(None) => quote("(a number beyond 64 bits)"),
        Raw::Other(name) => quote(&format!("({name})")),
        Raw::Text(text) | Raw::Unquoted(text) => quote(text),
        Raw::List(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            format!("[{}]", items.join(", "))
        }
        Raw::Map(pairs) => {
            let pairs: Vec<String> = pairs
                .iter()
                .map(|(key, value)| format!("{} = {}", quote(key), plain(value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

/// Text as a basic string of TOML.
pub(crate) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Lines with a remark, remarks aligned.
#[derive(Default)]
struct Lines(Vec<(String, String)>);

impl Lines {
    fn push(&mut self, line: &str, remark: &str) {
        self.0.push((line.to_owned(), remark.to_owned()));
    }

    fn render(self) -> String {
        let width = self
            .0
            .iter()
            .map(|(line, _)| line.chars().count())
            .filter(|width| *width <= 60)
            .max();
        let width = width.unwrap_or(0);
        let mut text = String::new();
        for (line, remark) in self.0 {
            // Writing to a string cannot fail.
            let _ = if remark.is_empty() {
                writeln!(text, "{line}")
            } else {
                writeln!(text, "{line:<width$}  # {remark}")
            };
        }
        text
    }
}
