//! A web service that feeds its database, its events and its traces into one lake.
//!
//! ```sh
//! cargo run -p service-example -- postgres://feeder@localhost/shop file:///tmp/lake 127.0.0.1:8080
//! curl -X POST localhost:8080/events -H 'content-type: application/json' \
//!     -d '{"kind": "click", "at": "2024-02-29T12:00:00Z"}'
//! ```
//!
//! Three things go into the lake, in the same commits: the changes of the tables in `public` (a feeder), the events
//! that are posted (an append stream), and what `tracing` knows of each request (the layer).
#![expect(clippy::print_stdout, reason = "an example talks to its terminal")]

use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use duckfeeder::Feeder;
use duckfeeder::append::{AppendStream, AppendTable, ColumnType};
use duckfeeder::telemetry::LakeLayer;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{Instrument as _, field, info_span};
use tracing_subscriber::layer::SubscriberExt as _;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: service-example SOURCE_URL STORAGE_URL LISTEN_ADDRESS";
    let source = arguments.next().context(usage)?;
    let storage = arguments.next().context(usage)?;
    let listen = arguments.next().context(usage)?;

    let feeder = Feeder::builder()
        .name("service")
        .source(source)
        .tables(["public.*"])
        .storage(storage)
        .flush_interval(Duration::from_secs(1))
        .append_table(AppendTable::new("events").column("at", ColumnType::TimestampTz))
        .build()?;
    let stream = feeder.append_stream();
    let layer = LakeLayer::builder(stream.clone())
        .directives(&std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()))?
        .deny_fields(["authorization", "cookie"])
        .build()?;
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;
    let handle = feeder.spawn();

    let service = Router::new()
        .route("/events", post(event))
        .route("/payments", post(payment))
        .layer(middleware::from_fn(traced))
        .with_state(stream);
    let listener = TcpListener::bind(&listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await?;
    // Everything that was taken is in the lake when this returns.
    handle.shutdown().await?;
    Ok(())
}

/// An event is any JSON object; it is in the lake within a second.
async fn event(
    State(stream): State<AppendStream>,
    Json(event): Json<Map<String, Value>>,
) -> Result<StatusCode, (StatusCode, String)> {
    stream.append("events", &event).await.map_err(refused)?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Serialize)]
struct Payment<'a> {
    account: &'a str,
    cents: i64,
}

/// A payment is in the lake before it is answered.
async fn payment(
    State(stream): State<AppendStream>,
    Json(payment): Json<Value>,
) -> Result<(StatusCode, Json<Value>), (StatusCode, String)> {
    let account = payment.get("account").and_then(Value::as_str);
    let cents = payment.get("cents").and_then(Value::as_i64);
    let (Some(account), Some(cents)) = (account, cents) else {
        let problem = "account and cents are needed".to_owned();
        return Err((StatusCode::UNPROCESSABLE_ENTITY, problem));
    };
    let row = Payment { account, cents };
    let snapshot = stream.append_durable("payments", &row).await;
    let snapshot = snapshot.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(json!({ "snapshot": snapshot }))))
}

#[expect(clippy::needless_pass_by_value, reason = "taken by map_err")]
fn refused(error: duckfeeder::Error) -> (StatusCode, String) {
    let status = match error.kind() {
        duckfeeder::ErrorKind::Data => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    tracing::warn!(error = %error, "a row was refused");
    (status, error.to_string())
}

/// A span around each request, which the layer forwards when it closes.
async fn traced(request: Request, next: Next) -> Response {
    let span = info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        status = field::Empty,
    );
    async move {
        let response = next.run(request).await;
        let status = response.status().as_u16();
        tracing::Span::current().record("status", status);
        tracing::info!(status, "answered");
        response
    }
    .instrument(span)
    .await
}
