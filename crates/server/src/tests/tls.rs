use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio_rustls::TlsConnector;

use super::*;

pub(super) fn https() -> ServerConfig {
    ServerConfig {
        issuer: Issuer::parse(&format!("https://{HOST}")).unwrap(),
        tls: TlsMode::InternalCa,
        ..config()
    }
}

pub(super) fn connector(rig: &Rig) -> TlsConnector {
    TlsConnector::from(Arc::new(client(rig)))
}

fn client(rig: &Rig) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(rig.server.root_pem().unwrap().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[tokio::test]
async fn who_names_no_host_or_speaks_something_else_is_refused() {
    let rig = Rig::start(https()).await;
    for (sends_name, offered, agreed) in [
        (true, vec!["h2", "http/1.1"], Some("h2")),
        (true, vec!["http/1.1"], Some("http/1.1")),
        (true, vec![], Some("")),
        (true, vec!["smtp"], None),
        (false, vec!["h2"], None),
    ] {
        let mut config = client(&rig);
        config.enable_sni = sends_name;
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(HOST).unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, rig.connect(&Node::alice()).await);
        match (connecting.await, agreed) {
            (Ok(stream), Some(agreed)) => {
                let spoken = stream.get_ref().1.alpn_protocol().unwrap_or_default();
                assert_eq!(spoken, agreed.as_bytes(), "{offered:?}");
            }
            (Err(error), None) => assert!(error.to_string().contains("received fatal alert"), "{error}"),
            (Ok(_), None) => panic!("{offered:?} was agreed to"),
            (Err(error), Some(_)) => panic!("{offered:?}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_trusts_the_root_registers_over_tls() {
    let rig = Rig::start(https()).await;
    let name = ServerName::try_from(HOST).unwrap();
    let stream = connector(&rig)
        .connect(name, rig.connect(&Node::alice()).await)
        .await
        .unwrap();
    let mut alice = Client::over(stream).await;
    assert_eq!(alice.register(&public_client()).await.status, StatusCode::CREATED);
    assert_eq!(alice.get("/ca.pem").await.text, rig.server.root_pem().unwrap());
    let page = alice.get("/ca").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("update-ca-certificates"));
}

#[tokio::test]
async fn other_names_get_no_certificate_and_the_short_one_does() {
    let rig = Rig::start(https()).await;
    for (name, good) in [("idp", true), ("evil.example", false), ("100.64.0.1", false)] {
        let server = ServerName::try_from(name).unwrap();
        let connected = connector(&rig).connect(server, rig.connect(&Node::alice()).await).await;
        assert_eq!(connected.is_ok(), good, "{name}");
        if let Err(error) = connected {
            // The server refuses; that the client would not accept the certificate is not enough.
            assert!(error.to_string().contains("received fatal alert"), "{name}: {error}");
        }
    }
    // The client hears of it before the server counts it.
    let counted = async {
        while rig.counters().handshakes_failed < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), counted).await.unwrap();
}

#[tokio::test]
async fn without_tls_there_is_no_root() {
    let rig = Rig::start(config()).await;
    assert_eq!(
        rig.client(&Node::alice()).await.get("/ca.pem").await.status,
        StatusCode::NOT_FOUND
    );
}
