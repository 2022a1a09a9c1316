//! Forms of ours besides the consent page: sealed into their pages, taken once when they are answered.
//!
//! The rules for an answer are those of the consent page: it comes from a page of this origin, with the ticket of that
//! page and the cookie that was set with it, from the node and user it was shown to.

use countersign_oauth::{
    caller::Caller,
    form::{Form, Purpose, Shown, SpentForm},
    params::Params,
    sealed::SealError,
    secret::SecretHash,
};
use countersign_store::{Due, DueKind, Reads, StoreError, Txn};
use http::HeaderMap;

use crate::{
    app::{App, Exchange},
    clock,
    cookie::Cookie,
    endpoints::authorize::comes_from_our_page,
    reply::Reply,
};

/// Why a form could not be shown, or its answer not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormFailure {
    /// The answer counts for nothing; the sentence is for the person.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the system has no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
    /// What a form holds is bounded by the limits of what goes into it.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A form that was answered as it must be, and is yet to be spent.
pub(crate) struct Answered {
    pub(crate) form: Form,
    /// Hash of its ticket.
    hash: SecretHash,
    cookie: Cookie,
}

/// A form for `caller`; its page holds the ticket, and [`give_cookie`] goes with it.
pub(crate) fn show(app: &App, exchange: &Exchange, caller: &Caller, purpose: Purpose) -> Result<Shown, FormFailure> {
    let mut rng = clock::rng()?;
    Ok(Form::show(purpose, caller, exchange.now, &app.secret, &mut rng)?)
}

/// Sets the cookie that ties the page to its browser.
pub(crate) fn give_cookie(app: &App, shown: &Shown, reply: &mut Reply) {
    let cookie = Cookie::of_page(&shown.ticket, app.config.issuer.is_https());
    cookie.set(shown.cookie.reveal(), reply);
}

/// The form that a request answers.
///
/// # Errors
/// [`FormFailure::Refused`] unless the request comes from that form's page, browser, node and user, in time.
pub(crate) async fn answered(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    reads: &mut Reads<'_>,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Answered, FormFailure> {
    let refused = |reason: &str| FormFailure::Refused(reason.to_owned());
    if !comes_from_our_page(headers, app.config.issuer.as_str()) {
        return Err(refused(
            "only the page of this server that asked the question can answer it",
        ));
    }
    let ticket = params
        .required("ticket")
        .map_err(|error| FormFailure::Refused(error.description().to_owned()))?;
    let hash = SecretHash::of(ticket);
    // The transaction of an answer expects that there is none, so that of two answers at once one conflicts.
    let spent = reads.get::<SpentForm>(hash.to_text()).await?.is_some();
    let form = Form::open(ticket, &app.secret);
    let cookie = Cookie::of_page(ticket, app.config.issuer.is_https());
    let form = Form::admit(form, spent, cookie.find(headers).as_deref(), caller, exchange.now)
        .map_err(|error| FormFailure::Refused(error.to_string()))?;
    Ok(Answered { form, hash, cookie })
}

impl Answered {
    /// Adds to a transaction that the form is answered, for as long as it could be answered again.
    ///
    /// # Errors
    /// [`StoreError::Record`] for a record that has no JSON form.
    pub(crate) fn spend(&self, txn: &mut Txn) -> Result<(), StoreError> {
        let (hash, expires_at) = (self.hash, self.form.expires_at);
        txn.put(&SpentForm { hash, expires_at })?;
        txn.put(&Due {
            at: expires_at,
            what: DueKind::Form,
            id: hash.to_text(),
        })
    }

    /// Takes the cookie of the page back.
    pub(crate) fn forget_cookie(&self, reply: &mut Reply) {
        self.cookie.forget(reply);
    }
}
