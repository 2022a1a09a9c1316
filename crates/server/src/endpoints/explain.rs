//! `GET /policy/explain`: what may whom, and why. A person asks about himself and his own nodes, whoever holds a grant
//! with `allow_admin_ui` about everybody. It changes nothing, and no page of another origin can read it.

use countersign_oauth::{caller::Caller, explain::Reader, params::Params, text::DisplayText};
use http::Request;
use hyper::body::Incoming;

use crate::{
    app::{App, Exchange},
    event::{self, Decision},
    explain::{ExplainError, ExplainQuery, explain},
    pages,
    reply::{self, Reply},
    status,
};

const EVENT: &str = "policy_explain";
/// Bytes of one field.
const LONGEST: usize = 2048;

pub(crate) async fn get(app: &App, exchange: &Exchange, caller: &Caller, request: &Request<Incoming>) -> Reply {
    let refuse = |reason: &str| {
        event::decided(EVENT, caller, "", Decision::Refused, &exchange.request_id, reason);
        reply::page(status::BAD_PAGE, pages::refusal(reason, &exchange.request_id))
    };
    if let Err(error) = caller.vouched(&app.tokens.authorize.identity) {
        return refuse(error.description());
    }
    let mut query = match read(&Params::parse(request.uri().query().unwrap_or_default().as_bytes())) {
        Ok(query) => query,
        Err(reason) => return refuse(&reason),
    };
    let everybody = caller.policy.may_administer(&caller.names(), exchange.now).is_ok();
    let own = caller.user_label();
    if !everybody && query.user.as_ref().is_some_and(|user| *user != own) {
        return refuse(
            "you may ask about yourself and your own nodes only; a grant with allow_admin_ui lets you ask about everybody",
        );
    }
    if query.user.is_none() && (query.node.is_none() || !everybody) {
        query.user = Some(own);
    }
    let (reader, owner) = (
        if everybody {
            Reader::Administrator
        } else {
            Reader::Subject
        },
        caller.owner(),
    );
    let told = explain(
        app,
        &query,
        reader,
        |node| everybody || node.owner() == owner,
        exchange.now,
    )
    .await;
    let told = match told {
        Ok(told) => Ok(told),
        Err(ExplainError::Store(error)) => {
            tracing::error!(%error, request_id = exchange.request_id, "the policy could not be explained");
            return reply::failed(&exchange.request_id);
        }
        Err(error) => Err(error.to_string()),
    };
    reply::page(status::FOUND, pages::explain::explain(&query, everybody, &told))
}

/// Reads the form's fields; empty ones count as absent, and lists are separated by spaces as in `scope`.
fn read(params: &Params) -> Result<ExplainQuery, String> {
    // The address may be anybody's, and the page repeats what it asks.
    for name in ["user", "node", "client", "resource", "scope"] {
        if !params
            .many(name)
            .all(|value| value.len() <= LONGEST && DisplayText::is_plain(value))
        {
            return Err(format!("{name} is too long or has a character that cannot be shown"));
        }
    }
    let one = |name: &str| match params.one(name) {
        Ok(value) => Ok(value
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)),
        Err(error) => Err(error.description().to_owned()),
    };
    let list = |name: &str| -> Vec<String> {
        let values = params.many(name).flat_map(str::split_whitespace);
        values.map(str::to_owned).collect()
    };
    Ok(ExplainQuery {
        user: one("user")?,
        node: one("node")?,
        client: one("client")?,
        resources: list("resource"),
        scopes: list("scope"),
    })
}
