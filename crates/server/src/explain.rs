//! `policy explain` on the running server: gathers what the store and the netmap say, and has it explained.

use countersign_oauth::{
    caller::Caller,
    client::{Client, ClientId},
    error::OAuthError,
    explain::{self, Explanation, Question, Reader, Settings},
    resource::Resource,
};
use countersign_store::StoreError;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{app::App, peer::Wanted};

/// Nodes of one user that are looked at; the answer says when there are more.
const MAX_NODES: usize = 100;
/// Resources and scopes of one question.
const MAX_ASKED: usize = 32;

/// What is asked: about whom, and for what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExplainQuery {
    /// Login name, or a tag.
    pub user: Option<String>,
    /// MagicDNS name, its first label, or a stable id; without it every node of the user.
    pub node: Option<String>,
    /// Client id.
    pub client: Option<String>,
    /// Resources.
    pub resources: Vec<String>,
    /// Scopes.
    pub scopes: Vec<String>,
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// Neither a user nor a node was named.
    #[error("say about whom: name a user, a node, or both")]
    Nobody,
    /// The netmap has no such node.
    #[error(
        "the tailnet shows this server no node {0}: either there is none, or the policy lets none of them reach this server"
    )]
    NoNode(String),
    /// A resource that no request could name either.
    #[error("{}", .0.description())]
    Resource(OAuthError),
    /// More than is answered at once.
    #[error("ask for at most {MAX_ASKED} resources and scopes at once")]
    TooMuch,
    /// What is stored about the client cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Explains `query` to `reader`, about those of the nodes that it names whom `may_see` lets through.
pub(crate) async fn explain(
    app: &App,
    query: &ExplainQuery,
    reader: Reader,
    may_see: impl Fn(&Caller) -> bool,
    now: OffsetDateTime,
) -> Result<Vec<Explanation>, ExplainError> {
    let wanted = Wanted {
        user: query.user.as_deref(),
        node: query.node.as_deref(),
    };
    if wanted.user.is_none() && wanted.node.is_none() {
        return Err(ExplainError::Nobody);
    }
    if query.resources.len() + query.scopes.len() > MAX_ASKED {
        return Err(ExplainError::TooMuch);
    }
    let resources: Result<Vec<Resource>, OAuthError> =
        query.resources.iter().map(|text| Resource::parse(text)).collect();
    let resources = resources.map_err(ExplainError::Resource)?;
    let mut subjects = app.directory.find(&wanted, MAX_NODES);
    subjects.retain(may_see);
    if subjects.is_empty() {
        return Err(ExplainError::NoNode(described(query)));
    }
    let client = query.client.as_deref().map(ClientId::from_request);
    let record = match &client {
        Some(client) => app.store.reads().get::<Client>(client.as_str()).await?,
        None => None,
    };
    let registrant = record
        .as_ref()
        .and_then(|record| app.directory.node(&record.registrant.node_id));
    let settings = Settings {
        registration: &app.registration,
        authorize: &app.tokens.authorize,
    };
    let told = subjects.iter().map(|subject| {
        let question = Question {
            subject,
            client: client.as_ref(),
            record: record.as_ref(),
            registrant: registrant.as_ref(),
            resources: &resources,
            scopes: &query.scopes,
            reader,
        };
        explain::explain(&question, &settings, now)
    });
    Ok(explain::merged(told.collect()))
}

fn described(query: &ExplainQuery) -> String {
    match (&query.node, &query.user) {
        (Some(node), Some(user)) => format!("{node} of {user}"),
        (Some(node), None) => node.clone(),
        (None, user) => format!("of {}", user.as_deref().unwrap_or_default()),
    }
}
