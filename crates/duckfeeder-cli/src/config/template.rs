//! The configuration file that `init` writes: every key with its meaning, defaults commented out.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Merged;
use super::keys::{Fallback, Secrecy, Spec};
use super::raw::Raw;
use super::redact::strip_url;
use super::show::{quote, section, sections, value};

/// Tables that are listed by name; more are counted.
const LISTED_TABLES: usize = 100;
/// Width of a comment.
const WIDTH: usize = 100;

/// The text of a new configuration file. What flags and environment gave is filled in, without
/// passwords; `found` are the tables of the source.
pub(crate) fn render(merged: &Merged, found: &[String]) -> String {
    let mut text = String::new();
    comment(
        &mut text,
        "Configuration of duckfeeder. What is commented out shows its default. Flags and environment \
         variables (DUCKFEEDER_<SECTION>__<KEY>) override this file. `duckfeeder check` says what is missing.",
    );
    text.push('\n');
    for spec in section("") {
        key(&mut text, spec, merged);
    }
    for name in sections() {
        if name == "tables" {
            tables(&mut text, merged, found);
        } else {
            line(&mut text, &format!("[{name}]"));
            for spec in section(name) {
                key(&mut text, spec, merged);
            }
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn key(text: &mut String, spec: &Spec, merged: &Merged) {
    comment(text, spec.meaning);
    if let Some(given) = merged.text(spec.path) {
        match spec.secrecy {
            Secrecy::Open => {
                let given = value(spec, &Raw::Unquoted(given.to_owned()));
                return line(text, &format!("{} = {given}", spec.name()));
            }
            Secrecy::Url => {
                return line(
                    text,
                    &format!("{} = {}", spec.name(), quote(&strip_url(given))),
                );
            }
            Secrecy::Secret => {}
        }
    }
    match spec.default {
        Fallback::Value(default) => {
            let default = value(spec, &Raw::Unquoted(default.to_owned()));
            line(text, &format!("# {} = {default}", spec.name()));
        }
        Fallback::Derived(words) => {
            line(
                text,
                &format!("# {} = \"...\"  # default: {words}", spec.name()),
            );
        }
        Fallback::Required => line(text, &format!("{} = \"\"  # required", spec.name())),
        Fallback::Absent => line(text, &format!("# {} = \"...\"", spec.name())),
    }
}

fn tables(text: &mut String, merged: &Merged, found: &[String]) {
    if !found.is_empty() {
        comment(text, &format!("The source has {} tables:", found.len()));
        for table in found.iter().take(LISTED_TABLES) {
            line(text, &format!("#   {table}"));
        }
        if let Some(more) = found
            .len()
            .checked_sub(LISTED_TABLES)
            .filter(|more| *more > 0)
        {
            line(text, &format!("#   and {more} more"));
        }
    }
    let given: Vec<&str> = merged
        .0
        .tables
        .iter()
        .flatten()
        .filter_map(|entry| match &entry.values.get("tables.source")?.raw {
            Raw::Text(pattern) | Raw::Unquoted(pattern) => Some(pattern.as_str()),
            _ => None,
        })
        .collect();
    let patterns: Vec<String> = if !given.is_empty() {
        given.into_iter().map(str::to_owned).collect()
    } else if found.is_empty() {
        vec!["public.*".to_owned()]
    } else {
        let schemas: BTreeSet<&str> = found
            .iter()
            .filter_map(|table| Some(table.split_once('.')?.0))
            .collect();
        schemas
            .into_iter()
            .map(|schema| format!("{schema}.*"))
            .collect()
    };
    for pattern in patterns {
        line(text, "[[tables]]");
        line(text, &format!("source = {}", quote(&pattern)));
    }
    comment(text, "More entries as needed; each may have:");
    for spec in section("tables") {
        comment(text, &format!("{}: {}", spec.name(), spec.meaning));
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn comment(text: &mut String, words: &str) {
    let mut current = String::from("#");
    for word in words.split_whitespace() {
        if current.len() > 1 && current.chars().count() + 1 + word.chars().count() > WIDTH {
            line(text, &current);
            current = String::from("#");
        }
        current.push(' ');
        current.push_str(word);
    }
    line(text, &current);
}
