//! The JSON that control and a node exchange (Go: `tailcfg`).
//!
//! One Rust struct per Go struct, with its name; fields are the Go fields in snake case. Everything is read leniently,
//! as a Go program would read it or more so: `null` where a list is expected, zero times, zero keys, unknown fields
//! and unknown words never fail a message. A list entry that cannot be read is dropped when that only takes something
//! away (an endpoint, a rule that would permit something); see [`lenient`] for the exact rules.
//!
//! The same types are written by the control server of the test tailnet, so both directions are covered.

mod derpmap;
mod dns;
mod filter;
mod hostinfo;
pub mod lenient;
mod map;
mod node;
mod register;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::{
    derpmap::{DerpHomeParams, DerpMap, DerpNode, DerpRegion},
    dns::{DnsConfig, DnsRecord, Resolver},
    filter::{CapGrant, FilterRule, NetPortRange, PortRange},
    hostinfo::{Hostinfo, Location, NetInfo, Service},
    map::{
        ClientVersion, ControlDialPlan, ControlIpCandidate, DebugSettings, DisplayMessage, MapRequest, MapResponse,
        PeerChange, PingRequest, PingResponse, Rules, TkaInfo, endpoint_type,
    },
    node::{Node, UserProfile},
    register::{EarlyNoise, Login, RegisterRequest, RegisterResponse, RegisterResponseAuth, ServerKeys, User},
};

/// The capability version that this node claims in the Noise prologue and in every request.
///
/// 119 is the last version before peer-relay messages and seamless key renewal, which are not spoken here. Headscale
/// 0.29 refuses anything below 113.
pub const CAPABILITY_VERSION: u16 = 119;

/// Values under a capability name, in the order control sent them. `null` and `[]` both mean "granted, no values".
pub type CapMap = BTreeMap<String, Option<Vec<Box<RawValue>>>>;

/// A node as the tailnet numbers it. May exceed 2^53, so never a JSON float.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub i64);

/// A user as the tailnet numbers it; every tagged node shares one pseudo-user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for UserId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// For `skip_serializing_if`: Go's `omitzero`.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
