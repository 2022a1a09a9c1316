//! The JSON that client and server exchange, sealed, when a DERP connection opens.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use crate::{
    key::{NodePrivate, NodePublic},
    nacl::{self, NONCE_LEN, NaclBox},
};

/// The DERP protocol version that this node speaks.
pub const PROTOCOL_VERSION: u32 = 2;

/// Why the other side's information could not be read.
#[derive(Debug, thiserror::Error)]
pub enum InfoError {
    /// The sealed part does not open with the announced key.
    #[error(transparent)]
    Sealed(#[from] nacl::NotForUs),
    /// It opened, but is not the expected JSON.
    #[error("the DERP handshake carries invalid JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What a client says of itself. The case of the names on the wire is the one that servers expect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// [`PROTOCOL_VERSION`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub version: u32,
    /// Whether the client answers pings.
    #[serde(rename = "CanAckPings", default)]
    pub can_ack_pings: bool,
    /// Whether the client only measures.
    #[serde(rename = "IsProber", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_prober: bool,
}

impl Default for ClientInfo {
    fn default() -> Self {
        Self {
            version: PROTOCOL_VERSION,
            can_ack_pings: true,
            is_prober: false,
        }
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// The server's protocol version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub version: u32,
    /// How many bytes per second a client may send; 0 is no limit.
    #[serde(rename = "TokenBucketBytesPerSecond", default, skip_serializing_if = "is_zero_u64")]
    pub token_bucket_bytes_per_second: u64,
    /// How many bytes a client may send at once; 0 is no limit.
    #[serde(rename = "TokenBucketBytesBurst", default, skip_serializing_if = "is_zero_u64")]
    pub token_bucket_bytes_burst: u64,
}

impl ClientInfo {
    /// Seals it from a client to a server; `nonce` must be fresh random bytes.
    pub fn seal(&self, client: &NodePrivate, server: &NodePublic, nonce: &[u8; NONCE_LEN]) -> BytesMut {
        seal(self, &NaclBox::for_node(client, server), nonce)
    }

    /// Opens what a client sent: the server's side.
    ///
    /// # Errors
    /// [`InfoError`]; the connection is then to be closed.
    pub fn open(sealed: &[u8], server: &NodePrivate, client: &NodePublic) -> Result<Self, InfoError> {
        let plain = NaclBox::for_node(server, client).open(sealed)?;
        Ok(serde_json::from_slice(&plain)?)
    }
}

impl ServerInfo {
    /// Seals it from a server to a client; `nonce` must be fresh random bytes.
    pub fn seal(&self, server: &NodePrivate, client: &NodePublic, nonce: &[u8; NONCE_LEN]) -> BytesMut {
        seal(self, &NaclBox::for_node(server, client), nonce)
    }

    /// Opens what a server sent: the client's side.
    ///
    /// # Errors
    /// [`InfoError`]; the connection is then to be closed.
    pub fn open(sealed: &[u8], client: &NodePrivate, server: &NodePublic) -> Result<Self, InfoError> {
        let plain = NaclBox::for_node(client, server).open(sealed)?;
        Ok(serde_json::from_slice(&plain)?)
    }
}

fn seal(info: &impl Serialize, shared: &NaclBox, nonce: &[u8; NONCE_LEN]) -> BytesMut {
    // Plain structs of numbers and flags always serialise.
    let json = serde_json::to_vec(info).unwrap_or_default();
    let mut sealed = Vec::new();
    shared.seal_into(nonce, &json, &mut sealed);
    BytesMut::from(&sealed[..])
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}
