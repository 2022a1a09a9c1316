//! How a tailnet begins.

use std::time::Duration;

use crate::registry::User;

/// What a [`Tailnet`](crate::Tailnet) is to be; `default()` is an open tailnet with alice and bob.
#[derive(Debug, Clone)]
pub struct TailnetConfig {
    /// MagicDNS suffix.
    pub base_domain: String,
    /// Who can own nodes.
    pub users: Vec<User>,
    /// Policy document; `None` = everyone reaches everyone.
    pub policy: Option<String>,
    /// Says that the tailnet is locked (tailnet lock), which a node that cannot verify signatures must not join.
    pub locked: bool,
    /// Puts every node behind a NAT of its own, so that UDP between nodes can be blocked, lost, late or moved at any
    /// time. Without it nodes talk to each other directly, and only the search for new paths can be blocked.
    pub nat: bool,
    /// Gives control a certificate that has expired: what a node sees whose clock is ahead.
    pub expired_certificate: bool,
    /// Offers every node a certificate for its name, as Tailscale does and Headscale does not. None is ever issued: it
    /// is for peers that do not start without the offer.
    pub certificates: bool,
    /// The lowest capability version that is served. Headscale 0.29 has 113.
    pub min_version: u16,
    /// How often an idle map stream gets a message. Headscale has 50 to 59 s.
    pub keep_alive: Duration,
    /// How often an idle relay connection gets a frame.
    pub derp_keep_alive: Duration,
    /// How long after its last stream an ephemeral node is deleted.
    pub ephemeral_timeout: Duration,
}

impl Default for TailnetConfig {
    fn default() -> Self {
        Self {
            base_domain: "tailnet.test".to_owned(),
            users: vec![User::new("alice@example.com"), User::new("bob@example.com")],
            policy: None,
            locked: false,
            nat: false,
            expired_certificate: false,
            certificates: false,
            min_version: 113,
            keep_alive: Duration::from_secs(50),
            derp_keep_alive: Duration::from_secs(60),
            ephemeral_timeout: Duration::from_secs(120),
        }
    }
}

/// A pre-auth key to be made: single-use, for an hour, not ephemeral, unless said otherwise.
#[derive(Debug, Clone)]
pub struct AuthKeySpec {
    pub(super) user: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) reusable: bool,
    pub(super) ephemeral: bool,
    pub(super) valid_for: time::Duration,
}

impl AuthKeySpec {
    /// Its nodes belong to a user, by login name.
    pub fn user(login: &str) -> Self {
        Self {
            user: Some(login.to_owned()),
            tags: Vec::new(),
            reusable: false,
            ephemeral: false,
            valid_for: time::Duration::HOUR,
        }
    }

    /// Its nodes carry these tags and belong to nobody.
    pub fn tags(tags: &[&str]) -> Self {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        Self {
            user: None,
            tags,
            ..Self::user("")
        }
    }

    /// It can be used more than once.
    pub fn reusable(self) -> Self {
        Self { reusable: true, ..self }
    }

    /// Its nodes are deleted some time after they went offline.
    pub fn ephemeral(self) -> Self {
        Self {
            ephemeral: true,
            ..self
        }
    }

    /// It is valid for so long; a negative time makes a key that has expired.
    pub fn valid_for(self, valid_for: time::Duration) -> Self {
        Self { valid_for, ..self }
    }
}
