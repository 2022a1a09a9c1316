//! Forms of ours besides the consent page: what ties an answer to the page, browser, node and user it was shown to.
//!
//! A form stands in its page, [sealed], and nowhere else. That it was answered is kept for as long as it could be
//! answered again (`docs/adr/0047-forms-without-records.md`).

use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::{
    caller::Caller,
    logout::Logout,
    sealed::{self, SealError},
    secret::{Secret, SecretHash},
    server_secret::ServerSecret,
    subject::Subject,
};

/// How long a form may be looked at.
pub const FORM_LIFETIME: Duration = Duration::minutes(10);

/// What is authenticated beside the form: another shape of it would say otherwise.
const KIND: &[u8] = b"countersign form 1";

/// A form that waits for its answer. It is answered once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// Hash of the cookie that was set with the page.
    pub cookie: SecretHash,
    /// To whom it was shown.
    pub subject: Subject,
    /// What it is for: one form cannot be answered as another.
    pub purpose: Purpose,
    /// When it is too old.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
}

/// What a form is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Taking something back on `/me`.
    Me,
    /// Ending the session of this browser.
    Logout(Logout),
}

/// A form that is about to be shown.
#[derive(Debug)]
pub struct Shown {
    /// Goes into the page: the form, sealed.
    pub ticket: String,
    /// Goes into the cookie.
    pub cookie: Secret,
}

/// A form that was answered, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentForm {
    /// Hash of its ticket.
    pub hash: SecretHash,
    /// When the form itself says that it is over.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
}

/// Why an answer counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// No such ticket, too old, or answered before.
    #[error("this page is older than ten minutes or was answered already; open it again")]
    TooOld,
    /// Another browser, node, user or page than it was shown to.
    #[error("this answer does not come from the page that was shown to you; open it again")]
    NotThePage,
}

impl Form {
    /// A form for `caller`.
    ///
    /// # Errors
    /// [`SealError`] when the purpose is too long for a page.
    pub fn show(
        purpose: Purpose,
        caller: &Caller,
        now: OffsetDateTime,
        secret: &ServerSecret,
        rng: &mut dyn RngCore,
    ) -> Result<Shown, SealError> {
        let cookie = Secret::draw(rng);
        let form = Self {
            cookie: cookie.hash(),
            subject: Subject::of(caller),
            purpose,
            expires_at: now + FORM_LIFETIME,
        };
        let ticket = sealed::seal(KIND, &form, secret, rng)?;
        Ok(Shown { ticket, cookie })
    }

    /// The form in an answer; `None` for every text that this server did not seal.
    pub fn open(ticket: &str, secret: &ServerSecret) -> Option<Self> {
        sealed::open(KIND, ticket, secret)
    }

    /// The form of an answer, if that is `caller`'s to give in this browser; `spent` says whether it was answered before.
    ///
    /// # Errors
    /// [`FormError`], which says what to do.
    pub fn admit(
        form: Option<Self>,
        spent: bool,
        cookie: Option<&str>,
        caller: &Caller,
        now: OffsetDateTime,
    ) -> Result<Self, FormError> {
        let form = form
            .filter(|form| !spent && now < form.expires_at)
            .ok_or(FormError::TooOld)?;
        let same_browser = cookie.is_some_and(|cookie| form.cookie.verify(cookie));
        if same_browser && form.subject.still_is(caller) {
            Ok(form)
        } else {
            Err(FormError::NotThePage)
        }
    }
}

#[cfg(test)]
mod tests;
