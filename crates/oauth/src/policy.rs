//! The rules of the application capability `tailscale.com/cap/tsidp`, as the tailnet policy grants them to a caller.
//!
//! tsidp's own keys mean exactly what they mean there. tsidp ignores keys it does not know, so a restriction of ours
//! beside them would be an unrestricted grant there: everything of ours is nested in one object, `countersign`, and a
//! restricted or denying rule carries its `users` and `resources` only in there. A key of ours at the top level is a
//! policy error.
//!
//! A policy with an error grants nothing until it is mended: the broken rule may have been the one that denies.
//!
//! Every answer names its ground: the rule that decided, or the setting of the server. `policy explain` shows these
//! same answers, it does not work out its own.

mod parse;
mod rule;

use std::sync::Arc;

use serde_json::{Map, Value};
use time::OffsetDateTime;

pub use self::parse::{PolicyError, Problem};
use self::rule::{Reach, Rule};
use crate::{client::ClientId, resource::Resource};

/// The name of the application capability, as grants write it.
pub const CAPABILITY: &str = "tailscale.com/cap/tsidp";

/// Every rule that was granted to one caller. Clones are cheap and share it.
#[derive(Debug, Clone, Default)]
pub struct Policy(Arc<Parsed>);

#[derive(Debug, Default)]
struct Parsed {
    rules: Vec<Rule>,
    errors: Vec<PolicyError>,
    texts: Vec<Box<str>>,
}

/// What made an answer come out as a yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// The rule with this number, from 1 in the order in which control sent them.
    Rule(usize),
    /// A line of the server's own settings.
    Setting(&'static str),
}

/// The ground of what `registration = "network"` opens.
pub const OPEN_NETWORK: Ground = Ground::Setting("registration = \"network\"");
/// The ground of a login that needs no rule.
pub const NO_GRANT_REQUIRED: Ground = Ground::Setting("require_grant = false");

/// Why a caller may not do what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// No rule allows it.
    NoRule,
    /// The rule with this number (from 1) denies it.
    Rule(usize),
    /// The policy cannot be understood, so nothing is granted.
    Broken(PolicyError),
}

/// What is asked of a policy.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The names of the subject: login name, or tags.
    pub names: &'a [String],
    /// The client that asks.
    pub client: &'a ClientId,
    /// What it asks for: a resource, or login itself.
    pub resource: Option<&'a Resource>,
    /// The scopes it asks for.
    pub scopes: &'a [String],
    /// Whether reaching this server stands for `users ["*"], resources ["*"]`: `registration = "network"`.
    pub open_network: bool,
    /// Whether login itself needs a rule.
    pub require_grant: bool,
}

/// What a policy says to one [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// Whether it may be had at all.
    pub whole: Result<Ground, Denied>,
    /// Whether each scope may be had, in the order in which they were asked for.
    pub scopes: Vec<Result<Ground, Denied>>,
}

impl Policy {
    /// Reads the values of [`CAPABILITY`], each the JSON text of one rule.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut policy = Parsed::default();
        for (index, text) in values.into_iter().enumerate() {
            let number = index + 1;
            policy.texts.push(text.into());
            match parse::rule(number, text) {
                Ok(rule) => policy.rules.push(rule),
                Err(problem) => policy.errors.push(PolicyError { number, problem }),
            }
        }
        Self(Arc::new(policy))
    }

    /// Whether [`parse`](Self::parse) would give this one: reading rules costs a hundred times what comparing them does.
    pub fn is_of<'a>(&self, values: impl IntoIterator<Item = &'a str>) -> bool {
        self.0.texts.iter().map(AsRef::as_ref).eq(values)
    }

    /// What is wrong with the policy; while this is not empty it grants nothing.
    pub fn errors(&self) -> &[PolicyError] {
        &self.0.errors
    }

    /// How many rules there are, broken ones too.
    pub fn len(&self) -> usize {
        self.0.texts.len()
    }

    /// Whether nothing was granted at all.
    pub fn is_empty(&self) -> bool {
        self.0.texts.is_empty()
    }

    /// The rule with this number (from 1) as control sent it.
    pub fn text(&self, number: usize) -> Option<&str> {
        self.0.texts.get(number.checked_sub(1)?).map(AsRef::as_ref)
    }

    /// Whether some rule says `allow_dcr` and none denies this user everything.
    ///
    /// # Errors
    /// [`Denied`] with the rule that decided.
    pub fn may_register(&self, names: &[String], now: OffsetDateTime) -> Result<Ground, Denied> {
        self.not_denied_outright(names, now)?;
        self.first(|rule| rule.allow_dcr)
    }

    /// Whether some rule says `allow_admin_ui` and none denies this user everything.
    ///
    /// # Errors
    /// [`Denied`] with the rule that decided.
    pub fn may_administer(&self, names: &[String], now: OffsetDateTime) -> Result<Ground, Denied> {
        self.not_denied_outright(names, now)?;
        self.first(|rule| rule.allow_admin_ui)
    }

    /// Whether the policy publishes the clients that its node registered, to users other than their owner, and none of
    /// its rules denies these names, the node's, everything.
    ///
    /// # Errors
    /// [`Denied`] with the rule that decided.
    pub fn publishes_clients(&self, names: &[String], now: OffsetDateTime) -> Result<Ground, Denied> {
        self.not_denied_outright(names, now)?;
        self.first(|rule| rule.publishes(now))
    }

    /// Whether the holder of this policy, or `client` that has authenticated from it, may introspect the tokens that
    /// are meant for `resource`, and no rule denies these names, the holder's, everything.
    ///
    /// # Errors
    /// [`Denied`] with the rule that decided.
    pub fn may_introspect(
        &self,
        names: &[String],
        client: Option<&ClientId>,
        resource: &Resource,
        now: OffsetDateTime,
    ) -> Result<Ground, Denied> {
        self.not_denied_outright(names, now)?;
        self.first(|rule| rule.introspects(client, resource, now))
    }

    /// Whether the policy can be read and no rule denies these names without naming a resource, client or scope.
    ///
    /// # Errors
    /// [`Denied`] with the rule that decided.
    pub fn not_denied_outright(&self, names: &[String], now: OffsetDateTime) -> Result<(), Denied> {
        if let Some(error) = self.0.errors.first() {
            return Err(Denied::Broken(error.clone()));
        }
        match self.0.rules.iter().find(|rule| rule.denies_outright(names, now)) {
            Some(rule) => Err(Denied::Rule(rule.number)),
            None => Ok(()),
        }
    }

    /// When the next of its rules ends by itself; until then the policy says what it says at `now`.
    pub fn next_end(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let ends = self.0.rules.iter().filter_map(|rule| rule.ours.as_ref()?.expires);
        ends.filter(|end| *end > now).min()
    }

    /// What the policy says to `ask`. Denials win over every rule that allows.
    pub fn rule_on(&self, ask: &Ask<'_>, now: OffsetDateTime) -> Ruling {
        if let Some(error) = self.0.errors.first() {
            return Ruling::denied(&Denied::Broken(error.clone()), ask.scopes);
        }
        let mut withheld: Vec<(usize, &[String])> = Vec::new();
        for rule in &self.0.rules {
            match rule.denies(ask, now) {
                None => {}
                Some([]) => return Ruling::denied(&Denied::Rule(rule.number), ask.scopes),
                Some(scopes) => withheld.push((rule.number, scopes)),
            }
        }
        let allowing = self.0.rules.iter().filter_map(|rule| {
            let reach = rule.allows(ask, now)?;
            Some((Ground::Rule(rule.number), reach))
        });
        let given = ask.given_without_rule();
        let (login, network) = if ask.resource.is_none() {
            (given, None)
        } else {
            (None, given)
        };
        let allowing: Vec<(Ground, Reach<'_>)> = login.into_iter().chain(allowing).chain(network).collect();
        let Some((first, _)) = allowing.first() else {
            return Ruling::denied(&Denied::NoRule, ask.scopes);
        };
        let scope = |scope: &String| match withheld.iter().find(|(_, scopes)| scopes.contains(scope)) {
            Some((number, _)) => Err(Denied::Rule(*number)),
            None => {
                // What a rule says about a resource's scopes does not limit what login itself is for.
                let mut grounds = allowing.iter();
                let covering = grounds.find(|(_, reach)| ask.resource.is_none() || reach.covers(scope));
                covering.map(|(ground, _)| *ground).ok_or(Denied::NoRule)
            }
        };
        Ruling {
            whole: Ok(*first),
            scopes: ask.scopes.iter().map(scope).collect(),
        }
    }

    /// The claims that the policy adds: for the id_token all, for userinfo those of rules that say so.
    pub fn extra_claims(&self, for_userinfo: bool) -> Map<String, Value> {
        let mut merged = Map::new();
        for rule in self
            .0
            .rules
            .iter()
            .filter(|rule| !for_userinfo || rule.include_in_user_info)
        {
            for (name, value) in &rule.extra_claims {
                merge_claim(&mut merged, name, value);
            }
        }
        merged
    }

    fn first(&self, allows: impl Fn(&Rule) -> bool) -> Result<Ground, Denied> {
        let rule = self.0.rules.iter().find(|rule| allows(rule));
        rule.map(|rule| Ground::Rule(rule.number)).ok_or(Denied::NoRule)
    }
}

impl Ask<'_> {
    /// What may be had although no rule says so.
    fn given_without_rule<'a>(&self) -> Option<(Ground, Reach<'a>)> {
        let ground = match self.resource {
            Some(_) => self.open_network.then_some(OPEN_NETWORK),
            None => (!self.require_grant).then_some(NO_GRANT_REQUIRED),
        };
        ground.map(|ground| (ground, Reach::All))
    }
}

impl Ruling {
    fn denied(why: &Denied, scopes: &[String]) -> Self {
        Self {
            whole: Err(why.clone()),
            scopes: scopes.iter().map(|_| Err(why.clone())).collect(),
        }
    }
}

/// As tsidp merges: the first scalar stays, arrays are united without repetitions; unlike there, types are kept.
fn merge_claim(merged: &mut Map<String, Value>, name: &str, value: &Value) {
    match (merged.get_mut(name), value) {
        (None, value) => {
            merged.insert(name.to_owned(), value.clone());
        }
        (Some(Value::Array(all)), Value::Array(more)) => {
            for item in more {
                if !all.contains(item) {
                    all.push(item.clone());
                }
            }
        }
        (Some(_), _) => {}
    }
}

#[cfg(test)]
mod tests;
