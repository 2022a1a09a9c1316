//! The peers in slots, and the ways to find a slot.
//!
//! A copy of the table costs one pointer per peer; the indexes are shared between copies until a peer comes, goes or
//! changes a field that is looked up by.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    net::IpAddr,
    sync::Arc,
};

use tailnet_wire::{
    control::NodeId,
    key::{DiscoPublic, NodePublic},
};

use super::PeerNode;

#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    slots: Vec<Option<Arc<PeerNode>>>,
    free: Vec<u32>,
    index: Arc<Index>,
}

#[derive(Debug, Clone, Default)]
struct Index {
    id: HashMap<NodeId, u32>,
    key: HashMap<NodePublic, u32>,
    stable_id: HashMap<Arc<str>, u32>,
    ip: HashMap<IpAddr, u32>,
    name: HashMap<Arc<str>, u32>,
    disco: HashMap<DiscoPublic, u32>,
    /// Two peers claimed the same value somewhere. The later one is found, and removing it has to uncover the other.
    contested: bool,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<PeerNode>> {
        self.slots.iter().flatten()
    }

    pub(super) fn by_id(&self, id: NodeId) -> Option<&Arc<PeerNode>> {
        self.at(self.index.id.get(&id))
    }

    pub(super) fn by_key(&self, key: &NodePublic) -> Option<&Arc<PeerNode>> {
        self.at(self.index.key.get(key))
    }

    pub(super) fn by_stable_id(&self, stable_id: &str) -> Option<&Arc<PeerNode>> {
        self.at(self.index.stable_id.get(stable_id))
    }

    pub(super) fn by_ip(&self, ip: IpAddr) -> Option<&Arc<PeerNode>> {
        self.at(self.index.ip.get(&ip))
    }

    /// `name` in lower case, without trailing dot.
    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<PeerNode>> {
        self.at(self.index.name.get(name))
    }

    pub(super) fn by_disco(&self, disco: &DiscoPublic) -> impl Iterator<Item = &Arc<PeerNode>> {
        let found = self.at(self.index.disco.get(disco));
        let others = found.filter(|_| self.index.contested).map(|found| {
            self.iter()
                .filter(move |peer| peer.disco == found.disco && peer.id != found.id)
        });
        found.into_iter().chain(others.into_iter().flatten())
    }

    /// Adds a peer, or replaces the one with the same id.
    pub(super) fn upsert(&mut self, peer: Arc<PeerNode>) {
        let Some(&slot) = self.index.id.get(&peer.id) else {
            let slot = self.free_slot();
            Arc::make_mut(&mut self.index).add(&peer, slot);
            self.slots[slot as usize] = Some(peer);
            return;
        };
        let before = self.slots[slot as usize].replace(peer.clone());
        let Some(before) = before.filter(|before| !same_lookups(before, &peer)) else {
            return;
        };
        self.unindex(&before, |index| index.add(&peer, slot));
    }

    /// Removes the peer with this id, if there is one.
    pub(super) fn remove(&mut self, id: NodeId) {
        let Some(&slot) = self.index.id.get(&id) else {
            return;
        };
        if let Some(before) = self.slots[slot as usize].take() {
            self.free.push(slot);
            self.unindex(&before, |_| ());
        }
    }

    /// Takes `before`, whose slot has already changed, out of the index, then lets `then` put in what took its place.
    fn unindex(&mut self, before: &PeerNode, then: impl FnOnce(&mut Index)) {
        if self.index.contested {
            self.index = Arc::new(self.build_index());
            return;
        }
        let index = Arc::make_mut(&mut self.index);
        index.remove(before);
        then(index);
    }

    fn build_index(&self) -> Index {
        let mut index = Index::default();
        for (slot, peer) in self.slots.iter().enumerate() {
            if let Some(peer) = peer {
                // Slots are u32 by construction, see free_slot.
                index.add(peer, slot as u32);
            }
        }
        index
    }

    /// The number of peers is bounded far below `u32::MAX` by the caller.
    fn free_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        })
    }

    fn at(&self, slot: Option<&u32>) -> Option<&Arc<PeerNode>> {
        self.slots.get(*slot? as usize)?.as_ref()
    }
}

impl Index {
    fn add(&mut self, peer: &PeerNode, slot: u32) {
        let mut contested = false;
        contested |= insert(&mut self.id, peer.id, slot);
        contested |= insert(&mut self.key, peer.key, slot);
        contested |= insert(&mut self.stable_id, peer.stable_id.clone(), slot);
        for ip in &peer.addresses {
            contested |= insert(&mut self.ip, *ip, slot);
        }
        if !peer.name.is_empty() {
            contested |= insert(&mut self.name, peer.name.to_ascii_lowercase().into(), slot);
        }
        if let Some(disco) = peer.disco {
            contested |= insert(&mut self.disco, disco, slot);
        }
        self.contested |= contested;
    }

    /// Only while nothing is contested: every entry of the peer is its own then.
    fn remove(&mut self, peer: &PeerNode) {
        self.id.remove(&peer.id);
        self.key.remove(&peer.key);
        self.stable_id.remove(&peer.stable_id);
        for ip in &peer.addresses {
            self.ip.remove(ip);
        }
        self.name.remove(peer.name.to_ascii_lowercase().as_str());
        if let Some(disco) = peer.disco {
            self.disco.remove(&disco);
        }
    }
}

/// Whether another slot held the value.
fn insert<K: Hash + Eq>(map: &mut HashMap<K, u32>, key: K, slot: u32) -> bool {
    match map.entry(key) {
        Entry::Occupied(mut entry) => entry.insert(slot) != slot,
        Entry::Vacant(entry) => {
            entry.insert(slot);
            false
        }
    }
}

fn same_lookups(a: &PeerNode, b: &PeerNode) -> bool {
    a.key == b.key && a.disco == b.disco && a.addresses == b.addresses && a.name == b.name && a.stable_id == b.stable_id
}
