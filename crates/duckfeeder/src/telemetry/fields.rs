//! The fields of an event or span as JSON, within limits.

use std::collections::BTreeSet;
use std::fmt::{self, Debug, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};

/// What is kept of fields.
#[derive(Debug)]
pub(super) struct Limits {
    /// `None` allows all.
    pub(super) allow: Option<BTreeSet<String>>,
    pub(super) deny: BTreeSet<String>,
    pub(super) value_bytes: usize,
    pub(super) fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            allow: None,
            deny: BTreeSet::new(),
            value_bytes: 4096,
            fields: 64,
        }
    }
}

impl Limits {
    fn keeps(&self, field: &str) -> bool {
        let allowed = self
            .allow
            .as_ref()
            .is_none_or(|allow| allow.contains(field));
        allowed && !self.deny.contains(field)
    }
}

/// Gathers fields.
#[derive(Debug, Default)]
pub(super) struct Collector {
    message: Option<String>,
    fields: Map<String, Value>,
    dropped: u64,
}

impl Collector {
    pub(super) fn visitor<'a>(&'a mut self, limits: &'a Limits) -> Visitor<'a> {
        Visitor {
            collector: self,
            limits,
        }
    }

    /// The message, and the other fields.
    pub(super) fn finish(mut self) -> (Option<String>, Map<String, Value>) {
        if self.dropped > 0 {
            let dropped = Value::from(self.dropped);
            self.fields.insert("_dropped_fields".to_owned(), dropped);
        }
        (self.message, self.fields)
    }
}

pub(super) struct Visitor<'a> {
    collector: &'a mut Collector,
    limits: &'a Limits,
}

impl Visitor<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        if !self.limits.keeps(name) {
            return;
        }
        let fields = &mut self.collector.fields;
        if fields.len() < self.limits.fields || fields.contains_key(name) {
            fields.insert(name.to_owned(), value.into());
        } else {
            self.collector.dropped += 1;
        }
    }

    fn put_text(&mut self, field: &Field, value: &dyn fmt::Display) {
        if !self.limits.keeps(field.name()) {
            return;
        }
        let mut text = Limited {
            text: String::new(),
            room: self.limits.value_bytes,
            cut: 0,
        };
        // A Display that fails has said what it could.
        let _said = write!(text, "{value}");
        let text = text.finish();
        if field.name() == "message" {
            self.collector.message = Some(text);
        } else {
            self.put(field, text);
        }
    }
}

/// Text up to a length: what is longer is not even built.
struct Limited {
    text: String,
    room: usize,
    cut: usize,
}

impl Limited {
    fn finish(mut self) -> String {
        if self.cut > 0 {
            let _never_fails = write!(self.text, "…[+{} bytes]", self.cut);
        }
        self.text
    }
}

impl fmt::Write for Limited {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = if self.cut > 0 {
            0
        } else {
            part.floor_char_boundary(self.room.min(part.len()))
        };
        let (kept, cut) = part.split_at(end);
        self.text.push_str(kept);
        self.room -= kept.len();
        self.cut += cut.len();
        Ok(())
    }
}

struct DebugText<'a>(&'a dyn Debug);

impl fmt::Display for DebugText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Visit for Visitor<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.put(field, value);
        } else {
            // JSON has no number for it.
            self.put_text(field, &value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match i64::try_from(value) {
            Ok(value) => self.put(field, value),
            Err(_) => self.put_text(field, &value),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.put(field, value),
            Err(_) => self.put_text(field, &value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, &value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put_text(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put_text(field, &DebugText(value));
    }
}
