//! What a node says about itself (Go: `tailcfg.Hostinfo`, `tailcfg.NetInfo`).

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{is_zero, lenient};

/// The host a node runs on and what it asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Hostinfo {
    /// Client version.
    #[serde(
        rename = "IPNVersion",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub ipn_version: String,
    /// Log identity, 64 hex digits; servers do not need it.
    #[serde(
        rename = "BackendLogID",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub backend_log_id: String,
    /// `linux`, `macOS`, …
    #[serde(
        rename = "OS",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub os: String,
    /// Kernel or system version.
    #[serde(
        rename = "OSVersion",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub os_version: String,
    /// Runs in a container.
    #[serde(with = "lenient::opt_bool", skip_serializing_if = "Option::is_none")]
    pub container: Option<bool>,
    /// Distribution, such as `debian`.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub distro: String,
    /// Version of the distribution.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub distro_version: String,
    /// The application that embeds the node.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub app: String,
    /// Packaging, such as `tsnet`.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub package: String,
    /// Host name asked for; control may assign another.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub hostname: String,
    /// Refuses connections from other nodes.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub shields_up: bool,
    /// The node is shared in from another tailnet (set by control).
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub sharee_node: bool,
    /// Uploads no logs.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub no_logs_no_support: bool,
    /// Machine word of `uname`, such as `x86_64`.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub machine: String,
    /// Go's name of the architecture, such as `amd64`.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub go_arch: String,
    /// Routes that the node offers.
    #[serde(
        rename = "RoutableIPs",
        deserialize_with = "lenient::texts",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub routable_ips: Vec<IpNet>,
    /// Tags asked for.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub request_tags: Vec<String>,
    /// Services, peerAPI among them.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Network conditions; in requests, absent = unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net_info: Option<NetInfo>,
    /// Cloud provider.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub cloud: String,
    /// Runs without a TUN device.
    #[serde(with = "lenient::opt_bool", skip_serializing_if = "Option::is_none")]
    pub userspace: Option<bool>,
    /// Routes in userspace.
    #[serde(with = "lenient::opt_bool", skip_serializing_if = "Option::is_none")]
    pub userspace_router: Option<bool>,
    /// Where the host is (exit nodes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// A service that a node offers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Service {
    /// `tcp`, `udp`, `peerapi4`, `peerapi6`, …
    #[serde(deserialize_with = "lenient::or_default")]
    pub proto: String,
    /// Port.
    #[serde(deserialize_with = "lenient::or_default")]
    pub port: u16,
    /// Process name or the like.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub description: String,
}

/// Geographical location.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Location {
    /// Country name.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub country: String,
    /// ISO 3166-1 alpha-2.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub country_code: String,
    /// City name.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub city: String,
    /// City code.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub city_code: String,
}

/// What a network check found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetInfo {
    /// The NAT gives each destination another mapping ("hard NAT").
    #[serde(
        rename = "MappingVariesByDestIP",
        with = "lenient::opt_bool",
        skip_serializing_if = "Option::is_none"
    )]
    pub mapping_varies_by_dest_ip: Option<bool>,
    /// IPv6 reaches the internet.
    #[serde(
        rename = "WorkingIPv6",
        with = "lenient::opt_bool",
        skip_serializing_if = "Option::is_none"
    )]
    pub working_ipv6: Option<bool>,
    /// The system has IPv6 at all.
    #[serde(
        rename = "OSHasIPv6",
        with = "lenient::opt_bool",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_has_ipv6: Option<bool>,
    /// UDP reaches the internet.
    #[serde(
        rename = "WorkingUDP",
        with = "lenient::opt_bool",
        skip_serializing_if = "Option::is_none"
    )]
    pub working_udp: Option<bool>,
    /// ICMPv4 reaches the internet.
    #[serde(
        rename = "WorkingICMPv4",
        with = "lenient::opt_bool",
        skip_serializing_if = "Option::is_none"
    )]
    pub working_icmpv4: Option<bool>,
    /// A port mapping exists.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub have_port_map: bool,
    /// UPnP was seen.
    #[serde(rename = "UPnP", with = "lenient::opt_bool", skip_serializing_if = "Option::is_none")]
    pub upnp: Option<bool>,
    /// NAT-PMP was seen.
    #[serde(rename = "PMP", with = "lenient::opt_bool", skip_serializing_if = "Option::is_none")]
    pub pmp: Option<bool>,
    /// PCP was seen.
    #[serde(rename = "PCP", with = "lenient::opt_bool", skip_serializing_if = "Option::is_none")]
    pub pcp: Option<bool>,
    /// The home region; 0 = none. Until control has it, no peer can reach the node.
    #[serde(
        rename = "PreferredDERP",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub preferred_derp: u32,
    /// `wired`, `wifi` or `mobile`.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub link_type: String,
    /// Seconds by `<region>-v4` or `<region>-v6`.
    #[serde(
        rename = "DERPLatency",
        deserialize_with = "lenient::map",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub derp_latency: BTreeMap<String, f64>,
    /// Firewall mechanism in use.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub firewall_mode: String,
}
