//! The bytes of an upload that the store has not confirmed.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The end of an upload's contents, from the first byte that the store has not confirmed on.
#[derive(Default)]
pub(super) struct Window {
    /// How many bytes the store has confirmed.
    base: u64,
    chunks: VecDeque<Bytes>,
    length: usize,
}

impl Window {
    /// Where the window begins in the object.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// How many bytes wait for the store.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Where the window ends in the object: the length of all that was pushed.
    pub(super) fn end(&self) -> u64 {
        self.base.saturating_add(widen(self.length))
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.length = self.length.saturating_add(chunk.len());
            self.chunks.push_back(chunk);
        }
    }

    /// The first `most` bytes, or all if there are fewer.
    pub(super) fn front(&self, most: usize) -> Bytes {
        let length = most.min(self.length);
        match self.chunks.front() {
            Some(first) if first.len() >= length => return first.slice(..length),
            _ => {}
        }
        let mut joined = BytesMut::with_capacity(length);
        for chunk in &self.chunks {
            let missing = length.saturating_sub(joined.len());
            if missing == 0 {
                break;
            }
            joined.extend_from_slice(&chunk.slice(..missing.min(chunk.len())));
        }
        joined.freeze()
    }

    /// Lets go of what lies before `offset` in the object. False, and nothing changes, if that is outside of the
    /// window, that is if the store claims bytes that it has lost or never got.
    #[must_use]
    pub(super) fn confirm(&mut self, offset: u64) -> bool {
        if offset < self.base || offset > self.end() {
            return false;
        }
        while self.base < offset {
            let Some(mut chunk) = self.chunks.pop_front() else {
                break;
            };
            let wanted = usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX);
            let gone = wanted.min(chunk.len());
            self.base = self.base.saturating_add(widen(gone));
            self.length = self.length.saturating_sub(gone);
            let rest = chunk.split_off(gone);
            if !rest.is_empty() {
                self.chunks.push_front(rest);
            }
        }
        true
    }

    /// Frees the memory.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.length = 0;
    }
}

fn widen(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(parts: &[&'static str]) -> Window {
        let mut window = Window::default();
        for part in parts {
            window.push(Bytes::from_static(part.as_bytes()));
        }
        window
    }

    #[test]
    fn the_front_joins_what_was_pushed() {
        let window = window(&["abc", "", "de", "f"]);
        assert_eq!((window.base(), window.len(), window.end()), (0, 6, 6));
        for (most, front) in [(0, ""), (2, "ab"), (3, "abc"), (4, "abcd"), (99, "abcdef")] {
            assert_eq!(window.front(most), front);
        }
    }

    #[test]
    fn what_is_confirmed_is_let_go_also_in_the_middle_of_a_part() {
        let mut window = window(&["abc", "de", "f"]);
        assert!(window.confirm(4));
        assert_eq!((window.base(), window.len(), window.end()), (4, 2, 6));
        assert_eq!(window.front(99), "ef");
        assert!(window.confirm(4));
        window.push(Bytes::from_static(b"g"));
        assert!(window.confirm(7));
        assert_eq!((window.base(), window.len(), window.end()), (7, 0, 7));
        assert_eq!(window.front(99), "");
    }

    #[test]
    fn a_store_that_lost_bytes_or_claims_others_is_not_believed() {
        let mut window = window(&["abc", "de"]);
        assert!(window.confirm(3));
        assert!(!window.confirm(2));
        assert!(!window.confirm(6));
        assert_eq!(
            (window.base(), window.front(99)),
            (3, Bytes::from_static(b"de"))
        );
    }
}
