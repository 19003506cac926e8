//! Contents of a put.

use std::sync::Arc;

use bytes::Bytes;

/// Contents of an object as a sequence of chunks that are written one after the other without being copied
/// together. Cloning is cheap, so a layer can repeat a put.
#[derive(Clone, Default)]
pub struct PutPayload(Arc<[Bytes]>);

impl PutPayload {
    /// Length of the object in bytes.
    pub fn len(&self) -> u64 {
        // A `usize` never has more bits than a `u64` on the platforms that Rust supports.
        self.0
            .iter()
            .map(|chunk| u64::try_from(chunk.len()).unwrap_or(u64::MAX))
            .sum()
    }

    /// True if the object has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// The chunks in order.
    pub fn chunks(&self) -> &[Bytes] {
        &self.0
    }
}

/// Shows the size, never the contents.
impl std::fmt::Debug for PutPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutPayload")
            .field("len", &self.len())
            .field("chunks", &self.0.len())
            .finish()
    }
}

impl From<Bytes> for PutPayload {
    fn from(bytes: Bytes) -> Self {
        Self(Arc::from([bytes]))
    }
}

impl From<Vec<Bytes>> for PutPayload {
    fn from(chunks: Vec<Bytes>) -> Self {
        Self(Arc::from(chunks))
    }
}

impl From<Vec<u8>> for PutPayload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static [u8]> for PutPayload {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl From<&'static str> for PutPayload {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_the_sum_of_the_chunks_and_debug_hides_the_contents() {
        let payload = PutPayload::from(vec![
            Bytes::from_static(b"secret"),
            Bytes::new(),
            Bytes::from_static(b"row"),
        ]);
        assert_eq!(payload.len(), 9);
        assert!(!payload.is_empty());
        assert_eq!(format!("{payload:?}"), "PutPayload { len: 9, chunks: 3 }");
        assert!(PutPayload::default().is_empty());
        assert!(PutPayload::from(vec![Bytes::new()]).is_empty());
    }
}
