//! Makes a lake with one empty table: `catalog-alone POSTGRES_URL DATA_PATH`.

use std::error::Error;

use ducklake_catalog::{
    Catalog, CatalogOptions, ChangeSet, ColumnDef, LakeType, NoHook, TableDef,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(data_path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: catalog-alone POSTGRES_URL DATA_PATH".into());
    };
    let catalog = Catalog::connect(CatalogOptions::new(url.parse()?)).await?;
    catalog.bootstrap(&data_path).await?;
    let mut changes = ChangeSet::new().with_author("catalog-alone");
    let schema = changes.ensure_schema("raw");
    changes.create_table(
        schema,
        TableDef::new(
            "orders",
            vec![
                ColumnDef::new("id", LakeType::Int64).not_null(),
                ColumnDef::new("note", LakeType::Varchar),
            ],
        ),
    );
    let committed = catalog.commit(&changes, &mut NoHook).await?;
    println!("snapshot {}", committed.id);
    Ok(())
}
