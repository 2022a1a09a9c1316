//! The user's word: from a ticket to an authorization code, a session and perhaps a remembered consent.
//!
//! Whether the click came from our own page is checked by the server before this is asked. A click is a login unless the
//! browser has a session that serves the request: then the answer rests on that earlier click, and says so by its
//! `auth_time`.

use rand_core::RngCore;
use time::OffsetDateTime;

use crate::{
    access::allowed_scopes,
    authorize::{Answer, PageError, Request, Rules, is_registered, may_use},
    caller::Caller,
    client::Client,
    error::{ErrorCode, OAuthError},
    grant::Code,
    par::Pushed,
    prompt::Prompt,
    publish,
    remembered::{self, Remembered},
    secret::Secret,
    session::Session,
    ticket::Ticket,
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
    /// The user declined, or policy no longer allows it: the ticket is spent and the client is told.
    Refused {
        /// Carries the error.
        answer: Answer,
        /// Stored so that the ticket is spent.
        declined: Box<Code>,
    },
    /// The ticket is spent and the browser takes a code to the client.
    Allowed {
        /// Carries the code.
        answer: Answer,
        /// What is stored.
        records: Box<Records>,
    },
}

/// What a click leaves behind.
#[derive(Debug)]
pub struct Records {
    /// The code.
    pub code: Code,
    /// A new session and the secret for its cookie, when no earlier one served. It takes the place of the old one.
    pub session: Option<(Session, Secret)>,
    /// A consent that is remembered from now on.
    pub remembered: Option<Remembered>,
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
    /// Whether the user wants not to be asked this again.
    pub remember: bool,
    /// The ticket in the form, if this server sealed it.
    pub ticket: Option<&'a Ticket>,
    /// Whether the store has the code that answers the ticket, or the grant that came of that.
    pub answered: bool,
    /// What the browser sent as the page's cookie.
    pub cookie: Option<&'a str>,
    /// The session that the browser's other cookie names, if the Caller has such a one.
    pub session: Option<&'a Session>,
    /// What the store has of the ticket's request, if that was pushed.
    pub pushed: Option<&'a Pushed>,
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
        ticket, client, caller, ..
    } = *click;
    let Some(ticket) = ticket.filter(|ticket| now < ticket.expires_at && !click.answered) else {
        return Outcome::Page(ConsentError::TooOld);
    };
    if !ticket.is_of(caller) || !click.cookie.is_some_and(|cookie| ticket.cookie.verify(cookie)) {
        return Outcome::Page(ConsentError::NotThePage);
    }
    let Some(client) = client else {
        return Outcome::Page(PageError::UnknownClient.into());
    };
    if let Err(error) = may_use(client, caller, click.registrant, rules, now) {
        return Outcome::Page(error.into());
    }
    let request = &ticket.request;
    // Both answers go there, and the client may have taken it back while the page was looked at.
    if !is_registered(client, &request.redirect_uri) {
        return Outcome::Page(PageError::Redirect.into());
    }
    // What the page said is what an administrator had looked at then.
    if !publish::carries(
        client,
        &caller.owner(),
        request.published_by.as_ref(),
        request.publication,
    ) {
        return Outcome::Page(ConsentError::TooOld);
    }
    if request.pushed.is_some() && click.pushed.is_none() {
        return Outcome::Page(ConsentError::TooOld);
    }
    let scopes = match click.choice {
        Choice::Deny => Err(OAuthError::new(ErrorCode::AccessDenied, "the user declined")),
        Choice::Allow => allowed_scopes(&request.scopes, &request.resources, &client.id, caller, rules, now),
    };
    let scopes = match scopes {
        Ok(scopes) => scopes,
        Err(error) => {
            return Outcome::Refused {
                answer: request.refuse(&rules.issuer, error),
                declined: Box::new(Code::declined(ticket, caller, now, rng)),
            };
        }
    };
    let session = click.session.filter(|session| serves(session, request, caller, now));
    let begun = session.is_none().then(|| Session::begin(caller, now, rng));
    let auth_time = session.map_or(now, |session| session.auth_time);
    let may_be = remembered::may_be(client, click.registrant, &request.redirect_uri, now);
    let (code, secret) = Code::issue(ticket.code, request, caller, scopes, auth_time, now, rng);
    Outcome::Allowed {
        answer: request.accept(&rules.issuer, &secret),
        records: Box::new(Records {
            code,
            session: begun,
            remembered: (click.remember && may_be).then(|| Remembered::to(request, caller, now)),
        }),
    }
}

/// Whether an earlier click counts as the login for `request`.
fn serves(session: &Session, request: &Request, caller: &Caller, now: OffsetDateTime) -> bool {
    request.prompt != Prompt::Login && session.is_live(caller, now) && session.is_fresh(request.max_age, now)
}

#[cfg(test)]
mod tests;
