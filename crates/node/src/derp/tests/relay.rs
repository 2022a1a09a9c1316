//! A DERP relay for tests: real TLS, one task per client, and hooks to misbehave.

use std::{collections::HashMap, sync::Arc};

use bytes::BytesMut;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ED25519};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tailnet_wire::{
    control::{DerpMap, DerpNode, DerpRegion},
    derp::{ClientInfo, Decoder, Frame, GoneReason, ServerInfo},
    key::{NodePrivate, NodePublic},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use super::within;
use crate::tls;

/// What the relay saw, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Connected(NodePublic),
    Preferred(NodePublic, bool),
    Left(NodePublic),
}

type Clients = Arc<Mutex<HashMap<NodePublic, mpsc::UnboundedSender<Order>>>>;

enum Order {
    Frame(Frame),
    /// Write these bytes and hang up.
    Harm(Vec<u8>),
}

pub(super) struct Relay {
    port: u16,
    issuer: CertifiedIssuer<'static, KeyPair>,
    clients: Clients,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Relay {
    pub(super) async fn start() -> Self {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["relay.test".into()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let mut meta = CertificateParams::default();
        meta.distinguished_name.push(DnType::CommonName, "derpkeyabcd");
        let meta = meta
            .self_signed(&KeyPair::generate_for(&PKCS_ED25519).unwrap())
            .unwrap();
        let config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone(), meta.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let clients = Clients::default();
        let (tell, seen) = mpsc::unbounded_channel();
        let table = clients.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), tcp, table.clone(), tell.clone()));
            }
        });
        Self {
            port,
            issuer,
            clients,
            seen,
        }
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        store.add(self.issuer.der().clone()).unwrap();
        Arc::new(store)
    }

    pub(super) fn map(&self, region: u32) -> Arc<DerpMap> {
        let node = DerpNode {
            name: "1a".into(),
            region_id: region,
            host_name: "relay.test".into(),
            ipv4: "127.0.0.1".into(),
            ipv6: "none".into(),
            derp_port: self.port,
            ..DerpNode::default()
        };
        let entry = DerpRegion {
            region_id: region,
            region_code: "test".into(),
            nodes: vec![node],
            ..DerpRegion::default()
        };
        Arc::new(DerpMap {
            regions: [(region, Arc::new(entry))].into(),
            ..DerpMap::default()
        })
    }

    pub(super) async fn seen(&mut self) -> Seen {
        within(self.seen.recv()).await.unwrap()
    }

    pub(super) fn say(&self, to: NodePublic, frame: Frame) {
        self.clients.lock()[&to].send(Order::Frame(frame)).unwrap();
    }

    pub(super) fn harm(&self, to: NodePublic, bytes: &[u8]) {
        self.clients.lock()[&to].send(Order::Harm(bytes.to_vec())).unwrap();
    }
}

#[expect(clippy::too_many_lines, reason = "a relay in one loop")]
async fn serve(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    clients: Clients,
    tell: mpsc::UnboundedSender<Seen>,
) -> Option<()> {
    let key = NodePrivate::from_random([99; 32]);
    let mut stream = acceptor.accept(tcp).await.ok()?;
    let mut head = BytesMut::new();
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut head).await.ok().filter(|read| *read > 0)?;
    }
    // The key frame rides with the response, as Go's server does it.
    let mut out = BytesMut::from("HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n");
    Frame::ServerKey(key.public()).encode_into(&mut out);
    stream.write_all(&out).await.ok()?;
    let mut decoder = Decoder::default();
    let (orders, mut received) = mpsc::unbounded_channel();
    let mut client = None;
    loop {
        while let Some(frame) = decoder.next_frame().ok()? {
            match (frame, client) {
                (Frame::ClientInfo { key: node, sealed }, None) => {
                    assert_eq!(ClientInfo::open(&sealed, &key, &node).unwrap(), ClientInfo::default());
                    let info = ServerInfo::default().seal(&key, &node, &[1; 24]);
                    orders.send(Order::Frame(Frame::ServerInfo(info))).ok()?;
                    clients.lock().insert(node, orders.clone());
                    client = Some(node);
                    tell.send(Seen::Connected(node)).ok()?;
                }
                (Frame::SendPacket { dst, packet }, Some(src)) => {
                    let to = clients.lock().get(&dst).cloned();
                    let (to, frame) = match to {
                        Some(to) => (to, Frame::RecvPacket { src, packet }),
                        None => (
                            orders.clone(),
                            Frame::PeerGone {
                                key: dst,
                                reason: GoneReason::NotHere,
                            },
                        ),
                    };
                    let _ = to.send(Order::Frame(frame));
                }
                (Frame::NotePreferred(home), Some(node)) => tell.send(Seen::Preferred(node, home)).ok()?,
                (Frame::Ping(data), Some(_)) => orders.send(Order::Frame(Frame::Pong(data))).ok()?,
                (other, _) => panic!("a client must not send {other:?} now"),
            }
        }
        let end = tokio::select! {
            read = stream.read_buf(decoder.buffer()) => read.is_ok_and(|read| read > 0).then_some(()),
            Some(order) = received.recv() => match order {
                Order::Frame(frame) => {
                    let mut bytes = BytesMut::new();
                    frame.encode_into(&mut bytes);
                    stream.write_all(&bytes).await.ok()
                }
                Order::Harm(bytes) => {
                    stream.write_all(&bytes).await.ok()?;
                    stream.shutdown().await.ok()?;
                    None
                }
            },
        };
        if end.is_none() {
            if let Some(node) = client {
                tell.send(Seen::Left(node)).ok()?;
            }
            return None;
        }
    }
}
