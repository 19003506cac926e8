//! `[server] listen`: `/healthz`, `/readyz`, `/status` and `/metrics`.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use duckfeeder::Status;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::exit::{Failure, Result};
use crate::exporter::{self, Exporter};
use crate::health::Judge;

/// What every answer is made from.
#[derive(Clone)]
struct View {
    status: watch::Receiver<Status>,
    judge: Judge,
    exporter: Exporter,
}

/// How often what was measured is sorted into its buckets when nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// Takes the address.
///
/// # Errors
/// It cannot be listened on.
pub(crate) async fn bind(listen: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        Failure::usage(
            format!("`server.listen`: {listen} cannot be listened on"),
            "give it an address of this machine that nobody else listens on",
        )
        .caused_by(&error)
    })
}

/// The server; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server(#[expect(dead_code, reason = "its tasks end with it")] JoinSet<()>);

impl Server {
    /// Answers in a task of its own.
    pub(crate) fn start(
        listener: TcpListener,
        status: watch::Receiver<Status>,
        judge: Judge,
        exporter: Exporter,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let upkeep = exporter.clone();
        tasks.spawn(async move {
            let mut timer = tokio::time::interval(UPKEEP);
            loop {
                timer.tick().await;
                upkeep.keep_small();
            }
        });
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/status", get(status_page))
            .route("/metrics", get(metrics))
            .with_state(View {
                status,
                judge,
                exporter,
            });
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(error = %error, "the status server ended");
            }
        });
        Self(tasks)
    }
}

/// 200 as long as the feeder runs, whatever it waits for: for liveness probes.
async fn healthz(State(view): State<View>) -> Response {
    if view.judge.alive(&view.status.borrow()) {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the feeder has ended\n").into_response()
    }
}

/// 200 when the lake is what readers expect, else 503 with a problem a line: for alarms.
async fn readyz(State(view): State<View>) -> Response {
    let problems = view
        .judge
        .problems(&view.status.borrow(), SystemTime::now());
    if problems.is_empty() {
        return (StatusCode::OK, "ready\n").into_response();
    }
    let mut text = problems.join("\n");
    text.push('\n');
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn status_page(State(view): State<View>) -> Response {
    let described = view
        .judge
        .describe(&view.status.borrow(), SystemTime::now());
    match described {
        Ok(value) => Json(value).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn metrics(State(view): State<View>) -> Response {
    let (feeder, ready) = {
        let status = view.status.borrow();
        let problems = view.judge.problems(&status, SystemTime::now());
        (status.name.clone(), problems.is_empty())
    };
    let page = view.exporter.page(&feeder, ready);
    ([(CONTENT_TYPE, exporter::CONTENT_TYPE)], page).into_response()
}

#[cfg(test)]
mod tests {
    use duckfeeder::Phase;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::exporter::tests::unused;
    use crate::health::tests::{JUDGE, streaming};

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    #[tokio::test]
    async fn the_pages_follow_the_status() {
        let mut well = streaming();
        // Its times are of long ago, and a lake that lacks something has to move.
        well.caught_up = true;
        let (sender, status) = watch::channel(well);
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let _server = Server::start(listener, status, JUDGE, unused());
        assert_eq!(get(address, "/healthz").await, (200, "ok\n".into()));
        assert_eq!(get(address, "/readyz").await, (200, "ready\n".into()));
        let (code, body) = get(address, "/status").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, &body["name"]), (200, &serde_json::json!("shop")));
        sender.send_modify(|status| status.phase = Phase::Copying);
        assert_eq!(get(address, "/healthz").await.0, 200);
        assert_eq!(
            get(address, "/readyz").await,
            (503, "tables are being copied\n".into())
        );
        sender.send_modify(|status| status.phase = Phase::Stopped);
        assert_eq!(
            get(address, "/healthz").await,
            (503, "the feeder has ended\n".into())
        );
        assert_eq!(get(address, "/metrics").await.0, 200);
        assert_eq!(get(address, "/other").await.0, 404);
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let failure = bind(address).await.unwrap_err();
        assert!(
            failure.story().contains(&address.to_string()),
            "{}",
            failure.story()
        );
        assert_eq!(failure.exit() as u8, 2);
    }
}
