//! The environment layer.

use std::ffi::OsString;
use std::path::Path;

use super::error::ConfigError;
use super::keys::{self, PREFIX, Secrecy, Spec, environment_name};
use super::layer::{Layer, TableEntry};
use super::origin::Origin;
use super::parse::split_list;
use super::raw::Raw;
use super::suggest::nearest;

/// The variable that names the configuration file.
pub(crate) const CONFIG: &str = "DUCKFEEDER_CONFIG";
/// The variable that holds the log filter.
pub(crate) const LOG: &str = "DUCKFEEDER_LOG";
/// The variable that holds the list of tables.
pub(crate) const TABLES: &str = "DUCKFEEDER_TABLES";

/// Reads all variables that begin with `DUCKFEEDER_`. An empty one counts as absent.
pub(crate) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Layer, ConfigError> {
    let mut ours: Vec<(String, OsString)> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX) && !is_foreign(name))
        .collect();
    ours.sort();
    let mut layer = Layer::default();
    for (name, value) in ours {
        let origin = Origin::Environment(name.clone());
        let value = value.into_string().map_err(|_| {
            ConfigError::new("the value is not UTF-8", "set it to UTF-8 text").at(&origin)
        })?;
        let target = target(&name)?;
        if value.is_empty() {
            continue;
        }
        let spec = match target {
            Target::Tables => {
                let entries = split_list(&value)
                    .into_iter()
                    .map(|pattern| TableEntry::selecting(pattern, origin.clone()))
                    .collect();
                layer.tables = Some(entries);
                continue;
            }
            Target::Key(spec) => {
                insert(&mut layer, spec, value, origin)?;
                continue;
            }
            Target::FileOf(spec) => spec,
        };
        let content = std::fs::read_to_string(Path::new(&value)).map_err(|cause| {
            ConfigError::new(
                format!("`{}`: the file {value} cannot be read", spec.path),
                format!("let {name} name a readable file that holds the value"),
            )
            .at(&origin)
            .caused_by(cause)
        })?;
        let content = content.trim_end_matches(['\r', '\n']).to_owned();
        insert(&mut layer, spec, content, origin)?;
    }
    Ok(layer)
}

enum Target {
    Key(&'static Spec),
    FileOf(&'static Spec),
    Tables,
}

fn insert(
    layer: &mut Layer,
    spec: &'static Spec,
    value: String,
    origin: Origin,
) -> Result<(), ConfigError> {
    if let Some(other) = layer.values.get(spec.path) {
        return Err(ConfigError::new(
            format!(
                "`{}` is set twice, the other time by {}",
                spec.path, other.origin
            ),
            "unset one of the two",
        )
        .at(&origin));
    }
    layer.set(spec.path, Raw::Unquoted(value), origin);
    Ok(())
}

/// What a variable stands for. The dot of a key is `__`; a single `_` is understood too.
fn target(name: &str) -> Result<Target, ConfigError> {
    if name == TABLES {
        return Ok(Target::Tables);
    }
    let with_variable = || {
        keys::ALL
            .iter()
            .copied()
            .filter(|spec| spec.environment().is_some())
    };
    let find = |name: &str| with_variable().find(|spec| is_variable_of(name, spec.path));
    if let Some(spec) = find(name) {
        return Ok(Target::Key(spec));
    }
    if let Some(spec) = name.strip_suffix("_FILE").and_then(find)
        && spec.secrecy != Secrecy::Open
    {
        return Ok(Target::FileOf(spec));
    }
    let candidates: Vec<String> = with_variable()
        .filter_map(Spec::environment)
        .chain([TABLES.to_owned()])
        .collect();
    // The prefix is the same everywhere; only the rest says how near two names are.
    let rest = |name: &'_ str| name.strip_prefix(PREFIX).unwrap_or(name).replace("__", "_");
    let rests: Vec<String> = candidates.iter().map(|name| rest(name)).collect();
    let wanted = rest(name);
    let hit = nearest(&wanted, rests.iter().map(String::as_str))
        .and_then(|hit| rests.iter().position(|rest| rest == hit))
        .or_else(|| {
            rests
                .iter()
                .position(|rest| *rest == format!("{wanted}_URL"))
        })
        .and_then(|position| candidates.get(position));
    let remedy = match hit {
        Some(candidate) => format!("did you mean {candidate}?"),
        None => format!(
            "unset it; the variables are {PREFIX}<SECTION>__<KEY>, such as {}",
            environment_name("source.url")
        ),
    };
    Err(ConfigError::new(
        format!("unknown environment variable {name}"),
        remedy,
    ))
}

fn is_variable_of(name: &str, path: &str) -> bool {
    let long = environment_name(path);
    name == long || name == long.replace("__", "_")
}

/// Variables that are not configuration: our own switches, tests, and what Kubernetes sets in every
/// container for a service called `duckfeeder`.
fn is_foreign(name: &str) -> bool {
    matches!(
        name,
        CONFIG | LOG | "DUCKFEEDER_TOOLS_DIR" | "DUCKFEEDER_PORT"
    ) || [
        "DUCKFEEDER_TEST_",
        "DUCKFEEDER_SERVICE_HOST",
        "DUCKFEEDER_SERVICE_PORT",
        "DUCKFEEDER_PORT_",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}
