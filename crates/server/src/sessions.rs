//! Sessions and remembered consents in the store: found for a request, kept by a click, bounded in number.

use countersign_oauth::{
    authorize::Request,
    caller::Caller,
    remembered::{self, MAX_REMEMBERED, Remembered},
    secret::SecretHash,
    session::{MAX_SESSIONS, Session},
    subject::Subject,
};
use countersign_store::{Due, DueKind, Reads, Record as _, Store, StoreError, Txn, held_by, held_id};
use http::HeaderMap;
use time::OffsetDateTime;

use crate::{app::App, cookie::Cookie};

/// The session that the browser's cookie names, if it is one of `caller`'s at this node. Another's cookie finds nothing:
/// the record is looked for under the Caller's own name.
pub(crate) async fn of_browser(
    app: &App,
    reads: &mut Reads<'_>,
    headers: &HeaderMap,
    caller: &Caller,
) -> Result<Option<Session>, StoreError> {
    match Cookie::of_session(app.config.issuer.is_https()).find(headers) {
        Some(secret) => {
            let name = SecretHash::of(&secret).to_text();
            reads.get(held_id(&Subject::of(caller), &name)).await
        }
        None => Ok(None),
    }
}

/// The consent of `caller` to exactly this request, if one is remembered.
pub(crate) async fn consent_to(
    reads: &mut Reads<'_>,
    request: &Request,
    caller: &Caller,
) -> Result<Option<Remembered>, StoreError> {
    let id = held_id(&Subject::of(caller), &remembered::mark_of(request));
    reads.get(id).await
}

/// Keeps a new session in place of `before`, and of the oldest one when its user has too many on this node.
pub(crate) async fn keep_session(
    store: &Store,
    txn: &mut Txn,
    session: &Session,
    before: Option<&Session>,
) -> Result<(), StoreError> {
    if let Some(before) = before {
        end_session(txn, before);
    } else {
        let others: Vec<Session> = of_subject(store, &session.subject, MAX_SESSIONS).await?;
        if others.len() >= MAX_SESSIONS
            && let Some(oldest) = others.iter().min_by_key(|session| session.expires_at)
        {
            end_session(txn, oldest);
        }
    }
    txn.put(session)?;
    txn.put(&due(DueKind::Session, session.id(), session.expires_at))
}

/// Ends a session.
pub(crate) fn end_session(txn: &mut Txn, session: &Session) {
    txn.remove(session);
    txn.delete::<Due>(due(DueKind::Session, session.id(), session.expires_at).id());
}

/// Remembers a consent, in place of the oldest one when its user has too many on this node.
pub(crate) async fn keep_consent(store: &Store, txn: &mut Txn, consent: &Remembered) -> Result<(), StoreError> {
    let others: Vec<Remembered> = of_subject(store, &consent.subject, MAX_REMEMBERED).await?;
    let same = others.iter().find(|other| other.id() == consent.id());
    let oldest = others.iter().min_by_key(|other| other.expires_at);
    let replaced = same.or_else(|| oldest.filter(|_| others.len() >= MAX_REMEMBERED));
    if let Some(replaced) = replaced {
        forget_consent(txn, replaced);
    }
    txn.put(consent)?;
    txn.put(&due(DueKind::Remembered, consent.id(), consent.expires_at))
}

/// Forgets a consent.
pub(crate) fn forget_consent(txn: &mut Txn, consent: &Remembered) {
    txn.remove(consent);
    txn.delete::<Due>(due(DueKind::Remembered, consent.id(), consent.expires_at).id());
}

async fn of_subject<R: countersign_store::Record>(
    store: &Store,
    subject: &Subject,
    limit: usize,
) -> Result<Vec<R>, StoreError> {
    let prefix = held_by(&subject.owner, Some(&subject.node_id));
    Ok(store.scan::<R>(&prefix, None, limit).await?.records)
}

fn due(what: DueKind, id: Vec<u8>, at: OffsetDateTime) -> Due {
    Due {
        at,
        what,
        // Ids of both tables are text.
        id: String::from_utf8_lossy(&id).into_owned(),
    }
}
