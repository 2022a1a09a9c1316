use std::time::{Duration, Instant};

use rand::{SeedableRng, rngs::SmallRng};
use serde_json::json;
use tailnet_wire::control::{MapResponse, RegisterResponse};
use time::{OffsetDateTime, macros::datetime};

use super::*;

const WALL: OffsetDateTime = datetime!(2026-11-24 09:00 UTC);

struct Harness {
    session: Session,
    now: Instant,
    rng: SmallRng,
}

fn node_key(n: u8) -> NodePublic {
    NodePublic::from_bytes([n; 32])
}

fn start(auth_key: Option<&str>, tags: &[&str]) -> Harness {
    begin(config(auth_key, tags))
}

fn config(auth_key: Option<&str>, tags: &[&str]) -> SessionConfig {
    SessionConfig {
        node_key: node_key(1),
        old_node_key: None,
        known: false,
        disco_key: DiscoPublic::from_bytes([9; 32]),
        auth_key: auth_key.map(|key| Zeroizing::new(key.to_owned())),
        ephemeral: false,
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    }
}

fn begin(config: SessionConfig) -> Harness {
    let now = Instant::now();
    Harness {
        session: Session::new(config, Local::default(), now),
        now,
        rng: SmallRng::seed_from_u64(1),
    }
}

fn answer(value: serde_json::Value) -> RegisterResponse {
    serde_json::from_value(value).unwrap()
}

impl Harness {
    fn action(&mut self) -> Option<Action> {
        self.session.handle_timeout(self.now, WALL, &mut self.rng);
        self.session.poll_action(self.now)
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn event(&mut self) -> Event {
        self.session.poll_event().unwrap()
    }

    /// Lets time pass until the session wants to be called.
    fn sleep(&mut self) -> Duration {
        let at = self.session.poll_timeout(self.now, WALL).unwrap();
        let slept = at - self.now;
        self.now = at;
        slept
    }

    fn connect(&mut self) -> Action {
        assert!(matches!(self.action(), Some(Action::Connect { .. })));
        self.session.handle_connected(self.now);
        self.action().unwrap()
    }

    fn registered(&mut self, value: serde_json::Value) {
        self.session.handle_register(answer(value), self.now, &mut self.rng);
    }

    fn map(&mut self, value: serde_json::Value) {
        let message: MapResponse = serde_json::from_str(&value.to_string()).unwrap();
        self.session.handle_map(message, self.now, WALL, &mut self.rng);
    }

    fn fail(&mut self, kind: FailureKind) {
        let failure = Failure {
            kind,
            reason: "because".into(),
        };
        self.session.handle_failure(failure, self.now, &mut self.rng);
    }

    fn join(&mut self) {
        assert!(matches!(self.connect(), Action::Register(_)));
        self.registered(json!({"MachineAuthorized": true}));
        assert!(matches!(self.action(), Some(Action::Stream(_))));
        self.map(json!({"Node": {"ID": 1, "Name": "n.x.", "Tags": ["tag:a"]}}));
    }
}

#[test]
fn the_plain_path_is_connect_register_stream_update() {
    let mut h = start(Some("key"), &["tag:a"]);
    let Action::Register(request) = h.connect() else {
        panic!()
    };
    assert_eq!(request.auth.as_ref().unwrap().auth_key, "key");
    h.registered(json!({"MachineAuthorized": true}));
    assert!(matches!(h.event(), Event::Registered(key) if key == node_key(1)));
    let Some(Action::Stream(request)) = h.action() else {
        panic!()
    };
    assert!(request.stream && request.keep_alive && !request.omit_peers && request.compress == "zstd");
    assert!(h.action().is_none());
    h.map(json!({"Node": {"ID": 1, "Name": "n.x.", "Tags": ["tag:a"]}}));
    assert!(matches!(&h.events()[..], [Event::Online, Event::Change(_)]));
    let Some(Action::Update(request)) = h.action() else {
        panic!()
    };
    assert!(!request.stream && request.omit_peers && request.compress.is_empty());
    assert!(h.action().is_none());
}

#[test]
fn a_known_node_asks_for_the_map_at_once() {
    let known = || {
        begin(SessionConfig {
            known: true,
            ..config(Some("key"), &[])
        })
    };
    let mut h = known();
    assert!(matches!(h.connect(), Action::Stream(_)));
    h.map(json!({"Node": {"ID": 1}}));
    assert!(matches!(
        &h.events()[..],
        [Event::Registered(_), Event::Online, Event::Change(_)]
    ));

    // Control has forgotten it, or has something else against it.
    for kind in [FailureKind::UnknownNode, FailureKind::Answer] {
        let mut h = known();
        h.connect();
        h.fail(kind);
        h.events();
        h.action();
        h.sleep();
        let action = match h.action() {
            Some(Action::Connect { .. }) => {
                h.session.handle_connected(h.now);
                h.action()
            }
            other => other,
        };
        assert!(matches!(action, Some(Action::Register(_))));
    }

    // Its key expired while it was down: replaced before anyone has used it.
    let mut h = known();
    h.connect();
    h.map(json!({"Node": {"ID": 1, "KeyExpiry": "2026-11-01T00:00:00Z"}}));
    assert!(h.events().is_empty());
    assert!(matches!(h.action(), Some(Action::Register(_))));
    h.registered(json!({"NodeKeyExpired": true}));
    assert!(matches!(h.action(), Some(Action::NewNodeKey)));
}

#[test]
fn a_refusal_in_a_200_is_final_and_helps() {
    let mut h = start(Some("key"), &[]);
    h.connect();
    h.registered(json!({"Error": "authkey already used", "MachineAuthorized": true}));
    let Event::Fatal(fatal) = h.event() else { panic!() };
    assert!(fatal.to_string().contains("Make a new auth key"));
    assert!(matches!(h.action(), Some(Action::Disconnect)));
    assert!(h.session.poll_timeout(h.now, WALL).is_none());
}

#[test]
fn a_login_url_is_told_once_and_followed_without_the_auth_key() {
    let mut h = start(None, &[]);
    h.connect();
    h.registered(json!({"AuthURL": "https://x/a"}));
    assert!(matches!(h.event(), Event::LoginUrl(url) if url == "https://x/a"));
    let Some(Action::Register(request)) = h.action() else {
        panic!()
    };
    assert!(request.followup == "https://x/a" && request.auth.is_none());
    // The server let go without an answer: ask again, but not at once.
    h.registered(json!({"AuthURL": "https://x/a"}));
    assert!(h.events().is_empty() && h.action().is_none());
    h.sleep();
    assert!(matches!(h.action(), Some(Action::Register(_))));
    // The page expired and there is a new one.
    h.registered(json!({"AuthURL": "https://x/b"}));
    assert!(matches!(h.event(), Event::LoginUrl(url) if url == "https://x/b"));
    assert!(matches!(h.action(), Some(Action::Register(_))));
    h.registered(json!({"MachineAuthorized": true}));
    assert!(matches!(h.action(), Some(Action::Stream(_))));
}

#[test]
fn an_expired_node_key_is_replaced_once() {
    let mut h = start(Some("key"), &[]);
    h.connect();
    h.registered(json!({"NodeKeyExpired": true}));
    assert!(matches!(h.action(), Some(Action::NewNodeKey)));
    h.session.handle_new_node_key(node_key(2), h.now);
    let Some(Action::Register(request)) = h.action() else {
        panic!()
    };
    assert_eq!(
        (request.node_key, request.old_node_key),
        (Some(node_key(2)), Some(node_key(1)))
    );
    h.registered(json!({"NodeKeyExpired": true}));
    assert!(matches!(h.event(), Event::Fatal(Fatal::KeyExpired)));
}

#[test]
fn a_key_that_expires_while_peers_talk_to_us_is_final() {
    let mut h = start(None, &[]);
    h.join();
    h.fail(FailureKind::UnknownNode);
    h.sleep();
    assert!(matches!(h.action(), Some(Action::Register(_))));
    h.registered(json!({"NodeKeyExpired": true}));
    assert!(matches!(h.events().pop(), Some(Event::Fatal(Fatal::KeyExpired))));
}

#[test]
fn tags_are_asked_for_by_people_and_carried_by_keys() {
    let asks = |auth_key| {
        let mut h = start(auth_key, &["tag:a"]);
        let mut local = Local::default();
        local.hostinfo.request_tags = vec!["tag:a".into()];
        h.session.handle_local(local);
        let Action::Register(request) = h.connect() else {
            panic!()
        };
        !request.hostinfo.unwrap().request_tags.is_empty()
    };
    assert!(asks(None) && !asks(Some("key")));
}

#[test]
fn locks_and_pending_approval_are_noticed() {
    let mut h = start(Some("key"), &[]);
    h.connect();
    h.registered(json!({"MachineAuthorized": false}));
    assert!(matches!(h.event(), Event::AwaitingApproval));
    assert!(h.sleep() >= Duration::from_secs(5));
    assert!(matches!(h.action(), Some(Action::Register(_))));
    h.registered(json!({"NodeKeySignature": "AAAA"}));
    assert!(matches!(h.event(), Event::Fatal(Fatal::Locked)));

    let mut h = start(None, &[]);
    h.join();
    h.events();
    h.map(json!({"TKAInfo": {"Head": "x"}}));
    assert!(matches!(h.event(), Event::Fatal(Fatal::Locked)));
}

#[test]
fn missing_tags_are_final() {
    let mut h = start(Some("key"), &["tag:a", "tag:b"]);
    h.join();
    let fatal = h.events().pop();
    let Some(Event::Fatal(fatal)) = fatal else { panic!() };
    assert!(fatal.to_string().contains("did not grant tag:b: the node has tag:a"));
}

#[test]
fn a_429_is_waited_out_as_asked() {
    let mut h = start(Some("key"), &[]);
    h.connect();
    h.fail(FailureKind::Throttled {
        retry_after: Some(Duration::from_secs(20)),
    });
    assert_eq!(h.sleep(), Duration::from_secs(20));
    assert!(matches!(h.action(), Some(Action::Register(_))));
    h.fail(FailureKind::Throttled {
        retry_after: Some(Duration::MAX),
    });
    assert_eq!(h.sleep(), Duration::from_secs(3600));
    assert!(matches!(h.action(), Some(Action::Register(_))));
    h.fail(FailureKind::Throttled { retry_after: None });
    assert!((5..10).contains(&h.sleep().as_secs()));
}

#[test]
fn only_a_map_message_holds_off_the_watchdog() {
    let mut h = start(None, &[]);
    h.join();
    h.action();
    h.events();
    h.now += Duration::from_secs(100);
    h.session.handle_updated(h.now);
    h.session.handle_local(Local {
        endpoints: vec![("192.0.2.1:1".parse().unwrap(), 1)],
        ..Local::default()
    });
    assert!(matches!(h.action(), Some(Action::Update(_))));
    assert_eq!(h.sleep(), Duration::from_secs(20));
    assert!(matches!(h.action(), Some(Action::Disconnect)));
    assert!(matches!(h.event(), Event::Offline { .. }));

    let mut h = start(None, &[]);
    h.join();
    h.now += Duration::from_secs(100);
    h.map(json!({"KeepAlive": true}));
    h.action();
    assert_eq!(h.sleep(), Duration::from_secs(120));
}

#[test]
fn the_watchdog_covers_a_stream_that_never_begins() {
    let mut h = start(None, &[]);
    h.connect();
    h.registered(json!({"MachineAuthorized": true}));
    h.action();
    assert_eq!(h.sleep(), WATCHDOG);
    assert!(matches!(h.action(), Some(Action::Disconnect)));
}

#[test]
fn reconnects_back_off_until_a_netmap_comes_and_keep_the_registration() {
    let mut h = start(None, &[]);
    h.join();
    h.action();
    let mut waits = Vec::new();
    for _ in 0..80 {
        h.fail(FailureKind::Connection);
        assert!(matches!(h.action(), Some(Action::Disconnect)));
        waits.push(h.sleep());
        assert!(matches!(h.action(), Some(Action::Connect { fetch_key: false })));
    }
    assert!(waits[0] <= Duration::from_millis(15) && waits[79] >= Duration::from_secs(15));
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(30)));
    h.session.handle_connected(h.now);
    assert!(matches!(h.action(), Some(Action::Stream(_))));
    h.map(json!({"Node": {"ID": 1}}));
    h.fail(FailureKind::Connection);
    h.action();
    assert!(h.sleep() <= Duration::from_millis(15));
}

#[test]
fn another_server_key_is_fetched_and_an_unknown_node_registers_again() {
    let mut h = start(None, &[]);
    assert!(matches!(h.action(), Some(Action::Connect { fetch_key: false })));
    h.fail(FailureKind::ServerKey);
    h.action();
    h.sleep();
    assert!(matches!(h.action(), Some(Action::Connect { fetch_key: true })));
    h.session.handle_connected(h.now);
    h.action();
    h.registered(json!({"MachineAuthorized": true}));
    assert!(matches!(h.action(), Some(Action::Stream(_))));
    h.fail(FailureKind::UnknownNode);
    h.sleep();
    assert!(matches!(h.action(), Some(Action::Register(_))));
}

#[test]
fn one_update_is_in_flight_and_the_latest_state_wins() {
    let local = |port| Local {
        endpoints: vec![(([192, 0, 2, 1], port).into(), 1)],
        ..Local::default()
    };
    let mut h = start(None, &[]);
    h.join();
    assert!(matches!(h.action(), Some(Action::Update(_))));
    for port in 1..5 {
        h.session.handle_local(local(port));
        assert!(h.action().is_none());
    }
    h.session.handle_updated(h.now);
    let Some(Action::Update(request)) = h.action() else {
        panic!()
    };
    assert_eq!(request.endpoints, [([192, 0, 2, 1], 4).into()]);
    h.session.handle_updated(h.now);
    h.session.handle_local(local(4));
    assert!(h.action().is_none());
    for _ in 0..4 {
        h.now += Duration::from_secs(75);
        h.map(json!({"KeepAlive": true}));
    }
    assert!(
        matches!(h.action(), Some(Action::Update(_))),
        "repeated after five minutes"
    );
    h.session.handle_updated(h.now);

    h.session.handle_local(local(5));
    h.action();
    let failure = Failure {
        kind: FailureKind::Answer,
        reason: String::new(),
    };
    h.session.handle_update_failed(failure, h.now, &mut h.rng);
    assert!(h.action().is_none());
    h.sleep();
    assert!(matches!(h.action(), Some(Action::Update(_))));
}

#[test]
fn an_update_from_a_deleted_node_makes_it_register_again() {
    let mut h = start(None, &[]);
    h.join();
    assert!(matches!(h.action(), Some(Action::Update(_))));
    let failure = Failure {
        kind: FailureKind::UnknownNode,
        reason: String::new(),
    };
    h.session.handle_update_failed(failure, h.now, &mut h.rng);
    h.sleep();
    assert!(matches!(h.action(), Some(Action::Register(_))));
}

#[test]
fn a_ping_is_answered_once_per_url() {
    let mut h = start(None, &[]);
    h.join();
    h.action();
    let ping = |url: &str| json!({"KeepAlive": true, "PingRequest": {"URL": url}});
    h.map(ping("https://x/1"));
    h.map(ping("https://x/1"));
    h.map(ping("https://x/2"));
    assert!(matches!(h.action(), Some(Action::Ping(p)) if p.url == "https://x/1"));
    assert!(matches!(h.action(), Some(Action::Ping(p)) if p.url == "https://x/2"));
    assert!(h.action().is_none());
}

#[test]
fn our_own_expiry_ends_the_session_by_the_clock_too() {
    let mut h = start(None, &[]);
    h.join();
    h.map(json!({"Node": {"ID": 1, "KeyExpiry": "2026-11-24T09:01:00Z"}}));
    h.events();
    h.action();
    assert_eq!(h.sleep(), Duration::from_secs(60));
    h.session
        .handle_timeout(h.now, WALL + Duration::from_secs(60), &mut h.rng);
    assert!(matches!(h.events().pop(), Some(Event::Fatal(Fatal::KeyExpired))));
}

#[test]
fn control_may_ask_to_be_left_alone_for_five_minutes_at_most() {
    let mut h = start(None, &[]);
    h.join();
    for (asked, rest) in [(json!(7.5), 7.5), (json!(1e300), 300.0), (json!(-1), 0.0)] {
        h.map(json!({"Debug": {"SleepSeconds": asked}}));
        let rest = Duration::from_secs_f64(rest);
        assert_eq!(h.session.may_read(h.now), rest.is_zero());
        assert!(h.session.may_read(h.now + rest));
        h.now += rest;
        while h.action().is_some() {}
        assert!(h.session.may_read(h.now));
        let at = h.session.poll_timeout(h.now, WALL).unwrap();
        assert!(at >= h.now, "the watchdog has not counted the rest");
    }
    assert!(!h.events().iter().any(|event| matches!(event, Event::Offline { .. })));
}

#[test]
fn debug_hides_the_auth_key() {
    let h = start(Some("hskey-auth-secret"), &[]);
    assert!(!format!("{:?}", h.session).contains("secret"));
}
