//! Who is in the tailnet: users, nodes, pre-auth keys, logins that wait for a person.
//!
//! The registry is the control server's memory. It outlives the server's connections, so stopping and resuming the
//! server loses nothing. Every change wakes the map sessions, which find out by themselves what is new for their node.

mod auth;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use tailnet_wire::{
    control::{Hostinfo, Login, NodeId, User as WireUser, UserId, UserProfile},
    key::{DiscoPublic, MachinePublic, NodePublic},
};
use time::OffsetDateTime;
use tokio::sync::watch;

pub(crate) use self::auth::{Answer, AuthKey, Owner, PendingLogin};
use crate::{
    fault::Faults,
    policy::{Member, Policy},
};

/// The pseudo-user that every tagged node belongs to, with Headscale's number.
const TAGGED_DEVICES: UserId = UserId(2_147_455_555);

/// A person of the tailnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// `alice@example.com`.
    pub login: String,
    /// `Alice`.
    pub display_name: String,
    /// URL of a picture, or empty.
    pub picture: String,
}

impl User {
    /// A user called by what stands before the `@`.
    pub fn new(login: &str) -> Self {
        let name = login.split('@').next().unwrap_or(login);
        let mut letters = name.chars();
        let display_name = letters
            .next()
            .map(|first| first.to_uppercase().chain(letters).collect())
            .unwrap_or_default();
        Self {
            login: login.to_owned(),
            display_name,
            picture: String::new(),
        }
    }
}

/// What control knows of one node.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: NodeId,
    pub(crate) machine: MachinePublic,
    pub(crate) key: NodePublic,
    pub(crate) disco: Option<DiscoPublic>,
    /// First label of the name, unique in the tailnet.
    pub(crate) name: String,
    pub(crate) owner: Owner,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) hostinfo: Hostinfo,
    pub(crate) created: OffsetDateTime,
    pub(crate) expiry: Option<OffsetDateTime>,
    pub(crate) last_seen: OffsetDateTime,
    pub(crate) ephemeral: bool,
    /// Map streams that are open; a node with none is offline.
    pub(crate) streams: u32,
    /// Shown online without a stream: a peer that exists on paper only.
    pub(crate) fake: bool,
}

impl Record {
    pub(crate) fn member(&self) -> Member<'_> {
        let (user, tags) = match &self.owner {
            Owner::User(user) => (Some(user.1.login.as_str()), [].as_slice()),
            Owner::Tags(tags) => (None, tags.as_slice()),
        };
        Member {
            user,
            tags,
            addresses: &self.addresses,
        }
    }

    pub(crate) fn is_expired(&self, wall: OffsetDateTime) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= wall)
    }

    /// Takes over what a node says of itself; NetInfo stays when nothing is said of it.
    pub(crate) fn set_hostinfo(&mut self, hostinfo: Hostinfo) {
        let net_info = std::mem::replace(&mut self.hostinfo, hostinfo).net_info;
        self.hostinfo.net_info = self.hostinfo.net_info.take().or(net_info);
    }

    pub(crate) fn online(&self) -> bool {
        self.fake || self.streams > 0
    }

    pub(crate) fn home_derp(&self) -> u32 {
        self.hostinfo.net_info.as_ref().map_or(0, |info| info.preferred_derp)
    }
}

impl Owner {
    pub(crate) fn user_id(&self) -> UserId {
        match self {
            Owner::User(user) => user.0,
            Owner::Tags(_) => TAGGED_DEVICES,
        }
    }

    pub(crate) fn profile(&self) -> UserProfile {
        let (login, display, picture) = match self {
            Owner::User(user) => (
                user.1.login.clone(),
                user.1.display_name.clone(),
                user.1.picture.clone(),
            ),
            Owner::Tags(_) => ("tagged-devices".to_owned(), "Tagged Devices".to_owned(), String::new()),
        };
        UserProfile {
            id: self.user_id(),
            login_name: login,
            display_name: display,
            profile_pic_url: picture,
        }
    }

    /// The same, as a registration answers it.
    pub(crate) fn registered(&self) -> (WireUser, Login) {
        let profile = self.profile();
        let user = WireUser {
            id: profile.id,
            display_name: profile.display_name.clone(),
        };
        let login = Login {
            id: profile.id.0,
            provider: "testkit".to_owned(),
            login_name: profile.login_name,
            display_name: profile.display_name,
        };
        (user, login)
    }
}

/// Memory of the control server, behind one lock that is never held across an await.
pub(crate) struct Registry {
    pub(crate) faults: Arc<Faults>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// What the lock protects.
pub(crate) struct State {
    pub(crate) policy: Policy,
    pub(crate) users: Vec<Arc<(UserId, User)>>,
    pub(crate) nodes: BTreeMap<NodeId, Arc<Record>>,
    by_key: HashMap<NodePublic, NodeId>,
    pub(crate) auth_keys: HashMap<String, AuthKey>,
    pub(crate) logins: HashMap<String, PendingLogin>,
    next: i64,
}

impl Registry {
    pub(crate) fn new(policy: Policy, users: Vec<User>, faults: Arc<Faults>) -> Self {
        let state = State {
            policy,
            users: Vec::new(),
            nodes: BTreeMap::new(),
            by_key: HashMap::new(),
            auth_keys: HashMap::new(),
            logins: HashMap::new(),
            next: 1,
        };
        let registry = Self {
            faults,
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        };
        users.into_iter().for_each(|user| registry.add_user(user));
        registry
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Control's own time, with its fault.
    pub(crate) fn wall(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + self.faults.skew()
    }

    /// Tells whoever holds the receiver that something changed, not what.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Changes the state and wakes the map sessions.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changed.send_modify(|revision| *revision += 1);
        result
    }

    pub(crate) fn add_user(&self, user: User) {
        let mut state = self.lock();
        let id = UserId(i64::try_from(state.users.len()).unwrap_or(i64::MAX) + 1);
        state.users.push(Arc::new((id, user)));
    }

    /// Changes one node, if it is there.
    pub(crate) fn change_node(&self, id: NodeId, change: impl FnOnce(&mut Record)) -> bool {
        self.change(|state| state.node_mut(id).map(change).is_some())
    }

    pub(crate) fn remove_node(&self, id: NodeId) -> bool {
        self.change(|state| state.remove(id))
    }
}

impl State {
    pub(crate) fn user(&self, login: &str) -> Option<&Arc<(UserId, User)>> {
        self.users.iter().find(|user| user.1.login == login)
    }

    pub(crate) fn node_by_key(&self, key: &NodePublic) -> Option<&Arc<Record>> {
        self.by_key.get(key).and_then(|id| self.nodes.get(id))
    }

    pub(crate) fn node_by_name(&self, name: &str) -> Option<&Arc<Record>> {
        self.nodes.values().find(|node| node.name == name)
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> Option<&mut Record> {
        self.nodes.get_mut(&id).map(Arc::make_mut)
    }

    pub(crate) fn remove(&mut self, id: NodeId) -> bool {
        let Some(gone) = self.nodes.remove(&id) else {
            return false;
        };
        self.by_key.remove(&gone.key);
        true
    }

    pub(crate) fn set_key(&mut self, id: NodeId, key: NodePublic) {
        let Some(node) = self.nodes.get_mut(&id).map(Arc::make_mut) else {
            return;
        };
        self.by_key.remove(&node.key);
        node.key = key;
        self.by_key.insert(key, id);
    }

    /// The number that the next node will get.
    pub(crate) fn next_id(&self) -> NodeId {
        NodeId(self.next)
    }

    /// Adds a node with the next number, addresses of that number, and a name nobody has yet.
    pub(crate) fn add(
        &mut self,
        machine: MachinePublic,
        key: NodePublic,
        owner: Owner,
        hostinfo: Hostinfo,
        wall: OffsetDateTime,
    ) -> &mut Record {
        let name = self.free_name(&hostinfo.hostname);
        self.add_named(
            machine,
            key,
            owner,
            Hostinfo {
                hostname: name,
                ..hostinfo
            },
            wall,
        )
    }

    /// As [`add`](Self::add), with a host name that the caller knows to be free.
    pub(crate) fn add_named(
        &mut self,
        machine: MachinePublic,
        key: NodePublic,
        owner: Owner,
        hostinfo: Hostinfo,
        wall: OffsetDateTime,
    ) -> &mut Record {
        let id = self.next_id();
        self.next += 1;
        let record = Record {
            id,
            machine,
            key,
            disco: None,
            name: hostinfo.hostname.clone(),
            owner,
            addresses: addresses(id),
            endpoints: Vec::new(),
            hostinfo,
            created: wall,
            expiry: None,
            last_seen: wall,
            ephemeral: false,
            streams: 0,
            fake: false,
        };
        self.by_key.insert(key, id);
        Arc::make_mut(self.nodes.entry(id).or_insert_with(|| Arc::new(record)))
    }

    /// The host name as a DNS label, with `-1`, `-2`, … when it is taken.
    fn free_name(&self, hostname: &str) -> String {
        let label: String = hostname
            .to_lowercase()
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
            .take(60)
            .collect();
        let label = label.trim_matches('-');
        let label = if label.is_empty() { "node" } else { label };
        let taken = |name: &str| self.nodes.values().any(|node| node.name == name);
        if !taken(label) {
            return label.to_owned();
        }
        (1_u32..)
            .map(|number| format!("{label}-{number}"))
            .find(|name| !taken(name))
            .unwrap_or_default()
    }
}

/// 100.64.0.0/10 and fd7a:115c:a1e0::/48, numbered alike.
fn addresses(id: NodeId) -> Vec<IpAddr> {
    let number = u32::try_from(id.0).unwrap_or(u32::MAX) & 0x003f_ffff;
    let v4 = Ipv4Addr::from(0x6440_0000 | number);
    let v6 = Ipv6Addr::from(0xfd7a_115c_a1e0_0000_0000_0000_0000_0000 | u128::from(number));
    vec![v4.into(), v6.into()]
}
