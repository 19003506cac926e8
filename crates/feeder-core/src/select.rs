//! Which source tables are fed, and into what: the configuration's rules against the tables there are.

use std::collections::BTreeMap;

use crate::config::{
    ArrayMapping, BackfillMode, ChangePolicy, FeederConfig, NumericMapping, TableRule,
};
use crate::current_view;
use crate::dead_letters;
use crate::error::{FeederError, FeederErrorKind};
use crate::layout::{BEFORE, META_NAMES};

/// Schema of the control tables; never fed.
pub(crate) const CONTROL_SCHEMA: &str = "duckfeeder";
/// Schema of the lake that tables go into unless a rule says otherwise.
const DEFAULT_TARGET_SCHEMA: &str = "raw";

/// A source table that is fed, with the settings of the rule that won.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Schema at the source.
    pub(crate) schema: String,
    /// Name at the source.
    pub(crate) name: String,
    /// Whether nobody named it: its rule has a glob.
    pub(crate) by_glob: bool,
    pub(crate) target_schema: String,
    pub(crate) target_table: String,
    pub(crate) exclude_columns: Vec<String>,
    pub(crate) row_filter: Option<String>,
    pub(crate) backfill: BackfillMode,
    pub(crate) numeric: BTreeMap<String, NumericMapping>,
    pub(crate) arrays: BTreeMap<String, ArrayMapping>,
    pub(crate) before_image: bool,
    pub(crate) changes: ChangePolicy,
}

/// Whether a table is the lake's or the feeder's own, which lie in the source where the catalog does.
fn is_of_the_lake(config: &FeederConfig, schema: &str, name: &str) -> bool {
    schema == CONTROL_SCHEMA
        || (schema == config.catalog.metadata_schema && name.starts_with("ducklake_"))
}

/// What the rules say of a table that may not be there any more; `None` when they leave it out.
pub(crate) fn one(config: &FeederConfig, schema: &str, name: &str) -> Option<Selection> {
    if is_of_the_lake(config, schema, name) {
        return None;
    }
    // A rule that names another table matches nothing here.
    let rules: Vec<Pattern<'_>> = config
        .tables
        .iter()
        .filter_map(|rule| Pattern::parse(rule).ok())
        .collect();
    winner(&rules, schema, name).map(|rule| selection(config, rule, schema, name))
}

/// What the rules make of the tables that there are.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) tables: Vec<Selection>,
    /// What the rules name and the source has not, and names in the lake that globs give to two tables: mistakes at a first
    /// start; later it is what became of the source.
    pub(crate) mistakes: Vec<FeederError>,
}

/// Applies the rules: an exact name beats a glob, a later rule beats an earlier one.
///
/// # Errors
/// A malformed rule, a rule that names the lake's own tables, or two tables, each of them named by a rule, that would share
/// a name in the lake (DuckDB ignores case).
pub(crate) fn select(
    config: &FeederConfig,
    tables: &[(String, String)],
) -> Result<Selected, FeederError> {
    let rules = config
        .tables
        .iter()
        .map(Pattern::parse)
        .collect::<Result<Vec<_>, _>>()?;
    if !rules.iter().any(|pattern| pattern.rule.enabled) {
        return Err(error("no tables are configured")
            .with_remedy("name at least one, for instance --tables 'public.*'"));
    }
    let own = |schema: &str, name: &str| is_of_the_lake(config, schema, name);
    let mut mistakes = Vec::new();
    for pattern in &rules {
        if let Some((schema, name)) = pattern.exact()
            && own(schema, name)
        {
            return Err(error(format!(
                "{} belongs to the lake itself and cannot be fed",
                pattern.rule.source
            )));
        }
        let matched = tables
            .iter()
            .any(|(schema, name)| pattern.matches(schema, name) && !own(schema, name));
        if !matched && pattern.rule.enabled {
            let (what, remedy) = if pattern.exact().is_some() {
                (
                    "the source has no table",
                    "create it, or correct the name (a name with capitals or dots needs no quotes, a dot inside a name does)",
                )
            } else {
                (
                    "no table of the source matches",
                    "correct the pattern; it has the form schema.table with * and ?",
                )
            };
            mistakes.push(error(format!("{what} {}", pattern.rule.source)).with_remedy(remedy));
        }
    }
    let mut selections = Vec::new();
    for (schema, name) in tables {
        if own(schema, name) {
            continue;
        }
        if let Some(rule) = winner(&rules, schema, name) {
            selections.push(selection(config, rule, schema, name));
        }
    }
    if selections.is_empty() {
        mistakes.push(error("the table rules leave no table to feed"));
    }
    for (between, clash) in clashes(&selections) {
        if between.iter().all(|selection| !selection.by_glob) {
            return Err(clash);
        }
        mistakes.push(clash);
    }
    Ok(Selected {
        tables: selections,
        mistakes,
    })
}

/// The rule that takes a table in.
fn winner<'a, 'r>(rules: &'r [Pattern<'a>], schema: &str, name: &str) -> Option<&'r Pattern<'a>> {
    let candidates = || rules.iter().filter(|rule| rule.matches(schema, name));
    candidates()
        .rfind(|pattern| pattern.exact().is_some())
        .or_else(|| candidates().next_back())
        .filter(|pattern| pattern.rule.enabled)
}

fn selection(config: &FeederConfig, pattern: &Pattern<'_>, schema: &str, name: &str) -> Selection {
    let rule = pattern.rule;
    let or = |value: &Option<String>, default: &str| value.clone().unwrap_or(default.to_owned());
    Selection {
        schema: schema.to_owned(),
        name: name.to_owned(),
        by_glob: pattern.exact().is_none(),
        target_schema: or(&rule.target_schema, DEFAULT_TARGET_SCHEMA),
        target_table: or(&rule.target_table, name),
        exclude_columns: rule.exclude_columns.clone(),
        row_filter: rule.row_filter.clone(),
        backfill: rule.backfill.unwrap_or(config.source.backfill),
        numeric: rule.numeric.clone(),
        arrays: rule.arrays.clone(),
        before_image: rule.before_image,
        changes: rule.changes.over(config.policy.changes),
    }
}

/// Tables that would get the same name in the lake: names that differ by case only hide one another in DuckDB, and views
/// take part.
fn clashes(selections: &[Selection]) -> Vec<(Vec<&Selection>, FeederError)> {
    let mut clashes = Vec::new();
    let mut taken: BTreeMap<(String, String), &Selection> = BTreeMap::new();
    for selection in selections {
        for name in names_in_lake(&selection.target_table) {
            if name.eq_ignore_ascii_case(dead_letters::TABLE) {
                let clash = error(format!(
                    "{}.{} would use the lake name {}.{name}, which is that of the dead letters",
                    selection.schema, selection.name, selection.target_schema
                ))
                .with_remedy("give it another target_table");
                clashes.push((vec![selection], clash));
            }
            let key = (selection.target_schema.to_lowercase(), name.to_lowercase());
            if let Some(other) = taken.insert(key, selection) {
                let clash = error(format!(
                    "{}.{} and {}.{} would both use the lake name {}.{name} (case is ignored, and each table has a view `<table>_current`)",
                    other.schema, other.name, selection.schema, selection.name, selection.target_schema
                ))
                .with_remedy("give one of them another target_schema or target_table");
                clashes.push((vec![other, selection], clash));
            }
        }
    }
    clashes
}

/// The names that a table takes in its schema of the lake: its own, and that of its view.
pub(crate) fn names_in_lake(target_table: &str) -> [String; 2] {
    [
        target_table.to_owned(),
        current_view::view_name(target_table),
    ]
}

/// Column names that DuckDB could not tell apart, from each other or from ours.
///
/// # Errors
/// Names the columns and the remedy.
pub(crate) fn check_columns<'a>(
    table: &str,
    columns: impl Iterator<Item = &'a str>,
) -> Result<(), FeederError> {
    let mut taken: BTreeMap<String, &str> = META_NAMES
        .into_iter()
        .chain([BEFORE])
        .map(|name| (name.to_owned(), name))
        .collect();
    for name in columns {
        if let Some(other) = taken.insert(name.to_lowercase(), name) {
            return Err(error(format!(
                "{table}: columns {other:?} and {name:?} have the same name in the lake, where case is ignored"
            ))
            .with_remedy("rename one of them, or list it in exclude_columns"));
        }
    }
    Ok(())
}

/// Schema and name of `schema.table`, without globs.
pub(crate) fn exact_name(text: &str) -> Result<(String, String), FeederError> {
    let rule = TableRule::new(text);
    let pattern = Pattern::parse(&rule)?;
    let (schema, name) = pattern
        .exact()
        .ok_or_else(|| error(format!("{text:?} is a pattern; name one table")))?;
    Ok((schema.to_owned(), name.to_owned()))
}

struct Pattern<'a> {
    rule: &'a TableRule,
    schema: Part,
    name: Part,
}

enum Part {
    Exact(String),
    Glob(Vec<char>),
}

impl<'a> Pattern<'a> {
    fn parse(rule: &'a TableRule) -> Result<Self, FeederError> {
        let malformed = || {
            error(format!(
                "table rule {:?} is not of the form schema.table",
                rule.source
            ))
            .with_remedy(
                "write schema.table; a dot inside a name needs double quotes around the name",
            )
        };
        let (schema, rest) = Part::parse(&rule.source).ok_or_else(malformed)?;
        let (name, rest) = rest
            .strip_prefix('.')
            .and_then(Part::parse)
            .ok_or_else(malformed)?;
        if !rest.is_empty() {
            return Err(malformed());
        }
        Ok(Self { rule, schema, name })
    }

    fn matches(&self, schema: &str, name: &str) -> bool {
        self.schema.matches(schema) && self.name.matches(name)
    }

    fn exact(&self) -> Option<(&str, &str)> {
        match (&self.schema, &self.name) {
            (Part::Exact(schema), Part::Exact(name)) => Some((schema, name)),
            _ => None,
        }
    }
}

impl Part {
    /// Splits one part off: `"quoted"` (exact) or everything up to the next dot.
    fn parse(text: &str) -> Option<(Self, &str)> {
        if let Some(quoted) = text.strip_prefix('"') {
            let (name, rest) = quoted.split_once('"')?;
            return (!name.is_empty()).then(|| (Self::Exact(name.to_owned()), rest));
        }
        let end = text.find('.').unwrap_or(text.len());
        let (part, rest) = text.split_at_checked(end)?;
        if part.is_empty() {
            return None;
        }
        if !part.contains(['*', '?']) {
            return Some((Self::Exact(part.to_owned()), rest));
        }
        Some((Self::Glob(part.chars().collect()), rest))
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(name) => name == text,
            Self::Glob(glob) => glob_matches(glob, &text.chars().collect::<Vec<_>>()),
        }
    }
}

/// `*` stands for any characters, `?` for one.
fn glob_matches(mut glob: &[char], mut text: &[char]) -> bool {
    // What follows the last `*`, and where it was tried.
    let mut retry: Option<(&[char], &[char])> = None;
    loop {
        match (glob.split_first(), text.split_first()) {
            (None, None) => return true,
            (Some(('*', rest)), _) => {
                retry = Some((rest, text));
                glob = rest;
            }
            (Some((wanted, rest)), Some((found, tail))) if *wanted == '?' || wanted == found => {
                glob = rest;
                text = tail;
            }
            _ => {
                let Some((rest, Some((_, tail)))) =
                    retry.map(|(rest, tried)| (rest, tried.split_first()))
                else {
                    return false;
                };
                retry = Some((rest, tail));
                glob = rest;
                text = tail;
            }
        }
    }
}

fn error(message: impl Into<String>) -> FeederError {
    FeederError::permanent(FeederErrorKind::Config, message)
}

#[cfg(test)]
mod tests;
