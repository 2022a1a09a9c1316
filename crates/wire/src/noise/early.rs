//! The early payload: JSON that the server may push before HTTP/2 begins (Go: `control/ts2021/conn.go`).

use bytes::{Buf, BytesMut};

use super::NoiseError;
use crate::control::EarlyNoise;

const MAGIC: &[u8; 5] = b"\xff\xff\xffTS";
/// Length of the magic and the length field, and of an HTTP/2 frame header, which it stands in for.
const HEADER_LEN: usize = MAGIC.len() + 4;
/// Go allows 10 MiB; what is sent has about 100 bytes.
const MAX_LEN: usize = 64 * 1024;

/// What the first decrypted bytes from the server are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Early {
    /// More bytes are needed to tell; nothing was taken.
    Incomplete,
    /// HTTP/2 begins at once; nothing was taken.
    Absent,
    /// A payload, taken off the buffer; HTTP/2 begins after it.
    Payload(EarlyNoise),
}

impl Early {
    /// Takes an early payload off `plaintext`, the bytes decrypted so far, if one is there.
    pub fn take(plaintext: &mut BytesMut) -> Result<Self, NoiseError> {
        let seen = plaintext.len().min(MAGIC.len());
        if plaintext[..seen] != MAGIC[..seen] {
            return Ok(Self::Absent);
        }
        let Some(header) = plaintext.first_chunk::<HEADER_LEN>() else {
            return Ok(Self::Incomplete);
        };
        let len = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize;
        if len > MAX_LEN {
            return Err(NoiseError::Early("it claims to be longer than 64 KiB"));
        }
        if plaintext.len() < HEADER_LEN + len {
            return Ok(Self::Incomplete);
        }
        plaintext.advance(HEADER_LEN);
        let json = plaintext.split_to(len);
        let payload = serde_json::from_slice(&json).map_err(|_| NoiseError::Early("it is not JSON"))?;
        Ok(Self::Payload(payload))
    }
}

/// Appends an early payload to `out`, as the server writes it in front of its HTTP/2 preface.
pub fn write_early(payload: &EarlyNoise, out: &mut BytesMut) {
    // The type holds one text; it always serialises.
    let json = serde_json::to_vec(payload).unwrap_or_default();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(json.len() as u32).to_be_bytes());
    out.extend_from_slice(&json);
}
