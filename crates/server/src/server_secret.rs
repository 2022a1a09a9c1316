//! The server's own secret in the store: made at first start, read at every later one.
//!
//! It is one record beside the issuer. What was derived from it (tickets of open pages, names of grants) is good across
//! restarts, so it is never replaced.

use countersign_oauth::{audit::AuditRecord, server_secret::ServerSecret};
use countersign_store::{CommitError, Record, Store, StoreError};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::clock;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The record cannot be read.
    #[error("the server's secret in the store cannot be used; restore the state folder from a backup")]
    Unusable,
    /// Another process made one at the same moment.
    #[error("the server's secret was made at the same moment by another process; start again")]
    Raced,
    /// The system gave no random bytes.
    #[error("the system has no random bytes for the server's secret: {0}")]
    Entropy(#[from] getrandom::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The secret as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "crate::wiped")]
    secret: Zeroizing<String>,
}

impl Record for Stored {
    const TABLE: &'static str = "server";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        ID.into()
    }
}

const ID: &[u8] = b"secret";

/// The stored secret; a new one, which is stored then, at first start.
///
/// # Errors
/// [`SecretError`]; no page can be shown and no code redeemed then.
pub(crate) async fn open(store: &Store, now: OffsetDateTime) -> Result<ServerSecret, SecretError> {
    let mut reads = store.reads();
    if let Some(stored) = reads.get::<Stored>(ID).await? {
        return ServerSecret::from_text(&stored.secret).ok_or(SecretError::Unusable);
    }
    let secret = ServerSecret::draw(&mut clock::rng()?);
    let mut txn = reads.into_txn();
    txn.put(&Stored {
        secret: secret.to_text(),
    })?;
    txn.audit(&AuditRecord::own("server_secret_made", now))?;
    match store.commit(txn).await {
        Ok(_) => Ok(secret),
        Err(CommitError::Conflict(_)) => Err(SecretError::Raced),
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

    #[tokio::test]
    async fn it_is_made_once() {
        let store = Store::in_memory().unwrap();
        let first = open(&store, NOW).await.unwrap().to_text();
        assert_eq!(open(&store, NOW).await.unwrap().to_text(), first);
        let other = Store::in_memory().unwrap();
        assert_ne!(open(&other, NOW).await.unwrap().to_text(), first);
        assert_eq!(store.audit_count().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_damaged_one_is_not_replaced() {
        let store = Store::in_memory().unwrap();
        let mut txn = store.reads().into_txn();
        txn.put(&Stored {
            secret: Zeroizing::new("short".into()),
        })
        .unwrap();
        store.commit(txn).await.unwrap();
        let error = open(&store, NOW).await.unwrap_err();
        assert!(error.to_string().contains("backup"), "{error}");
    }
}
