//! From a value as written to a value with a type. The messages say what is wanted, never what
//! was given where that could be a secret.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use duckfeeder::config::{
    ArrayMapping, BackfillMode, FeederName, KeylessPolicy, MaintenanceConfig, NumericMapping,
    OnDropColumn, OnDropPartition, OnDropTable, OnSchemaChange, OnTableError, OnTypeChange,
    OnUnrepresentable,
};
use duckfeeder::config::{PublicationName, SlotName, TlsMode};
use duckfeeder::storage::CreateOnly;

use super::raw::Raw;

/// What is wrong with one value, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Problem {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    fn wrong_type(wanted: &str, raw: &Raw, remedy: &str) -> Self {
        Self::new(format!("expected {wanted}, found {}", raw.found()), remedy)
    }
}

/// What is appended to a publication's name for tables without a replica identity.
const KEYLESS_SUFFIX: &str = "_ins";

type Parsed<T> = Result<T, Problem>;

/// Text that is not empty.
pub(crate) fn text(raw: &Raw) -> Parsed<String> {
    match raw {
        Raw::Text(text) | Raw::Unquoted(text) if text.trim().is_empty() => Err(Problem::new(
            "must not be empty",
            "give it a value, or remove it",
        )),
        Raw::Text(text) | Raw::Unquoted(text) => Ok(text.clone()),
        other => Err(Problem::wrong_type("text", other, "write it in quotes")),
    }
}

/// A path of the file system.
pub(crate) fn path(raw: &Raw) -> Parsed<PathBuf> {
    text(raw).map(PathBuf::from)
}

/// `true` or `false`.
pub(crate) fn boolean(raw: &Raw) -> Parsed<bool> {
    const REMEDY: &str = "write true or false";
    match raw {
        Raw::Boolean(value) => Ok(*value),
        Raw::Unquoted(text) => match text.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(Problem::new(
                format!("`{other}` is neither true nor false"),
                REMEDY,
            )),
        },
        other => Err(Problem::wrong_type("true or false", other, REMEDY)),
    }
}

/// A whole number from 1; underscores may group its digits.
pub(crate) fn count(raw: &Raw) -> Parsed<u64> {
    const REMEDY: &str = "write a whole number from 1, such as 1_000_000";
    let number = match raw {
        Raw::Integer(number) => number.and_then(|number| u64::try_from(number).ok()),
        Raw::Unquoted(text) => text.replace('_', "").parse().ok(),
        other => return Err(Problem::wrong_type("a whole number", other, REMEDY)),
    };
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| Problem::new("not a whole number from 1", REMEDY))
}

/// A number of parallel things, 1 to 64.
pub(crate) fn workers(raw: &Raw) -> Parsed<usize> {
    usize::try_from(count(raw)?)
        .ok()
        .filter(|workers| *workers <= 64)
        .ok_or_else(|| Problem::new("must not be above 64", "write a whole number from 1 to 64"))
}

/// A duration above zero, such as `5s` or `1m 30s`.
pub(crate) fn duration(raw: &Raw) -> Parsed<Duration> {
    const REMEDY: &str = "write a duration with its unit, such as \"5s\", \"500ms\" or \"2m\"";
    let (Raw::Text(text) | Raw::Unquoted(text)) = raw else {
        return Err(Problem::wrong_type("a duration", raw, REMEDY));
    };
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err(Problem::new("must be above zero", REMEDY)),
        Ok(duration) => Ok(duration),
        Err(_) => Err(Problem::new(format!("`{text}` is not a duration"), REMEDY)),
    }
}

/// How often something is done: a duration from one second, or `off`.
pub(crate) fn interval(raw: &Raw) -> Parsed<Option<Duration>> {
    if let Raw::Text(text) | Raw::Unquoted(text) = raw
        && text == "off"
    {
        return Ok(None);
    }
    at_least(raw, Duration::from_secs(1), "1s").map(Some)
}

/// The janitor's grace period.
pub(crate) fn grace(raw: &Raw) -> Parsed<Duration> {
    at_least(raw, MaintenanceConfig::MIN_GRACE, "1h")
}

fn at_least(raw: &Raw, shortest: Duration, name: &str) -> Parsed<Duration> {
    let given = duration(raw)?;
    if given < shortest {
        let what = format!("must not be below {name}");
        return Err(Problem::new(what, format!("write \"{name}\" or more")));
    }
    Ok(given)
}

/// A number of bytes above zero: a whole number, or text such as `256MiB`.
pub(crate) fn size(raw: &Raw) -> Parsed<u64> {
    const REMEDY: &str = "write a size such as \"256MiB\" or \"1GB\", or a number of bytes";
    let (Raw::Text(text) | Raw::Unquoted(text)) = raw else {
        return match raw {
            Raw::Integer(_) => count(raw).map_err(|_| Problem::new("must be above zero", REMEDY)),
            other => Err(Problem::wrong_type("a size", other, REMEDY)),
        };
    };
    match text.replace('_', "").parse::<ByteSize>() {
        Ok(size) if size.as_u64() > 0 => Ok(size.as_u64()),
        Ok(_) => Err(Problem::new("must be above zero", REMEDY)),
        Err(_) => Err(Problem::new(format!("`{text}` is not a size"), REMEDY)),
    }
}

/// A list of texts; where lists cannot be written, commas separate.
pub(crate) fn list(raw: &Raw) -> Parsed<Vec<String>> {
    match raw {
        Raw::List(items) => items.iter().map(text).collect(),
        Raw::Unquoted(joined) => Ok(split_list(joined)),
        other => Err(Problem::wrong_type(
            "a list of texts",
            other,
            "write a list such as [\"a\", \"b\"]",
        )),
    }
}

/// The entries of a list with commas, without the empty ones.
pub(crate) fn split_list(joined: &str) -> Vec<String> {
    joined
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The name of a feeder.
pub(crate) fn feeder_name(raw: &Raw) -> Parsed<FeederName> {
    let name = text(raw)?;
    FeederName::parse(&name).map_err(|_| {
        Problem::new(
            format!("`{name}` is not a feeder name"),
            "use 1 to 40 characters of a-z, 0-9 and _",
        )
    })
}

/// The name of a replication slot.
pub(crate) fn slot(raw: &Raw) -> Parsed<SlotName> {
    let name = text(raw)?;
    SlotName::parse(&name).map_err(|_| {
        Problem::new(
            format!("`{name}` is not a slot name"),
            "use 1 to 63 characters of a-z, 0-9 and _",
        )
    })
}

/// The name of a publication, short enough for the second one beside it.
pub(crate) fn publication(raw: &Raw) -> Parsed<PublicationName> {
    let name = text(raw)?;
    let twin = format!("{name}{KEYLESS_SUFFIX}");
    match (PublicationName::parse(&name), PublicationName::parse(&twin)) {
        (Ok(publication), Ok(_)) => Ok(publication),
        _ => Err(Problem::new(
            format!("`{name}` is not a publication name"),
            "use 1 to 59 bytes, so that `_ins` can be appended",
        )),
    }
}

/// An address to listen on.
pub(crate) fn address(raw: &Raw) -> Parsed<SocketAddr> {
    let given = text(raw)?;
    given.parse().map_err(|_| {
        Problem::new(
            format!("`{given}` is not an address with a port"),
            "write an IP address and a port, such as \"127.0.0.1:9187\" or \"[::]:9187\"",
        )
    })
}

/// `schema.table`, with globs.
pub(crate) fn table_pattern(raw: &Raw) -> Parsed<String> {
    let pattern = text(raw)?;
    match pattern.split_once('.') {
        Some((schema, table)) if !schema.is_empty() && !table.is_empty() => Ok(pattern),
        _ => Err(Problem::new(
            format!("`{pattern}` names no schema"),
            "write schema.table, such as \"public.orders\" or \"public.*\"",
        )),
    }
}

fn choice<T: Copy>(raw: &Raw, choices: &[(&str, T)]) -> Parsed<T> {
    let names: Vec<String> = choices
        .iter()
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    let remedy = match names.split_last() {
        Some((last, [])) => format!("write {last}"),
        Some((last, rest)) => format!("write {} or {last}", rest.join(", ")),
        None => String::new(),
    };
    let (Raw::Text(given) | Raw::Unquoted(given)) = raw else {
        return Err(Problem::wrong_type("text", raw, &remedy));
    };
    choices
        .iter()
        .find(|(name, _)| name == given)
        .map(|(_, value)| *value)
        .ok_or_else(|| Problem::new(format!("unknown value `{given}`"), remedy))
}

/// How TLS is used; libpq's `sslmode`.
pub(crate) fn tls(raw: &Raw) -> Parsed<TlsMode> {
    choice(
        raw,
        &[
            ("disable", TlsMode::Disable),
            ("prefer", TlsMode::Prefer),
            ("require", TlsMode::Require),
            ("verify-ca", TlsMode::VerifyCa),
            ("verify-full", TlsMode::VerifyFull),
        ],
    )
}

/// What happens to tables without a replica identity.
pub(crate) fn keyless(raw: &Raw) -> Parsed<KeylessPolicy> {
    choice(
        raw,
        &[
            ("auto", KeylessPolicy::Auto),
            ("refuse", KeylessPolicy::Refuse),
            ("inserts", KeylessPolicy::Inserts),
        ],
    )
}

/// Whether existing rows are copied.
pub(crate) fn backfill(raw: &Raw) -> Parsed<BackfillMode> {
    choice(
        raw,
        &[
            ("initial", BackfillMode::Initial),
            ("never", BackfillMode::Never),
        ],
    )
}

/// What a table's error does to the others.
pub(crate) fn on_table_error(raw: &Raw) -> Parsed<OnTableError> {
    choice(
        raw,
        &[
            ("isolate", OnTableError::Isolate),
            ("hold", OnTableError::Hold),
        ],
    )
}

/// What happens to a value the lake's type cannot hold.
pub(crate) fn on_unrepresentable(raw: &Raw) -> Parsed<OnUnrepresentable> {
    choice(
        raw,
        &[
            ("null", OnUnrepresentable::Null),
            ("stop", OnUnrepresentable::Stop),
        ],
    )
}

/// [`ChangePolicy::on_schema_change`](duckfeeder::config::ChangePolicy::on_schema_change).
pub(crate) fn on_schema_change(raw: &Raw) -> Parsed<OnSchemaChange> {
    choice(
        raw,
        &[
            ("follow", OnSchemaChange::Follow),
            ("additive_only", OnSchemaChange::AdditiveOnly),
            ("stop", OnSchemaChange::Stop),
        ],
    )
}

/// [`ChangePolicy::on_drop_column`](duckfeeder::config::ChangePolicy::on_drop_column).
pub(crate) fn on_drop_column(raw: &Raw) -> Parsed<OnDropColumn> {
    choice(
        raw,
        &[("keep", OnDropColumn::Keep), ("drop", OnDropColumn::Drop)],
    )
}

/// [`ChangePolicy::on_type_change`](duckfeeder::config::ChangePolicy::on_type_change).
pub(crate) fn on_type_change(raw: &Raw) -> Parsed<OnTypeChange> {
    choice(
        raw,
        &[
            ("new_column", OnTypeChange::NewColumn),
            ("stop", OnTypeChange::Stop),
        ],
    )
}

/// [`ChangePolicy::on_drop_table`](duckfeeder::config::ChangePolicy::on_drop_table).
pub(crate) fn on_drop_table(raw: &Raw) -> Parsed<OnDropTable> {
    choice(
        raw,
        &[("keep", OnDropTable::Keep), ("drop", OnDropTable::Drop)],
    )
}

/// [`ChangePolicy::on_drop_partition`](duckfeeder::config::ChangePolicy::on_drop_partition).
pub(crate) fn on_drop_partition(raw: &Raw) -> Parsed<OnDropPartition> {
    choice(
        raw,
        &[
            ("stop", OnDropPartition::Stop),
            ("keep", OnDropPartition::Keep),
            ("resync", OnDropPartition::Resync),
        ],
    )
}

/// How objects are kept from being replaced.
pub(crate) fn create_only(raw: &Raw) -> Parsed<CreateOnly> {
    choice(
        raw,
        &[
            ("conditional", CreateOnly::Conditional),
            ("head", CreateOnly::Head),
        ],
    )
}

/// The URL of a server: scheme, host and port.
pub(crate) fn endpoint(raw: &Raw) -> Parsed<String> {
    const REMEDY: &str =
        "write http:// or https:// with host and port, such as \"http://127.0.0.1:9000\"";
    let text = text(raw)?;
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest)) {
        Some(rest) if !rest.is_empty() && !rest.contains(['/', '?', '#', '@']) => Ok(text),
        // It may hold a secret where none belongs.
        _ => Err(Problem::new("is no URL of a server", REMEDY)),
    }
}

/// How unbounded numeric is stored: `varchar`, `float64` or `decimal(p,s)`.
pub(crate) fn numeric(raw: &Raw) -> Parsed<NumericMapping> {
    const REMEDY: &str =
        "write \"varchar\", \"float64\" or \"decimal(p,s)\" with p from 1 to 38 and s from 0 to p";
    let (Raw::Text(given) | Raw::Unquoted(given)) = raw else {
        return Err(Problem::wrong_type("text", raw, REMEDY));
    };
    let compact: String = given.chars().filter(|c| !c.is_whitespace()).collect();
    match compact.as_str() {
        "varchar" => return Ok(NumericMapping::Varchar),
        "float64" => return Ok(NumericMapping::Float64),
        _ => {}
    }
    let unknown = || Problem::new(format!("unknown value `{given}`"), REMEDY);
    let (precision, scale) = compact
        .strip_prefix("decimal(")
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|digits| digits.split_once(','))
        .ok_or_else(unknown)?;
    let (Ok(precision), Ok(scale)) = (precision.parse::<u8>(), scale.parse::<u8>()) else {
        return Err(unknown());
    };
    if !(1..=38).contains(&precision) || scale > precision {
        return Err(unknown());
    }
    Ok(NumericMapping::Decimal { precision, scale })
}

/// A column name each with its [`numeric`] mapping.
pub(crate) fn numeric_columns(raw: &Raw) -> Parsed<BTreeMap<String, NumericMapping>> {
    by_column(raw, numeric, "write { column = \"decimal(38,9)\" }")
}

/// A column name each with how its arrays are stored.
pub(crate) fn array_columns(raw: &Raw) -> Parsed<BTreeMap<String, ArrayMapping>> {
    let mapping = |raw: &Raw| {
        choice(
            raw,
            &[("list", ArrayMapping::List), ("json", ArrayMapping::Json)],
        )
    };
    by_column(raw, mapping, "write { column = \"json\" }")
}

fn by_column<T>(
    raw: &Raw,
    parse: impl Fn(&Raw) -> Parsed<T>,
    remedy: &'static str,
) -> Parsed<BTreeMap<String, T>> {
    let Raw::Map(columns) = raw else {
        return Err(Problem::wrong_type("a table of columns", raw, remedy));
    };
    columns
        .iter()
        .map(|(column, raw)| match parse(raw) {
            Ok(mapping) => Ok((column.clone(), mapping)),
            Err(problem) => Err(Problem::new(
                format!("column `{column}`: {}", problem.what),
                problem.remedy,
            )),
        })
        .collect()
}
