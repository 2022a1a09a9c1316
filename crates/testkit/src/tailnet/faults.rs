//! What tests make go wrong, and what they count.

use std::{net::SocketAddr, time::Duration};

use tailnet_wire::key::NodePublic;

use super::{StartError, Tailnet, UnknownError};

impl Tailnet {
    /// Closes control's port and all its connections. What it knows stays.
    pub async fn stop_control(&self) {
        self.control_service.stop().await;
    }

    /// Brings control back at the same address.
    ///
    /// # Errors
    /// [`StartError::Bind`].
    pub async fn resume_control(&self) -> Result<(), StartError> {
        Ok(self.control_service.resume().await?)
    }

    /// A frozen control server keeps its connections and says nothing, not even keepalives.
    pub fn freeze_control(&self, frozen: bool) {
        self.registry.faults.set_frozen(frozen);
    }

    /// Keeps map messages from one node, which then knows less than the others; with `false` it gets them all.
    ///
    /// # Errors
    /// [`UnknownError::Node`].
    pub fn hold_back(&self, name: &str, held: bool) -> Result<(), UnknownError> {
        let id = self.node(name)?.id;
        self.registry.faults.set_held_back(id, held);
        Ok(())
    }

    /// Lets control answer every request of a node with this HTTP status, and `Retry-After: 1`; `None` ends it. Map
    /// streams that are open go on.
    pub fn refuse_requests(&self, status: Option<u16>) {
        self.registry.faults.set_refusal(status);
    }

    /// Sets by how much control's clock is ahead of the real one. Streams already open are told.
    pub fn set_clock_skew(&self, skew: time::Duration) {
        self.registry.faults.set_skew(skew);
        let time = self
            .registry
            .wall()
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap_or_default();
        let message = serde_json::json!({ "ControlTime": time }).to_string();
        for node in self.nodes() {
            self.inject(node.id, &message);
        }
    }

    /// Closes the relay's port and all its connections.
    pub async fn stop_derp(&self) {
        self.relay_service.stop().await;
    }

    /// Brings the relay back at the same address.
    ///
    /// # Errors
    /// [`StartError::Bind`].
    pub async fn resume_derp(&self) -> Result<(), StartError> {
        Ok(self.relay_service.resume().await?)
    }

    /// Whether a node is connected to the relay, and whether it calls it its home.
    pub fn derp_connection(&self, key: &NodePublic) -> Option<bool> {
        self.relay.table().connection(key)
    }

    /// Packets relayed, packets dropped and clients refused by the relay since the start.
    pub fn derp_counts(&self) -> (u64, u64, u64) {
        self.relay.table().counts()
    }

    /// STUN requests answered and refused since the start.
    pub fn stun_counts(&self) -> (u64, u64) {
        self.stun.counts()
    }

    /// Blocks UDP between nodes: no STUN, no endpoints in maps, no CallMeMaybe through the relay, and, with
    /// [`TailnetConfig::nat`](crate::TailnetConfig::nat), no datagram from one node to another. Without the NAT, paths
    /// that are already direct stay; blocking them takes a firewall (see tests/interop).
    pub fn block_udp(&self, blocked: bool) {
        self.registry.faults.set_udp_blocked(blocked);
        self.registry.change(|_| ());
    }

    /// Makes the NAT lose a share of the datagrams (0 to 1) and deliver the others late.
    pub fn set_udp_quality(&self, loss: f64, delay: Duration) {
        self.registry.faults.set_udp_quality(loss, delay);
    }

    /// Moves a node to another address at the NAT: its next datagram comes from there, and the old one is dead.
    ///
    /// # Errors
    /// [`UnknownError::Node`] when the node has no address at the NAT, which also means that there is no NAT.
    pub async fn roam(&self, name: &str) -> Result<SocketAddr, UnknownError> {
        let unknown = || UnknownError::Node(format!("{name:?} (behind the NAT)"));
        let nat = self.nat.as_ref().ok_or_else(unknown)?;
        let outside = self
            .node(name)?
            .endpoints
            .into_iter()
            .find(|address| nat.knows(*address))
            .ok_or_else(unknown)?;
        nat.remap(outside).await.map_err(|_| unknown())
    }
}
