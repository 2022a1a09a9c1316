//! What can go wrong between us and control, in words that say what to do.

use std::{io, time::Duration};

use tailnet_engine::control::{Failure, FailureKind};
use tailnet_wire::{control::CAPABILITY_VERSION, mapframe::MapFrameError, noise::NoiseError};

/// Why control could not be reached or did not answer as it should. All but [`Url`](Self::Url) are tried again.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The configured URL cannot be used.
    #[error("control_url {url} cannot be used: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The name does not resolve.
    #[error("{host} does not resolve: {source}. Check control_url and DNS")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No connection.
    #[error(
        "control at {host}:{port} cannot be reached: {source}. Check control_url, the network, and that the server runs"
    )]
    Dial {
        /// Host name.
        host: String,
        /// Port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// TLS failed, most often for want of the right root.
    #[error(
        "the TLS certificate of {host}:{port} was not accepted: {source}. If control uses a private CA, name its root in \
         extra_ca_file; if the certificate is out of date, check both clocks"
    )]
    Tls {
        /// Host name.
        host: String,
        /// Port.
        port: u16,
        /// What rustls said.
        source: io::Error,
    },
    /// Something took too long.
    #[error("control at {host} did not answer within {} s while {what}", .limit.as_secs())]
    Timeout {
        /// Host name.
        host: String,
        /// What was being waited for.
        what: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// What answers is not a control server, or one from before Noise.
    #[error("{host} does not answer like a control server: {reason}. Check control_url")]
    NotControl {
        /// Host name.
        host: String,
        /// What was wrong.
        reason: String,
    },
    /// The server hung up without a word right after the upgrade: what Headscale does to versions it does not take.
    #[error(
        "control at {host} closed the connection during the handshake. It is probably too new or too old for this node, \
         which speaks capability version {CAPABILITY_VERSION} (Headscale 0.29 takes 113 and later): update the older of the two"
    )]
    HungUp {
        /// Host name.
        host: String,
    },
    /// The Noise handshake or a record failed.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The connection broke.
    #[error("the connection to control broke: {0}")]
    Broken(String),
    /// The server ended the map stream in good order, as it does when it restarts.
    #[error("control ended the map stream")]
    StreamEnded,
    /// A map message cannot be read.
    #[error("{0}. If this goes on, look for a proxy in between that changes what passes")]
    MapFrame(#[from] MapFrameError),
    /// An answer is not the JSON it should be.
    #[error(
        "control's answer to {path} cannot be read: {source}. If this goes on, control and this node are of different \
         times: update the older of the two"
    )]
    Json {
        /// The request.
        path: &'static str,
        /// What serde said.
        source: serde_json::Error,
    },
    /// An HTTP status that is no success.
    #[error("control answered {status} to {path}{}{text}", if .text.is_empty() { "" } else { ": " })]
    Status {
        /// The request.
        path: &'static str,
        /// The status.
        status: u16,
        /// Beginning of the body.
        text: String,
        /// The server asked to wait this long.
        retry_after: Option<Duration>,
    },
}

impl ControlError {
    /// What the session has to know about it. `for_map`: the request was a map request, for which 401 and 404 mean
    /// that control does not know the node.
    pub(super) fn failure(&self, for_map: bool) -> Failure {
        let kind = match self {
            Self::Status {
                status: 429,
                retry_after,
                ..
            } => FailureKind::Throttled {
                retry_after: *retry_after,
            },
            Self::Status { status: 401 | 404, .. } if for_map => FailureKind::UnknownNode,
            Self::Status { .. } | Self::Json { .. } | Self::MapFrame(_) => FailureKind::Answer,
            Self::Noise(NoiseError::Handshake | NoiseError::Refused(_)) | Self::HungUp { .. } => FailureKind::ServerKey,
            _ => FailureKind::Connection,
        };
        Failure {
            kind,
            reason: self.to_string(),
        }
    }
}
