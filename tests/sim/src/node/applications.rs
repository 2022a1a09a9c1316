//! What applications do on a node: dial, write, read, ask, and give up.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rand::Rng as _;
use tailnet_engine::peer::PingKind;
use tailnet_wire::key::NodePublic;

use super::{ASKING_PORT, Node};
use crate::{
    app::{self, End, Flow, Header, Role, Secret},
    clock::{Clock, Time},
    scenario::PORTS,
};

impl Node {
    /// Dials the peer with this key. Returns whether it could be tried.
    pub fn dial(&mut self, clock: &Clock, key: NodePublic, port: u16, header: Header, pause: Duration) -> bool {
        let Some((local, remote)) = self.ends(key) else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(&key) else {
            return false;
        };
        let remote = SocketAddr::new(remote, port);
        let Ok(conn) = slot.peer.connect(clock.instant(), &mut self.rng, local, remote) else {
            return false;
        };
        let theirs = self.secrets.get(&key).copied().unwrap_or(Secret(0));
        let secrets = (self.identity.secret, theirs);
        let mut flow = Flow::dialed(key, conn, port, clock.now(), secrets, header);
        flow.pause_until = clock.now() + pause;
        self.flows.push(flow);
        true
    }

    /// Gives up on flows that take too long, as any client does.
    pub fn give_up(&mut self, now: Time, patience: Duration) {
        for flow in self
            .flows
            .iter_mut()
            .filter(|flow| flow.end.is_none() && now > flow.began + patience)
        {
            if let Some(slot) = self.slots.get_mut(&flow.peer) {
                slot.peer.abort(flow.conn);
                slot.peer.release(flow.conn);
            }
            flow.end = Some(End::Short);
        }
    }

    pub(super) fn run_flows(&mut self, clock: &Clock) -> bool {
        let now = clock.now();
        let mut busy = false;
        for flow in self.flows.iter_mut().filter(|flow| flow.is_woken(now)) {
            busy = true;
            let Some(slot) = self.slots.get_mut(&flow.peer) else {
                self.faults.push(format!("{flow:?} lives without its peer"));
                continue;
            };
            match flow.poll(now, &mut slot.peer) {
                Ok(progress) if progress.delivered > 0 && !self.truth.permits(now, flow.peer, flow.role, flow.port) => {
                    self.faults.push(format!("{progress:?} without permission: {flow:?}"));
                }
                Ok(_) => {}
                Err(fault) => self.faults.push(fault),
            }
            if flow.end.is_some() {
                slot.peer.release(flow.conn);
            }
        }
        busy
    }

    /// Reads the datagrams that have come, and answers those that ask.
    pub(super) fn run_datagrams(&mut self, clock: &Clock) -> bool {
        let mut busy = false;
        for (key, slot) in &mut self.slots {
            while let Some(datagram) = slot.peer.poll_datagram() {
                busy = true;
                let port = datagram.local.port();
                let role = if port == ASKING_PORT {
                    Role::Dialed
                } else {
                    Role::Accepted
                };
                let theirs = self.secrets.get(key).copied().unwrap_or(Secret(0));
                let number = app::open_datagram(theirs, &datagram.payload);
                match number.filter(|_| self.truth.permits(clock.now(), *key, role, port)) {
                    None => self
                        .faults
                        .push(format!("{datagram:?} of {key} was delivered, permitted or not its own")),
                    Some(_) if role == Role::Dialed => self.answers += 1,
                    Some(number) => {
                        let answer = app::datagram(self.identity.secret, number);
                        // Lost if the queue is full, as on any network.
                        let _ = slot.peer.send_datagram(datagram.local, datagram.remote, &answer);
                    }
                }
            }
        }
        busy
    }

    /// Sends a datagram that asks for an answer, or a ping. Nobody waits for either.
    pub fn ask(&mut self, clock: &Clock, key: NodePublic, number: u64) {
        let Some((local, remote)) = self.ends(key) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        let kind = match self.rng.random_range(0..4) {
            0 => PingKind::Icmp,
            1 => PingKind::Tsmp,
            _ => {
                let (local, remote) = (SocketAddr::new(local, ASKING_PORT), SocketAddr::new(remote, PORTS[0]));
                let payload = app::datagram(self.identity.secret, number);
                // What cannot be sent is lost, as on any network.
                let _ = slot.peer.send_datagram(local, remote, &payload);
                return;
            }
        };
        let _ = slot.peer.ping(clock.instant(), &mut self.rng, kind, local, remote);
    }

    /// One of our addresses and one of the peer's, of the same IP version.
    fn ends(&mut self, key: NodePublic) -> Option<(IpAddr, IpAddr)> {
        let peer = self.netmap.current()?.peer_by_key(&key)?.clone();
        let v6 = self.rng.random_ratio(1, 3);
        let pick = |ips: &[IpAddr]| ips.iter().copied().find(|ip| ip.is_ipv6() == v6);
        Some((pick(&self.identity.addresses)?, pick(&peer.addresses)?))
    }
}
