//! Telling the peer our disco key through the tunnel (Go: `sendTSMPDiscoAdvertisement` in `wgengine/userspace.go`).
//!
//! The key is new at every start, and control passes it on a moment later. A tailscaled that learns of it from control
//! throws its session with us away, together with what is in flight, because a new key means a restart; one that has
//! heard of it through the tunnel keeps the session, which is from after the restart already. It also finds the direct
//! path the sooner.

use std::net::IpAddr;

use tailnet_wire::{
    key::DiscoPublic,
    packet::{Addresses, build},
    tsmp::Message,
};

use super::Peer;

impl Peer {
    /// Tells the peer `key`, our disco key, as soon as a session stands. Once is enough: the key does not change while
    /// the process runs.
    pub fn announce_disco(&mut self, key: DiscoPublic) {
        self.announce = Some(key);
    }

    /// Queues the announcement; to be called when there is a session.
    pub(super) fn push_announcement(&mut self) {
        let (Some(key), Some(view)) = (self.announce, &self.view) else {
            return;
        };
        self.announce = None;
        let both = |v4: bool| {
            let of = |addrs: &[IpAddr]| addrs.iter().find(|addr| addr.is_ipv4() == v4).copied();
            Addresses::new(of(&view.local)?, of(&view.remote)?)
        };
        if let Some(addresses) = both(true).or_else(|| both(false)) {
            self.outbox
                .push(&build::tsmp(&addresses, &Message::DiscoKey(key).encode()));
        }
    }
}
