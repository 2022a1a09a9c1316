//! Forms of ours besides the consent page, which keeps nothing: kept when they are shown, taken once when they are answered.
//!
//! The rules for an answer are those of the consent page: it comes from a page of this origin, with the ticket of that
//! page and the cookie that was set with it, from the node and user it was shown to.

use countersign_oauth::{
    caller::Caller,
    form::{Form, Purpose, Shown},
    params::Params,
    secret::SecretHash,
};
use countersign_store::{CommitError, Due, DueKind, Reads, Record as _, StoreError, Txn};
use http::HeaderMap;

use crate::{
    app::{App, Exchange},
    clock,
    cookie::Cookie,
    endpoints::authorize::comes_from_our_page,
    reply::Reply,
};

/// Forms that one node may have open. More are refused: each is a record for ten minutes.
const MAX_OPEN: u64 = 200;

/// The counter of a node's open forms.
pub(crate) fn open_forms(node_id: &str) -> String {
    format!("forms/{node_id}")
}

/// Why a form could not be shown, or its answer not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormFailure {
    /// The node has too many pages open.
    #[error("this node has too many pages open; wait ten minutes")]
    TooMany,
    /// The answer counts for nothing; the sentence is for the person.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the system has no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
}

/// A form that was answered as it must be, and is yet to be spent.
pub(crate) struct Answered {
    pub(crate) form: Form,
    cookie: Cookie,
}

/// Keeps a form for `caller`; its page holds the ticket, and [`give_cookie`] goes with it.
pub(crate) async fn show(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    purpose: Purpose,
) -> Result<Shown, FormFailure> {
    let shown = Form::show(purpose, caller, exchange.now, &mut clock::rng()?);
    let mut txn = Txn::new();
    txn.put(&shown.form)?;
    txn.put(&due(&shown.form))?;
    txn.count(&open_forms(&caller.node_id), 1, Some(MAX_OPEN));
    match app.store.commit(txn).await {
        Ok(_) => Ok(shown),
        Err(CommitError::Conflict(_)) => Err(FormFailure::TooMany),
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}

/// Sets the cookie that ties the page to its browser.
pub(crate) fn give_cookie(app: &App, shown: &Shown, reply: &mut Reply) {
    let cookie = Cookie::of_page(shown.ticket.reveal(), app.config.issuer.is_https());
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
    let form = reads.get::<Form>(SecretHash::of(ticket).to_text()).await?;
    let cookie = Cookie::of_page(ticket, app.config.issuer.is_https());
    let form = Form::admit(form.as_ref(), cookie.find(headers).as_deref(), caller, exchange.now)
        .map_err(|error| FormFailure::Refused(error.to_string()))?;
    Ok(Answered {
        form: form.clone(),
        cookie,
    })
}

impl Answered {
    /// Adds to a transaction that the form is answered.
    pub(crate) fn spend(&self, txn: &mut Txn) {
        txn.delete::<Form>(self.form.id());
        txn.delete::<Due>(due(&self.form).id());
        txn.count(&open_forms(&self.form.subject.node_id), -1, None);
    }

    /// Takes the cookie of the page back.
    pub(crate) fn forget_cookie(&self, reply: &mut Reply) {
        self.cookie.forget(reply);
    }
}

fn due(form: &Form) -> Due {
    Due {
        at: form.expires_at,
        what: DueKind::Form,
        id: form.hash.to_text(),
    }
}
