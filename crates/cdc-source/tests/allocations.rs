//! The change stream allocates nothing per row: once its buffer has grown, it is used again and
//! again.
#![allow(unsafe_code, reason = "an allocator that counts has to be one")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use bytes::{Bytes, BytesMut};
use cdc_source::{Connection, Endpoint, SessionKind, SlotName, StreamOptions};
use pgoutput::{Lsn, PgTimestamp, ProtocolVersion, ReplicationFrame, XLogData};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FRAMES: u32 = 200_000;
const WARM_UP: u32 = 50_000;
const WRITE: usize = 100_000;

#[test]
fn steady_state_allocates_nothing() {
    let dir = std::env::temp_dir().join(format!("cdc-alloc-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let listener = UnixListener::bind(dir.join(".s.PGSQL.5432")).unwrap();
    let server = std::thread::spawn(move || serve(listener.accept().unwrap().0));

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let allocated = runtime.block_on(async {
        let url = format!(
            "postgres://feeder@/shop?host={}&password=none",
            dir.display()
        );
        let endpoint = Endpoint::parse(&url).unwrap();
        let connection = Connection::connect(&endpoint, SessionKind::Replication)
            .await
            .unwrap();
        let options = StreamOptions {
            binary: true,
            messages: false,
            protocol: ProtocolVersion::V1,
        };
        let slot = SlotName::parse("feeder").unwrap();
        let mut stream = connection
            .start_replication(&slot, Lsn::ZERO, &[], options)
            .await
            .unwrap();
        // The runtime's queue of yielding tasks is allocated when it is first used.
        tokio::task::yield_now().await;
        let mut before = 0;
        let mut seen = 0;
        while seen < FRAMES {
            drop(stream.next_frame().await.unwrap().unwrap());
            seen += 1;
            while let Some(frame) = stream.try_next_frame().unwrap() {
                drop(frame);
                seen += 1;
            }
            if before == 0 && seen >= WARM_UP {
                before = ALLOCATIONS.with(Cell::get);
            }
        }
        assert!(before > 0, "nothing was left to measure");
        ALLOCATIONS.with(Cell::get) - before
    });
    server.join().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(allocated, 0, "in at least {} frames", FRAMES - 2 * WARM_UP);
}

/// A server that trusts everybody and streams [`FRAMES`] frames of various sizes.
fn serve(mut client: UnixStream) {
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    skip(&mut client, length);
    let hello = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    client.write_all(&hello).unwrap();
    for (rows, value) in [(9, &b"x"[..]), (1, b"150018")] {
        query(&mut client);
        let mut answer = message(b'T', &[&[0, 1][..], b"version\0", &[0; 18]].concat());
        let size = u8::try_from(value.len()).unwrap();
        for _ in 0..rows {
            answer.extend(message(b'D', &[&[0, 1, 0, 0, 0, size][..], value].concat()));
        }
        answer.extend(message(b'C', b"SELECT 1\0"));
        answer.extend(message(b'Z', b"I"));
        client.write_all(&answer).unwrap();
    }
    query(&mut client);
    client.write_all(&message(b'W', &[0, 0, 0])).unwrap();
    let mut batch = Vec::new();
    for number in 0..FRAMES {
        let size = usize::try_from(number % 251).unwrap();
        let frame = ReplicationFrame::XLogData(XLogData {
            wal_start: Lsn::new(1),
            wal_end: Lsn::new(1),
            server_time: PgTimestamp::from_pg_micros(0),
            payload: Bytes::from(vec![b'x'; size]),
        });
        let mut data = BytesMut::new();
        frame.encode(&mut data);
        batch.extend(message(b'd', &data));
        // Cut anywhere but between frames: a frame that is split at the end of the buffer makes the
        // buffer grow, once, and that has to happen while it warms up.
        if batch.len() > WRITE {
            let rest = batch.split_off(WRITE);
            client.write_all(&batch).unwrap();
            batch = rest;
        }
    }
    client.write_all(&batch).unwrap();
}

fn query(client: &mut UnixStream) {
    let mut header = [0; 5];
    client.read_exact(&mut header).unwrap();
    let [_, length @ ..] = header;
    skip(client, length);
}

fn skip(client: &mut UnixStream, length: [u8; 4]) {
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
    client.read_exact(&mut body).unwrap();
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}
