//! What the encoders of several messages share.

use bytes::{BufMut, BytesMut};

use crate::error::EncodeError;
use crate::{Lsn, PgTimestamp, Xid};

pub(crate) fn put_lsn(dst: &mut BytesMut, lsn: Lsn) {
    dst.put_u64(lsn.get());
}

pub(crate) fn put_timestamp(dst: &mut BytesMut, timestamp: PgTimestamp) {
    dst.put_i64(timestamp.pg_micros());
}

/// The transaction id that precedes a message inside a stream block.
pub(crate) fn put_stream_xid(dst: &mut BytesMut, xid: Option<Xid>) {
    if let Some(xid) = xid {
        dst.put_u32(xid.get());
    }
}

pub(crate) fn put_string(
    dst: &mut BytesMut,
    text: &str,
    field: &'static str,
) -> Result<(), EncodeError> {
    if text.as_bytes().contains(&0) {
        return Err(EncodeError::ZeroByte(field));
    }
    dst.put_slice(text.as_bytes());
    dst.put_u8(0);
    Ok(())
}

/// A 32-bit length, then the bytes.
pub(crate) fn put_bytes32(
    dst: &mut BytesMut,
    bytes: &[u8],
    field: &'static str,
) -> Result<(), EncodeError> {
    let len = i32::try_from(bytes.len()).map_err(|_| EncodeError::TooLong(field))?;
    dst.put_i32(len);
    dst.put_slice(bytes);
    Ok(())
}

/// A 16-bit count.
pub(crate) fn put_count16(
    dst: &mut BytesMut,
    count: usize,
    field: &'static str,
) -> Result<(), EncodeError> {
    let count = i16::try_from(count).map_err(|_| EncodeError::TooMany(field))?;
    dst.put_i16(count);
    Ok(())
}

/// Runs `encode` and takes back what it wrote if it fails.
pub(crate) fn all_or_nothing(
    dst: &mut BytesMut,
    encode: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = dst.len();
    encode(dst).inspect_err(|_| dst.truncate(start))
}
