//! The peer behind a connection.

use std::{fmt, net::SocketAddr, sync::Arc};

use tailnet_wire::key::NodePublic;
use tokio_util::sync::CancellationToken;

use crate::{
    identity::{Identity, Withdrawn, identity_of},
    live::LiveNetmap,
};

/// Proof of who is at the other end of a connection, and a live view of what the tailnet says about them.
///
/// Only the task that owns a peer's WireGuard tunnel makes one, so holding it means that the bytes of its connection
/// were decrypted by [`node_key`](Self::node_key). No address is ever looked up. Clone it freely.
#[derive(Clone)]
pub struct Caller(Arc<Inner>);

struct Inner {
    key: NodePublic,
    local: SocketAddr,
    remote: SocketAddr,
    netmap: Arc<LiveNetmap>,
    withdrawn: CancellationToken,
}

impl Caller {
    pub(crate) fn new(
        key: NodePublic,
        local: SocketAddr,
        remote: SocketAddr,
        netmap: Arc<LiveNetmap>,
        withdrawn: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            key,
            local,
            remote,
            netmap,
            withdrawn,
        }))
    }

    /// The WireGuard key that decrypts this connection.
    pub fn node_key(&self) -> NodePublic {
        self.0.key
    }

    /// Our address and port, as the caller contacted it.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    /// The caller's address and port.
    pub fn remote_addr(&self) -> SocketAddr {
        self.0.remote
    }

    /// Who the caller is now: read afresh from the netmap at each call.
    ///
    /// # Errors
    /// [`Withdrawn`] when the tailnet no longer vouches for the key. The connection is then being reset.
    pub fn identity(&self) -> Result<Identity, Withdrawn> {
        let netmap = self.0.netmap.current().ok_or(Withdrawn::NotJoined)?;
        identity_of(
            &netmap,
            &self.0.key,
            self.0.remote.ip(),
            self.0.local.ip(),
            self.0.netmap.age(),
        )
    }

    /// Resolves when the tailnet stops vouching for the caller's key or when its packet filter stops admitting this
    /// connection, which is reset at the same time. Whoever serves the connection ends then.
    pub async fn withdrawn(&self) {
        let mut changes = self.0.netmap.subscribe();
        loop {
            changes.mark_unchanged();
            // Asked beside the token, which nobody cancels for a connection that had ended before: when both sides
            // learn of a withdrawal, the other side's reset may come first.
            if self.identity().is_err() {
                return;
            }
            tokio::select! {
                () = self.0.withdrawn.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({:?} {} -> {})", self.0.key, self.0.remote, self.0.local)
    }
}
