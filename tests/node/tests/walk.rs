//! The thinnest path through every layer: two nodes of ours join, one answers the other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use tailnet_node::{AuthKey, Node, NodeConfig, Who};
use tailnet_testkit::{AuthKeySpec, Tailnet, TailnetConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn join(tailnet: &Tailnet, dir: &std::path::Path, name: &str, key: AuthKeySpec) -> Node {
    let mut config = NodeConfig::new(dir.join(name), tailnet.control_url().parse().unwrap(), name);
    config.auth_key = Some(AuthKey::new(tailnet.auth_key(key).unwrap()));
    let ca = dir.join("ca.pem");
    tailnet.write_ca(&ca).unwrap();
    config.extra_roots = tailnet_node::tls::read_roots(&ca).unwrap();
    let started = Instant::now();
    let node = Node::start(config).await.unwrap();
    println!("{name} joined after {:?}", started.elapsed());
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_answers_another_and_knows_who_asked() {
    let tailnet = Tailnet::start(TailnetConfig::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let server = join(&tailnet, dir.path(), "idp", AuthKeySpec::user("alice@example.com")).await;
    let client = join(&tailnet, dir.path(), "laptop", AuthKeySpec::user("bob@example.com")).await;
    let mut listener = server.listen(80).unwrap();
    let serve = async {
        let (mut stream, caller) = listener.accept().await.unwrap().into_parts();
        let mut question = [0; 5];
        stream.read_exact(&mut question).await.unwrap();
        let who = caller.identity().unwrap().who;
        let Who::User { login, .. } = who else {
            panic!("{who:?}")
        };
        stream.write_all(login.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    };
    let ask = async {
        let started = Instant::now();
        let mut stream = client.dial("idp:80").await.unwrap();
        println!("dialled after {:?}", started.elapsed());
        stream.write_all(b"who?\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        println!("answered after {:?}", started.elapsed());
        answer
    };
    let (_, answer) = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(serve, ask) })
        .await
        .unwrap();
    assert_eq!(answer, "bob@example.com");
    println!("{:#?}", client.status());
    server.shutdown(Duration::from_secs(1)).await;
    client.shutdown(Duration::from_secs(1)).await;
}
