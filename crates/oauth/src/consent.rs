//! The user's word: from a spent ticket to an authorization code.
//!
//! Whether the click came from our own page is checked by the server before this is asked.

use rand_core::RngCore;
use time::OffsetDateTime;

use crate::{
    access::allowed_scopes,
    authorize::{Answer, PageError, Rules, Ticket, may_use},
    caller::Caller,
    client::Client,
    error::{ErrorCode, OAuthError},
    grant::{Authorization, CODE_LIFETIME, Code},
    secret::Secret,
    subject::Subject,
};

/// What the user clicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// "Continue as …".
    Allow,
    /// "Cancel".
    Deny,
}

/// What comes of a click.
#[derive(Debug)]
pub enum Outcome {
    /// A page; the ticket is left as it is.
    Page(ConsentError),
    /// The ticket is spent and the browser is sent back to the client.
    Answered {
        /// Where it is sent.
        answer: Answer,
        /// The code that is stored, when the user allowed and policy still does.
        code: Option<Box<Code>>,
    },
}

/// Why a click counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// No such ticket, or too old.
    #[error("this page is older than ten minutes or was answered already; go back to the application and start again")]
    TooOld,
    /// Another browser or node than the page was shown to.
    #[error(
        "this answer does not come from the page that was shown to you; go back to the application and start again"
    )]
    NotThePage,
    /// What was true when the page was shown is true no longer.
    #[error(transparent)]
    Page(#[from] PageError),
}

/// A click with everything that is known about it.
#[derive(Debug, Clone, Copy)]
pub struct Click<'a> {
    /// What was clicked.
    pub choice: Choice,
    /// What the store has under the ticket in the form.
    pub ticket: Option<&'a Ticket>,
    /// What the browser sent as the page's cookie.
    pub cookie: Option<&'a str>,
    /// The ticket's client.
    pub client: Option<&'a Client>,
    /// The node on this connection.
    pub caller: &'a Caller,
    /// What the netmap says about the node that registered the client.
    pub registrant: Option<&'a Caller>,
}

/// Decides what a click gives.
pub fn decide(click: &Click<'_>, rules: &Rules, now: OffsetDateTime, rng: &mut dyn RngCore) -> Outcome {
    let Click {
        choice,
        ticket,
        cookie,
        client,
        caller,
        registrant,
    } = *click;
    let Some(ticket) = ticket.filter(|ticket| now < ticket.expires_at) else {
        return Outcome::Page(ConsentError::TooOld);
    };
    if ticket.node_id != caller.node_id || !cookie.is_some_and(|cookie| ticket.cookie.verify(cookie)) {
        return Outcome::Page(ConsentError::NotThePage);
    }
    let Some(client) = client else {
        return Outcome::Page(PageError::UnknownClient.into());
    };
    if let Err(error) = may_use(client, caller, registrant, rules, now) {
        return Outcome::Page(error.into());
    }
    let request = &ticket.request;
    let refused = |error| Outcome::Answered {
        answer: request.refuse(&rules.issuer, error),
        code: None,
    };
    if choice == Choice::Deny {
        return refused(OAuthError::new(ErrorCode::AccessDenied, "the user declined"));
    }
    let scopes = match allowed_scopes(&request.scopes, &request.resources, &client.id, caller, rules, now) {
        Ok(scopes) => scopes,
        Err(error) => return refused(error),
    };
    let secret = Secret::draw(rng);
    let code = Code {
        hash: secret.hash(),
        authorization: Authorization {
            client: client.id.clone(),
            subject: Subject::of(caller),
            scopes,
            resources: request.resources.clone(),
            nonce: request.nonce.clone(),
            auth_time: now,
        },
        redirect_uri: request.redirect_uri.clone(),
        challenge: request.challenge.clone(),
        expires_at: now + CODE_LIFETIME,
        spent: false,
        grant: None,
    };
    Outcome::Answered {
        answer: request.accept(&rules.issuer, &secret),
        code: Some(Box::new(code)),
    }
}

#[cfg(test)]
mod tests;
