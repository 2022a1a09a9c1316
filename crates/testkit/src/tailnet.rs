//! The tailnet as tests and the demo hold it.

mod config;
mod fake;
mod faults;
mod node;
mod ping;

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tailnet_wire::{
    control::{DerpMap, DerpNode, DerpRegion, NodeId},
    key::{NodePrivate, NodePublic},
};
use time::OffsetDateTime;

pub use self::{
    config::{AuthKeySpec, TailnetConfig},
    node::NodeConfigError,
    ping::{Answer, PingError},
};
use crate::{
    ca::{Ca, CaError},
    control::{Control, Injection, Settings},
    derp::Relay,
    fault::Faults,
    network::Nat,
    policy::{Policy, PolicyError},
    random,
    registry::{AuthKey, Owner, Record, Registry},
    service::Service,
    stun::StunServer,
};

/// The only DERP region.
pub const REGION: u32 = 1;
/// What the relay is called in the DERP map; no DNS knows it, the map gives its address.
const RELAY_NAME: &str = "derp.tailnet.test";

/// Why a tailnet did not start, or a part of it did not come back.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// No certificates could be made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A loopback port could not be bound.
    #[error("a loopback port could not be bound: {0}")]
    Bind(#[from] io::Error),
}

/// What a tailnet was asked to do with something it does not have.
#[derive(Debug, thiserror::Error)]
pub enum UnknownError {
    /// No such node.
    #[error("no node {0} is in the tailnet")]
    Node(String),
    /// No such user.
    #[error("no user {0:?} is in the tailnet; name him in TailnetConfig::users")]
    User(String),
    /// A tag without an owner in the policy.
    #[error("the policy does not define {0:?} in tagOwners")]
    Tag(String),
    /// A login that has ended or never began.
    #[error("no login waits at {0:?}")]
    Login(String),
}

/// A node as control sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Number, which is also the stable id.
    pub id: NodeId,
    /// First label of its name.
    pub name: String,
    /// Login name of its owner; `None` for a tagged node.
    pub user: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// IPv4, then IPv6.
    pub addresses: Vec<std::net::IpAddr>,
    /// WireGuard key.
    pub key: NodePublic,
    /// Where it says that UDP reaches it.
    pub endpoints: Vec<SocketAddr>,
    /// Home region; 0 = none reported yet, so nobody can reach it.
    pub home_derp: u32,
    /// Whether a map stream of it is open.
    pub online: bool,
    /// When its key expires.
    pub key_expiry: Option<OffsetDateTime>,
}

/// A whole tailnet in this process: control server, relay and STUN server on loopback ports.
///
/// Dropping it closes them all. Everything a test changes (policy, nodes, faults) takes effect at once on the nodes
/// that are connected.
pub struct Tailnet {
    ca_pem: String,
    registry: Arc<Registry>,
    control: Arc<Control>,
    control_service: Service<Control>,
    relay: Arc<Relay>,
    relay_service: Service<Relay>,
    stun: StunServer,
    nat: Option<Arc<Nat>>,
}

impl Tailnet {
    /// Starts all servers. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`StartError`] when the policy is not usable, or loopback ports cannot be bound.
    pub async fn start(config: TailnetConfig) -> Result<Self, StartError> {
        let policy = config
            .policy
            .as_deref()
            .map_or_else(|| Ok(Policy::allow_all()), Policy::parse)?;
        let faults = Arc::new(Faults::default());
        let registry = Arc::new(Registry::new(policy, config.users, faults.clone()));
        let ca = Ca::new()?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));

        let nat = config.nat.then(|| Arc::new(Nat::new(faults.clone())));
        let stun = StunServer::start(any, faults.clone(), nat.clone()).await?;
        let relay_key = NodePrivate::from_random(random::bytes());
        let relay_tls = ca.relay(&[RELAY_NAME, "127.0.0.1"], &relay_key.public())?;
        let known = registry.clone();
        let admit = Box::new(move |key: &NodePublic| known.lock().node_by_key(key).is_some());
        let relay = Arc::new(Relay::new(relay_key, admit, config.derp_keep_alive, faults, config.nat));
        let relay_service = Service::start(any, relay_tls, relay.clone()).await?;

        let settings = Settings {
            base_domain: config.base_domain,
            locked: config.locked,
            certificates: config.certificates,
            min_version: config.min_version,
            keep_alive: config.keep_alive,
            ephemeral_timeout: config.ephemeral_timeout,
            derp_map: derp_map(relay_service.address().port(), stun.port()),
        };
        let control = Arc::new(Control::new(registry.clone(), settings, nat.clone()));
        let control_tls = ca.server(&["localhost", "127.0.0.1"], config.expired_certificate)?;
        let control_service = Service::start(any, control_tls, control.clone()).await?;
        control.set_address(control_service.address());
        Ok(Self {
            ca_pem: ca.pem(),
            registry,
            control,
            control_service,
            relay,
            relay_service,
            stun,
            nat,
        })
    }

    /// What nodes are given as their control URL.
    pub fn control_url(&self) -> &str {
        self.control.url()
    }

    /// Where the relay is, as an `https` URL; nodes learn it from their DERP map.
    pub fn derp_url(&self) -> String {
        format!("https://{}", self.relay_service.address())
    }

    /// The STUN server's port on 127.0.0.1.
    pub fn stun_port(&self) -> u16 {
        self.stun.port()
    }

    /// The root that signs control's and the relay's certificates, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Writes the root to a file, for `SSL_CERT_FILE` or `--extra-ca-file`.
    ///
    /// # Errors
    /// As the file system has it.
    pub fn write_ca(&self, file: &Path) -> io::Result<()> {
        std::fs::write(file, &self.ca_pem)
    }

    /// MagicDNS suffix, without dots at its ends.
    pub fn base_domain(&self) -> &str {
        &self.control.settings.base_domain
    }

    /// Makes a pre-auth key.
    ///
    /// # Errors
    /// [`UnknownError`] when the spec names a user or a tag that the tailnet does not have.
    pub fn auth_key(&self, spec: AuthKeySpec) -> Result<String, UnknownError> {
        let wall = self.registry.wall();
        let mut state = self.registry.lock();
        let owner = match (&spec.user, spec.tags.as_slice()) {
            (Some(login), []) => Owner::User(
                state
                    .user(login)
                    .cloned()
                    .ok_or_else(|| UnknownError::User(login.clone()))?,
            ),
            (_, tags) => {
                if let Some(tag) = tags.iter().find(|tag| !state.policy.defines_tag(tag)) {
                    return Err(UnknownError::Tag(tag.clone()));
                }
                Owner::Tags(tags.to_vec())
            }
        };
        let text = format!("hskey-auth-{}-{}", random::hex::<6>(), random::hex::<32>());
        let key = AuthKey {
            owner,
            reusable: spec.reusable,
            ephemeral: spec.ephemeral,
            expiry: wall + spec.valid_for,
            used: false,
        };
        state.auth_keys.insert(text.clone(), key);
        Ok(text)
    }

    /// Replaces the policy; nodes hear of it at once.
    ///
    /// # Errors
    /// [`PolicyError`] when the document is not usable; the old one then stays in force.
    pub fn set_policy(&self, document: &str) -> Result<(), PolicyError> {
        let policy = Policy::parse(document)?;
        self.registry.change(|state| state.policy = policy);
        Ok(())
    }

    /// Every node, in the order they came.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.registry.lock().nodes.values().map(|node| info(node)).collect()
    }

    /// The node whose name has this first label.
    ///
    /// # Errors
    /// [`UnknownError::Node`].
    pub fn node(&self, name: &str) -> Result<NodeInfo, UnknownError> {
        let state = self.registry.lock();
        state
            .node_by_name(name)
            .map(|node| info(node))
            .ok_or_else(|| UnknownError::Node(name.to_owned()))
    }

    /// Waits until a node of this name is online and has a home region, so that others can reach it.
    ///
    /// # Errors
    /// [`UnknownError::Node`] when `timeout` ends first.
    pub async fn wait_online(&self, name: &str, timeout: Duration) -> Result<NodeInfo, UnknownError> {
        let mut changes = self.registry.subscribe();
        let ready = async {
            loop {
                changes.mark_unchanged();
                match self.node(name) {
                    Ok(node) if node.online && node.home_derp != 0 => return node,
                    _ => {}
                }
                // The registry lives as long as we do.
                let _ = changes.changed().await;
            }
        };
        tokio::time::timeout(timeout, ready)
            .await
            .map_err(|_| UnknownError::Node(format!("{name:?} (online)")))
    }

    /// Deletes a node, as `headscale nodes delete`.
    ///
    /// # Errors
    /// [`UnknownError::Node`].
    pub fn delete_node(&self, id: NodeId) -> Result<(), UnknownError> {
        self.registry
            .remove_node(id)
            .then_some(())
            .ok_or_else(|| UnknownError::Node(id.to_string()))
    }

    /// Lets a node's key expire now, as `headscale nodes expire`.
    ///
    /// # Errors
    /// [`UnknownError::Node`].
    pub fn expire_node(&self, id: NodeId) -> Result<(), UnknownError> {
        self.set_key_expiry(id, Some(self.registry.wall()))
    }

    /// Sets when a node's key expires. Nothing more is sent when that time comes: nodes watch it themselves.
    ///
    /// # Errors
    /// [`UnknownError::Node`].
    pub fn set_key_expiry(&self, id: NodeId, expiry: Option<OffsetDateTime>) -> Result<(), UnknownError> {
        self.change_node(id, |node| node.expiry = expiry)
    }

    /// Renames a node; `name` must be a free DNS label.
    ///
    /// # Errors
    /// [`UnknownError::Node`].
    pub fn rename_node(&self, id: NodeId, name: &str) -> Result<(), UnknownError> {
        self.change_node(id, |node| node.name = name.to_owned())
    }

    /// Gives a node another key, as a rotation on the node's side would: its peers must drop the old one.
    ///
    /// # Errors
    /// [`UnknownError::Node`].
    pub fn rotate_key(&self, id: NodeId) -> Result<(), UnknownError> {
        let key = NodePrivate::from_random(random::bytes()).public();
        self.change_node(id, |_| ())?;
        self.registry.change(|state| state.set_key(id, key));
        Ok(())
    }

    fn change_node(&self, id: NodeId, change: impl FnOnce(&mut Record)) -> Result<(), UnknownError> {
        self.registry
            .change_node(id, change)
            .then_some(())
            .ok_or_else(|| UnknownError::Node(id.to_string()))
    }

    /// Addresses of logins that wait for a person.
    pub fn pending_logins(&self) -> Vec<String> {
        let state = self.registry.lock();
        state
            .logins
            .iter()
            .filter(|(_, login)| login.verdict.borrow().is_none())
            .map(|(id, _)| self.login_url(id))
            .collect()
    }

    fn login_url(&self, id: &str) -> String {
        format!("{}/register/{id}", self.control_url())
    }

    /// The person behind a login page logs in as `user`.
    ///
    /// # Errors
    /// [`UnknownError::Login`] when no such login waits.
    pub fn approve_login(&self, url: &str, user: &str) -> Result<(), UnknownError> {
        let id = url.rsplit('/').next().unwrap_or_default();
        self.registry
            .approve_login(id, user)
            .then_some(())
            .ok_or_else(|| UnknownError::Login(url.to_owned()))
    }

    /// Sends a map message of one's own making to a node, as JSON text; gives the number of streams it went to.
    pub fn inject(&self, id: NodeId, message: &str) -> usize {
        self.control
            .inject(id, &Injection::Message(Bytes::copy_from_slice(message.as_bytes())))
    }

    /// Puts bytes into a node's map stream as they are, without length or compression.
    pub fn inject_raw(&self, id: NodeId, bytes: &[u8]) -> usize {
        self.control.inject(id, &Injection::Raw(Bytes::copy_from_slice(bytes)))
    }

    /// Ends a node's map streams; the node is expected to open another.
    pub fn end_stream(&self, id: NodeId) -> usize {
        self.control.inject(id, &Injection::End)
    }

    /// How many map streams nodes have opened since the start.
    pub fn map_streams(&self) -> u64 {
        self.control.map_streams()
    }

    /// Ends all servers and waits until their tasks are gone.
    pub async fn shutdown(self) {
        self.control_service.stop().await;
        self.relay_service.stop().await;
    }
}

fn info(node: &Record) -> NodeInfo {
    let member = node.member();
    NodeInfo {
        id: node.id,
        name: node.name.clone(),
        user: member.user.map(str::to_owned),
        tags: member.tags.to_vec(),
        addresses: node.addresses.clone(),
        key: node.key,
        endpoints: node.endpoints.clone(),
        home_derp: node.home_derp(),
        online: node.online(),
        key_expiry: node.expiry,
    }
}

fn derp_map(derp_port: u16, stun_port: u16) -> DerpMap {
    let node = DerpNode {
        name: "1a".to_owned(),
        region_id: REGION,
        host_name: RELAY_NAME.to_owned(),
        ipv4: "127.0.0.1".to_owned(),
        ipv6: "none".to_owned(),
        stun_port: stun_port.into(),
        derp_port,
        ..DerpNode::default()
    };
    let region = DerpRegion {
        region_id: REGION,
        region_code: "loop".to_owned(),
        region_name: "Loopback".to_owned(),
        nodes: vec![node],
        ..DerpRegion::default()
    };
    DerpMap {
        regions: [(REGION, Arc::new(region))].into(),
        omit_default_regions: true,
        ..DerpMap::default()
    }
}
