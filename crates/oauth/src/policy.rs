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
    pub fn may_register(&self, user: &str, now: OffsetDateTime) -> Result<(), Denied> {
        self.not_denied_outright(user, now)?;
        let allowed = self.rules.iter().any(|rule| rule.allow_dcr);
        allowed.then_some(()).ok_or(Denied::NoRule)
    }

    /// Whether some rule says `allow_admin_ui` and none denies this user everything.
    ///
    /// # Errors
    /// [`Denied`] with the rule that decided.
    pub fn may_administer(&self, user: &str, now: OffsetDateTime) -> Result<(), Denied> {
        self.not_denied_outright(user, now)?;
        let allowed = self.rules.iter().any(|rule| rule.allow_admin_ui);
        allowed.then_some(()).ok_or(Denied::NoRule)
    }

    /// Whether the policy can be read and no rule denies `user` without naming a resource, client or scope.
    ///
    /// # Errors
    /// [`Denied`] with the rule that decided.
    pub fn not_denied_outright(&self, user: &str, now: OffsetDateTime) -> Result<(), Denied> {
        if let Some(error) = self.errors.first() {
            return Err(Denied::Broken(error.clone()));
        }
        let denying = self.rules.iter().position(|rule| {
            rule.ours.as_ref().is_some_and(|ours| {
                ours.denies(user, now) && ours.resources.is_empty() && ours.clients.is_empty() && ours.scopes.is_empty()
            })
        });
        denying.map_or(Ok(()), |index| Err(Denied::Rule(index + 1)))
    }
}

impl Nested {
    /// Whether this rule denies `user` something. A denial that names no users denies everybody it was granted to.
    fn denies(&self, user: &str, now: OffsetDateTime) -> bool {
        self.deny
            && self.expires.is_none_or(|end| now < end)
            && (self.users.is_empty() || self.users.iter().any(|entry| entry == "*" || entry == user))
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
            "extraclaims" => rule.extra_claims = object(&key, value)?,
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
