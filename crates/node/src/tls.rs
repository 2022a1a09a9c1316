//! TLS as a client: which roots count, shared by control and DERP connections.
//!
//! The system's roots and those that the configuration adds are read once. No ALPN is offered: both protocols begin as
//! HTTP/1.1 and are upgraded.

use std::{io, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Why the roots cannot be used.
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
    #[error("no root certificates: the system has none, and no CA file was given (extra_ca_file)")]
    NoRoots,
    /// rustls refuses its own provider.
    #[error("TLS cannot be set up: {0}")]
    Provider(#[from] rustls::Error),
}

/// Reads the PEM certificates of a file of additional roots.
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
pub fn root_store(extra: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    // Single system roots that cannot be read are skipped; none at all shows below.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for root in extra {
        store.add(root.clone())?;
    }
    if store.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(Arc::new(store))
}

/// A client that verifies servers against `roots`.
pub fn client_config(roots: Arc<RootCertStore>) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The cryptography that all TLS of the node uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
