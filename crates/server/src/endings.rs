//! How what a person holds ends when he takes it back: sessions, remembered consents, grants, clients.
//!
//! Sessions and consents are looked for below the owner's own prefix, codes and grants at his nodes, where each says
//! whose it is: nothing of anybody else can be reached. A grant that ends is marked as revoked and stays until its time
//! is over, so that its refresh tokens are known and refused.

use countersign_oauth::{
    audit::AuditRecord,
    caller::{Caller, Owner},
    client::{Client, ClientId},
    grant::{Authorization, Code, Grant, NodeTag},
    me::Name,
    remembered::Remembered,
    session::Session,
};
use countersign_store::{CommitError, Record, StoreError, Txn, held_by};

use crate::{
    app::{App, Exchange},
    clients, sessions,
    watch::Ending,
};

/// Records that one transaction ends at most.
const PAGE: usize = 50;
const ATTEMPTS: usize = 8;

/// Why something could not be ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndError {
    /// It is in use all the time.
    #[error("it is in use at this moment; try again")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a person gave to an application.
trait Given: Ending {
    fn authorization(&self) -> &Authorization;
}

impl Given for Code {
    fn authorization(&self) -> &Authorization {
        &self.authorization
    }
}

impl Given for Grant {
    fn authorization(&self) -> &Authorization {
        &self.authorization
    }
}

/// Who ends something, and in which request.
#[derive(Clone, Copy)]
pub(crate) struct Ender<'a> {
    pub(crate) app: &'a App,
    pub(crate) exchange: &'a Exchange,
    pub(crate) caller: &'a Caller,
}

impl Ender<'_> {
    fn owner(&self) -> Owner {
        self.caller.owner()
    }

    fn prefix(&self) -> Vec<u8> {
        held_by(&self.owner(), None)
    }

    fn audit(&self, event: &str) -> AuditRecord {
        AuditRecord::by(self.caller, event, &self.exchange.request_id, self.exchange.now)
    }

    /// Ends one session.
    pub(crate) async fn session(&self, name: &Name) -> Result<(), EndError> {
        for _ in 0..ATTEMPTS {
            let mut reads = self.app.store.reads();
            let Some(session) = reads.get::<Session>(name.id(&self.prefix())).await? else {
                return Ok(());
            };
            let mut txn = reads.into_txn();
            sessions::end_session(&mut txn, &session);
            txn.audit(&self.audit("session_ended").with_detail(session.node_name.as_str()))?;
            if self.commit(txn).await? {
                return Ok(());
            }
        }
        Err(EndError::Busy)
    }

    /// Forgets one consent, and ends what its client was given on its node.
    pub(crate) async fn consent(&self, name: &Name) -> Result<(), EndError> {
        for _ in 0..ATTEMPTS {
            let mut reads = self.app.store.reads();
            let Some(consent) = reads.get::<Remembered>(name.id(&self.prefix())).await? else {
                return Ok(());
            };
            let mut txn = reads.into_txn();
            sessions::forget_consent(&mut txn, &consent);
            txn.audit(&self.audit("consent_forgotten").about(&consent.client))?;
            if self.commit(txn).await? {
                return self
                    .given_at(&consent.subject.node_id, |authorization| {
                        authorization.client == consent.client
                    })
                    .await;
            }
        }
        Err(EndError::Busy)
    }

    /// Ends one grant.
    pub(crate) async fn grant(&self, name: &Name) -> Result<(), EndError> {
        let id = name.id(b"");
        for _ in 0..ATTEMPTS {
            if self.end_given::<Grant>(std::slice::from_ref(&id), &|_| true).await? {
                return Ok(());
            }
        }
        Err(EndError::Busy)
    }

    /// Deletes a client of the owner's; what anybody granted it is worth nothing without it.
    pub(crate) async fn client(&self, id: &ClientId) -> Result<(), EndError> {
        for _ in 0..ATTEMPTS {
            let mut reads = self.app.store.reads();
            let client = reads.get::<Client>(id.as_str()).await?;
            let Some(client) = client.filter(|client| client.owner == self.owner()) else {
                return Ok(());
            };
            let mut txn = reads.into_txn();
            clients::forget(&mut txn, &client);
            txn.audit(&self.audit("client_deleted").about(id))?;
            if self.commit(txn).await? {
                return Ok(());
            }
        }
        Err(EndError::Busy)
    }

    /// Ends every session, consent, code and grant of the owner's, on all his nodes.
    pub(crate) async fn everything(&self) -> Result<(), EndError> {
        let prefix = self.prefix();
        while self.page_of::<Session>(&prefix, sessions::end_session).await? {}
        while self.page_of::<Remembered>(&prefix, sessions::forget_consent).await? {}
        for node in self.app.nodes_of(self.caller) {
            self.given_at(&node, |_| true).await?;
        }
        let mut txn = Txn::new();
        txn.audit(&self.audit("everything_ended"))?;
        self.commit(txn).await.map(drop)
    }

    /// Ends a page of records; says whether there was one.
    async fn page_of<R: Record>(&self, prefix: &[u8], end: fn(&mut Txn, &R)) -> Result<bool, EndError> {
        let records = self.app.store.scan::<R>(prefix, None, PAGE).await?.records;
        let mut txn = Txn::new();
        for record in &records {
            end(&mut txn, record);
        }
        self.commit(txn).await?;
        Ok(!records.is_empty())
    }

    /// Ends the owner's codes and grants at a node whose authorization `is_meant`. Codes first, so that what one of them
    /// becomes meanwhile is found among the grants.
    async fn given_at(
        &self,
        node: &str,
        is_meant: impl Fn(&Authorization) -> bool + Send + Sync,
    ) -> Result<(), EndError> {
        self.of_kind_at::<Code>(node, &is_meant).await?;
        self.of_kind_at::<Grant>(node, &is_meant).await
    }

    async fn of_kind_at<R: Given>(
        &self,
        node: &str,
        is_meant: &(impl Fn(&Authorization) -> bool + Send + Sync),
    ) -> Result<(), EndError> {
        let tag = NodeTag::of(node).to_text();
        let mut conflicts = 0;
        let mut from: Option<Vec<u8>> = None;
        loop {
            let page = self.app.store.scan::<R>(tag.as_bytes(), from.as_deref(), PAGE).await?;
            let ids: Vec<_> = page.records.iter().map(Record::id).collect();
            if self.end_given::<R>(&ids, is_meant).await? {
                match page.next {
                    Some(next) => from = Some(next),
                    None => return Ok(()),
                }
            } else {
                // One of them was used at this moment: what has become of it is looked at again.
                conflicts += 1;
            }
            if conflicts == ATTEMPTS {
                return Err(EndError::Busy);
            }
            // However many there are: others are served meanwhile.
            tokio::task::yield_now().await;
        }
    }

    /// Ends the owner's among these records whose authorization `is_meant`; false when one of them changed meanwhile.
    async fn end_given<R: Given>(
        &self,
        ids: &[Vec<u8>],
        is_meant: &(impl Fn(&Authorization) -> bool + Send + Sync),
    ) -> Result<bool, EndError> {
        let mut reads = self.app.store.reads();
        let mut records = Vec::new();
        for id in ids {
            records.extend(reads.get::<R>(id).await?);
        }
        let mut txn = reads.into_txn();
        for record in records.iter().filter(|record| record.is_open(self.exchange.now)) {
            let authorization = record.authorization();
            if authorization.subject.owner == self.owner() && is_meant(authorization) {
                let event = format!("{}_revoked", R::NAME);
                txn.audit(&self.audit(&event).about(&authorization.client))?;
                record.end(&mut txn)?;
            }
        }
        self.commit(txn).await
    }

    /// Whether it was done: not when something that was read has changed meanwhile.
    async fn commit(&self, txn: Txn) -> Result<bool, EndError> {
        if txn.is_empty() {
            return Ok(true);
        }
        match self.app.store.commit(txn).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }
}
