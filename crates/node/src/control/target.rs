//! Where control is and how it may be dialled (Go: `control/ts2021/client.go`).

use std::time::Duration;

use url::{Host, Url};

use super::ControlError;

/// Head start of one way to dial over the next.
const HEAD_START: Duration = Duration::from_millis(500);

/// A control server, from the configured URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Name or address, without brackets.
    pub(super) host: String,
    /// What the Host header and HTTP/2's authority say.
    pub(super) authority: String,
    /// Port given in the URL.
    port: Option<u16>,
    /// `http`, which the user has to ask for.
    plain: bool,
    /// An address or name that does not leave the machine or the private network.
    private: bool,
}

/// One way to reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) tls: bool,
    pub(super) port: u16,
    /// How long to wait for the ways before it, unless they fail sooner.
    pub(super) delay: Duration,
}

impl Target {
    /// `allow_plain`: whether `http` is acceptable.
    pub(super) fn new(url: &Url, allow_plain: bool) -> Result<Self, ControlError> {
        let unusable = |reason| ControlError::Url {
            url: url.to_string(),
            reason,
        };
        let plain = match url.scheme() {
            "https" => false,
            "http" if allow_plain => true,
            "http" => return Err(unusable("plain http is used only when explicitly allowed; use https")),
            _ => return Err(unusable("it must begin with https://")),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(unusable("it must have neither path nor query"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ControlError::Url {
                url: "(hidden)".into(),
                reason: "it must not contain a password",
            });
        }
        let host = url.host().ok_or_else(|| unusable("it names no host"))?;
        let (name, private) = match host {
            Host::Domain(name) => (name.to_owned(), name == "localhost"),
            Host::Ipv4(ip) => (
                ip.to_string(),
                ip.is_loopback() || ip.is_private() || ip.is_link_local(),
            ),
            Host::Ipv6(ip) => (ip.to_string(), ip.is_loopback() || ip.is_unique_local()),
        };
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        Ok(Self {
            host: name,
            authority,
            port: url.port(),
            plain,
            private,
        })
    }

    /// How the server key is fetched: over TLS, whose certificate is what the trust in the key rests on.
    pub(super) fn key_way(&self) -> Way {
        let default = if self.plain { 80 } else { 443 };
        Way {
            tls: !self.plain,
            port: self.port.unwrap_or(default),
            delay: Duration::ZERO,
        }
    }

    /// How the Noise connection is dialled, in the order to try. Noise authenticates the server by itself, so port 80
    /// comes first where the URL leaves the port open.
    pub(super) fn ways(&self) -> Vec<Way> {
        let tls = |port, delay| Way { tls: true, port, delay };
        let clear = |port| Way {
            tls: false,
            port,
            delay: Duration::ZERO,
        };
        match (self.plain, self.port) {
            (false, Some(port)) => vec![tls(port, Duration::ZERO)],
            (false, None) => vec![clear(80), tls(443, HEAD_START)],
            (true, port) if self.private => vec![clear(port.unwrap_or(80))],
            (true, port) => vec![clear(port.unwrap_or(80)), tls(443, HEAD_START)],
        }
    }
}

#[cfg(test)]
mod tests;
