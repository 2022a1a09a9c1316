//! The internal root, for machines and for people.

use countersign_oauth::caller::Caller;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};

use crate::{
    app::App,
    pages,
    reply::{self, Reply},
    status,
};

/// `GET /ca.pem`.
pub(crate) fn pem(app: &App, _caller: &Caller) -> Reply {
    match app.root_pem() {
        Some(pem) => reply::body(status::FOUND, "application/x-pem-file", pem.to_owned()),
        None => no_root(),
    }
}

/// `GET /ca`.
pub(crate) fn page(app: &App, _caller: &Caller) -> Reply {
    match app.root_pem().and_then(fingerprint) {
        Some(fingerprint) => reply::page(status::FOUND, pages::trust(&app.config.issuer, &fingerprint)),
        None => no_root(),
    }
}

fn no_root() -> Reply {
    reply::refuse(
        status::NOT_FOUND,
        "this server has no root of its own: its certificate comes from elsewhere, or TLS is off",
    )
}

/// SHA-256 of the certificate, as tools print it.
fn fingerprint(pem: &str) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let pairs: Vec<_> = Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect();
    Some(pairs.join(":"))
}
