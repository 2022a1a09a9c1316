//! Where the DERP relays are (Go: `tailcfg/derpmap.go`).

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{is_zero, lenient};

/// All relay regions of a tailnet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DerpMap {
    /// Weights for the choice of a home region; absent in a delta = unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_params: Option<DerpHomeParams>,
    /// Regions by number. Empty in a delta = unchanged; `null` regions are dropped, as Go does.
    #[serde(deserialize_with = "lenient::map")]
    pub regions: BTreeMap<u32, Arc<DerpRegion>>,
    /// Whether Tailscale's own relays must not be added. Of no use here, as nothing is built in.
    #[serde(rename = "omitDefaultRegions", skip_serializing_if = "is_zero")]
    pub omit_default_regions: bool,
}

/// How control wants a home region to be chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DerpHomeParams {
    /// Factor by which a region's latency is multiplied; 0 and absent = 1. Absent as a whole in a delta = unchanged.
    #[serde(deserialize_with = "lenient::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub region_score: BTreeMap<u32, f64>,
}

/// Relays that are close to each other and meshed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DerpRegion {
    /// The region's number, never 0.
    #[serde(rename = "RegionID", deserialize_with = "lenient::or_default")]
    pub region_id: u32,
    /// Short name, such as `fra`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub region_code: String,
    /// Long name, such as `Frankfurt`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub region_name: String,
    /// Degrees north.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "lenient::or_default")]
    pub latitude: f64,
    /// Degrees east.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "lenient::or_default")]
    pub longitude: f64,
    /// Do not choose it as home, and do not measure it, unless it is home already.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "lenient::or_default")]
    pub avoid: bool,
    /// Neither measure it nor choose it as home (capability version 115).
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "lenient::or_default")]
    pub no_measure_no_home: bool,
    /// The relays, in order of preference.
    #[serde(deserialize_with = "lenient::list")]
    pub nodes: Vec<DerpNode>,
}

/// One relay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DerpNode {
    /// Name that is unique in the DERP map.
    #[serde(deserialize_with = "lenient::or_default")]
    pub name: String,
    /// The region it belongs to.
    #[serde(rename = "RegionID", deserialize_with = "lenient::or_default")]
    pub region_id: u32,
    /// DNS name, also the SNI; need not resolve when addresses are given.
    #[serde(deserialize_with = "lenient::or_default")]
    pub host_name: String,
    /// Name to verify the certificate against instead, or `sha256-raw:<hex>` to pin the leaf.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "lenient::or_default")]
    pub cert_name: String,
    /// `""` = ask DNS, an address = use it, any other word = this family is off.
    #[serde(
        rename = "IPv4",
        skip_serializing_if = "is_zero",
        deserialize_with = "lenient::or_default"
    )]
    pub ipv4: String,
    /// As [`ipv4`](Self::ipv4).
    #[serde(
        rename = "IPv6",
        skip_serializing_if = "is_zero",
        deserialize_with = "lenient::or_default"
    )]
    pub ipv6: String,
    /// 0 = 3478, -1 = no STUN here.
    #[serde(
        rename = "STUNPort",
        skip_serializing_if = "is_zero",
        deserialize_with = "lenient::or_default"
    )]
    pub stun_port: i32,
    /// Answers STUN only; not to be dialled for DERP.
    #[serde(
        rename = "STUNOnly",
        skip_serializing_if = "is_zero",
        deserialize_with = "lenient::or_default"
    )]
    pub stun_only: bool,
    /// 0 = 443.
    #[serde(
        rename = "DERPPort",
        skip_serializing_if = "is_zero",
        deserialize_with = "lenient::or_default"
    )]
    pub derp_port: u16,
    /// Do not verify the certificate. For tests.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "lenient::or_default")]
    pub insecure_for_tests: bool,
    /// Address to send STUN to instead. For tests.
    #[serde(
        rename = "STUNTestIP",
        skip_serializing_if = "is_zero",
        deserialize_with = "lenient::or_default"
    )]
    pub stun_test_ip: String,
    /// Whether port 80 answers captive-portal checks.
    #[serde(
        rename = "CanPort80",
        skip_serializing_if = "is_zero",
        deserialize_with = "lenient::or_default"
    )]
    pub can_port_80: bool,
}
