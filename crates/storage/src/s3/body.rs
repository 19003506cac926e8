//! Contents on their way to the store.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::PutPayload;

/// The checksum of a payload as the header `x-amz-checksum-crc32c` carries it.
///
/// It is computed here and sent ahead, instead of letting the SDK append it: what the SDK appends comes in an encoding
/// of its own (`aws-chunked`), which many stores other than Amazon's refuse, while a header that a store does not
/// know does no harm.
pub(super) fn crc32c(payload: &PutPayload) -> String {
    let chunks = payload.chunks().iter();
    let checksum = chunks.fold(0, |checksum, chunk| crc32c::crc32c_append(checksum, chunk));
    STANDARD.encode(checksum.to_be_bytes())
}

/// The payload as the body of a request, without a copy.
pub(super) fn stream(payload: &PutPayload) -> ByteStream {
    if payload.is_empty() {
        return ByteStream::from_static(&[]);
    }
    let payload = payload.clone();
    ByteStream::new(SdkBody::retryable(move || {
        SdkBody::from_body_1_x(Chunks {
            payload: payload.clone(),
            next: 0,
            left: payload.len(),
        })
    }))
}

struct Chunks {
    payload: PutPayload,
    next: usize,
    left: u64,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(chunk) = self.payload.chunks().get(self.next).cloned() {
            self.next += 1;
            if !chunk.is_empty() {
                let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                self.left = self.left.saturating_sub(length);
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> PutPayload {
        let chunks = ["1234", "", "56789"];
        PutPayload::from(chunks.map(Bytes::from_static_str).to_vec())
    }

    trait FromText {
        fn from_static_str(text: &'static str) -> Self;
    }

    impl FromText for Bytes {
        fn from_static_str(text: &'static str) -> Self {
            Self::from_static(text.as_bytes())
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_whole() {
        // The check value of CRC-32C for "123456789" is e3069283.
        let expected = STANDARD.encode([0xe3, 0x06, 0x92, 0x83]);
        assert_eq!(crc32c(&payload()), expected);
        assert_eq!(crc32c(&PutPayload::default()), "AAAAAA==");
    }

    #[tokio::test]
    async fn a_body_has_a_length_and_can_be_sent_twice() {
        let body = stream(&payload()).into_inner();
        assert_eq!(body.content_length(), Some(9));
        let again = body.try_clone().unwrap();
        for body in [body, again] {
            let bytes = ByteStream::new(body).collect().await.unwrap().into_bytes();
            assert_eq!(bytes, "123456789");
        }
    }
}
