//! Every precondition of source, catalog and store, each with its remedy. Creates nothing.

use std::collections::{BTreeMap, BTreeSet};

use cdc_source::server::{self, Route};
use cdc_source::{
    Connection, Endpoint, SessionKind, SlotInfo, SourceError, SourceErrorKind, SystemIdentity,
};
use ducklake_catalog::{Catalog, CatalogOptions, FORMAT_VERSION};
use pgoutput::Oid;
use serde::Serialize;
use storage::Storage;

use crate::committer::SAFE_DELETE_OLDER_THAN;
use crate::config::{CatalogConfig, FeederConfig};
use crate::control::{Control, migrations};
use crate::error::{FeederError, FeederErrorKind, from_catalog, from_server};
use crate::{endpoint, lineage};

mod privileges;
mod source;
mod store;

pub(crate) use source::{SourceInspection, source};
pub(crate) use store::probe;

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
    /// It may pass by itself: a start waits for that.
    #[serde(skip)]
    passing: bool,
    /// The table that it forbids to take in; one that is registered is given up, and the others go on.
    #[serde(skip)]
    new_table: Option<Oid>,
    /// The table, which nobody named, that it forbids to take in; a feeder that has others leaves a new one out.
    #[serde(skip)]
    newcomer: Option<Oid>,
    /// It forbids a first start; a feeder that has tables goes on.
    #[serde(skip)]
    at_first: bool,
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
            passing: false,
            new_table: None,
            newcomer: None,
            at_first: false,
        }
    }

    pub(crate) fn warning(check: &str, message: String, remedy: String) -> Self {
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

    fn passing(mut self) -> Self {
        self.passing = true;
        self
    }

    pub(crate) fn of_new_table(mut self, table: Oid) -> Self {
        self.new_table = Some(table);
        self
    }

    pub(crate) fn of_newcomer(mut self, table: Oid) -> Self {
        self.newcomer = Some(table);
        self
    }

    /// As a mistake that shows at the first start; later it may be what became of the source.
    pub(crate) fn at_first(mut self) -> Self {
        self.at_first = true;
        self
    }

    fn from_error(check: &str, error: &FeederError) -> Self {
        Self::failed(
            check.to_owned(),
            error.kind(),
            error.explained(),
            error.remedy().unwrap_or_default().to_owned(),
        )
    }

    /// The error that a start stops with.
    fn into_error(self) -> FeederError {
        let error = if self.passing {
            FeederError::transient(self.kind, self.message)
        } else {
            FeederError::permanent(self.kind, self.message)
        };
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
    let mut source = None;
    match source::look(config).await {
        Ok(look) => {
            findings.extend(look.findings);
            match look.identity {
                Ok(identity) => source = Some((identity, look.slot)),
                Err(finding) => findings.push(finding),
            }
        }
        Err(error) => findings.push(Finding::from_error("source", &error)),
    }
    match catalog(&config.catalog, &storage.url()).await {
        Ok((catalog, found)) if privileges::suffice(&found) => {
            match registered(&catalog, config).await {
                Ok(registered) => drop(give_up(&mut findings, &registered)),
                Err(error) => findings.push(Finding::from_error("catalog", &error)),
            }
            findings.extend(found);
            if let Some((identity, slot)) = source {
                let gap = lineage(config, &catalog, &identity, slot.as_ref()).await;
                findings.extend(
                    gap.err()
                        .map(|error| Finding::from_error("checkpoint", &error)),
                );
            }
        }
        Ok((_, found)) => findings.extend(found),
        Err(error) => findings.push(Finding::from_error("catalog", &error)),
    }
    findings.extend(store::store(storage).await);
    findings
}

/// Whether a feeder that ran before can go on from its checkpoint.
async fn lineage(
    config: &FeederConfig,
    catalog: &Catalog,
    identity: &SystemIdentity,
    slot: Option<&SlotInfo>,
) -> Result<(), FeederError> {
    if migrations::version(catalog).await? != Some(migrations::LATEST) {
        return Ok(());
    }
    let control = Control::new(catalog, config.name.clone());
    if let Some(row) = control.load_feeder().await? {
        lineage::check_start(config, &control, &row, identity, slot).await?;
    }
    Ok(())
}

/// The tables that the feeder fed until now, by source OID; none when it was never started or torn down.
pub(crate) async fn registered(
    catalog: &Catalog,
    config: &FeederConfig,
) -> Result<BTreeSet<u32>, FeederError> {
    if migrations::version(catalog).await?.is_none() {
        return Ok(BTreeSet::new());
    }
    // The control tables may be of an earlier release: they are migrated after the checks.
    Control::new(catalog, config.name.clone())
        .registered()
        .await
}

/// Tables that cannot be fed, which is no reason to stop the others.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    /// Registered ones, with the reason.
    pub(crate) lost: BTreeMap<u32, String>,
    /// New ones.
    pub(crate) left_out: BTreeSet<u32>,
}

/// Turns what forbids to take a table in into a warning where the table is registered and cannot be fed any further, or
/// is new to a feeder that has others. So do rules that match no table, once there are registered ones.
pub(crate) fn give_up(findings: &mut [Finding], registered: &BTreeSet<u32>) -> GivenUp {
    let mut given_up = GivenUp::default();
    for finding in findings {
        if let Some(oid) = finding.newcomer
            && finding.severity == Severity::Failed
            && !registered.is_empty()
            && !registered.contains(&oid.get())
        {
            finding.severity = Severity::Warning;
            finding.message = format!("a new table is not fed: {}", finding.message);
            given_up.left_out.insert(oid.get());
            continue;
        }
        if finding.at_first && !registered.is_empty() {
            finding.severity = Severity::Warning;
        }
        if let Some(oid) = finding.new_table
            && registered.contains(&oid.get())
        {
            finding.severity = Severity::Warning;
            let remedy = finding.remedy.as_deref().unwrap_or_default();
            given_up
                .lost
                .insert(oid.get(), format!("{}; {remedy}", finding.message));
        }
    }
    given_up
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

/// Connects to the catalog and looks at the lake in it.
pub(crate) async fn catalog(
    config: &CatalogConfig,
    data_path: &str,
) -> Result<(Catalog, Vec<Finding>), FeederError> {
    if behind_pooler(&config.endpoint).await? {
        return Err(FeederError::permanent(
            FeederErrorKind::Catalog,
            "a transaction pooler is in front of the catalog",
        )
        .with_remedy("use the address of the server itself in catalog.url: locks need a session of their own"));
    }
    let catalog = connect_catalog(config).await?;
    let mut findings = privileges::catalog(config, &catalog).await?;
    if !privileges::suffice(&findings) {
        return Ok((catalog, findings));
    }
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
    findings.extend(catalog_encoding(&catalog, config).await?);
    Ok((catalog, findings))
}

/// DuckDB takes what it reads from the catalog for UTF-8 and does not ask the server to convert it.
async fn catalog_encoding(
    catalog: &Catalog,
    config: &CatalogConfig,
) -> Result<Option<Finding>, FeederError> {
    let encoding: String = ducklake_catalog::sqlx::query_scalar(
        "select pg_catalog.current_setting('server_encoding')",
    )
    .fetch_one(&mut *catalog.acquire().await.map_err(from_catalog)?)
    .await
    .map_err(|error| {
        FeederError::transient(
            FeederErrorKind::Catalog,
            "the encoding of the catalog's database could not be read",
        )
        .with_source(error)
    })?;
    let database = &config.endpoint.database;
    Ok((encoding != "UTF8").then(|| {
        Finding::failed(
            "catalog encoding".to_owned(),
            FeederErrorKind::Catalog,
            format!(
                "the catalog's database {database} has the encoding {encoding}: DuckDB takes all that it reads there for UTF8, and names and values of the source may not fit into it"
            ),
            "name another database as catalog.url, made with encoding UTF8".to_owned(),
        )
        .with_sql("CREATE DATABASE lake ENCODING 'UTF8' TEMPLATE template0;".to_owned())
    }))
}

/// Whether sessions share server processes. What is wrong for good with the endpoint is said here, in the same words as of
/// a source; what may pass is judged by the catalog's own client, right after.
async fn behind_pooler(endpoint: &Endpoint) -> Result<bool, FeederError> {
    let route = async {
        let mut first = Connection::connect(endpoint, SessionKind::Sql).await?;
        let mut second = Connection::connect(endpoint, SessionKind::Sql).await?;
        let route = server::detect_pooler(&mut first, &mut second).await?;
        first.close().await;
        second.close().await;
        Ok::<_, SourceError>(route)
    };
    match route.await {
        Ok(route) => Ok(route == Route::TransactionPooler),
        Err(error) if !error.is_transient() && is_about_the_way(&error) => {
            Err(from_server(FeederErrorKind::Catalog, error))
        }
        Err(error) => {
            tracing::debug!(error = %error, "the way to the catalog could not be looked at");
            Ok(false)
        }
    }
}

fn is_about_the_way(error: &SourceError) -> bool {
    use SourceErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::Config | Kind::Connect | Kind::Tls | Kind::Auth | Kind::DatabaseMissing
    )
}

/// A pool of connections to the catalog.
pub(crate) async fn connect_catalog(config: &CatalogConfig) -> Result<Catalog, FeederError> {
    let (connect, provider) = endpoint::catalog_options(&config.endpoint).await?;
    let mut options = CatalogOptions::new(connect);
    options.provider = provider;
    options.metadata_schema.clone_from(&config.metadata_schema);
    // The committer, the copies' declarations, the watch and the lock each need one.
    options.max_connections = 8;
    Catalog::connect(options).await.map_err(from_catalog)
}
