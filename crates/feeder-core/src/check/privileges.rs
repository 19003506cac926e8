//! What the roles may do, asked of the servers before anything is tried.

use std::fmt::Write as _;

use cdc_source::publication::{self, PublicationDifference};
use cdc_source::{Connection, Publication, ServerFacts, quote_ident};
use ducklake_catalog::Catalog;
use ducklake_catalog::sqlx::{self, PgConnection, Row as _};

use super::{Finding, Severity};
use crate::config::{CatalogConfig, FeederConfig};
use crate::control::migrations;
use crate::error::{FeederError, FeederErrorKind, from_catalog, from_source};
use crate::plan::TablePlan;
use crate::publish;
use crate::select::CONTROL_SCHEMA;

/// What keeps the role from making or altering the publications that a start would make or alter.
pub(super) async fn publishing(
    config: &FeederConfig,
    connection: &mut Connection,
    facts: &ServerFacts,
    plans: &[TablePlan],
    found: &[Publication],
) -> Result<Vec<Finding>, FeederError> {
    let mut oids = Vec::new();
    let mut altered = Vec::new();
    let mut created = false;
    for wanted in publish::wanted(config, plans, facts.version.major())? {
        let existing = found.iter().find(|found| found.name == wanted.name);
        let differences = publication::diff(&wanted, existing);
        created |= existing.is_none();
        if !differences.is_empty() {
            altered.extend(existing.map(|publication| publication.oid.get().to_string()));
        }
        let added = |schema: &str, name: &str| {
            existing.is_none() || differences.iter().any(|difference| {
                matches!(difference, PublicationDifference::TableMissing { schema: of, table, .. }
                        if of == schema && table == name)
            })
        };
        oids.extend(plans.iter().filter_map(|plan| {
            let published = plan.published();
            let here = wanted.tables.contains(&published);
            (here && added(&plan.selection.schema, &plan.selection.name))
                .then(|| plan.info.id.oid.get().to_string())
        }));
    }
    let role = quote_ident(&facts.role);
    let failed = |message: String, sql: String| {
        Finding::failed(
            "publishing privilege".to_owned(),
            FeederErrorKind::Source,
            message,
            "let a DBA run this, or let one make the publications and set source.manage_publication = false"
                .to_owned(),
        )
        .with_sql(sql)
    };
    let mut findings = Vec::new();
    if created && !facts.can_create_in_database {
        let database = &config.source.endpoint.database;
        findings.push(failed(
            format!(
                "role {} may not make a publication in database {database}",
                facts.role
            ),
            format!(
                "GRANT CREATE ON DATABASE {} TO {role};",
                quote_ident(database)
            ),
        ));
    }
    for (oids, sql, what, alter) in [
        (
            oids,
            "select pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind = 'p'
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where not pg_catalog.pg_has_role(c.relowner, 'usage') and c.oid",
            "table",
            "ALTER TABLE",
        ),
        (
            altered,
            "select pg_catalog.quote_ident(p.pubname) from pg_catalog.pg_publication p
             where not pg_catalog.pg_has_role(p.pubowner, 'usage') and p.oid",
            "publication",
            "ALTER PUBLICATION",
        ),
    ] {
        if oids.is_empty() {
            continue;
        }
        let sql = format!("{sql} in ({}) order by 1", oids.join(", "));
        let rows = connection.query(&sql).await.map_err(from_source)?;
        let names: Vec<&str> = rows.iter().filter_map(|row| row.get(0)).collect();
        if names.is_empty() {
            continue;
        }
        let statements = names
            .iter()
            .map(|name| format!("{alter} {name} OWNER TO {role};"))
            .collect::<Vec<_>>();
        findings.push(failed(
            format!(
                "only its owner may publish a table and alter a publication, and role {} is not that of {what} {}",
                facts.role,
                names.join(", ")
            ),
            statements.join("\n"),
        ));
    }
    Ok(findings)
}

/// What keeps the role from keeping lake and control tables.
pub(super) async fn catalog(
    config: &CatalogConfig,
    catalog: &Catalog,
) -> Result<Vec<Finding>, FeederError> {
    let failed = |error: sqlx::Error| {
        FeederError::transient(
            FeederErrorKind::Catalog,
            "the privileges in the catalog could not be read",
        )
        .with_source(error)
    };
    let mut connection = catalog.acquire().await.map_err(from_catalog)?;
    let facts = sqlx::query(
        "select current_user::text as role, current_database()::text as database,
             has_database_privilege(current_database(), 'create') as may_create",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let role: String = facts.try_get("role").map_err(failed)?;
    let database: String = facts.try_get("database").map_err(failed)?;
    let may_create: bool = facts.try_get("may_create").map_err(failed)?;
    let quoted = quote_ident(&role);
    let finding = |message: String, remedy: &str, sql: String| {
        Finding::failed(
            "catalog privilege".to_owned(),
            FeederErrorKind::Catalog,
            message,
            remedy.to_owned(),
        )
        .with_sql(sql)
    };
    let mut findings = Vec::new();

    let schema = catalog.metadata_schema();
    let lake = tables(&mut connection, schema, "ducklake\\_%")
        .await
        .map_err(failed)?;
    if !lake.found {
        let (may, sql) = if lake.schema {
            let sql = format!(
                "GRANT USAGE, CREATE ON SCHEMA {} TO {quoted};",
                quote_ident(schema)
            );
            (lake.usage && lake.create, sql)
        } else {
            let sql = format!(
                "CREATE SCHEMA {} AUTHORIZATION {quoted};",
                quote_ident(schema)
            );
            (may_create, sql)
        };
        if !may {
            findings.push(finding(
                format!(
                    "role {role} may not make a lake in schema {schema} of database {database}"
                ),
                "let a DBA run this, or name another catalog.metadata_schema",
                sql,
            ));
        }
    } else if !lake.usage || !lake.lacking.is_empty() {
        findings.push(finding(
            format!("role {role} may not read and write the tables of the lake in schema {schema}"),
            "let the owner of the lake run this",
            grants(schema, &quoted, &lake.lacking),
        ));
    }

    let control = tables(&mut connection, CONTROL_SCHEMA, "%")
        .await
        .map_err(failed)?;
    if control.found && (!control.usage || !control.lacking.is_empty()) {
        findings.push(finding(
            format!("role {role} may not read and write the control tables"),
            "let their owner run this",
            grants(CONTROL_SCHEMA, &quoted, &control.lacking),
        ));
        return Ok(findings);
    }
    let version = migrations::version(catalog).await?;
    if version == Some(migrations::LATEST) {
        return Ok(findings);
    }
    let state = version.map_or_else(
        || "there are no control tables".to_owned(),
        |version| {
            format!(
                "the control tables have version {version}, this release needs {}",
                migrations::LATEST
            )
        },
    );
    if !config.migrate {
        findings.push(finding(
            format!("{state}, and catalog.migrate is false"),
            "let a DBA run this, which `duckfeeder migrate --print` prints too",
            format!(
                "{}\nGRANT USAGE ON SCHEMA {CONTROL_SCHEMA} TO {quoted};\nGRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {CONTROL_SCHEMA} TO {quoted};",
                migrations::script().trim_end()
            ),
        ));
    } else if !may_create {
        findings.push(finding(
            format!("{state}, and role {role} may not make them in database {database}"),
            "let a DBA run this, or set catalog.migrate = false and let one run what `duckfeeder migrate --print` prints",
            format!("GRANT CREATE ON DATABASE {} TO {quoted};", quote_ident(&database)),
        ));
    }
    Ok(findings)
}

/// Whether none of these forbids a start.
pub(super) fn suffice(findings: &[Finding]) -> bool {
    let forbids = |finding: &Finding| finding.severity == Severity::Failed;
    !findings.iter().any(forbids)
}

fn grants(schema: &str, role: &str, tables: &[String]) -> String {
    let schema = quote_ident(schema);
    let mut sql = format!("GRANT USAGE ON SCHEMA {schema} TO {role};");
    for table in tables {
        // Writing to a string cannot fail.
        let _ = write!(
            sql,
            "\nGRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {schema}.{} TO {role};",
            quote_ident(table)
        );
    }
    sql
}

/// A schema of the catalog, as the role sees it.
struct Tables {
    schema: bool,
    usage: bool,
    create: bool,
    /// There are tables of this name.
    found: bool,
    /// Those that it may not read and write.
    lacking: Vec<String>,
}

async fn tables(
    connection: &mut PgConnection,
    schema: &str,
    like: &str,
) -> Result<Tables, sqlx::Error> {
    let row = sqlx::query(
        "select n.oid is not null as schema,
             coalesce(has_schema_privilege(n.oid, 'usage'), false) as usage,
             coalesce(has_schema_privilege(n.oid, 'create'), false) as may_create,
             c.oid is not null as found,
             coalesce(array_agg(c.relname::text order by c.relname) filter (where not (
                 has_table_privilege(c.oid, 'select') and (c.relname = 'migrations'
                     or has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update')
                         and has_table_privilege(c.oid, 'delete')))), '{}') as lacking
         from (select) one left join pg_namespace n on n.nspname = $1
             left join pg_class c on c.relnamespace = n.oid and c.relkind = 'r' and c.relname like $2
         group by n.oid, c.oid is not null",
    )
    .bind(schema)
    .bind(like)
    .fetch_one(connection)
    .await?;
    Ok(Tables {
        schema: row.try_get("schema")?,
        usage: row.try_get("usage")?,
        create: row.try_get("may_create")?,
        found: row.try_get("found")?,
        lacking: row.try_get("lacking")?,
    })
}
