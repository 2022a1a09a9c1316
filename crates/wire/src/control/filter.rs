//! The packet filter and the capability grants, as control words them (Go: `tailcfg.FilterRule`).
//!
//! Addresses stay texts here: their forms (address, CIDR, range, `*`, `cap:…`) are the engine's business, which drops
//! an unreadable one alone. A whole rule of the wrong shape is dropped by the list that holds it; no field of a rule
//! is guessed, since an empty `IPProto`, for one, would permit more than the rule did.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{CapMap, lenient};

/// Permits packets, grants capabilities, or both.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FilterRule {
    /// Address, CIDR, `a-b`, `*` or `cap:<node capability>`.
    #[serde(rename = "SrcIPs", deserialize_with = "lenient::list")]
    pub src_ips: Vec<String>,
    /// Legacy prefix lengths that go with `src_ips` by position.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "Vec::is_empty")]
    pub src_bits: Vec<i64>,
    /// Where packets may go; empty permits none.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub dst_ports: Vec<NetPortRange>,
    /// IP protocol numbers; empty = TCP, UDP, ICMPv4, ICMPv6. Out of range numbers match nothing.
    #[serde(
        rename = "IPProto",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ip_proto: Vec<i64>,
    /// Capabilities that the sources have at some destinations.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub cap_grant: Vec<CapGrant>,
}

/// Destination addresses and ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetPortRange {
    /// Address, CIDR, `a-b` or `*`.
    #[serde(rename = "IP")]
    pub ip: String,
    /// Legacy prefix length for `ip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits: Option<i64>,
    /// The ports.
    pub ports: PortRange,
}

/// Ports from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortRange {
    /// Lowest port.
    pub first: u16,
    /// Highest port.
    pub last: u16,
}

impl PortRange {
    /// Every port.
    pub const ANY: Self = Self {
        first: 0,
        last: u16::MAX,
    };
}

/// Capabilities at some destinations.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CapGrant {
    /// Addresses of the nodes at which the capabilities count.
    #[serde(deserialize_with = "lenient::texts")]
    pub dsts: Vec<IpNet>,
    /// Capabilities without values.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<String>,
    /// Capabilities with values.
    #[serde(deserialize_with = "lenient::map", skip_serializing_if = "CapMap::is_empty")]
    pub cap_map: CapMap,
}
