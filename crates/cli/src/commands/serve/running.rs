//! The parts of a running server, how they come up on one another, and how they go down.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use countersign_oauth::register::Mode;
use countersign_server::{
    Clock, Issuer, Limits, Server, ServerConfig, TailnetDirectory, TailnetInbound, TlsMode, issuer, names_in_policy,
};
use countersign_store::{OpenOptions, Store};
use tailnet_node::{AuthKey, MachinePublic, Node, NodeConfig, NodeState};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    board::Board,
    error::ServeError,
    show,
    silence::{Silence, Word},
};
use crate::config::{Registration, Settings, Tls};

/// Folder of the store in the state folder.
const STORE: &str = "store";

/// Bytes of the database kept in memory, as sled counts: what it holds is about twice as much. Grants have random names, so
/// each new one is looked for on another page; 32 MiB would save 5 % of a flow's CPU and take 9 MiB more.
const STORE_CACHE: u64 = 2 << 20;

/// Control that cannot be reached is tried again and again, with backoff; a server does not give up by itself.
const JOIN_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long peers may take to be told that the node leaves.
const LEAVE: Duration = Duration::from_secs(2);

/// A server on the tailnet.
pub(crate) struct Running {
    node: Arc<Node>,
    server: Server,
    store: Store,
    task: JoinHandle<Result<(), countersign_server::ServeError>>,
    stop: CancellationToken,
    netmap_max_age: Duration,
}

impl Running {
    /// Joins, opens the store, and listens.
    pub(crate) async fn start(settings: &Settings, board: &Arc<Board>) -> Result<Self, ServeError> {
        let watched = Arc::clone(board);
        let node = Arc::new(Node::start_watched(node_config(settings), move |state| show(&watched, state)).await?);
        let store = open_store(settings, &node).await?;
        let server = server(settings, &node, &store).await?;
        let listener = node.listen(settings.port)?;
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (server, stop) = (server.clone(), stop.clone());
            async move { server.serve(TailnetInbound(listener), stop).await }
        });
        Ok(Self {
            node,
            server,
            store,
            task,
            stop,
            netmap_max_age: settings.netmap_max_age,
        })
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Waits until a part ends that must not end, and says why; meanwhile shows how the node is, and says when control
    /// has been silent for long.
    pub(crate) async fn ended(&mut self, board: &Board) -> ServeError {
        let mut states = self.node.watch();
        let mut silence = Silence::new(self.netmap_max_age);
        loop {
            let state = states.borrow_and_update().clone();
            show(board, &state);
            if let NodeState::Stopped(reason) = state {
                return ServeError::Left(reason);
            }
            let connected = !matches!(state, NodeState::Offline(_));
            if let Some(outage) = silence.handle_control(connected, Instant::now()) {
                tracing::info!(event = "control_back", ?outage, "control is reached again");
            }
            let word = async {
                match silence.poll_timeout() {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = &mut self.task => return match ended {
                    Ok(Err(error)) => error.into(),
                    Ok(Ok(())) => countersign_server::ServeError::InboundClosed.into(),
                    Err(_) => ServeError::Panicked("the server task"),
                },
                changed = states.changed() => if changed.is_err() {
                    return ServeError::Panicked("the node's task");
                },
                () = word => say(silence.poll_word(Instant::now()), &state),
            }
        }
    }

    /// Ends what is open, leaves the tailnet, and closes the store.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if !self.task.is_finished()
            && let Err(error) = (&mut self.task).await
        {
            tracing::error!(event = "stop", %error, "the server task ended badly");
        }
        self.node.shutdown(LEAVE).await;
        self.store.close().await;
    }
}

fn say(word: Option<Word>, state: &NodeState) {
    let reason = match state {
        NodeState::Offline(reason) => reason.as_str(),
        _ => "",
    };
    match word {
        Some(Word::Warning) => tracing::warn!(
            event = "control_silent",
            reason,
            "control has been out of reach for five minutes; identities are as old"
        ),
        Some(Word::TooOld) => tracing::error!(
            event = "netmap_too_old",
            reason,
            "control has been out of reach for longer than netmap_max_age: nothing new is issued until it is back"
        ),
        None => {}
    }
}

fn node_config(settings: &Settings) -> NodeConfig {
    let mut config = NodeConfig::new(&settings.state_dir, settings.control_url.clone(), &settings.hostname);
    config.auth_key = settings.auth_key.as_ref().map(|key| AuthKey::new(key.secret.expose()));
    config.tags.clone_from(&settings.tags);
    config.extra_roots.clone_from(&settings.extra_roots);
    config.udp_port = settings.udp_port;
    config.connection_memory = usize::try_from(settings.connection_memory).unwrap_or(usize::MAX);
    // Requests and answers are smaller: a browser's connections would only hold more memory.
    config.connection_buffer = 32 << 10;
    config.allow_plain_control = settings.control_plain_http;
    config.join_timeout = JOIN_TIMEOUT;
    config.app = concat!("countersign ", env!("CARGO_PKG_VERSION")).to_owned();
    config
}

async fn open_store(settings: &Settings, node: &Node) -> Result<Store, ServeError> {
    let mut entropy = [0; 16];
    getrandom::fill(&mut entropy)?;
    let options = store_options(&settings.state_dir, node.machine_key(), entropy);
    match tokio::task::spawn_blocking(move || Store::open(&options)).await {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(ServeError::Panicked("opening the store")),
    }
}

/// Where the store of the node with this machine key is. `entropy` names a store that is made new.
pub(crate) fn store_options(state_dir: &Path, machine_key: MachinePublic, entropy: [u8; 16]) -> OpenOptions {
    OpenOptions {
        folder: state_dir.join(STORE),
        node: machine_key.to_string(),
        cache_bytes: STORE_CACHE,
        entropy,
    }
}

async fn server(settings: &Settings, node: &Arc<Node>, store: &Store) -> Result<Server, ServeError> {
    let status = node.status();
    let https = settings.tls != Tls::Off;
    let derived = Issuer::derive(https, &status.name, settings.port)?;
    let issuer = issuer::check(store, &derived, settings.issuer.as_ref(), OffsetDateTime::now_utc()).await?;
    let config = ServerConfig {
        issuer,
        tls: match settings.tls.clone() {
            Tls::Files { certificate, key } => TlsMode::Files { certificate, key },
            Tls::InternalCa => TlsMode::InternalCa,
            Tls::Off => TlsMode::Off,
        },
        registration: match settings.registration {
            Registration::Capability => Mode::Capability,
            Registration::Network => Mode::Network,
            Registration::Off => Mode::Off,
        },
        own_names: names_in_policy(node),
        cors_origins: settings.cors_origins.clone(),
        netmap_max_age: settings.netmap_max_age,
        routers_are_users: settings.routers_are_users,
        dcr_max_clients_per_user: settings.dcr_max_clients_per_user.into(),
        rate_limit_per_peer: settings.rate_limit_per_peer,
        rate_limit: settings.rate_limit,
        require_grant: settings.require_grant,
        tokens: settings.tokens.clone(),
        claims: settings.claims.clone(),
        audit_retention: settings.audit_retention,
        limits: Limits::default(),
    };
    let directory = Arc::new(TailnetDirectory::new(Arc::clone(node), settings.port));
    Ok(Server::new(config, store.clone(), Clock::system(), directory).await?)
}
