//! A service that feeds its own database into a lake, beside its other work.
//!
//! ```sh
//! cargo run -p duckfeeder --example embed -- postgres://feeder@localhost/shop file:///tmp/lake
//! ```
#![expect(clippy::print_stderr, reason = "an example talks to its terminal")]

use duckfeeder::{Feeder, Table};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(source), Some(storage)) = (arguments.next(), arguments.next()) else {
        return Err("usage: embed SOURCE_URL STORAGE_URL".into());
    };
    let feeder = Feeder::builder()
        .name("embedded")
        .source(source)
        .tables(["public.*"])
        .table(Table::new("public.*_internal").enabled(false))
        .storage(storage)
        .build()?;
    let handle = feeder.spawn();

    tokio::select! {
        // The service goes on without the feeder, or ends too: that is its own decision.
        outcome = handle.wait() => {
            outcome?;
        }
        _ = service(&handle) => {
            handle.shutdown().await?;
        }
    }
    Ok(())
}

/// The service's own work; here it ends with Ctrl-C.
async fn service(handle: &duckfeeder::Handle) -> std::io::Result<()> {
    if handle.ready().await.is_ok() {
        let checkpoint = handle.status().borrow().checkpoint;
        eprintln!("streaming, the lake is complete up to {checkpoint}");
    }
    tokio::signal::ctrl_c().await
}
