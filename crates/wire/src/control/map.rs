//! The map stream (Go: `tailcfg.MapRequest`, `tailcfg.MapResponse`).
//!
//! In a [`MapResponse`] absent and `null` mean "unchanged". Where empty means something else than absent, the field is
//! an `Option`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::{
    CapMap, DerpMap, DnsConfig, FilterRule, Hostinfo, Node, NodeId, UserProfile, is_zero, lenient, node::nodes,
};
use crate::key::{self, DiscoPublic, NodePublic};

/// Values of [`MapRequest::endpoint_types`]: how we know an endpoint.
pub mod endpoint_type {
    /// An address of an interface.
    pub const LOCAL: u8 = 1;
    /// What a STUN server saw.
    pub const STUN: u8 = 2;
    /// A port mapping.
    pub const PORT_MAPPED: u8 = 3;
    /// The address that STUN saw with our local port: a guess behind a hard NAT.
    pub const STUN_LOCAL_PORT: u8 = 4;
    /// Configured.
    pub const EXPLICIT: u8 = 5;
}

/// Body of `POST /machine/map`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MapRequest {
    /// Capability version.
    pub version: u16,
    /// `zstd` or empty.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub compress: String,
    /// Ask for keepalives.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub keep_alive: bool,
    /// Our node key.
    #[serde(with = "key::optional", skip_serializing_if = "Option::is_none")]
    pub node_key: Option<NodePublic>,
    /// Our disco key.
    #[serde(with = "key::optional", skip_serializing_if = "Option::is_none")]
    pub disco_key: Option<DiscoPublic>,
    /// Long poll; else a "lite" update whose status code alone matters.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub stream: bool,
    /// What the node says about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostinfo: Option<Hostinfo>,
    /// The session to resume.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub map_session_handle: String,
    /// The last message that arrived in it.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub map_session_seq: i64,
    /// Where UDP may reach us. Headscale clears what it knew when this is empty.
    #[serde(deserialize_with = "lenient::texts", skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<SocketAddr>,
    /// See [`endpoint_type`]; by position.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "Vec::is_empty")]
    pub endpoint_types: Vec<u8>,
    /// Answer without peers.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub omit_peers: bool,
    /// Free words.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub debug_flags: Vec<String>,
}

/// One message of the map stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MapResponse {
    /// Names the session; only in the first message.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub map_session_handle: String,
    /// Number of the message in its session.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub seq: i64,
    /// Nothing but a sign of life, beside the one-shot requests.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub keep_alive: bool,
    /// Control wants an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping_request: Option<PingRequest>,
    /// A page to show to the person.
    #[serde(
        rename = "PopBrowserURL",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub pop_browser_url: String,
    /// Ourselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Box<Node>>,
    /// Relays.
    #[serde(rename = "DERPMap", skip_serializing_if = "Option::is_none")]
    pub derp_map: Option<DerpMap>,
    /// All peers, replacing those known; empty = unchanged.
    #[serde(deserialize_with = "nodes", skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Node>,
    /// New peers and new versions of known ones.
    #[serde(deserialize_with = "nodes", skip_serializing_if = "Vec::is_empty")]
    pub peers_changed: Vec<Node>,
    /// Peers that are gone.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub peers_removed: Vec<NodeId>,
    /// New values of some fields of known peers.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub peers_changed_patch: Vec<PeerChange>,
    /// `true` = control has just seen it, `false` = it does not know when.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub peer_seen_change: BTreeMap<NodeId, bool>,
    /// Peers that came or went.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub online_change: BTreeMap<NodeId, bool>,
    /// Names.
    #[serde(rename = "DNSConfig", skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<DnsConfig>,
    /// Name of the tailnet.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub domain: String,
    /// The filter chunk `base`; the empty list blocks everything.
    #[serde(deserialize_with = "lenient::optional_list", skip_serializing_if = "Option::is_none")]
    pub packet_filter: Option<Vec<FilterRule>>,
    /// Filter chunks by name; `null` deletes one, `"*": null` all of them first.
    #[serde(deserialize_with = "lenient::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub packet_filters: BTreeMap<String, Option<Rules>>,
    /// Users to add or replace.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub user_profiles: Vec<UserProfile>,
    /// Warnings; replaces the former ones.
    #[serde(deserialize_with = "lenient::optional_list", skip_serializing_if = "Option::is_none")]
    pub health: Option<Vec<String>>,
    /// Messages by id; `null` deletes one, `"*": null` all of them first.
    #[serde(deserialize_with = "lenient::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub display_messages: BTreeMap<String, Option<DisplayMessage>>,
    /// Rules of Tailscale SSH, which is not spoken here: kept as text.
    #[serde(rename = "SSHPolicy", skip_serializing_if = "Option::is_none")]
    pub ssh_policy: Option<Box<RawValue>>,
    /// The server's clock.
    #[serde(with = "lenient::time", skip_serializing_if = "Option::is_none")]
    pub control_time: Option<OffsetDateTime>,
    /// The tailnet is locked.
    #[serde(rename = "TKAInfo", skip_serializing_if = "Option::is_none")]
    pub tka_info: Option<TkaInfo>,
    /// Switches for debugging.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug: Option<DebugSettings>,
    /// Where to dial control from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_dial_plan: Option<ControlDialPlan>,
    /// What control knows about newer client versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_version: Option<ClientVersion>,
}

/// A list of rules in which an unreadable rule is dropped.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rules(#[serde(deserialize_with = "lenient::list")] pub Vec<FilterRule>);

/// New values for some fields of a peer; absent = unchanged.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PeerChange {
    /// Which peer; an unknown one is ignored.
    #[serde(rename = "NodeID", deserialize_with = "lenient::or_default")]
    pub node_id: NodeId,
    /// Home region; 0 = unchanged.
    #[serde(
        rename = "DERPRegion",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub derp_region: u32,
    /// Capability version; 0 = unchanged.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub cap: i64,
    /// Node capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap_map: Option<CapMap>,
    /// UDP endpoints.
    #[serde(
        deserialize_with = "lenient::optional_texts",
        skip_serializing_if = "Option::is_none"
    )]
    pub endpoints: Option<Vec<SocketAddr>>,
    /// Node key.
    #[serde(with = "key::optional", skip_serializing_if = "Option::is_none")]
    pub key: Option<NodePublic>,
    /// Tailnet-lock signature.
    #[serde(with = "lenient::base64", skip_serializing_if = "Vec::is_empty")]
    pub key_signature: Vec<u8>,
    /// Disco key.
    #[serde(with = "key::optional", skip_serializing_if = "Option::is_none")]
    pub disco_key: Option<DiscoPublic>,
    /// Whether control sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// When control last saw it.
    #[serde(with = "lenient::time", skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<OffsetDateTime>,
    /// Key expiry; Go's zero time, "never from now on", is `Some(None)`.
    #[serde(
        deserialize_with = "present_time",
        serialize_with = "write_present_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub key_expiry: Option<Option<OffsetDateTime>>,
}

/// Control asks the node to prove that it is alive, or to run something.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PingRequest {
    /// Where the answer goes, verbatim; a repeated URL is a repeated request.
    #[serde(rename = "URL", deserialize_with = "lenient::or_default")]
    pub url: String,
    /// The answer goes through the Noise connection.
    #[serde(
        rename = "URLIsNoise",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub url_is_noise: bool,
    /// Log it.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub log: bool,
    /// Empty = HTTP HEAD; `c2n`; or a comma list of `disco`, `TSMP`, `ICMP`, `peerapi` and words yet to come.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub types: String,
    /// Whom to ping.
    #[serde(
        rename = "IP",
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub ip: Option<IpAddr>,
    /// For `c2n`: a raw HTTP/1 request.
    #[serde(with = "lenient::base64", skip_serializing_if = "Vec::is_empty")]
    pub payload: Vec<u8>,
}

/// What a ping of a [`PingRequest`] gave.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PingResponse {
    /// The word of [`PingRequest::types`] that is being answered.
    #[serde(rename = "Type", deserialize_with = "lenient::or_default")]
    pub ping_type: String,
    /// Address that was pinged.
    #[serde(
        rename = "IP",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub ip: String,
    /// Tailnet address of the node that answered.
    #[serde(
        rename = "NodeIP",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub node_ip: String,
    /// Its name.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub node_name: String,
    /// Why there is no answer.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub err: String,
    /// Round trip.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub latency_seconds: f64,
    /// UDP address, when the path was direct.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub endpoint: String,
    /// Region, when the path was a relay.
    #[serde(
        rename = "DERPRegionID",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub derp_region_id: u32,
    /// Its code.
    #[serde(
        rename = "DERPRegionCode",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub derp_region_code: String,
    /// The peer is this node itself.
    #[serde(
        rename = "IsLocalIP",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub is_local_ip: bool,
}

/// State of the tailnet lock; its presence says that there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TkaInfo {
    /// Hash of the newest update message, base32.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub head: String,
    /// Control says that the lock was switched off; the proof has to be asked for.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub disabled: bool,
}

/// Switches by which control debugs a client.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DebugSettings {
    /// Pause before the next message is read; at most 5 minutes.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub sleep_seconds: f64,
    /// Upload no logs.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub disable_log_tail: bool,
    /// End the process with this code. Not obeyed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<i64>,
}

/// Where control is to be dialled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ControlDialPlan {
    /// Candidates to race.
    #[serde(deserialize_with = "lenient::list")]
    pub candidates: Vec<ControlIpCandidate>,
}

/// One address at which control may be dialled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ControlIpCandidate {
    /// Address to dial.
    #[serde(
        rename = "IP",
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub ip: Option<IpAddr>,
    /// HTTP CONNECT proxy to dial instead; not spoken here.
    #[serde(
        rename = "ACEHost",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub ace_host: String,
    /// Delay before this candidate is tried.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub dial_start_delay_sec: f64,
    /// Time after which it is given up.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub dial_timeout_sec: f64,
    /// Higher wins.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub priority: i64,
}

/// What control knows about client versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ClientVersion {
    /// Nothing newer exists.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub running_latest: bool,
    /// The newest version.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub latest_version: String,
    /// Security needs it.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub urgent_security_update: bool,
}

/// A message to show to the person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DisplayMessage {
    /// Headline.
    #[serde(deserialize_with = "lenient::or_default")]
    pub title: String,
    /// Text.
    #[serde(deserialize_with = "lenient::or_default")]
    pub text: String,
    /// `high`, `medium`, `low`, or a word yet to come.
    #[serde(deserialize_with = "lenient::or_default")]
    pub severity: String,
    /// The network does not work.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub impacts_connectivity: bool,
}

fn present_time<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Option<OffsetDateTime>>, D::Error> {
    #[derive(Deserialize)]
    struct Time(#[serde(with = "lenient::time")] Option<OffsetDateTime>);

    Ok(Option::<Time>::deserialize(d)?.map(|Time(time)| time))
}

fn write_present_time<S: serde::Serializer>(time: &Option<Option<OffsetDateTime>>, s: S) -> Result<S::Ok, S::Error> {
    lenient::time::serialize(&time.flatten(), s)
}
