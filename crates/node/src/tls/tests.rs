use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
};
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, ext::NumericalDuration};

use super::*;

const HOST: &str = "derp.example";

struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A leaf as a relay presents it: its chain and its key.
struct Leaf(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Test root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        store.add(self.0.der().clone()).unwrap();
        Arc::new(store)
    }

    fn leaf(&self, name: &str) -> Leaf {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let cert = CertificateParams::new([name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.0);
        Leaf(vec![cert.unwrap().der().clone()], private(&key))
    }
}

impl Leaf {
    fn self_signed(name: &str, ends: OffsetDateTime) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = OffsetDateTime::now_utc() - 3.days();
        params.not_after = ends;
        Self(vec![params.self_signed(&key).unwrap().der().clone()], private(&key))
    }

    /// As relays do: an Ed25519 certificate that names the node key, signed by nobody else.
    fn with_meta(mut self) -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("derpkey{}", "ab".repeat(32)));
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        self.0.push(params.self_signed(&key).unwrap().der().clone());
        self
    }

    fn pin(&self) -> String {
        format!("sha256-raw:{}", hex::encode(Sha256::digest(&self.0[0])))
    }
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

fn node(cert_name: &str) -> DerpNode {
    DerpNode {
        host_name: HOST.into(),
        cert_name: cert_name.into(),
        ..DerpNode::default()
    }
}

/// A whole handshake in memory between the client for `node` and a server with `leaf`.
fn handshake(roots: Arc<RootCertStore>, node: &DerpNode, leaf: &Leaf) -> Result<(), rustls::Error> {
    let client = derp_config(roots, node).unwrap();
    shake(client, leaf)
}

fn shake(client: Arc<ClientConfig>, leaf: &Leaf) -> Result<(), rustls::Error> {
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(leaf.0.clone(), leaf.1.clone_key())?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    let mut client = ClientConnection::new(client, ServerName::try_from(HOST).unwrap())?;
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

fn tomorrow() -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::from_secs(86_400)
}

#[test]
fn a_chain_with_a_meta_certificate_at_its_end_is_accepted() {
    let ca = Ca::new();
    handshake(ca.roots(), &node(""), &ca.leaf(HOST)).unwrap();
    handshake(ca.roots(), &node(""), &ca.leaf(HOST).with_meta()).unwrap();
}

#[test]
fn a_stranger_or_another_name_is_refused() {
    let ca = Ca::new();
    assert!(handshake(ca.roots(), &node(""), &Ca::new().leaf(HOST)).is_err());
    assert!(handshake(ca.roots(), &node(""), &ca.leaf("other.example")).is_err());
    assert!(handshake(ca.roots(), &node(""), &Leaf::self_signed(HOST, tomorrow())).is_err());
}

#[test]
fn cert_name_is_verified_in_place_of_the_host_name() {
    let ca = Ca::new();
    handshake(ca.roots(), &node("cert.example"), &ca.leaf("cert.example")).unwrap();
    assert!(handshake(ca.roots(), &node("cert.example"), &ca.leaf(HOST)).is_err());
}

#[test]
fn a_pin_takes_exactly_that_leaf_in_date_and_for_the_host() {
    let roots = || Ca::new().roots();
    let leaf = Leaf::self_signed(HOST, tomorrow()).with_meta();
    handshake(roots(), &node(&leaf.pin()), &leaf).unwrap();
    let other = Leaf::self_signed(HOST, tomorrow());
    assert!(handshake(roots(), &node(&leaf.pin()), &other).is_err());
    let late = Leaf::self_signed(HOST, OffsetDateTime::now_utc() - Duration::from_secs(60));
    let refusal = handshake(roots(), &node(&late.pin()), &late).unwrap_err();
    assert_eq!(refusal, rustls::CertificateError::Expired.into());
    let foreign = Leaf::self_signed("other.example", tomorrow());
    assert!(handshake(roots(), &node(&foreign.pin()), &foreign).is_err());
    let ca = Ca::new();
    let mut chained = ca.leaf(HOST);
    chained.0.push(ca.0.der().clone());
    assert!(
        handshake(ca.roots(), &node(&chained.pin()), &chained).is_err(),
        "more than the leaf"
    );
}

#[test]
fn insecure_for_tests_takes_anything() {
    let mut anything = node("");
    anything.insecure_for_tests = true;
    let leaf = Leaf::self_signed("other.example", OffsetDateTime::now_utc() - Duration::from_secs(60));
    handshake(Ca::new().roots(), &anything, &leaf).unwrap();
}

#[test]
fn a_senseless_cert_name_is_reported() {
    for name in ["sha256-raw:12", "not a name"] {
        let refusal = derp_config(Ca::new().roots(), &node(name)).unwrap_err();
        assert!(matches!(refusal, TlsError::CertName(named) if named == name));
    }
}

#[test]
fn extra_roots_join_those_of_the_system() {
    let ca = Ca::new();
    let roots = root_store(&[ca.0.der().clone()]).unwrap();
    shake(client_config(roots).unwrap(), &ca.leaf(HOST)).unwrap();
    let damaged = CertificateDer::from(vec![1, 2, 3]);
    assert!(matches!(root_store(&[damaged]), Err(TlsError::Root(_))));
}
