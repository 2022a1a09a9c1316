//! The keys that sign tokens: kept in the store, published as a JWK set, replaced by themselves.
//!
//! `countersign_oauth::rotation` plans; [`Keys::tend`] makes one step after the other durable, each with its audit
//! record, and only then shows it: a key is published once it cannot be lost. What requests see is a snapshot, read
//! without a lock. A start makes the keys that are cheap to make; the first RSA key comes a little later, or as soon
//! as somebody needs it.

mod jwk;
mod stored;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use countersign_oauth::{
    audit::AuditRecord,
    rotation::{self, Facts, Phase, Schedule, Step},
    signing::SigningAlg,
};
use countersign_store::{CommitError, Store, StoreError, Txn};
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::{Mutex, Notify, watch};

use self::stored::Stored;
use crate::{
    clock::Clock,
    signer::{SignError, Signer, Type, Verifier, verify},
    verified::Verified,
};

/// How often the plan is asked. Keys are published for at least half an hour before they sign.
const EVERY: Duration = Duration::from_secs(60);
/// The first RSA key waits this long, so that a start has the processor for itself.
const RSA_WAITS: Duration = Duration::from_secs(2);
/// How long a request waits for a key that is being made.
const PATIENCE: Duration = Duration::from_secs(10);
/// More keys than any plan leaves.
const MOST: usize = 256;
/// What a start makes and looks after; the task does so for all.
const CHEAP: [SigningAlg; 2] = [SigningAlg::Es256, SigningAlg::EdDsa];

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A stored key cannot be read.
    #[error("the signing key {0} cannot be used; restore the state folder from a backup")]
    Unusable(String),
    /// The library refused to make one.
    #[error("a signing key for {} could not be made", .0.as_str())]
    Made(SigningAlg),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys of a running server.
pub(crate) struct Keys {
    ring: ArcSwap<Ring>,
    schedule: Schedule,
    /// One hand at a time: two would both make a key that is missing, and the slower one would show what it read earlier.
    tending: Mutex<()>,
    /// Somebody waits for a key that does not exist yet.
    wanted: Notify,
    /// Told after each new snapshot.
    changed: watch::Sender<()>,
}

/// A snapshot of the keys, parsed once.
#[derive(Default)]
struct Ring {
    facts: Vec<Facts>,
    signers: Vec<Arc<Signer>>,
    verifiers: HashMap<String, (Verifier, Phase)>,
    jwks: Bytes,
    /// Access tokens that these keys were asked about.
    verified: Verified,
}

impl Keys {
    /// The stored keys, after everything that fell due while nobody looked.
    ///
    /// # Errors
    /// [`KeyError`]; nothing can be signed then.
    pub(crate) async fn open(store: &Store, schedule: Schedule, now: OffsetDateTime) -> Result<Self, KeyError> {
        let keys = Self {
            ring: ArcSwap::default(),
            schedule,
            tending: Mutex::default(),
            wanted: Notify::new(),
            changed: watch::Sender::new(()),
        };
        keys.tend(store, &CHEAP, now).await?;
        Ok(keys)
    }

    /// Looks after the keys for ever.
    pub(crate) async fn run(&self, store: &Store, clock: &Clock) {
        let mut pause = RSA_WAITS;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
            pause = EVERY;
            if let Err(error) = self.tend(store, &SigningAlg::ALL, clock.now()).await {
                tracing::error!(%error, "the signing keys could not be looked after");
            }
        }
    }

    /// Takes every step that is due at `now` for `algs`, then shows the keys as they are stored.
    ///
    /// # Errors
    /// [`KeyError`]; the steps before it are taken, and the next call goes on from there.
    pub(crate) async fn tend(&self, store: &Store, algs: &[SigningAlg], now: OffsetDateTime) -> Result<(), KeyError> {
        let _alone = self.tending.lock().await;
        if rotation::next_step(&self.ring.load().facts, algs, &self.schedule, now).is_none() {
            return Ok(());
        }
        // From here on the store is asked: an earlier call may have failed after some of its steps.
        while let Some(step) = rotation::next_step(&facts(&load(store).await?), algs, &self.schedule, now) {
            take(store, step, now).await?;
        }
        self.ring.store(Arc::new(Ring::of(&load(store).await?)?));
        self.changed.send_replace(());
        Ok(())
    }

    /// The key that signs with `alg` now, awaited if it is still being made.
    ///
    /// # Errors
    /// [`SignError`] when it does not come.
    pub(crate) async fn signer(&self, alg: SigningAlg) -> Result<Arc<Signer>, SignError> {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(signer) = self.ring.load().signers.iter().find(|signer| signer.alg() == alg) {
                return Ok(Arc::clone(signer));
            }
            self.wanted.notify_one();
            match tokio::time::timeout(PATIENCE, changed.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(SignError("its key is not there yet")),
            }
        }
    }

    /// The claims of an access token that one of our published keys signed.
    pub(crate) fn access_claims(&self, token: &str) -> Option<Arc<[u8]>> {
        let ring = self.ring.load();
        let check = || {
            verify(Type::AccessToken, token, |kid| {
                let (verifier, phase) = ring.verifiers.get(kid)?;
                phase.is_published().then_some(verifier)
            })
        };
        ring.verified.claims(token, check)
    }

    /// The claims of an id_token of ours, however old, as an `id_token_hint` may be one: any key counts that is
    /// still remembered.
    pub(crate) fn id_claims(&self, token: &str) -> Option<Vec<u8>> {
        let ring = self.ring.load();
        verify(Type::IdToken, token, |kid| Some(&ring.verifiers.get(kid)?.0))
    }

    /// The JWK set (RFC 7517 5) of the public halves.
    pub(crate) fn jwks(&self) -> Bytes {
        self.ring.load().jwks.clone()
    }

    /// Whether every algorithm has its key: before that, nobody should keep the JWK set.
    pub(crate) fn is_complete(&self) -> bool {
        self.ring.load().signers.len() == SigningAlg::ALL.len()
    }
}

impl Ring {
    fn of(stored: &[Stored]) -> Result<Self, KeyError> {
        let mut ring = Self::default();
        let mut published = Vec::new();
        for key in stored {
            let (signer, public) = key.halves()?;
            if key.phase.is_published() {
                published.push(jwk::jwk(&key.kid, key.alg, &public).map_err(|_| key.unusable())?);
            }
            let verifier = Verifier::new(key.alg, &public).map_err(|_| key.unusable())?;
            ring.verifiers.insert(key.kid.clone(), (verifier, key.phase));
            if let (Some(signer), Phase::Signing(_)) = (signer, key.phase) {
                ring.signers.push(Arc::new(signer));
            }
            ring.facts.push(key.facts());
        }
        // A reader that cannot choose by kid takes the first key, at best the first of its kind: one that signs, and the
        // default before the others.
        published.sort_by_key(|jwk| ring.place(jwk["kid"].as_str()));
        ring.jwks = json!({ "keys": published }).to_string().into();
        Ok(ring)
    }

    fn place(&self, kid: Option<&str>) -> (bool, Option<usize>) {
        let key = self.facts.iter().find(|key| Some(key.kid.as_str()) == kid);
        (
            !key.is_some_and(|key| matches!(key.phase, Phase::Signing(_))),
            key.and_then(|key| SigningAlg::ALL.iter().position(|alg| *alg == key.alg)),
        )
    }
}

async fn load(store: &Store) -> Result<Vec<Stored>, StoreError> {
    Ok(store.scan::<Stored>(b"", None, MOST).await?.records)
}

fn facts(stored: &[Stored]) -> Vec<Facts> {
    stored.iter().map(Stored::facts).collect()
}

/// Makes one step durable. When another hand was quicker nothing happens: the plan is made again.
async fn take(store: &Store, step: Step, now: OffsetDateTime) -> Result<(), KeyError> {
    let (txn, event, kid) = match step {
        Step::Make(alg, phase) => {
            let made = tokio::task::spawn_blocking(move || Stored::make(alg, phase, now));
            let key = made.await.map_err(|_| KeyError::Made(alg))??;
            let mut txn = Txn::new();
            txn.expect_absent::<Stored>(&key.kid);
            txn.put(&key)?;
            (txn, "signing_key_made", key.kid)
        }
        Step::Activate { next, former } => {
            let mut reads = store.reads();
            let next_key = reads.get::<Stored>(&next).await?;
            let former = match former {
                Some(kid) => reads.get::<Stored>(&kid).await?,
                None => None,
            };
            let mut txn = reads.into_txn();
            if let Some(key) = next_key {
                txn.put(&Stored {
                    phase: Phase::Signing(now),
                    ..key
                })?;
            }
            if let Some(key) = former {
                txn.put(&key.retired(now)?)?;
            }
            (txn, "signing_key_activated", next)
        }
        Step::Withdraw(kid) => {
            let mut reads = store.reads();
            let key = reads.get::<Stored>(&kid).await?;
            let mut txn = reads.into_txn();
            if let Some(key) = key
                && let Phase::Retired(at) = key.phase
            {
                txn.put(&Stored {
                    phase: Phase::Remembered(at),
                    ..key
                })?;
            }
            (txn, "signing_key_withdrawn", kid)
        }
        Step::Forget(kid) => {
            let mut txn = Txn::new();
            txn.delete::<Stored>(&kid);
            (txn, "signing_key_forgotten", kid)
        }
    };
    commit(store, txn, event, kid, now).await
}

async fn commit(
    store: &Store,
    mut txn: Txn,
    event: &'static str,
    kid: String,
    now: OffsetDateTime,
) -> Result<(), KeyError> {
    txn.audit(&AuditRecord::own(event, now).with_detail(kid.as_str()))?;
    match store.commit(txn).await {
        Ok(_) => {
            tracing::info!(event, kid, "{event}: {kid}");
            Ok(())
        }
        Err(CommitError::Conflict(_)) => Ok(()),
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}

/// A key that no store has.
#[cfg(test)]
pub(crate) fn made_for_tests(kid: &str, alg: SigningAlg) -> Signer {
    let key = Stored::make(
        alg,
        Phase::Signing(OffsetDateTime::UNIX_EPOCH),
        OffsetDateTime::UNIX_EPOCH,
    )
    .unwrap();
    let key = Stored {
        kid: kid.to_owned(),
        ..key
    };
    key.halves().unwrap().0.unwrap()
}
