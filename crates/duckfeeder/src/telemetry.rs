//! Forwards `tracing` events and closed spans of the host to an append table.
//!
//! ```no_run
//! # fn example(stream: duckfeeder::append::AppendStream) -> Result<(), Box<dyn std::error::Error>> {
//! use duckfeeder::telemetry::LakeLayer;
//! use tracing_subscriber::layer::SubscriberExt as _;
//!
//! let layer = LakeLayer::builder(stream)
//!     .directives("info,my_service=debug,hyper=off")?
//!     .sample("my_service::cache", 0.01)
//!     .deny_fields(["password", "token"])
//!     .build()?;
//! tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;
//! # Ok(())
//! # }
//! ```
//!
//! It never feeds on duckfeeder's own activity: what duckfeeder's tasks and calls emit, also through the libraries that
//! they call, is counted and left out. That is a mark of the task, not a matter of time. Outside of it are only tasks that
//! a client of a cloud starts by itself (connections of `hyper`), which is why [`CLIENTS`] are off unless a directive
//! names them. What duckfeeder does is told by a row of kind `metrics` per window instead.

mod fields;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use feeder_core::own;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{Event, Id, Level, Metadata, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use self::fields::{Collector, Limits};
use crate::Error;
use crate::append::{AppendCounts, AppendStream, AppendTable, ColumnType};

/// Targets of libraries that work for duckfeeder in tasks of their own. A directive that names one turns it on.
pub const CLIENTS: [&str; 5] = ["hyper", "hyper_util", "h2", "rustls", "sqlx"];

/// Describes a [`LakeLayer`].
#[derive(Debug)]
#[must_use]
pub struct LakeLayerBuilder {
    stream: AppendStream,
    table: AppendTable,
    directives: String,
    samples: Vec<(String, f64)>,
    limits: Limits,
    window: Option<Duration>,
}

impl LakeLayerBuilder {
    /// The lake's table, `raw.traces` unless given.
    pub fn table(mut self, schema: impl Into<String>, table: impl Into<String>) -> Self {
        self.table = declared(&schema.into(), &table.into());
        self
    }

    /// What is forwarded: `level` and `target=level`, with commas between, as `RUST_LOG` has them; `info` unless given.
    ///
    /// # Errors
    /// Of kind `Config` when they cannot be read.
    pub fn directives(mut self, directives: &str) -> Result<Self, Error> {
        parse(directives)?;
        directives.clone_into(&mut self.directives);
        Ok(self)
    }

    /// Forwards this share, 0 to 1, of what has the target or one below it; the longest target decides. Errors are always
    /// forwarded.
    pub fn sample(mut self, target: impl Into<String>, share: f64) -> Self {
        self.samples.push((target.into(), share));
        self
    }

    /// Forwards these fields only. `message` is one.
    pub fn allow_fields<S: Into<String>>(mut self, fields: impl IntoIterator<Item = S>) -> Self {
        let allow = self.limits.allow.get_or_insert_default();
        allow.extend(fields.into_iter().map(Into::into));
        self
    }

    /// Never forwards these fields, whatever is allowed.
    pub fn deny_fields<S: Into<String>>(mut self, fields: impl IntoIterator<Item = S>) -> Self {
        self.limits.deny.extend(fields.into_iter().map(Into::into));
        self
    }

    /// The longest text of one field in bytes, 4 KiB unless given. The rest becomes the mark `…[+N bytes]`.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.limits.value_bytes = bytes;
        self
    }

    /// The most fields of one row, 64 unless given. How many more there were is in `_dropped_fields`.
    pub fn max_fields(mut self, fields: usize) -> Self {
        self.limits.fields = fields;
        self
    }

    /// How often a row of kind `metrics` tells what became of rows and events; every minute unless given, `None` for never.
    /// Nothing is told of a window without news.
    pub fn metrics_window(mut self, window: Option<Duration>) -> Self {
        self.window = window;
        self
    }

    /// Declares the table, and makes the layer. Inside a tokio runtime, the windows of metrics run as a task of it.
    ///
    /// # Errors
    /// Of kind `Config` when a share is not within 0 to 1, or the table is another append table's.
    pub fn build(self) -> Result<LakeLayer, Error> {
        let mut samples = Vec::new();
        for (target, share) in self.samples {
            let shown = share.to_string();
            let threshold = threshold(share).ok_or_else(|| {
                Error::config(
                    format!("the share {shown} of {target} is not within 0 to 1"),
                    "give it a share such as 0.1",
                )
            })?;
            samples.push((target, threshold));
        }
        samples.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        let mut targets = parse(&self.directives)?;
        for client in CLIENTS {
            let named = targets.iter().any(|(target, _)| below(target, client));
            if !named {
                targets = targets.with_target(client, tracing::level_filters::LevelFilter::OFF);
            }
        }
        let table = self.table.to_string();
        self.stream.declare(columns(self.table))?;
        let shared = Arc::new(Shared {
            stream: self.stream,
            table,
            process: process(),
            targets,
            samples,
            limits: self.limits,
            next_id: AtomicI64::new(1),
            counts: Counts::default(),
        });
        if let (Some(window), Ok(runtime)) = (self.window, tokio::runtime::Handle::try_current()) {
            let weak = Arc::downgrade(&shared);
            runtime.spawn(async move {
                let mut told = BTreeMap::new();
                loop {
                    tokio::time::sleep(window).await;
                    // Ends with the layer.
                    let Some(shared) = weak.upgrade() else { return };
                    shared.tell(window, &mut told);
                }
            });
        }
        Ok(LakeLayer(shared))
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct LakeLayer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: AppendStream,
    /// `schema.table` in the lake, under which rows are appended, too.
    table: String,
    process: String,
    targets: Targets,
    /// The longest targets first, with the share as a threshold of a random number.
    samples: Vec<(String, u64)>,
    limits: Limits,
    next_id: AtomicI64,
    counts: Counts,
}

/// What became of events and spans, since the layer was made.
#[derive(Debug, Default)]
struct Counts {
    forwarded: AtomicU64,
    sampled_out: AtomicU64,
    /// Emitted by duckfeeder's own work.
    own: AtomicU64,
    /// Refused by the append stream.
    refused: AtomicU64,
    /// Numbers what is sampled.
    seen: AtomicU64,
}

impl LakeLayer {
    /// Begins to describe a layer that appends to a stream.
    pub fn builder(stream: AppendStream) -> LakeLayerBuilder {
        LakeLayerBuilder {
            stream,
            table: declared("raw", "traces"),
            directives: "info".to_owned(),
            samples: Vec::new(),
            limits: Limits::default(),
            window: Some(Duration::from_mins(1)),
        }
    }

    /// How many events and spans of duckfeeder's own work were left out.
    pub fn own_activity(&self) -> u64 {
        self.0.counts.own.load(Ordering::Relaxed)
    }
}

/// A row of the table.
#[derive(Serialize)]
struct Row<'a> {
    process: &'a str,
    kind: &'static str,
    at: String,
    level: Option<&'static str>,
    target: &'a str,
    name: &'a str,
    message: Option<&'a str>,
    span_id: Option<i64>,
    parent_id: Option<i64>,
    duration_us: Option<i64>,
    fields: Option<&'a Map<String, Value>>,
}

fn declared(schema: &str, table: &str) -> AppendTable {
    AppendTable::new(format!("{schema}.{table}")).target(schema, table)
}

fn columns(table: AppendTable) -> AppendTable {
    table
        .column("process", ColumnType::Varchar)
        .column("kind", ColumnType::Varchar)
        .column("at", ColumnType::TimestampTz)
        .column("level", ColumnType::Varchar)
        .column("target", ColumnType::Varchar)
        .column("name", ColumnType::Varchar)
        .column("message", ColumnType::Varchar)
        .column("span_id", ColumnType::Int64)
        .column("parent_id", ColumnType::Int64)
        .column("duration_us", ColumnType::Int64)
        .column("fields", ColumnType::Json)
}

/// A span that is forwarded when it closes.
struct OpenSpan {
    id: i64,
    parent: Option<i64>,
    at: SystemTime,
    began: Instant,
    fields: Collector,
}

impl Shared {
    /// Whether an event or span is forwarded; counts what is not.
    fn takes(&self, metadata: &Metadata<'_>) -> bool {
        if own::is_active() {
            self.counts.own.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if !self
            .targets
            .would_enable(metadata.target(), metadata.level())
        {
            return false;
        }
        let sampled = self
            .samples
            .iter()
            .find(|(target, _)| below(metadata.target(), target));
        let Some((_, threshold)) = sampled else {
            return true;
        };
        let number = self.counts.seen.fetch_add(1, Ordering::Relaxed);
        if *metadata.level() == Level::ERROR || mix(number) < *threshold {
            return true;
        }
        self.counts.sampled_out.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn append(&self, row: &Row<'_>) {
        let counter = match self.stream.try_append(&self.table, row) {
            Ok(_receipt) => &self.counts.forwarded,
            // Who emits an event cannot be told; the counts tell.
            Err(_refused) => &self.counts.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Appends what happened since the last window, if anything did beside telling it.
    fn tell(&self, window: Duration, told: &mut BTreeMap<String, u64>) {
        let mut now = BTreeMap::new();
        let counts = &self.counts;
        for (name, counter) in [
            ("layer.forwarded", &counts.forwarded),
            ("layer.sampled_out", &counts.sampled_out),
            ("layer.own", &counts.own),
            ("layer.refused", &counts.refused),
        ] {
            now.insert(name.to_owned(), counter.load(Ordering::Relaxed));
        }
        for (table, counts) in self.stream.counts() {
            for (name, count) in outcomes(&counts) {
                now.insert(format!("{table}.{name}"), count);
            }
        }
        let mut fields: Map<String, Value> = now
            .iter()
            .map(|(name, count)| {
                let before = told.get(name).copied().unwrap_or_default();
                (name.clone(), count.saturating_sub(before))
            })
            .filter(|(_, news)| *news > 0)
            .map(|(name, news)| (name, news.into()))
            .collect();
        // What comes of telling is duckfeeder's activity: on that alone it would feed for ever.
        let own_table = format!("{}.", self.table);
        let news = |name: &String| name != "layer.own" && !name.starts_with(&own_table);
        if !fields.keys().any(news) {
            return;
        }
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        fields.insert("window_ms".to_owned(), window.into());
        let buffered = self.stream.buffered_bytes();
        fields.insert("buffered_bytes".to_owned(), buffered.into());
        let row = Row {
            process: &self.process,
            kind: "metrics",
            at: text(SystemTime::now()),
            level: None,
            target: "duckfeeder",
            name: "metrics",
            message: None,
            span_id: None,
            parent_id: None,
            duration_us: None,
            fields: Some(&fields),
        };
        if self.stream.try_append(&self.table, &row).is_err() {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
        }
        *told = now;
    }
}

fn outcomes(counts: &AppendCounts) -> [(&'static str, u64); 8] {
    [
        ("accepted", counts.accepted),
        ("committed", counts.committed),
        ("dropped", counts.dropped),
        ("refused", counts.refused),
        ("blocked", counts.blocked),
        ("unfit", counts.unfit),
        ("duplicate", counts.duplicate),
        ("lost", counts.lost),
    ]
}

impl<S> Layer<S> for LakeLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let shared = &*self.0;
        let Some(span) = context.span(id) else { return };
        if !shared.takes(attributes.metadata()) {
            return;
        }
        let parent = span.scope().skip(1).find_map(|ancestor| {
            let extensions = ancestor.extensions();
            extensions.get::<OpenSpan>().map(|span| span.id)
        });
        let mut fields = Collector::default();
        attributes.record(&mut fields.visitor(&shared.limits));
        span.extensions_mut().insert(OpenSpan {
            id: shared.next_id.fetch_add(1, Ordering::Relaxed),
            parent,
            at: SystemTime::now(),
            began: Instant::now(),
            fields,
        });
    }

    fn on_record(&self, id: &Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<OpenSpan>() {
            values.record(&mut open.fields.visitor(&self.0.limits));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let shared = &*self.0;
        let metadata = event.metadata();
        if !shared.takes(metadata) {
            return;
        }
        let span_id = context.event_scope(event).and_then(|mut scope| {
            scope.find_map(|span| span.extensions().get::<OpenSpan>().map(|open| open.id))
        });
        let mut fields = Collector::default();
        event.record(&mut fields.visitor(&shared.limits));
        let (message, fields) = fields.finish();
        shared.append(&Row {
            process: &shared.process,
            kind: "event",
            at: text(SystemTime::now()),
            level: Some(metadata.level().as_str()),
            target: metadata.target(),
            name: metadata.name(),
            message: message.as_deref(),
            span_id,
            parent_id: None,
            duration_us: None,
            fields: (!fields.is_empty()).then_some(&fields),
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        // Appended without the lock on the span's extensions.
        let Some(open) = span.extensions_mut().remove::<OpenSpan>() else {
            return;
        };
        let metadata = span.metadata();
        let shared = &*self.0;
        let (message, fields) = open.fields.finish();
        let duration = i64::try_from(open.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        shared.append(&Row {
            process: &shared.process,
            kind: "span",
            at: text(open.at),
            level: Some(metadata.level().as_str()),
            target: metadata.target(),
            name: metadata.name(),
            message: message.as_deref(),
            span_id: Some(open.id),
            parent_id: open.parent,
            duration_us: Some(duration),
            fields: (!fields.is_empty()).then_some(&fields),
        });
    }
}

fn parse(directives: &str) -> Result<Targets, Error> {
    directives.parse().map_err(|error| {
        Error::config(
            format!("directives: {error}"),
            "write them as in \"info,my_service=debug,hyper=off\"",
        )
    })
}

/// Whether a target is `parent` or one of its modules.
fn below(target: &str, parent: &str) -> bool {
    target
        .strip_prefix(parent)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// A share as the threshold of an even 64-bit number.
fn threshold(share: f64) -> Option<u64> {
    if !(0.0..=1.0).contains(&share) {
        return None;
    }
    if share >= 1.0 {
        return Some(u64::MAX);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0 and 2^64"
    )]
    let threshold = (share * 18_446_744_073_709_551_616.0) as u64;
    Some(threshold)
}

/// Spreads the numbers of a counter evenly (splitmix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Tells the spans of this process from those of others.
fn process() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    format!(
        "{}-{}",
        std::process::id(),
        since.unwrap_or_default().as_micros()
    )
}

fn text(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

#[cfg(test)]
mod tests;
