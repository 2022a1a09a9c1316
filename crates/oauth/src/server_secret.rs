//! The secret of the server itself: 256 bits that never leave it, and what is derived from them for one purpose each.
//!
//! It is drawn once and kept in the store, so that what it sealed can be opened after a restart. Whoever knew it could
//! make consent pages' tickets and name the handles of grants, so nothing but a derived value is ever used.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _, digest::KeyInit};
use rand_core::RngCore;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::grant::{CodeId, GrantId};

/// 256 random bits. Wiped from memory when dropped.
pub struct ServerSecret(Zeroizing<[u8; 32]>);

impl ServerSecret {
    /// Draws one from `rng`.
    pub fn draw(rng: &mut dyn RngCore) -> Self {
        let mut raw = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *raw);
        Self(raw)
    }

    /// Reads what [`to_text`](Self::to_text) wrote; `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let raw = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        Some(Self(Zeroizing::new(raw.as_slice().try_into().ok()?)))
    }

    /// The secret as it is stored.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.0))
    }

    /// The handle of the grant that comes of a code. Refresh tokens carry it, so that it must not follow from the code:
    /// whoever knows a handle could end the grant with a refresh token of his own making.
    pub(crate) fn handle(&self, code: &CodeId) -> [u8; 16] {
        let derived = self.derive("countersign handle of a grant", code.to_text().as_bytes());
        let mut handle = [0; 16];
        handle.copy_from_slice(&derived[..16]);
        handle
    }

    /// The name of the grant that comes of a code.
    pub fn grant_of(&self, code: &CodeId) -> GrantId {
        GrantId::of(code.tag(), &self.handle(code))
    }

    /// The key that seals [tickets](crate::ticket).
    pub(crate) fn ticket_key(&self) -> Zeroizing<[u8; 32]> {
        self.derive("countersign key of tickets", b"")
    }

    /// HMAC-SHA256 (RFC 2104) of the label, a zero and `about`. No label holds a zero.
    fn derive(&self, label: &str, about: &[u8]) -> Zeroizing<[u8; 32]> {
        // A key shorter than the block is padded with zeros anyway; of the block's length it cannot be refused.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&*self.0);
        let mac = <Hmac<Sha256> as KeyInit>::new((&*block).into())
            .chain_update(label)
            .chain_update([0])
            .chain_update(about);
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSecret(…)")
    }
}

#[cfg(test)]
mod tests;
