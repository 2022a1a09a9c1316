//! How each kind of record ends.

use countersign_oauth::{
    audit::AuditRecord,
    footing::{Footing, Rests, Verdict},
    grant::{Code, Grant},
    opaque::OpaqueToken,
    remembered::Remembered,
    session::Session,
};
use countersign_store::{Due, DueKind, Reads, Record, StoreError, Txn};
use time::OffsetDateTime;

use super::{Sight, Watcher};

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

    /// What else goes with the record.
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

    /// It stays as spent: its ticket is answered, whatever became of the answer.
    fn end(&self, txn: &mut Txn) -> Result<(), StoreError> {
        txn.put(&Self {
            spent: true,
            ..self.clone()
        })
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
        txn.count(&Self::counter(&self.authorization.subject.owner), -1, None);
    }

    /// It stays for a while, as one that its owner took back: the record shows that the question was answered from which
    /// it came.
    fn end(&self, txn: &mut Txn) -> Result<(), StoreError> {
        txn.put(&Self {
            revoked: true,
            ..self.clone()
        })
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
        reason: String,
        now: OffsetDateTime,
    ) -> Result<Self, StoreError> {
        let mut txn = reads.into_txn();
        let what = if record.narrow(scopes) {
            txn.put(&record)?;
            "narrowed"
        } else {
            record.end(&mut txn)?;
            "ended"
        };
        Self::of(txn, about::<R>(what, &record.footing(), now).with_detail(reason))
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

/// Reads a record and decides about it.
pub(super) async fn sight(
    watcher: &mut Watcher,
    kind: DueKind,
    id: &str,
    now: OffsetDateTime,
) -> Result<Sight, StoreError> {
    match kind {
        DueKind::Code => of::<Code>(watcher, id, now).await,
        DueKind::Grant => of::<Grant>(watcher, id, now).await,
        DueKind::Session => of::<Session>(watcher, id, now).await,
        DueKind::Remembered => of::<Remembered>(watcher, id, now).await,
        DueKind::Opaque => of::<OpaqueToken>(watcher, id, now).await,
        // Not in the index.
        DueKind::Form | DueKind::Assertion | DueKind::Pushed => Ok(Sight::Stands),
    }
}

async fn of<R: Ending>(watcher: &mut Watcher, id: &str, now: OffsetDateTime) -> Result<Sight, StoreError> {
    let store = watcher.app.store.clone();
    let mut reads = store.reads();
    let record = reads.get::<R>(id).await?;
    let Some(record) = record.filter(|record| record.is_open(now)) else {
        return Ok(Sight::Moved(reads.into_txn()));
    };
    let loss = match watcher.judge(&record, now) {
        Verdict::Stands => return Ok(Sight::Stands),
        Verdict::Ends(why) => {
            let why = with_rule(why, watcher.rule_behind(&record, now));
            Loss::ended(reads, &record, why, now)?
        }
        Verdict::Narrowed(scopes) => {
            let had = record.footing().scopes.iter();
            let lost: Vec<_> = had.filter(|scope| !scopes.contains(scope)).cloned().collect();
            let why = format!("the tailnet policy withdrew the scopes {}", lost.join(" "));
            let why = with_rule(why, watcher.rule_behind(&record, now));
            Loss::narrowed(reads, record, scopes, why, now)?
        }
    };
    Ok(Sight::Lost(Box::new(loss)))
}

fn with_rule(why: String, rule: Option<String>) -> String {
    match rule {
        Some(rule) => format!("{why}; {rule}"),
        None => why,
    }
}
