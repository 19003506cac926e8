//! Prints the changes in a recorded replication stream.
//!
//! A recording is a sequence of the contents of CopyData messages, each behind its length as a
//! big-endian `u32`. Without an argument, the one that comes with the crate is printed:
//!
//! ```text
//! cargo run -p pgoutput --example decode_capture [FILE]
//! ```
#![allow(clippy::print_stdout, reason = "printing is what the example is for")]

use std::collections::HashMap;
use std::error::Error;

use bytes::{Buf, Bytes};
use pgoutput::{
    Datum, Decoder, Message, OldTuple, ProtocolVersion, Relation, RelationId, ReplicationFrame,
    Tuple,
};

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/v1_text.capture");

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| RECORDED.to_owned());
    let mut recording = Bytes::from(std::fs::read(path)?);
    let mut decoder = Decoder::new(ProtocolVersion::V1);
    let mut relations = HashMap::new();
    while recording.has_remaining() {
        let len = usize::try_from(recording.try_get_u32()?)?;
        if len > recording.len() {
            return Err("the recording is cut off".into());
        }
        match ReplicationFrame::decode(recording.split_to(len))? {
            ReplicationFrame::PrimaryKeepalive(keepalive) => {
                println!("keepalive, log ends at {}", keepalive.wal_end);
            }
            ReplicationFrame::XLogData(data) => {
                print(decoder.decode(data.payload)?, &mut relations);
            }
        }
    }
    Ok(())
}

fn print(message: Message, relations: &mut HashMap<RelationId, Relation>) {
    match message {
        Message::Begin(begin) => println!("begin {} at {}", begin.xid, begin.final_lsn),
        Message::Commit(commit) => println!("commit at {}", commit.commit_lsn),
        Message::Relation(relation) => {
            relations.insert(relation.id, relation);
        }
        Message::Insert(insert) => {
            let relation = relations.get(&insert.relation);
            println!("  insert {} {}", name(relation), row(relation, &insert.new));
        }
        Message::Update(update) => {
            let relation = relations.get(&update.relation);
            let old = update.old.as_ref().map_or_else(String::new, |old| {
                format!("{} -> ", row(relation, old.tuple()))
            });
            println!(
                "  update {} {old}{}",
                name(relation),
                row(relation, &update.new)
            );
        }
        Message::Delete(delete) => {
            let relation = relations.get(&delete.relation);
            let part = match &delete.old {
                OldTuple::Key(_) => "key",
                OldTuple::Full(_) => "row",
            };
            println!(
                "  delete {} {part} {}",
                name(relation),
                row(relation, delete.old.tuple())
            );
        }
        Message::Truncate(truncate) => {
            let names: Vec<_> = truncate
                .relations()
                .map(|id| name(relations.get(&id)))
                .collect();
            println!("  truncate {}", names.join(", "));
        }
        other => println!("  {other:?}"),
    }
}

fn name(relation: Option<&Relation>) -> String {
    relation.map_or_else(
        || "(unknown)".to_owned(),
        |relation| format!("{}.{}", relation.namespace, relation.name),
    )
}

fn row(relation: Option<&Relation>, tuple: &Tuple) -> String {
    let columns = relation.map_or(&[][..], |relation| &relation.columns);
    let values: Vec<_> = columns
        .iter()
        .zip(tuple)
        .map(|(column, datum)| match datum {
            Datum::Null => format!("{}: null", column.name),
            Datum::UnchangedToast => format!("{}: unchanged", column.name),
            Datum::Text(text) => {
                let text: String = String::from_utf8_lossy(text).chars().take(40).collect();
                format!("{}: {text:?}", column.name)
            }
            Datum::Binary(bytes) => format!("{}: {} bytes", column.name, bytes.len()),
        })
        .collect();
    format!("{{{}}}", values.join(", "))
}
