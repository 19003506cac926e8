//! The source: the server, the slot, the tables and the publications.

use std::collections::BTreeSet;

use cdc_source::server::Route;
use cdc_source::{
    Connection, Endpoint, Publication, ServerFacts, ServerVersion, SessionKind, SlotInfo,
    SourceErrorKind, SystemIdentity, server, slot, tables,
};
use pgoutput::{Lsn, Oid};

use super::{Finding, privileges};
use crate::config::FeederConfig;
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::plan::TablePlan;
use crate::types::Reader;
use crate::{publish, select};

/// The source as it is, and what speaks against feeding it.
pub(crate) struct SourceInspection {
    pub(crate) connection: Connection,
    pub(crate) identity: SystemIdentity,
    pub(crate) slot: Option<SlotInfo>,
    pub(crate) plans: Vec<TablePlan>,
    /// All tables that there are, fed or not.
    pub(crate) existing: BTreeSet<u32>,
    /// A position of the WAL behind all that was seen.
    pub(crate) position: Lsn,
    pub(crate) publications: Vec<Publication>,
    pub(crate) findings: Vec<Finding>,
}

/// Looks at the source.
///
/// # Errors
/// Only what keeps it from looking further.
pub(crate) async fn source(config: &FeederConfig) -> Result<SourceInspection, FeederError> {
    let look = look(config).await?;
    Ok(SourceInspection {
        identity: look.identity.map_err(Finding::into_error)?,
        connection: look.connection,
        slot: look.slot,
        plans: look.plans,
        existing: look.existing,
        position: look.position,
        publications: look.publications,
        findings: look.findings,
    })
}

/// A [`SourceInspection`] that has no identity when the role may not replicate.
pub(super) struct Look {
    connection: Connection,
    pub(super) identity: Result<SystemIdentity, Finding>,
    pub(super) slot: Option<SlotInfo>,
    plans: Vec<TablePlan>,
    existing: BTreeSet<u32>,
    position: Lsn,
    publications: Vec<Publication>,
    pub(super) findings: Vec<Finding>,
}

pub(super) async fn look(config: &FeederConfig) -> Result<Look, FeederError> {
    let endpoint = &config.source.endpoint;
    let mut connection = Connection::connect(endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)?;
    let facts = server::facts(&mut connection).await.map_err(from_source)?;
    let mut findings = server_findings(&facts);
    findings.extend(encoding_finding(&endpoint.database, &facts.server_encoding));
    let identity = replication_identity(endpoint, &facts).await?;
    let slot = slot::inspect(&mut connection, &config.source.slot)
        .await
        .map_err(from_source)?;
    findings.extend(slot.as_ref().and_then(|slot| slot_finding(config, slot)));
    findings.extend(slots_finding(&facts, slot.is_some()));
    if identity.is_ok() {
        findings.extend(senders_finding(&facts, slot.as_ref()));
    }

    let listed = tables::list_tables(&mut connection)
        .await
        .map_err(from_source)?;
    let names: Vec<(String, String)> = listed
        .iter()
        .map(|table| (table.schema.clone(), table.name.clone()))
        .collect();
    let select::Selected {
        tables: selections,
        mistakes,
    } = select::select(config, &names)?;
    findings.extend(
        mistakes
            .iter()
            .map(|error| Finding::from_error("tables", error).at_first()),
    );
    let oids: Vec<Oid> = listed
        .iter()
        .filter(|table| {
            selections
                .iter()
                .any(|selection| selection.schema == table.schema && selection.name == table.name)
        })
        .map(|table| table.oid)
        .collect();
    let infos = tables::describe(&mut connection, &oids)
        .await
        .map_err(from_source)?;
    let columns: Vec<Oid> = infos
        .iter()
        .flat_map(|info| &info.columns)
        .map(|column| column.type_oid)
        .collect();
    let types = tables::type_closure(&mut connection, &columns)
        .await
        .map_err(from_source)?;
    let publications = publish::read(&mut connection, config).await?;
    let mut plans = Vec::new();
    for selection in selections {
        let info = infos
            .iter()
            .find(|info| info.id.schema == selection.schema && info.id.name == selection.name);
        if let Some(info) = info {
            let stored =
                publish::stored_columns(config, facts.version.major(), &publications, info);
            let plan = TablePlan::new(config, selection, info.clone(), &types, stored);
            plans.push(plan.on_server(facts.version.major()));
        }
    }
    for plan in &plans {
        let of_the_table = plan
            .findings(config)
            .into_iter()
            .chain(plan.publishing_findings(facts.version.major()));
        findings.extend(of_the_table.map(|finding| {
            if plan.selection.by_glob {
                finding.of_newcomer(plan.info.id.oid)
            } else {
                finding
            }
        }));
    }
    findings.extend(numeric_finding(&plans));
    let published = publish::findings(config, &mut connection, &plans, &publications).await?;
    if config.source.manage_publication && published.is_empty() {
        let lacking =
            privileges::publishing(config, &mut connection, &facts, &plans, &publications).await?;
        findings.extend(lacking);
    }
    findings.extend(published);
    findings.push(Finding::ok(
        "source",
        format!("Postgres {}, {} tables to feed", facts.version, plans.len()),
    ));
    // A standby has none, and is refused.
    let position = if facts.in_recovery {
        Lsn::ZERO
    } else {
        server::wal_position(&mut connection)
            .await
            .map_err(from_source)?
    };
    Ok(Look {
        connection,
        identity,
        slot,
        plans,
        existing: listed.iter().map(|table| table.oid.get()).collect(),
        position,
        publications,
        findings,
    })
}

/// Opens a replication connection, which is the only proof that the role may: managed services grant it by membership in
/// a role of theirs.
async fn replication_identity(
    endpoint: &Endpoint,
    facts: &ServerFacts,
) -> Result<Result<SystemIdentity, Finding>, FeederError> {
    let mut replication = match Connection::connect(endpoint, SessionKind::Replication).await {
        Ok(replication) => replication,
        Err(error) if error.kind() == SourceErrorKind::Privilege => {
            return Ok(Err(may_not_replicate(facts)));
        }
        Err(error) if facts.used_wal_senders >= facts.max_wal_senders => {
            tracing::debug!(error = %error, "no replication connection");
            return Ok(Err(no_sender(facts)));
        }
        Err(error) => return Err(from_source(error)),
    };
    let identity = replication.identify_system().await.map_err(from_source)?;
    replication.close().await;
    Ok(Ok(identity))
}

fn may_not_replicate(facts: &ServerFacts) -> Finding {
    Finding::failed(
        "replication privilege".to_owned(),
        FeederErrorKind::Source,
        format!("role {} may not replicate", facts.role),
        "give it the REPLICATION attribute; where a managed service does not let you, make it a member of the service's role for that (rds_replication on RDS and Aurora)".to_owned(),
    )
    .with_sql(format!(
        "ALTER ROLE {} REPLICATION;",
        cdc_source::quote_ident(&facts.role)
    ))
}

/// One that is free by the next try is as good.
fn no_sender(facts: &ServerFacts) -> Finding {
    Finding::failed(
        "walsenders".to_owned(),
        FeederErrorKind::Source,
        format!("all {} walsenders are in use", facts.max_wal_senders),
        "end one that nobody needs (pg_stat_replication), or raise max_wal_senders (a restart)"
            .to_owned(),
    )
    .with_sql(format!(
        "ALTER SYSTEM SET max_wal_senders = {};",
        facts.max_wal_senders.saturating_add(WANTED)
    ))
    .passing()
}

/// What a feeder takes of slots and walsenders: one for the stream, one while tables are copied.
const WANTED: u32 = 2;

fn slots_finding(facts: &ServerFacts, made: bool) -> Option<Finding> {
    let (max, used) = (facts.max_replication_slots, facts.used_replication_slots);
    let free = max.saturating_sub(used);
    let raise = format!(
        "ALTER SYSTEM SET max_replication_slots = {};",
        used.saturating_add(WANTED)
    );
    if !made && free == 0 {
        let remedy = "drop one that nobody needs, or raise max_replication_slots (a restart)";
        let finding = Finding::failed(
            "replication slots".to_owned(),
            FeederErrorKind::Source,
            format!("all {max} replication slots are in use"),
            remedy.to_owned(),
        );
        return Some(finding.with_sql(raise));
    }
    let wanted = if made { 1 } else { WANTED };
    (free < wanted).then(|| {
        Finding::warning(
            "replication slots",
            format!("{used} of {max} replication slots are in use: none is left for the copy of a table that is added later, or copied again"),
            "drop one that nobody needs, or raise max_replication_slots (a restart)".to_owned(),
        )
        .with_sql(raise)
    })
}

fn senders_finding(facts: &ServerFacts, slot: Option<&SlotInfo>) -> Option<Finding> {
    let (max, used) = (facts.max_wal_senders, facts.used_wal_senders);
    let streams = slot.is_some_and(|slot| slot.active);
    let wanted = if streams { 1 } else { WANTED };
    (max.saturating_sub(used) < wanted).then(|| {
        Finding::warning(
            "walsenders",
            format!("{used} of {max} walsenders are in use: none is left for the copy of a table that is added later, or copied again"),
            "end one that nobody needs, or raise max_wal_senders (a restart)".to_owned(),
        )
        .with_sql(format!(
            "ALTER SYSTEM SET max_wal_senders = {};",
            used.saturating_add(WANTED)
        ))
    })
}

fn server_findings(facts: &ServerFacts) -> Vec<Finding> {
    let failed = |check: &str, message: String, remedy: &str| {
        Finding::failed(
            check.to_owned(),
            FeederErrorKind::Source,
            message,
            remedy.to_owned(),
        )
    };
    let mut findings = Vec::new();
    if facts.version.major() < 14 {
        findings.push(failed(
            "source version",
            format!("the source is Postgres {}", facts.version),
            "duckfeeder needs Postgres 14 or later",
        ));
    }
    if let Some(fixed) = keeps_stale_caches(facts.version) {
        findings.push(Finding::warning(
            "source release",
            format!(
                "Postgres {} may miss changes of a table that is added to a publication while transactions write to it",
                facts.version
            ),
            format!("upgrade the source to {fixed} or later"),
        ));
    }
    if facts.in_recovery {
        findings.push(failed(
            "source role",
            "the source is a standby in recovery".to_owned(),
            "point source.url at the primary",
        ));
    }
    if facts.wal_level != "logical" {
        findings.push(
            failed(
                "wal_level",
                format!("wal_level is {}", facts.wal_level),
                "set wal_level to logical and restart the source",
            )
            .with_sql("ALTER SYSTEM SET wal_level = 'logical';".to_owned()),
        );
    }
    if facts.route == Route::TransactionPooler {
        findings.push(failed(
            "direct connection",
            "a transaction pooler is in front of the source".to_owned(),
            "use the address of the server itself: replication needs a session of its own",
        ));
    }
    if facts.synchronous_standby_names.contains('*') {
        findings.push(failed(
            "synchronous_standby_names",
            "synchronous_standby_names = '*' makes the source's commits wait for the feeder"
                .to_owned(),
            "name the standbys that are meant",
        ));
    }
    if facts.max_slot_wal_keep_size.is_none() {
        findings.push(Finding::warning(
            "max_slot_wal_keep_size",
            "nothing bounds the WAL that a slot retains: a feeder that is down can fill the source's disk".to_owned(),
            "set max_slot_wal_keep_size to what the disk can spare".to_owned(),
        ));
    }
    findings
}

/// The first release of the same major version whose decoding forgets what it knew of a table's publications, if this one is
/// older (rule 6).
fn keeps_stale_caches(version: ServerVersion) -> Option<ServerVersion> {
    let fixed = match version.major() {
        14 => ServerVersion::new(140_018),
        15 => ServerVersion::new(150_013),
        16 => ServerVersion::new(160_009),
        17 => ServerVersion::new(170_005),
        _ => return None,
    };
    (version.number() < fixed.number()).then_some(fixed)
}

/// Everything is read in UTF-8. The server converts from any encoding but this one, of which it knows no characters.
fn encoding_finding(database: &str, encoding: &str) -> Option<Finding> {
    (encoding == "SQL_ASCII").then(|| {
        Finding::failed(
            "source encoding".to_owned(),
            FeederErrorKind::Source,
            format!(
                "database {database} has the encoding SQL_ASCII: the server does not know what its characters are, so it cannot send them as UTF8"
            ),
            "dump it and restore it into a database made with the encoding that its text really has (CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0)".to_owned(),
        )
    })
}

fn slot_finding(config: &FeederConfig, slot: &SlotInfo) -> Option<Finding> {
    let name = config.source.slot.as_str();
    let failed = |message: String, remedy: &str| {
        Some(Finding::failed(
            format!("slot {name}"),
            FeederErrorKind::Source,
            message,
            remedy.to_owned(),
        ))
    };
    let other = "name another one as source.slot";
    match slot.plugin.as_deref() {
        Some("pgoutput") => {}
        plugin => {
            let plugin = plugin.unwrap_or("no plugin, being physical");
            return failed(
                format!("slot {name} belongs to somebody else: it has {plugin}"),
                other,
            );
        }
    }
    let database = slot.database.as_deref().unwrap_or_default();
    if database != config.source.endpoint.database {
        return failed(format!("slot {name} belongs to database {database}"), other);
    }
    if slot.two_phase {
        return failed(
            format!("slot {name} is two-phase: a prepared transaction would be lost at a restart"),
            "drop it and let duckfeeder make its own, or name another one as source.slot",
        );
    }
    None
}

fn numeric_finding(plans: &[TablePlan]) -> Option<Finding> {
    let mut columns = Vec::new();
    for plan in plans {
        for column in &plan.shape.columns {
            if plan.settings.reader(&column.name, &column.source_type) == Reader::NumericText {
                columns.push(format!("{}.{}", plan.source(), column.name));
            }
        }
    }
    (!columns.is_empty()).then(|| {
        Finding::warning(
            "unbounded numeric",
            format!("stored as text, without loss, where '9' > '10': {}", columns.join(", ")),
            "set source.numeric or numeric of the column to \"decimal(p,s)\" or \"float64\" to compare them as numbers".to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;

    /// A server that nothing speaks against, seen by a role that a managed service lets replicate as a member of another.
    fn facts() -> ServerFacts {
        ServerFacts {
            version: ServerVersion::new(160_009),
            wal_level: "logical".to_owned(),
            max_replication_slots: 10,
            used_replication_slots: 0,
            max_wal_senders: 10,
            used_wal_senders: 0,
            max_slot_wal_keep_size: Some(1),
            in_recovery: false,
            role: "feeder".to_owned(),
            is_superuser: false,
            can_replicate: false,
            can_create_in_database: true,
            synchronous_standby_names: String::new(),
            server_encoding: "UTF8".to_owned(),
            route: Route::Direct,
        }
    }

    fn checks(change: impl FnOnce(&mut ServerFacts)) -> Vec<String> {
        let mut facts = facts();
        change(&mut facts);
        let findings = server_findings(&facts);
        findings.into_iter().map(|finding| finding.check).collect()
    }

    #[test]
    fn the_attribute_of_the_role_alone_forbids_nothing() {
        assert_eq!(checks(|_| {}), [""; 0]);
        assert_eq!(
            may_not_replicate(&facts()).sql.as_deref(),
            Some("ALTER ROLE \"feeder\" REPLICATION;")
        );
    }

    #[test]
    fn slots_and_walsenders_are_to_last_for_copies_too() {
        let outcome = |finding: Option<Finding>| {
            let finding = finding?;
            let sql = finding.sql.unwrap_or_default();
            Some((finding.severity, sql.rsplit(' ').next()?.to_owned()))
        };
        let slots = |used, made| {
            let mut facts = facts();
            facts.used_replication_slots = used;
            outcome(slots_finding(&facts, made))
        };
        assert_eq!(slots(8, false), None);
        assert_eq!(slots(9, false), Some((Severity::Warning, "11;".to_owned())));
        assert_eq!(slots(9, true), None);
        assert_eq!(slots(10, true), Some((Severity::Warning, "12;".to_owned())));
        assert_eq!(slots(10, false), Some((Severity::Failed, "12;".to_owned())));
        let senders = |used| {
            let mut facts = facts();
            facts.used_wal_senders = used;
            outcome(senders_finding(&facts, None))
        };
        assert_eq!(senders(8), None);
        assert_eq!(senders(9), Some((Severity::Warning, "11;".to_owned())));
    }

    #[test]
    fn what_the_server_lacks_is_found() {
        assert_eq!(
            checks(|facts| facts.version = ServerVersion::new(130_010)),
            ["source version"]
        );
        for (old, fixed) in [
            (140_017, 140_018),
            (150_012, 150_013),
            (160_008, 160_009),
            (170_004, 170_005),
        ] {
            let found = |number| checks(|facts| facts.version = ServerVersion::new(number));
            assert_eq!(found(old), ["source release"]);
            assert_eq!(found(fixed), [""; 0]);
        }
        assert_eq!(checks(|facts| facts.in_recovery = true), ["source role"]);
        assert_eq!(
            checks(|facts| "replica".clone_into(&mut facts.wal_level)),
            ["wal_level"]
        );
        assert_eq!(
            checks(|facts| facts.route = Route::TransactionPooler),
            ["direct connection"]
        );
        assert_eq!(
            checks(|facts| "*".clone_into(&mut facts.synchronous_standby_names)),
            ["synchronous_standby_names"]
        );
        assert_eq!(
            checks(|facts| facts.max_slot_wal_keep_size = None),
            ["max_slot_wal_keep_size"]
        );
    }
}
