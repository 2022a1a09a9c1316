//! Forgets what has ended: clients that never obtained a code or token, forms, codes, grants, old audit records.
//!
//! Most kinds stand in the store in the order in which they end, so a sweep reads what is over and nothing else. Codes
//! and grants have no such entry beside them, which each would pay for when it is made: a walk goes round and round
//! through their tables, a part of each every minute. All of it works in steps of one bounded transaction, with room for
//! requests between them.

use std::time::Duration;

use countersign_oauth::{
    assertion::Spent,
    audit::AuditRecord,
    client::Client,
    form::SpentForm,
    grant::{Code, Grant},
    opaque::OpaqueToken,
    par::Pushed,
    remembered::Remembered,
    session::Session,
};
use countersign_store::{CommitError, Due, DueKind, Record, Store, StoreError, Txn, UnusedUntil};
use time::OffsetDateTime;

use crate::{
    app::App,
    clients,
    config::ServerConfig,
    counters::{Counters, add},
    endpoints::{client_auth::assertions_of, par::pushed_by},
    watch::Ending,
};

const EVERY: Duration = Duration::from_secs(60);
/// Records of one step.
const STEP: usize = 100;
/// Records of one table that a minute's part of the walk passes by: 120,000 an hour. Those that it removes do not count, so that it
/// keeps up with whatever is made.
const PASSED: usize = 2000;
/// Records of one table that it removes at most.
const REMOVED: usize = 50_000;

/// Sweeps for ever.
pub(crate) async fn run(app: &App) {
    let mut walk = Walk::default();
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = once(&app.store, &app.config, &app.counters, &mut walk, app.clock.now()).await {
            tracing::error!(%error, "what has ended could not be removed; it is tried again in a minute");
        }
    }
}

/// Removes everything that was over at `now`; of the codes and grants those that `walk` comes by.
pub(crate) async fn once(
    store: &Store,
    config: &ServerConfig,
    counters: &Counters,
    walk: &mut Walk,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let expired = clients(store, now).await?;
    add(&counters.clients_expired, expired);
    let pruned = audit(store, config, now).await?;
    store.tidy().await;
    add(&counters.audit_pruned, pruned);
    let swept = ended(store, now).await? + walk.go_on(store, now).await?;
    add(&counters.records_swept, swept);
    if expired + swept + pruned > 0 {
        tracing::info!(
            event = "swept",
            clients = expired,
            records = swept,
            audit = pruned,
            "forgotten: {expired} clients that were never used, {swept} forms, codes and grants that had ended, {pruned} \
             audit records beyond audit_retention",
        );
    }
    Ok(())
}

/// Removes every client that was never used in its time; says how many.
pub(crate) async fn clients(store: &Store, now: OffsetDateTime) -> Result<usize, StoreError> {
    let mut expired = 0;
    loop {
        let due = store.scan::<UnusedUntil>(b"", None, STEP).await?.records;
        let due: Vec<_> = due.into_iter().take_while(|entry| entry.at <= now).collect();
        let before = expired;
        for entry in &due {
            expired += usize::from(expire(store, entry, now).await?);
        }
        // A page on which nothing could be done would come back for ever.
        if due.len() < STEP || expired == before {
            return Ok(expired);
        }
    }
}

/// Where the walks through the codes and the grants stand. A new process begins anew.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    codes: Option<Vec<u8>>,
    grants: Option<Vec<u8>>,
}

impl Walk {
    /// Removes the codes and grants that were over at `now` from the next part of each table, or from what is left of it;
    /// says how many.
    pub(crate) async fn go_on(&mut self, store: &Store, now: OffsetDateTime) -> Result<usize, StoreError> {
        let codes = part::<Code>(store, &mut self.codes, now).await?;
        Ok(codes + part::<Grant>(store, &mut self.grants, now).await?)
    }
}

/// Goes on through one table from `behind` on.
async fn part<R: Ending>(
    store: &Store,
    behind: &mut Option<Vec<u8>>,
    now: OffsetDateTime,
) -> Result<usize, StoreError> {
    let (mut passed, mut removed) = (0, 0);
    while passed < PASSED && removed < REMOVED {
        let page = store.scan::<R>(b"", behind.as_deref(), STEP).await?;
        let looked_at = page.records.len();
        let gone = remove(store, &page.records, now).await?;
        passed += looked_at - gone;
        removed += gone;
        *behind = page.next;
        if behind.is_none() {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(removed)
}

/// Removes those of these records that are over; says how many. None when one of them was used at this moment: the walk
/// comes by again.
async fn remove<R: Ending>(store: &Store, records: &[R], now: OffsetDateTime) -> Result<usize, StoreError> {
    let mut reads = store.reads();
    let mut over = Vec::new();
    for record in records.iter().filter(|record| record.due() <= now) {
        let record = reads.get::<R>(record.id()).await?;
        over.extend(record.filter(|record| record.due() <= now));
    }
    if over.is_empty() {
        return Ok(0);
    }
    let mut txn = reads.into_txn();
    for record in &over {
        txn.remove(record);
        record.settle(&mut txn);
    }
    match store.commit(txn).await {
        Ok(_) => Ok(over.len()),
        Err(CommitError::Conflict(_)) => Ok(0),
        Err(CommitError::Store(error)) => Err(error),
    }
}

/// Removes every form, session and token that had ended at `now`; says how many.
pub(crate) async fn ended(store: &Store, now: OffsetDateTime) -> Result<usize, StoreError> {
    let mut swept = 0;
    loop {
        let due = store.scan::<Due>(b"", None, STEP).await?.records;
        let due: Vec<_> = due.into_iter().take_while(|entry| entry.at <= now).collect();
        if due.is_empty() {
            return Ok(swept);
        }
        match forget(store, &due).await {
            Ok(()) => swept += due.len(),
            // One of them is in use at this moment: each by itself then, and that one next time.
            Err(CommitError::Conflict(_)) => {
                let before = swept;
                for entry in &due {
                    match forget(store, std::slice::from_ref(entry)).await {
                        Ok(()) => swept += 1,
                        Err(CommitError::Conflict(_)) => {}
                        Err(CommitError::Store(error)) => return Err(error),
                    }
                }
                if swept == before {
                    return Ok(swept);
                }
            }
            Err(CommitError::Store(error)) => return Err(error),
        }
    }
}

async fn forget(store: &Store, due: &[Due]) -> Result<(), CommitError> {
    let mut txn = Txn::new();
    for entry in due {
        txn.append(match entry.what {
            // They have no such entry: the walk finds them.
            DueKind::Code | DueKind::Grant => Txn::new(),
            DueKind::Session => forgotten::<Session>(store, entry).await?,
            DueKind::Remembered => forgotten::<Remembered>(store, entry).await?,
            DueKind::Form => {
                let mut spent = Txn::new();
                spent.delete::<SpentForm>(&entry.id);
                spent
            }
            DueKind::Assertion => counted(store, entry, |spent: &Spent| assertions_of(&spent.client)).await?,
            DueKind::Pushed => counted(store, entry, |pushed: &Pushed| pushed_by(&pushed.node_id)).await?,
            DueKind::Opaque => forgotten::<OpaqueToken>(store, entry).await?,
        });
        txn.delete::<Due>(entry.id());
    }
    store.commit(txn).await.map(|_| ())
}

async fn forgotten<R: Ending>(store: &Store, entry: &Due) -> Result<Txn, StoreError> {
    let mut reads = store.reads();
    let record = reads.get::<R>(&entry.id).await?;
    let mut txn = reads.into_txn();
    if let Some(record) = record {
        txn.remove(&record);
        record.settle(&mut txn);
    }
    Ok(txn)
}

/// Forgets a record that one of the counters counts.
async fn counted<R: Record>(store: &Store, entry: &Due, counter: impl Fn(&R) -> String) -> Result<Txn, StoreError> {
    let mut reads = store.reads();
    let record = reads.get::<R>(&entry.id).await?;
    let mut txn = reads.into_txn();
    if let Some(record) = record {
        txn.delete::<R>(&entry.id);
        txn.count(&counter(&record), -1, None);
    }
    Ok(txn)
}

/// Removes audit records older than the retention, and the oldest beyond the number that is kept; says how many.
pub(crate) async fn audit(store: &Store, config: &ServerConfig, now: OffsetDateTime) -> Result<usize, StoreError> {
    let retention = time::Duration::try_from(config.audit_retention).ok();
    let oldest = retention.and_then(|retention| now.checked_sub(retention));
    let oldest = oldest.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut pruned = 0;
    loop {
        let excess = store.audit_count().await?.saturating_sub(config.limits.audit_records);
        let excess = usize::try_from(excess).unwrap_or(STEP);
        let is_old =
            |line: &String| serde_json::from_str::<AuditRecord>(line).map_or(true, |record| record.at < oldest);
        let mut txn = Txn::new();
        let mut step = 0;
        for lines in store.oldest_audit(STEP).await? {
            if step + lines.lines.len() > excess && !lines.lines.iter().all(is_old) {
                break;
            }
            step += lines.lines.len();
            txn.forget_audit(&lines);
        }
        if step == 0 {
            return Ok(pruned);
        }
        match store.commit(txn).await {
            Ok(_) => pruned += step,
            Err(CommitError::Conflict(_)) => return Ok(pruned),
            Err(CommitError::Store(error)) => return Err(error),
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
        clients::forget(&mut txn, client);
        txn.audit(&AuditRecord::own("client_expired", now).about(&client.id))?;
    }
    match store.commit(txn).await {
        Ok(_) => Ok(client.is_some()),
        // It was used or deleted at this moment; the next sweep looks again.
        Err(CommitError::Conflict(_)) => Ok(false),
        Err(CommitError::Store(error)) => Err(error),
    }
}
