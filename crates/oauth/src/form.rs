//! Forms of ours besides the consent page: what ties an answer to the page, browser, node and user it was shown to.

use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::{
    caller::Caller,
    logout::Logout,
    secret::{Secret, SecretHash},
    subject::Subject,
};

/// How long a form may be looked at.
pub const FORM_LIFETIME: Duration = Duration::minutes(10);

/// A form that waits for its answer, stored under the hash of the ticket in it. It is answered once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// Hash of the ticket.
    pub hash: SecretHash,
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
    /// What is stored.
    pub form: Form,
    /// Goes into the page.
    pub ticket: Secret,
    /// Goes into the cookie.
    pub cookie: Secret,
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
    pub fn show(purpose: Purpose, caller: &Caller, now: OffsetDateTime, rng: &mut dyn RngCore) -> Shown {
        let (ticket, cookie) = (Secret::draw(rng), Secret::draw(rng));
        let form = Self {
            hash: ticket.hash(),
            cookie: cookie.hash(),
            subject: Subject::of(caller),
            purpose,
            expires_at: now + FORM_LIFETIME,
        };
        Shown { form, ticket, cookie }
    }

    /// What the store has under the ticket of an answer, if that answer is `caller`'s to give in this browser.
    ///
    /// # Errors
    /// [`FormError`], which says what to do.
    pub fn admit<'a>(
        form: Option<&'a Self>,
        cookie: Option<&str>,
        caller: &Caller,
        now: OffsetDateTime,
    ) -> Result<&'a Self, FormError> {
        let form = form.filter(|form| now < form.expires_at).ok_or(FormError::TooOld)?;
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
