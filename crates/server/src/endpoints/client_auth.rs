//! Client authentication, the same at `/token`, `/par`, `/revoke` and `/introspect`.

use countersign_oauth::{
    assertion::{MAX_REMEMBERED, Spent},
    client::{Client, ClientId},
    client_auth::Presented,
    error::{ErrorCode, OAuthError},
    params::Params,
};
use countersign_store::{CommitError, Due, DueKind, Reads, Record as _, StoreError, Txn};
use http::{HeaderMap, header::AUTHORIZATION};

use crate::{
    app::{App, Exchange},
    client_keys::AwsLc,
    endpoints::token::TokenError,
};

const ATTEMPTS: usize = 4;

/// A client that has authenticated, and what has to be stored so that it cannot do so again by the same means.
pub(crate) struct Authenticated {
    pub(crate) client: Client,
    spent: Option<Spent>,
}

impl Authenticated {
    /// The client of a request. What was read is an expectation of the transaction that [`spend`](Self::spend)s.
    pub(crate) async fn of(
        app: &App,
        exchange: &Exchange,
        reads: &mut Reads<'_>,
        headers: &HeaderMap,
        params: &Params,
    ) -> Result<Self, TokenError> {
        let nobody = |error| TokenError::Refused(String::new(), error);
        let issuer = app.config.issuer.as_str();
        let presented = Presented::read(header(headers), params, issuer, exchange.now).map_err(nobody)?;
        let client = reads.get::<Client>(presented.client.as_str()).await?;
        let proof = presented.verify(client.as_ref(), &AwsLc).map_err(|error| {
            let id = client.as_ref().map(|client| client.id.to_string());
            TokenError::Refused(id.unwrap_or_default(), error)
        })?;
        let Some(client) = client else {
            return Err(nobody(OAuthError::new(
                ErrorCode::InvalidClient,
                "the client is unknown",
            )));
        };
        if let Some(spent) = &proof.spent
            && reads.get::<Spent>(spent.id()).await?.is_some()
        {
            let error = OAuthError::new(
                ErrorCode::InvalidClient,
                "client_assertion was used before: make a new one, with a jti of its own, for each request",
            );
            return Err(TokenError::Refused(client.id.to_string(), error));
        }
        Ok(Self {
            client,
            spent: proof.spent,
        })
    }

    /// Whether something has to be stored even if the request changes nothing.
    pub(crate) const fn must_be_spent(&self) -> bool {
        self.spent.is_some()
    }

    /// Puts the assertion among those that were used, until it has expired.
    pub(crate) fn spend(&self, txn: &mut Txn) -> Result<(), StoreError> {
        let Some(spent) = &self.spent else { return Ok(()) };
        txn.put(spent)?;
        txn.put(&Due {
            at: spent.expires_at,
            what: DueKind::Assertion,
            id: String::from_utf8_lossy(&spent.id()).into_owned(),
        })?;
        txn.count(&assertions_of(&spent.client), 1, Some(MAX_REMEMBERED));
        Ok(())
    }
}

/// The counter of a client's assertions that are remembered.
pub(crate) fn assertions_of(client: &ClientId) -> String {
    format!("assertions/{client}")
}

/// The client as which a request authenticates; none when it shows nothing, and asks as its node alone.
pub(crate) async fn shown(
    app: &App,
    exchange: &Exchange,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Option<Client>, TokenError> {
    let credentials = ["client_secret", "client_assertion", "client_assertion_type"];
    let shows = |name: &&str| params.many(name).next().is_some();
    if !headers.contains_key(AUTHORIZATION) && !credentials.iter().any(shows) {
        return Ok(None);
    }
    for _ in 0..ATTEMPTS {
        let mut reads = app.store.reads();
        let authenticated = Authenticated::of(app, exchange, &mut reads, headers, params).await?;
        if !authenticated.must_be_spent() {
            return Ok(Some(authenticated.client));
        }
        let mut txn = reads.into_txn();
        authenticated.spend(&mut txn)?;
        match app.store.commit(txn).await {
            Ok(_) => return Ok(Some(authenticated.client)),
            Err(CommitError::Conflict(_)) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    let error = OAuthError::new(
        ErrorCode::TemporarilyUnavailable,
        "the client authenticates too often at once; try again",
    );
    Err(TokenError::Refused(String::new(), error))
}

/// The one `Authorization` header; an empty one, which nothing accepts, stands for several or an unreadable one.
fn header(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let first = values.next()?;
    Some(match values.next() {
        None => first.to_str().unwrap_or(""),
        Some(_) => "",
    })
}
