//! TLS as a client: which roots count, shared by control and DERP connections.
//!
//! The system's roots and those that the configuration adds are read once, by [`root_store`]. [`client_config`] is for
//! control; [`derp_config`] adds the rules of DERP relays: another name to verify, a pinned certificate, none at all in
//! tests. No ALPN is offered: both protocols begin as HTTP/1.1 and are upgraded.

mod verifier;

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, client::WebPkiServerVerifier, client::danger::ServerCertVerifier,
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tailnet_wire::control::DerpNode;

use self::verifier::{DerpVerifier, Rule};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of additional roots cannot be read.
    #[error("the CA file {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It holds no certificate, or a damaged one.
    #[error("the CA file {path} holds no usable PEM certificate: {reason}")]
    Pem {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no root at all.
    #[error("there are no root certificates: install the system's (ca-certificates), or name a file in extra_ca_file")]
    NoRoots,
    /// An additional root is damaged.
    #[error("an additional root certificate cannot be used: {0}")]
    Root(rustls::Error),
    /// The verifier cannot be built from these roots.
    #[error("certificate verification cannot be set up: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// The DERP map demands a name that is none.
    #[error("the DERP map names the certificate {0:?}, which is neither a DNS name nor sha256-raw: and 64 hex digits")]
    CertName(String),
    /// The cryptography library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Provider(#[from] rustls::Error),
}

/// Reads the PEM certificates of a file of additional roots.
///
/// # Errors
/// [`TlsError::Read`] and [`TlsError::Pem`].
pub fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let name = || path.display().to_string();
    let pem = std::fs::read(path).map_err(|source| TlsError::Read { path: name(), source })?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let reason = match roots {
        Ok(roots) if !roots.is_empty() => return Ok(roots),
        Ok(_) => "there is none".into(),
        Err(e) => e.to_string(),
    };
    Err(TlsError::Pem { path: name(), reason })
}

/// The system's roots and `extra`.
///
/// # Errors
/// [`TlsError::NoRoots`] when both are empty, [`TlsError::Root`] when one of `extra` is damaged. Damaged roots of the
/// system are skipped.
pub fn root_store(extra: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for root in extra {
        store.add(root.clone()).map_err(TlsError::Root)?;
    }
    if store.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(Arc::new(store))
}

/// A client that verifies servers against `roots`: for control.
///
/// # Errors
/// [`TlsError::Provider`].
pub fn client_config(roots: Arc<RootCertStore>) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A client for the relay `node`, by the rules that the DERP map gives for it.
///
/// # Errors
/// [`TlsError::CertName`] when the map's `CertName` makes no sense.
pub fn derp_config(roots: Arc<RootCertStore>, node: &DerpNode) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let webpki = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?;
    let verifier: Arc<dyn ServerCertVerifier> = Arc::new(DerpVerifier::new(Rule::of(node)?, webpki));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The cryptography that all TLS of the node uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests;
