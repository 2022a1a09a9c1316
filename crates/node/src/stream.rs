//! A TCP connection over the tailnet, as tokio reads and writes it.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tailnet_engine::peer::{ConnError, ConnId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::peers::PeerHandle;

/// A TCP connection to a peer. What is read here was decrypted by that peer's WireGuard key.
///
/// Dropping it sends what was written and closes it in order; [`Stream::abort`] resets it. Reads and writes are cancel
/// safe: a byte is taken or accepted only by a call that reports it. When the policy withdraws the connection, reads
/// and writes fail with [`io::ErrorKind::PermissionDenied`].
pub struct Stream {
    peer: Arc<PeerHandle>,
    conn: ConnId,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Stream {
    pub(crate) fn new(peer: Arc<PeerHandle>, conn: ConnId, local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            peer,
            conn,
            local,
            remote,
        }
    }

    /// Our tailnet address and port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The peer's tailnet address and port.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// Resets the connection: unread and unsent data is lost.
    pub fn abort(&self) {
        if !self.peer.has_failed() {
            self.peer.engine().abort(self.conn);
            self.peer.kick();
        }
    }

    /// Resolves when a dialled connection is established, or with the reason why it is not.
    pub(crate) async fn connected(&self) -> Result<(), ConnError> {
        std::future::poll_fn(|cx| {
            if self.peer.has_failed() {
                return Poll::Ready(Err(ConnError::Reset));
            }
            self.peer.engine().poll_connected(self.conn, cx)
        })
        .await
    }

    fn check(&self) -> io::Result<()> {
        if self.peer.has_failed() {
            return Err(to_io(ConnError::Reset));
        }
        Ok(())
    }

    /// The reader may hear of the withdrawal before the peer's task does, and then drop the stream: whoever waits for
    /// [`Caller::withdrawn`](crate::Caller::withdrawn) has to be told by then.
    fn failed(&self, error: ConnError) -> io::Error {
        if error == ConnError::Withdrawn {
            self.peer.withdraw(self.conn);
        }
        to_io(error)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let (outcome, opened) = {
            let mut engine = self.peer.engine();
            // Callers offer large buffers, and safe code must zero what it hands on: no more than will be filled.
            let ready = engine.readable(self.conn).max(1).min(buf.remaining());
            let out = buf.initialize_unfilled_to(ready);
            let outcome = engine.poll_read(self.conn, cx, out);
            (outcome, engine.wants_transmit())
        };
        let count = ready!(outcome).map_err(|error| self.failed(error))?;
        buf.advance(count);
        // Once enough was read, the peer must hear that the window has opened.
        if opened {
            self.peer.kick();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        let count = ready!(self.peer.engine().poll_write(self.conn, cx, data)).map_err(|error| self.failed(error))?;
        self.peer.kick();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is on its way already: the peer's task runs after every write.
        Poll::Ready(self.check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let outcome = self.peer.engine().shutdown(self.conn);
        self.peer.kick();
        match outcome {
            // Closing twice is no error, for tokio's callers do.
            Ok(()) | Err(ConnError::Closed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(to_io(error))),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.peer.forget(self.conn);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({} <- {})", self.local, self.remote)
    }
}

pub(crate) fn to_io(error: ConnError) -> io::Error {
    let kind = match error {
        ConnError::Withdrawn => io::ErrorKind::PermissionDenied,
        ConnError::Reset => io::ErrorKind::ConnectionReset,
        ConnError::TimedOut => io::ErrorKind::TimedOut,
        ConnError::Closed => io::ErrorKind::NotConnected,
        ConnError::Refused => io::ErrorKind::ConnectionRefused,
    };
    io::Error::new(kind, error)
}
