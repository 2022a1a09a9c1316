//! One node against the whole server: as many TLS connections as it gets, each with half a request in it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests and their helpers")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use countersign_flow_tests::{ALICE, BOB, PATIENCE, Scene, Served};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tailnet_node::{Node, Stream};
use tailnet_testkit::AuthKeySpec;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// `connection_memory` of the server, in bytes.
const CONNECTION_MEMORY: usize = 64 << 20;
/// What everything else may cost under attack.
const ELSE: usize = 32 << 20;
/// More than one node gets.
const CONNECTIONS: usize = 800;
const HOST: &str = "idp.tailnet.test";

#[tokio::test(flavor = "multi_thread")]
async fn one_node_holds_all_the_tls_connections_it_gets() {
    let scene = Scene::new().await;
    let key = scene.key_file(AuthKeySpec::tags(&["tag:internal-idp"]));
    let mut flags = scene.join_flags("idp");
    flags.extend(["--auth-key-file".to_owned(), key.display().to_string()]);
    // The rate would keep him from as many.
    flags.extend(["--rate-limit-per-peer".to_owned(), "0".to_owned()]);
    let served = Served::start(&scene.path(""), &flags);
    let pid = served.status().await["pid"].as_u64().unwrap();
    let root = served.beside(&["ca"]).await.stdout;
    let (mallory, bob) = tokio::join!(scene.person("mallory", ALICE), scene.person("bob", BOB));
    let tls = connector(&root);
    request(&bob, &tls).await;

    let before = resident(pid);
    let most = Arc::new(AtomicUsize::new(before));
    let seen = Arc::clone(&most);
    let sampler = tokio::spawn(async move {
        loop {
            seen.fetch_max(resident(pid), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut held = Vec::new();
    let mut slowest = Duration::ZERO;
    for attempt in 0..CONNECTIONS {
        // Those beyond a limit, be it his own, fail.
        if let Ok(Ok(mut stream)) = timeout(Duration::from_secs(5), open(&mallory, &tls)).await
            && stream.write_all(b"POST /register HTTP/1.1\r\nHost: ").await.is_ok()
        {
            held.push(stream);
        }
        if attempt % 50 == 0 {
            slowest = slowest.max(request(&bob, &tls).await);
        }
    }
    slowest = slowest.max(request(&bob, &tls).await);
    sampler.abort();
    let growth = most.load(Ordering::Relaxed) - before;
    let status = served.status().await;
    println!(
        "{} of {CONNECTIONS} TLS connections are held; memory grew from {} by {} KiB; bob waited {slowest:?} at most; {}",
        held.len(),
        before >> 10,
        growth >> 10,
        status["counters"]
    );
    assert!(held.len() > 100, "{} are held", held.len());
    let used = status["counters"]["connection_memory_used"].as_u64().unwrap();
    assert!(
        used <= CONNECTION_MEMORY as u64 / 4 * 3,
        "one peer leaves a quarter: {used}"
    );
    assert!(growth <= CONNECTION_MEMORY + ELSE, "memory grew by {growth} bytes");
    assert!(slowest < Duration::from_secs(5), "bob waited {slowest:?}");
    drop(held);
    mallory.shutdown(PATIENCE).await;
    assert_eq!(served.stop().await.0, Some(0));
}

fn connector(root: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn open(node: &Node, tls: &TlsConnector) -> std::io::Result<TlsStream<Stream>> {
    let stream = node.dial("idp:443").await.map_err(std::io::Error::other)?;
    tls.connect(ServerName::try_from(HOST).unwrap(), stream).await
}

/// One request on a connection of its own; how long it took.
async fn request(node: &Node, tls: &TlsConnector) -> Duration {
    let start = Instant::now();
    let exchange = async {
        let mut stream = open(node, tls).await.expect("the server is reached");
        let request = format!(
            "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        let mut answer = String::new();
        // Servers that close without a TLS goodbye are not today's matter.
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    timeout(PATIENCE, exchange).await.expect("an answer in time");
    start.elapsed()
}

fn resident(process: u64) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
