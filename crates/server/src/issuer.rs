//! The issuer: the one URL by which clients know this server, fixed at first start.
//!
//! Clients compare it byte for byte and bind everything they hold to it. It is stored, and a node whose name changed
//! later does not serve under another one: whoever runs it decides how to mend that.

use std::fmt;

use countersign_oauth::{audit::AuditRecord, client::Client};
use countersign_store::{CommitError, Reads, Record, Store, StoreError};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use url::{Host, Url};

/// An issuer identifier: scheme, host and port, without path or trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    host: String,
    port: u16,
    https: bool,
}

/// Why a text is not an issuer this server can serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be an issuer: {reason}")]
pub struct IssuerSyntax {
    text: String,
    reason: &'static str,
}

/// Why the server may not serve under the issuer it was given.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The node has another name than when its issuer was fixed.
    #[error(
        "this node would now be {derived}, but its clients know it as {stored}; rename the node back, or set issuer = \
         \"{stored}\" (the name must then resolve to this node), or run `countersign issuer change` (which lists what breaks)"
    )]
    NodeRenamed {
        /// What clients know.
        stored: String,
        /// What the assigned name would make.
        derived: String,
    },
    /// The configuration says another issuer than the stored one.
    #[error(
        "issuer = \"{configured}\" differs from the stored issuer {stored}; set issuer = \"{stored}\" or remove the \
         setting, or run `countersign issuer change` (which lists what breaks)"
    )]
    Configured {
        /// What clients know.
        stored: String,
        /// What was configured.
        configured: String,
    },
    /// The stored text cannot be read.
    #[error(transparent)]
    Syntax(#[from] IssuerSyntax),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two processes fixed the issuer at once.
    #[error("the issuer was changed at the same moment; try again")]
    Raced,
}

impl Issuer {
    /// The issuer of a node: the scheme served, its name, and the port unless it is the scheme's own.
    ///
    /// # Errors
    /// [`IssuerSyntax`] when `host` is no host name.
    pub fn derive(https: bool, host: &str, port: u16) -> Result<Self, IssuerSyntax> {
        let scheme = if https { "https" } else { "http" };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if port == default_port(https) {
            Self::parse(&format!("{scheme}://{host}"))
        } else {
            Self::parse(&format!("{scheme}://{host}:{port}"))
        }
    }

    /// Reads an issuer as it is configured or stored.
    ///
    /// # Errors
    /// [`IssuerSyntax`] unless it is `http` or `https`, a lower-case host name and at most a port.
    pub fn parse(text: &str) -> Result<Self, IssuerSyntax> {
        let refuse = |reason| IssuerSyntax {
            text: text.to_owned(),
            reason,
        };
        let url = Url::parse(text).map_err(|_| refuse("it is not a URL"))?;
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(refuse("it must begin with https:// or http://")),
        };
        let Some(Host::Domain(host)) = url.host() else {
            return Err(refuse("it must name a host, not an address"));
        };
        // Serialized and compared, so that path, query, user, default port and upper case all show.
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        if format!("{}://{host}{port}", url.scheme()) != text {
            return Err(refuse(
                "it must be scheme, lower-case host and at most a port, without a trailing slash",
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            host: host.to_owned(),
            port: url.port().unwrap_or(default_port(https)),
            https,
        })
    }

    /// The issuer as clients compare it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The first label of its host, which resolves inside the tailnet too.
    pub fn short_name(&self) -> &str {
        self.host.split('.').next().unwrap_or(&self.host)
    }

    /// Whether it is served over TLS.
    pub const fn is_https(&self) -> bool {
        self.https
    }

    /// Which of its names an HTTP `Host` or `:authority` is.
    pub(crate) fn name_of(&self, authority: &str) -> Option<Name> {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
            None => (authority, None),
        };
        if port.unwrap_or(default_port(self.https)) != self.port {
            return None;
        }
        if host.eq_ignore_ascii_case(&self.host) {
            Some(Name::Full)
        } else if host.eq_ignore_ascii_case(self.short_name()) {
            Some(Name::Short)
        } else {
            None
        }
    }
}

/// A name under which the server is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Full,
    Short,
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

/// The issuer as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    issuer: String,
}

impl Record for Stored {
    const TABLE: &'static str = "server";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        ID.into()
    }
}

const ID: &[u8] = b"issuer";

/// The issuer to serve under: the stored one, or at first start `configured`, else `derived`, which is stored then.
///
/// `derived` is what the assigned node name makes, `configured` the setting `issuer`.
///
/// # Errors
/// [`IssuerError`] with every way to mend it when the names disagree.
pub async fn check(
    store: &Store,
    derived: &Issuer,
    configured: Option<&Issuer>,
    now: OffsetDateTime,
) -> Result<Issuer, IssuerError> {
    let mut reads = store.reads();
    let Some(stored) = reads.get::<Stored>(ID).await? else {
        let issuer = configured.unwrap_or(derived);
        return fix(store, reads, issuer, "issuer_fixed", now).await;
    };
    match configured {
        Some(configured) if configured.as_str() != stored.issuer => Err(IssuerError::Configured {
            stored: stored.issuer,
            configured: configured.to_string(),
        }),
        None if derived.as_str() != stored.issuer => Err(IssuerError::NodeRenamed {
            stored: stored.issuer,
            derived: derived.to_string(),
        }),
        _ => Ok(Issuer::parse(&stored.issuer)?),
    }
}

/// The stored issuer, if the server ever started.
///
/// # Errors
/// [`IssuerError::Store`] or [`IssuerError::Syntax`] when it cannot be read.
pub async fn stored(store: &Store) -> Result<Option<Issuer>, IssuerError> {
    let stored = store.reads().get::<Stored>(ID).await?;
    Ok(stored.map(|stored| Issuer::parse(&stored.issuer)).transpose()?)
}

/// What a change of the issuer breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breakage {
    /// The issuer before.
    pub from: String,
    /// Clients that must be registered again: they bind what they hold to the old issuer.
    pub clients: usize,
    /// Whether a new internal root is made, because a root may vouch for its issuer's host only.
    pub new_root: bool,
}

/// What changing to `to` would break; changes nothing.
///
/// # Errors
/// [`IssuerError::Store`] when the store cannot be read.
pub async fn breakage(store: &Store, to: &Issuer) -> Result<Option<Breakage>, IssuerError> {
    let Some(from) = stored(store).await? else {
        return Ok(None);
    };
    let mut clients = 0;
    let mut position = None;
    loop {
        let page = store.scan::<Client>(b"", position.as_deref(), 1000).await?;
        clients += page.records.len();
        position = page.next;
        if position.is_none() {
            break;
        }
    }
    Ok(Some(Breakage {
        new_root: from.host() != to.host() && crate::tls::has_root(store).await?,
        from: from.to_string(),
        clients,
    }))
}

/// Fixes another issuer. The server must not be running.
///
/// # Errors
/// [`IssuerError::Store`] when the store cannot be written.
pub async fn change(store: &Store, to: &Issuer, now: OffsetDateTime) -> Result<(), IssuerError> {
    let mut reads = store.reads();
    reads.get::<Stored>(ID).await?;
    fix(store, reads, to, "issuer_changed", now).await.map(drop)
}

async fn fix(
    store: &Store,
    reads: Reads<'_>,
    issuer: &Issuer,
    event: &str,
    now: OffsetDateTime,
) -> Result<Issuer, IssuerError> {
    let mut txn = reads.into_txn();
    txn.put(&Stored {
        issuer: issuer.to_string(),
    })?;
    txn.audit(&AuditRecord::own(event, now).with_detail(issuer.as_str()))?;
    match store.commit(txn).await {
        Ok(_) => Ok(issuer.clone()),
        Err(CommitError::Conflict(_)) => Err(IssuerError::Raced),
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
