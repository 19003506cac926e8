use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ducklake_catalog::{Catalog, CatalogErrorKind, CredentialsError};

use super::support::{TestDb, execute};

#[tokio::test]
async fn the_provider_is_asked_for_every_new_connection_and_no_other() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let asked = Arc::new(AtomicU32::new(0));
    let (count, connect) = (Arc::clone(&asked), db.options.clone());
    let mut options = db.catalog_options();
    options.provider = Some(Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        let connect = connect.clone();
        Box::pin(async move { Ok(connect) })
    }));
    let catalog = Catalog::connect(options).await.unwrap();
    let mut held = Vec::new();
    let before = asked.load(Ordering::Relaxed);
    // Those that are idle need none.
    while asked.load(Ordering::Relaxed) == before {
        held.push(catalog.acquire().await.unwrap());
    }
    assert_eq!(asked.load(Ordering::Relaxed), before + 1);
    drop(held);
    // One that died while nobody used it is replaced by a new one.
    let mut own = db.connection().await;
    execute(
        &mut own,
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where datname = current_database() and pid <> pg_backend_pid()",
    )
    .await;
    drop(catalog.acquire().await.unwrap());
    assert_eq!(asked.load(Ordering::Relaxed), before + 2);
}

#[tokio::test]
async fn a_provider_that_fails_is_an_error_with_its_remedy_and_the_database() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    for transient in [true, false] {
        let mut options = db.catalog_options();
        options.provider = Some(Arc::new(move || {
            Box::pin(async move {
                Err(CredentialsError {
                    transient,
                    remedy: Some("mend it".to_owned()),
                    cause: "it is broken".into(),
                })
            })
        }));
        let error = Catalog::connect(options).await.unwrap_err();
        assert_eq!(error.kind(), &CatalogErrorKind::Credentials { transient });
        assert_eq!(error.is_transient(), transient);
        assert_eq!(error.remedy().as_deref(), Some("mend it"));
        let database = db.options.get_database().unwrap();
        assert!(error.to_string().contains(database), "{error}");
    }
}
