//! The control client alone against the in-process control server: joining, deltas, losses, refusals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking, as the tests do"
)]

use std::{net::SocketAddr, path::Path, time::Duration};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use tailnet_engine::netmap::{Change, Netmap};
use tailnet_node::{
    control::{ControlClient, ControlConfig, ControlEvent, Local, hostinfo},
    state::State,
    tls,
};
use tailnet_testkit::{AuthKeySpec, Tailnet, TailnetConfig};
use tailnet_wire::{
    control::{NetInfo, NodeId},
    key::DiscoPublic,
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};

const TAG: &str = "tag:internal-idp";
const POLICY: &str = r#"{
    "groups": {"group:eng": ["alice@example.com"]}, "tagOwners": {"tag:internal-idp": ["group:eng"]},
    "grants": [{"src": ["group:eng"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"],
                "app": {"tailscale.com/cap/tsidp": [{"allow_dcr": true}]}}]
}"#;
const NOBODY: &str = r#"{"tagOwners": {"tag:internal-idp": []}, "grants": []}"#;

struct Joined {
    client: ControlClient,
    events: mpsc::Receiver<ControlEvent>,
    state: State,
}

impl Joined {
    async fn event(&mut self) -> ControlEvent {
        let event = timeout(Duration::from_secs(20), self.events.recv()).await;
        event.expect("an event in time").expect("a running task")
    }

    async fn change(&mut self) -> Change {
        loop {
            match self.event().await {
                ControlEvent::Change(change) => return *change,
                ControlEvent::Fatal(error) => panic!("{error}"),
                _ => {}
            }
        }
    }

    async fn until(&mut self, wanted: impl Fn(&Change) -> bool) -> Change {
        loop {
            let change = self.change().await;
            if wanted(&change) {
                return change;
            }
        }
    }

    async fn offline(&mut self) -> String {
        loop {
            if let ControlEvent::Offline { reason, .. } = self.event().await {
                return reason;
            }
        }
    }

    async fn fatal(&mut self) -> String {
        loop {
            if let ControlEvent::Fatal(error) = self.event().await {
                assert!(self.events.recv().await.is_none());
                return error.to_string();
            }
        }
    }
}

async fn tailnet(change: impl FnOnce(&mut TailnetConfig)) -> Tailnet {
    let mut config = TailnetConfig {
        policy: Some(POLICY.into()),
        ..TailnetConfig::default()
    };
    change(&mut config);
    Tailnet::start(config).await.unwrap()
}

fn join_in(dir: &Path, tailnet: &Tailnet, name: &str, auth_key: Option<String>, tags: &[&str]) -> Joined {
    let root = CertificateDer::from_pem_slice(tailnet.ca_pem().as_bytes()).unwrap();
    let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
    let url = tailnet.control_url();
    let config = ControlConfig {
        url: url.parse().unwrap(),
        allow_plain: false,
        tls: tls::client_config(tls::root_store(&[root]).unwrap()).unwrap(),
        disco_key: DiscoPublic::from_bytes([7; 32]),
        auth_key: auth_key.map(Into::into),
        ephemeral: false,
        tags: tags.clone(),
    };
    let state = State::open(dir, url).unwrap();
    let local = Local {
        hostinfo: hostinfo(name, &tags, "test"),
        endpoints: Vec::new(),
    };
    let (client, events) = ControlClient::start(config, state.clone(), local).unwrap();
    Joined { client, events, state }
}

fn join(tailnet: &Tailnet, name: &str, key: AuthKeySpec, tags: &[&str]) -> (Joined, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let key = tailnet.auth_key(key).unwrap();
    (join_in(dir.path(), tailnet, name, Some(key), tags), dir)
}

fn idp(tailnet: &Tailnet) -> (Joined, TempDir) {
    join(tailnet, "idp", AuthKeySpec::tags(&[TAG]).reusable(), &[TAG])
}

fn alice(tailnet: &Tailnet) -> (Joined, TempDir) {
    join(tailnet, "alice", AuthKeySpec::user("alice@example.com"), &[])
}

fn capabilities(netmap: &Netmap, name: &str) -> Vec<String> {
    let Some(peer) = netmap.peer_by_name(name) else {
        return Vec::new();
    };
    let caps = netmap.filter().whois_caps(peer.addresses[0]);
    caps.names().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_tagged_node_joins_and_sees_who_may_do_what() {
    let tailnet = tailnet(|_| ()).await;
    let (_alice, _a) = alice(&tailnet);
    let (mut idp, _i) = idp(&tailnet);
    let change = idp.until(|change| change.netmap.peer_count() == 1).await;
    let netmap = &change.netmap;
    assert_eq!(&*netmap.self_node().name, "idp.tailnet.test");
    assert_eq!(netmap.self_node().tags, [TAG.into()]);
    let peer = netmap.peer_by_name("alice").unwrap();
    assert_eq!(netmap.user(peer.user).unwrap().login_name, "alice@example.com");
    assert_eq!(capabilities(netmap, "alice"), ["tailscale.com/cap/tsidp"]);
    assert_eq!(idp.state.stable_id().as_deref(), Some(&*netmap.self_node().stable_id));
}

#[tokio::test]
async fn a_policy_edit_arrives_as_one_step() {
    let tailnet = tailnet(|_| ()).await;
    let (_alice, _a) = alice(&tailnet);
    let (mut idp, _i) = idp(&tailnet);
    let before = idp.until(|change| change.netmap.peer_count() == 1).await;
    let alice = before.netmap.peer_by_name("alice").unwrap().key;
    tailnet.set_policy(NOBODY).unwrap();
    let change = idp.until(|change| change.filter).await;
    assert_eq!(change.removed, [alice]);
    assert_eq!(change.netmap.peer_count(), 0);
    tailnet.set_policy(POLICY).unwrap();
    let change = idp.until(|change| change.netmap.peer_count() == 1).await;
    assert_eq!(capabilities(&change.netmap, "alice").len(), 1);
}

#[tokio::test]
async fn a_restart_of_control_is_survived_without_a_change() {
    let tailnet = tailnet(|_| ()).await;
    let (_alice, _a) = alice(&tailnet);
    let (mut idp, _i) = idp(&tailnet);
    let before = idp.until(|change| change.netmap.peer_count() == 1).await.netmap;
    tailnet.stop_control().await;
    idp.offline().await;
    tailnet.resume_control().await.unwrap();
    loop {
        if matches!(idp.event().await, ControlEvent::Online) {
            break;
        }
    }
    // Alice may need longer to come back; she stays the same peer all the time.
    let after = idp.change().await.netmap;
    assert_eq!(after.peer_count(), 1);
    let key = before.peer_by_name("alice").unwrap().key;
    assert!(after.peer_by_key(&key).is_some());
}

#[tokio::test]
async fn what_the_node_says_about_itself_reaches_control() {
    let tailnet = tailnet(|_| ()).await;
    let (mut idp, _i) = idp(&tailnet);
    idp.change().await;
    let endpoint: SocketAddr = "192.0.2.7:41641".parse().unwrap();
    idp.client.set_local(|local| {
        local.endpoints = vec![(endpoint, 1)];
        local.hostinfo.net_info = Some(NetInfo {
            preferred_derp: 1,
            ..NetInfo::default()
        });
    });
    let node = tailnet.wait_online("idp", Duration::from_secs(10)).await.unwrap();
    assert_eq!((node.home_derp, node.endpoints), (1, vec![endpoint]));
    // A reconnect tells it again.
    tailnet.end_stream(node.id);
    idp.offline().await;
    let node = tailnet.wait_online("idp", Duration::from_secs(10)).await.unwrap();
    assert_eq!(node.endpoints, [endpoint]);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let tailnet = tailnet(|_| ()).await;
    let dir = tempfile::tempdir().unwrap();
    let key = tailnet.auth_key(AuthKeySpec::user("bob@example.com")).unwrap();
    let mut bob = join_in(dir.path(), &tailnet, "bob", Some(key.clone()), &[]);
    bob.change().await;
    let other = tempfile::tempdir().unwrap();
    let mut again = join_in(other.path(), &tailnet, "again", Some(key), &[]);
    assert!(again.fatal().await.contains("Make a new auth key"));

    let expired = AuthKeySpec::user("bob@example.com").valid_for(time::Duration::seconds(-1));
    let (mut late, _l) = join(&tailnet, "late", expired, &[]);
    assert!(late.fatal().await.contains("Make a new auth key"));

    let (mut untagged, _u) = join(&tailnet, "idp", AuthKeySpec::user("bob@example.com"), &[TAG]);
    let text = untagged.fatal().await;
    assert!(
        text.contains("did not grant tag:internal-idp: the node has no tags"),
        "{text}"
    );
}

#[tokio::test]
async fn a_person_can_log_the_node_in() {
    let tailnet = tailnet(|_| ()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut node = join_in(dir.path(), &tailnet, "desk", None, &[]);
    let ControlEvent::LoginUrl(url) = node.event().await else {
        panic!("a login URL comes first")
    };
    tailnet.approve_login(&url, "alice@example.com").unwrap();
    assert!(matches!(node.event().await, ControlEvent::Registered));
    let change = node.change().await;
    assert_eq!(&*change.netmap.self_node().name, "desk.tailnet.test");
    node.client.stop().await;
    drop((node.events, node.state));
    // Control remembers it: no page the second time.
    let mut node = join_in(dir.path(), &tailnet, "desk", None, &[]);
    assert!(matches!(node.event().await, ControlEvent::Registered));
}

#[tokio::test]
async fn an_expired_key_ends_the_node_and_a_restart_mends_it() {
    let tailnet = tailnet(|_| ()).await;
    let key = tailnet
        .auth_key(AuthKeySpec::user("bob@example.com").reusable())
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut bob = join_in(dir.path(), &tailnet, "bob", Some(key.clone()), &[]);
    bob.change().await;
    let before = tailnet.node("bob").unwrap();
    tailnet.expire_node(before.id).unwrap();
    assert!(bob.fatal().await.contains("key has expired"));
    drop(bob);
    let mut bob = join_in(dir.path(), &tailnet, "bob", Some(key), &[]);
    bob.change().await;
    assert_eq!(tailnet.node("bob").unwrap().id, before.id);
    assert_eq!(tailnet.node("bob").unwrap().key, bob.state.node_key().public());
    assert_eq!(bob.state.old_node_key(), None);
}

#[tokio::test]
async fn a_deleted_node_registers_again_where_its_key_allows() {
    let tailnet = tailnet(|_| ()).await;
    let (mut idp, _i) = idp(&tailnet);
    let before = idp.change().await.netmap.self_node().id;
    tailnet.delete_node(before).unwrap();
    let change = idp.until(|change| change.netmap.self_node().id != before).await;
    assert!(change.self_node);
}

#[tokio::test]
async fn damage_in_the_stream_costs_a_reconnect_and_nothing_else() {
    let tailnet = tailnet(|_| ()).await;
    let (_alice, _a) = alice(&tailnet);
    let (mut idp, _i) = idp(&tailnet);
    let id = idp
        .until(|change| change.netmap.peer_count() == 1)
        .await
        .netmap
        .self_node()
        .id;
    let frames: [&[u8]; 3] = [&[0xff; 8], b"\x04\0\0\0abcd", b"\0\0\0\0"];
    for bytes in frames {
        assert!(tailnet.inject_raw(id, bytes) > 0);
        idp.offline().await;
        let change = idp.change().await;
        assert_eq!((change.netmap.peer_count(), change.removed.len()), (1, 0));
    }
    tailnet.inject(id, r#"{"Peers": "many"}"#);
    assert!(idp.offline().await.contains("cannot be read"));
}

#[tokio::test]
async fn hostile_or_too_new_servers_are_named() {
    let locked = tailnet(|config| config.locked = true).await;
    let (mut node, _n) = idp(&locked);
    assert!(node.fatal().await.contains("locked"));

    let new = tailnet(|config| config.min_version = 200).await;
    let (mut node, _n) = idp(&new);
    let reason = node.offline().await;
    assert!(reason.contains("too new or too old"), "{reason}");
}

#[tokio::test]
async fn throttling_is_waited_out() {
    let tailnet = tailnet(|_| ()).await;
    tailnet.refuse_requests(Some(429));
    let (mut idp, _i) = idp(&tailnet);
    let ControlEvent::Offline { retry_in, .. } = idp.event().await else {
        panic!()
    };
    assert_eq!(retry_in, Duration::from_secs(1));
    tailnet.refuse_requests(None);
    idp.change().await;
}

#[tokio::test]
async fn control_can_ask_for_signs_of_life_and_for_little_else() {
    let tailnet = tailnet(|_| ()).await;
    let (mut idp, _i) = idp(&tailnet);
    let id: NodeId = idp.change().await.netmap.self_node().id;
    let patience = Duration::from_secs(10);
    tailnet.ping_control(id, true, patience).await.unwrap();
    tailnet.ping_control(id, false, patience).await.unwrap();
    let answer = tailnet
        .c2n(id, "POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", patience)
        .await
        .unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"\r\n\r\nhi"));
    let answer = tailnet
        .c2n(id, "GET /debug/prefs HTTP/1.1\r\n\r\n", patience)
        .await
        .unwrap();
    assert!(answer.ends_with(b"unknown c2n path"));
    // Peers are pinged by the owner of the client, and this one drops the order.
    let owner = tokio::spawn(async move { while idp.events.recv().await.is_some() {} });
    let address = "100.64.0.99".parse().unwrap();
    let answer = tailnet.ping_peer(id, "TSMP", address, patience).await.unwrap();
    assert_eq!(
        (answer.ping_type.as_str(), answer.err.as_str()),
        ("TSMP", "this node is not on the tailnet")
    );
    owner.abort();
}

#[tokio::test]
async fn ten_thousand_peers_arrive_within_a_second() {
    let tailnet = tailnet(|_| ()).await;
    tailnet.add_fake_peers("alice@example.com", 10_000).unwrap();
    let started = std::time::Instant::now();
    let (mut idp, _i) = idp(&tailnet);
    let netmap = idp.change().await.netmap;
    println!("10,000 peers after {:?}", started.elapsed());
    assert_eq!(netmap.peer_count(), 10_000);
}
