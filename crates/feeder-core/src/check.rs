//! Every precondition of source, catalog and store, each with its remedy. Creates nothing.

use cdc_source::server::Route;
use cdc_source::{
    Connection, Publication, ServerFacts, SessionKind, SlotInfo, SystemIdentity, server, slot,
    tables,
};
use ducklake_catalog::{Catalog, CatalogOptions, FORMAT_VERSION};
use pgoutput::Oid;
use serde::Serialize;
use storage::Storage;

use crate::committer::SAFE_DELETE_OLDER_THAN;
use crate::config::{CatalogConfig, FeederConfig, NumericMapping};
use crate::error::{FeederError, FeederErrorKind, from_catalog, from_source};
use crate::plan::TablePlan;
use crate::{endpoint, publish, select};

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, with a drawback.
    Warning,
    /// The feeder does not start with it.
    Failed,
}

/// One precondition, checked.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was checked.
    pub check: String,
    /// The outcome.
    pub severity: Severity,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The remedy as SQL, for the server it is about.
    pub sql: Option<String>,
    #[serde(skip)]
    kind: FeederErrorKind,
}

impl Finding {
    pub(crate) fn failed(
        check: String,
        kind: FeederErrorKind,
        message: String,
        remedy: String,
    ) -> Self {
        let remedy = (!remedy.is_empty()).then_some(remedy);
        Self {
            check,
            severity: Severity::Failed,
            message,
            remedy,
            sql: None,
            kind,
        }
    }

    fn warning(check: &str, message: String, remedy: String) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::failed(check.to_owned(), FeederErrorKind::Config, message, remedy)
        }
    }

    fn ok(check: &str, message: String) -> Self {
        Self {
            severity: Severity::Ok,
            ..Self::failed(
                check.to_owned(),
                FeederErrorKind::Config,
                message,
                String::new(),
            )
        }
    }

    pub(crate) fn with_sql(mut self, sql: String) -> Self {
        self.sql = Some(sql);
        self
    }

    fn from_error(check: &str, error: &FeederError) -> Self {
        Self::failed(
            check.to_owned(),
            error.kind(),
            error.to_string(),
            error.remedy().unwrap_or_default().to_owned(),
        )
    }

    /// The error that a start stops with.
    fn into_error(self) -> FeederError {
        let error = FeederError::permanent(self.kind, self.message);
        match (self.remedy, self.sql) {
            (Some(remedy), Some(sql)) => error.with_remedy(format!("{remedy}\n{sql}")),
            (Some(remedy), None) => error.with_remedy(remedy),
            (None, Some(sql)) => error.with_remedy(sql),
            (None, None) => error,
        }
    }
}

/// Checks everything that a start needs. Reports all findings; connection errors are findings too.
pub async fn check(config: &FeederConfig, storage: &dyn Storage) -> Vec<Finding> {
    let mut findings = Vec::new();
    match source(config).await {
        Ok(source) => findings.extend(source.findings),
        Err(error) => findings.push(Finding::from_error("source", &error)),
    }
    match catalog(config, &storage.url()).await {
        Ok((_, found)) => findings.extend(found),
        Err(error) => findings.push(Finding::from_error("catalog", &error)),
    }
    findings.push(store(storage).await);
    findings
}

/// Stops at the first finding that forbids a start.
pub(crate) fn require(findings: Vec<Finding>) -> Result<(), FeederError> {
    for finding in findings {
        match finding.severity {
            Severity::Ok => {}
            Severity::Warning => {
                tracing::warn!(check = %finding.check, remedy = finding.remedy, "{}", finding.message);
            }
            Severity::Failed => return Err(finding.into_error()),
        }
    }
    Ok(())
}

/// The source as it is, and what speaks against feeding it.
pub(crate) struct SourceInspection {
    pub(crate) connection: Connection,
    pub(crate) identity: SystemIdentity,
    pub(crate) slot: Option<SlotInfo>,
    pub(crate) plans: Vec<TablePlan>,
    pub(crate) publications: Vec<Publication>,
    pub(crate) findings: Vec<Finding>,
}

/// Looks at the source.
///
/// # Errors
/// Only what keeps it from looking further.
pub(crate) async fn source(config: &FeederConfig) -> Result<SourceInspection, FeederError> {
    let endpoint = &config.source.endpoint;
    let mut connection = Connection::connect(endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)?;
    let facts = server::facts(&mut connection).await.map_err(from_source)?;
    let mut findings = server_findings(&facts);
    let mut replication = Connection::connect(endpoint, SessionKind::Replication)
        .await
        .map_err(from_source)?;
    let identity = replication.identify_system().await.map_err(from_source)?;
    replication.close().await;
    let slot = slot::inspect(&mut connection, &config.source.slot)
        .await
        .map_err(from_source)?;
    findings.extend(slot.as_ref().and_then(|slot| slot_finding(config, slot)));
    if slot.is_none() && facts.used_replication_slots >= facts.max_replication_slots {
        findings.push(Finding::failed(
            "replication slots".to_owned(),
            FeederErrorKind::Source,
            format!(
                "all {} replication slots are in use",
                facts.max_replication_slots
            ),
            "drop one that nobody needs, or raise max_replication_slots (a restart)".to_owned(),
        ));
    }

    let listed = tables::list_tables(&mut connection)
        .await
        .map_err(from_source)?;
    let names: Vec<(String, String)> = listed
        .iter()
        .map(|table| (table.schema.clone(), table.name.clone()))
        .collect();
    let selections = select::select(config, &names)?;
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
    let mut plans = Vec::new();
    for selection in selections {
        let info = infos
            .iter()
            .find(|info| info.id.schema == selection.schema && info.id.name == selection.name);
        if let Some(info) = info {
            plans.push(TablePlan::new(config, selection, info.clone()));
        }
    }
    for plan in &plans {
        findings.extend(plan.findings(config));
    }
    findings.extend(numeric_finding(&plans));
    let publications = publish::read(&mut connection, config).await?;
    findings.extend(publish::findings(
        config,
        &connection,
        &plans,
        &publications,
    )?);
    findings.push(Finding::ok(
        "source",
        format!("Postgres {}, {} tables to feed", facts.version, plans.len()),
    ));
    Ok(SourceInspection {
        connection,
        identity,
        slot,
        plans,
        publications,
        findings,
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
    if !facts.can_replicate {
        findings.push(
            failed(
                "replication privilege",
                format!("role {} may not replicate", facts.role),
                "give it the REPLICATION attribute (managed services have a role for it)",
            )
            .with_sql(format!(
                "ALTER ROLE {} REPLICATION;",
                cdc_source::quote_ident(&facts.role)
            )),
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
            let unbounded = column.type_oid == 1700 && column.type_modifier < 4;
            if unbounded && plan.numeric.of(&column.name) == NumericMapping::Varchar {
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

/// Connects to the catalog and looks at the lake in it.
pub(crate) async fn catalog(
    config: &FeederConfig,
    data_path: &str,
) -> Result<(Catalog, Vec<Finding>), FeederError> {
    let catalog = connect_catalog(&config.catalog).await?;
    let mut findings = Vec::new();
    let failed = |message: String, remedy: String| {
        Finding::failed(
            "catalog".to_owned(),
            FeederErrorKind::Catalog,
            message,
            remedy,
        )
    };
    match catalog.inspect().await.map_err(from_catalog)? {
        None => findings.push(Finding::ok(
            "catalog",
            "no lake yet; it will be made".to_owned(),
        )),
        Some(lake) => {
            if lake.version != FORMAT_VERSION {
                findings.push(failed(
                    format!("the lake has catalog version {}, duckfeeder writes {FORMAT_VERSION}", lake.version),
                    "migrate it with DuckDB 1.5.2 or later (ATTACH ... (AUTOMATIC_MIGRATION true)), or use another metadata_schema".to_owned(),
                ));
            }
            if lake.encrypted {
                findings.push(failed(
                    "the lake is encrypted".to_owned(),
                    "use an unencrypted lake".to_owned(),
                ));
            }
            if lake.data_path.trim_end_matches('/') != data_path.trim_end_matches('/') {
                findings.push(failed(
                    format!(
                        "the lake keeps its files in {}, storage.url is {data_path}",
                        lake.data_path
                    ),
                    "set storage.url to the lake's path, or use another metadata_schema".to_owned(),
                ));
            }
            if lake.file_deletion_grace() < SAFE_DELETE_OLDER_THAN {
                findings.push(Finding::warning(
                    "delete_older_than",
                    "the lake's delete_older_than is below one day: CHECKPOINT may delete files before they are committed".to_owned(),
                    "CALL lake.set_option('delete_older_than', '2 days')".to_owned(),
                ));
            }
            findings.push(Finding::ok(
                "catalog",
                format!("lake version {}", lake.version),
            ));
        }
    }
    for found in catalog.checks().await.map_err(from_catalog)? {
        findings.push(failed(found.message(), found.remedy()));
    }
    Ok((catalog, findings))
}

/// A pool of connections to the catalog.
pub(crate) async fn connect_catalog(config: &CatalogConfig) -> Result<Catalog, FeederError> {
    let connect = endpoint::catalog_options(&config.endpoint).await?;
    let mut options = CatalogOptions::new(connect);
    options.metadata_schema.clone_from(&config.metadata_schema);
    // The committer, the copies' declarations, the watch and the lock each need one.
    options.max_connections = 8;
    Catalog::connect(options).await.map_err(from_catalog)
}

/// A create-only write, a read and a delete of a probe below the lake's path.
async fn store(storage: &dyn Storage) -> Finding {
    match probe(storage).await {
        Ok(()) => Finding::ok("storage", format!("{storage}: write, read and delete work")),
        Err(error) => Finding::from_error("storage", &error),
    }
}

/// Fails unless the store can be written, read and deleted from.
pub(crate) async fn probe(storage: &dyn Storage) -> Result<(), FeederError> {
    use crate::error::from_storage;
    let name = format!("duckfeeder-probe-{}", uuid::Uuid::now_v7());
    let path = storage::ObjectPath::parse(&name).map_err(from_storage)?;
    let payload = bytes::Bytes::from_static(b"probe");
    storage
        .put(&path, payload.clone().into())
        .await
        .map_err(from_storage)?;
    let read = storage.get_range(&path, 0..5).await;
    storage.delete(&path).await.map_err(from_storage)?;
    if read.map_err(from_storage)? != payload {
        return Err(FeederError::permanent(
            FeederErrorKind::Storage,
            format!("{storage} returned other bytes than were written"),
        ));
    }
    Ok(())
}
