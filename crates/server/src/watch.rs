//! Ends what rested on what the tailnet has withdrawn.
//!
//! Each change of the netmap comes in, and every session, code and grant whose user, node, tag or rule is gone is ended
//! in the store, with an audit record, so that nothing comes back when the rule does. A use between the change and its
//! end is refused as ever, because each use asks the netmap itself. A consent page is not in the store: its answer is a
//! use.
//!
//! The store names the nodes that records rest on: by an index, and for codes and grants by their ids. What the netmap
//! says about each is compared with what it said when its records were last looked at, and only the records of nodes for
//! which that differs are read. The first look, before anything is served, knows of no earlier one and so finds what
//! changed while the process was down.
//!
//! A rule that goes and comes back between two looks, a fifth of a second apart unless there is much to end, ends nothing,
//! and that is meant: every use meanwhile was refused, and what carries the records now is letter for letter what carried
//! them before. What came back different in any way is looked at as any other change.
//!
//! A request that decides while this runs cannot slip through. Whatever it spends (a code, a refresh token) is looked at,
//! codes before grants, and one of the two transactions conflicts. What a request makes of nothing but the netmap is
//! reported by [`Steady`].

mod ending;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use countersign_oauth::{
    authorize::Rules,
    footing::{Earlier, Footing, Ground, Presence, Verdict, judge, rule_behind},
    grant::{Code, Grant, NodeTag},
};
use countersign_store::{CommitError, DueKind, StoreError, Txn};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

pub(crate) use self::ending::Ending;
use self::ending::Loss;
use crate::{app::App, clock, counters::bump};

/// Rules end by themselves and a look may have failed: everything is compared this often, whatever happens.
const EVERY: Duration = Duration::from_secs(60);
/// Records that are read at once.
const PAGE: usize = 100;
/// What is ended at once, in bytes: each write is synced to disk, which takes as long as to judge a hundred records.
const WRITE: usize = 1 << 20;
/// After that many walks over a node whose records keep moving, the rest is left to the next change or minute.
const ROUNDS: usize = 8;
/// Nodes whose facts are kept between two records.
const KEPT: usize = 1024;
/// Nodes in doubt that are remembered; beyond that all are looked at.
const MAX_DOUBTS: usize = 1024;
/// The longest pause after a look.
const PAUSE: Duration = Duration::from_millis(200);

/// Nodes whose records have to be looked at, whatever the netmap says about them.
#[derive(Default)]
pub(crate) struct Doubts {
    nodes: Mutex<BTreeSet<String>>,
    wake: Notify,
}

impl Doubts {
    /// The records of this node are to be read at the next look.
    pub(crate) fn add(&self, node_id: &str) {
        let mut nodes = self.nodes.lock();
        if nodes.len() <= MAX_DOUBTS {
            nodes.insert(node_id.to_owned());
        }
    }

    pub(crate) fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.nodes.lock())
    }
}

/// One request, for what it may make of nothing but the netmap. At its end, also when its client hangs up, its node is in
/// doubt: at once if the netmap changed meanwhile, and otherwise at the next look, because the netmap may change twice
/// until then and look as it did before the request.
pub(crate) struct Steady<'a> {
    app: &'a App,
    node_id: String,
    version: u64,
    makes: bool,
}

impl<'a> Steady<'a> {
    /// To be made with the `version` that was read before the facts about the node. `makes` says whether the request may
    /// make a record out of nothing but the netmap; all others are made of one that is in the index.
    pub(crate) fn new(app: &'a App, node_id: &str, version: u64, makes: bool) -> Self {
        let node_id = node_id.to_owned();
        Self {
            app,
            node_id,
            version,
            makes,
        }
    }
}

impl Drop for Steady<'_> {
    fn drop(&mut self) {
        let changed = self.app.netmap_version() != self.version;
        if self.makes || changed {
            self.app.doubts.add(&self.node_id);
        }
        if changed {
            self.app.doubts.wake.notify_one();
        }
    }
}

/// What was known of a node when its records were last looked at.
struct Seen {
    /// See [`Directory::mark`](crate::Directory::mark).
    mark: u64,
    /// When a rule of it ends by itself.
    until: Option<OffsetDateTime>,
    /// Its rules, for the audit trail of what they carry no longer.
    rules: Option<Earlier>,
    /// The look at which it still had records.
    look: u64,
}

/// Looks at what rests on the tailnet. One for each server.
pub(crate) struct Watcher {
    app: Arc<App>,
    changes: watch::Receiver<u64>,
    seen: HashMap<String, Seen>,
    facts: HashMap<String, Arc<Presence>>,
    look: u64,
}

impl Watcher {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self {
            changes: app.directory.changes(),
            app,
            seen: HashMap::new(),
            facts: HashMap::new(),
            look: 0,
        }
    }

    /// Looks after each change, for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let app = Arc::clone(&self.app);
            tokio::select! {
                // An error means that the node has stopped: there is no netmap to compare with any more.
                Ok(()) = self.changes.changed() => {}
                () = app.doubts.wake.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            let begun = clock::monotonic();
            let looked = self.look(self.app.clock.now()).await;
            let took = clock::monotonic().saturating_duration_since(begun);
            match looked {
                Ok(0) => {}
                Ok(ended) => tracing::info!(
                    event = "records_ended",
                    ended,
                    milliseconds = took.as_millis(),
                    "the tailnet withdrew what {ended} records rested on"
                ),
                Err(error) => {
                    tracing::error!(%error, "what rests on the tailnet could not be looked at; it is tried again");
                    self.seen.clear();
                    app.doubts.wake.notify_one();
                    tokio::time::sleep(PAUSE).await;
                }
            }
            // In a tailnet that never rests, at most a fifth of the time goes into this.
            tokio::time::sleep((took * 4).min(PAUSE)).await;
        }
    }

    /// Ends what the netmap no longer carries at `now`; says how many records.
    ///
    /// # Errors
    /// [`StoreError`]; what was ended until then stays so.
    pub(crate) async fn look(&mut self, now: OffsetDateTime) -> Result<usize, StoreError> {
        // Before anything is read, so that a change during the look brings another.
        self.changes.mark_unchanged();
        let doubts = self.app.doubts.take();
        self.look += 1;
        let mut batch = Batch::default();
        let mut nodes = 0_u32;
        let mut after = None;
        while let Some(anchored) = self.app.store.next_anchored(after.as_ref()).await? {
            let node = &anchored.node;
            let mark = self.app.directory.mark(node);
            let doubted = doubts.len() > MAX_DOUBTS || doubts.contains(node);
            match self.seen.get_mut(node) {
                // One with entries in the index and grants is met twice.
                Some(seen) if seen.look == self.look => {}
                Some(seen) if seen.mark == mark && seen.until.is_none_or(|end| now < end) && !doubted => {
                    seen.look = self.look;
                }
                _ => self.look_at(node, mark, now, &mut batch).await?,
            }
            nodes += 1;
            if nodes.is_multiple_of(64) {
                tokio::task::yield_now().await;
            }
            after = Some(anchored);
        }
        self.flush(&mut batch).await?;
        for _ in 0..ROUNDS {
            for node in std::mem::take(&mut batch.again) {
                self.walk(&node, now, &mut batch).await?;
                self.flush(&mut batch).await?;
            }
        }
        for node in &batch.again {
            self.seen.remove(node);
        }
        self.facts.clear();
        let look = self.look;
        self.seen.retain(|_, seen| seen.look == look);
        Ok(batch.ended)
    }

    async fn look_at(
        &mut self,
        node: &str,
        mark: u64,
        now: OffsetDateTime,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        // Of this very moment, also where another node's look has asked for it.
        self.facts.remove(node);
        let presence = self.facts_of(node);
        if matches!(*presence, Presence::Unknown) {
            return Ok(());
        }
        self.walk(node, now, batch).await?;
        let live = presence.here();
        // With an old netmap nothing was decided, so the next look is to decide it.
        if live.is_none_or(|live| live.netmap_age <= self.app.tokens.authorize.identity.netmap_max_age) {
            let until = live.and_then(|live| live.policy.next_end(now));
            let look = self.look;
            let rules = live.map(|live| Earlier {
                policy: live.policy.clone(),
                at: now,
            });
            let seen = Seen {
                mark,
                until,
                rules,
                look,
            };
            self.seen.insert(node.to_owned(), seen);
        }
        Ok(())
    }

    fn facts_of(&mut self, node: &str) -> Arc<Presence> {
        if let Some(known) = self.facts.get(node) {
            return Arc::clone(known);
        }
        if self.facts.len() >= KEPT {
            self.facts.clear();
        }
        let presence = Arc::new(self.app.directory.presence(node));
        self.facts.insert(node.to_owned(), Arc::clone(&presence));
        presence
    }

    /// Judges every record of a node: what may become a grant before the grants.
    async fn walk(&mut self, node: &str, now: OffsetDateTime, batch: &mut Batch) -> Result<(), StoreError> {
        self.walk_index(node, now, batch).await?;
        self.walk_given::<Code>(node, now, batch).await?;
        self.walk_given::<Grant>(node, now, batch).await
    }

    async fn walk_index(&mut self, node: &str, now: OffsetDateTime, batch: &mut Batch) -> Result<(), StoreError> {
        let mut position = None;
        loop {
            let store = &self.app.store;
            let page = store.resting_on(node, position.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            position = Some(last.position.clone());
            for found in &page {
                if let Some(gone) = self.look_into(node, found.kind, &found.id, now, batch).await? {
                    // Spent or ended meanwhile; what it became stands elsewhere. A consent may be given again.
                    batch.again.insert(node.to_owned());
                    let mut txn = gone;
                    txn.forget_resting(node, found);
                    self.add(txn, batch).await?;
                }
            }
            // However much rests on a node: others are served meanwhile.
            tokio::task::yield_now().await;
        }
    }

    /// Judges what was given at a node, and at others with the same tag as well: each record by what it says itself.
    async fn walk_given<R: Ending>(
        &mut self,
        node: &str,
        now: OffsetDateTime,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let tag = NodeTag::of(node).to_text();
        let mut from: Option<Vec<u8>> = None;
        loop {
            let store = &self.app.store;
            let page = store.scan::<R>(tag.as_bytes(), from.as_deref(), PAGE).await?;
            for record in &page.records {
                if !record.is_open(now) || self.judge(record, now) == Verdict::Stands {
                    continue;
                }
                let id = String::from_utf8_lossy(&record.id()).into_owned();
                if self.look_into(node, R::KIND, &id, now, batch).await?.is_some() {
                    batch.again.insert(node.to_owned());
                }
            }
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Reads a record of `node` for a decision, and adds its end to the batch if it has lost its ground. When there is
    /// nothing to end any more, a transaction that expects that it stays so.
    async fn look_into(
        &mut self,
        node: &str,
        kind: DueKind,
        id: &str,
        now: OffsetDateTime,
        batch: &mut Batch,
    ) -> Result<Option<Txn>, StoreError> {
        // One that rests on two nodes is met twice.
        let name = (kind as u8, id.to_owned());
        if batch.records.contains(&name) {
            return Ok(None);
        }
        match ending::sight(self, kind, id, now).await? {
            Sight::Stands => return Ok(None),
            Sight::Moved(gone) => return Ok(Some(gone)),
            Sight::Lost(mut loss) => {
                batch.nodes.insert(node.to_owned());
                batch.records.insert(name);
                let txn = loss.take();
                batch.losses.push(*loss);
                self.add(txn, batch).await?;
            }
        }
        Ok(None)
    }

    /// Writes what was found once it is enough.
    async fn add(&self, txn: Txn, batch: &mut Batch) -> Result<(), StoreError> {
        batch.bytes += txn.bytes();
        batch.txn.append(txn);
        if batch.bytes >= WRITE {
            self.flush(batch).await?;
        }
        Ok(())
    }

    /// Writes what was found, all of it or nothing.
    async fn flush(&self, batch: &mut Batch) -> Result<(), StoreError> {
        let txn = std::mem::take(&mut batch.txn);
        let losses = std::mem::take(&mut batch.losses);
        let nodes = std::mem::take(&mut batch.nodes);
        batch.records.clear();
        batch.bytes = 0;
        if txn.is_empty() {
            return Ok(());
        }
        match self.app.store.commit(txn).await {
            Ok(_) => {
                batch.ended += losses.len();
                for loss in &losses {
                    bump(&self.app.counters.records_ended);
                    loss.log();
                }
            }
            Err(CommitError::Conflict(_)) => batch.again.extend(nodes),
            Err(CommitError::Store(error)) => return Err(error),
        }
        Ok(())
    }

    /// What becomes of one record.
    fn judge<R: Ending>(&mut self, record: &R, now: OffsetDateTime) -> Verdict {
        let footing = record.footing();
        self.on_its_ground(&footing, |_, ground, rules| judge(&footing, ground, rules, now))
    }

    /// The rule by which a record is lost, as far as the last look tells.
    fn rule_behind<R: Ending>(&mut self, record: &R, now: OffsetDateTime) -> Option<String> {
        let footing = record.footing();
        self.on_its_ground(&footing, |seen, ground, rules| {
            let earlier = |node: &str| seen.get(node)?.rules.as_ref();
            let subject = earlier(footing.node_id);
            let publisher = footing.published_by.and_then(|publisher| earlier(&publisher.node_id));
            rule_behind(&footing, ground, subject, publisher, rules, now)
        })
    }

    /// Asks about what the netmap says of the nodes of a footing, and what was known of nodes at the last look.
    fn on_its_ground<T>(
        &mut self,
        footing: &Footing<'_>,
        ask: impl FnOnce(&HashMap<String, Seen>, &Ground<'_>, &Rules) -> T,
    ) -> T {
        let subject = self.facts_of(footing.node_id);
        let bound_to = footing.bound_to.map(|node| self.facts_of(node));
        let published_by = footing.published_by.map(|publisher| self.facts_of(&publisher.node_id));
        let ground = Ground {
            subject: &subject,
            bound_to: bound_to.as_deref(),
            published_by: published_by.as_deref(),
        };
        ask(&self.seen, &ground, &self.app.tokens.authorize)
    }
}

/// What a look has found and not yet written.
#[derive(Default)]
struct Batch {
    txn: Txn,
    /// How long it is.
    bytes: usize,
    losses: Vec<Loss>,
    /// Which records are in it, by table and id.
    records: BTreeSet<(u8, String)>,
    /// Whose they are.
    nodes: BTreeSet<String>,
    /// Nodes of which a record changed under the walk, so that they need another.
    again: BTreeSet<String>,
    /// How many records have ended so far.
    ended: usize,
}

/// What a look at one entry of the index found.
enum Sight {
    /// The record stays.
    Stands,
    /// There is nothing to end there any more, as this expects.
    Moved(Txn),
    /// It ends, or loses a part.
    Lost(Box<Loss>),
}
