//! The rules of the application capability `tailscale.com/cap/tsidp`, as the tailnet policy grants them to a caller.
//!
//! tsidp's own keys mean exactly what they mean there. tsidp ignores keys it does not know, so a restriction of ours
//! beside them would be an unrestricted grant there: everything of ours is nested in one object, `countersign`, and a
//! restricted or denying rule carries its `users` and `resources` only in there. A key of ours at the top level is a
//! policy error.
//!
//! A policy with an error grants nothing until it is mended: the broken rule may have been the one that denies.

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{claims, client::ClientId, resource::Resource};

/// The name of the application capability, as grants write it.
pub const CAPABILITY: &str = "tailscale.com/cap/tsidp";

/// Every rule that was granted to one caller.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    errors: Vec<PolicyError>,
}

/// One object of the capability's array.
#[derive(Debug, Clone, Default, PartialEq)]
struct Rule {
    allow_admin_ui: bool,
    allow_dcr: bool,
    users: Vec<String>,
    resources: Vec<String>,
    extra_claims: Map<String, Value>,
    include_in_user_info: bool,
    ours: Option<Nested>,
}

/// What the nested object of ours says.
#[derive(Debug, Clone, Default, PartialEq)]
struct Nested {
    deny: bool,
    users: Vec<String>,
    resources: Vec<String>,
    clients: Vec<String>,
    scopes: Vec<String>,
    expires: Option<OffsetDateTime>,
    publish_clients: bool,
}

/// A rule that could not be understood, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {number} of {CAPABILITY}: {problem}")]
pub struct PolicyError {
    /// Which rule, counted from 1 in the order control sent them.
    pub number: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not a JSON object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// A key of ours where tsidp would ignore it and allow.
    #[error(
        "`{0}` stands beside tsidp's keys, where tsidp ignores it; move the whole rule into \"countersign\": {{…}}"
    )]
    Misplaced(String),
    /// A key inside `countersign` that means nothing.
    #[error("`countersign.{0}` is not a key this server knows")]
    UnknownKey(String),
    /// An extra claim with a name that only this server may give a value.
    #[error("`extraClaims.{0}` is a claim of this server's own and cannot be set")]
    ProtectedClaim(String),
    /// A value of the wrong type.
    #[error("`{key}` must be {expected}")]
    Type {
        /// The key as it was written.
        key: String,
        /// What belongs there.
        expected: &'static str,
    },
}

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

impl Policy {
    /// Reads the values of [`CAPABILITY`], each the JSON text of one rule.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut policy = Self::default();
        for (index, text) in values.into_iter().enumerate() {
            match parse_rule(text) {
                Ok(rule) => policy.rules.push(rule),
                Err(problem) => policy.errors.push(PolicyError {
                    number: index + 1,
                    problem,
                }),
            }
        }
        policy
    }

    /// What is wrong with the policy; while this is not empty it grants nothing.
    pub fn errors(&self) -> &[PolicyError] {
        &self.errors
    }

    /// Whether some rule says `allow_dcr` and none denies this user everything.
    ///
    /// # Errors
    /// [`Denied`] with the rule that decided.
    pub fn may_register(&self, names: &[String], now: OffsetDateTime) -> Result<(), Denied> {
        self.not_denied_outright(names, now)?;
        let allowed = self.rules.iter().any(|rule| rule.allow_dcr);
        allowed.then_some(()).ok_or(Denied::NoRule)
    }

    /// Whether some rule says `allow_admin_ui` and none denies this user everything.
    ///
    /// # Errors
    /// [`Denied`] with the rule that decided.
    pub fn may_administer(&self, names: &[String], now: OffsetDateTime) -> Result<(), Denied> {
        self.not_denied_outright(names, now)?;
        let allowed = self.rules.iter().any(|rule| rule.allow_admin_ui);
        allowed.then_some(()).ok_or(Denied::NoRule)
    }

    /// Whether the policy can be read and no rule denies these names without naming a resource, client or scope.
    ///
    /// # Errors
    /// [`Denied`] with the rule that decided.
    pub fn not_denied_outright(&self, names: &[String], now: OffsetDateTime) -> Result<(), Denied> {
        if let Some(error) = self.errors.first() {
            return Err(Denied::Broken(error.clone()));
        }
        let denying = self.rules.iter().position(|rule| {
            rule.ours.as_ref().is_some_and(|ours| {
                ours.denies(names, now)
                    && ours.resources.is_empty()
                    && ours.clients.is_empty()
                    && ours.scopes.is_empty()
            })
        });
        denying.map_or(Ok(()), |index| Err(Denied::Rule(index + 1)))
    }

    /// Whether the policy publishes the clients that its node registered, to users other than their owner.
    pub fn publishes_clients(&self, now: OffsetDateTime) -> bool {
        self.errors.is_empty()
            && self.rules.iter().any(|rule| {
                let ours = rule.ours.as_ref();
                ours.is_some_and(|ours| ours.publish_clients && !ours.deny && ours.is_in_force(now))
            })
    }

    /// Which of the scopes asked for the policy allows for a resource. Denials win over every rule that allows.
    ///
    /// # Errors
    /// [`Denied`] when the resource may not be had at all.
    pub fn scopes_for(&self, ask: &Ask<'_>, now: OffsetDateTime) -> Result<Vec<String>, Denied> {
        self.not_denied_outright(ask.names, now)?;
        let mut withheld: Vec<&str> = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let Some(ours) = rule
                .ours
                .as_ref()
                .filter(|ours| ours.denies(ask.names, now) && ours.denies_this(ask))
            else {
                continue;
            };
            if ours.scopes.is_empty() {
                return Err(Denied::Rule(index + 1));
            }
            withheld.extend(ours.scopes.iter().map(String::as_str));
        }
        let mut allowed_by = self.rules.iter().filter_map(|rule| rule.allows(ask, now)).peekable();
        if !ask.open_network && allowed_by.peek().is_none() {
            return Err(Denied::NoRule);
        }
        let allowed: Vec<Reach<'_>> = allowed_by.collect();
        let all = ask.open_network || allowed.iter().any(|reach| matches!(reach, Reach::All));
        let may = |scope: &&String| {
            let named = allowed.iter().any(|reach| match reach {
                Reach::All => true,
                Reach::Only(scopes) => scopes.contains(scope),
            });
            (all || named) && !withheld.contains(&scope.as_str())
        };
        Ok(ask.scopes.iter().filter(may).cloned().collect())
    }

    /// The claims that the policy adds: for the id_token all, for userinfo those of rules that say so.
    pub fn extra_claims(&self, for_userinfo: bool) -> Map<String, Value> {
        let mut merged = Map::new();
        for rule in self
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
}

/// What is asked of a policy.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The names of the subject: login name, or tags.
    pub names: &'a [String],
    /// The client that asks.
    pub client: &'a ClientId,
    /// What it asks for.
    pub resource: &'a Resource,
    /// The scopes it asks for.
    pub scopes: &'a [String],
    /// Whether reaching this server stands for `users ["*"], resources ["*"]`: `registration = "network"`.
    pub open_network: bool,
}

/// How far a rule that allows reaches.
enum Reach<'a> {
    All,
    Only(&'a [String]),
}

impl Rule {
    /// Whether this rule allows what is asked, by tsidp's keys or by ours.
    fn allows(&self, ask: &Ask<'_>, now: OffsetDateTime) -> Option<Reach<'_>> {
        // tsidp: exact names and exact resources only, and tags are nobody's login name.
        let plain_user = self
            .users
            .iter()
            .any(|user| user == "*" || (!user.starts_with("tag:") && ask.names.contains(user)));
        if plain_user
            && self
                .resources
                .iter()
                .any(|resource| resource == "*" || ask.resource.is(resource))
        {
            return Some(Reach::All);
        }
        let ours = self.ours.as_ref().filter(|ours| !ours.deny && ours.is_in_force(now))?;
        let allowed = ours.users.iter().any(|user| user == "*" || ask.names.contains(user))
            && ours.resources.iter().any(|pattern| ask.resource.is_covered_by(pattern))
            && (ours.clients.is_empty() || ours.clients.iter().any(|client| client == ask.client.as_str()));
        allowed.then_some(if ours.scopes.is_empty() {
            Reach::All
        } else {
            Reach::Only(&ours.scopes)
        })
    }
}

impl Nested {
    fn is_in_force(&self, now: OffsetDateTime) -> bool {
        self.expires.is_none_or(|end| now < end)
    }

    /// Whether this rule denies these names something. A denial that names no users denies everybody it was granted to.
    fn denies(&self, names: &[String], now: OffsetDateTime) -> bool {
        let named = self.users.is_empty() || self.users.iter().any(|user| user == "*" || names.contains(user));
        self.deny && self.is_in_force(now) && named
    }

    /// Whether a denial concerns this resource and client; one that names none concerns all.
    fn denies_this(&self, ask: &Ask<'_>) -> bool {
        (self.resources.is_empty() || self.resources.iter().any(|pattern| ask.resource.is_covered_by(pattern)))
            && (self.clients.is_empty() || self.clients.iter().any(|client| client == ask.client.as_str()))
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

/// Reads one rule as tsidp does (keys in any case, `null` as absent), then ours inside it.
fn parse_rule(text: &str) -> Result<Rule, Problem> {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return Err(Problem::NotAnObject);
    };
    let mut rule = Rule::default();
    for (key, value) in fields {
        if value.is_null() {
            continue;
        }
        match key.to_ascii_lowercase().as_str() {
            "allow_admin_ui" => rule.allow_admin_ui = boolean(&key, &value)?,
            "allow_dcr" => rule.allow_dcr = boolean(&key, &value)?,
            "users" => rule.users = strings(&key, value)?,
            "resources" => rule.resources = strings(&key, value)?,
            "includeinuserinfo" => rule.include_in_user_info = boolean(&key, &value)?,
            "extraclaims" => rule.extra_claims = extra_claims(object(&key, value)?)?,
            "countersign" => rule.ours = Some(parse_nested(object(&key, value)?)?),
            "deny" | "expires" | "clients" | "scopes" | "publish_clients" => return Err(Problem::Misplaced(key)),
            // A key of a later tsidp: ignored here as it is there.
            _ => {}
        }
    }
    Ok(rule)
}

fn parse_nested(fields: Map<String, Value>) -> Result<Nested, Problem> {
    let mut nested = Nested::default();
    for (key, value) in fields {
        match key.as_str() {
            "deny" => nested.deny = boolean(&key, &value)?,
            "users" => nested.users = strings(&key, value)?,
            "resources" => nested.resources = strings(&key, value)?,
            "clients" => nested.clients = strings(&key, value)?,
            "scopes" => nested.scopes = strings(&key, value)?,
            "publish_clients" => nested.publish_clients = boolean(&key, &value)?,
            "expires" => nested.expires = Some(timestamp(&key, &value)?),
            _ => return Err(Problem::UnknownKey(key)),
        }
    }
    Ok(nested)
}

fn extra_claims(claims: Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    match claims.keys().find(|name| claims::PROTECTED.contains(&name.as_str())) {
        Some(name) => Err(Problem::ProtectedClaim(name.clone())),
        None => Ok(claims),
    }
}

fn wrong_type(key: &str, expected: &'static str) -> Problem {
    Problem::Type {
        key: key.to_owned(),
        expected,
    }
}

fn boolean(key: &str, value: &Value) -> Result<bool, Problem> {
    value.as_bool().ok_or_else(|| wrong_type(key, "true or false"))
}

fn strings(key: &str, value: Value) -> Result<Vec<String>, Problem> {
    serde_json::from_value(value).map_err(|_| wrong_type(key, "an array of strings"))
}

fn object(key: &str, value: Value) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(wrong_type(key, "an object")),
    }
}

fn timestamp(key: &str, value: &Value) -> Result<OffsetDateTime, Problem> {
    value
        .as_str()
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
        .ok_or_else(|| wrong_type(key, "a time like 2026-12-31T00:00:00Z"))
}

#[cfg(test)]
mod tests;
