//! The DERP pool and our STUN bytes against the relay that is built into Headscale.
//!
//! Run with `HEADSCALE=/path/to/headscale cargo test -p tailnet-node --test headscale_derp -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends")]

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::CertificateDer;
use tailnet_node::{
    derp::{DerpPacket, DerpPool, DerpSink, DerpState, DerpStatus},
    tls,
};
use tailnet_wire::{
    control::{DerpMap, DerpNode, DerpRegion},
    derp::GoneReason,
    disco,
    key::{NodePrivate, NodePublic},
    stun,
};
use tokio::{net::UdpSocket, sync::mpsc, time::timeout};

const REGION: u32 = 999;

struct Headscale {
    process: Child,
    _folder: tempfile::TempDir,
    root: CertificateDer<'static>,
    port: u16,
    stun: SocketAddr,
}

impl Drop for Headscale {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Headscale {
    async fn start(verify_clients: bool) -> Self {
        let binary = std::env::var("HEADSCALE").expect("HEADSCALE names the binary to test against");
        let folder = tempfile::tempdir().unwrap();
        let root = write_certificates(folder.path());
        let port = free_port();
        let stun = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = folder.path().join("config.yaml");
        std::fs::write(&config, configuration(folder.path(), port, stun, verify_clients)).unwrap();
        let process = Command::new(binary)
            .args(["serve", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let headscale = Self {
            process,
            _folder: folder,
            root,
            port,
            stun,
        };
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        headscale
    }

    fn map(&self) -> Arc<DerpMap> {
        let node = DerpNode {
            name: "999a".into(),
            region_id: REGION,
            host_name: "localhost".into(),
            ipv4: "127.0.0.1".into(),
            derp_port: self.port,
            stun_port: self.stun.port().into(),
            ..DerpNode::default()
        };
        let region = DerpRegion {
            region_id: REGION,
            region_code: "headscale".into(),
            nodes: vec![node],
            ..DerpRegion::default()
        };
        Arc::new(DerpMap {
            regions: [(REGION, Arc::new(region))].into(),
            ..DerpMap::default()
        })
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn write_certificates(folder: &Path) -> CertificateDer<'static> {
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &root).unwrap();
    std::fs::write(folder.join("leaf.pem"), leaf.pem()).unwrap();
    std::fs::write(folder.join("leaf.key"), key.serialize_pem()).unwrap();
    root.der().clone()
}

fn configuration(folder: &Path, port: u16, stun: SocketAddr, verify_clients: bool) -> String {
    let folder = folder.display();
    format!(
        r#"
server_url: https://localhost:{port}
listen_addr: 127.0.0.1:{port}
metrics_listen_addr: ""
grpc_listen_addr: 127.0.0.1:{grpc}
noise: {{ private_key_path: {folder}/noise.key }}
prefixes: {{ v4: 100.64.0.0/10, v6: fd7a:115c:a1e0::/48 }}
database: {{ type: sqlite, sqlite: {{ path: {folder}/db.sqlite }} }}
derp:
  server:
    enabled: true
    region_id: {REGION}
    region_code: headscale
    region_name: Headscale
    verify_clients: {verify_clients}
    stun_listen_addr: {stun}
    private_key_path: {folder}/derp.key
    ipv4: 127.0.0.1
  urls: []
  paths: []
tls_cert_path: {folder}/leaf.pem
tls_key_path: {folder}/leaf.key
policy: {{ mode: database }}
dns: {{ magic_dns: true, base_domain: lab.test, override_local_dns: false, nameservers: {{ global: [] }} }}
unix_socket: {folder}/headscale.sock
disable_check_updates: true
"#,
        grpc = free_port(),
    )
}

struct Sink(
    mpsc::UnboundedSender<(NodePublic, Vec<u8>)>,
    mpsc::UnboundedSender<(NodePublic, GoneReason)>,
);

impl DerpSink for Sink {
    fn packets(&self, region: u32, batch: &mut Vec<DerpPacket>) {
        assert_eq!(region, REGION);
        for DerpPacket { src, packet } in batch.drain(..) {
            self.0.send((src, packet.to_vec())).unwrap();
        }
    }

    fn peer_gone(&self, _: u32, peer: NodePublic, reason: GoneReason) {
        self.1.send((peer, reason)).unwrap();
    }
}

struct Node {
    pool: DerpPool,
    key: NodePublic,
    packets: mpsc::UnboundedReceiver<(NodePublic, Vec<u8>)>,
    gone: mpsc::UnboundedReceiver<(NodePublic, GoneReason)>,
}

impl Node {
    fn new(headscale: &Headscale, byte: u8) -> Self {
        let roots = tls::root_store(std::slice::from_ref(&headscale.root)).unwrap();
        let key = NodePrivate::from_random([byte; 32]);
        let (packet, packets) = mpsc::unbounded_channel();
        let (left, gone) = mpsc::unbounded_channel();
        let public = key.public();
        let pool = DerpPool::new(roots, key, Arc::new(Sink(packet, left)));
        pool.set_map(headscale.map());
        Self {
            pool,
            key: public,
            packets,
            gone,
        }
    }

    async fn wait_for(&self, what: impl Fn(&DerpStatus) -> bool) -> DerpStatus {
        let mut status = self.pool.subscribe();
        let all = within(status.wait_for(|all| all.get(&REGION).is_some_and(&what)))
            .await
            .unwrap();
        all[&REGION].clone()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("within 20 s")
}

fn is_connected(status: &DerpStatus) -> bool {
    matches!(status.state, DerpState::Connected { .. })
}

#[tokio::test]
#[ignore = "needs HEADSCALE"]
async fn two_nodes_exchange_packets_and_stun_is_answered() {
    let headscale = Headscale::start(false).await;
    let mut alice = Node::new(&headscale, 1);
    let mut bob = Node::new(&headscale, 2);
    for node in [&alice, &bob] {
        node.pool.set_home(Some(REGION));
        node.wait_for(is_connected).await;
    }
    for size in [1, 100, 1_280, 60_000] {
        let packet = vec![size as u8; size];
        assert!(alice.pool.send(REGION, &bob.key, &packet));
        assert_eq!(within(bob.packets.recv()).await.unwrap(), (alice.key, packet.clone()));
        assert!(bob.pool.send(REGION, &alice.key, &packet));
        assert_eq!(within(alice.packets.recv()).await.unwrap(), (bob.key, packet));
    }
    // The relay tells those who talked to a node that it has left.
    bob.pool.shutdown().await;
    assert_eq!(
        within(alice.gone.recv()).await.unwrap(),
        (bob.key, GoneReason::Disconnected)
    );
    // It answers so for disco packets only.
    let mut ping = vec![0; disco::HEADER_LEN];
    ping[..disco::MAGIC.len()].copy_from_slice(&disco::MAGIC);
    alice.pool.send(REGION, &bob.key, &ping);
    assert_eq!(within(alice.gone.recv()).await.unwrap(), (bob.key, GoneReason::NotHere));

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tx_id = stun::TxId([7; 12]);
    socket.send_to(&stun::request(tx_id), headscale.stun).await.unwrap();
    let mut buffer = [0; 1500];
    let (length, _) = within(socket.recv_from(&mut buffer)).await.unwrap();
    let response = stun::parse_response(&buffer[..length]).unwrap();
    assert_eq!((response.tx_id, response.mapped), (tx_id, socket.local_addr().unwrap()));
}

#[tokio::test]
#[ignore = "needs HEADSCALE"]
async fn a_relay_that_verifies_clients_says_why_it_hangs_up() {
    let headscale = Headscale::start(true).await;
    let node = Node::new(&headscale, 1);
    node.pool.set_home(Some(REGION));
    let status = node.wait_for(|status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("admits only nodes"));
}
