//! The ticket of a consent page: the request that waits for the user's word, sealed, in the page itself.
//!
//! Nothing of a page is stored. What the server must know at the click is in the form, encrypted and authenticated
//! (XChaCha20-Poly1305) under a key that only this server can derive, so nobody else can read, change or make one. That a
//! ticket was answered shows by its name: the code that answers it has the same one
//! (`docs/adr/0038-sealed-tickets.md`).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{AeadInPlace as _, KeyInit as _, XChaCha20Poly1305};
use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::{
    authorize::Request,
    caller::{Caller, Owner},
    grant::CodeId,
    secret::SecretHash,
    server_secret::ServerSecret,
};

/// How long a consent page may be looked at.
pub const TICKET_LIFETIME: Duration = Duration::minutes(10);
/// The longest sealed ticket, in characters: half of what the body of a form may have.
pub const MAX_LEN: usize = 32 << 10;

/// What is authenticated beside the ticket: another form of it would say otherwise.
const FORM: &[u8] = b"countersign ticket 1";
const NONCE: usize = 24;
const TAG: usize = 16;

/// A request that waits for the user's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The name of the code that is to answer it.
    pub code: CodeId,
    /// Hash of the cookie that was set with the page.
    pub cookie: SecretHash,
    /// Stable id of the node that asked.
    pub node_id: String,
    /// Whose node it was then.
    pub owner: Owner,
    /// What was asked.
    pub request: Request,
    /// When the page is too old.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
}

/// Why a request cannot be put to the user.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Its ticket would be longer than [`MAX_LEN`].
    #[error("the request is too long to be put to the user: shorten state, scope or resource")]
    TooLong,
    /// It has no JSON form.
    #[error("a ticket cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

impl Ticket {
    /// The ticket for the page that asks `caller` about `request`.
    pub fn issue(
        request: Request,
        cookie: SecretHash,
        caller: &Caller,
        now: OffsetDateTime,
        rng: &mut dyn RngCore,
    ) -> Self {
        Self {
            code: CodeId::draw(&caller.node_id, rng),
            cookie,
            node_id: caller.node_id.clone(),
            owner: caller.owner(),
            request,
            expires_at: now + TICKET_LIFETIME,
        }
    }

    /// Whether it was made for a page of `caller`'s.
    pub fn is_of(&self, caller: &Caller) -> bool {
        self.node_id == caller.node_id && self.owner == caller.owner()
    }

    /// The text for the form.
    ///
    /// # Errors
    /// [`SealError::TooLong`] for a request that is too long to be asked about.
    pub fn seal(&self, secret: &ServerSecret, rng: &mut dyn RngCore) -> Result<String, SealError> {
        let mut sealed = vec![0; NONCE];
        rng.fill_bytes(&mut sealed);
        serde_json::to_writer(&mut sealed, self)?;
        let (nonce, body) = sealed.split_at_mut(NONCE);
        let tag = cipher(secret)
            .encrypt_in_place_detached((&*nonce).into(), FORM, body)
            .map_err(|_| SealError::TooLong)?;
        sealed.extend_from_slice(&tag);
        let text = URL_SAFE_NO_PAD.encode(sealed);
        if text.len() > MAX_LEN {
            return Err(SealError::TooLong);
        }
        Ok(text)
    }

    /// The ticket in an answer; `None` for every text that this server did not seal.
    pub fn open(text: &str, secret: &ServerSecret) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let mut sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, rest) = sealed.split_first_chunk_mut::<NONCE>()?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG>()?;
        cipher(secret)
            .decrypt_in_place_detached((&*nonce).into(), FORM, body, (&*tag).into())
            .ok()?;
        serde_json::from_slice(body).ok()
    }
}

fn cipher(secret: &ServerSecret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&*secret.ticket_key()).into())
}

#[cfg(test)]
mod tests;
