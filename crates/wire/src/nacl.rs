//! The NaCl box by which two Curve25519 keys speak (X25519, HSalsa20, XSalsa20-Poly1305).
//!
//! Disco messages (disco keys) and the DERP handshake (node keys) travel in the same sealed form: a 24-byte nonce, then
//! the box. A [`NaclBox`] holds the shared key of one pair, so the Diffie-Hellman is paid once per peer. Nonce bytes
//! are an argument and must never repeat for one pair.

use std::fmt;

use crypto_box::{
    PublicKey, SalsaBox, SecretKey, Tag,
    aead::{AeadInPlace, generic_array::GenericArray},
};

use crate::key::{DiscoPrivate, DiscoPublic, NodePrivate, NodePublic};

/// Length of the nonce that opens a sealed message.
pub const NONCE_LEN: usize = 24;
/// By how much a sealed message is longer than what it holds: nonce and Poly1305 tag.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

const TAG_LEN: usize = 16;

/// The sealed bytes are too short, forged, or meant for another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed message does not open with this pair of keys: it is damaged, forged or meant for another key")]
pub struct NotForUs;

/// The shared key of one pair of keys, ready to seal and open in both directions.
///
/// The key is zeroized on drop and never shown.
pub struct NaclBox(SalsaBox);

impl NaclBox {
    /// The box between our disco key and a peer's.
    pub fn for_disco(ours: &DiscoPrivate, theirs: &DiscoPublic) -> Self {
        Self::new(ours.to_x25519().to_bytes(), *theirs.as_bytes())
    }

    /// The box between our node key and another node's, or a DERP server's.
    pub fn for_node(ours: &NodePrivate, theirs: &NodePublic) -> Self {
        Self::new(ours.to_x25519().to_bytes(), *theirs.as_bytes())
    }

    fn new(ours: [u8; 32], theirs: [u8; 32]) -> Self {
        let ours = zeroize::Zeroizing::new(ours);
        Self(SalsaBox::new(&PublicKey::from(theirs), &SecretKey::from(*ours)))
    }

    /// Appends `nonce ‖ box(plain)` to `out`.
    pub fn seal_into(&self, nonce: &[u8; NONCE_LEN], plain: &[u8], out: &mut Vec<u8>) {
        out.reserve(OVERHEAD + plain.len());
        out.extend_from_slice(nonce);
        let tag_at = out.len();
        out.extend_from_slice(&[0; TAG_LEN]);
        out.extend_from_slice(plain);
        let (tag, body) = out[tag_at..].split_at_mut(TAG_LEN);
        // The cipher's only error is associated data, of which there is none; the zero tag would then never open.
        if let Ok(sealed) = self
            .0
            .encrypt_in_place_detached(GenericArray::from_slice(nonce), b"", body)
        {
            tag.copy_from_slice(&sealed);
        }
    }

    /// Opens `nonce ‖ box`.
    ///
    /// # Errors
    /// [`NotForUs`] when the bytes are short or do not authenticate.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, NotForUs> {
        let (nonce, boxed) = sealed.split_at_checked(NONCE_LEN).ok_or(NotForUs)?;
        let (tag, body) = boxed.split_at_checked(TAG_LEN).ok_or(NotForUs)?;
        let mut plain = body.to_vec();
        self.0
            .decrypt_in_place_detached(GenericArray::from_slice(nonce), b"", &mut plain, Tag::from_slice(tag))
            .map_err(|_| NotForUs)?;
        Ok(plain)
    }
}

impl fmt::Debug for NaclBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NaclBox(..)")
    }
}

#[cfg(test)]
mod tests;
