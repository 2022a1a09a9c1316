//! How what a person holds ends when he takes it back: sessions, remembered consents, grants, clients.
//!
//! Everything is looked for below the owner's own prefix, so nothing of anybody else can be reached. A grant that ends
//! is marked as revoked and stays until its time is over, so that its refresh tokens are known and refused.

use countersign_oauth::{
    audit::AuditRecord,
    caller::{Caller, Owner},
    client::{Client, ClientId},
    grant::{Authorization, Code, Grant},
    me::Name,
    remembered::Remembered,
    session::Session,
};
use countersign_store::{CommitError, Held, HeldKind, Record, StoreError, Txn, held_by};

use crate::{
    app::{App, Exchange},
    clients, sessions,
    watch::{self, Whose},
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
                let prefix = held_by(&consent.subject.owner, Some(&consent.subject.node_id));
                return self
                    .given(&prefix, |authorization| authorization.client == consent.client)
                    .await;
            }
        }
        Err(EndError::Busy)
    }

    /// Ends one grant.
    pub(crate) async fn grant(&self, name: &Name) -> Result<(), EndError> {
        self.given(&name.id(&self.prefix()), |_| true).await
    }

    /// Deletes a client of the owner's, and ends what anybody gave it.
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
                watch::end_of_client(self.app, id, &Whose::Everybody, self.exchange.now).await?;
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
        self.given(&prefix, |_| true).await?;
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

    /// Ends the codes and grants below `prefix` whose authorization `is_meant`.
    async fn given(&self, prefix: &[u8], is_meant: impl Fn(&Authorization) -> bool + Send) -> Result<(), EndError> {
        let mut from: Option<Vec<u8>> = None;
        let mut conflicts = 0;
        loop {
            let page = self.app.store.scan::<Held>(prefix, from.as_deref(), PAGE).await?;
            if self.end_given(&page.records, &is_meant).await? {
                match page.next {
                    Some(next) => from = Some(next),
                    None => return Ok(()),
                }
            } else {
                // One of them was used at this moment: what has become of it is looked at again.
                conflicts += 1;
                if conflicts == ATTEMPTS {
                    return Err(EndError::Busy);
                }
            }
        }
    }

    /// Ends those of `entries` whose authorization `is_meant`; false when one of them changed meanwhile.
    async fn end_given(
        &self,
        entries: &[Held],
        is_meant: &(impl Fn(&Authorization) -> bool + Send),
    ) -> Result<bool, EndError> {
        let mut reads = self.app.store.reads();
        let (mut codes, mut grants) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry.what {
                HeldKind::Code => codes.extend(reads.get::<Code>(&entry.id).await?),
                HeldKind::Grant => grants.extend(reads.get::<Grant>(&entry.id).await?),
            }
        }
        let mut txn = reads.into_txn();
        for code in codes.into_iter().filter(|code| is_meant(&code.authorization)) {
            txn.delete::<Held>(Held::code(&code).id());
            txn.put(&Code { spent: true, ..code })?;
        }
        for grant in grants.into_iter().filter(|grant| is_meant(&grant.authorization)) {
            txn.audit(&self.audit("grant_revoked").about(&grant.authorization.client))?;
            txn.delete::<Held>(Held::grant(&grant).id());
            txn.put(&Grant { revoked: true, ..grant })?;
        }
        self.commit(txn).await
    }

    /// Whether it was done: not when something that was read has changed meanwhile.
    async fn commit(&self, txn: Txn) -> Result<bool, EndError> {
        match self.app.store.commit(txn).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }
}
