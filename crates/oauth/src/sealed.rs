//! What a page of ours holds for the server: sealed, so that nothing of the page is stored.
//!
//! What the server must know at the click is in the form, encrypted and authenticated (XChaCha20-Poly1305) under a key
//! that only this server can derive, so nobody else can read, change or make one (`docs/adr/0038-sealed-tickets.md`).
//! There is exactly one text for what was sealed once: whoever changes a bit of it has none.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{AeadInPlace as _, KeyInit as _, XChaCha20Poly1305};
use rand_core::RngCore;
use serde::{Serialize, de::DeserializeOwned};

use crate::server_secret::ServerSecret;

/// The longest sealed text, in characters: half of what the body of a form may have.
pub const MAX_LEN: usize = 32 << 10;

pub(crate) const NONCE: usize = 24;
const TAG: usize = 16;

/// Why something cannot be put into a page.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Its text would be longer than [`MAX_LEN`].
    #[error("the request is too long to be put to the user: shorten state, scope or resource")]
    TooLong,
    /// It has no JSON form.
    #[error("a form cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// The text for the page. `kind` is authenticated beside it: what was sealed as one thing cannot be opened as another.
///
/// # Errors
/// [`SealError::TooLong`] for what is too long for a page.
pub(crate) fn seal(
    kind: &[u8],
    what: &impl Serialize,
    secret: &ServerSecret,
    rng: &mut dyn RngCore,
) -> Result<String, SealError> {
    let mut sealed = vec![0; NONCE];
    rng.fill_bytes(&mut sealed);
    serde_json::to_writer(&mut sealed, what)?;
    let (nonce, body) = sealed.split_at_mut(NONCE);
    let tag = cipher(secret)
        .encrypt_in_place_detached((&*nonce).into(), kind, body)
        .map_err(|_| SealError::TooLong)?;
    sealed.extend_from_slice(&tag);
    let text = URL_SAFE_NO_PAD.encode(sealed);
    if text.len() > MAX_LEN {
        return Err(SealError::TooLong);
    }
    Ok(text)
}

/// What an answer holds; `None` for every text that this server did not seal as this kind.
pub(crate) fn open<T: DeserializeOwned>(kind: &[u8], text: &str, secret: &ServerSecret) -> Option<T> {
    if text.len() > MAX_LEN {
        return None;
    }
    let mut sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (nonce, rest) = sealed.split_first_chunk_mut::<NONCE>()?;
    let (body, tag) = rest.split_last_chunk_mut::<TAG>()?;
    cipher(secret)
        .decrypt_in_place_detached((&*nonce).into(), kind, body, (&*tag).into())
        .ok()?;
    serde_json::from_slice(body).ok()
}

fn cipher(secret: &ServerSecret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&*secret.ticket_key()).into())
}
