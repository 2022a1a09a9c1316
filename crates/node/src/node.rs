//! The node: joining, what an application can ask of it, and leaving.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde_json::value::RawValue;
use tailnet_engine::peer::{ConnError, ConnectError, PingKind, SendError};
use tailnet_wire::{key::MachinePublic, packet::IpProto};
use tokio::{sync::watch, time::timeout};

use crate::{
    Identity, ListenError, Listener, NodeConfig, Status, Stream, UdpSocket, Unroutable, UserId, clock,
    identity::{Withdrawn, identity_of},
    join::{self, StartError},
    shared::Shared,
    status,
    supervisor::NodeState,
};

/// A node of a tailnet, living in this process.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tailnet_node::{AuthKey, Node, NodeConfig};
/// use tokio::io::AsyncWriteExt;
///
/// let mut config = NodeConfig::new("/var/lib/hello", "https://hs.example".parse()?, "hello");
/// config.auth_key = Some(AuthKey::new(std::fs::read_to_string("/run/secrets/authkey")?));
/// let node = Node::start(config).await?;
/// let mut listener = node.listen(80)?;
/// loop {
///     let (mut stream, caller) = listener.accept().await?.into_parts();
///     let identity = caller.identity()?;
///     stream.write_all(format!("hello, {:?}\n", identity.who).as_bytes()).await?;
/// }
/// # }
/// ```
///
/// Dropping it without [`shutdown`](Self::shutdown) ends every task at once; peers then learn of closed connections
/// only by their own timeouts.
pub struct Node {
    shared: Arc<Shared>,
    state: watch::Receiver<NodeState>,
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// There is no such peer.
    #[error(transparent)]
    Unroutable(#[from] Unroutable),
    /// It could not even be tried.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The peer did not take it.
    #[error("{target}: {source}")]
    Failed {
        /// What was dialled.
        target: String,
        /// What happened.
        source: ConnError,
    },
}

/// Why a ping failed.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// There is no such peer.
    #[error(transparent)]
    Unroutable(#[from] Unroutable),
    /// It could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// No answer came.
    #[error("no answer")]
    NoAnswer,
}

impl Node {
    /// Joins the tailnet and returns when the first netmap is in force.
    ///
    /// A login URL that a person must follow is logged; [`start_watched`](Self::start_watched) also hands it to the caller.
    ///
    /// # Errors
    /// [`StartError`], whose text says what to do.
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        Self::start_watched(config, |_| {}).await
    }

    /// As [`start`](Self::start); `on_state` hears of each step, the login URL above all.
    ///
    /// # Errors
    /// [`StartError`], whose text says what to do.
    pub async fn start_watched(
        config: NodeConfig,
        on_state: impl Fn(&NodeState) + Send + Sync,
    ) -> Result<Self, StartError> {
        let (shared, state) = join::join(config, &on_state).await?;
        Ok(Self { shared, state })
    }

    /// Opens a TCP port on every tailnet address of the node.
    ///
    /// # Errors
    /// [`ListenError`] when the port is taken or the node has shut down.
    pub fn listen(&self, port: u16) -> Result<Listener, ListenError> {
        let queue = self.shared.ports.open_tcp(port)?;
        self.shared.announce_ports();
        Ok(Listener::new(port, queue, Arc::clone(&self.shared)))
    }

    /// Opens a UDP port on every tailnet address of the node.
    ///
    /// # Errors
    /// [`ListenError`] when the port is taken or the node has shut down.
    pub fn bind_udp(&self, port: u16) -> Result<UdpSocket, ListenError> {
        let queue = self.shared.ports.open_udp(port)?;
        self.shared.announce_ports();
        Ok(UdpSocket::new(port, queue, Arc::clone(&self.shared)))
    }

    /// Connects to a peer, named as `name:port` (MagicDNS, fully qualified or the first label) or `address:port`.
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// [`DialError`]; a peer that does not answer fails it after TCP's own timeout.
    pub async fn dial(&self, target: &str) -> Result<Stream, DialError> {
        let remote = self.resolve(target)?;
        let local = self.shared.own_address_like(remote.ip())?;
        let peer = self.shared.peer_at(remote.ip())?;
        let conn = peer.engine().connect(clock::now(), &mut clock::rng(), local, remote)?;
        peer.kick();
        let stream = Stream::new(peer, conn, SocketAddr::new(local, 0), remote);
        match stream.connected().await {
            Ok(()) => Ok(stream),
            Err(source) => Err(DialError::Failed {
                target: target.to_owned(),
                source,
            }),
        }
    }

    /// Pings a peer inside the tunnel and returns the round trip.
    ///
    /// # Errors
    /// [`PingError`].
    pub async fn ping(&self, address: IpAddr, kind: PingKind, patience: Duration) -> Result<Duration, PingError> {
        let local = self.shared.own_address_like(address)?;
        let peer = self.shared.peer_at(address)?;
        let answer = peer.ping(kind, local, address)?;
        peer.kick();
        timeout(patience, answer)
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(PingError::NoAnswer)
    }

    /// The tailnet address behind `name:port` or `address:port`.
    ///
    /// # Errors
    /// [`Unroutable`].
    pub fn resolve(&self, target: &str) -> Result<SocketAddr, Unroutable> {
        if let Ok(address) = target.parse() {
            return Ok(address);
        }
        let malformed = || Unroutable::Malformed(target.to_owned());
        let (name, port) = target.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        let netmap = self.shared.netmap.current().ok_or(Unroutable::NotJoined)?;
        let peer = netmap
            .peer_by_name(name)
            .ok_or_else(|| Unroutable::NoPeer(name.to_owned()))?;
        let address = peer
            .addresses
            .first()
            .ok_or_else(|| Unroutable::NoPeer(name.to_owned()))?;
        Ok(SocketAddr::new(*address, port))
    }

    /// Who has a tailnet address, by the netmap alone. A convenience for tools: nothing is proven about any packet, so
    /// never use it to decide; a [`Caller`](crate::Caller) is for that.
    pub fn whois(&self, address: IpAddr) -> Option<Identity> {
        let netmap = self.shared.netmap.current()?;
        let peer = netmap.peer_by_ip(address)?;
        let local = self.shared.own_address_like(address).ok()?;
        identity_of(&netmap, &peer.key, address, local, self.shared.netmap.age()).ok()
    }

    /// What the netmap now says about the node with a stable id, which may be offline. For whoever stored the id when a [`Caller`](crate::Caller) proved it: what was given to that node then
    /// rests on what it is now. Says nothing about who sent anything.
    ///
    /// # Errors
    /// [`Withdrawn`] when nobody vouches for the node any more, or when this node has no netmap to ask.
    pub fn node_by_id(&self, stable_id: &str) -> Result<Identity, Withdrawn> {
        let netmap = self.shared.netmap.current().ok_or(Withdrawn::NotJoined)?;
        let peer = netmap.peer_by_stable_id(stable_id).ok_or(Withdrawn::Gone)?;
        let like = |address: &IpAddr| Some((*address, self.shared.own_address_like(*address).ok()?));
        let (address, local) = peer.addresses.iter().find_map(like).ok_or(Withdrawn::Gone)?;
        identity_of(&netmap, &peer.key, address, local, self.shared.netmap.age())
    }

    /// Whether the packet filter lets the node with a stable id open TCP connections to `port`, at any of our addresses. A
    /// peer may be one for another reason: another port, or because we reach it.
    pub fn admits(&self, stable_id: &str, port: u16) -> bool {
        let Some(netmap) = self.shared.netmap.current() else {
            return false;
        };
        netmap.peer_by_stable_id(stable_id).is_some_and(|peer| {
            let filter = netmap.filter_for(peer);
            let has_cap = |name: &str| peer.cap_map.contains_key(name);
            let may_open = |remote: &IpAddr| {
                let mut ours = netmap.self_node().addresses.iter();
                ours.any(|local| filter.permits(IpProto::TCP, *remote, SocketAddr::new(*local, port), &has_cap))
            };
            peer.addresses.iter().any(may_open)
        })
    }

    /// The nodes of a user, also those whose keys have expired; a tagged node is nobody's.
    pub fn nodes_of(&self, user: UserId) -> Vec<Arc<str>> {
        let netmap = self.shared.netmap.current();
        let peers = netmap.iter().flat_map(|netmap| netmap.peers());
        let own = peers.filter(|peer| peer.user == user && peer.tags.is_empty());
        own.map(|peer| Arc::clone(&peer.stable_id)).collect()
    }

    /// The values that the policy grants anybody under a capability at one of our addresses, each once, in the order of the
    /// rules. For what is to be said about a rule whoever holds it; who holds what is an [`Identity`]'s to say.
    pub fn granted(&self, capability: &str) -> Vec<String> {
        let mut granted: Vec<String> = Vec::new();
        let Some(netmap) = self.shared.netmap.current() else {
            return granted;
        };
        let mut seen = BTreeSet::new();
        for value in netmap.filter().granted(capability).map(RawValue::get) {
            if seen.insert(value) {
                granted.push(value.to_owned());
            }
        }
        granted
    }

    /// What the node is, whom it knows, and how it is doing.
    pub fn status(&self) -> Status {
        status::status(&self.shared, &self.state.borrow())
    }

    /// What control knows this device by; stays the same for as long as the state folder lives.
    pub fn machine_key(&self) -> MachinePublic {
        self.shared.machine_key
    }

    /// The node's state and every change of it.
    pub fn watch(&self) -> watch::Receiver<NodeState> {
        self.state.clone()
    }

    /// A notice of each netmap change, after it is in force.
    pub fn netmap_changes(&self) -> watch::Receiver<u64> {
        self.shared.netmap.subscribe()
    }

    /// Closes every port and connection, telling the peers, and ends all tasks; after `patience` without telling.
    pub async fn shutdown(&self, patience: Duration) {
        self.shared.ports.close_all();
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let told = async {
            self.shared.tasks.wait().await;
            // The last words to peers that are reached through a relay only are in its queue.
            self.shared.derp.flush().await;
        };
        if timeout(patience, told).await.is_err() {
            tracing::warn!(
                event = "shutdown",
                "some peers were not told that their connections closed"
            );
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({:?}, {:?})", self.shared.key.public(), *self.state.borrow())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.ports.close_all();
        self.shared.stop.cancel();
        self.shared.tasks.close();
    }
}
