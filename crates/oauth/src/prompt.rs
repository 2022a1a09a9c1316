//! Page or no page: what a valid authorization request leads to (OpenID Connect Core 3.1.2.1, 3.1.2.6).
//!
//! Identity is ambient on a tailnet, so a page is the rule. A code without a click needs all of this at once: a live
//! [session](crate::session) of this browser that is fresh enough, a [remembered consent](crate::remembered) to exactly
//! this request, a client that may be remembered now, and a browser that says that it navigates a whole page here.
//! Where one is missing the person is asked, or the client is told which with `prompt=none`
//! (`docs/adr/0024-when-no-click-is-needed.md`).

use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    authorize::{Answer, Question, Request, Rules},
    caller::Caller,
    error::{ErrorCode, OAuthError},
    grant::{Code, CodeId},
    hint::Hint,
    params::Params,
    remembered::Remembered,
    secret::Secret,
    session::Session,
    subject::Subject,
    ticket::Ticket,
};

/// What `prompt` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Nothing: a page unless none is needed.
    #[default]
    AsNeeded,
    /// `none`: no page, whatever happens.
    Never,
    /// `consent`, `select_account` or a word of a later time: a page.
    Page,
    /// `login`: a page, and the click on it counts as a new login.
    Login,
}

impl Prompt {
    /// Reads `prompt`, a list of words.
    ///
    /// # Errors
    /// `invalid_request` when `none` stands beside another word.
    pub fn read(params: &Params) -> Result<Self, OAuthError> {
        let text = params.one("prompt")?.unwrap_or_default();
        let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(Self::AsNeeded),
            ["none"] => Ok(Self::Never),
            words if words.contains(&"none") => Err(OAuthError::new(
                ErrorCode::InvalidRequest,
                "prompt: none cannot stand beside another value",
            )),
            words if words.contains(&"login") => Ok(Self::Login),
            _ => Ok(Self::Page),
        }
    }
}

/// What is known about the browser that sent a request, and what it was promised before.
#[derive(Debug, Clone, Copy)]
pub struct Browser<'a> {
    /// The session that its cookie names, if the Caller has such a one.
    pub session: Option<&'a Session>,
    /// What the store has for exactly this request of the Caller.
    pub remembered: Option<&'a Remembered>,
    /// Whether consent to this request may be remembered now ([`crate::remembered::may_be`]).
    pub may_be_remembered: bool,
    /// Whether the browser says that a whole page is navigated here (`Sec-Fetch-Dest: document`). Silence is a no.
    pub navigates: bool,
    /// `id_token_hint`.
    pub hint: &'a Hint,
}

/// What comes of a valid request.
#[derive(Debug)]
pub enum Outcome {
    /// The question for the user.
    Ask(Box<Question>),
    /// An error for the client.
    Refused(Answer),
    /// A code without a click.
    Answered {
        /// Carries the code.
        answer: Answer,
        /// What is stored.
        code: Box<Code>,
    },
}

/// Decides whether `caller` is asked about `request`.
pub fn decide(
    request: Request,
    browser: &Browser<'_>,
    caller: &Caller,
    rules: &Rules,
    now: OffsetDateTime,
    rng: &mut dyn RngCore,
) -> Outcome {
    if let Err(error) = browser.hint.is_about(&Subject::of(caller)) {
        return Outcome::Refused(request.refuse(&rules.issuer, error));
    }
    let missing = match request.prompt {
        Prompt::Page | Prompt::Login => return ask(request, caller, now, rng),
        Prompt::AsNeeded | Prompt::Never => what_is_missing(&request, browser, caller, now),
    };
    match (missing, request.prompt) {
        (Ok(session), _) => {
            let id = CodeId::draw(&caller.node_id, rng);
            let scopes = request.scopes.clone();
            let (code, secret) = Code::issue(id, &request, caller, scopes, session.auth_time, now, rng);
            Outcome::Answered {
                answer: request.accept(&rules.issuer, &secret),
                code: Box::new(code),
            }
        }
        (Err(error), Prompt::Never) => Outcome::Refused(request.refuse(&rules.issuer, error)),
        (Err(_), _) => ask(request, caller, now, rng),
    }
}

/// The session on which a code without a click rests.
fn what_is_missing<'a>(
    request: &Request,
    browser: &Browser<'a>,
    caller: &Caller,
    now: OffsetDateTime,
) -> Result<&'a Session, OAuthError> {
    let session = browser
        .session
        .filter(|session| session.is_live(caller, now) && session.is_fresh(request.max_age, now))
        .ok_or_else(|| {
            OAuthError::new(
                ErrorCode::LoginRequired,
                "prompt: none needs a session of this browser that is younger than max_age",
            )
        })?;
    let covered = browser.may_be_remembered && browser.remembered.is_some_and(|had| had.covers(request, caller, now));
    if !covered {
        return Err(OAuthError::new(
            ErrorCode::ConsentRequired,
            "prompt: none needs a remembered consent to this client, redirect_uri, scope and resource",
        ));
    }
    if !browser.navigates {
        return Err(OAuthError::new(
            ErrorCode::InteractionRequired,
            "prompt: none needs a browser that says by Sec-Fetch-Dest that it navigates a whole page here",
        ));
    }
    Ok(session)
}

fn ask(request: Request, caller: &Caller, now: OffsetDateTime, rng: &mut dyn RngCore) -> Outcome {
    let cookie_secret = Secret::draw(rng);
    Outcome::Ask(Box::new(Question {
        ticket: Ticket::issue(request, cookie_secret.hash(), caller, now, rng),
        cookie_secret,
    }))
}

#[cfg(test)]
mod tests;
