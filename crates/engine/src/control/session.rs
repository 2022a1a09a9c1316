//! The state machine itself.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rand_core::RngCore;
use tailnet_wire::{
    control::{
        CAPABILITY_VERSION, DebugSettings, Hostinfo, MapRequest, MapResponse, Node, RegisterRequest, RegisterResponse,
        RegisterResponseAuth,
    },
    key::NodePublic,
};
use time::OffsetDateTime;

use super::{Action, Backoff, Event, Failure, FailureKind, Fatal, Local, SessionConfig, WATCHDOG, updates::Updates};
use crate::netmap::{Change, MapError, NetmapState, SelfNode};

/// Longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Wait after a 429 that names none: 5 to 10 s.
const THROTTLED: Duration = Duration::from_secs(5);
/// Between two questions whether an administrator has approved the node.
const APPROVAL_POLL: Duration = Duration::from_secs(5);
/// A wall clock may jump; expiry is looked at again this often.
const EXPIRY_RECHECK: Duration = Duration::from_secs(600);
/// Longest time that control may ask the stream to rest, as in Go.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// URLs of pings remembered: control repeats a ping until it is answered.
const PINGS_REMEMBERED: usize = 16;

/// One node's session with control, over any number of connections.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    /// Control has accepted our key and not disowned it since.
    registered: bool,
    /// Nobody has been told so yet.
    untold: bool,
    /// A new node key was made; a second one would not help.
    rotated: bool,
    fetch_key: bool,
    /// The login page that a person was sent to.
    followup: String,
    backoff: Backoff,
    updates: Updates,
    netmap: NetmapState,
    next_expiry: Option<OffsetDateTime>,
    /// Control has asked to be left alone until then.
    deaf_until: Option<Instant>,
    pings: VecDeque<String>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No connection; the next attempt begins then.
    Waiting {
        until: Instant,
    },
    Connecting,
    /// A connection stands, and a new node key is being made.
    MakingKey,
    /// A connection stands; the next question is asked then.
    Pausing {
        until: Instant,
    },
    Registering,
    Streaming {
        watchdog: Instant,
        online: bool,
    },
    Ended,
}

impl Session {
    /// A session that wants to connect at once.
    pub fn new(config: SessionConfig, local: Local, now: Instant) -> Self {
        Self {
            phase: Phase::Waiting { until: now },
            registered: config.known,
            untold: true,
            config,
            rotated: false,
            fetch_key: false,
            followup: String::new(),
            backoff: Backoff::default(),
            updates: Updates::new(local),
            netmap: NetmapState::new(),
            next_expiry: None,
            deaf_until: None,
            pings: VecDeque::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The netmap as far as it is known.
    pub fn netmap(&self) -> &NetmapState {
        &self.netmap
    }

    /// What the node tells about itself has changed.
    pub fn handle_local(&mut self, local: Local) {
        self.updates.set(local);
    }

    /// A connection stands.
    pub fn handle_connected(&mut self, now: Instant) {
        if self.phase == Phase::Connecting {
            self.fetch_key = false;
            self.ask(now);
        }
    }

    /// A new node key was made and stored.
    pub fn handle_new_node_key(&mut self, key: NodePublic, now: Instant) {
        if self.phase == Phase::MakingKey {
            self.config.old_node_key = Some(std::mem::replace(&mut self.config.node_key, key));
            self.ask(now);
        }
    }

    /// Control answered a registration.
    pub fn handle_register(&mut self, answer: RegisterResponse, now: Instant, rng: &mut dyn RngCore) {
        if self.phase != Phase::Registering {
            return;
        }
        if !answer.error.is_empty() {
            self.end(Fatal::Refused(answer.error));
        } else if !answer.node_key_signature.is_empty() {
            self.end(Fatal::Locked);
        } else if answer.node_key_expired && (self.rotated || self.netmap.current().is_some()) {
            // Once peers talk to us, our key is fixed for the life of the process.
            self.end(Fatal::KeyExpired);
        } else if answer.node_key_expired {
            self.rotated = true;
            self.phase = Phase::MakingKey;
            self.actions.push_back(Action::NewNodeKey);
        } else if !answer.auth_url.is_empty() {
            self.wait_for_login(answer.auth_url, now, rng);
        } else if !answer.machine_authorized {
            self.events.push_back(Event::AwaitingApproval);
            self.phase = Phase::Pausing {
                until: now + APPROVAL_POLL,
            };
        } else {
            self.registered = true;
            self.rotated = false;
            self.followup.clear();
            self.config.old_node_key = None;
            self.tell_registered();
            self.ask(now);
        }
    }

    /// A message of the map stream arrived.
    pub fn handle_map(&mut self, mut message: MapResponse, now: Instant, wall: OffsetDateTime, rng: &mut dyn RngCore) {
        let Phase::Streaming { watchdog, .. } = &mut self.phase else {
            return;
        };
        *watchdog = now + WATCHDOG;
        if let Some(pause) = message.debug.as_ref().and_then(pause) {
            *watchdog += pause;
            self.deaf_until = Some(now + pause);
        }
        if let Some(node) = message.node.as_ref().filter(|_| self.untold) {
            if is_expired(node, wall) {
                // Our key expired while the node was down. Nobody uses it yet, so it can still be replaced.
                self.registered = false;
                self.ask(now);
                return;
            }
            self.tell_registered();
        }
        let Phase::Streaming { online, .. } = &mut self.phase else {
            return;
        };
        if !std::mem::replace(online, true) {
            self.events.push_back(Event::Online);
        }
        if let Some(ping) = message
            .ping_request
            .take()
            .filter(|ping| !self.pings.contains(&ping.url))
        {
            self.pings.truncate(PINGS_REMEMBERED - 1);
            self.pings.push_front(ping.url.clone());
            self.actions.push_back(Action::Ping(Box::new(ping)));
        }
        if !message.pop_browser_url.is_empty() {
            self.events
                .push_back(Event::ShowUrl(std::mem::take(&mut message.pop_browser_url)));
        }
        let has_content = !message.keep_alive;
        match self.netmap.handle_response(message, wall) {
            Ok(change) => {
                if has_content {
                    self.backoff.reset();
                }
                change.into_iter().for_each(|change| self.changed(change));
            }
            Err(MapError::Locked) => self.end(Fatal::Locked),
            Err(error) => self.reconnect(error.to_string(), now, rng),
        }
    }

    /// Whether the next message of the stream may be read now. When that changes, [`poll_timeout`](Self::poll_timeout)
    /// has said so.
    pub fn may_read(&self, now: Instant) -> bool {
        self.deaf_until.is_none_or(|until| until <= now)
    }

    /// An update arrived.
    pub fn handle_updated(&mut self, now: Instant) {
        self.updates.done(now);
    }

    /// An update was not accepted. The stream, if it still stands, goes on, unless control does not know us any more:
    /// Headscale keeps the stream of a deleted node open and says nothing on it.
    pub fn handle_update_failed(&mut self, failure: Failure, now: Instant, rng: &mut dyn RngCore) {
        let least = match failure.kind {
            FailureKind::Throttled { retry_after } => throttle(retry_after, rng),
            _ => Duration::ZERO,
        };
        self.updates.failed(least, now, rng);
        if failure.kind == FailureKind::UnknownNode {
            self.handle_failure(failure, now, rng);
        }
    }

    /// Connecting, registering or the stream failed, or the stream ended.
    pub fn handle_failure(&mut self, failure: Failure, now: Instant, rng: &mut dyn RngCore) {
        if matches!(self.phase, Phase::Ended | Phase::Waiting { .. }) {
            return;
        }
        match failure.kind {
            FailureKind::Throttled { retry_after } => {
                let wait = throttle(retry_after, rng);
                self.offline(failure.reason, wait);
                self.phase = Phase::Pausing { until: now + wait };
            }
            FailureKind::UnknownNode => {
                self.registered = false;
                let wait = self.backoff.fail(rng);
                self.offline(failure.reason, wait);
                self.phase = Phase::Pausing { until: now + wait };
            }
            FailureKind::ServerKey => {
                self.fetch_key = true;
                self.reconnect(failure.reason, now, rng);
            }
            FailureKind::Answer if self.untold && self.registered => {
                // Whatever the server has against us, a registration will tell.
                self.registered = false;
                self.reconnect(failure.reason, now, rng);
            }
            FailureKind::Connection | FailureKind::Answer => self.reconnect(failure.reason, now, rng),
        }
    }

    /// Time has passed: `now` for the timers, `wall` for key expiry.
    pub fn handle_timeout(&mut self, now: Instant, wall: OffsetDateTime, rng: &mut dyn RngCore) {
        match self.phase {
            Phase::Waiting { until } if until <= now => {
                self.phase = Phase::Connecting;
                self.actions.push_back(Action::Connect {
                    fetch_key: self.fetch_key,
                });
            }
            Phase::Pausing { until } if until <= now => self.ask(now),
            Phase::Streaming { watchdog, .. } if watchdog <= now => {
                let reason = format!("control has sent nothing for {} s", WATCHDOG.as_secs());
                self.reconnect(reason, now, rng);
            }
            _ => {}
        }
        self.deaf_until = self.deaf_until.filter(|until| *until > now);
        if self.next_expiry.is_some_and(|at| at <= wall) {
            let change = self.netmap.handle_timeout(wall);
            self.next_expiry = self.netmap.next_expiry();
            change.into_iter().for_each(|change| self.changed(change));
        }
    }

    /// The next thing to do. Call it after every `handle_*` until it answers `None`.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        (self.is_online() && self.updates.take(now)).then(|| Action::Update(Box::new(self.map_request(false))))
    }

    /// The next thing to tell. Call it after every `handle_*` until it answers `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), at the latest.
    pub fn poll_timeout(&self, now: Instant, wall: OffsetDateTime) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Waiting { until } | Phase::Pausing { until } => Some(until),
            Phase::Streaming { watchdog, .. } => Some(watchdog),
            Phase::Connecting | Phase::MakingKey | Phase::Registering => None,
            Phase::Ended => return None,
        };
        let expiry = self.next_expiry.map(|at| {
            let left = Duration::try_from(at - wall).unwrap_or_default();
            now + left.min(EXPIRY_RECHECK)
        });
        let update = self.updates.timeout().filter(|_| self.is_online());
        [phase, expiry, update, self.deaf_until].into_iter().flatten().min()
    }

    fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Streaming { online: true, .. })
    }

    /// A connection stands: registers, or opens the stream.
    fn ask(&mut self, now: Instant) {
        if !self.registered {
            self.phase = Phase::Registering;
            let request = self.register_request();
            self.actions.push_back(Action::Register(Box::new(request)));
            return;
        }
        self.netmap.begin_stream();
        self.phase = Phase::Streaming {
            watchdog: now + WATCHDOG,
            online: false,
        };
        let request = self.map_request(true);
        self.actions.push_back(Action::Stream(Box::new(request)));
    }

    fn tell_registered(&mut self) {
        self.untold = false;
        self.events.push_back(Event::Registered(self.config.node_key));
    }

    fn wait_for_login(&mut self, url: String, now: Instant, rng: &mut dyn RngCore) {
        if self.followup == url {
            // The server gave up waiting for the person. Asking again is right, asking in a tight loop is not.
            self.phase = Phase::Pausing {
                until: now + self.backoff.fail(rng),
            };
            return;
        }
        self.followup.clone_from(&url);
        self.events.push_back(Event::LoginUrl(url));
        self.ask(now);
    }

    fn changed(&mut self, change: Change) {
        self.next_expiry = self.netmap.next_expiry();
        let node = change.netmap.self_node();
        let fatal = if node.expired {
            Some(Fatal::KeyExpired)
        } else {
            missing_tags(&self.config.tags, node)
        };
        match fatal {
            // Nothing of this netmap may come into force, not even for as long as it takes to read the next event.
            Some(fatal) => self.end(fatal),
            None => self.events.push_back(Event::Change(Box::new(change))),
        }
    }

    fn reconnect(&mut self, reason: String, now: Instant, rng: &mut dyn RngCore) {
        let wait = self.backoff.fail(rng);
        self.drop_connection();
        self.offline(reason, wait);
        self.phase = Phase::Waiting { until: now + wait };
    }

    fn offline(&mut self, reason: String, retry_in: Duration) {
        self.events.push_back(Event::Offline { reason, retry_in });
    }

    fn drop_connection(&mut self) {
        self.deaf_until = None;
        self.actions.clear();
        self.actions.push_back(Action::Disconnect);
        self.updates.reset();
    }

    fn end(&mut self, fatal: Fatal) {
        self.drop_connection();
        self.phase = Phase::Ended;
        self.events.push_back(Event::Fatal(fatal));
    }

    fn register_request(&self) -> RegisterRequest {
        let auth_key = self.config.auth_key.as_ref().filter(|_| self.followup.is_empty());
        RegisterRequest {
            version: CAPABILITY_VERSION,
            node_key: Some(self.config.node_key),
            old_node_key: self.config.old_node_key,
            auth: auth_key.map(|key| RegisterResponseAuth {
                auth_key: key.to_string(),
            }),
            followup: self.followup.clone(),
            hostinfo: Some(self.hostinfo()),
            ephemeral: self.config.ephemeral,
            ..RegisterRequest::default()
        }
    }

    /// With an auth key the tags come from the key: Headscale refuses to register a node that asks for some all the same.
    fn hostinfo(&self) -> Hostinfo {
        let mut hostinfo = self.updates.local().hostinfo.clone();
        if self.config.auth_key.is_some() && self.followup.is_empty() {
            hostinfo.request_tags.clear();
        }
        hostinfo
    }

    /// Both kinds carry the whole state: Headscale takes empty endpoints of a stream request for "none", Tailscale
    /// ignores those of a stream request altogether.
    fn map_request(&self, stream: bool) -> MapRequest {
        let local = self.updates.local();
        MapRequest {
            version: CAPABILITY_VERSION,
            compress: if stream { "zstd".into() } else { String::new() },
            keep_alive: stream,
            stream,
            omit_peers: !stream,
            node_key: Some(self.config.node_key),
            disco_key: Some(self.config.disco_key),
            hostinfo: Some(self.hostinfo()),
            endpoints: local.endpoints.iter().map(|(addr, _)| *addr).collect(),
            endpoint_types: local.endpoints.iter().map(|(_, kind)| *kind).collect(),
            ..MapRequest::default()
        }
    }
}

/// How long control wants the stream to rest (Go: `tailcfg.Debug.SleepSeconds`).
fn pause(debug: &DebugSettings) -> Option<Duration> {
    let seconds = debug.sleep_seconds.min(MAX_PAUSE.as_secs_f64());
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|pause| !pause.is_zero())
}

fn is_expired(node: &Node, wall: OffsetDateTime) -> bool {
    node.expired || node.key_expiry.is_some_and(|expiry| expiry <= wall)
}

fn missing_tags(wanted: &[String], node: &SelfNode) -> Option<Fatal> {
    let granted = |tag: &String| node.tags.iter().any(|granted| **granted == **tag);
    let missing: Vec<_> = wanted.iter().filter(|tag| !granted(tag)).map(String::as_str).collect();
    let granted = if node.tags.is_empty() {
        "no tags".into()
    } else {
        node.tags.join(", ")
    };
    (!missing.is_empty()).then(|| Fatal::Tags {
        missing: missing.join(", "),
        granted,
    })
}

fn throttle(retry_after: Option<Duration>, rng: &mut dyn RngCore) -> Duration {
    let unasked = || THROTTLED + Duration::from_millis(u64::from(rng.next_u32()) % 5000);
    retry_after.unwrap_or_else(unasked).min(MAX_RETRY_AFTER)
}
