//! Forgets what has ended: clients that never obtained a code or token, consent pages, codes, grants.

use std::time::Duration;

use countersign_oauth::{
    assertion::Spent,
    audit::AuditRecord,
    authorize::Ticket,
    client::Client,
    form::Form,
    grant::{Code, Grant},
    opaque::OpaqueToken,
    remembered::Remembered,
    session::Session,
};
use countersign_store::{
    ByOwner, CommitError, Due, DueKind, Held, Record as _, Store, StoreError, UnusedUntil, clients_of,
};
use time::OffsetDateTime;

use crate::{
    clock::Clock,
    endpoints::{client_auth::assertions_of, consent::open_pages},
};

const EVERY: Duration = Duration::from_secs(60);
const PAGE: usize = 200;

/// Sweeps for ever.
pub(crate) async fn run(store: &Store, clock: &Clock) {
    loop {
        tokio::time::sleep(EVERY).await;
        match once(store, clock.now()).await {
            Ok(0) => {}
            Ok(expired) => tracing::info!(event = "clients_expired", expired, "unused clients were forgotten"),
            Err(error) => tracing::error!(%error, "unused clients could not be looked for"),
        }
        if let Err(error) = ended(store, clock.now()).await {
            tracing::error!(%error, "records that have ended could not be looked for");
        }
    }
}

/// Removes every client whose time was over at `now`; says how many.
pub(crate) async fn once(store: &Store, now: OffsetDateTime) -> Result<usize, StoreError> {
    let mut expired = 0;
    loop {
        let due = store.scan::<UnusedUntil>(b"", None, PAGE).await?.records;
        let due: Vec<_> = due.into_iter().take_while(|entry| entry.at <= now).collect();
        let before = expired;
        for entry in &due {
            expired += usize::from(expire(store, entry, now).await?);
        }
        // A page on which nothing could be done would come back for ever.
        if due.len() < PAGE || expired == before {
            return Ok(expired);
        }
    }
}

/// Removes every page, code and grant that had ended at `now`.
pub(crate) async fn ended(store: &Store, now: OffsetDateTime) -> Result<(), StoreError> {
    loop {
        let due = store.scan::<Due>(b"", None, PAGE).await?.records;
        let due: Vec<_> = due.into_iter().take_while(|entry| entry.at <= now).collect();
        if due.is_empty() {
            return Ok(());
        }
        for entry in &due {
            let mut reads = store.reads();
            let (mut open_page, mut held, mut assertion) = (None, None, None);
            match entry.what {
                DueKind::Ticket => open_page = reads.get::<Ticket>(&entry.id).await?.map(|ticket| ticket.node_id),
                DueKind::Form => open_page = reads.get::<Form>(&entry.id).await?.map(|form| form.subject.node_id),
                DueKind::Code => held = reads.get::<Code>(&entry.id).await?.as_ref().map(Held::code),
                DueKind::Grant => held = reads.get::<Grant>(&entry.id).await?.as_ref().map(Held::grant),
                DueKind::Assertion => assertion = reads.get::<Spent>(&entry.id).await?,
                DueKind::Opaque => {}
                // Their entries go with them and come with a new time: what is found here has ended.
                DueKind::Session | DueKind::Remembered => {}
            }
            let mut txn = reads.into_txn();
            txn.delete::<Due>(entry.id());
            match entry.what {
                DueKind::Ticket => txn.delete::<Ticket>(&entry.id),
                DueKind::Code => txn.delete::<Code>(&entry.id),
                DueKind::Grant => txn.delete::<Grant>(&entry.id),
                DueKind::Session => txn.delete::<Session>(&entry.id),
                DueKind::Remembered => txn.delete::<Remembered>(&entry.id),
                DueKind::Form => txn.delete::<Form>(&entry.id),
                DueKind::Assertion => txn.delete::<Spent>(&entry.id),
                DueKind::Opaque => txn.delete::<OpaqueToken>(&entry.id),
            }
            if let Some(node_id) = open_page {
                txn.count(&open_pages(&node_id), -1, None);
            }
            if let Some(assertion) = assertion {
                txn.count(&assertions_of(&assertion.client), -1, None);
            }
            if let Some(held) = held {
                txn.delete::<Held>(held.id());
            }
            match store.commit(txn).await {
                Ok(_) => {}
                // It was answered at this moment, which is as well.
                Err(CommitError::Conflict(_)) => return Ok(()),
                Err(CommitError::Store(error)) => return Err(error),
            }
        }
    }
}

async fn expire(store: &Store, entry: &UnusedUntil, now: OffsetDateTime) -> Result<bool, StoreError> {
    let mut reads = store.reads();
    let client = reads.get::<Client>(entry.client.as_str()).await?;
    // A client that was used meanwhile has no such time any more; its entry is a leftover.
    let client = client.filter(|client| client.unused_until.is_some_and(|until| until <= now));
    let mut txn = reads.into_txn();
    txn.delete::<UnusedUntil>(entry.id());
    if let Some(client) = &client {
        txn.delete::<Client>(client.id.as_str());
        txn.delete::<ByOwner>(countersign_store::Record::id(&ByOwner {
            owner: client.owner.clone(),
            client: client.id.clone(),
        }));
        txn.count(&clients_of(&client.owner), -1, None);
        txn.audit(&AuditRecord::own("client_expired", now).about(&client.id))?;
    }
    match store.commit(txn).await {
        Ok(_) => Ok(client.is_some()),
        // It was used or deleted at this moment; the next sweep looks again.
        Err(CommitError::Conflict(_)) => Ok(false),
        Err(CommitError::Store(error)) => Err(error),
    }
}
