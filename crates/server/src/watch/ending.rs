//! How each kind of record ends.

use countersign_oauth::{
    audit::AuditRecord,
    caller::Owner,
    client::{Client, ClientId},
    footing::{Footing, Rests, Verdict},
    grant::{Code, Grant},
    opaque::OpaqueToken,
    remembered::Remembered,
    session::Session,
};
use countersign_store::{Anchor, CommitError, Due, DueKind, Found, Held, Reads, Record, StoreError, Txn};
use time::OffsetDateTime;

use super::{PAGE, Sight, Watcher};
use crate::{app::App, counters::bump};

/// A record that can be ended.
pub(crate) trait Ending: Record + Rests + Sized {
    /// What it is called in the log and the audit trail.
    const NAME: &'static str;

    /// Whether there is anything left of it to end.
    fn is_open(&self, now: OffsetDateTime) -> bool;

    /// When the sweep would have come for it.
    fn due(&self) -> OffsetDateTime;

    /// The kind of its entry for the sweep.
    const KIND: DueKind;

    /// What else goes with it.
    fn settle(&self, _txn: &mut Txn) {}

    /// Writes its end.
    ///
    /// # Errors
    /// [`StoreError::Record`] for a record that has no JSON form.
    fn end(&self, txn: &mut Txn) -> Result<(), StoreError> {
        txn.remove(self);
        txn.delete::<Due>(
            Due {
                at: self.due(),
                what: Self::KIND,
                id: String::from_utf8_lossy(&self.id()).into_owned(),
            }
            .id(),
        );
        self.settle(txn);
        Ok(())
    }
}

impl Ending for Code {
    const NAME: &'static str = "code";
    const KIND: DueKind = DueKind::Code;

    fn is_open(&self, now: OffsetDateTime) -> bool {
        !self.spent && now < self.expires_at
    }

    fn due(&self) -> OffsetDateTime {
        self.forgotten_at()
    }

    fn settle(&self, txn: &mut Txn) {
        txn.delete::<Held>(Held::code(self).id());
    }

    /// It stays as spent: its ticket is answered, whatever became of the answer.
    fn end(&self, txn: &mut Txn) -> Result<(), StoreError> {
        txn.put(&Self {
            spent: true,
            ..self.clone()
        })?;
        self.settle(txn);
        Ok(())
    }
}

impl Ending for Grant {
    const NAME: &'static str = "grant";
    const KIND: DueKind = DueKind::Grant;

    fn is_open(&self, now: OffsetDateTime) -> bool {
        self.is_live(now)
    }

    fn due(&self) -> OffsetDateTime {
        self.forgotten_at()
    }

    fn settle(&self, txn: &mut Txn) {
        txn.delete::<Held>(Held::grant(self).id());
    }
}

impl Ending for OpaqueToken {
    const NAME: &'static str = "opaque_token";
    const KIND: DueKind = DueKind::Opaque;

    fn is_open(&self, now: OffsetDateTime) -> bool {
        now < self.expires_at
    }

    fn due(&self) -> OffsetDateTime {
        self.expires_at
    }

    fn settle(&self, txn: &mut Txn) {
        txn.count(&self.counter(), -1, None);
    }
}

impl Ending for Session {
    const NAME: &'static str = "session";
    const KIND: DueKind = DueKind::Session;

    fn is_open(&self, now: OffsetDateTime) -> bool {
        now < self.expires_at
    }

    fn due(&self) -> OffsetDateTime {
        self.expires_at
    }
}

impl Ending for Remembered {
    const NAME: &'static str = "remembered_consent";
    const KIND: DueKind = DueKind::Remembered;

    fn is_open(&self, now: OffsetDateTime) -> bool {
        now < self.expires_at
    }

    fn due(&self) -> OffsetDateTime {
        self.expires_at
    }
}

/// The end of a record, or of a part of it: what is written, and what is said when it is.
pub(super) struct Loss {
    audit: AuditRecord,
    txn: Txn,
}

impl Loss {
    /// `record`, which `reads` read, ends.
    fn ended<R: Ending>(reads: Reads<'_>, record: &R, reason: String, now: OffsetDateTime) -> Result<Self, StoreError> {
        let mut txn = reads.into_txn();
        record.end(&mut txn)?;
        Self::of(txn, about::<R>("ended", &record.footing(), now).with_detail(reason))
    }

    /// `record` loses every scope but these, or ends if it stands or falls as a whole.
    fn narrowed<R: Ending>(
        reads: Reads<'_>,
        mut record: R,
        scopes: Vec<String>,
        now: OffsetDateTime,
    ) -> Result<Self, StoreError> {
        let had = record.footing().scopes.iter();
        let lost: Vec<_> = had.filter(|scope| !scopes.contains(scope)).cloned().collect();
        let mut txn = reads.into_txn();
        let what = if record.narrow(scopes) {
            txn.put(&record)?;
            "narrowed"
        } else {
            record.end(&mut txn)?;
            "ended"
        };
        let detail = format!("the tailnet policy withdrew the scopes {}", lost.join(" "));
        Self::of(txn, about::<R>(what, &record.footing(), now).with_detail(detail))
    }

    fn of(mut txn: Txn, audit: AuditRecord) -> Result<Self, StoreError> {
        txn.audit(&audit)?;
        Ok(Self { audit, txn })
    }

    /// What is written; what is left says it.
    pub(super) fn take(&mut self) -> Txn {
        std::mem::take(&mut self.txn)
    }

    /// Says in the log what was written.
    pub(super) fn log(&self) {
        let audit = &self.audit;
        let client = audit.client.as_ref().map_or("", |client| client.as_str());
        tracing::info!(
            event = audit.event,
            user = audit.user,
            node_id = audit.node_id,
            client,
            reason = audit.detail,
            "{} of {} for the client {client}: {}",
            audit.event.replace('_', " "),
            audit.user,
            audit.detail,
        );
    }
}

fn about<R: Ending>(what: &str, footing: &Footing<'_>, now: OffsetDateTime) -> AuditRecord {
    let mut audit = AuditRecord::own(&format!("{}_{what}", R::NAME), now);
    footing.label.clone_into(&mut audit.user);
    footing.node_id.clone_into(&mut audit.node_id);
    audit.client = footing.client.cloned();
    audit
}

/// Reads one entry of the index and decides about its record.
pub(super) async fn sight(watcher: &mut Watcher, found: &Found, now: OffsetDateTime) -> Result<Sight, StoreError> {
    match found.kind {
        DueKind::Code => of::<Code>(watcher, found, now).await,
        DueKind::Grant => of::<Grant>(watcher, found, now).await,
        DueKind::Session => of::<Session>(watcher, found, now).await,
        DueKind::Remembered => of::<Remembered>(watcher, found, now).await,
        DueKind::Opaque => of::<OpaqueToken>(watcher, found, now).await,
        // Not in the index.
        DueKind::Form | DueKind::Assertion | DueKind::Pushed => Ok(Sight::Stands),
    }
}

async fn of<R: Ending>(watcher: &mut Watcher, found: &Found, now: OffsetDateTime) -> Result<Sight, StoreError> {
    let store = watcher.app.store.clone();
    let mut reads = store.reads();
    let record = reads.get::<R>(&found.id).await?;
    let Some(record) = record.filter(|record| record.is_open(now)) else {
        return Ok(Sight::Moved);
    };
    match watcher.judge(&record, now) {
        Verdict::Stands => Ok(Sight::Stands),
        Verdict::Narrowed(scopes) => Ok(Sight::Lost(Box::new(Loss::narrowed(reads, record, scopes, now)?))),
        Verdict::Ends(reason) => Ok(Sight::Lost(Box::new(Loss::ended(reads, &record, reason, now)?))),
    }
}

/// Which grants of a client end with it.
pub(crate) enum Whose<'a> {
    /// All: the client was deleted. Its codes are worth nothing without it.
    Everybody,
    /// Those that an administrator's publication gave to others than the owner.
    OthersThan(&'a Owner),
}

/// Ends grants of a client whose record no longer carries them; says how many.
///
/// # Errors
/// [`StoreError`]; what was ended until then stays so.
pub(crate) async fn end_of_client(
    app: &App,
    client: &ClientId,
    whose: &Whose<'_>,
    now: OffsetDateTime,
) -> Result<usize, StoreError> {
    // Somebody else's client is not deleted by whoever asked for it.
    let stands = app.store.reads().get::<Client>(client.as_str()).await?.is_some();
    if stands && matches!(whose, Whose::Everybody) {
        return Ok(0);
    }
    let anchor = Anchor::Client(client.as_str());
    let reason = match whose {
        Whose::Everybody => "its client was deleted",
        Whose::OthersThan(_) => "its client is no longer published",
    };
    let mut ended = 0;
    let mut position = None;
    loop {
        let page = app.store.resting_on(&anchor, position.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(ended) };
        position = Some(last.position.clone());
        for found in &page {
            let mut reads = app.store.reads();
            let grant = reads.get::<Grant>(&found.id).await?.filter(|grant| {
                let authorization = &grant.authorization;
                match whose {
                    Whose::Everybody => true,
                    Whose::OthersThan(owner) => {
                        authorization.subject.owner != **owner && authorization.published_by.is_none()
                    }
                }
            });
            let Some(grant) = grant else { continue };
            let mut loss = Loss::ended(reads, &grant, reason.into(), now)?;
            match app.store.commit(loss.take()).await {
                Ok(_) => {
                    ended += 1;
                    bump(&app.counters.records_ended);
                    loss.log();
                }
                // It was refreshed at this moment, for the last time.
                Err(CommitError::Conflict(_)) => position = None,
                Err(CommitError::Store(error)) => return Err(error),
            }
        }
    }
}
