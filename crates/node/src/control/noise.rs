//! The Noise connection as a byte stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tailnet_wire::noise::{MAX_PLAINTEXT, NoiseError, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Sealed bytes that may wait for the socket; more plaintext is taken once they are gone.
const MAX_PENDING: usize = 64 * 1024;
/// Bytes read from the socket at once.
const READ: usize = 16 * 1024;

/// Seals what is written and opens what is read. A record that cannot be opened ends the stream with an error.
pub(super) struct NoiseStream<S> {
    io: S,
    transport: Transport,
    /// Sealed bytes from the socket.
    received: BytesMut,
    /// Opened bytes for the reader.
    plaintext: Bytes,
    /// Sealed bytes for the socket.
    pending: BytesMut,
}

impl<S> NoiseStream<S> {
    /// `received`: what arrived behind the handshake.
    pub(super) fn new(io: S, transport: Transport, received: BytesMut) -> Self {
        Self {
            io,
            transport,
            received,
            plaintext: Bytes::new(),
            pending: BytesMut::new(),
        }
    }

    /// The same stream with bytes, taken off it before, to be read first.
    pub(super) fn with_plaintext(self, plaintext: Bytes) -> Self {
        Self { plaintext, ..self }
    }
}

impl<S: AsyncRead + Unpin> NoiseStream<S> {
    /// More opened bytes, never none; `None` at the end of the stream.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match self.transport.open(&mut self.received) {
                Ok(Some(plaintext)) if plaintext.is_empty() => continue,
                Ok(Some(plaintext)) => return Poll::Ready(Ok(Some(plaintext))),
                Ok(None) => {}
                Err(e) => return Poll::Ready(Err(other(e))),
            }
            let mut chunk = [0; READ];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            self.received.extend_from_slice(read.filled());
            if read.filled().is_empty() {
                let cut = !self.received.is_empty();
                return Poll::Ready(if cut {
                    Err(io::ErrorKind::UnexpectedEof.into())
                } else {
                    Ok(None)
                });
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> NoiseStream<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NoiseStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.plaintext.is_empty() {
            match ready!(self.poll_chunk(cx))? {
                Some(plaintext) => self.plaintext = plaintext,
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = buf.remaining().min(self.plaintext.len());
        buf.put_slice(&self.plaintext.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NoiseStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.pending.len() >= MAX_PENDING {
            ready!(self.poll_drain(cx))?;
        }
        let this = &mut *self;
        let n = buf.len().min(4 * MAX_PLAINTEXT);
        this.transport.seal(&buf[..n], &mut this.pending).map_err(other)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn other(e: NoiseError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}

#[cfg(test)]
mod tests;
