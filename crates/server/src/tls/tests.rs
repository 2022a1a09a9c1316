//! The certificates, judged by OpenSSL with strict RFC 5280 rules, as Python 3.13 applies them.

use std::{path::Path, process::Command};

use countersign_store::Store;
use rustls_pki_types::pem::PemObject as _;
use time::{Duration, OffsetDateTime};

use super::*;

fn issuer() -> Issuer {
    Issuer::parse("https://idp.example.ts.net").unwrap()
}

async fn ca(store: &Store) -> InternalCa {
    InternalCa::open(store, &issuer(), OffsetDateTime::now_utc())
        .await
        .unwrap()
}

fn write_pem(path: &Path, der: &[u8]) {
    let der_path = path.with_extension("der");
    std::fs::write(&der_path, der).unwrap();
    let made = Command::new("openssl")
        .args(["x509", "-inform", "der", "-in"])
        .arg(&der_path)
        .arg("-out")
        .arg(path)
        .status();
    assert!(made.unwrap().success());
}

fn openssl(arguments: &[&str], folder: &Path) -> (bool, String) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[tokio::test]
async fn openssl_accepts_the_chain_strictly_and_only_for_the_issuers_names() {
    let store = Store::in_memory().unwrap();
    let ca = ca(&store).await;
    let certified = ca.issue(OffsetDateTime::now_utc()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("root.pem"), ca.root_pem()).unwrap();
    write_pem(&at.join("leaf.pem"), &certified.cert[0]);
    for name in ["idp.example.ts.net", "idp"] {
        let (ok, text) = openssl(
            &[
                "verify",
                "-x509_strict",
                "-purpose",
                "sslserver",
                "-verify_hostname",
                name,
                "-CAfile",
                "root.pem",
                "leaf.pem",
            ],
            at,
        );
        assert!(ok, "{name}: {text}");
    }
    let (ok, _) = openssl(
        &[
            "verify",
            "-verify_hostname",
            "other.example",
            "-CAfile",
            "root.pem",
            "leaf.pem",
        ],
        at,
    );
    assert!(!ok);

    let (_, root) = openssl(&["x509", "-in", "root.pem", "-noout", "-text"], at);
    for part in [
        "CA:TRUE, pathlen:0",
        "Name Constraints: critical",
        "DNS:idp.example.ts.net",
        "Subject Key Identifier",
        "Authority Key Identifier",
        "NIST CURVE: P-256",
    ] {
        assert!(root.contains(part), "{part} in {root}");
    }
    let (_, leaf) = openssl(&["x509", "-in", "leaf.pem", "-noout", "-text"], at);
    for part in [
        "CA:FALSE",
        "Subject Key Identifier",
        "Authority Key Identifier",
        "TLS Web Server Authentication",
    ] {
        assert!(leaf.contains(part), "{part} in {leaf}");
    }
}

#[tokio::test]
async fn the_root_cannot_vouch_for_another_host() {
    let store = Store::in_memory().unwrap();
    let first = ca(&store).await;
    // The same root, asked for a leaf of another name, as a thief of its key would.
    let other = Issuer::parse("https://bank.example").unwrap();
    let root_pem = first.root_pem().to_owned();
    let forged = first.with_names(&other).issue(OffsetDateTime::now_utc()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("root.pem"), root_pem).unwrap();
    write_pem(&folder.path().join("leaf.pem"), &forged.cert[0]);
    let (ok, text) = openssl(&["verify", "-CAfile", "root.pem", "leaf.pem"], folder.path());
    assert!(!ok && text.contains("permitted subtree"), "{text}");
}

#[tokio::test]
async fn a_leaf_lives_ninety_days_at_most_and_is_renewed_after_two_thirds() {
    let store = Store::in_memory().unwrap();
    let ca = ca(&store).await;
    let now = OffsetDateTime::now_utc();
    ca.issue(now).unwrap();
    assert!(ca.renew(now + Duration::days(59)).unwrap().is_none());
    assert!(ca.renew(now + Duration::days(61)).unwrap().is_some());
    assert!(ca.renew(now + Duration::days(62)).unwrap().is_none());
}

#[tokio::test]
async fn the_root_is_kept_and_belongs_to_its_host() {
    let store = Store::in_memory().unwrap();
    let first = ca(&store).await.root_pem().to_owned();
    assert_eq!(ca(&store).await.root_pem(), first);
    let other = Issuer::parse("https://other.example.ts.net").unwrap();
    let second = InternalCa::open(&store, &other, OffsetDateTime::now_utc())
        .await
        .unwrap();
    assert_ne!(second.root_pem(), first);
}

#[tokio::test]
async fn files_are_checked_and_read_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let make = |name: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    };
    let mut files = Files::new(certificate.clone(), key.clone(), "idp.example.ts.net");
    assert!(matches!(files.load(), Err(TlsError::Io { .. })));
    make("other.example");
    assert!(files.load().unwrap_err().to_string().contains("other.example"));
    let first = make("*.example.ts.net");
    assert_eq!(&*files.load().unwrap().cert[0], first);
    assert!(files.reload().unwrap().is_none());
    std::thread::sleep(std::time::Duration::from_millis(20));
    let second = make("idp.example.ts.net");
    assert_eq!(&*files.reload().unwrap().unwrap().cert[0], second);
    std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(files.load().unwrap_err().to_string().contains("not the key"));
    std::fs::write(&certificate, "nothing").unwrap();
    assert!(files.load().unwrap_err().to_string().contains("no certificate"));
    assert!(rustls_pki_types::CertificateDer::from_pem_slice(b"nothing").is_err());
}
