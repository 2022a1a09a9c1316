//! Frames of the map stream: u32 **little-endian** length, then a body that is one zstd frame, or plain JSON
//! (Go: `control/controlclient/direct.go`).
//!
//! Bytes of the response body come in as they arrive, JSON texts go out. Both sizes are bounded; buffers grow with what
//! has arrived, never with what a header claims.

use std::io::Read;

use bytes::{Buf, BytesMut};
use ruzstd::decoding::StreamingDecoder;

/// Longest body of one frame, compressed or not. A full netmap of 100,000 peers stays below it.
pub const MAX_FRAME: usize = 64 * 1024 * 1024;
/// Longest JSON text after decompression.
pub const MAX_MESSAGE: usize = 128 * 1024 * 1024;

const LEN: usize = 4;

/// Why a map stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum MapFrameError {
    /// The length field asks for too much.
    #[error("control announced a map message of {0} bytes; at most {MAX_FRAME} are accepted")]
    TooLong(usize),
    /// The decompressed text is too long.
    #[error("control sent a map message that decompresses to more than {0} bytes")]
    Inflated(usize),
    /// Not zstd, or damaged.
    #[error("control sent a map message that is not valid zstd")]
    Zstd(#[source] std::io::Error),
}

/// Whether frame bodies are compressed: what the map request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Plain JSON.
    None,
    /// One independent zstd frame each.
    Zstd,
}

/// Cuts a map stream into JSON texts.
#[derive(Debug)]
pub struct MapFrames {
    buffer: BytesMut,
    compression: Compression,
    max_message: usize,
}

impl MapFrames {
    /// For a stream that was asked for with this compression.
    pub fn new(compression: Compression) -> Self {
        Self {
            buffer: BytesMut::new(),
            compression,
            max_message: MAX_MESSAGE,
        }
    }

    /// Takes in bytes of the response body. Call [`next`](Self::next) until it gives `None` before the next push: what
    /// is buffered then is one unfinished frame.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message as JSON text; `None` = more bytes are needed. After an error the stream is of no use.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would end for good at the first None"
    )]
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, MapFrameError> {
        let Some(prefix) = self.buffer.first_chunk::<LEN>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*prefix) as usize;
        if len > MAX_FRAME {
            return Err(MapFrameError::TooLong(len));
        }
        if self.buffer.len() < LEN + len {
            return Ok(None);
        }
        self.buffer.advance(LEN);
        let body = self.buffer.split_to(len);
        if self.buffer.is_empty() {
            // Gives the memory of a large first message back once the caller has dropped its text.
            self.buffer = BytesMut::new();
        }
        match self.compression {
            Compression::None => Ok(Some(body.into())),
            Compression::Zstd => inflate(&body, self.max_message).map(Some),
        }
    }
}

/// Puts the length in front of a body, as a control server sends it.
pub fn write_frame(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(LEN + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

fn inflate(body: &[u8], limit: usize) -> Result<Vec<u8>, MapFrameError> {
    let broken = |e| MapFrameError::Zstd(std::io::Error::other(e));
    // The window of a frame written in one go is as large as its content.
    let mut decoder = StreamingDecoder::new_with_max_window_size(body, limit as u64).map_err(broken)?;
    let mut text = Vec::new();
    decoder
        .by_ref()
        .take(limit as u64 + 1)
        .read_to_end(&mut text)
        .map_err(MapFrameError::Zstd)?;
    if text.len() > limit {
        return Err(MapFrameError::Inflated(limit));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
