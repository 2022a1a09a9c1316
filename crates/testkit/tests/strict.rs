//! The servers refuse what real ones refuse.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests and their helpers")]

mod client;

use std::time::Duration;

use client::{Client, Tls};
use serde_json::{Value, json};
use tailnet_testkit::{AuthKeySpec, Tailnet, TailnetConfig};
use tailnet_wire::{
    control::CAPABILITY_VERSION,
    derp::{ClientInfo, Decoder, Frame},
    key::{DiscoPrivate, MachinePrivate, NodePrivate},
    stun,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
    time::timeout,
};

const POLICY: &str = r#"{
    "groups": {"group:eng": ["alice@example.com"]},
    "tagOwners": {"tag:server": ["group:eng"]},
    "grants": [{"src": ["group:eng"], "dst": ["tag:server"], "ip": ["tcp:443"]}]
}"#;
const ALICE: &str = "alice@example.com";

async fn tailnet() -> Tailnet {
    let config = TailnetConfig {
        policy: Some(POLICY.to_owned()),
        keep_alive: Duration::from_millis(200),
        ..TailnetConfig::default()
    };
    Tailnet::start(config).await.unwrap()
}

fn seed(byte: u8) -> NodePrivate {
    NodePrivate::from_random([byte; 32])
}

fn machine(byte: u8) -> MachinePrivate {
    MachinePrivate::from_random([byte; 32])
}

fn registration(key: &NodePrivate, auth: &str, more: Value) -> Value {
    let mut request = json!({
        "Version": CAPABILITY_VERSION,
        "NodeKey": key.public().to_string(),
        "Auth": {"AuthKey": auth},
        "Hostinfo": {"Hostname": "node"},
    });
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().cloned().unwrap_or_default());
    request
}

/// Registers and gives the error text, empty for success.
async fn register(client: &mut Client, request: &Value) -> String {
    let (status, body) = client.post("/machine/register", &request.to_string()).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    if answer["Error"] == "" {
        assert_eq!(answer["MachineAuthorized"], true, "{body}");
    }
    answer["Error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn pre_auth_keys_are_checked_in_headscales_words() {
    let tailnet = tailnet().await;
    let mut client = Client::connect(&tailnet, &machine(1), CAPABILITY_VERSION)
        .await
        .unwrap();
    let once = tailnet.auth_key(AuthKeySpec::user(ALICE)).unwrap();
    let old = tailnet
        .auth_key(AuthKeySpec::user(ALICE).valid_for(-time::Duration::SECOND))
        .unwrap();

    let refused = register(&mut client, &registration(&seed(1), "hskey-auth-no-such", json!({}))).await;
    assert_eq!(refused, "invalid pre auth key");
    assert_eq!(
        register(&mut client, &registration(&seed(1), &old, json!({}))).await,
        "authkey expired"
    );
    assert_eq!(
        register(&mut client, &registration(&seed(1), &once, json!({}))).await,
        ""
    );
    let again = register(&mut client, &registration(&seed(1), &once, json!({}))).await;
    assert_eq!(again, "", "a restart shows its used key again");
    let rotated = register(&mut client, &registration(&seed(2), &once, json!({}))).await;
    assert_eq!(
        rotated, "authkey already used",
        "a new node key needs a valid pre-auth key"
    );

    let mut other = Client::connect(&tailnet, &machine(2), CAPABILITY_VERSION)
        .await
        .unwrap();
    let reusable = tailnet.auth_key(AuthKeySpec::user(ALICE).reusable()).unwrap();
    let stolen = register(&mut other, &registration(&seed(1), &reusable, json!({}))).await;
    assert_eq!(stolen, "node key already in use by another machine");
    let silent = json!({"Version": CAPABILITY_VERSION, "NodeKey": seed(1).public().to_string()});
    assert_eq!(
        register(&mut other, &silent).await,
        "node exists with a different machine key"
    );
    assert_eq!(tailnet.nodes().len(), 1);
}

#[tokio::test]
async fn tags_come_from_the_key_or_from_a_person_who_owns_them() {
    let tailnet = tailnet().await;
    let mut client = Client::connect(&tailnet, &machine(1), CAPABILITY_VERSION)
        .await
        .unwrap();
    let wants = json!({"Hostinfo": {"Hostname": "Node_1", "RequestTags": ["tag:server"]}});
    let key = tailnet.auth_key(AuthKeySpec::user(ALICE)).unwrap();
    let refused = register(&mut client, &registration(&seed(1), &key, wants.clone())).await;
    assert_eq!(
        refused, "requested tags [tag:server] are invalid or not permitted",
        "not beside a key"
    );

    for (user, error) in [("bob@example.com", refused.as_str()), (ALICE, "")] {
        let (_, body) = client
            .post(
                "/machine/register",
                &registration(&seed(1), "", wants.clone()).to_string(),
            )
            .await;
        let url = serde_json::from_str::<Value>(&body).unwrap()["AuthURL"]
            .as_str()
            .unwrap()
            .to_owned();
        tailnet.approve_login(&url, user).unwrap();
        let followup = registration(&seed(1), "", json!({"Followup": url}));
        assert_eq!(register(&mut client, &followup).await, error, "{user}");
    }
    let node = tailnet.node("node-1").unwrap();
    assert_eq!(
        (node.user, node.tags, node.key_expiry),
        (None, vec!["tag:server".to_owned()], None)
    );
}

#[tokio::test]
async fn logout_and_login_by_a_person() {
    let tailnet = tailnet().await;
    let mut client = Client::connect(&tailnet, &machine(1), CAPABILITY_VERSION)
        .await
        .unwrap();
    let request = registration(&seed(1), "", json!({}));
    let (_, body) = client.post("/machine/register", &request.to_string()).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    let url = answer["AuthURL"].as_str().unwrap().to_owned();
    assert_eq!(tailnet.pending_logins(), std::slice::from_ref(&url));

    let followup = registration(&seed(1), "", json!({"Followup": url})).to_string();
    let waiting = client.post("/machine/register", &followup);
    let deciding = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        tailnet.approve_login(&url, ALICE).unwrap();
    };
    let ((_, body), ()) = tokio::join!(waiting, deciding);
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap()["MachineAuthorized"],
        true,
        "{body}"
    );
    assert_eq!(tailnet.node("node").unwrap().user.as_deref(), Some(ALICE));

    let logout = registration(&seed(1), "", json!({"Expiry": "1970-01-01T00:02:03Z"})).to_string();
    let (_, body) = client.post("/machine/register", &logout).await;
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap()["NodeKeyExpired"],
        true,
        "{body}"
    );
    let restart = json!({"Version": CAPABILITY_VERSION, "NodeKey": seed(1).public().to_string()}).to_string();
    let (_, body) = client.post("/machine/register", &restart).await;
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap()["NodeKeyExpired"],
        true,
        "{body}"
    );
}

#[tokio::test]
async fn map_requests_need_a_known_node_and_well_formed_json() {
    let tailnet = tailnet().await;
    let mut client = Client::connect(&tailnet, &machine(1), CAPABILITY_VERSION)
        .await
        .unwrap();
    let key = tailnet.auth_key(AuthKeySpec::user(ALICE)).unwrap();
    register(&mut client, &registration(&seed(1), &key, json!({}))).await;
    let request = |key: &NodePrivate, version: u16| {
        json!({"Version": version, "NodeKey": key.public().to_string(), "OmitPeers": true}).to_string()
    };
    let map = "/machine/map";
    assert_eq!(
        client.post(map, &request(&seed(1), CAPABILITY_VERSION)).await,
        (200, String::new())
    );
    assert_eq!(client.post(map, &request(&seed(9), CAPABILITY_VERSION)).await.0, 404);
    assert_eq!(client.post(map, &request(&seed(1), 100)).await.0, 400);
    assert_eq!(
        client.post(map, &request(&seed(1), CAPABILITY_VERSION + 1)).await.0,
        400,
        "not the handshake's"
    );
    assert_eq!(client.post(map, "{").await.0, 400);
    assert_eq!(client.post("/machine/set-dns", "{}").await.0, 501);
    assert_eq!(client.post("/machine/nothing", "{}").await.0, 404);
    let mut other = Client::connect(&tailnet, &machine(2), CAPABILITY_VERSION)
        .await
        .unwrap();
    assert_eq!(
        other.post(map, &request(&seed(1), CAPABILITY_VERSION)).await.0,
        404,
        "another machine's node"
    );
}

#[tokio::test]
async fn old_clients_and_wrong_keys_are_dropped_without_a_word() {
    let tailnet = tailnet().await;
    assert!(Client::connect(&tailnet, &machine(1), 112).await.is_err());
    assert!(Client::connect(&tailnet, &machine(1), 113).await.is_ok());
    let wrong = machine(7).public();
    assert!(
        Client::connect_to(&tailnet, &wrong, &machine(1), CAPABILITY_VERSION)
            .await
            .is_err()
    );
    let answer = Tls::connect(&tailnet, tailnet.control_url()).await.get("/key").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn a_stream_begins_whole_and_goes_on_in_differences() {
    let tailnet = tailnet().await;
    let mut server = Client::connect(&tailnet, &machine(1), CAPABILITY_VERSION)
        .await
        .unwrap();
    let key = tailnet.auth_key(AuthKeySpec::tags(&["tag:server"])).unwrap();
    register(&mut server, &registration(&seed(1), &key, json!({}))).await;
    let mut stream = server.stream(&seed(1)).await;
    let first = stream.next().await;
    assert_eq!(first["Node"]["Name"], "node.tailnet.test.");
    assert_eq!(
        first["PacketFilters"]["base"],
        json!([]),
        "nobody is there whom the policy lets in"
    );
    assert!(first["DERPMap"]["Regions"]["1"]["Nodes"][0]["DERPPort"].is_number());

    let mut alice = Client::connect(&tailnet, &machine(2), CAPABILITY_VERSION)
        .await
        .unwrap();
    let key = tailnet.auth_key(AuthKeySpec::user(ALICE)).unwrap();
    register(&mut alice, &registration(&seed(2), &key, json!({}))).await;
    let change = stream.next_change().await;
    assert_eq!(
        change["PeersChanged"][0]["Name"], "node-1.tailnet.test.",
        "the name was taken"
    );
    assert_eq!(change["UserProfiles"][0]["LoginName"], ALICE);
    assert_eq!(
        change["PacketFilters"]["base"][0]["SrcIPs"],
        json!(["100.64.0.2", "fd7a:115c:a1e0::2"])
    );

    let disco = DiscoPrivate::from_random([3; 32]).public().to_string();
    let update = json!({
        "Version": CAPABILITY_VERSION, "NodeKey": seed(2).public().to_string(), "OmitPeers": true,
        "DiscoKey": disco, "Endpoints": ["192.0.2.1:7"], "Hostinfo": {"NetInfo": {"PreferredDERP": 1}},
    });
    alice.post("/machine/map", &update.to_string()).await;
    let patch = stream.next_change().await["PeersChangedPatch"][0].clone();
    let expected = json!({"NodeID": 2, "DERPRegion": 1, "Endpoints": ["192.0.2.1:7"], "DiscoKey": disco});
    assert_eq!(patch, expected);

    assert_eq!(stream.next().await, json!({"KeepAlive": true}));
    tailnet.set_policy(r#"{"grants": []}"#).unwrap();
    let change = stream.next_change().await;
    assert_eq!(change["PeersRemoved"], json!([2]));
    assert_eq!(change["PacketFilters"]["base"], json!([]));
    tailnet.delete_node(tailnet.node("node").unwrap().id).unwrap();
    assert!(stream.ended().await);
}

#[tokio::test]
async fn ten_thousand_peers_come_in_one_message() {
    let tailnet = Tailnet::start(TailnetConfig::default()).await.unwrap();
    tailnet.add_fake_peers(ALICE, 10_000).unwrap();
    let mut client = Client::connect(&tailnet, &machine(1), CAPABILITY_VERSION)
        .await
        .unwrap();
    let key = tailnet.auth_key(AuthKeySpec::user(ALICE)).unwrap();
    register(&mut client, &registration(&seed(1), &key, json!({}))).await;
    let first = client.stream(&seed(1)).await.next().await;
    assert_eq!(first["Peers"].as_array().unwrap().len(), 10_000);
}

#[tokio::test]
async fn stun_answers_tailnet_nodes_only() {
    let tailnet = tailnet().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = ("127.0.0.1", tailnet.stun_port());
    let tx_id = stun::TxId([5; 12]);
    let request = stun::request(tx_id);
    let mut buffer = [0; 256];
    // A request without its FINGERPRINT, with the length put right.
    let mut bare = request[..request.len() - 8].to_vec();
    bare[3] -= 8;
    for bad in [bare.as_slice(), b"hello"] {
        socket.send_to(bad, server).await.unwrap();
    }
    assert!(
        timeout(Duration::from_millis(100), socket.recv(&mut buffer))
            .await
            .is_err()
    );
    socket.send_to(&request, server).await.unwrap();
    let length = timeout(Duration::from_secs(5), socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    let response = stun::parse_response(&buffer[..length]).unwrap();
    assert_eq!((response.tx_id, response.mapped), (tx_id, socket.local_addr().unwrap()));
    assert_eq!(tailnet.stun_counts(), (1, 2));
}

#[tokio::test]
async fn the_relay_admits_known_keys_only() {
    let tailnet = tailnet().await;
    let mut control = Client::connect(&tailnet, &machine(1), CAPABILITY_VERSION)
        .await
        .unwrap();
    let key = tailnet.auth_key(AuthKeySpec::user(ALICE)).unwrap();
    register(&mut control, &registration(&seed(1), &key, json!({}))).await;

    assert!(
        greet(&tailnet, &seed(9)).await.is_none(),
        "an unknown key must be refused"
    );
    let mut first = greet(&tailnet, &seed(1)).await.unwrap();
    first.send(&Frame::Ping(*b"12345678")).await;
    assert_eq!(first.next().await, Some(Frame::Pong(*b"12345678")));
    let mut second = greet(&tailnet, &seed(1)).await.unwrap();
    assert!(matches!(first.next().await, Some(Frame::Health(text)) if text.contains("twice")));
    assert!(matches!(second.next().await, Some(Frame::Health(text)) if text.contains("twice")));
    drop(second);
    assert_eq!(first.next().await, Some(Frame::Health(String::new())));
    tailnet.stop_derp().await;
    assert_eq!(first.next().await, None);
}

struct Relay {
    tls: Tls,
    decoder: Decoder,
}

impl Relay {
    async fn send(&mut self, frame: &Frame) {
        let mut out = bytes::BytesMut::new();
        frame.encode_into(&mut out);
        self.tls.io.write_all(&out).await.unwrap();
    }

    /// The next frame, or `None` at the end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            if self.tls.io.read_buf(self.decoder.buffer()).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

/// Connects to the relay by its fast start; `None` when it refuses.
async fn greet(tailnet: &Tailnet, key: &NodePrivate) -> Option<Relay> {
    let mut tls = Tls::connect(tailnet, &tailnet.derp_url()).await;
    let request = "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Fast-Start: 1\r\n\r\n";
    tls.io.write_all(request.as_bytes()).await.unwrap();
    let mut relay = Relay {
        tls,
        decoder: Decoder::default(),
    };
    let Some(Frame::ServerKey(server)) = relay.next().await else {
        panic!("no server key")
    };
    let info = ClientInfo {
        version: 2,
        can_ack_pings: true,
        is_prober: false,
    };
    let sealed = info.seal(key, &server, &[7; 24]);
    relay
        .send(&Frame::ClientInfo {
            key: key.public(),
            sealed,
        })
        .await;
    matches!(relay.next().await?, Frame::ServerInfo(_)).then_some(relay)
}
