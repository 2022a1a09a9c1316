//! What control says about names (Go: `tailcfg.DNSConfig`).

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{is_zero, lenient};

/// The tailnet's DNS settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DnsConfig {
    /// Resolvers for everything else.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<Resolver>,
    /// Resolvers by name suffix; an empty list = answer from local records only.
    #[serde(deserialize_with = "lenient::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, Option<Vec<Resolver>>>,
    /// Used where the system's own resolvers are unknown.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub fallback_resolvers: Vec<Resolver>,
    /// Search list.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// MagicDNS is on.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub proxied: bool,
    /// Older form of [`resolvers`](Self::resolvers).
    #[serde(deserialize_with = "lenient::texts", skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<IpAddr>,
    /// Names for which control helps to obtain certificates; Headscale sends none.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub cert_domains: Vec<String>,
    /// Further names of the tailnet.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub extra_records: Vec<DnsRecord>,
    /// Suffixes that an exit node must not resolve for others.
    #[serde(deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub exit_node_filtered_set: Vec<String>,
}

/// One DNS resolver (Go: `types/dnstype.Resolver`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resolver {
    /// Address, `host:port`, or an `https://` URL for DNS over HTTPS.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub addr: String,
    /// Addresses by which the resolver's own name is found.
    #[serde(deserialize_with = "lenient::texts", skip_serializing_if = "Vec::is_empty")]
    pub bootstrap_resolution: Vec<IpAddr>,
    /// Stays in use with an exit node.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub use_with_exit_node: bool,
}

/// One extra name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DnsRecord {
    /// Fully qualified, a trailing dot is optional.
    #[serde(deserialize_with = "lenient::or_default")]
    pub name: String,
    /// `""` (A or AAAA, by the value), `A` or `AAAA`; others are to be ignored.
    #[serde(
        rename = "Type",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub record_type: String,
    /// An address in text form.
    #[serde(deserialize_with = "lenient::or_default")]
    pub value: String,
}
