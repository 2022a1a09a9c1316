//! A response body of a given length that costs nothing to make: slices of one static block.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

static BLOCK: [u8; 256 << 10] = [0; 256 << 10];

/// That many zero bytes.
#[derive(Debug)]
pub(crate) struct Zeros {
    left: u64,
}

impl Zeros {
    pub(crate) fn new(length: u64) -> Self {
        Self { left: length }
    }
}

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).map_or(BLOCK.len(), |left| left.min(BLOCK.len()));
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&BLOCK[..length])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
