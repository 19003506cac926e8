//! Parts: how large they are, and how what comes in becomes them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::PutPayload;

const MIB: u64 = 1024 * 1024;
/// What comes in smaller pieces is copied together, so that pieces of a few bytes do not cost more memory for their
/// handles than for themselves.
const SMALL: usize = 64 * 1024;

/// A part that is cut, but not yet known to be stored.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Counted from 1.
    pub(super) number: i32,
    pub(super) payload: PutPayload,
}

/// Size in bytes of part `number`.
///
/// S3 takes 10,000 parts of 5 MiB to 5 GiB, and objects up to 5 TiB. A feeder writes objects of some hundred MiB, so
/// parts begin small; each 1,000 parts the size doubles, which is enough for the largest object.
pub(super) fn size(number: i32) -> u64 {
    let doublings = number.saturating_sub(1).div_euclid(1000).clamp(0, 9);
    (8 * MIB) << doublings
}

/// Bytes that wait for their part to become full.
#[derive(Default)]
pub(super) struct Collected {
    chunks: VecDeque<Bytes>,
    /// Small pieces, behind the chunks.
    tail: BytesMut,
    length: u64,
}

impl Collected {
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        self.length = self.length.saturating_add(length_of(&piece));
        if piece.len() < SMALL {
            self.tail.extend_from_slice(&piece);
            return;
        }
        self.seal();
        self.chunks.push_back(piece);
    }

    /// Takes the first `size` bytes, or all if there are not so many.
    pub(super) fn cut(&mut self, size: u64) -> PutPayload {
        self.seal();
        let mut taken = Vec::new();
        let mut left = size.min(self.length);
        self.length -= left;
        while left > 0
            && let Some(mut chunk) = self.chunks.pop_front()
        {
            if let Ok(cut) = usize::try_from(left)
                && cut < chunk.len()
            {
                taken.push(chunk.split_to(cut));
                self.chunks.push_front(chunk);
                break;
            }
            left -= length_of(&chunk);
            taken.push(chunk);
        }
        taken.into()
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }
}

fn length_of(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_within_the_rules_and_fit_the_largest_object() {
        let sizes: Vec<u64> = (1..=10_000).map(size).collect();
        assert_eq!(sizes[0], 8 * MIB);
        assert_eq!(sizes[999], 8 * MIB);
        assert_eq!(sizes[1_000], 16 * MIB);
        assert!(
            sizes
                .iter()
                .all(|size| (5 * MIB..=5120 * MIB).contains(size))
        );
        assert!(sizes.iter().sum::<u64>() >= 5 * MIB * MIB);
    }

    #[test]
    fn pieces_are_cut_where_asked_and_stay_in_order() {
        let whole: Vec<u8> = (0_u32..300_000).map(|i| i.to_le_bytes()[1]).collect();
        for pieces in [1, 7, 1_000, SMALL - 1, SMALL, SMALL + 1, 200_000] {
            let mut collected = Collected::default();
            for piece in whole.chunks(pieces) {
                collected.push(Bytes::copy_from_slice(piece));
            }
            assert_eq!(collected.len(), 300_000);
            let mut cut = Vec::new();
            for size in [0, 1, 100_000, 65_536, 1_000_000, 5] {
                let expected = size.min(collected.len());
                let part = collected.cut(size);
                assert_eq!(part.len(), expected);
                cut.extend(part.chunks().concat());
            }
            assert!(cut == whole, "pieces of {pieces}");
            assert_eq!(collected.len(), 0);
        }
    }

    #[test]
    fn small_pieces_share_memory_and_large_ones_are_not_copied() {
        let mut collected = Collected::default();
        for _ in 0..1_000 {
            collected.push(Bytes::from_static(b"x"));
        }
        let large = Bytes::from(vec![1; SMALL]);
        collected.push(large.clone());
        let part = collected.cut(u64::MAX);
        assert_eq!(part.chunks().len(), 2);
        assert_eq!(part.chunks()[1].as_ptr(), large.as_ptr());
    }
}
