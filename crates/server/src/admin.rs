//! What an administrator on the server's own machine may ask and change.
//!
//! The door is the socket in the state folder, which only the owner of that folder can open; the binary brings the
//! questions here. Every change is one transaction with its audit record, which names who asked.

use std::collections::BTreeMap;

use countersign_oauth::{
    audit::AuditRecord,
    client::Client,
    explain::{Explanation, Reader},
    publish::{self, Use},
};
use countersign_store::{CommitError, Store, StoreError};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    Server,
    explain::{ExplainError, ExplainQuery, explain},
};

const ATTEMPTS: usize = 8;
const PAGE: usize = 500;
/// Clients that are listed at most.
const MAX_LISTED: usize = 20_000;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No such client.
    #[error("no client is registered here under the id {0}: `countersign client list` shows those that are")]
    NoClient(String),
    /// It changed again and again meanwhile.
    #[error("the client {0} is changed by others at this moment; try again")]
    Contended(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The clients of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientList {
    /// One line for each.
    pub clients: Vec<ClientLine>,
    /// Whether there are more than are listed.
    pub more: bool,
}

/// What `client list` says about one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLine {
    /// Its id.
    pub id: String,
    /// What it calls itself; nobody verified that.
    pub name: Option<String>,
    /// Who registered it: a login name, or tags.
    pub user: String,
    /// From which node.
    pub node: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub registered: OffsetDateTime,
    /// Where its users may be sent back to.
    pub redirect_uris: Vec<String>,
    /// Who lets others than its owner use it; `None` for nobody.
    pub published: Option<String>,
    /// Whether it never obtained a code or token.
    pub unused: bool,
}

impl Server {
    /// Explains every decision about the nodes that `query` names. The asker may see everything.
    ///
    /// # Errors
    /// [`ExplainError`].
    pub async fn explain(&self, query: &ExplainQuery) -> Result<Vec<Explanation>, ExplainError> {
        let app = self.app();
        explain(app, query, Reader::Administrator, |_| true, app.clock.now()).await
    }

    /// Every registered client, at most 20,000.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn clients(&self) -> Result<ClientList, StoreError> {
        let app = self.app();
        let now = app.clock.now();
        let mut list = ClientList {
            clients: Vec::new(),
            more: false,
        };
        let mut registrants = BTreeMap::new();
        let mut from = None;
        loop {
            let page = app.store.scan::<Client>(b"", from.as_deref(), PAGE).await?;
            for client in &page.records {
                let node = registrants
                    .entry(client.registrant.node_id.clone())
                    .or_insert_with(|| app.directory.node(&client.registrant.node_id));
                list.clients
                    .push(line(client, publish::published(client, node.as_ref(), now)));
            }
            from = page.next;
            if from.is_none() {
                return Ok(list);
            }
            if list.clients.len() >= MAX_LISTED {
                list.more = true;
                return Ok(list);
            }
        }
    }

    /// Lets everybody use the client, or its owner alone again; `by` says in words who asks. Once it is taken back, what
    /// others granted it by the administrator's word is worth nothing, also when it is published again. Says whether anything changed.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn publish(&self, client: &str, published: bool, by: &str) -> Result<bool, AdminError> {
        let app = self.app();
        let now = app.clock.now();
        let changed = set(&app.store, client, published, by, now).await?;
        let word = if published { "published" } else { "unpublished" };
        tracing::info!(
            event = "client_published",
            client,
            by,
            published,
            changed,
            "client {client} {word} by {by}"
        );
        Ok(changed)
    }
}

fn line(client: &Client, published: Option<Use>) -> ClientLine {
    let names = &client.descriptions.client_name;
    ClientLine {
        id: client.id.to_string(),
        name: names.as_ref().map(|name| name.as_str().to_owned()),
        user: client.registrant.user.clone(),
        node: client.registrant.node_name.clone(),
        registered: client.issued_at,
        redirect_uris: client.redirect_uris.iter().map(|uri| uri.as_str().to_owned()).collect(),
        published: published.map(|by| match by {
            Use::Published(publication) => publication.by,
            Use::Owner | Use::Granted(_) => format!("a rule for {}", client.registrant.node_name),
        }),
        unused: client.unused_until.is_some(),
    }
}

async fn set(store: &Store, id: &str, published: bool, by: &str, now: OffsetDateTime) -> Result<bool, AdminError> {
    for _ in 0..ATTEMPTS {
        let mut reads = store.reads();
        let client = reads.get::<Client>(id).await?;
        let client = client.ok_or_else(|| AdminError::NoClient(id.to_owned()))?;
        if client.published.is_some() == published {
            return Ok(false);
        }
        let event = if published {
            "client_published"
        } else {
            "client_unpublished"
        };
        let mut txn = reads.into_txn();
        txn.audit(
            &AuditRecord::own(event, now)
                .about(&client.id)
                .with_detail(format!("by {by}")),
        )?;
        txn.put(&if published {
            publish::publish(client, by, now)
        } else {
            publish::take_back(client)
        })?;
        match store.commit(txn).await {
            Ok(_) => return Ok(true),
            Err(CommitError::Conflict(_)) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(AdminError::Contended(id.to_owned()))
}
