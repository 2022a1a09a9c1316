//! The demo's server: exactly what `countersign serve` runs, told by flags as a person would tell it.

use std::{net::IpAddr, path::Path, sync::Arc, time::Instant};

use tailnet_testkit::{AuthKeySpec, Tailnet};

use super::{BoxError, people};
use crate::{
    commands::serve::{Board, Running},
    config::{self, Inputs},
};

/// The running server.
pub(super) struct Idp {
    running: Running,
    address: String,
    host: String,
    root: String,
}

impl Idp {
    /// Joins and serves; the state folder and the files that the flags name are made in `folder`.
    pub(super) async fn start(tailnet: &Tailnet, folder: &Path) -> Result<Self, BoxError> {
        let [state, ca, key] = ["idp", "tailnet-ca.pem", "idp.key"].map(|name| folder.join(name));
        tailnet.write_ca(&ca)?;
        std::fs::write(&key, tailnet.auth_key(AuthKeySpec::tags(&[people::IDP_TAG]))?)?;
        let flags = [
            ("state_dir", state.display().to_string()),
            ("control_url", tailnet.control_url().to_owned()),
            ("extra_ca_file", ca.display().to_string()),
            ("auth_key_file", key.display().to_string()),
        ];
        let flags = flags.map(|(name, value)| (name, vec![value])).into();
        // Neither the environment nor a file of this machine must change what the demo shows.
        let settings = config::load(Inputs {
            flags,
            ..Inputs::default()
        })
        .map_err(|problems| problems.to_string())?;
        let board = Arc::new(Board::new(&settings, Instant::now()));
        let running = Running::start(&settings, &board).await?;
        let address = running
            .node()
            .status()
            .addresses
            .first()
            .map(IpAddr::to_string)
            .unwrap_or_default();
        let host = running.server().issuer().host().to_owned();
        let root = running.server().root_pem().unwrap_or_default().to_owned();
        Ok(Self {
            running,
            address,
            host,
            root,
        })
    }

    /// Its tailnet address.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Its MagicDNS name.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Its issuer.
    pub(super) fn issuer(&self) -> &str {
        self.running.server().issuer().as_str()
    }

    /// The root of its internal CA, in PEM.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// Ends it in order.
    pub(super) async fn end(&mut self) {
        self.running.stop().await;
    }
}
