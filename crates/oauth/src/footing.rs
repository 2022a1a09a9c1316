//! What a stored record rests on, and whether that still holds.
//!
//! A session, a code, a grant: each was given to somebody at a node, by rules of the tailnet policy. Using one asks all
//! of that again; [`judge`] asks it without a use, when the netmap has changed, so that a record ends with what it rested
//! on and does not come back with it. In go the [`Footing`] of a record and what the netmap says about the nodes it
//! names, out comes a [`Verdict`].
//!
//! What the netmap cannot say ends nothing: there is none, control has been silent for too long, or the policy cannot be
//! read. Each of these refuses every use as long as it lasts, which is enough.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    access::{Access, Asked, allowed_scopes, weigh},
    authorize::Rules,
    caller::{Caller, Owner},
    client::{Client, ClientId},
    grant::{Authorization, Code, Grant},
    opaque::OpaqueToken,
    policy::{self, Denied, Policy},
    remembered::Remembered,
    resource::Resource,
    session::Session,
};

/// What the netmap says about one node.
#[derive(Debug, Clone)]
pub enum Presence {
    /// There is no netmap to ask.
    Unknown,
    /// The tailnet does not have the node: deleted, logged out, or out of sight by policy.
    Gone,
    /// The tailnet has the node, but the policy no longer lets it reach this server.
    CutOff,
    /// The tailnet has the node, but its key has expired.
    Expired,
    /// The node as it is now; it may be offline.
    Here(Box<Caller>),
}

impl Presence {
    /// The node, if somebody vouches for it.
    pub fn here(&self) -> Option<&Caller> {
        match self {
            Self::Here(caller) => Some(caller),
            Self::Unknown | Self::Gone | Self::CutOff | Self::Expired => None,
        }
    }
}

/// A record that rests on the tailnet.
pub trait Rests {
    /// What it rests on.
    fn footing(&self) -> Footing<'_>;

    /// Takes away every scope but these, for good. False for what stands or falls as a whole: it stays as it is.
    fn narrow(&mut self, _scopes: Vec<String>) -> bool {
        false
    }
}

/// Who and what a record rests on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Footing<'a> {
    /// Stable id of the subject's node.
    pub node_id: &'a str,
    /// Whose node it was; `None` in records of a version that did not note it.
    pub owner: Option<&'a Owner>,
    /// Login name or tags of the subject at that time, for logs.
    pub label: &'a str,
    /// The client it was given to; `None` for what no client has.
    pub client: Option<&'a ClientId>,
    /// The scopes.
    pub scopes: &'a [String],
    /// The servers.
    pub resources: &'a [Resource],
    /// Stable id of the node that alone may use it, where that is not the subject's.
    pub bound_to: Option<&'a str>,
    /// By whose `publish_clients` rule the subject may use a client of somebody else.
    pub published_by: Option<&'a Publisher>,
}

/// The node that registered a client, as long as its rule publishes the client to somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publisher {
    /// Its stable id.
    pub node_id: String,
    /// Whose it is, and so the client.
    pub owner: Owner,
}

impl Publisher {
    /// Whose rule lets `caller` use `client`; `None` when the client is the caller's own, or an administrator published
    /// it, which is in the store and not in the netmap.
    pub fn of(client: &Client, caller: &Caller) -> Option<Self> {
        let by_rule = client.owner != caller.owner() && client.published.is_none();
        by_rule.then(|| Self {
            node_id: client.registrant.node_id.clone(),
            owner: client.owner.clone(),
        })
    }

    /// Whether `node`, what the netmap says about it, still publishes.
    fn stands(&self, node: &Presence, now: OffsetDateTime) -> bool {
        match node {
            Presence::Unknown => true,
            Presence::Gone | Presence::CutOff | Presence::Expired => false,
            Presence::Here(node) if node.owner() != self.owner => false,
            Presence::Here(node) => {
                !node.policy.errors().is_empty() || node.policy.publishes_clients(&node.names(), now).is_ok()
            }
        }
    }
}

impl<'a> Footing<'a> {
    fn of(authorization: &'a Authorization, bound_to: Option<&'a str>) -> Self {
        let subject = &authorization.subject;
        Self {
            node_id: &subject.node_id,
            owner: Some(&subject.owner),
            label: &subject.label,
            client: Some(&authorization.client),
            scopes: &authorization.scopes,
            resources: &authorization.resources,
            bound_to: bound_to.filter(|node| *node != subject.node_id),
            published_by: authorization.published_by.as_ref(),
        }
    }

    /// Every node it names, the subject's first.
    pub fn nodes(&self) -> impl Iterator<Item = &'a str> {
        let publisher = self.published_by.map(|publisher| publisher.node_id.as_str());
        [Some(self.node_id), self.bound_to, publisher].into_iter().flatten()
    }
}

impl Rests for Session {
    fn footing(&self) -> Footing<'_> {
        Footing {
            node_id: &self.subject.node_id,
            owner: Some(&self.subject.owner),
            label: &self.subject.label,
            client: None,
            scopes: &[],
            resources: &[],
            bound_to: None,
            published_by: None,
        }
    }
}

impl Rests for Remembered {
    fn footing(&self) -> Footing<'_> {
        Footing {
            node_id: &self.subject.node_id,
            owner: Some(&self.subject.owner),
            label: &self.subject.label,
            client: Some(&self.client),
            scopes: &self.scopes,
            resources: &self.resources,
            bound_to: None,
            published_by: self.published_by.as_ref(),
        }
    }
}

/// A machine's; one that rests on a grant ends with that, and is looked for nowhere.
impl Rests for OpaqueToken {
    fn footing(&self) -> Footing<'_> {
        match &self.machine {
            Some(authorization) => Footing::of(authorization, None),
            None => Footing::default(),
        }
    }
}

impl Rests for Code {
    fn footing(&self) -> Footing<'_> {
        Footing::of(&self.authorization, None)
    }

    fn narrow(&mut self, scopes: Vec<String>) -> bool {
        self.authorization.scopes = scopes;
        true
    }
}

impl Rests for Grant {
    fn footing(&self) -> Footing<'_> {
        Footing::of(&self.authorization, Some(&self.node_id))
    }

    fn narrow(&mut self, scopes: Vec<String>) -> bool {
        self.authorization.scopes = scopes;
        true
    }
}

/// What the netmap says about the nodes of a [`Footing`].
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// About the subject's.
    pub subject: &'a Presence,
    /// About the one it is bound to, if there is such.
    pub bound_to: Option<&'a Presence>,
    /// About the publisher's, if there is such.
    pub published_by: Option<&'a Presence>,
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Stands,
    /// Policy withdrew some of its scopes: these are left.
    Narrowed(Vec<String>),
    /// It ends, for this reason.
    Ends(String),
}

/// Whether what a record rests on still holds at `now`.
///
/// A lost resource ends the record, a lost scope is taken out of it: neither may return without the user's word.
pub fn judge(footing: &Footing<'_>, ground: &Ground<'_>, rules: &Rules, now: OffsetDateTime) -> Verdict {
    let ends = |why: &str| Verdict::Ends(why.to_owned());
    let live = match ground.subject {
        Presence::Unknown => return Verdict::Stands,
        Presence::Gone => return ends("the subject's node is no longer in the tailnet"),
        Presence::CutOff => return ends("the tailnet policy no longer lets the subject's node reach this server"),
        Presence::Expired => return ends("the key of the subject's node has expired"),
        Presence::Here(live) => live,
    };
    // Also when it is the policy that cannot be read: the rule may be there again once it is mended.
    if live.netmap_age > rules.identity.netmap_max_age || !live.policy.errors().is_empty() {
        return Verdict::Stands;
    }
    if footing.owner.is_some_and(|owner| *owner != live.owner()) {
        return Verdict::Ends(format!("the subject's node belongs to {} now", live.user_label()));
    }
    if let Err(error) = live.vouched(&rules.identity) {
        return ends(error.description());
    }
    if matches!(ground.bound_to, Some(Presence::Gone | Presence::CutOff)) {
        return ends("the node that alone could use it is no longer in the tailnet, or no longer reaches this server");
    }
    let publisher = footing.published_by.zip(ground.published_by);
    if publisher.is_some_and(|(publisher, node)| !publisher.stands(node, now)) {
        return ends("the client is no longer published by a rule for the node that registered it");
    }
    let allowed = match footing.client {
        Some(client) => allowed_scopes(footing.scopes, footing.resources, client, live, rules, now),
        None => match live.policy.not_denied_outright(&live.names(), now) {
            Ok(()) => return Verdict::Stands,
            Err(_) => return ends("a rule of the tailnet policy denies the subject everything"),
        },
    };
    match allowed {
        Ok(scopes) if scopes.len() == footing.scopes.len() => Verdict::Stands,
        Ok(scopes) => Verdict::Narrowed(scopes),
        Err(error) => ends(error.description()),
    }
}

/// A policy as it was at an earlier look.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// What it said.
    pub policy: Policy,
    /// When the look was.
    pub at: OffsetDateTime,
}

/// The rule by which a record was lost, in words for whoever reads the audit trail: the one that denies it now, or the
/// one that is gone, of `subject` (what the subject's policy was) or of `publisher`. `None` where it was no rule, or where
/// nobody knows it any more.
pub fn rule_behind(
    footing: &Footing<'_>,
    ground: &Ground<'_>,
    subject: Option<&Earlier>,
    publisher: Option<&Earlier>,
    rules: &Rules,
    now: OffsetDateTime,
) -> Option<String> {
    let live = ground.subject.here()?;
    let denies = |number| Some(format!("the rule is {}", quoted(live.policy.text(number)?)));
    let Some(client) = footing.client else {
        return match live.policy.not_denied_outright(&live.names(), now) {
            Err(Denied::Rule(number)) => denies(number),
            _ => None,
        };
    };
    let asked = Asked {
        client,
        resources: footing.resources,
        scopes: footing.scopes,
    };
    let after = weigh(asked, live, rules, now);
    let lost = answers(&after)
        .enumerate()
        .find_map(|(at, answer)| Some((at, answer.as_ref().err()?)));
    match (lost, subject) {
        (Some((_, Denied::Rule(number))), _) => denies(*number),
        (Some((place, _)), Some(earlier)) => {
            let policy = earlier.policy.clone();
            let was = Caller { policy, ..live.clone() };
            let before = weigh(asked, &was, rules, earlier.at);
            let ground = answers(&before).nth(place)?.as_ref().ok()?;
            gone(&earlier.policy, ground)
        }
        (Some(_), None) => None,
        (None, _) => {
            let (earlier, node) = publisher.zip(ground.published_by?.here())?;
            let ground = earlier.policy.publishes_clients(&node.names(), earlier.at).ok()?;
            gone(&earlier.policy, &ground)
        }
    }
}

/// Every answer of a policy, login first.
fn answers<'a>(access: &'a Access<'_>) -> impl Iterator<Item = &'a Result<policy::Ground, Denied>> {
    let rulings = std::iter::once(&access.login).chain(access.resources.iter().map(|(_, ruling)| ruling));
    rulings.flat_map(|ruling| std::iter::once(&ruling.whole).chain(&ruling.scopes))
}

fn gone(policy: &Policy, ground: &policy::Ground) -> Option<String> {
    match ground {
        policy::Ground::Rule(number) => Some(format!("the rule was {}", quoted(policy.text(*number)?))),
        policy::Ground::Setting(_) => None,
    }
}

/// As much of a rule as fits into a line.
fn quoted(rule: &str) -> String {
    const SHOWN: usize = 300;
    let mut text: String = rule.chars().take(SHOWN).collect();
    if text.len() < rule.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
