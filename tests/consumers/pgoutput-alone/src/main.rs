//! Counts the changes in a recorded replication stream with the decoder alone.

use std::collections::BTreeMap;
use std::error::Error;

use bytes::{Buf, Bytes};
use pgoutput::{Decoder, Message, ProtocolVersion, ReplicationFrame};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: pgoutput-alone RECORDING")?;
    let mut recording = Bytes::from(std::fs::read(path)?);
    let mut decoder = Decoder::new(ProtocolVersion::V1);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    while recording.has_remaining() {
        let length = usize::try_from(recording.try_get_u32()?)?;
        let frame = ReplicationFrame::decode(recording.split_to(length))?;
        let ReplicationFrame::XLogData(data) = frame else {
            continue;
        };
        let kind = match decoder.decode(data.payload)? {
            Message::Insert(insert) => {
                // Every value is reachable without a copy.
                let values = insert.new.iter().count();
                assert_eq!(values, insert.new.len());
                "insert"
            }
            Message::Update(_) => "update",
            Message::Delete(_) => "delete",
            Message::Truncate(_) => "truncate",
            Message::Commit(_) => "commit",
            _ => continue,
        };
        *counts.entry(kind).or_default() += 1;
    }
    for (kind, count) in counts {
        println!("{kind} {count}");
    }
    Ok(())
}
