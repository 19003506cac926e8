//! A binary COPY that comes in pieces of any size: the rows do not depend on where it is cut.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pgoutput::CopyBinaryDecoder;

/// The rows as text, and how it ended.
fn rows(columns: usize, pieces: impl Iterator<Item = Bytes>) -> (Vec<String>, bool) {
    let mut decoder = CopyBinaryDecoder::new(columns);
    let mut rows = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_row() {
                Ok(Some(row)) => {
                    assert_eq!(row.iter().count(), columns);
                    rows.push(row.iter().map(|datum| format!("{datum:?}")).collect());
                }
                Ok(None) => break,
                Err(_) => return (rows, false),
            }
        }
    }
    (rows, decoder.finish().is_ok())
}

fuzz_target!(|data: &[u8]| {
    let Some((&[columns, cut], body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let columns = usize::from(columns % 8);
    let cut = usize::from(cut % 64) + 1;
    let whole = rows(columns, std::iter::once(Bytes::copy_from_slice(body)));
    let pieces = rows(columns, body.chunks(cut).map(Bytes::copy_from_slice));
    assert_eq!(whole, pieces);
});
