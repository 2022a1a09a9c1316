//! A node of the tailnet and the user it belongs to (Go: `tailcfg.Node`, `tailcfg.UserProfile`).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;

use super::{CapMap, Hostinfo, NodeId, UserId, is_zero, lenient};
use crate::key::{self, DiscoPublic, MachinePublic, NodePublic};

/// One node, ourselves included.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    /// Number in the tailnet.
    #[serde(rename = "ID", deserialize_with = "lenient::or_default")]
    pub id: NodeId,
    /// Durable identity, the one to store.
    #[serde(rename = "StableID", deserialize_with = "lenient::or_default")]
    pub stable_id: String,
    /// FQDN with a trailing dot; may be empty.
    #[serde(deserialize_with = "lenient::or_default")]
    pub name: String,
    /// Owner. A pseudo-user when `tags` is not empty: never authorise on it then.
    #[serde(deserialize_with = "lenient::or_default")]
    pub user: UserId,
    /// Who shared the node in from another tailnet; 0 = nobody.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub sharer: UserId,
    /// WireGuard key. `None` = the node cannot be used.
    #[serde(with = "key::optional", skip_serializing_if = "Option::is_none")]
    pub key: Option<NodePublic>,
    /// When `key` expires; `None` = never.
    #[serde(with = "lenient::time", skip_serializing_if = "Option::is_none")]
    pub key_expiry: Option<OffsetDateTime>,
    /// Tailnet-lock signature of `key`.
    #[serde(with = "lenient::base64", skip_serializing_if = "Vec::is_empty")]
    pub key_signature: Vec<u8>,
    /// Machine key.
    #[serde(with = "key::optional", skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachinePublic>,
    /// Disco key; changes when the node's process restarts.
    #[serde(with = "key::optional", skip_serializing_if = "Option::is_none")]
    pub disco_key: Option<DiscoPublic>,
    /// The node's own addresses.
    #[serde(deserialize_with = "lenient::texts")]
    pub addresses: Vec<IpNet>,
    /// What the node may send from; absent = its addresses (capability version 112).
    #[serde(
        rename = "AllowedIPs",
        deserialize_with = "lenient::optional_texts",
        skip_serializing_if = "Option::is_none"
    )]
    pub allowed_ips: Option<Vec<IpNet>>,
    /// Where UDP may reach it.
    #[serde(deserialize_with = "lenient::texts", skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<SocketAddr>,
    /// Home region in its older form, `127.3.3.40:<region>`.
    #[serde(
        rename = "DERP",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub legacy_derp_string: String,
    /// Home region; 0 = look at the older form. [`home_derp_region`](Self::home_derp_region) does both.
    #[serde(
        rename = "HomeDERP",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub home_derp: u32,
    /// What the node said about its host. Written but never read: nothing here needs a peer's, and ten thousand of
    /// them would be most of a netmap.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub hostinfo: Option<Box<Hostinfo>>,
    /// When the node was made.
    #[serde(with = "lenient::time", skip_serializing_if = "Option::is_none")]
    pub created: Option<OffsetDateTime>,
    /// Capability version. Headscale writes the viewer's own: useless for feature detection.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub cap: i64,
    /// Tags; not empty = the node belongs to no person.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Subnet routes for which the node is the chosen router.
    #[serde(deserialize_with = "lenient::texts", skip_serializing_if = "Vec::is_empty")]
    pub primary_routes: Vec<IpNet>,
    /// When control last saw it.
    #[serde(with = "lenient::time", skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<OffsetDateTime>,
    /// Whether control sees it; `None` = not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// Approved by an admin.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub machine_authorized: bool,
    /// Node capabilities, older form; the names also count as keys of `cap_map`.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Node capabilities.
    #[serde(deserialize_with = "lenient::map", skip_serializing_if = "CapMap::is_empty")]
    pub cap_map: CapMap,
    /// On a locked tailnet: may be talked to over peerAPI only.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub unsigned_peer_api_only: bool,
    /// The key has expired.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub expired: bool,
    /// The IPv4 address by which *this peer* knows *us*.
    #[serde(
        rename = "SelfNodeV4MasqAddrForThisPeer",
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub self_node_v4_masq_addr_for_this_peer: Option<IpAddr>,
    /// The IPv6 address by which *this peer* knows *us*.
    #[serde(
        rename = "SelfNodeV6MasqAddrForThisPeer",
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub self_node_v6_masq_addr_for_this_peer: Option<IpAddr>,
    /// Stock WireGuard: no disco, no DERP.
    #[serde(
        rename = "IsWireGuardOnly",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub is_wire_guard_only: bool,
    /// May be connected to, but must not connect.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub is_jailed: bool,
}

impl Node {
    /// The home region from whichever field carries it.
    pub fn home_derp_region(&self) -> Option<u32> {
        if self.home_derp != 0 {
            return Some(self.home_derp);
        }
        let region = self.legacy_derp_string.strip_prefix("127.3.3.40:")?.parse().ok()?;
        (region != 0).then_some(region)
    }
}

/// A user as shown to people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UserProfile {
    /// Number in the tailnet.
    #[serde(rename = "ID", deserialize_with = "lenient::or_default")]
    pub id: UserId,
    /// `alice@example.com`; on Headscale the e-mail, else the name, else the provider's id.
    #[serde(deserialize_with = "lenient::or_default")]
    pub login_name: String,
    /// `Alice Smith`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub display_name: String,
    /// URL of a picture.
    #[serde(
        rename = "ProfilePicURL",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub profile_pic_url: String,
}

/// Reads a list of nodes. An entry of the wrong shape keeps its ID alone, without a key: the netmap then treats that
/// node as gone. Dropping the entry would leave an older version of the node, perhaps with a withdrawn key, in force.
pub(super) fn nodes<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Node>, D::Error> {
    #[derive(Deserialize)]
    struct Bare {
        #[serde(rename = "ID")]
        id: NodeId,
    }

    let read = |raw: &str| {
        serde_json::from_str(raw).ok().or_else(|| {
            let Bare { id } = serde_json::from_str(raw).ok()?;
            Some(Node { id, ..Node::default() })
        })
    };
    Ok(lenient::optional_list_by(d, read)?.unwrap_or_default())
}
