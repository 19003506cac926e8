//! A replication session: frames, the messages in them, the values of their rows. What is decoded is encoded to the
//! same bytes again.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use pgoutput::{Decoder, Message, ProtocolVersion, ReplicationFrame, StandbyStatusUpdate, Tuple};

fn walk(tuple: Option<&Tuple>) {
    for datum in tuple.into_iter().flat_map(Tuple::iter) {
        let _ = format!("{datum:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&version, mut rest)) = data.split_first() else {
        return;
    };
    let version = match version % 4 {
        0 => ProtocolVersion::V1,
        1 => ProtocolVersion::V2,
        2 => ProtocolVersion::V3,
        _ => ProtocolVersion::V4,
    };
    let mut decoder = Decoder::new(version);
    // Two bytes of length before each message.
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(tail.len());
        let (message, tail) = tail.split_at(length);
        rest = tail;
        let bytes = Bytes::copy_from_slice(message);
        let _ = ReplicationFrame::decode(bytes.clone());
        let _ = StandbyStatusUpdate::decode(bytes.clone());
        let Ok(message) = decoder.decode(bytes.clone()) else {
            continue;
        };
        match &message {
            Message::Insert(insert) => walk(Some(&insert.new)),
            Message::Update(update) => walk(Some(&update.new)),
            _ => {}
        }
        let mut encoded = BytesMut::new();
        if message.encode(&mut encoded).is_ok() {
            assert_eq!(encoded, bytes, "{message:?}");
        }
    }
});
