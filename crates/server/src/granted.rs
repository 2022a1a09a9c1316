//! What applications may do for a person: the grants of one owner, found at his nodes.
//!
//! A grant stands in the store below the tag of the node at which it was given, and nowhere else. The netmap says which
//! nodes are whose; what was given at a node that the netmap no longer has was ended when it went.

use std::collections::{BTreeSet, HashMap};

use countersign_oauth::{
    caller::{Caller, Owner},
    client::{Client, ClientId},
    grant::{Grant, NodeTag},
};
use countersign_store::{Record as _, StoreError};
use time::OffsetDateTime;

use crate::app::App;

/// Records that are read at once.
const STEP: usize = 50;
/// Records that are looked at for one page of a list; beyond that the page is short, and the next begins there.
const MAX_LOOKED_AT: usize = 2000;

/// A part of what an owner has granted.
pub(crate) struct Granted {
    /// Each with the client that has it.
    pub(crate) grants: Vec<(Grant, Client)>,
    /// The id behind which the next part begins; `None` when there is nothing behind this one.
    pub(crate) next: Option<Vec<u8>>,
}

impl App {
    /// The nodes of the owner of `caller`, by their stable ids.
    pub(crate) fn nodes_of(&self, caller: &Caller) -> BTreeSet<String> {
        let mut nodes = match caller.owner() {
            Owner::User(id) => self.directory.nodes_of(id),
            Owner::Node(_) => BTreeSet::new(),
        };
        // The netmap may have changed since it said who calls.
        nodes.insert(caller.node_id.clone());
        nodes
    }

    /// Up to `limit` grants of the owner of `caller` that are good at `now`, in the order of their ids, from behind the
    /// id `after` on.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub(crate) async fn granted(
        &self,
        caller: &Caller,
        after: Option<&[u8]>,
        limit: usize,
        now: OffsetDateTime,
    ) -> Result<Granted, StoreError> {
        let owner = caller.owner();
        let tags = self
            .nodes_of(caller)
            .into_iter()
            .map(|node| NodeTag::of(&node).to_text());
        let tags: BTreeSet<String> = tags.collect();
        let mut clients = HashMap::new();
        let mut grants: Vec<(Grant, Client)> = Vec::new();
        let (mut looked_at, mut last) = (0, None);
        for tag in &tags {
            let mut from = match after {
                Some(after) if after.starts_with(tag.as_bytes()) => Some(after.to_vec()),
                Some(after) if tag.as_bytes() < after => continue,
                _ => None,
            };
            loop {
                let page = self.store.scan::<Grant>(tag.as_bytes(), from.as_deref(), STEP).await?;
                for grant in page.records {
                    if looked_at >= MAX_LOOKED_AT {
                        return Ok(Granted { grants, next: last });
                    }
                    looked_at += 1;
                    let id = grant.id();
                    if let Some(client) = self.carrying(&grant, &owner, &mut clients, now).await? {
                        if grants.len() >= limit {
                            let next = grants.last().map(|(grant, _)| grant.id());
                            return Ok(Granted { grants, next });
                        }
                        grants.push((grant, client));
                    }
                    last = Some(id);
                }
                from.clone_from(&last);
                if page.next.is_none() {
                    break;
                }
            }
        }
        Ok(Granted { grants, next: None })
    }

    /// The client of a grant, if that is the owner's and good. `clients` are those that were read for others.
    async fn carrying(
        &self,
        grant: &Grant,
        owner: &Owner,
        clients: &mut HashMap<ClientId, Option<Client>>,
        now: OffsetDateTime,
    ) -> Result<Option<Client>, StoreError> {
        let authorization = &grant.authorization;
        if authorization.subject.owner != *owner || !grant.is_live(now) {
            return Ok(None);
        }
        let id = &authorization.client;
        if !clients.contains_key(id) {
            let client = self.store.reads().get::<Client>(id.as_str()).await?;
            clients.insert(id.clone(), client);
        }
        let client = clients.get(id).and_then(Option::as_ref);
        Ok(client.filter(|client| grant.is_carried_by(client)).cloned())
    }
}
