//! What a node needs to be told before it starts.

use std::{fmt, path::PathBuf, time::Duration};

use rustls_pki_types::CertificateDer;
use tailnet_engine::peer::Limits;
use url::Url;
use zeroize::Zeroizing;

/// Everything that decides how a [`Node`](crate::Node) joins and behaves.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Folder for keys and what survives a restart; made with mode 0700 if absent, locked while the node runs.
    pub state_dir: PathBuf,
    /// Control server, e.g. `https://hs.example`. `http` needs [`allow_plain_control`](Self::allow_plain_control).
    pub control_url: Url,
    /// Pre-auth key for the first join. Without it the node waits for a person to follow a login URL.
    pub auth_key: Option<AuthKey>,
    /// Name asked for; control may assign another one, see [`Node::status`](crate::Node::status).
    pub hostname: String,
    /// Tags asked for, e.g. `tag:internal-idp`. The node refuses to start when control grants fewer.
    pub tags: Vec<String>,
    /// Roots trusted for control and DERP besides the system's.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// UDP port for WireGuard. `None` keeps the port of the last start where it is free.
    pub udp_port: Option<u16>,
    /// Budget, in bytes, for the buffers of all connections of all peers.
    pub connection_memory: usize,
    /// The largest buffer of a connection in bytes, for each direction: 8 to 256 KiB. A connection carries no more than
    /// one buffer in a round trip, and keeps the memory that it has used.
    pub connection_buffer: usize,
    /// Talk to control over plain http: only for a control server on the same machine or behind a trusted proxy.
    pub allow_plain_control: bool,
    /// How long to wait for the first netmap before [`Node::start`](crate::Node::start) gives up. A login that waits
    /// for a person is not counted.
    pub join_timeout: Duration,
    /// Free text that control shows beside the node, e.g. the program's name and version.
    pub app: String,
}

impl NodeConfig {
    /// A configuration with every default, for a node that keeps its state in `state_dir`.
    pub fn new(state_dir: impl Into<PathBuf>, control_url: Url, hostname: impl Into<String>) -> Self {
        Self {
            state_dir: state_dir.into(),
            control_url,
            auth_key: None,
            hostname: hostname.into(),
            tags: Vec::new(),
            extra_roots: Vec::new(),
            udp_port: None,
            connection_memory: 64 << 20,
            connection_buffer: Limits::default().buffer,
            allow_plain_control: false,
            join_timeout: Duration::from_secs(60),
            app: String::from("tailnet-node"),
        }
    }
}

/// A pre-auth key: a secret that `Debug` does not show and that is wiped when dropped.
#[derive(Clone)]
pub struct AuthKey(Zeroizing<String>);

impl AuthKey {
    /// Takes the key as control issued it; white space around it is dropped.
    pub fn new(text: impl Into<String>) -> Self {
        let text = Zeroizing::new(text.into());
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// The key, for the register request only.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(…)")
    }
}
