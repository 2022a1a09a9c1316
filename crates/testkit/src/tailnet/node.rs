//! Settings for nodes of ours that join this tailnet.

use std::path::PathBuf;

use rustls_pki_types::{CertificateDer, pem::PemObject};
use tailnet_node::{AuthKey, NodeConfig};

use super::Tailnet;

/// Why there are no settings. Neither can happen to a tailnet that has started.
#[derive(Debug, thiserror::Error)]
pub enum NodeConfigError {
    /// The control URL.
    #[error("the control URL is not usable: {0}")]
    Url(#[from] url::ParseError),
    /// The root certificate.
    #[error("the CA's root is not usable: {0}")]
    Root(#[from] rustls_pki_types::pem::Error),
}

impl Tailnet {
    /// Settings for a node that joins this tailnet and trusts its CA; otherwise as in production.
    ///
    /// # Errors
    /// [`NodeConfigError`].
    pub fn node_config(
        &self,
        state_dir: impl Into<PathBuf>,
        hostname: &str,
        auth_key: Option<&str>,
    ) -> Result<NodeConfig, NodeConfigError> {
        let mut config = NodeConfig::new(state_dir, self.control_url().parse()?, hostname);
        config.auth_key = auth_key.map(AuthKey::new);
        config.extra_roots = vec![CertificateDer::from_pem_slice(self.ca_pem().as_bytes())?];
        Ok(config)
    }
}
