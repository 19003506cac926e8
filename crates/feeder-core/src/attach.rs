//! The DuckDB statements that attach the lake.

use std::fmt::Write as _;

use cdc_source::{Host, TlsMode};
use storage::{S3Options, StoreOptions};

use crate::config::FeederConfig;

/// The DuckDB statements that attach the lake, whose files are in the given store: its URL and settings. No secrets: DuckDB takes
/// the catalog's password from `PGPASSWORD` or `~/.pgpass`, and the keys of a store that has them in the configuration
/// have placeholders.
pub fn attach_sql(
    config: &FeederConfig,
    store: Option<(&str, &StoreOptions)>,
    alias: &str,
) -> String {
    let mut sql = store
        .and_then(|(url, options)| secret_sql(url, options, alias))
        .unwrap_or_default();
    sql.push_str(&catalog_sql(config, alias));
    sql
}

fn catalog_sql(config: &FeederConfig, alias: &str) -> String {
    let endpoint = &config.catalog.endpoint;
    let (host, port) = match endpoint.hosts.first() {
        Some(Host::Tcp { host, port }) => (host.clone(), *port),
        Some(Host::Unix { dir, port }) => (dir.display().to_string(), *port),
        None => (String::new(), 5432),
    };
    let port = port.to_string();
    let mode = match endpoint.tls.mode {
        TlsMode::Disable => "disable",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    };
    let mut libpq = vec![
        ("host", host.as_str()),
        ("port", port.as_str()),
        ("dbname", endpoint.database.as_str()),
        ("user", endpoint.user.as_str()),
        ("sslmode", mode),
    ];
    let ca = endpoint
        .tls
        .ca_file
        .as_ref()
        .map(|file| file.display().to_string());
    if let Some(ca) = &ca {
        libpq.push(("sslrootcert", ca));
    }
    ducklake_catalog::attach_sql(alias, &libpq, &config.catalog.metadata_schema)
}

/// How DuckDB gets at the bucket (DuckDB documentation, "S3 API Support", secrets of the types `s3` and `gcs`);
/// `None` for a directory.
fn secret_sql(url: &str, options: &StoreOptions, alias: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let mut parameters = Vec::new();
    let mut extensions = vec!["httpfs"];
    let mut remark = "";
    match scheme {
        "s3" => {
            parameters.push("TYPE s3".to_owned());
            let keys = s3_keys(&options.s3);
            if keys.placeholders {
                remark = "-- Put your keys in place of the words in <>.\n";
            } else {
                extensions.push("aws");
            }
            parameters.extend(keys.parameters);
            if let Some(region) = &options.s3.region {
                parameters.push(format!("REGION {}", literal(region)));
            } else if options.s3.endpoint.is_some() {
                parameters.push("REGION 'us-east-1'".to_owned());
            }
            let path_style = options
                .s3
                .path_style
                .unwrap_or(options.s3.endpoint.is_some());
            parameters.extend(server(options.s3.endpoint.as_deref(), path_style));
        }
        "gs" => {
            parameters.push("TYPE gcs".to_owned());
            // DuckDB reads Google Cloud Storage by its S3-compatible interface, which takes HMAC keys only.
            remark = "-- Put an HMAC key of Google Cloud Storage in place of the words in <>.\n";
            parameters.push("KEY_ID '<HMAC access id>'".to_owned());
            parameters.push("SECRET '<HMAC secret>'".to_owned());
            let endpoint = options.gcs.endpoint.as_deref();
            parameters.extend(server(endpoint, endpoint.is_some()));
        }
        _ => return None,
    }
    let scope = format!("{scheme}://{}/", rest.trim_end_matches('/'));
    parameters.push(format!("SCOPE {}", literal(&scope)));
    let mut sql = remark.to_owned();
    for extension in extensions {
        // Writing to a string cannot fail.
        let _ = writeln!(sql, "INSTALL {extension}; LOAD {extension};");
    }
    let name = format!("\"{}_store\"", alias.replace('"', "\"\""));
    let _ = writeln!(
        sql,
        "CREATE OR REPLACE SECRET {name} (\n    {}\n);",
        parameters.join(",\n    ")
    );
    Some(sql)
}

struct Keys {
    parameters: Vec<String>,
    placeholders: bool,
}

fn s3_keys(options: &S3Options) -> Keys {
    if options.access_key_id.is_none() {
        let mut parameters = vec!["PROVIDER credential_chain".to_owned()];
        if let Some(profile) = &options.profile {
            parameters.push(format!("PROFILE {}", literal(profile)));
        }
        return Keys {
            parameters,
            placeholders: false,
        };
    }
    let mut parameters = vec![
        "KEY_ID '<access key id>'".to_owned(),
        "SECRET '<secret access key>'".to_owned(),
    ];
    if options.session_token.is_some() {
        parameters.push("SESSION_TOKEN '<session token>'".to_owned());
    }
    Keys {
        parameters,
        placeholders: true,
    }
}

fn server(endpoint: Option<&str>, path_style: bool) -> Vec<String> {
    let mut parameters = Vec::new();
    if let Some((scheme, host)) = endpoint.and_then(|endpoint| endpoint.split_once("://")) {
        parameters.push(format!("ENDPOINT {}", literal(host.trim_end_matches('/'))));
        parameters.push(format!("USE_SSL {}", scheme != "http"));
    }
    if path_style {
        parameters.push("URL_STYLE 'path'".to_owned());
    }
    parameters
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use storage::GcsOptions;

    use super::*;

    #[test]
    fn a_directory_needs_no_secret() {
        assert_eq!(
            secret_sql("/srv/lake", &StoreOptions::default(), "lake"),
            None
        );
        assert_eq!(
            secret_sql("file:///srv/lake", &StoreOptions::default(), "lake"),
            None
        );
    }

    #[test]
    fn a_bucket_is_found_by_the_credential_chain() {
        let options = StoreOptions {
            s3: S3Options {
                region: Some("eu-west-1".to_owned()),
                profile: Some("o'neil".to_owned()),
                ..S3Options::default()
            },
            ..StoreOptions::default()
        };
        assert_eq!(
            secret_sql("s3://bucket/some/prefix/", &options, "my \"lake\"").unwrap(),
            "INSTALL httpfs; LOAD httpfs;\nINSTALL aws; LOAD aws;\n\
             CREATE OR REPLACE SECRET \"my \"\"lake\"\"_store\" (\n    TYPE s3,\n    PROVIDER credential_chain,\n    \
             PROFILE 'o''neil',\n    REGION 'eu-west-1',\n    SCOPE 's3://bucket/some/prefix/'\n);\n"
        );
    }

    #[test]
    fn keys_of_the_configuration_are_placeholders() {
        let options = StoreOptions {
            s3: S3Options {
                endpoint: Some("http://127.0.0.1:9000/".to_owned()),
                access_key_id: Some("the key".to_owned()),
                secret_access_key: Some("the secret".to_owned().into()),
                session_token: Some("the token".to_owned().into()),
                ..S3Options::default()
            },
            ..StoreOptions::default()
        };
        let sql = secret_sql("s3://bucket", &options, "lake").unwrap();
        assert_eq!(
            sql,
            "-- Put your keys in place of the words in <>.\nINSTALL httpfs; LOAD httpfs;\n\
             CREATE OR REPLACE SECRET \"lake_store\" (\n    TYPE s3,\n    KEY_ID '<access key id>',\n    \
             SECRET '<secret access key>',\n    SESSION_TOKEN '<session token>',\n    REGION 'us-east-1',\n    \
             ENDPOINT '127.0.0.1:9000',\n    USE_SSL false,\n    URL_STYLE 'path',\n    SCOPE 's3://bucket/'\n);\n"
        );
    }

    #[test]
    fn google_wants_an_hmac_key() {
        let options = StoreOptions {
            gcs: GcsOptions {
                endpoint: Some("https://storage.internal".to_owned()),
                ..GcsOptions::default()
            },
            ..StoreOptions::default()
        };
        let sql = secret_sql("gs://bucket/p", &options, "lake").unwrap();
        assert!(
            sql.contains("TYPE gcs,\n    KEY_ID '<HMAC access id>'"),
            "{sql}"
        );
        assert!(
            sql.contains("ENDPOINT 'storage.internal',\n    USE_SSL true"),
            "{sql}"
        );
        assert!(sql.contains("SCOPE 'gs://bucket/p/'"), "{sql}");
    }
}
