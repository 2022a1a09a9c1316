//! What the server is told. The binary reads it from files and flags; here every value is valid already.

use std::{path::PathBuf, time::Duration};

use countersign_oauth::{register::Mode, rotation::Schedule};

use crate::issuer::Issuer;

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The issuer, already compared with the stored one by [`crate::issuer::check`].
    pub issuer: Issuer,
    /// Where certificates come from.
    pub tls: TlsMode,
    /// Who may register clients.
    pub registration: Mode,
    /// How a policy rule names this server, as [`names_in_policy`](crate::names_in_policy) tells.
    pub own_names: Vec<String>,
    /// Origins, besides loopback ones, whose pages may register: `https://host[:port]`.
    pub cors_origins: Vec<String>,
    /// How old the netmap may be before nobody is anybody.
    pub netmap_max_age: Duration,
    /// Whether a node that advertises routes still counts as its user.
    pub routers_are_users: bool,
    /// How many clients one owner may register; 0 means any number.
    pub dcr_max_clients_per_user: u64,
    /// Requests per second that one node may send, and connections that it may open, with bursts of twice that; 0 means
    /// any number.
    pub rate_limit_per_peer: u32,
    /// The same for all nodes together. To be many times what one node may do, so that no few of them can use it up.
    pub rate_limit: u32,
    /// Whether login itself needs a rule of the policy, also when no resource is asked for.
    pub require_grant: bool,
    /// How long what was granted lives.
    pub tokens: TokenSettings,
    /// What tokens say about people.
    pub claims: ClaimSettings,
    /// How long audit records are kept.
    pub audit_retention: Duration,
    /// Limits that protect the process.
    pub limits: Limits,
}

/// How long what was granted lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Of an access token or id_token: at most 5 minutes.
    pub access_token_lifetime: Duration,
    /// From consent to the last refresh, whatever happens.
    pub grant_lifetime: Duration,
    /// How long a spent refresh token still gives its successor to the node that rotated it.
    pub refresh_grace: Duration,
    /// How long one key signs before the next one takes over.
    pub signing_key_lifetime: Duration,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            access_token_lifetime: Duration::from_secs(300),
            grant_lifetime: Duration::from_secs(30 * 24 * 3600),
            refresh_grace: Duration::from_secs(600),
            signing_key_lifetime: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl TokenSettings {
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule {
            signs_for: span(self.signing_key_lifetime),
            remembered_for: span(self.grant_lifetime),
        }
    }
}

/// A span of time as the decisions take it; one that does not fit stands for ten years.
pub(crate) fn span(span: Duration) -> time::Duration {
    span.try_into().unwrap_or(time::Duration::days(3650))
}

/// What tokens say about people beyond what the tailnet knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimSettings {
    /// The domain of the addresses of users whose login is a bare word; without it these have no `email`.
    pub email_domain: Option<String>,
    /// The domains for whose addresses `email_verified` is true: their owner vouches for every login.
    pub verified_email_domains: Vec<String>,
}

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsMode {
    /// A chain and key in PEM files, read again when they change.
    Files {
        /// The chain, leaf first.
        certificate: PathBuf,
        /// The private key of the leaf.
        key: PathBuf,
    },
    /// Leaves of a root of our own, which is made at first start.
    InternalCa,
    /// Plain http: the tailnet encrypts, but browsers and most clients insist on https.
    Off,
}

/// Limits that protect the process from its peers. What exceeds one is refused, never queued.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections of all peers; a further one is closed at once.
    pub connections: usize,
    /// Open connections of one node.
    pub connections_per_peer: usize,
    /// Requests in progress of all peers; a further one is answered with 503.
    pub requests: usize,
    /// Requests in progress of one node; a further one is answered with 429.
    pub requests_per_peer: usize,
    /// Bytes of a request body; more are answered with 413.
    pub body: usize,
    /// Bytes of all request headers.
    pub headers: usize,
    /// From the first byte to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a request to the end of its body.
    pub body_timeout: Duration,
    /// How long a connection may do nothing, also in the middle of a request's headers.
    pub idle_timeout: Duration,
    /// How long requests in progress may take to finish when the server stops.
    pub shutdown_grace: Duration,
    /// How many audit records are kept; the oldest go first.
    pub audit_records: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_peer: 512,
            requests: 2048,
            requests_per_peer: 512,
            body: 64 << 10,
            headers: 32 << 10,
            handshake_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(90),
            shutdown_grace: Duration::from_secs(5),
            audit_records: 500_000,
        }
    }
}
