//! Map messages, applied in the order that Go applies their parts (Go: `control/controlclient/map.go`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tailnet_wire::control::{
    DerpMap, DnsConfig, FilterRule, MapResponse, Node, NodeId, PeerChange, Rules, UserId, UserProfile,
};
use time::{Duration, OffsetDateTime};

use super::{Change, Netmap, PeerNode, SelfNode, node::Interner};
use crate::filter::Filter;

/// Peers and user profiles accepted at most.
const MAX_ENTRIES: usize = 200_000;
/// Rules of the packet filter accepted at most, over all chunks.
const MAX_RULES: usize = 200_000;
/// Smaller differences to control's clock count as none.
const MIN_CLOCK_OFFSET: Duration = Duration::MINUTE;

/// Why a map message was not applied. The netmap stays as it was; the stream has to begin anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The first message of a stream did not say who we are.
    #[error("control's first map message does not describe this node; control misbehaves")]
    NoSelf,
    /// Tailnet lock is on. A lock that control calls disabled does not count: control could leave it out as well.
    #[error("the tailnet is locked (tailnet lock); this node cannot verify signatures and refuses to join it")]
    Locked,
    /// More entries than the node accepts.
    #[error("control sent more {what} than the {limit} that this node accepts")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many are accepted.
        limit: usize,
    },
}

/// Turns map messages into snapshots.
#[derive(Debug, Default)]
pub struct NetmapState {
    current: Option<Arc<Netmap>>,
    chunks: Chunks,
    /// A stream has begun and its first netmap has not arrived.
    fresh: bool,
    names: Interner,
}

/// Filter rules by chunk name.
type Chunks = BTreeMap<String, Arc<Vec<FilterRule>>>;

impl NetmapState {
    /// A state that knows nothing.
    pub fn new() -> Self {
        Self {
            fresh: true,
            ..Self::default()
        }
    }

    /// The latest snapshot; `None` before the first map message.
    pub fn current(&self) -> Option<Arc<Netmap>> {
        self.current.clone()
    }

    /// A new map stream has begun: what its first message does not mention is gone. Until that message arrives, the
    /// latest snapshot stays.
    pub fn begin_stream(&mut self) {
        self.fresh = true;
    }

    /// Applies one message as a whole. `wall` is our wall-clock time.
    ///
    /// Answers `None` when the netmap stays as it is. After an error nothing has changed.
    pub fn handle_response(&mut self, message: MapResponse, wall: OffsetDateTime) -> Result<Option<Change>, MapError> {
        if message.tka_info.as_ref().is_some_and(|lock| !lock.disabled) {
            return Err(MapError::Locked);
        }
        if message.keep_alive && message.node.is_none() {
            return Ok(None);
        }
        let mut draft = match &self.current {
            Some(current) if !self.fresh => Draft::of(current, &self.chunks),
            _ => Draft::blank(message.node.as_deref().ok_or(MapError::NoSelf)?, &mut self.names),
        };
        draft.apply(message, wall, self.current.as_deref(), &mut self.names)?;
        let (next, chunks, notes) = draft.finish(self.current.as_deref());
        let change = diff(self.current.as_deref(), next, notes, self.fresh);
        self.chunks = chunks;
        self.fresh = false;
        // Headscale sends a message to every node for much that concerns none of them.
        if self.current.as_deref().is_some_and(|before| is_same(before, &change)) {
            return Ok(None);
        }
        self.current = Some(change.netmap.clone());
        Ok(Some(change))
    }

    /// Marks the nodes whose keys expired by `wall`, our wall-clock time, ourselves included.
    pub fn handle_timeout(&mut self, wall: OffsetDateTime) -> Option<Change> {
        let current = self.current.clone()?;
        let now = current.control_time(wall);
        let mut next = Netmap::clone(&current);
        let mut notes = Notes::default();
        for peer in current.peers().filter(|peer| !peer.expired && peer.is_expired(now)) {
            let expired = PeerNode {
                expired: true,
                ..PeerNode::clone(peer)
            };
            Arc::make_mut(&mut next.peers).upsert(Arc::new(expired));
            notes.touched.insert(peer.id);
        }
        if !next.self_node.expired && next.self_node.is_expired(now) {
            Arc::make_mut(&mut next.self_node).expired = true;
        } else if notes.touched.is_empty() {
            return None;
        }
        let change = diff(Some(&current), next, notes, false);
        self.current = Some(change.netmap.clone());
        Some(change)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), in our wall-clock time; `None` = no key will expire.
    /// Looks at every peer.
    pub fn next_expiry(&self) -> Option<OffsetDateTime> {
        let current = self.current.as_ref()?;
        let peers = current
            .peers()
            .filter(|peer| !peer.expired)
            .filter_map(|peer| peer.key_expiry);
        let ours = current.self_node.key_expiry.filter(|_| !current.self_node.expired);
        let earliest = peers.chain(ours).min()?;
        Some(earliest.saturating_sub(current.clock_offset))
    }
}

/// What a step touched, for the diff.
#[derive(Default)]
struct Notes {
    touched: BTreeSet<NodeId>,
    filter: bool,
    users: bool,
}

/// The next snapshot while a message is applied to it.
struct Draft {
    next: Netmap,
    chunks: Chunks,
    notes: Notes,
}

impl Draft {
    fn of(current: &Netmap, chunks: &Chunks) -> Self {
        Self {
            next: current.clone(),
            chunks: chunks.clone(),
            notes: Notes::default(),
        }
    }

    fn blank(node: &Node, names: &mut Interner) -> Self {
        let next = Netmap {
            self_node: Arc::new(SelfNode::new(node.clone(), names)),
            peers: Arc::default(),
            users: Arc::default(),
            filter: Arc::new(Filter::deny_all()),
            jailed: Arc::new(Filter::deny_all()),
            derp_map: Arc::default(),
            dns: Arc::default(),
            domain: "".into(),
            health: Arc::default(),
            clock_offset: Duration::ZERO,
        };
        Self {
            next,
            chunks: Chunks::new(),
            notes: Notes::default(),
        }
    }

    fn apply(
        &mut self,
        message: MapResponse,
        wall: OffsetDateTime,
        before: Option<&Netmap>,
        names: &mut Interner,
    ) -> Result<(), MapError> {
        if let Some(time) = message.control_time {
            let offset = time - wall;
            let counts = offset.abs() > MIN_CLOCK_OFFSET;
            self.next.clock_offset = if counts { offset } else { Duration::ZERO };
        }
        if let Some(node) = message.node {
            self.replace_self(SelfNode::new(*node, names));
        }
        if message.peers.is_empty() {
            for id in message.peers_removed {
                self.remove(id);
            }
            self.upsert_all(message.peers_changed, before, names)?;
            self.mark_seen(message.peer_seen_change, wall);
            self.mark_online(message.online_change);
            self.patch_all(message.peers_changed_patch, names);
        } else {
            self.replace_all(message.peers, before, names)?;
        }
        self.add_users(message.user_profiles)?;
        if let Some(derp_map) = message.derp_map {
            self.merge_derp_map(derp_map);
        }
        self.replace_rules(message.packet_filter, message.packet_filters)?;
        if let Some(dns) = message.dns_config {
            self.replace_dns(dns);
        }
        if !message.domain.is_empty() {
            self.next.domain = message.domain.into();
        }
        if let Some(health) = message.health {
            self.next.health = health.into();
        }
        self.mark_expired(wall);
        Ok(())
    }

    /// A key that had expired before its node was mentioned is expired in this very snapshot: there is no moment in
    /// which it is good.
    fn mark_expired(&mut self, wall: OffsetDateTime) {
        let now = self.next.control_time(wall);
        let peers = self.notes.touched.iter().filter_map(|id| self.next.peer_by_id(*id));
        let expired: Vec<NodeId> = peers.filter(|peer| peer.is_expired(now)).map(|peer| peer.id).collect();
        for id in expired {
            self.edit(id, |peer| peer.expired = true);
        }
        if self.next.self_node.is_expired(now) {
            Arc::make_mut(&mut self.next.self_node).expired = true;
        }
    }

    fn replace_self(&mut self, node: SelfNode) {
        self.notes.filter |= node.addresses != self.next.self_node.addresses;
        if *self.next.self_node != node {
            self.next.self_node = Arc::new(node);
        }
    }

    fn replace_all(&mut self, peers: Vec<Node>, before: Option<&Netmap>, names: &mut Interner) -> Result<(), MapError> {
        self.notes.touched.extend(self.next.peers().map(|peer| peer.id));
        self.next.peers = Arc::default();
        self.upsert_all(peers, before, names)
    }

    fn upsert_all(&mut self, peers: Vec<Node>, before: Option<&Netmap>, names: &mut Interner) -> Result<(), MapError> {
        for node in peers {
            let id = node.id;
            let Some(peer) = PeerNode::new(node, names) else {
                self.remove(id);
                continue;
            };
            if self.next.peers.len() >= MAX_ENTRIES {
                return Err(MapError::TooMany {
                    what: "peers",
                    limit: MAX_ENTRIES,
                });
            }
            let known = before.and_then(|before| before.peer_by_id(id));
            let peer = match known.filter(|known| ***known == peer) {
                Some(known) => known.clone(),
                None => Arc::new(peer),
            };
            self.upsert(peer);
        }
        Ok(())
    }

    fn upsert(&mut self, peer: Arc<PeerNode>) {
        self.notes.touched.insert(peer.id);
        Arc::make_mut(&mut self.next.peers).upsert(peer);
    }

    fn remove(&mut self, id: NodeId) {
        self.notes.touched.insert(id);
        Arc::make_mut(&mut self.next.peers).remove(id);
    }

    fn edit(&mut self, id: NodeId, edit: impl FnOnce(&mut PeerNode)) {
        if let Some(peer) = self.next.peers.by_id(id) {
            let mut peer = PeerNode::clone(peer);
            edit(&mut peer);
            self.upsert(Arc::new(peer));
        }
    }

    fn mark_seen(&mut self, seen: BTreeMap<NodeId, bool>, wall: OffsetDateTime) {
        let now = self.next.control_time(wall);
        for (id, seen) in seen {
            self.edit(id, |peer| peer.last_seen = seen.then_some(now));
        }
    }

    fn mark_online(&mut self, online: BTreeMap<NodeId, bool>) {
        for (id, online) in online {
            self.edit(id, |peer| peer.online = Some(online));
        }
    }

    fn patch_all(&mut self, patches: Vec<PeerChange>, names: &mut Interner) {
        for patch in patches {
            self.edit(patch.node_id, |peer| peer.patch(patch, names));
        }
    }

    fn add_users(&mut self, users: Vec<UserProfile>) -> Result<(), MapError> {
        for user in users {
            if self.next.user(user.id).is_some_and(|known| **known == user) {
                continue;
            }
            if self.next.users.len() >= MAX_ENTRIES {
                return Err(MapError::TooMany {
                    what: "user profiles",
                    limit: MAX_ENTRIES,
                });
            }
            self.notes.users = true;
            let users: &mut HashMap<UserId, _> = Arc::make_mut(&mut self.next.users);
            users.insert(user.id, Arc::new(user));
        }
        Ok(())
    }

    /// Absent parts of a DERP map mean "as before".
    fn merge_derp_map(&mut self, mut new: DerpMap) {
        let old = &self.next.derp_map;
        if new.regions.is_empty() {
            new.regions = old.regions.clone();
            new.omit_default_regions = old.omit_default_regions;
        }
        match (&mut new.home_params, &old.home_params) {
            (new @ None, old) => *new = old.clone(),
            (Some(new), Some(old)) if new.region_score.is_empty() => new.region_score = old.region_score.clone(),
            _ => {}
        }
        if new != **old {
            self.next.derp_map = Arc::new(new);
        }
    }

    fn replace_rules(
        &mut self,
        base: Option<Vec<FilterRule>>,
        mut chunks: BTreeMap<String, Option<Rules>>,
    ) -> Result<(), MapError> {
        const ALL: &str = "*";
        self.notes.filter |= base.is_some() || !chunks.is_empty();
        if let Some(rules) = base {
            self.chunks.insert("base".into(), Arc::new(rules));
        }
        if let Some(None) = chunks.remove(ALL) {
            self.chunks.clear();
        }
        for (name, rules) in chunks {
            match rules {
                Some(Rules(rules)) => self.chunks.insert(name, Arc::new(rules)),
                None => self.chunks.remove(&name),
            };
        }
        if self.chunks.values().map(|rules| rules.len() + 1).sum::<usize>() > MAX_RULES {
            return Err(MapError::TooMany {
                what: "filter rules",
                limit: MAX_RULES,
            });
        }
        Ok(())
    }

    fn replace_dns(&mut self, dns: DnsConfig) {
        if dns != *self.next.dns {
            self.next.dns = Arc::new(dns);
        }
    }

    /// Compiles the filter, if it changed, and lets equal parts be shared with the snapshot before.
    fn finish(mut self, before: Option<&Netmap>) -> (Netmap, Chunks, Notes) {
        if self.notes.filter {
            let local = &self.next.self_node.addresses;
            self.next.filter = Arc::new(compile(&self.chunks, local));
            self.next.jailed = Arc::new(Filter::jailed(local));
        }
        if let Some(before) = before {
            share(&mut self.next.self_node, &before.self_node);
            share(&mut self.next.derp_map, &before.derp_map);
            share(&mut self.next.dns, &before.dns);
        }
        (self.next, self.chunks, self.notes)
    }
}

fn compile(chunks: &Chunks, local: &[std::net::IpAddr]) -> Filter {
    let mut chunks = chunks.values();
    match (chunks.next(), chunks.len()) {
        // No rules, but what we open may be answered.
        (None, _) => Filter::new(&[], local),
        (Some(only), 0) => Filter::new(only, local),
        (Some(first), _) => {
            let rules: Vec<_> = std::iter::once(first)
                .chain(chunks)
                .flat_map(|c| c.iter().cloned())
                .collect();
            Filter::new(&rules, local)
        }
    }
}

fn is_same(before: &Netmap, change: &Change) -> bool {
    let next = &change.netmap;
    let peers = change.removed.is_empty() && change.updated.is_empty();
    let flags = change.filter || change.users || change.derp_map || change.self_node;
    peers
        && !flags
        && before.dns == next.dns
        && before.domain == next.domain
        && before.health == next.health
        && before.clock_offset == next.clock_offset
}

fn share<T: PartialEq>(new: &mut Arc<T>, old: &Arc<T>) {
    if !Arc::ptr_eq(new, old) && **new == **old {
        *new = old.clone();
    }
}

fn diff(before: Option<&Netmap>, next: Netmap, mut notes: Notes, fresh: bool) -> Change {
    if let Some(before) = before.filter(|_| fresh) {
        notes.touched.extend(before.peers().map(|peer| peer.id));
    }
    let (mut removed, mut updated) = (Vec::new(), Vec::new());
    for id in notes.touched {
        let old = before.and_then(|before| before.peer_by_id(id));
        let new = next.peer_by_id(id);
        match old.map(|old| (old, next.peer_by_key(&old.key))) {
            Some((old, None)) => removed.push(old.key),
            // The key lives on with another node that has it too.
            Some((old, Some(heir))) if heir.id != id => updated.push(old.key),
            _ => {}
        }
        if let Some(new) = new
            && !old.is_some_and(|old| Arc::ptr_eq(old, new) || **old == **new)
        {
            updated.push(new.key);
        }
    }
    Change {
        removed,
        updated,
        filter: notes.filter || before.is_none() || fresh,
        users: notes.users,
        derp_map: before.is_none_or(|before| !Arc::ptr_eq(&before.derp_map, &next.derp_map)),
        self_node: before.is_none_or(|before| !Arc::ptr_eq(&before.self_node, &next.self_node)),
        netmap: Arc::new(next),
    }
}
